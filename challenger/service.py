"""A running watcher: its loops, its turns, and when they have something to do. ``app.py`` makes one from settings."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from challenger.audit.journal import HeadSigner
from challenger.chain.follower import Follower
from challenger.chain.rpc import Rpc
from challenger.chain.sender import Sender
from challenger.chain.wakeup import pause
from challenger.domain import Address, Block, Cursor, State, UnixTime
from challenger.endpoints import wakeup
from challenger.errors import ChallengerError, Expected, NeverFiled, NotInRecord, StoreError, TakenOver
from challenger.evidence.keeper import Keeper
from challenger.lease import until_lost
from challenger.parts import (
    tune_collector,
)
from challenger.pipeline.clock import ChainClock
from challenger.pipeline.file import Filer
from challenger.pipeline.investigate import Investigator
from challenger.pipeline.learned import Learned
from challenger.pipeline.purse import Purse
from challenger.pipeline.pursue import Pursuer
from challenger.pipeline.reconcile import Reconciler
from challenger.pipeline.sample import Sampler
from challenger.pipeline.selftest import SelfTest
from challenger.protocols.base import Adapter
from challenger.settings import Settings
from challenger.store.crossing import Hook
from challenger.store.engine import Store
from challenger.store.heads import FilePublisher, publish_head
from challenger.store.keep import EVERYTHING, scope_of
from challenger.store.reorgs import REDRAWN
from challenger.store.rows import PauseRow
from challenger.store.subjects import subject_of
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say
from challenger.telemetry.metrics import HEAD_BLOCK

#: Log ranges indexed before the other stages have their turn.
_RANGES = 50
#: States in which a case waits for a pause to end.
_KEPT = (State.SAMPLED, State.UNAVAILABLE, State.CONFIRMED)
_LOOKS = "look"
#: Servers of data that are waited for at a time.
LOOKERS = 16
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
        adapter: Adapter,
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
        evidence: Keeper | None,
        purse: Purse | None,
        account: Address | None,
        crossing: Hook | None = None,
    ) -> None:
        self.account = account
        self.learned = learned
        self.settings = settings
        self.clock = clock
        self._keeper = keeper
        self._selftest = selftest
        self._evidence = evidence
        self._purse = purse
        self.telemetry = telemetry
        self.store = store
        self.rpc = rpc
        self.adapter = adapter
        self._follower = follower
        self._sampler = sampler
        self._investigator = investigator
        self._lookout = investigator.lookout
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

        Each stage has its turn whatever went wrong in another: neither an endpoint that refuses logs nor a mistake of our
        own must keep a transaction from being sent. The first trouble is raised at the end, one that nobody foresaw before
        all others.
        """
        moved = False
        troubles: list[Exception] = []
        for stage in (self._follow, self._decide, self._send):
            # chain time moves with the head only: where neither it nor a row has changed, nothing has become due
            if stage != self._follow and self._quiet is not None and self._quiet == self._now_at():
                break
            try:
                moved |= await stage()
            except TakenOver:
                raise
            except Exception as error:  # noqa: BLE001 - raised below
                troubles.append(error)
        at = self._now_at()
        self._quiet = None if moved or troubles or self._waiting or self.held else at
        if troubles:
            raise _worst(troubles)
        return moved

    def _now_at(self) -> tuple[Block, int] | None:
        head = self._follower.head
        return None if head is None else (head, self.store.changes)

    async def _follow(self) -> bool:
        """The next blocks, a bounded number of ranges at a time; True when there are more."""
        index = self.store.index()
        for _ in range(_RANGES):
            more = await self._follower.step()
            self.telemetry.health.looked()
            if not more:
                return False
            before, self._indexed = self._indexed, await index.cursor()
            if before is not None and self._indexed is not None and self._indexed.block < before.block:
                # the index went back: how deep a reorganisation goes here is learned, in seconds
                seconds = (before.block - self._indexed.block) * self.learned.now.block_time
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
        moved = False
        troubles: list[Exception] = []
        spends = (self._file, self._pursuer.step)
        looks = (self._purse.step,) if self._purse else ()
        for stage in (self._reconciler.step, self._sampler.step, *spends, *looks):
            if self.held and stage in spends:
                continue
            try:
                moved |= await stage(head)
            except NeverFiled as error:
                # nothing was written and nothing sent; the service goes on, for all else is in order
                self.telemetry.alerts.alert("planted-filing", why=str(error))
            except TakenOver:
                raise
            except Exception as error:  # noqa: BLE001 - raised below
                troubles.append(error)
        await self.publish(head.time, every=self.settings.store.heads_every)
        if troubles:
            raise _worst(troubles)
        return moved

    async def _file(self, head: Block) -> bool:
        """What it wishes for is sent at once: whatever else there is to do has time."""
        if self._filer is None:
            return False
        try:
            moved = await self._filer.step(head)
        except TakenOver:
            raise
        except Exception:
            if self._filer.wished:  # by a case that had no part in the trouble
                await self._send()
            raise
        return (await self._send() or moved) if self._filer.wished else moved

    async def publish(self, now: UnixTime, *, every: int = 1) -> None:
        """Publishes the journal's head outside the database once ``every`` new entries are there, or one by which a
        reorganisation voided a draw or left it in force: what is kept of it afterwards is excused by published entries alone."""
        async with self.store.read() as view:
            seq = (await view.journal.tip()).seq
            pressing = seq > self._published and await view.journal.latest(REDRAWN) > self._published
        if pressing or seq >= self._published + every:
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
        """Fetches data: of what was drawn, then of new commitments, drawn or not; True when there were any. The loops of
        ``run`` do both side by side."""
        moved, now = False, await self._now()
        while not self.held and (await self._lookout.look(now, near=True) or await self._lookout.look(now)):
            moved = True
        return await self.prefetch() or moved

    async def look(self) -> bool:
        """Looks for the data of one commitment that was drawn; True when there was one. Several may run at once."""
        return not self.held and await self._lookout.look(self.clock.latest)

    async def look_near(self) -> bool:
        """As ``look``, at one for which no server need be asked."""
        return not self.held and await self._lookout.look(self.clock.latest, near=True)

    async def prefetch(self) -> bool:
        """Fetches data of new commitments, drawn or not; True when there were any."""
        return await self._lookout.prefetch()

    async def selftest(self) -> bool:
        """Plants and judges one known fraud when one is due and the workers rest; True when one was."""
        return not self.held and await self._selftest.step()

    async def keep_evidence(self) -> bool:
        """Writes the bundle on one confirmed fraud that has none yet, when the workers rest; True when it did. Never
        where the protocol has no bundles."""
        return self._evidence is not None and not self.held and await self._evidence.step()

    async def approve(self, model: str, person: str, note: str) -> int:
        """A person approves filing against providers of ``model`` (0x hex; empty: all). Returns pauses lifted."""
        return len(await approve(self.store, await self._now(), model, person, note))

    async def run(self, stop: asyncio.Event) -> None:
        """All loops until ``stop`` is set. What goes wrong in a turn is said and survived, a mistake of our own too: windows
        run on, and the rows say where to go on. Only another process that took over the account (``TakenOver``), or a
        mistake outside the loops, ends the service."""
        tune_collector()
        say("started", mode=str(self.settings.mode), database=self.store.where, endpoint=self.rpc.name)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._loop("chain", self.step, stop))
            group.create_task(self._loop("replay", self.investigate, stop))
            group.create_task(self._loop("data", self.prefetch, stop))
            group.create_task(self._loop("near", self.look_near, stop))
            for _ in range(LOOKERS):
                group.create_task(self._loop(_LOOKS, self.look, stop))
            group.create_task(self._loop("self-test", self.selftest, stop))
            group.create_task(self._loop("evidence", self.keep_evidence, stop))
            group.create_task(self.telemetry.alerts.run(stop))
            group.create_task(self._watch_over(stop))
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
                # of several that look, those that found nothing to do say nothing of the rest
                if moved or name != _LOOKS:
                    self._said.pop(name, None)
                    self.telemetry.alerts.clear("crashed", name)
            except TakenOver:
                raise
            except (Expected, StoreError) as error:
                self._once(name, error)
            except Exception as error:  # noqa: BLE001 - told with all that is known of it
                self._crashed(name, error)
            if not moved:
                await pause(stop, heard, seconds)

    async def _watch_over(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.say_if_stalled()
            await pause(stop, None, self.settings.chain.poll)

    def say_if_stalled(self) -> None:
        """That no look at the chain comes to its end, whatever keeps it: an endpoint, the database, a call that hangs."""
        if (seconds := self.telemetry.health.stalled()) is None:
            self.telemetry.alerts.clear("stalled")
        else:
            self.telemetry.alerts.alert("stalled", seconds=seconds, why=self._said.get("chain", "it hangs"))

    def _once(self, name: str, error: ChallengerError) -> None:
        """The same trouble is said once, not at every poll."""
        if self._said.get(name) != str(error):
            self._said[name] = str(error)
            say("trouble", level=logging.WARNING, loop=name, error=str(error))

    def _crashed(self, name: str, error: Exception) -> None:
        """A turn ended as nobody foresaw: a person has to know, and the next turn may do better."""
        why = str(error) if isinstance(error, ChallengerError) else repr(error)
        if self._said.get(name) != why:
            self._said[name] = why
            trace = "".join(traceback.format_tb(error.__traceback__))
            say("crashed", level=logging.ERROR, loop=name, error=why, traceback=trace)
        self.telemetry.alerts.alert("crashed", about=name, error=why)

    async def _send(self) -> bool:
        if self._sender is None:
            return False
        report = await self._sender.step(held=bool(self.held))
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
            if trouble.kind in ("planted", "audit"):
                self.telemetry.alerts.alert("planted-filing", why=trouble.detail)
            self._once(f"transaction {trouble.row}", Expected(f"{trouble.kind}: {trouble.detail}"))
        self._waiting = bool(report.troubles)
        return bool(report.moved)

    async def _now(self) -> UnixTime:
        return await self.clock()


def _worst(troubles: Sequence[Exception]) -> Exception:
    """The first that nobody foresaw, else the first."""
    return next((one for one in troubles if not isinstance(one, Expected | StoreError)), troubles[0])


class UnseenPause(NotInRecord):
    """nothing was lifted, since a pause that was not shown is in force by now"""


async def approve(
    store: Store, now: UnixTime, model: str, person: str, note: str, seen: Collection[int] | None = None
) -> list[PauseRow]:
    """Lifts the pauses of ``model`` (empty: all, whatever they are for; EVERYTHING: those of all filing), and has the cases
    that they kept waiting looked at at once. Returns what was lifted.

    ``seen``: the ids of all pauses that the person was shown. Raises UnseenPause, and lifts nothing, when another one is in
    force by now."""
    async with store.begin(now) as unit:
        active = await unit.approvals.active()
        unseen = [] if seen is None else [pause for pause in active if pause.id not in seen]
        if unseen:
            raise UnseenPause("; ".join(f"{one.reason}, {scope_of(one.subject)}: {one.detail}" for one in unseen))
        pauses = [pause for pause in active if not model or pause.subject == model.lower()]
        for pause in pauses:
            await unit.approvals.resume(pause.id, person, note)
        about = {pause.subject for pause in pauses}
        for item in await unit.work.items(_KEPT, limit=10_000) if pauses else ():
            # of those that are sampled, the ones whose data was away are fetched again
            tried = item.work.attempts > 0 or item.work.state != State.SAMPLED
            if tried and item.work.next_try > 0 and about & {EVERYTHING, subject_of(item.commitment.model)}:
                await unit.work.note(item.work.commitment, State(item.work.state), next_try=UnixTime(0))
    return pauses
