"""Settings: frozen, read once from TOML and environment, handed in. Nothing reads them at import.

``[section] field`` in the file is ``CHALLENGER_SECTION_FIELD`` in the environment, which wins; with ``_FILE``
appended the value is read from that file (for secrets). Lists are comma-separated there, or one item a line.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from challenger.convert import convert, from_environment, refuse_unknown
from challenger.domain import Address, Millionths, Mode, Wei
from challenger.errors import ConfigError

PREFIX = "CHALLENGER"
#: The protocol of this package.
REFERENCE = "reference"
#: Protocols without disputes: they are reported on, and have settings of their own. As `reporting.REPORTS` has them.
REPORTED = ("opengradient",)
#: As `replay.backends` has them; the last one shares no kernel code with the others.
BACKENDS = ("torch", "torch-int8", "native", "native-int8", "numpy")
#: Forms of the inference event, as `protocols.opengradient.wire` has them.
EVENTS = ("full", "brief")
#: As `chain.external` has them.
STYLES = ("web3signer", "clef")
#: As `replay.artifacts.ipfs.gateway` takes them.
GATEWAYS = ("https://", "http://", "file:///")
#: (section, field, lowest, highest)
_RANGES = (
    ("chain", "chain_id", 0, 2**64),
    ("chain", "start_block", 0, 2**62),
    ("chain", "confirmations", 1, 10_000),
    ("chain", "ledger_depth", 1, 1_000_000),
    ("chain", "poll", 0.01, 3_600),
    ("chain", "timeout", 0.1, 600),
    ("signer", "seconds", 0.1, 600),
    ("chain", "quorum", 1, 16),
    ("chain", "lag", 1, 86_400),
    ("store", "heads_every", 1, 10**9),
    ("sampling", "trusted_after", 0, 10**9),
    ("sampling", "margin", 0, 10**9),
    ("replay", "workers", 1, 64),
    ("replay", "attempts", 1, 100),
    ("replay", "retry_seconds", 1, 86_400),
    ("replay", "seconds", 1, 86_400),
    ("replay", "fetch_seconds", 0.1, 86_400),
    ("replay", "memory_bytes", 1 << 28, 1 << 50),
    ("replay", "cache_bytes", 1 << 20, 1 << 60),
    ("replay", "fetch_bytes", 1, 1 << 60),
    ("replay", "input_bytes", 1, 1 << 32),
    ("selftest", "rate", 0, 1_000_000),
    ("filing", "exposure", 0, 2**256),
    ("filing", "certainty", 0, 1_000_000),
    ("filing", "correlated_providers", 1, 10**9),
    ("filing", "correlated_seconds", 1, 10**9),
    ("filing", "max_fee", 1, 2**256),
    ("filing", "safety_seconds", 0, 86_400),
    ("filing", "per_provider", 0, 2**256),
    ("filing", "per_day", 0, 2**256),
    ("filing", "keep_balance", 0, 2**256),
    ("filing", "lease_seconds", 1, 3_600),
    ("telemetry", "alert_seconds", 0.1, 600),
    ("telemetry", "stale_seconds", 1, 86_400),
    ("telemetry", "notify_gap", 1, 86_400),
    ("telemetry", "low_slack", 0, 10**9),
    ("telemetry", "low_filings", 0, 10**6),
    ("opengradient", "absolute", 0, 1e6),
    ("opengradient", "relative", 0, 1e6),
    ("opengradient", "registry_start", 0, 2**62),
    ("web", "rate", 1, 1_000_000),
    ("web", "body_bytes", 256, 1 << 20),
    ("web", "listeners", 0, 10_000),
    ("web", "session_seconds", 60, 2_592_000),
)


@dataclass(frozen=True, slots=True)
class ChainSettings:
    rpc: tuple[str, ...] = ("http://127.0.0.1:8545",)
    chain_id: int = 0
    market: Address = Address("")
    anchor: Address = Address("")
    start_block: int = 0
    confirmations: int = 3
    ledger_depth: int = 256
    poll: float = 2.0
    timeout: float = 20.0
    quorum: int = 2
    lag: int = 60
    websocket: str = ""
    embedded: bool = False


@dataclass(frozen=True, slots=True)
class ProtocolSettings:
    """``options`` are the plugin's own and checked by it."""

    name: str = REFERENCE
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    url: str = "sqlite+aiosqlite:///challenger.sqlite"
    heads: Path = Path("challenger-heads.jsonl")
    heads_every: int = 500
    evidence: Path = Path("challenger-evidence")


