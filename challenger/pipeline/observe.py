"""One replay of one commitment: its data from the chain or from where it points, the engine's roots, and the verdict."""

from __future__ import annotations

from challenger.domain import (
    CommitmentId,
    DemandOutcome,
    Part,
    Verdict,
    VerdictKind,
)
from challenger.errors import FetchRefused
from challenger.pipeline.engine import Engine, ModelFacts
from challenger.pipeline.judge import inconclusive, judge, unavailable
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, TaskRow
from challenger.store.unit import View

#: Beginnings of reasons that may pass with time.
PASSING = ("timeout", "memory", "crashed", "protocol", "disk", "model: its known answer could not")


class Observer:
    """Reads, replays and judges; writes nothing."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    async def judge(self, row: CommitmentRow, backend: str, *, fresh: bool) -> Verdict:
        """What ``backend`` says of ``row``: of its task's input and model, against its committed roots."""
        try:
            return await self._observe(row, backend, fresh=fresh)
        except FetchRefused as error:
            return inconclusive(f"fetch: {error}", backend)

    async def _observe(self, row: CommitmentRow, backend: str, *, fresh: bool) -> Verdict:
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
        if row.output_uri and not shown:
            shown = await self._engine.text(data, row.output_uri, row.output_root, row.output_length)
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
