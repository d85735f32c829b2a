"""`challenger init`: a settings file with every field, its default and what it means."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from challenger.errors import ConfigError
from challenger.settings import every_setting

#: What each setting means; the docs and the settings file say it in the same words.
MEANING = {
    "chain.rpc": "JSON-RPC endpoints; live mode needs two of different operators",
    "chain.chain_id": "the chain's id; an endpoint that serves another is refused",
    "chain.market": "address of the protocol's contract",
    "chain.anchor": "address of the EpochAnchor contract; empty: sampling is unanchored",
    "chain.start_block": "first block to index: the one that deployed the contract",
    "chain.confirmations": "blocks after which a transaction of ours counts as final",
    "chain.ledger_depth": "blocks of history kept to survive reorganisations",
    "chain.poll": "seconds between looks at the head",
    "chain.timeout": "seconds after which a JSON-RPC call is given up",
    "chain.quorum": "independent endpoints (different hosts) that must agree before anything is filed; 2 or more in the modes live and confirm",
    "chain.lag": "seconds behind the best head at which an endpoint is read from last",
    "chain.websocket": "ws:// or wss:// URL that tells of new heads, for an earlier look; empty: none",
    "chain.embedded": "true on a devnet: allows live mode with one endpoint",
    "protocol.name": "which protocol's contract it is: reference, or one that an installed package brings (docs/protocols.md)",
    "protocol.options": "what that protocol's adapter wants to know besides; a JSON object in the environment",
    "store.url": "SQLAlchemy URL: sqlite+aiosqlite:///FILE or postgresql+psycopg://…",
    "store.heads": "file, best on another disk, to which journal heads are published",
    "store.evidence": "folder for the evidence bundles on confirmed frauds (docs/evidence.md)",
    "store.heads_every": "journal entries between published heads",
    "signer.keystore": "encrypted keystore file (web3 secret storage)",
    "signer.passphrase_file": "file that holds its passphrase; empty: asked at the terminal",
    "signer.key_file": "file that holds a raw private key, readable by its owner alone",
    "signer.key_env": "name of the environment variable that holds a raw private key",
    "signer.url": "external signer's JSON-RPC URL, in place of a key here",
    "signer.address": "the account that the external signer signs for",
    "signer.style": "web3signer (eth_signTransaction) or clef (account_signTransaction)",
    "signer.secret_file": "with an external signer: private file of 64 random hex digits behind the salts, the same on every machine",
    "signer.seconds": "time limit of one request to the external signer",
    "sampling.base": "lowest rate, in millionths; raised where deterrence needs it",
    "sampling.newcomer": "rate for a provider with fewer than trusted_after sampled commitments",
    "sampling.trusted_after": "sampled commitments after which a provider is no newcomer",
    "sampling.offender": "rate for a provider with a fraud on record",
    "sampling.margin": "safety margin η over the break-even rate, in millionths",
    "sampling.epoch_blocks": "blocks per sampling epoch",
    "sampling.delay": "blocks between a commitment and the block whose hash draws it",
    "replay.cache": "directory of the artefact cache",
    "replay.cache_bytes": "size bound of the cache",
    "replay.roots": "directories from which file: URIs may be read",
    "replay.private_networks": "CIDR ranges of private addresses from which artefacts may be fetched; none by default",
    "replay.gateways": "IPFS gateways asked in this order for the blocks of ipfs: addresses, each checked: http(s) URLs, or file: URLs of a CAR file or a folder of blocks; none: ipfs: is refused",
    "replay.fetch_seconds": "time limit of one fetch",
    "replay.fetch_bytes": "size limit of one artefact",
    "replay.input_bytes": "size limit of one input or output",
    "replay.memory_bytes": "memory limit of a replay worker",
    "replay.seconds": "time limit of one replay",
    "replay.workers": "replays at once",
    "replay.backend": "backend of the first replay",
    "replay.confirm_backend": "backend of the confirmation; must be another",
    "replay.attempts": "replays of a commitment that may end without a verdict before nothing is claimed",
    "replay.retry_seconds": "chain seconds between two tries; never more than an eighth of what a window leaves",
    "selftest.rate": "planted frauds per valid verdict, in millionths, each two replays on idle workers; 0: none",
    "filing.mode": "watch, dry-run, confirm or live; default watch without a key, dry-run with one",
    "filing.exposure": "cap on all bonds outstanding, in wei, or in a token's smallest unit where bonds are in a token",
    "filing.min_value": "lowest expected value of a filing, in the unit of the bonds, its gas reckoned at twice the present price (at most `max_fee`)",
    "filing.certainty": "P(fraud | confirmed) assumed by the value gate, in millionths",
    "filing.correlated_providers": "providers of one model accused within the hour at which filing pauses",
    "filing.correlated_seconds": "the length of that hour",
    "filing.max_fee": "cap on the fee per gas, in wei",
    "filing.safety_seconds": "a filing that would land later than this before the close is refused",
    "filing.lease_seconds": "seconds within which a process that stands by takes over from one that died",
    "filing.per_provider": "cap on the bonds out against one provider, in the same unit; 0: only exposure",
    "filing.per_day": "cap on the bonds of 24 hours of chain time, in the same unit; 0: only exposure",
    "filing.keep_balance": "balance of the account that is never spent, in wei",
    "telemetry.metrics": "loopback HOST:PORT at which /metrics is served for Prometheus; empty: off",
    "telemetry.alert_command": "command run for each alert, the alert as JSON on its standard input; empty: none",
    "telemetry.alert_webhook": "URL to which each alert is posted as JSON; empty: none",
    "telemetry.alert_seconds": "time limit of such a command or post",
    "telemetry.notify": "apprise URLs of services that tell a person (extra notify); they hold secrets: best in CHALLENGER_TELEMETRY_NOTIFY_FILE",
    "telemetry.notify_on": "which alerts they tell: names, or a severity from which on all are (info, warning, critical)",
    "telemetry.notify_gap": "least seconds between two messages to one service; what comes meanwhile goes in one",
    "telemetry.stale_seconds": "age of the newest block, by this machine's clock, at which an alert is raised",
    "telemetry.low_slack": "seconds to spare below which slack-low is raised; 0: never",
    "telemetry.low_filings": "gas-low is raised when the account does not cover so many filings more; 0: when not one dispute's gas",
    "web.listen": "ADDRESS:PORT at which `challenger serve` serves the API and the pages",
    "web.public": "true: listen may be no loopback address; needs tokens and hosts",
    "web.hosts": "names under which it is reached, behind a proxy say; with any, reading needs a token",
    "web.https": "true where browsers reach it by https: cookies are then for https alone",
    "web.tokens": "file of the tokens' hashes, for its owner alone; `challenger serve token` writes it",
    "web.rate": "requests a minute for each token, or address without one",
    "web.body_bytes": "size limit of a request's body",
    "web.listeners": "clients that may listen to the events at once",
    "web.session_seconds": "time after which a person must log in again",
    "opengradient.hub": "address of OpenGradient's inference hub; empty: inferences are left out of `challenger report`",
    "opengradient.precompile": "address of the inference precompile",
    "opengradient.events": "forms of the precompile's event that this deployment writes: full, brief, or both",
    "opengradient.absolute": "stated tolerance: how far an output may lie from ours, in absolute terms …",
    "opengradient.relative": "… plus this part of ours; beyond both it is reported as a distance, never as proof",
    "opengradient.exact": "CIDs of models that are declared to run on the canonical numerics: another float32 is a wrong output",
    "opengradient.settlement": "address of the settlement contract or relay; empty: settlements are left out of `challenger report`",
    "opengradient.registry": "address of the enclave registry",
    "opengradient.registry_start": "a block not after the registry's first event, nor after it was first asked",
    "opengradient.registry_form": "which generation of the registry's ABI it speaks (docs/opengradient.md)",
    "opengradient.registries": "registries that settlements are checked against before or after that one, each as ADDRESS BLOCK FORM: its start and its form",
    "opengradient.older_leaves": "true where batches have leaves without their signers",
    "opengradient.aggregators": "http(s) URLs of Walrus aggregators that have the batches' blobs, or a file:// URL of a folder with them; empty: batches are only compared with each other",
}


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", nargs="?", type=Path, default=None, help="where to write it (default: challenger.toml)")
    sub.add_argument("--force", action="store_true", help="overwrite an existing file")


def template() -> str:
    """The settings file's text: every setting commented out at its default."""
    lines = ["# Settings of the challenger. Environment variables CHALLENGER_SECTION_FIELD win over this file;", ""]
    lines[1:1] = ["# CHALLENGER_SECTION_FIELD_FILE reads the value from a file: use that for secrets."]
    section = ""
    for name, field, default in every_setting():
        if name != section:
            section = name
            lines += [f"[{name}]"]
        lines += [f"# {MEANING[f'{name}.{field}']}", f"#{field} = {_toml(default)}", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, int | float):
        return str(value)
    return '""' if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def run(options: argparse.Namespace) -> int:
    path: Path = options.file or options.config or Path("challenger.toml")
    if path.exists() and not options.force:
        raise ConfigError("the file exists; --force overwrites it", file=path)
    try:
        path.write_text(template(), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=path) from error
    if options.json:
        from challenger.cli.common import print_json

        print_json({"written": str(path)})
    else:
        print(f"Wrote {path}. Set [chain] rpc, chain_id and market, then try: challenger check -c {path}")
    return 0
