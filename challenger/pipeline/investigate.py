"""From drawn to judged: fetch the data, replay, and have a second backend reproduce every accusation.

The most urgent first; what no longer fits its window is shed, visibly. A stage that dies leaves its row where it was
and the next start does it again: nothing here is kept in memory that the rows do not say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import (
    CommitmentId,
    DemandOutcome,
    Hash32,
    Part,
    State,
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
#: Fetches under way at a time.
_FETCHES = 8


class Agreement(Protocol):
    """Whether independent endpoints show the same commitment; why not, else empty."""

    async def disagreement(self, commitment: CommitmentRow) -> str: ...


@dataclass(frozen=True, slots=True)
class Pace:
    """``attempts``: tries before data counts as withheld or a worker's failure as final; ``retry``: chain seconds
    between two tries; ``workers``: replays at once; ``inclusion`` and ``depth``: predicted seconds on chain."""

    backend: str
    confirm_backend: str
    attempts: int
    retry: int
    workers: int
    inclusion: float
    depth: float


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
            judged = await view.work.items([State.REPLAYED], ready=now, closes_after=now, limit=10_000)
            # a valid one has nothing to say: no need to look up its verdict at every step
            telling = [item for item in judged if item.work.detail]
            open_items = drawn + [item for item in telling if await self._is_fraud(view, item)]
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in open_items])
            ahead = await self._ahead(view)
        late = [i for i in open_items if i.commitment.closes <= now]
        for item in late:
            await self._move(item, State.EXPIRED, "the window closed before it was judged")
        todo = {i.work.commitment: i for i in open_items if i.commitment.closes > now}
        fees = {task: row.fee for task, row in tasks.items()}
        queue = [Queued(c, i.commitment.closes, fees.get(i.commitment.task, 0), ahead) for c, i in todo.items()]
        kept, shed = admit(queue, now, self._pace.workers)
        for victim in shed:
            item = todo[victim.commitment]
            if item.work.state == State.SAMPLED:
                await self._move(item, State.SHED, "the backlog exceeds the slack")
        urgent = [todo[q.commitment] for q in kept][: 4 * self._pace.workers]
        gate = asyncio.Semaphore(self._pace.workers)

        async def one(item: Item) -> None:
            async with gate:
                await self._handle(item)

        await _together(one(item) for item in urgent)
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
        verdict = await self._judge(item, self._pace.backend, fresh=False)
        commitment, tries = CommitmentId(item.work.commitment), item.work.attempts + 1
        now = await self._clock()
        async with self._store.begin(now) as unit:
            identity = await unit.verdicts.add(commitment, verdict, fresh=False)
            facts: dict[str, Any] = {"verdict": identity, "detail": verdict.detail, "attempts": tries}
            if verdict.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
                await unit.work.move(commitment, State.SAMPLED, State.REPLAYED, **facts)
                await unit.latencies.add("replay", verdict.seconds)
            elif tries < self._enough(verdict):
                await unit.work.note(commitment, State.SAMPLED, next_try=now + self._pace.retry, **facts)
            else:
                kind = verdict.kind is VerdictKind.UNAVAILABLE
                await unit.work.move(
                    commitment, State.SAMPLED, State.UNAVAILABLE if kind else State.INCONCLUSIVE, **facts
                )

    def _enough(self, verdict: Verdict) -> int:
        """Two tries settle that data is withheld; a worker that failed gets all of them; a reason that cannot
        change with time gets one."""
        if verdict.kind is VerdictKind.UNAVAILABLE:
            return 2
        passing = ("timeout", "memory", "crashed", "protocol", "disk", "model: its known answer could not")
        return self._pace.attempts if verdict.detail.startswith(passing) else 1

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
        if task is None or facts is None:
            return inconclusive("record: its task or model is not in the index", backend)
        data = answered.get(Part.INPUT) or await self._input(task)
        if data is None:
            return unavailable(Part.INPUT.value)
        seen = await self._engine.observe(facts, data, backend, fresh=fresh)
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
        apart = await self._agreement.disagreement(item.commitment)
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
            elif second.kind is VerdictKind.INCONCLUSIVE and tries < self._enough(second):
                await unit.work.note(
                    commitment, State.REPLAYED, detail=against, attempts=tries, next_try=now + self._pace.retry
                )
            else:
                await unit.work.move(commitment, State.REPLAYED, State.INCONCLUSIVE, detail=f"not confirmed: {against}")

    # small things

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
