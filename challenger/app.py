"""The one place that wires the parts: settings in, a running watcher out."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

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
from challenger.chain.wakeup import pause
from challenger.domain import Block, BlockNumber, ChainId, Cursor, Mode, UnixTime
from challenger.endpoints import Endpoints, open_endpoints, wakeup
from challenger.errors import ChallengerError, Expected, PlantedRefused, StoreError, TakenOver
from challenger.lease import Lease, leased, until_lost
from challenger.parts import (
    Anchoring,
    JournalSink,
    artifact_store,
    bounty,
    burnt_share,
    course,
    instruments,
    left_out,
    load_signer,
    replay_pool,
    tune_collector,
)
from challenger.pipeline.backlog import Backlog
from challenger.pipeline.clock import ChainClock
from challenger.pipeline.engine import Engine, Files, Workers
from challenger.pipeline.file import Filer, Patience
from challenger.pipeline.gates import Limits
from challenger.pipeline.idle import Idle
from challenger.pipeline.investigate import Investigator, Pace
from challenger.pipeline.learned import Learned
from challenger.pipeline.pursue import Pursuer
from challenger.pipeline.reconcile import Reconciler
from challenger.pipeline.sample import Sampler
from challenger.pipeline.selftest import SelfTest
from challenger.protocols.reference import ReferenceAdapter, explain
from challenger.sampling.policy import Policy
from challenger.settings import Settings, addresses
from challenger.store.crossing import BROADCAST, Hook, after_act
from challenger.store.engine import Store, create_engine, open_store
from challenger.store.heads import FilePublisher, publish_head
from challenger.store.outbox import Outbox
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say
from challenger.telemetry.metrics import HEAD_BLOCK, Prometheus
from challenger.telemetry.serve import serve

#: Log ranges indexed before the other stages have their turn.
_RANGES = 50
#: One turn of a loop: True when something moved and the next turn should follow at once.
Turn = Callable[[], Awaitable[bool]]


class App:
    """A watcher, opened. ``step`` does the quick work on the chain, ``investigate`` the replays; both are safe to call
    at any time and from two tasks, and both may be killed at any point."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        rpc: Rpc,
        adapter: ReferenceAdapter,
        follower: Follower,
        sampler: Sampler,
        investigator: Investigator,
        pursuer: Pursuer,
        reconciler: Reconciler,
        filer: Filer | None,
        sender: Sender | None,
        head_signer: HeadSigner,
        telemetry: Instruments,
        clock: ChainClock,
        learned: Learned,
        keeper: asyncio.Future[None],
        selftest: SelfTest,
        crossing: Hook | None = None,
    ) -> None:
        self.learned = learned
        self.settings = settings
        self.clock = clock
        self._keeper = keeper
        self._selftest = selftest
        self.telemetry = telemetry
        self.store = store
        self.rpc = rpc
        self.adapter = adapter
        self._follower = follower
        self._sampler = sampler
        self._investigator = investigator
        self._pursuer = pursuer
        self._reconciler = reconciler
        self._filer = filer
        self._sender = sender
        self._head_signer = head_signer
        self._heads = FilePublisher(settings.store.heads, crossing)
        self._published = 0
        self._said: dict[str, str] = {}
        #: (head, changes of the store) at the end of the last round in which nothing moved and nothing went wrong
        self._quiet: tuple[Block, int] | None = None
        self._waiting = False
        self._indexed: Cursor | None = None
        self._wakeup = wakeup(settings)

    async def step(self) -> bool:
        """Follow, sample, file, pursue, send: one round; True when something of ours moved.

        Each stage has its turn whatever went wrong in another: an endpoint that refuses logs must not keep a
        transaction from being sent. The first trouble is raised at the end.
        """
        moved, troubles = False, []
        for stage in (self._follow, self._decide, self._send):
            # chain time moves with the head only: where neither it nor a row has changed, nothing has become due
            if stage != self._follow and self._quiet is not None and self._quiet == self._now_at():
                break
            try:
                moved |= await stage()
            except TakenOver:
                raise
            except (Expected, StoreError) as error:
                troubles.append(error)
        at = self._now_at()
        self._quiet = None if moved or troubles or self._waiting or self.held else at
        if troubles:
            raise troubles[0]
        return moved

    def _now_at(self) -> tuple[Block, int] | None:
        head = self._follower.head
        return None if head is None else (head, self.store.changes)

    async def _follow(self) -> bool:
        """The next blocks, a bounded number of ranges at a time; True when there are more."""
        index = self.store.index()
        for _ in range(_RANGES):
            if not await self._follower.step():
                return False
            before, self._indexed = self._indexed, await index.cursor()
            if before is not None and self._indexed is not None and self._indexed.block < before.block:
                # the index went back: how deep a reorganisation goes here is learned, in seconds
                seconds = (before.block - self._indexed.block) * self.learned.block_time
                async with self.store.begin(self.clock.latest) as unit:
                    await self.learned.add(unit, "depth", seconds)
        return True

    async def _decide(self) -> bool:
        async with self.store.read() as view:
            head = await view.chain.head()
        if head is None:
            return False
        # the index may be behind: what is decided now is decided at the chain's time
        latest = self._follower.head
        head = replace(head, time=self.clock.seen(head.time if latest is None else max(head.time, latest.time)))
        self.telemetry.metrics.set(HEAD_BLOCK, head.number)
        moved, troubles = False, []
        spends = (*((self._filer.step,) if self._filer else ()), self._pursuer.step)
        for stage in (self._reconciler.step, self._sampler.step, *spends):
            if self.held and stage in spends:
                continue
            try:
                moved |= await stage(head)
            except PlantedRefused as error:
                # nothing was written and nothing sent; the service goes on, for all else is in order
                self.telemetry.alerts.alert("planted-filing", why=str(error))
            except Expected as error:
                troubles.append(error)
        await self.publish(head.time, every=self.settings.store.heads_every)
        if troubles:
            raise troubles[0]
        return moved

    async def publish(self, now: UnixTime, *, every: int = 1) -> None:
        """Publishes the journal's head outside the database once ``every`` new entries are there."""
        async with self.store.read() as view:
            seq = (await view.journal.tip()).seq
        if seq >= self._published + every:
            await publish_head(self.store, self._head_signer, self._heads, now)
            self._published = seq

    @property
    def held(self) -> str:
        """Why nothing may be spent until the chain was read; empty when it may."""
        return self._reconciler.holding

    async def investigate(self) -> bool:
        """Replays and confirmations that may be done now; True when something moved."""
        return not self.held and await self._investigator.step()

    async def gather(self) -> bool:
        """Fetches data of new commitments, drawn or not; True when there were any."""
        return await self._investigator.gather()

    async def selftest(self) -> bool:
        """Plants and judges one known fraud when one is due and the workers rest; True when one was."""
        return not self.held and await self._selftest.step()

    async def approve(self, model: str, person: str, note: str) -> int:
        """A person approves filing against providers of ``model`` (0x hex; empty: all). Returns pauses lifted."""
        return await approve(self.store, await self._now(), model, person, note)

    async def run(self, stop: asyncio.Event) -> None:
        """All loops until ``stop`` is set. What the outside world does wrong is said and survived; only another
        process that took over the account (``TakenOver``), or a bug, ends the service."""
        tune_collector()
        say("started", mode=str(self.settings.mode), database=self.store.where, endpoint=self.rpc.name)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop("chain", self.step, stop))
            group.create_task(self._loop("replay", self.investigate, stop))
            group.create_task(self._loop("data", self.gather, stop))
            group.create_task(self._loop("self-test", self.selftest, stop))
            group.create_task(self.telemetry.alerts.run(stop))
            group.create_task(until_lost(self._keeper, stop))
            if self._wakeup is not None:
                group.create_task(self._wakeup.run(stop), name="wakeup")
        async with self.store.read() as view:
            head = await view.chain.head()
        if head is not None:
            await self.publish(head.time)
        say("stopped")

    async def _loop(self, name: str, turn: Turn, stop: asyncio.Event) -> None:
        seconds = self.settings.chain.poll
        # a head that is heard of wakes the one loop that looks at the chain
        heard = self._wakeup.heard if self._wakeup is not None and name == "chain" else None
        while not stop.is_set():
            moved = False
            try:
                moved = await turn()
                self._said.pop(name, None)
            except TakenOver:
                raise
            except (Expected, StoreError) as error:
                self._once(name, error)
            if not moved:
                await pause(stop, heard, seconds)

    def _once(self, name: str, error: ChallengerError) -> None:
        """The same trouble is said once, not at every poll."""
        if self._said.get(name) != str(error):
            self._said[name] = str(error)
            say("trouble", level=logging.WARNING, loop=name, error=str(error))

    async def _send(self) -> bool:
        if self._sender is None or self.held:
            return False
        report = await self._sender.step()
        for move in report.moved:
            intent = move.intent
            say(
                "transaction",
                purpose=intent.action.value,
                subject=intent.subject,
                state=move.new.value,
                why=move.detail,
            )
        for trouble in report.troubles:
            if trouble.kind == "planted":
                self.telemetry.alerts.alert("planted-filing", why=trouble.detail)
            self._once(f"transaction {trouble.row}", Expected(f"{trouble.kind}: {trouble.detail}"))
        self._waiting = bool(report.troubles)
        return bool(report.moved)

    async def _now(self) -> UnixTime:
        return await self.clock()


