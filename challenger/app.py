"""The one place that wires the parts: settings in, a running watcher out."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from challenger.audit.journal import HeadSigner
from challenger.chain.fees import FeePolicy
from challenger.chain.follower import Follower
from challenger.chain.follower import Options as FollowerOptions
from challenger.chain.rpc import Rpc
from challenger.chain.sender import Sender
from challenger.chain.signers import LocalSigner, WatcherKey
from challenger.chain.step import SenderPolicy
from challenger.domain import BlockNumber, ChainId, Mode, Wei
from challenger.endpoints import Endpoints, open_endpoints
from challenger.evidence.gather import Sources
from challenger.evidence.keeper import Keeper
from challenger.lease import Lease, leased
from challenger.parts import (
    Anchoring,
    JournalSink,
    adapter_of,
    artifact_store,
    course,
    instruments,
    left_out,
    limits_of,
    load_signer,
    policy_of,
    protocol_of,
    replay_pool,
)
from challenger.pipeline import views
from challenger.pipeline.agree import Believed
from challenger.pipeline.backlog import Backlog
from challenger.pipeline.clock import ChainClock
from challenger.pipeline.closing import Closing
from challenger.pipeline.engine import Files, Workers
from challenger.pipeline.file import Filer
from challenger.pipeline.idle import Idle
from challenger.pipeline.investigate import Investigator
from challenger.pipeline.learned import Learned
from challenger.pipeline.obstacles import Patience
from challenger.pipeline.outcome import Pace
from challenger.pipeline.purse import Purse
from challenger.pipeline.pursue import Pursuer
from challenger.pipeline.reconcile import Reconciler
from challenger.pipeline.sample import Sampler
from challenger.pipeline.selftest import SelfTest
from challenger.plugins.registry import Means
from challenger.protocols.base import ETHER, MONEY, Adapter, terms_key
from challenger.service import App
from challenger.settings import REFERENCE, Settings, addresses
from challenger.store.crossing import BROADCAST, Hook, after_act
from challenger.store.engine import Store, create_engine, open_store
from challenger.store.heads import FilePublisher
from challenger.store.outbox import Outbox
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import Prometheus
from challenger.telemetry.notify import look
from challenger.telemetry.serve import serve

__all__ = ["App", "Replaying", "opened"]


#: Replays of a recording that follow one plan.
_PLANNED = 16


@dataclass(frozen=True, slots=True)
class Replaying:
    """The chain is a recording: everything happens in one order, so that equal recordings give equal journals.

    ``believed``: the recording holds no receipts, so that nothing can be proved or held against its logs."""

    believed: bool


@asynccontextmanager
async def opened(
    settings: Settings,
    *,
    rpc: Rpc | None = None,
    others: Sequence[Rpc] = (),
    files: Files | None = None,
    workers: Workers | None = None,
    crossing: Hook | None = None,
    engine: Callable[[URL, float], AsyncEngine] = create_engine,
    entropy: Callable[[int], bytes] = secrets.token_bytes,
    monotonic: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    replaying: Replaying | None = None,
    stop: asyncio.Event | None = None,
    doubt: str = "",
) -> AsyncIterator[App]:
    """The watcher that ``settings`` describe, everything checked that must hold before it starts. While another
    process works for its account it stands by, until ``stop`` is set; without ``stop`` it raises HeldElsewhere.

    ``rpc`` stands in for the first endpoint (a chain in this process), ``others`` for the rest, ``files`` and ``workers``
    for the artefact store and the replay pool; ``crossing`` is told of every persisted transition, ``engine`` makes the
    database's connections, ``entropy`` the epochs' secrets; ``monotonic`` is the clock of what takes time here, and tells
    when an endpoint that failed is tried again; ``wall`` is this machine's date; ``replaying``: that chain is a recording;
    ``doubt``: why the database is held to be an older copy of itself.
    Raises ConfigError, WrongChain, WrongContract, EndpointError or StoreError, one line each.
    """
    addresses(settings)
    chain = settings.chain
    telemetry = instruments(settings, monotonic)
    await look(settings.telemetry.notify, settings.telemetry.notify_on)
    async with AsyncExitStack() as stack:
        spread = random.Random(entropy(16))  # noqa: S311 - spreads retries, decides nothing
        endpoints = await stack.enter_async_context(
            open_endpoints(settings, telemetry, rpc, others, clock=monotonic, wall=wall, rng=spread)
        )
        signer = load_signer(settings)
        account = None if signer is None else signer.address
        secret = b"" if signer is None else signer.derive_secret(b"salt")
        adapter = await views.checked(endpoints.rpc, partial(adapter_of, settings, endpoints.rpc, account, secret))
        store = await stack.enter_async_context(open_store(settings.store.url, crossing=crossing, engine=engine))
        head = await endpoints.rpc.block("latest")
        async with store.begin(head.time) as unit:
            await unit.settings.pin("deployment", f"{chain.chain_id}/{chain.market}")
            await unit.settings.pin("protocol", adapter.name)
            await unit.settings.keep(terms_key(adapter.name), adapter.terms.text)
            if adapter.terms.money.whole != ETHER.whole:
                await unit.settings.keep(MONEY, adapter.terms.money.whole)
        telemetry.alerts.send_to(JournalSink(store))
        if isinstance(telemetry.metrics, Prometheus):
            await stack.enter_async_context(serve(telemetry.metrics, settings.telemetry.metrics, telemetry.health))
        seconds = settings.filing.lease_seconds
        lease, keeper = await stack.enter_async_context(
            leased(store, account or "watch", seconds, stop, "recording" if replaying else "")
        )
        if files is None:
            files = await stack.enter_async_context(artifact_store(settings))
        if workers is None:
            workers = await stack.enter_async_context(replay_pool(settings))
        yield await _wire(
            settings,
            store,
            endpoints,
            adapter,
            signer,
            files,
            workers,
            lease,
            keeper,
            telemetry,
            crossing,
            entropy,
            monotonic,
            wall,
            replaying,
            doubt,
        )


async def _wire(
    settings: Settings,
    store: Store,
    endpoints: Endpoints,
    adapter: Adapter,
    signer: WatcherKey | None,
    files: Files,
    workers: Workers,
    lease: Lease,
    keeper: asyncio.Future[None],
    telemetry: Instruments,
    crossing: Hook | None,
    entropy: Callable[[int], bytes],
    monotonic: Callable[[], float],
    wall: Callable[[], float],
    replaying: Replaying | None,
    doubt: str,
) -> App:
    rpc, chain, filing = endpoints.rpc, settings.chain, settings.filing
    believed = replaying is not None and replaying.believed
    agreement = Believed() if believed else endpoints.agreement(settings, store, adapter)
    live = settings.mode in (Mode.LIVE, Mode.CONFIRM) and signer is not None
    account = None if signer is None else signer.address
    local = signer if isinstance(signer, LocalSigner) else None

    stale = None if chain.embedded else settings.telemetry.stale_seconds
    clock = ChainClock(rpc, telemetry, stale=stale, wall=wall)
    lead = filing.safety_seconds
    speaks, options = protocol_of(settings)
    engine = speaks.engine(Means(files, workers, settings.replay.fetch_bytes, settings.replay.input_bytes), options)
    pace = Pace(
        settings.replay.backend,
        settings.replay.confirm_backend,
        settings.replay.attempts,
        settings.replay.retry_seconds,
        settings.replay.workers,
        margin=lead,
        demands=account is not None and settings.mode is not Mode.WATCH,
        fetches=8 if replaying is None else 1,
        planned=0 if replaying is None else _PLANNED,
    )
    backends = (settings.replay.backend, settings.replay.confirm_backend)
    learned = Learned(store, course(adapter.terms, chain.confirmations), backends, monotonic)
    closing = Closing(store, adapter if replaying is None else None)
    backlog = Backlog(
        store,
        learned,
        telemetry,
        reward=adapter.terms.reward,
        workers=settings.replay.workers,
        files=pace.demands,
        margin=lead,
        closing=closing,
        low=settings.telemetry.low_slack,
    )
    filer = sender = purse = None
    if account is not None and signer is not None and settings.mode is not Mode.WATCH:
        limits = limits_of(settings)
        patience = Patience(lead, settings.replay.retry_seconds, filing.correlated_seconds)
        terms = adapter.terms
        filer = Filer(store, adapter, rpc, account, limits, patience, learned, telemetry, agreement, terms.money)
        if live:
            filings = settings.telemetry.low_filings
            paid = terms.bond if terms.money.paid else Wei(0)
            purse = Purse(store, rpc, account, limits, paid, filings, telemetry)
        outbox = Outbox(store, account, lease.token)
        policy = SenderPolicy(
            ChainId(chain.chain_id), confirmations=chain.confirmations, fees=FeePolicy(cap=filing.max_fee)
        )
        sender = Sender(
            rpc,
            outbox,
            account,
            policy,
            signer=signer if live else None,
            explain=speaks.explain,
            crossing=after_act(crossing, BROADCAST),
        )
    rates = settings.sampling
    sampler = Sampler(
        store,
        rpc,
        policy_of(settings),
        Anchoring(adapter, live=live),
        account=account,
        burnt=adapter.terms.burnt,
        start=BlockNumber(chain.start_block),
        length=rates.epoch_blocks,
        delay=rates.delay,
        depth=chain.confirmations,
        entropy=entropy,
    )
    following = FollowerOptions(start=chain.start_block, depth=chain.ledger_depth)
    follower = Follower(
        endpoints.reader(believed=believed),
        store.index(),
        adapter,
        following,
        on_malformed=left_out,
        clock=monotonic,
    )
    reconciler = await Reconciler.started(
        store, rpc, account if live else None, lambda: follower.head, FilePublisher(settings.store.heads), doubt
    )
    idle = Idle()
    selftest = SelfTest(
        store,
        engine,
        clock,
        idle,
        telemetry,
        rate=settings.selftest.rate,
        backend=pace.backend,
        confirm_backend=pace.confirm_backend,
        seconds=4 * settings.replay.seconds + settings.replay.fetch_seconds,
        entropy=entropy,
    )
    sources = Sources(
        store,
        rpc,
        ChainId(chain.chain_id),
        chain.market,
        engine,
        files,
        pace.backend,
        settings.replay.fetch_bytes,
    )
    return App(
        settings,
        store,
        rpc,
        adapter,
        follower,
        sampler,
        Investigator(store, engine, agreement, clock, pace, learned, backlog, closing, telemetry, idle, monotonic),
        Pursuer(store, adapter, account if live else None, depth=chain.confirmations, telemetry=telemetry),
        reconciler,
        filer,
        sender,
        HeadSigner(local),
        telemetry,
        clock,
        learned,
        keeper,
        selftest,
        None if adapter.name != REFERENCE else Keeper(sources, settings.store.evidence, local, idle, telemetry),
        purse,
        account,
        crossing,
    )
