"""What came of looking at a drawn commitment, or of replaying it: kept, with what follows from it for its row."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from challenger.domain import NEVER, CommitmentId, State, UnixTime, Verdict, VerdictKind
from challenger.errors import Expected, StaleRow, StoreError
from challenger.pipeline.engine import OWN
from challenger.pipeline.learned import Learned, action_of
from challenger.pipeline.observe import PASSING
from challenger.pipeline.schedule import demand_by, later, look_again, soon
from challenger.silence import OUTAGE, looks, patient, withheld
from challenger.store.engine import Store
from challenger.store.rows import VerdictRow
from challenger.store.subjects import subject_of
from challenger.store.verdicts import Said
from challenger.store.work import Item
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import LOGGER
from challenger.telemetry.metrics import REPLAY_SECONDS, VERDICTS

Clock = Callable[[], Awaitable[UnixTime]]
#: Looks at a silent server for which there is room before the last moment of a demand.
_LOOKS = 8
#: What is in our own way, a mistake too, is looked past later and later, but as after so many tries: it may be gone at any time.
_OFTEN = 3


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


class Outcomes:
    """``clock``: the chain's time."""

    def __init__(self, store: Store, clock: Clock, pace: Pace, learned: Learned, telemetry: Instruments) -> None:
        self._store = store
        self._clock = clock
        self._pace = pace
        self._learned = learned
        self._telemetry = telemetry

    async def guarded(self, item: Item, work: Coroutine[Any, Any, None]) -> None:
        """Does ``work`` on ``item``, whose trouble is its own."""
        try:
            await work
        except StaleRow:
            return  # a reorg, a finalisation or another process came between: the row says what is next
        except Expected as error:
            await self.later(item, str(error))
        except StoreError:
            raise  # the database's trouble is everybody's: the loop says so and comes back
        except Exception as error:  # noqa: BLE001 - one poisonous commitment must not stop the watch over all others
            self.mistake(subject_of(item.work.commitment), error)
            await self.later(item, f"internal: {type(error).__name__}", min(item.work.attempts + 1, _OFTEN))

    def mistake(self, about: str, error: Exception) -> None:
        """Tells of a mistake of our own."""
        self._telemetry.alerts.alert("bug", about=about, error=repr(error))
        LOGGER.debug("while judging", exc_info=error)

    async def record(self, item: Item, verdict: Verdict, took: float | None, began: UnixTime | None = None) -> None:
        """Keeps ``verdict`` and what follows from it. ``took``: seconds of a replay, None where there was none; ``began``: chain
        time at which it was looked for."""
        self.measured(item, verdict, took, "replay", self._pace.backend)
        commitment, tries = CommitmentId(item.work.commitment), item.work.attempts + 1
        now = await self._clock()
        async with self._store.begin(now) as unit:
            identity = await unit.verdicts.add(commitment, verdict, fresh=False)
            facts: dict[str, Any] = {"verdict": identity, "detail": verdict.detail, "attempts": tries}
            if verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
                # a valid one has nothing more to say
                rest = {"attempts": 0, "next_try": NEVER if verdict.kind is VerdictKind.VALID else 0}
                await unit.work.move(commitment, State.SAMPLED, State.REPLAYED, **facts | rest)
                if took is not None:
                    await self._learned.add(unit, action_of("replay", item.commitment.model, self._pace.backend), took)
            elif not self._settled(item, verdict, await unit.verdicts.said(commitment), now):
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
        if patient(verdict.detail):
            # each look at who does not answer counts: what a server's silence took is no pause besides
            return max(UnixTime(now + 1), soon(began, until, self._pace.retry))
        if verdict.kind is VerdictKind.UNAVAILABLE:
            return max(look_again(now, until, tries, self._pace.retry), soon(now, until, self._pace.retry))
        until = UnixTime(int(row.closes - self._learned.now.ahead(row.model).total()))
        tries = min(tries, _OFTEN) if verdict.detail.startswith(OWN) else tries
        at_leisure = max(look_again(now, until, tries, self._pace.retry), self.soon(item, now, tries))
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

    def _settled(self, item: Item, verdict: Verdict, said: Sequence[Said], now: UnixTime) -> bool:
        """Whether trying again is pointless. ``said``: all that was said so far, newest first. Workers that failed get so many
        tries, whatever was away besides; a reason that cannot change with time gets one."""
        if verdict.kind is VerdictKind.UNAVAILABLE:
            committed = item.commitment.committed_at
            passed = (now - committed) / max(1, self._demand_by(item) - committed)
            last = passed >= 3 / 4 or now >= self._last_look(item)
            outage = min(OUTAGE, (self._demand_by(item) - committed) // 8)
            # a reorganisation has it looked for anew, however short ago that was
            pause = min(outage, self._pace.retry)
            return withheld(looks(said), half=passed >= 1 / 2, last=last, outage=outage, pause=pause)
        if verdict.detail.startswith(OWN):
            return False
        if not verdict.detail.startswith(PASSING):
            return True
        ours = said[: item.work.attempts + 1]  # not what was said of it before a reorganisation
        failed = [one for one in ours if one.kind is VerdictKind.INCONCLUSIVE and not one.detail.startswith(OWN)]
        return len(failed) >= self._pace.attempts

    async def later(self, item: Item, why: str, tries: int = 1) -> None:
        """Tries again in a while, later and later with the number of ``tries``."""
        now = await self._clock()
        with suppress(StaleRow):  # moved meanwhile by what the chain said
            async with self._store.begin(now) as unit:
                await unit.work.note(
                    CommitmentId(item.work.commitment),
                    State(item.work.state),
                    detail=why,
                    attempts=item.work.attempts + 1,
                    next_try=self.soon(item, now, tries),
                )

    def soon(self, item: Item, now: UnixTime, tries: int = 1) -> UnixTime:
        """When to try again what is to be filed once it succeeds, and failed ``tries`` times: later and later."""
        last = UnixTime(item.commitment.closes - self._pace.margin)
        return soon(now, last, later(tries, self._pace.retry))

    def measured(self, item: Item, verdict: Verdict, took: float | None, stage: str, backend: str) -> None:
        metrics = self._telemetry.metrics
        metrics.count(VERDICTS, kind=verdict.kind.value, stage=stage)
        if took is not None and verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
            metrics.observe(REPLAY_SECONDS, took, model=item.commitment.model.hex()[:16], backend=backend)


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
