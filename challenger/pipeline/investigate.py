"""From drawn to judged: replay, and have a second backend reproduce every accusation.

The most urgent first; what no longer fits its window is shed, visibly. A stage that dies leaves its row where it was
and the next start does it again: nothing here is kept in memory that the rows do not say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from challenger.domain import (
    ChainEvent,
    CommitmentId,
    Committed,
    ModelRegistered,
    State,
    TaskOpened,
    UnixTime,
    VerdictKind,
)
from challenger.errors import StaleRow
from challenger.pipeline.backlog import Backlog, Plan
from challenger.pipeline.closing import Closing
from challenger.pipeline.engine import Replays
from challenger.pipeline.idle import Idle
from challenger.pipeline.judge import confirms
from challenger.pipeline.learned import Learned, action_of
from challenger.pipeline.lookout import Lookout, together
from challenger.pipeline.observe import PASSING, Away, Observer
from challenger.pipeline.outcome import Clock, Outcomes, Pace, as_verdict
from challenger.pipeline.overdue import Overdue
from challenger.pipeline.schedule import look_again
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow
from challenger.store.unit import View
from challenger.store.work import Item
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import READMITTED, SHED

#: Rows moved in one transaction.
_BATCH = 500


class Agreement(Protocol):
    """Whether independent endpoints show the same commitment, task and model; why not, else empty."""

    async def disagreement(self, case: Sequence[ChainEvent]) -> str: ...


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
        self._observer = Observer(store, engine)
        self._outcomes = Outcomes(store, clock, pace, learned, telemetry)
        #: The data of what was drawn: what came to hand there is replayed here.
        self.lookout = Lookout(store, engine, self._observer, self._outcomes, clock, pace, closing)
        self._agreement = agreement
        self._clock = clock
        self._pace = pace
        self._learned = learned
        self._backlog = backlog
        self._closing = closing
        self._overdue = Overdue(store, closing, telemetry, pace.retry)
        self._telemetry = telemetry
        self._idle = idle or Idle()
        #: What of the data of frauds to be confirmed is not to be had, as it was found before the first replay.
        self._wanting: dict[CommitmentId, Away] = {}
        #: Changes of the store, data that came to hand, and the time, at the end of the last turn that found nothing to do.
        self._seen: tuple[int, int, UnixTime] | None = None

    async def step(self) -> bool:
        """One round over everything that may be worked on now; True when something moved."""
        now = await self._clock()
        seen = self._store.changes, self.lookout.found, now
        if self._seen == seen:
            return False
        plan = await self._backlog.plan(now, self.lookout.at_hand)
        await self._put_aside(plan, now)
        await self._again(now)
        # a fraud in hand outranks everything and is never shed; few at a time: what becomes urgent is not kept waiting
        next_ones = [one for one in (*plan.accused, *plan.replays) if one not in self.lookout.busy]
        next_ones = next_ones[: self._pace.planned or self._pace.workers]
        async with self._store.read() as view:
            urgent = await view.work.some(next_ones)
        if self._pace.planned:
            for item in urgent:
                await self._handle(item)
        else:
            await together(self._handle(item) for item in urgent)
        given_up = await self._overdue.look(plan.late, now, busy=bool(urgent))
        moved = bool(urgent or given_up or plan.shed or plan.back)
        if not moved:
            self._idle.rest()
            self._seen = seen
        return moved

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
        await self._outcomes.guarded(
            item, self._replay(item) if item.work.state == State.SAMPLED else self._confirm(item)
        )

    async def _replay(self, item: Item) -> None:
        began, commitment = self._monotonic(), CommitmentId(item.work.commitment)
        with self.lookout.replaying(commitment) as away:
            verdict = await self._observer.judge(item.commitment, self._pace.backend, fresh=False, away=away)
            if verdict.kind is VerdictKind.FRAUD and away:
                self._wanting[commitment] = away
            await self._outcomes.record(item, verdict, self._monotonic() - began)

    async def _confirm(self, item: Item) -> None:
        """Reproduces the accusation in a fresh process on the other backend, from chain data that all endpoints show."""
        commitment = CommitmentId(item.work.commitment)
        async with self._store.read() as view:
            case = await case_of(view, item.commitment)
        apart = await self._agreement.disagreement(case) if len(case) == 3 else "its task or model is not in the index"
        if apart:
            await self._outcomes.later(item, f"endpoints disagree: {apart}")
            return
        began = self._monotonic()
        away = self._wanting.pop(commitment, None)
        second = await self._observer.judge(item.commitment, self._pace.confirm_backend, fresh=True, away=away)
        took = self._monotonic() - began
        self._outcomes.measured(item, second, took, "confirm", self._pace.confirm_backend)
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
                again = self._outcomes.soon(item, now, tries)
                await unit.work.note(commitment, State.REPLAYED, detail=against, attempts=tries, next_try=again)
            else:
                await unit.work.move(commitment, State.REPLAYED, State.INCONCLUSIVE, detail=f"not confirmed: {against}")

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
