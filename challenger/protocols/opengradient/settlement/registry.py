"""The TEE registry's events, by form: what each deployed generation of the registry writes. Data, and one decoder. Pure.

Three generations were published. Their events share names, not always types, and one pair shares even its topic
(``PCRRevoked(bytes32,uint256)``: seconds of grace in the one, the time of the revocation in the other), so that a form is
named in the settings and not guessed from logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder, decode_result
from challenger.domain import Address
from challenger.errors import ConfigError, EndpointError, MalformedLog

Abi = list[dict[str, Any]]


class Enclave(NamedTuple):
    """What the registry keeps of an enclave and never changes. ``public_key``: DER; ``measurement``: keccak of its PCRs."""

    public_key: bytes
    measurement: bytes


class Registered(NamedTuple):
    tee: bytes
    owner: Address
    kind: int


class Switched(NamedTuple):
    """Enabled (activated) or disabled (deactivated)."""

    tee: bytes
    on: bool


class Beat(NamedTuple):
    """A heartbeat; what counts is its block's time, ``signed_at`` is the enclave's word."""

    tee: bytes
    signed_at: int


class Approved(NamedTuple):
    """``kind``: of enclaves, None where the form keeps one list for all; ``until``: None without an end."""

    measurement: bytes
    kind: int | None
    until: int | None


class Revoked(NamedTuple):
    """``grace``: seconds from the block's time until it takes effect."""

    measurement: bytes
    grace: int


Change = Registered | Switched | Beat | Approved | Revoked


@dataclass(frozen=True, slots=True)
class Form:
    """One generation. ``beats``: whether enclaves have to send heartbeats; ``by_kind``: whether a measurement is approved
    for one kind of enclaves or for all; ``id_first``: whether ``getTEE`` answers the id first."""

    name: str
    events: tuple[str, ...]
    beats: bool
    by_kind: bool
    id_first: bool


_SWITCHED = ("TEEActivated(bytes32 indexed teeId)", "TEEDeactivated(bytes32 indexed teeId)")
_REGISTERED = "TEERegistered(bytes32 indexed teeId,address indexed owner,uint8 teeType)"
_REGISTERED_AT_LENGTH = (
    "TEERegistered(bytes32 indexed teeId,address indexed owner,address paymentAddress,string endpoint,uint8 teeType,"
    "uint256 registeredAt)"
)
_BEAT = "HeartbeatReceived(bytes32 indexed teeId,uint256 timestamp)"

FORMS = {
    form.name: form
    for form in (
        Form(
            "current",
            (
                _REGISTERED,
                "TEEEnabled(bytes32 indexed teeId)",
                "TEEDisabled(bytes32 indexed teeId)",
                "PCRApproved(bytes32 indexed pcrHash,uint8 indexed teeType,string version)",
                "PCRRevoked(bytes32 indexed pcrHash)",
                _BEAT,
            ),
            beats=True,
            by_kind=True,
            id_first=False,
        ),
        Form(
            "grace",
            (
                _REGISTERED,
                *_SWITCHED,
                "PCRApproved(bytes32 indexed pcrHash,uint8 indexed teeType,string version)",
                "PCRRevoked(bytes32 indexed pcrHash,uint256 gracePeriod)",
                _BEAT,
            ),
            beats=True,
            by_kind=False,
            id_first=False,
        ),
        Form(
            "precompile",
            (
                _REGISTERED_AT_LENGTH,
                "TEEActivated(bytes32 indexed teeId,uint256 activatedAt)",
                "TEEDeactivated(bytes32 indexed teeId,uint256 deactivatedAt)",
                "PCRApproved(bytes32 indexed pcrHash,string version,uint256 approvedAt,uint256 expiresAt)",
                "PCRRevoked(bytes32 indexed pcrHash,uint256 revokedAt)",
            ),
            beats=False,
            by_kind=False,
            id_first=True,
        ),
    )
}


def form_named(name: str) -> Form:
    """``ConfigError`` when there is none of this name."""
    try:
        return FORMS[name]
    except KeyError:
        raise ConfigError("no such form of the TEE registry", form=name, known=" ".join(FORMS)) from None


class RegistryLogs:
    """Logs of the registry at one address."""

    def __init__(self, registry: Address, form: Form) -> None:
        self._registry = registry
        self._form = form
        self._decoder = EventDecoder([event_abi(text) for text in form.events])
        self.topics = self._decoder.topics

    def decode(self, log: RawLog) -> Change | None:
        """None for what is no event of this form; ``MalformedLog`` when it does not hold what it says."""
        if log.address != self._registry:
            return None
        event = self._decoder.decode(log)
        return None if event is None else self._change(event.name, event.args, log)

    def _change(self, name: str, args: Mapping[str, Any], log: RawLog) -> Change:
        match name:
            case "TEERegistered":
                return Registered(args["teeId"], args["owner"], args["teeType"])
            case "TEEEnabled" | "TEEActivated":
                return Switched(args["teeId"], on=True)
            case "TEEDisabled" | "TEEDeactivated":
                return Switched(args["teeId"], on=False)
            case "HeartbeatReceived":
                return Beat(args["teeId"], args["timestamp"])
            case "PCRApproved":
                kind = args["teeType"] if self._form.by_kind else None
                return Approved(args["pcrHash"], kind, args.get("expiresAt") or None)
            case "PCRRevoked":
                return Revoked(args["pcrHash"], args.get("gracePeriod", 0))
        raise MalformedLog("an event without a meaning", event=name, block=log.block, log=log.log_index)


def event_abi(text: str) -> dict[str, Any]:
    """The ABI entry of ``Name(type [indexed] name,…)``."""
    name, _, rest = text.removesuffix(")").partition("(")
    inputs = []
    for part in rest.split(","):
        words = part.split()
        inputs.append({"type": words[0], "name": words[-1], "indexed": "indexed" in words})
    return {"type": "event", "name": name, "inputs": inputs}


_KEPT = (
    ("owner", "address"),
    ("paymentAddress", "address"),
    ("endpoint", "string"),
    ("publicKey", "bytes"),
    ("tlsCertificate", "bytes"),
    ("pcrHash", "bytes32"),
    ("teeType", "uint8"),
    ("on", "bool"),
    ("registeredAt", "uint256"),
    ("touchedAt", "uint256"),
)


def views(form: Form) -> Abi:
    """``getTEE`` and ``heartbeatMaxAge`` as this form answers them."""
    kept = (("teeId", "bytes32"), *_KEPT) if form.id_first else _KEPT
    info = {"name": "info", "type": "tuple", "components": [{"name": n, "type": t} for n, t in kept]}
    return [
        {
            "type": "function",
            "name": "getTEE",
            "inputs": [{"name": "teeId", "type": "bytes32"}],
            "outputs": [info],
        },
        {
            "type": "function",
            "name": "heartbeatMaxAge",
            "inputs": [],
            "outputs": [{"name": "", "type": "uint256"}],
        },
    ]


def read_enclave(form: Form, tee: bytes, answer: bytes) -> Enclave:
    """What ``getTEE(tee)`` answered. ``EndpointError``: nonsense, or another enclave's."""
    info = decode_result(views(form), "getTEE", answer)
    if form.id_first and info["teeId"] != tee:
        raise EndpointError("getTEE answers with another enclave than the one asked for")
    return Enclave(info["publicKey"], info["pcrHash"])