@dataclass(frozen=True, slots=True)
class SignerSettings:
    """Names where a key lies; settings never hold one."""

    keystore: Path | None = None
    passphrase_file: Path | None = None
    key_file: Path | None = None
    key_env: str = ""
    url: str = ""
    address: Address = Address("")
    style: str = "web3signer"
    secret_file: Path | None = None
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    base: Millionths = Millionths(50_000)
    newcomer: Millionths = Millionths(250_000)
    trusted_after: int = 60
    offender: Millionths = Millionths(1_000_000)
    margin: Millionths = Millionths(100_000)
    epoch_blocks: int = 7_200
    delay: int = 2


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    cache: Path = Path("challenger-cache")
    cache_bytes: int = 8 << 30
    roots: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    gateways: tuple[str, ...] = field(default=(), repr=False)
    fetch_seconds: float = 60.0
    fetch_bytes: int = 4 << 30
    input_bytes: int = 16 << 20
    memory_bytes: int = 8 << 30
    seconds: float = 300.0
    workers: int = 1
    backend: str = "torch"
    confirm_backend: str = "numpy"
    attempts: int = 5
    retry_seconds: int = 60


@dataclass(frozen=True, slots=True)
class SelftestSettings:
    rate: Millionths = Millionths(20_000)


@dataclass(frozen=True, slots=True)
class FilingSettings:
    mode: Mode | None = None
    exposure: Wei = Wei(10**18)
    min_value: Wei = Wei(0)
    certainty: Millionths = Millionths(999_000)
    correlated_providers: int = 2
    correlated_seconds: int = 3_600
    max_fee: Wei = Wei(500 * 10**9)
    safety_seconds: int = 60
    lease_seconds: float = 15.0
    per_provider: Wei = Wei(0)
    per_day: Wei = Wei(0)
    keep_balance: Wei = Wei(0)


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    metrics: str = ""
    alert_command: str = ""
    alert_webhook: str = field(default="", repr=False)
    alert_seconds: float = 10.0
    notify: tuple[str, ...] = field(default=(), repr=False)
    notify_on: tuple[str, ...] = ("info",)
    notify_gap: float = 60.0
    stale_seconds: float = 120.0
    low_slack: int = 300
    low_filings: int = 3


@dataclass(frozen=True, slots=True)
class WebSettings:
    listen: str = "127.0.0.1:8080"
    public: bool = False
    hosts: tuple[str, ...] = ()
    https: bool = False
    tokens: Path = Path("challenger-tokens.json")
    rate: int = 600
    body_bytes: int = 16 << 10
    listeners: int = 32
    session_seconds: float = 43_200.0