async def approve(store: Store, now: UnixTime, model: str, person: str, note: str) -> int:
    async with store.begin(now) as unit:
        pauses = [pause for pause in await unit.approvals.active() if not model or pause.subject == model.lower()]
        for pause in pauses:
            await unit.approvals.resume(pause.id, person, note)
    return len(pauses)


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
    stop: asyncio.Event | None = None,
) -> AsyncIterator[App]:
    """The watcher that ``settings`` describe, everything checked that must hold before it starts. While another
    process works for its account it stands by, until ``stop`` is set; without ``stop`` it raises HeldElsewhere.

    ``rpc`` stands in for the first endpoint (a chain in this process), ``others`` for the rest, ``files`` and ``workers`` for the artefact store
    and the replay pool, ``crossing`` is told of every persisted transition, ``engine``
    makes the database's connections, ``entropy`` the epochs' secrets; ``monotonic``
    tells when an endpoint that failed is tried again. Raises ConfigError, WrongChain, WrongContract,
    EndpointError or StoreError, one line each.
    """
    addresses(settings)
    chain = settings.chain
    telemetry = instruments(settings)
    async with AsyncExitStack() as stack:
        spread = random.Random(entropy(16))  # noqa: S311 - spreads retries, decides nothing
        endpoints = await stack.enter_async_context(
            open_endpoints(settings, telemetry, rpc, others, clock=monotonic, rng=spread)
        )
        signer = load_signer(settings)
        account = None if signer is None else signer.address
        secret = b"" if signer is None else signer.derive_secret(b"salt")
        adapter = ReferenceAdapter(
            endpoints.rpc,
            ChainId(chain.chain_id),
            chain.market,
            account=account,
            secret=secret,
            anchor=chain.anchor or None,
        )
        await adapter.check()
        store = await stack.enter_async_context(open_store(settings.store.url, crossing=crossing, engine=engine))
        head = await endpoints.rpc.block("latest")
        async with store.begin(head.time) as unit:
            await unit.settings.pin("deployment", f"{chain.chain_id}/{chain.market}")
        telemetry.alerts.send_to(JournalSink(store))
        if isinstance(telemetry.metrics, Prometheus):
            await stack.enter_async_context(serve(telemetry.metrics, settings.telemetry.metrics))
        seconds = settings.filing.lease_seconds
        lease, keeper = await stack.enter_async_context(leased(store, account or "watch", seconds, stop))
        if files is None:
            files = await stack.enter_async_context(artifact_store(settings))
        if workers is None:
            workers = await stack.enter_async_context(replay_pool(settings))
        yield await _wire(
            settings, store, endpoints, adapter, signer, files, workers, lease, keeper, telemetry, crossing, entropy
        )


