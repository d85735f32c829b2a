"""Single parts made from settings: what several entries of the program need one by one."""

from __future__ import annotations

import gc
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from challenger.chain import signers
from challenger.chain.external import ExternalSigner
from challenger.chain.follower import Malformed
from challenger.chain.signers import WatcherKey
from challenger.domain import Address, ChainId, Hash32, Intent, UnixTime
from challenger.hardening import no_core_dumps
from challenger.pipeline.gates import Limits
from challenger.pipeline.learned import Course
from challenger.plugins.registry import Disputed, Place, Reader, plugin
from challenger.protocols.base import Adapter, Terms
from challenger.sampling.policy import Policy
from challenger.settings import Settings
from challenger.store.engine import Store
from challenger.telemetry.alerts import Alerts, Notice
from challenger.telemetry.health import Health
from challenger.telemetry.hooks import Command, Webhook
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say
from challenger.telemetry.metrics import Prometheus, Silent
from challenger.telemetry.notify import choice, services
from challenger.telemetry.serve import loopback
from replay.artifacts import ArtifactStore
from replay.sandbox import Limits as SandboxLimits
from replay.sandbox import ReplayPool


class Anchoring:
    """Publishes epochs where there is a contract and a key in live mode; nowhere else."""

    def __init__(self, adapter: Adapter, *, live: bool) -> None:
        self.protocol = adapter.name
        self._adapter = adapter
        self._live = live

    def anchor(self, epoch: int, commitment: Hash32, deadline: UnixTime) -> Intent | None:
        return self._adapter.anchor(epoch, commitment, deadline) if self._live else None

    def reveal(self, epoch: int, secret: Hash32) -> Intent | None:
        return self._adapter.reveal(epoch, secret) if self._live else None


def load_signer(settings: Settings) -> WatcherKey | None:
    """The key that the settings name, None where they name none. From here on the process leaves no core dump."""
    where = settings.signer
    if not settings.has_key:
        return None
    no_core_dumps()
    if where.url:
        assert where.secret_file is not None, "settings were checked"
        return ExternalSigner(where.url, where.address, where.style, where.secret_file, where.seconds)
    if where.keystore is not None:
        return signers.from_keystore(where.keystore, where.passphrase_file)
    if where.key_file is not None:
        return signers.from_key_file(where.key_file)
    return signers.from_environment(where.key_env)


class JournalSink:
    """Alerts into the journal, at the chain time of the index."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def take(self, notice: Notice) -> None:
        async with self._store.read() as view:
            head = await view.chain.head()
        told = {name: str(value) if isinstance(value, float) else value for name, value in notice.fields.items()}
        payload = {"alert": notice.name, "severity": notice.severity.value, "fields": told}
        async with self._store.begin(UnixTime(0) if head is None else head.time) as unit:
            await unit.journal.write(unit.now, "alert", notice.about[:160], payload)


def instruments(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Instruments:
    """Metrics where they are served, alerts with the operator's hooks. Raises ConfigError for one that cannot be used."""
    wanted = settings.telemetry
    if wanted.metrics:
        loopback(wanted.metrics)
    metrics = Prometheus() if wanted.metrics else Silent()
    alerts = Alerts(metrics, clock=clock)
    if wanted.alert_command:
        alerts.send_to(Command(wanted.alert_command, wanted.alert_seconds))
    if wanted.alert_webhook:
        alerts.send_to(Webhook(wanted.alert_webhook, wanted.alert_seconds))
    wanted_on = choice(wanted.notify_on)
    for service in services(wanted.notify, whom(settings), wanted.alert_seconds, metrics):
        alerts.cry_to(service, wanted.notify_gap, wanted_on)
    # a look that takes a few polls is none too many
    health = Health(max(wanted.stale_seconds, 5 * settings.chain.poll), clock)
    return Instruments(metrics, alerts, health)


def whom(settings: Settings) -> str:
    """Which watcher this is, for a person who has several."""
    return f"on {socket.gethostname()}, chain {settings.chain.chain_id}, {settings.mode}"


def policy_of(settings: Settings) -> Policy:
    rates = settings.sampling
    return Policy(rates.base, rates.newcomer, rates.trusted_after, rates.offender, margin=rates.margin)


def limits_of(settings: Settings) -> Limits:
    """Before money: what the operator allows."""
    filing = settings.filing
    return Limits(
        settings.mode,
        filing.exposure,
        filing.min_value,
        filing.certainty,
        filing.correlated_providers,
        filing.safety_seconds,
        filing.per_provider,
        filing.per_day,
        filing.keep_balance,
        filing.max_fee,
    )


def course(terms: Terms, confirmations: int) -> Course:
    return Course(terms.transactions, terms.blocks, confirmations, terms.demands)


def protocol_of(settings: Settings) -> tuple[Disputed, Any]:
    """The plugin that the settings name, and its options. Raises ConfigError."""
    wanted = settings.protocol
    found = plugin(wanted.name)
    return found, found.options(wanted.options, "[protocol]")


def adapter_of(settings: Settings, chain: Reader, account: Address | None = None, secret: bytes = b"") -> Adapter:
    """The adapter of the protocol that the settings name, unchecked."""
    found, options = protocol_of(settings)
    where = settings.chain
    return found.adapter(
        Place(chain, ChainId(where.chain_id), where.market, account, secret, where.anchor or None, options)
    )


def artifact_store(settings: Settings) -> ArtifactStore:
    wanted = settings.replay
    return ArtifactStore(
        wanted.cache,
        roots=[Path(root) for root in wanted.roots],
        max_bytes=wanted.cache_bytes,
        timeout=wanted.fetch_seconds,
        private_networks=wanted.private_networks,
        gateways=wanted.gateways,
    )


def replay_pool(settings: Settings) -> ReplayPool:
    wanted = settings.replay
    limits = SandboxLimits(
        memory_bytes=wanted.memory_bytes, cpu_seconds=int(2 * wanted.seconds) + 1, wall_seconds=wanted.seconds
    )
    return ReplayPool(limits=limits, workers=wanted.workers)


def tune_collector() -> None:
    """Python's cycle collector walks every live object each time 700 new ones are left over; indexing makes millions
    that hold no cycle. What stands now is set aside, the rest is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def left_out(malformed: Malformed) -> None:
    """A log that its contract cannot have written: said, skipped, and the service goes on."""
    log = malformed.log
    say("malformed-log", level=logging.WARNING, block=log.block, tx=log.tx_hash, error=str(malformed.error))
