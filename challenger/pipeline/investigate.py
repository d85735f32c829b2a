"""From drawn to judged: fetch the data, replay, and have a second backend reproduce every accusation.

The most urgent first; what no longer fits its window is shed, visibly. A stage that dies leaves its row where it was
and the next start does it again: nothing here is kept in memory that the rows do not say.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import (
    ChainEvent,
    CommitmentId,
    Committed,
    DemandOutcome,
    Hash32,
    ModelRegistered,
    Part,
    State,
    TaskOpened,
    UnixTime,
    Verdict,
    VerdictKind,
)
from challenger.errors import Expected, FetchRefused, StaleRow, StoreError
from challenger.pipeline.engine import Engine, ModelFacts
from challenger.pipeline.judge import confirms, inconclusive, judge, unavailable
from challenger.pipeline.schedule import Ahead, admit
from challenger.pipeline.schedule import Item as Queued
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, TaskRow, VerdictRow
from challenger.store.unit import View
from challenger.store.work import Item
from challenger.telemetry.logs import LOGGER, say

Clock = Callable[[], Awaitable[UnixTime]]
#: Beginnings of reasons that may pass with time.
_PASSING = ("timeout", "memory", "crashed", "protocol", "disk", "model: its known answer could not")
#: Fetches under way at a time.
_FETCHES = 8


class Agreement(Protocol):
    """Whether independent endpoints show the same commitment, task and model; why not, else empty."""

    async def disagreement(self, case: Sequence[ChainEvent]) -> str: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """``attempts``: tries before data counts as withheld or a worker's failure as final; ``retry``: chain seconds
    between two tries; ``workers``: replays at once; ``inclusion`` and ``depth``: predicted seconds on chain;
    ``demands``: whether the filing stage takes up what is unavailable."""

    backend: str
    confirm_backend: str
    attempts: int
    retry: int
    workers: int
    inclusion: float
    depth: float
    demands: bool


class Investigator:
    def __init__(self, store: Store, engine: Engine, agreement: Agreement, clock: Clock, pace: Pace) -> None:
        self._store = store
        self._engine = engine
        self._agreement = agreement
        self._clock = clock
        self._pace = pace
        self._fetched: set[CommitmentId] = set()

    async def step(self) -> bool:
        """One round over everything that may be worked on now; True when something moved."""
        now = await self._clock()
        async with self._store.read() as view:
            drawn = await view.work.items([State.SAMPLED], ready=now, limit=10_000)
            away = [] if self._pace.demands else await view.work.items([State.UNAVAILABLE], ready=now, closes_after=now)
            judged = await view.work.items([State.REPLAYED], ready=now, closes_after=now, limit=10_000)
            # a valid one has nothing to say: no need to look up its verdict at every step
            telling = [item for item in judged if item.work.detail]
            open_items = drawn + [item for item in telling if await self._is_fraud(view, item)]
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in open_items])
            ahead = await self._ahead(view)
        late = [i for i in open_items if i.commitment.closes <= now]
        for item in late:
            await self._move(item, State.EXPIRED, "the window closed before it was judged")
        for item in away:
            await self._again(item, now)
        # a fraud in hand outranks everything and is never shed
        accused = [item for item in open_items if item.work.state == State.REPLAYED and item.commitment.closes > now]
        todo = {i.work.commitment: i for i in open_items if i.work.state == State.SAMPLED and i.commitment.closes > now}
        fees = {task: row.fee for task, row in tasks.items()}
        queue = [Queued(c, i.commitment.closes, fees.get(i.commitment.task, 0), ahead) for c, i in todo.items()]
        kept, shed = admit(queue, now, self._pace.workers)
        for victim in shed:
            await self._move(todo[victim.commitment], State.SHED, "the backlog exceeds the slack")
        # few at a time: what becomes urgent meanwhile is not kept waiting
        urgent = (accused + [todo[q.commitment] for q in kept])[: self._pace.workers]
        await _together(self._handle(item) for item in urgent)
        return bool(urgent or late or shed)

    async def _handle(self, item: Item) -> None:
        try:
            if item.work.state == State.SAMPLED:
                await self._replay(item)
            else:
                await self._confirm(item)
        except StaleRow:
            return  # a reorg, a finalisation or another process came between: the row says what is next
        except Expected as error:
            await self._later(item, str(error))
        except StoreError:
            raise  # the database's trouble is everybody's: the loop says so and comes back
        except Exception as error:  # noqa: BLE001 - one poisonous commitment must not stop the watch over all others
            say("bug", level=logging.ERROR, commitment=item.work.commitment, error=repr(error))
            LOGGER.debug("while judging", exc_info=error)
            await self._later(item, f"internal: {type(error).__name__}", give_up=True)

    # the data, for drawn and undrawn alike: a fetch betrays no draw

    async def gather(self) -> bool:
        """Fetches what was committed by URI for everything newly observed, drawn or not; True when there was any."""
        now = await self._clock()
        async with self._store.read() as view:
            fresh = await view.work.items(
                [State.OBSERVED, State.SKIPPED, State.SAMPLED], closes_after=now, limit=10_000
            )
            wanted = [item for item in fresh if item.work.commitment not in self._fetched][:100]
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in wanted])
        gate = asyncio.Semaphore(_FETCHES)

        async def fetch(uri: str, root: Hash32, length: int) -> None:
            async with gate:
                try:
                    await self._engine.bundle(uri, root, length)
                except FetchRefused:
                    return  # the replay says so, should it come to that

        fetches = []
        for item in wanted:
            row, task = item.commitment, tasks.get(item.commitment.task)
            if task is not None and task.input_uri:
                fetches.append(fetch(task.input_uri, task.input_root, task.input_length))
            if row.output_uri:
                fetches.append(fetch(row.output_uri, row.output_root, row.output_length))
        await _together(fetches)
        self._fetched.update(CommitmentId(item.work.commitment) for item in wanted)
        return bool(wanted)

    # the first replay

    async def _replay(self, item: Item) -> None:
        began = time.monotonic()
        verdict = await self._judge(item, self._pace.backend, fresh=False)
        took = time.monotonic() - began
        commitment, tries = CommitmentId(item.work.commitment), item.work.attempts + 1
        now = await self._clock()
        async with self._store.begin(now) as unit:
            identity = await unit.verdicts.add(commitment, verdict, fresh=False)
            facts: dict[str, Any] = {"verdict": identity, "detail": verdict.detail, "attempts": tries}
            if verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
                await unit.work.move(commitment, State.SAMPLED, State.REPLAYED, **facts | {"attempts": 0})
                await unit.latencies.add("replay", took)
            elif not self._settled(item, verdict, tries):
                # later and later: an outage of minutes must not use up all tries
                wait = self._pace.retry << min(tries - 1, 5)
                await unit.work.note(commitment, State.SAMPLED, next_try=now + wait, **facts)
            else:
                kind = verdict.kind is VerdictKind.UNAVAILABLE
                await unit.work.move(
                    commitment, State.SAMPLED, State.UNAVAILABLE if kind else State.INCONCLUSIVE, **facts
                )

    def _settled(self, item: Item, verdict: Verdict, tries: int) -> bool:
        """Whether trying again is pointless. Data is withheld when two tries in a row say so of the same part; a worker
        that failed gets all of them; a reason that cannot change with time gets one."""
        if verdict.kind is VerdictKind.UNAVAILABLE:
            return tries >= 2 and _part(verdict.detail) == _part(item.work.detail)
        return tries >= self._pace.attempts or not verdict.detail.startswith(_PASSING)

    async def _judge(self, item: Item, backend: str, *, fresh: bool) -> Verdict:
        try:
            return await self._observe(item, backend, fresh=fresh)
        except FetchRefused as error:
            return inconclusive(f"fetch: {error}", backend)

    async def _observe(self, item: Item, backend: str, *, fresh: bool) -> Verdict:
        row = item.commitment
        async with self._store.read() as view:
            task = await view.chain.task(row.task)
            facts = await model_facts(view, row)
            answered = await answers(view, CommitmentId(row.commitment))
            shown = answered.get(Part.OUTPUT) or (b"" if row.output_uri else await view.chain.data(row))
        if task is None or facts is None:
            return inconclusive("record: its task or model is not in the index", backend)
        data = answered.get(Part.INPUT) or await self._input(task)
        if data is None:
            return unavailable(Part.INPUT.value)
        seen = await self._engine.observe(facts, data, backend, fresh=fresh, seed=task.seed or b"", claim=shown)
        if isinstance(seen, Verdict):
            return seen
        verdict = judge(task.input_root, row.output_root, row.state_root, seen)
        if verdict.kind is VerdictKind.VALID and row.output_uri and Part.OUTPUT not in answered:
            output = await self._engine.bundle(row.output_uri, row.output_root, row.output_length)
            if output is None:
                return unavailable(Part.OUTPUT.value)
        return verdict

    async def _input(self, task: TaskRow) -> bytes | None:
        if task.input_uri:
            return await self._engine.bundle(task.input_uri, task.input_root, task.input_length)
        async with self._store.read() as view:
            return await view.chain.data(task)

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
        second = await self._judge(item, self._pace.confirm_backend, fresh=True)
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
                await unit.latencies.add("confirm", second.seconds)
            elif second.kind is VerdictKind.UNAVAILABLE or (
                second.kind is VerdictKind.INCONCLUSIVE and not self._settled(item, second, tries)
            ):
                await unit.work.note(
                    commitment, State.REPLAYED, detail=against, attempts=tries, next_try=now + self._pace.retry
                )
            else:
                await unit.work.move(commitment, State.REPLAYED, State.INCONCLUSIVE, detail=f"not confirmed: {against}")

    # small things

    async def _again(self, item: Item, now: UnixTime) -> None:
        """Where nobody demands it, data that is away is fetched again in a while, until the window closes."""
        async with self._store.begin(now) as unit:
            await unit.work.move(
                CommitmentId(item.work.commitment),
                State.UNAVAILABLE,
                State.SAMPLED,
                attempts=1,
                next_try=now + 5 * self._pace.retry,
            )

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
                next_try=now + self._pace.retry,
            )

    async def _move(self, item: Item, new: State, why: str) -> None:
        try:
            async with self._store.begin(await self._clock()) as unit:
                await unit.work.move(CommitmentId(item.work.commitment), State(item.work.state), new, detail=why)
        except StaleRow:
            return  # moved meanwhile by what the chain said

    async def _is_fraud(self, view: View, item: Item) -> bool:
        found = None if item.work.verdict is None else await view.verdicts.get(item.work.verdict)
        return found is not None and found.kind == VerdictKind.FRAUD

    async def _ahead(self, view: View) -> Ahead:
        replay = await view.latencies.p99("replay")
        confirm = await view.latencies.p99("confirm")
        return Ahead(
            1.0 if replay is None else replay,
            5.0 if confirm is None else confirm,
            self._pace.inclusion,
            self._pace.depth,
        )


async def _together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all to their end, then raises the first error of any: one failure cuts no other job short."""
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


def _part(detail: str) -> str:
    return detail.partition(":")[0]


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


async def model_facts(view: View, row: CommitmentRow) -> ModelFacts | None:
    found = await view.chain.model(row.model)
    if found is None:
        return None
    return ModelFacts(
        found.model,
        found.uri,
        found.file_digest,
        found.artefact_root,
        found.program_root,
        found.spec_version,
        found.mode,
        await view.chain.data(found),
        found.known_output_root,
    )


async def answers(view: View, commitment: CommitmentId) -> dict[Part, bytes]:
    """Data that was posted on chain in answer to demands, by part."""
    rows = await view.chain.demands(commitment=commitment, outcome=DemandOutcome.ANSWERED)
    return {Part(row.part): await view.chain.answer(row) for row in rows if row.part in (Part.INPUT, Part.OUTPUT)}
