"""The question that a replay answers: does this model, on this input, give these roots?

It says nothing of whose answer it is. So a planted item of the self-test is judged by the very code that judges a
commitment, while what comes of it can accuse nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from challenger.domain import CommitmentId, DemandOutcome, Hash32, Part, Verdict, VerdictKind
from challenger.errors import FetchRefused, OurDoing, OwnDisk
from challenger.pipeline.engine import OWN, OWN_DISK, OWN_GATEWAYS, Lay, ModelFacts, Replays
from challenger.pipeline.judge import inconclusive, judge, unavailable
from challenger.silence import Refusal
from challenger.store.engine import Store
from challenger.store.rows import CommitmentRow, ModelRow, TaskRow
from challenger.store.unit import View

#: Of parts that are not to be had, what there is in their place, or what of ours is in the way.
Away = Mapping[Part, Lay | OurDoing]
#: Beginnings of reasons that may pass with time.
PASSING = (*OWN, "timeout", "memory", "crashed", "protocol", "model: its known answer could not")


_UNKNOWN = "record: its task or model is not in the index"


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

    @property
    def behind(self) -> tuple[str, Hash32, int]:
        """Where the output lies, what it is and how long it was said to be."""
        return self.output_uri, self.output_root, self.output_length


class Observer:
    """Reads, replays and judges commitments; writes nothing."""

    def __init__(self, store: Store, engine: Replays) -> None:
        self._store = store
        self._engine = engine

    async def judge(self, row: CommitmentRow, backend: str, *, fresh: bool, away: Away | None = None) -> Verdict:
        """What ``backend`` says of ``row``: of its task's input and model, against its committed roots. ``away``: parts of
        its data that were looked for just now, in vain, and are not asked for again."""
        async with self._store.read() as view:
            question = await question_of(view, row)
        if question is None:
            return inconclusive(_UNKNOWN, backend)
        return await verdict_on(self._engine, question, backend, fresh=fresh, away=away)

    async def weights(self, row: CommitmentRow) -> Verdict | None:
        """Has the files of ``row``'s model brought here; why they cannot be had, None when they are here or nothing is known of it."""
        async with self._store.read() as view:
            facts = await model_facts(view, row)
        return None if facts is None else await self._engine.weights(facts)

    async def look(self, row: CommitmentRow, backend: str, parts: Collection[Part]) -> Away | Verdict:
        """Fetches ``parts`` of the data of ``row``, and replays nothing: what of it is not to be had, else why nothing can be said
        of it."""
        async with self._store.read() as view:
            question = await question_of(view, row)
        if question is None:
            return inconclusive(_UNKNOWN, backend)
        if Part.INPUT in parts:
            try:
                given = await _input(self._engine, question)
            except OurDoing as error:
                return inconclusive(_ours(error), backend)
            if not isinstance(given, bytes):
                return {Part.INPUT: given}
            del given  # it lies in the cache, and this may wait for long
        if Part.OUTPUT not in parts or not question.output_uri or question.output:
            return {}
        try:
            shown = await self._engine.bundle(*question.behind)
        except OurDoing as error:
            return {Part.OUTPUT: error}  # no reason not to replay: a wrong root is wrong whatever lies there
        return {} if isinstance(shown, bytes) else {Part.OUTPUT: shown}


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


async def verdict_on(
    engine: Replays, question: Question, backend: str, *, fresh: bool, away: Away | None = None
) -> Verdict:
    """Fetches, replays on ``backend`` and judges. What our own rules forbid to fetch, or our own means cannot, is INCONCLUSIVE."""
    try:
        return await _verdict(engine, question, backend, fresh, away or {})
    except OurDoing as error:
        return inconclusive(_ours(error), backend)


async def _verdict(engine: Replays, asked: Question, backend: str, fresh: bool, away: Away) -> Verdict:
    data = await _input(engine, asked)
    if not isinstance(data, bytes):
        return missing(Part.INPUT, data)
    shown = asked.output
    if asked.output_uri and not shown and Part.OUTPUT not in away:
        shown = await engine.text(data, *asked.behind)
    seen = await engine.observe(asked.facts, data, backend, fresh=fresh, seed=asked.seed, claim=shown)
    if isinstance(seen, Verdict):
        return seen
    verdict = judge(asked.input_root, asked.output_root, asked.state_root, seen)
    if verdict.kind is VerdictKind.VALID and asked.output_uri and not asked.posted:
        output = away[Part.OUTPUT] if Part.OUTPUT in away else await engine.bundle(*asked.behind)
        if not isinstance(output, bytes):
            return missing(Part.OUTPUT, output, verdict)
    return verdict


async def _input(engine: Replays, asked: Question) -> bytes | Lay:
    if asked.input or not asked.input_uri:
        return asked.input
    given = await engine.bundle(asked.input_uri, asked.input_root, asked.input_length)
    if isinstance(given, Refusal) and given.large:
        # whoever asked chose its length: a task whose input is longer than it says must not have its provider asked for it
        raise FetchRefused(given.why)
    return given


def missing(part: Part, lay: Lay | OurDoing, right: Verdict | None = None) -> Verdict:
    """Nobody can compare it, whatever lies in its place: that is said, and accuses nobody. ``right``: a replay that came to
    the committed roots, so that only the data is wanting."""
    if isinstance(lay, OurDoing):
        said = inconclusive(_ours(lay), "")
    else:
        said = unavailable(part.value if lay is None else lay.detail(part))
    return said if right is None else replace(right, kind=said.kind, detail=said.detail)


def _ours(error: OurDoing) -> str:
    how = OWN_DISK if isinstance(error, OwnDisk) else "fetch" if isinstance(error, FetchRefused) else OWN_GATEWAYS
    return f"{how}: {error}"


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
