"""From drawn to judged: fetch the data, replay, and have a second backend reproduce every accusation.

The most urgent first; what no longer fits its window is shed, visibly. A stage that dies leaves its row where it was
and the next start does it again: nothing here is kept in memory that the rows do not say.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from challenger.domain import (
    NEVER,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    Committed,
    Hash32,
    ModelId,
    ModelRegistered,
    Part,
    State,
    TaskOpened,
    UnixTime,
    Verdict,
    VerdictKind,
)
from challenger.errors import Expected, FetchRefused, OwnGateways, StaleRow, StoreError
from challenger.pipeline.backlog import Backlog, Plan, in_turn
from challenger.pipeline.closing import Closing
from challenger.pipeline.engine import Replays
from challenger.pipeline.idle import Idle
from challenger.pipeline.judge import confirms
from challenger.pipeline.learned import Learned, action_of
from challenger.pipeline.observe import OWN_GATEWAYS, PASSING, Away, Observer, missing
from challenger.pipeline.overdue import Overdue
from challenger.pipeline.schedule import demand_by, later, look_again, soon
from challenger.silence import OUTAGE, looks, patient, withheld
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, VerdictRow
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.store.work import Item, Waiting
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import LOGGER
from challenger.telemetry.metrics import READMITTED, REPLAY_SECONDS, SHED, VERDICTS

Clock = Callable[[], Awaitable[UnixTime]]
#: Commitments whose data is fetched in one turn; rows moved in one transaction.
_PAGE = 100
#: Looks at a silent server for which there is room before the last moment of a demand.
_LOOKS = 8
_BATCH = 500


class Agreement(Protocol):
    """Whether independent endpoints show the same commitment, task and model; why not, else empty."""

    async def disagreement(self, case: Sequence[ChainEvent]) -> str: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """``attempts``: tries before a worker's failure is final; ``retry``: chain seconds between two tries, fewer when the
    window closes soon; ``workers``: replays at once; ``margin``: seconds before a close after which nothing is filed;
    ``demands``: whether the filing stage takes up what is unavailable; ``fetches`` under way at a time;
    ``planned``: where more than 0, so many replays follow one plan, one after the other instead of at once (a simulation,
    in which everything has one order)."""

    backend: str
    confirm_backend: str
    attempts: int
    retry: int
    workers: int
    margin: int
    demands: bool
    fetches: int = 8
    planned: int = 0


class Investigator:
    def __init__(
        self,
        store: Store,
        engine: Replays,
        agreement: Agreement,
        clock: Clock,
        pace: Pace,
        learned: Learned,
        backlog: Backlog,
        closing: Closing,
        telemetry: Instruments,
        idle: Idle | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monotonic = monotonic
        self._store = store
        self._engine = engine
        self._observer = Observer(store, engine)
        self._agreement = agreement
        self._clock = clock
        self._pace = pace
        self._learned = learned
        self._backlog = backlog
        self._closing = closing
        self._overdue = Overdue(store, closing, telemetry, pace.retry)
        self._telemetry = telemetry
        self._idle = idle or Idle()
        self._gathered: tuple[BlockNumber, int] | None = None
        #: Whose data is being looked for, or which are replayed.
        self._busy: set[CommitmentId] = set()
        #: Of those whose data was looked for and which are to be replayed: what of it is not to be had.
        self._at_hand: dict[CommitmentId, Away] = {}
        #: The same of frauds to be confirmed.
        self._wanting: dict[CommitmentId, Away] = {}
        self._found = 0
        self._choosing = asyncio.Lock()
        self._looks: tuple[tuple[int, int, UnixTime] | None, list[Waiting]] = (None, [])
        #: Models whose files were here when they were last looked for, and those for which somebody is on the way.
        self._here: set[ModelId] = set()
        self._bringing: set[ModelId] = set()
        self._seen: dict[str, tuple[int, int, UnixTime]] = {}

    async def step(self) -> bool:
        """One round over everything that may be worked on now; True when something moved."""
        now = await self._clock()
        if self._nothing_new("step", now):
            return False
        seen = self._store.changes, self._found, now
        plan = await self._backlog.plan(now, self._at_hand)
        await self._put_aside(plan, now)
        await self._again(now)
        # a fraud in hand outranks everything and is never shed; few at a time: what becomes urgent is not kept waiting
        next_ones = [one for one in (*plan.accused, *plan.replays) if one not in self._busy]
        next_ones = next_ones[: self._pace.planned or self._pace.workers]
        async with self._store.read() as view:
            urgent = await view.work.some(next_ones)
        if self._pace.planned:
            for item in urgent:
                await self._handle(item)
        else:
            await _together(self._handle(item) for item in urgent)
        given_up = await self._overdue.look(plan.late, now, busy=bool(urgent))
        moved = bool(urgent or given_up or plan.shed or plan.back)
        if not moved:
            self._idle.rest()
            self._seen["step"] = seen
        return moved

    def _nothing_new(self, turn: str, now: UnixTime) -> bool:
        """Whether nothing has changed since a turn that found nothing to do: no row, no data that came, nor the chain's time."""
        return self._seen.get(turn) == (self._store.changes, self._found, now)

    async def _put_aside(self, plan: Plan, now: UnixTime) -> None:
        metrics, alerts = self._telemetry.metrics, self._telemetry.alerts
        if plan.shed:
            await self._many(plan.shed, State.SHED, "the backlog exceeds the slack", now)
            metrics.count(SHED, len(plan.shed))
            alerts.alert("shed", count=len(plan.shed), queue=len(plan.replays))
        elif plan.back:
            await self._many(plan.back, State.SAMPLED, "", now)
            metrics.count(READMITTED, len(plan.back))
        if not plan.aside:
            alerts.clear("shed")

    async def _many(self, which: Sequence[CommitmentId], new: State, why: str, now: UnixTime) -> None:
        """Moves many rows in a few transactions; those that the chain moved meanwhile stay."""
        old = {State.SHED: State.SAMPLED, State.SAMPLED: State.SHED}[new]
        for start in range(0, len(which), _BATCH):
            async with self._store.begin(now) as unit:
                for commitment in which[start : start + _BATCH]:
                    with suppress(StaleRow):
                        await unit.work.move(commitment, old, new, detail=why, next_try=0)

    async def _handle(self, item: Item) -> None:
        await self._idle.take()
        await self._guarded(item, self._replay(item) if item.work.state == State.SAMPLED else self._confirm(item))

    async def _guarded(self, item: Item, work: Coroutine[Any, Any, None]) -> None:
        """One commitment's trouble is its own."""
        try:
            await work
        except StaleRow:
            return  # a reorg, a finalisation or another process came between: the row says what is next
        except Expected as error:
            await self._later(item, str(error))
        except StoreError:
            raise  # the database's trouble is everybody's: the loop says so and comes back
        except Exception as error:  # noqa: BLE001 - one poisonous commitment must not stop the watch over all others
            about = subject_of(item.work.commitment)
            self._telemetry.alerts.alert("bug", about=about, error=repr(error))
            LOGGER.debug("while judging", exc_info=error)
            await self._later(item, f"internal: {type(error).__name__}", give_up=True)

    # the data, for drawn and undrawn alike: a fetch betrays no draw

    async def gather(self) -> bool:
        """Fetches what was committed by URI for everything newly observed, drawn or not; True when there was any."""
        now = await self._clock()
        if self._nothing_new("gather", now):
            return False
        seen = self._store.changes, self._found, now
        wanted = await self._newly_observed(now)
        if not wanted:
            self._seen["gather"] = seen
            return False
        async with self._store.read() as view:
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in wanted])
        gate = asyncio.Semaphore(self._pace.fetches)

        async def fetch(uri: str, root: Hash32, length: int) -> None:
            async with gate:
                try:
                    await self._engine.bundle(uri, root, length)
                except (FetchRefused, OwnGateways):
                    return  # the look at it says so, should it be drawn

        fetches = []
        for item in wanted:
            row, task = item.commitment, tasks.get(item.commitment.task)
            if task is not None and task.input_uri:
                fetches.append(fetch(task.input_uri, task.input_root, task.input_length))
            if row.output_uri:
                fetches.append(fetch(row.output_uri, row.output_root, row.output_length))
        await _together(fetches)
        self._gathered = (wanted[-1].commitment.block, wanted[-1].commitment.log_index)
        return True

    async def _newly_observed(self, now: UnixTime) -> list[Item]:
        """The next page of commitments in chain order. A reorganisation may put one where we have been: then only
        the replay fetches it."""
        states = [State.OBSERVED, State.SKIPPED, State.SAMPLED]
        async with self._store.read() as view:
            if self._gathered is None:
                first = await view.work.first_open(now)
                if first is None:
                    return []
                self._gathered = (BlockNumber(first - 1), 0)
            return await view.work.following(states, self._gathered, closes_after=now, limit=_PAGE)

    # the data of what was drawn: no replay waits for a server, and no look at one costs a replay

    async def look(self, now: UnixTime, *, near: bool = False) -> bool:
        """Looks for what the replay of one drawn commitment needs; True when there was one. Several may run at once: each
        waits for its server only. ``near``: only those that need none, which wait for nobody who does. ``now``: chain time as
        it was last seen, so that asking whether there is anything to do costs no endpoint a request."""
        row = await self._to_look_at(now, near=near)
        if row is None:
            return False
        chosen = row.commitment
        try:
            async with self._store.read() as view:
                items = await view.work.some([chosen])
            for item in items:
                # what waited in the queue may have been looked at since by another
                if item.work.state == State.SAMPLED and item.work.next_try <= now:
                    await self._guarded(item, self._look_at(item, now))
        finally:
            self._busy.discard(chosen)
            self._bringing.discard(row.model)
        return True

    async def _to_look_at(self, now: UnixTime, *, near: bool) -> Waiting | None:
        """The next one, which is busy from now on."""
        async with self._choosing:
            key = self._store.changes, self._closing.news, now
            before, queue = self._looks
            # what is new meanwhile waits for the queue's end, or a block
            if before is None or before[1:] != key[1:] or (not queue and before != key):
                async with self._store.read() as view:
                    rows = self._closing.prolonged(await view.work.waiting([State.SAMPLED], ready=now))
                there = {row.commitment for row in rows}
                self._at_hand = {one: away for one, away in self._at_hand.items() if one in there}
                ready = [row for row in rows if now < row.closes and row.commitment not in self._at_hand]
                self._looks = key, in_turn(ready)
        queue = self._looks[1]
        found = next((number for number, row in enumerate(queue) if self._may_be_looked_at(row, near=near)), None)
        if found is None:
            return None
        row = queue.pop(found)
        self._busy.add(row.commitment)
        if row.model not in self._here:
            self._bringing.add(row.model)
        return row

    def _may_be_looked_at(self, row: Waiting, *, near: bool) -> bool:
        if row.commitment in self._busy or row.commitment in self._at_hand:
            return False
        if row.model in self._here:
            return not (near and row.behind)
        # one at a time finds out whether a model's files can be had: the others hear of it
        return not near and row.model not in self._bringing

    async def _look_at(self, item: Item, began: UnixTime) -> None:
        commitment = CommitmentId(item.work.commitment)
        right, model = await self._replayed(item), item.commitment.model
        if right is None:
            if (away := await self._observer.weights(item.commitment)) is not None:
                self._here.discard(model)
                await self._record(item, away, None, began)
                return
            self._here.add(model)
        self._bringing.discard(model)  # what follows is this commitment's own affair
        found = await self._observer.look(item.commitment, self._pace.backend)
        if isinstance(found, Verdict):
            await self._record(item, found, None, began)
            return
        if Part.INPUT in found:
            await self._record(item, missing(Part.INPUT, found[Part.INPUT]), None, began)
            return
        if right is None:
            self._at_hand[commitment] = found
            self._found += 1
        elif Part.OUTPUT in found:
            await self._record(item, missing(Part.OUTPUT, found[Part.OUTPUT], right), None, began)
        else:
            await self._record(item, right, None, began)

    async def _replayed(self, item: Item) -> Verdict | None:
        """What an earlier replay of this commitment said, if only the output was wanting: VALID."""
        if item.work.verdict is None:
            return None
        async with self._store.read() as view:
            found = await view.verdicts.get(item.work.verdict)
        if found is None or found.output_root is None:
            return None
        if found.kind != VerdictKind.UNAVAILABLE and not found.detail.startswith(OWN_GATEWAYS):
            return None
        return replace(as_verdict(found), kind=VerdictKind.VALID, detail="")

    # the first replay

    async def _replay(self, item: Item) -> None:
        began, commitment = self._monotonic(), CommitmentId(item.work.commitment)
        away = self._at_hand.pop(commitment, None)
        self._busy.add(commitment)  # until its row says so, it seems to wait for its data
        try:
            verdict = await self._observer.judge(item.commitment, self._pace.backend, fresh=False, away=away)
            if verdict.kind is VerdictKind.FRAUD and away:
                self._wanting[commitment] = away
            await self._record(item, verdict, self._monotonic() - began)
        finally:
            self._busy.discard(commitment)

    async def _record(self, item: Item, verdict: Verdict, took: float | None, began: UnixTime | None = None) -> None:
        """Keeps ``verdict`` and what follows from it. ``took``: seconds of a replay, None where there was none; ``began``: chain
        time at which it was looked for."""
        self._measured(item, verdict, took, "replay", self._pace.backend)
        commitment, tries = CommitmentId(item.work.commitment), item.work.attempts + 1
        now = await self._clock()
        async with self._store.begin(now) as unit:
            identity = await unit.verdicts.add(commitment, verdict, fresh=False)
            vain = await unit.verdicts.vain(commitment) if verdict.kind is VerdictKind.UNAVAILABLE else []
            facts: dict[str, Any] = {"verdict": identity, "detail": verdict.detail, "attempts": tries}
            if verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
                # a valid one has nothing more to say
                rest = {"attempts": 0, "next_try": NEVER if verdict.kind is VerdictKind.VALID else 0}
                await unit.work.move(commitment, State.SAMPLED, State.REPLAYED, **facts | rest)
                if took is not None:
                    await self._learned.add(unit, action_of("replay", item.commitment.model, self._pace.backend), took)
            elif not self._settled(item, verdict, vain, now, tries):
                # later and later: an outage of minutes must not use up all tries
                await unit.work.note(
                    commitment, State.SAMPLED, next_try=self._next(item, verdict, began or now, now, tries), **facts
                )
            else:
                kind = verdict.kind is VerdictKind.UNAVAILABLE
                await unit.work.move(
                    commitment, State.SAMPLED, State.UNAVAILABLE if kind else State.INCONCLUSIVE, **facts
                )

    def _next(self, item: Item, verdict: Verdict, began: UnixTime, now: UnixTime, tries: int) -> UnixTime:
        """When to judge again, so that a demand, or the rest of the way to a challenge, still fits; and never one try upon
        the other. That it will not fit is a careful guess: tries that are left are spread over what is left of the window."""
        row, until = item.commitment, self._demand_by(item)
        if patient(verdict.detail) or verdict.detail.startswith(OWN_GATEWAYS):
            # each look at who does not answer counts: what a server's silence took is no pause besides
            return max(UnixTime(now + 1), soon(began, until, self._pace.retry))
        if verdict.kind is VerdictKind.UNAVAILABLE:
            return max(look_again(now, until, tries, self._pace.retry), soon(now, until, self._pace.retry))
        until = UnixTime(int(row.closes - self._learned.now.ahead(row.model).total()))
        at_leisure = max(look_again(now, until, tries, self._pace.retry), self._soon(item, now, tries))
        return at_leisure if until <= now else min(at_leisure, until)  # not made late by our own wait

    def _demand_by(self, item: Item) -> UnixTime:
        row = item.commitment
        until = self._learned.now.demanded_by(row.committed_at, row.closes)
        return demand_by(until, self._learned.now.demand(row.model), self._pace.margin)

    def _last_look(self, item: Item) -> UnixTime:
        """Until when silence that may be ours is borne: as long as a demand fits twice, and a few looks."""
        ahead = self._learned.now.demand(item.commitment.model)
        twice = max(int(ahead.inclusion + ahead.depth), _LOOKS * self._pace.retry)
        return UnixTime(self._demand_by(item) - twice)

    def _settled(
        self, item: Item, verdict: Verdict, vain: Sequence[tuple[str, UnixTime]], now: UnixTime, tries: int
    ) -> bool:
        """Whether trying again is pointless. ``vain``: what was said of its data so far and when, newest first. A worker that failed
        gets all tries; a reason that cannot change with time gets one."""
        if verdict.kind is VerdictKind.UNAVAILABLE:
            committed = item.commitment.committed_at
            passed = (now - committed) / max(1, self._demand_by(item) - committed)
            last = passed >= 3 / 4 or now >= self._last_look(item)
            outage = min(OUTAGE, (self._demand_by(item) - committed) // 8)
            return withheld(looks(vain), half=passed >= 1 / 2, last=last, outage=outage)
        if verdict.detail.startswith(OWN_GATEWAYS):
            return False
        return tries >= self._pace.attempts or not verdict.detail.startswith(PASSING)

    # the confirmation

    async def _confirm(self, item: Item) -> None:
        """Reproduces the accusation in a fresh process on the other backend, from chain data that all endpoints show."""
        commitment = CommitmentId(item.work.commitment)
        async with self._store.read() as view:
            case = await case_of(view, item.commitment)
        apart = await self._agreement.disagreement(case) if len(case) == 3 else "its task or model is not in the index"
        if apart:
            await self._later(item, f"endpoints disagree: {apart}")
            return
        began = self._monotonic()
        away = self._wanting.pop(commitment, None)
        second = await self._observer.judge(item.commitment, self._pace.confirm_backend, fresh=True, away=away)
        took = self._monotonic() - began
        self._measured(item, second, took, "confirm", self._pace.confirm_backend)
        async with self._store.read() as view:
            found = None if item.work.verdict is None else await view.verdicts.get(item.work.verdict)
        against = confirms(as_verdict(found), second) if found is not None else "the first verdict is not on record"
        now = await self._clock()
        async with self._store.begin(now) as unit:
            identity = await unit.verdicts.add(commitment, second, fresh=True)
            tries = item.work.attempts + 1
            if not against:
                await unit.work.move(
                    commitment, State.REPLAYED, State.CONFIRMED, confirmation=identity, attempts=0, next_try=0
                )
                # told before it is written: a death in between says it twice, and never not at all
                closes = item.commitment.closes
                self._telemetry.case(
                    "fraud-found", item.commitment, differs=second.detail, closes=closes, left=closes - now
                )
                action = action_of("confirm", item.commitment.model, self._pace.confirm_backend)
                await self._learned.add(unit, action, took)
            elif second.kind is VerdictKind.UNAVAILABLE or (
                second.kind is VerdictKind.INCONCLUSIVE and second.detail.startswith(PASSING)
            ):
                # a fraud in hand is worth every try that its window leaves, whatever failed so far
                again = self._soon(item, now, tries)
                await unit.work.note(commitment, State.REPLAYED, detail=against, attempts=tries, next_try=again)
            else:
                await unit.work.move(commitment, State.REPLAYED, State.INCONCLUSIVE, detail=f"not confirmed: {against}")

    # small things

    def _soon(self, item: Item, now: UnixTime, tries: int = 1) -> UnixTime:
        """When to try again what is to be filed once it succeeds, and failed ``tries`` times: later and later."""
        last = UnixTime(item.commitment.closes - self._pace.margin)
        return soon(now, last, later(tries, self._pace.retry))

    async def _again(self, now: UnixTime) -> None:
        """Where nobody demands it, data that is away is fetched again in a while, until the window closes."""
        if self._pace.demands:
            return
        async with self._store.read() as view:
            away = await view.work.items([State.UNAVAILABLE], ready=now, closes_after=now)
        if away:
            async with self._store.begin(now) as unit:
                for item in away:
                    again = look_again(now, item.commitment.closes, 3, self._pace.retry)
                    with suppress(StaleRow):
                        await unit.work.move(
                            CommitmentId(item.work.commitment),
                            State.UNAVAILABLE,
                            State.SAMPLED,
                            attempts=1,
                            next_try=again,
                        )

    def _measured(self, item: Item, verdict: Verdict, took: float | None, stage: str, backend: str) -> None:
        metrics = self._telemetry.metrics
        metrics.count(VERDICTS, kind=verdict.kind.value, stage=stage)
        if took is not None and verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
            metrics.observe(REPLAY_SECONDS, took, model=item.commitment.model.hex()[:16], backend=backend)

    async def _later(self, item: Item, why: str, *, give_up: bool = False) -> None:
        """Tries again in a while; with ``give_up`` only so often, then nothing is claimed."""
        now = await self._clock()
        if give_up and item.work.attempts + 1 >= self._pace.attempts:
            await self._move(item, State.INCONCLUSIVE, why)
            return
        async with self._store.begin(now) as unit:
            await unit.work.note(
                CommitmentId(item.work.commitment),
                State(item.work.state),
                detail=why,
                attempts=item.work.attempts + 1,
                next_try=self._soon(item, now),
            )

    async def _move(self, item: Item, new: State, why: str) -> None:
        try:
            async with self._store.begin(await self._clock()) as unit:
                await unit.work.move(CommitmentId(item.work.commitment), State(item.work.state), new, detail=why)
        except StaleRow:
            return  # moved meanwhile by what the chain said


async def _together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all to their end, then raises the first error of any: one failure cuts no other job short."""
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def case_of(view: View, row: CommitmentRow) -> list[ChainEvent]:
    """What an accusation rests on, as the events that the chain emitted: commitment, task and model."""
    case: list[ChainEvent] = []
    for aggregate, identity, kind in (
        ("commitment", row.commitment, Committed),
        ("task", row.task, TaskOpened),
        ("model", row.model, ModelRegistered),
    ):
        case += [event for event in await view.chain.history(aggregate, identity) if isinstance(event, kind)][:1]
    return case


def as_verdict(row: VerdictRow) -> Verdict:
    return Verdict(
        VerdictKind(row.kind),
        row.detail,
        row.backend,
        row.output_root,
        row.state_root,
        json.loads(row.environment),
        row.microseconds / 1_000_000,
    )