@dataclass(frozen=True, slots=True)
class OpenGradientSettings:
    """Addresses that are empty leave their part of `challenger report` out."""

    hub: Address = Address("")
    precompile: Address = Address("0x00000000000000000000000000000000000000f4")
    events: tuple[str, ...] = ("full", "brief")
    absolute: float = 1e-4
    relative: float = 1e-3
    exact: tuple[str, ...] = ()
    settlement: Address = Address("")
    registry: Address = Address("")
    registry_start: int = 0
    registry_form: str = "current"
    registries: tuple[str, ...] = ()
    older_leaves: bool = False
    aggregators: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    chain: ChainSettings = field(default_factory=ChainSettings)
    protocol: ProtocolSettings = field(default_factory=ProtocolSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    signer: SignerSettings = field(default_factory=SignerSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    replay: ReplaySettings = field(default_factory=ReplaySettings)
    selftest: SelftestSettings = field(default_factory=SelftestSettings)
    filing: FilingSettings = field(default_factory=FilingSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    web: WebSettings = field(default_factory=WebSettings)
    opengradient: OpenGradientSettings = field(default_factory=OpenGradientSettings)

    @property
    def has_key(self) -> bool:
        where = self.signer
        return bool(where.keystore or where.key_file or where.key_env or where.url)

    @property
    def mode(self) -> Mode:
        """With no key, the mode is watch; with one, dry-run until a person says live."""
        if self.filing.mode is not None:
            return self.filing.mode
        return Mode.DRY_RUN if self.has_key else Mode.WATCH


def load(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from ``path`` (none: defaults) and ``environment`` (none: the process's own).

    Raises ConfigError naming the file or variable, what is wrong with it, and what would be right.
    """
    env = os.environ if environment is None else environment
    return check(build(read(path) if path is not None else {}, env, str(path)))


def read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file; `challenger init` writes one", file=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", file=path) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not TOML: {error}", file=path) from error


def build(raw: Mapping[str, Any], env: Mapping[str, str], source: str) -> Settings:
    """Typed settings from parsed TOML and environment; unknown sections and fields are refused."""
    sections = get_type_hints(Settings)
    refuse_unknown(raw, sections, source, "section")
    made = {}
    for name, kind in sections.items():
        values = raw.get(name, {})
        if not isinstance(values, dict):
            raise ConfigError(f"[{name}] must be a table", file=source)
        hints = get_type_hints(kind)
        refuse_unknown(values, hints, source, f"[{name}] field")
        chosen = {key: convert(value, hints[key], f"[{name}] {key}", source) for key, value in values.items()}
        for key, hint in hints.items():
            text = from_environment(env, f"{PREFIX}_{name}_{key}".upper())
            if text is not None:
                chosen[key] = convert(text, hint, f"{PREFIX}_{name}_{key}".upper(), "environment")
        made[name] = kind(**chosen)
    return Settings(**made)


def check(settings: Settings) -> Settings:
    """Refuses what cannot work together."""
    say = ConfigError
    rates = settings.sampling
    for key in ("base", "newcomer", "offender"):
        if not 0 <= getattr(rates, key) <= 1_000_000:
            raise say(f"[sampling] {key} must be 0 to 1000000 millionths", got=getattr(rates, key))
    if rates.epoch_blocks < 1 or not 1 <= rates.delay <= 200:
        raise say("[sampling] epoch_blocks must be ≥ 1 and delay 1 to 200 blocks")
    for section, key, low, high in _RANGES:
        value = getattr(getattr(settings, section), key)
        if not low <= value <= high:  # NaN is in no range
            raise say(f"[{section}] {key} must be {low} to {high}", got=value)
    for key in ("backend", "confirm_backend"):
        if getattr(settings.replay, key) not in BACKENDS:
            raise say(f"[replay] {key} must be one of {', '.join(BACKENDS)}", got=getattr(settings.replay, key))
    if (settings.replay.backend == BACKENDS[-1]) == (settings.replay.confirm_backend == BACKENDS[-1]):
        raise say(
            "[replay] confirm_backend must share no kernel code with backend (numpy beside any other): one backend's bit is not proof"
        )
    for number, place in enumerate(settings.replay.gateways, 1):
        if not place.startswith(GATEWAYS):  # not shown: its query may be a token
            raise say(f"[replay] gateways: each begins with {', '.join(GATEWAYS)}", number=number)
    if not settings.chain.rpc:
        raise say("[chain] rpc names no endpoint")
    named = [("chain", key) for key in ("market", "anchor")]
    named += [("opengradient", key) for key in ("hub", "precompile", "settlement", "registry")]
    for section, key in named:
        value = getattr(getattr(settings, section), key)
        if value and not _is_address(value):
            raise say(f"[{section}] {key} must be 0x and 40 hex digits", got=value)
    if sum(place.startswith("file://") for place in settings.opengradient.aggregators) > 1:
        raise say("[opengradient] aggregators: one file:// folder at most")
    if not settings.opengradient.events or set(settings.opengradient.events) - set(EVENTS):
        raise say(f"[opengradient] events are {' and '.join(EVENTS)}, or one of them", got=settings.opengradient.events)
    if settings.mode is not Mode.WATCH and not settings.has_key:
        raise say(f"[filing] mode {settings.mode} needs a key in [signer]; without one use watch")
    where = settings.signer
    if sum(map(bool, (where.keystore, where.key_file, where.key_env, where.url))) > 1:
        raise say("[signer] names several keys; name one of keystore, key_file, key_env, url")
    if where.url and not (_is_address(where.address) and where.secret_file):
        raise say("[signer] url needs address, the account it signs for, and secret_file, 64 random hex digits")
    if where.style not in STYLES:
        raise say(f"[signer] style must be one of {', '.join(STYLES)}", got=where.style)
    if settings.mode in (Mode.LIVE, Mode.CONFIRM) and len(set(settings.chain.rpc)) < 2 and not settings.chain.embedded:
        raise say(
            f"[filing] mode {settings.mode} with a single endpoint is refused; add a second [chain] rpc, or say embedded = true for a devnet"
        )
    if settings.chain.websocket and not settings.chain.websocket.startswith(("ws://", "wss://")):
        raise say("[chain] websocket is a ws:// or wss:// URL")
    if settings.mode in (Mode.LIVE, Mode.CONFIRM) and not settings.chain.embedded:
        hosts = len({host_of(url) for url in settings.chain.rpc})
        if settings.chain.quorum < 2 or hosts < settings.chain.quorum:
            raise say(
                f"[filing] mode {settings.mode} needs [chain] quorum of at least 2, and endpoints of so many different hosts",
                quorum=settings.chain.quorum,
                hosts=hosts,
            )
    return settings


def without_key(settings: Settings) -> Settings:
    """For what signs nothing: no key is loaded, whatever the settings name."""
    return replace(settings, signer=SignerSettings(), filing=replace(settings.filing, mode=Mode.WATCH))


def override(settings: Settings, changes: Mapping[str, str], source: str) -> Settings:
    """``settings`` with some fields changed (``section.field`` → text), checked anew. Raises ConfigError."""
    sections = get_type_hints(Settings)
    for name, text in changes.items():
        section, _, key = name.partition(".")
        hint = get_type_hints(sections[section])[key]
        value = convert(text, hint, f"[{section}] {key}", source)
        settings = replace(settings, **{section: replace(getattr(settings, section), **{key: value})})
    return check(settings)


def host_of(url: str) -> str:
    """What makes an endpoint independent, as far as a name can tell: its host; on this machine with the port, since two
    nodes of one's own are two nodes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or url, parts.port
    except ValueError:
        return url
    return f"{host}:{port}" if host in {"localhost", "::1"} or host.startswith("127.") else host


def addresses(settings: Settings) -> Settings:
    """As ``check``, for commands that need the contract: a missing address is refused here."""
    if not settings.chain.market:
        raise ConfigError("[chain] market is missing: the address of the protocol's contract")
    if settings.chain.chain_id <= 0:
        raise ConfigError("[chain] chain_id is missing: the watcher never guesses which chain it spends on")
    return settings


def reference_only(settings: Settings, what: str) -> None:
    """For commands that know the reference protocol alone. Raises ConfigError."""
    if settings.protocol.name != REFERENCE:
        raise ConfigError(
            f"{what} is of the reference protocol alone; [protocol] name is another", name=settings.protocol.name
        )


def _is_address(value: str) -> bool:
    if len(value) != 42 or not value.startswith("0x"):
        return False
    return all(c in "0123456789abcdef" for c in value[2:].lower())


def every_setting() -> list[tuple[str, str, Any]]:
    """(section, field, default) of every setting: for `challenger init`, the docs and their test."""
    rows = []
    for section in fields(Settings):
        kind = get_type_hints(Settings)[section.name]
        rows += [(section.name, item.name, getattr(kind(), item.name)) for item in fields(kind)]
    return rows
