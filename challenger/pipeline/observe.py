"""The question that a replay answers: does this model, on this input, give these roots?

It says nothing of whose answer it is. So a planted item of the self-test is judged by the very code that judges a
commitment, while what comes of it can accuse nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from challenger.domain import CommitmentId, DemandOutcome, Hash32, Part, Verdict, VerdictKind
from challenger.errors import FetchRefused
from challenger.pipeline.engine import ModelFacts, Replays
from challenger.pipeline.judge import inconclusive, judge, unavailable
from challenger.silence import Silence
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, ModelRow, TaskRow
from challenger.store.unit import View
from challenger.substitution import Substitution

#: Beginnings of reasons that may pass with time.
PASSING = ("timeout", "memory", "crashed", "protocol", "disk", "model: its known answer could not")


@dataclass(frozen=True, slots=True)
class Question:
    """``input`` and ``output``: bytes that the chain shows, empty where they lie behind a URI; ``posted``: the output
    stands on chain as the answer to a demand, whatever its URI serves."""

    facts: ModelFacts
    seed: bytes
    input_root: Hash32
    input: bytes
    input_uri: str
    input_length: int
    output_root: Hash32
    state_root: Hash32
    output: bytes
    output_uri: str
    output_length: int
    posted: bool


class Observer:
    """Reads, replays and judges commitments; writes nothing."""

    def __init__(self, store: Store, engine: Replays) -> None:
        self._store = store
        self._engine = engine

    async def judge(self, row: CommitmentRow, backend: str, *, fresh: bool) -> Verdict:
        """What ``backend`` says of ``row``: of its task's input and model, against its committed roots."""
        async with self._store.read() as view:
            question = await question_of(view, row)
        if question is None:
            return inconclusive("record: its task or model is not in the index", backend)
        return await verdict_on(self._engine, question, backend, fresh=fresh)


async def question_of(view: View, row: CommitmentRow) -> Question | None:
    """What is asked about a commitment; None when its task or model is not in the index."""
    task = await view.chain.task(row.task)
    facts = await model_facts(view, row)
    if task is None or facts is None:
        return None
    return question_from(
        facts,
        task,
        b"" if task.input_uri else await view.chain.data(task),
        row,
        b"" if row.output_uri else await view.chain.data(row),
        await answers(view, CommitmentId(row.commitment)),
    )


def question_from(
    facts: ModelFacts, task: TaskRow, given: bytes, row: CommitmentRow, shown: bytes, posted: Mapping[Part, bytes]
) -> Question:
    """The question from facts at hand. ``given`` and ``shown``: input and output as the chain has them inline;
    ``posted``: data that was posted in answer to demands, by part."""
    return Question(
        facts,
        task.seed or b"",
        task.input_root,
        posted.get(Part.INPUT) or given,
        task.input_uri,
        task.input_length,
        row.output_root,
        row.state_root,
        posted.get(Part.OUTPUT) or shown,
        row.output_uri,
        row.output_length,
        Part.OUTPUT in posted,
    )


async def verdict_on(engine: Replays, question: Question, backend: str, *, fresh: bool) -> Verdict:
    """Fetches, replays on ``backend`` and judges. What our own rules forbid to fetch is INCONCLUSIVE; a full disk of ours
    raises OwnDisk."""
    try:
        return await _verdict(engine, question, backend, fresh=fresh)
    except FetchRefused as error:
        return inconclusive(f"fetch: {error}", backend)


async def _verdict(engine: Replays, asked: Question, backend: str, *, fresh: bool) -> Verdict:
    data: bytes | Substitution | Silence | None = asked.input
    if not data and asked.input_uri:
        data = await engine.bundle(asked.input_uri, asked.input_root, asked.input_length)
    if not isinstance(data, bytes):
        return _away(Part.INPUT, data)
    shown, behind = asked.output, (asked.output_uri, asked.output_root, asked.output_length)
    if asked.output_uri and not shown:
        shown = await engine.text(data, *behind)
    seen = await engine.observe(asked.facts, data, backend, fresh=fresh, seed=asked.seed, claim=shown)
    if isinstance(seen, Verdict):
        return seen
    verdict = judge(asked.input_root, asked.output_root, asked.state_root, seen)
    if verdict.kind is VerdictKind.VALID and asked.output_uri and not asked.posted:
        output = await engine.bundle(*behind)
        if not isinstance(output, bytes):
            return _away(Part.OUTPUT, output)
    return verdict


def _away(part: Part, lay: Substitution | Silence | None) -> Verdict:
    """Nobody can compare it, whatever lies in its place: that is said, and accuses nobody."""
    return unavailable(part.value if lay is None else lay.detail(part))


async def model_facts(view: View, row: CommitmentRow) -> ModelFacts | None:
    found = await view.chain.model(row.model)
    return None if found is None else facts_of(found, await view.chain.data(found))


def facts_of(row: ModelRow, known_input: bytes) -> ModelFacts:
    """What the engine needs of a registered model."""
    return ModelFacts(
        row.model,
        row.uri,
        row.file_digest,
        row.artefact_root,
        row.program_root,
        row.spec_version,
        row.mode,
        known_input,
        row.known_output_root,
    )


async def answers(view: View, commitment: CommitmentId) -> dict[Part, bytes]:
    """Data that was posted on chain in answer to demands, by part."""
    rows = await view.chain.demands(commitment=commitment, outcome=DemandOutcome.ANSWERED)
    return {Part(row.part): await view.chain.answer(row) for row in rows if row.part in (Part.INPUT, Part.OUTPUT)}