async def _wire(
    settings: Settings,
    store: Store,
    endpoints: Endpoints,
    adapter: ReferenceAdapter,
    signer: WatcherKey | None,
    files: Files,
    workers: Workers,
    lease: Lease,
    keeper: asyncio.Future[None],
    telemetry: Instruments,
    crossing: Hook | None,
    entropy: Callable[[int], bytes],
) -> App:
    rpc, chain, filing = endpoints.rpc, settings.chain, settings.filing
    agreement = endpoints.agreement(settings, store, adapter)
    live = settings.mode in (Mode.LIVE, Mode.CONFIRM) and signer is not None
    account = None if signer is None else signer.address

    clock = ChainClock(rpc, telemetry, stale=None if chain.embedded else settings.telemetry.stale_seconds)
    lead = filing.safety_seconds
    engine = Engine(files, workers, model_bytes=settings.replay.fetch_bytes, bundle_bytes=settings.replay.input_bytes)
    pace = Pace(
        settings.replay.backend,
        settings.replay.confirm_backend,
        settings.replay.attempts,
        settings.replay.retry_seconds,
        settings.replay.workers,
        margin=lead,
        demands=account is not None and settings.mode is not Mode.WATCH,
    )
    backends = (settings.replay.backend, settings.replay.confirm_backend)
    learned = Learned(store, course(adapter, chain.confirmations), backends)
    backlog = Backlog(
        store,
        learned,
        telemetry,
        reward=bounty(adapter),
        workers=settings.replay.workers,
        files=pace.demands,
        margin=lead,
    )
    filer = sender = None
    if account is not None and signer is not None and settings.mode is not Mode.WATCH:
        limits = Limits(
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
        patience = Patience(lead, settings.replay.retry_seconds, filing.correlated_seconds)
        filer = Filer(store, adapter, rpc, account, limits, patience, learned, telemetry, agreement)
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
            explain=explain,
            crossing=after_act(crossing, BROADCAST),
        )
    rates = settings.sampling
    sampler = Sampler(
        store,
        rpc,
        Policy(rates.base, rates.newcomer, rates.trusted_after, rates.offender, margin=rates.margin),
        Anchoring(adapter, live=live),
        account=account,
        burnt=burnt_share(adapter),
        start=BlockNumber(chain.start_block),
        length=rates.epoch_blocks,
        delay=rates.delay,
        depth=chain.confirmations,
        entropy=entropy,
    )
    following = FollowerOptions(start=chain.start_block, depth=chain.ledger_depth)
    follower = Follower(endpoints.reader(), store.index(), adapter, following, on_malformed=left_out)
    reconciler = await Reconciler.started(
        store, rpc, account if live else None, lambda: follower.head, FilePublisher(settings.store.heads)
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
    return App(
        settings,
        store,
        rpc,
        adapter,
        follower,
        sampler,
        Investigator(store, engine, agreement, clock, pace, learned, backlog, telemetry, idle),
        Pursuer(store, adapter, account if live else None, depth=chain.confirmations),
        reconciler,
        filer,
        sender,
        HeadSigner(signer if isinstance(signer, LocalSigner) else None),
        telemetry,
        clock,
        learned,
        keeper,
        selftest,
        crossing,
    )
