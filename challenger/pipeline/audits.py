"""Audits by replay: what a past commitment is worth, whatever its window, found by the code that judges live ones.

What comes of it is an ``AuditVerdict``, which holds no commitment's id: an ``Accusation``, the name of a transaction
and the watcher's own verdicts want one, and mypy refuses an ``AuditId`` (see the end of this file). Nothing here reads
or writes ``work``; should a type checker be passed by, the accusation, the outbox and the sender refuse it each for
itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from challenger.domain import (
    Address,
    AuditId,
    AuditVerdict,
    BlockNumber,
    CommitmentId,
    Committed,
    DemandClosed,
    DemandOutcome,
    Hash32,
    Part,
    Source,
    TaskOpened,
    UnixTime,
    Verdict,
    VerdictKind,
)
from challenger.errors import Expected
from challenger.pipeline.engine import Replays
from challenger.pipeline.judge import confirms, inconclusive
from challenger.pipeline.observe import Question, facts_of, question_from, question_of, verdict_on
from challenger.protocols.base import Accusation
from challenger.protocols.reference_past import Case, Found, Past
from challenger.store.audits import AuditRow
from challenger.store.engine import Store
from challenger.store.projection import FOLDS
from challenger.store.subjects import subject_of
from challenger.store.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Subject:
    """What is audited, and what is known of it. ``question`` None: it cannot be asked, ``trouble`` says why."""

    commitment: CommitmentId
    source: Source
    block: BlockNumber
    block_hash: Hash32
    provider: Address
    output_root: Hash32
    state_root: Hash32
    question: Question | None
    trouble: str = ""


class Missing(NamedTuple):
    """Asked for, and neither in the record nor on the chain; nothing is recorded of it."""

    asked: str
    why: str


class Audited(NamedTuple):
    """``earlier``: the audit before this one. ``watched``: kind and detail of what the watcher itself said last."""

    row: AuditRow
    earlier: AuditRow | None
    watched: tuple[str, str] | None

    @property
    def differs(self) -> bool:
        """Whether the audit before this one said something else."""
        return self.earlier is not None and self.earlier.result != self.row.result


async def recorded(store: Store, commitment: CommitmentId) -> Subject | None:
    """From the index alone; None where it has not got the commitment with its task and model."""
    async with store.read() as view:
        row = await view.chain.commitment(commitment)
        question = None if row is None else await question_of(view, row)
        if row is None or question is None:
            return None
        born = next(e for e in await view.chain.history("commitment", commitment) if isinstance(e, Committed))
    return _subject(born, Source.RECORD, question)


async def served(past: Past, found: Found) -> Subject:
    """From an endpoint, at the commitment's block."""
    try:
        case = await past.case(found)
    except Expected as error:
        return _subject(found.committed, Source.SERVED, None, f"chain: {error}")
    return _subject(found.committed, Source.CHAIN if case.proved else Source.SERVED, question_of_case(case))


def _subject(born: Committed, source: Source, question: Question | None, trouble: str = "") -> Subject:
    at = born.at
    where = (born.commitment, source, at.block, at.block_hash, born.provider)
    return Subject(*where, born.output_root, born.state_root, question, trouble)


def question_of_case(case: Case) -> Question:
    """As ``question_of`` makes it from the index, by the same folds."""
    task, model = FOLDS["task"].over(case.task), FOLDS["model"].over(case.model)
    opened = next(event for event in case.task if isinstance(event, TaskOpened))
    demands: dict[int, list[Any]] = {}
    for event in case.demands:
        demands.setdefault(event.demand, []).append(event)
    posted: dict[Part, bytes] = {}
    for story in demands.values():
        row, last = FOLDS["demand"].over(story), story[-1]
        if row is not None and isinstance(last, DemandClosed) and last.outcome is DemandOutcome.ANSWERED:
            posted |= {part: last.data for part in (Part.INPUT, Part.OUTPUT) if part == row.part}
    committed = case.committed
    return question_from(
        facts_of(model, case.model[0].known_input),
        task,
        opened.input_data,
        FOLDS["commitment"].over([committed]),
        committed.output_data,
        posted,
    )


class Auditor:
    """Judges and records. ``confirm_backend``: reproduces each FRAUD in a fresh process; empty: nothing does."""

    def __init__(self, store: Store, engine: Replays, backend: str, confirm_backend: str = "") -> None:
        self._store = store
        self._engine = engine
        self._backend = backend
        self._confirm_backend = confirm_backend

    async def audit(self, subject: Subject, now: UnixTime) -> Audited:
        """``now``: chain time, under which it is recorded."""
        verdict = await self.judge(subject)
        async with self._store.begin(now) as unit:
            before = await unit.audits.of(verdict.audit)
            own = await unit.verdicts.of(subject.commitment)
            row = await unit.audits.add(verdict)
        watched = (own[-1].kind, own[-1].detail) if own else None
        return Audited(row, before[-1] if before else None, watched)

    async def judge(self, subject: Subject) -> AuditVerdict:
        if subject.question is None:
            return _verdict(subject, inconclusive(subject.trouble, self._backend), "", [])
        first = await verdict_on(self._engine, subject.question, self._backend, fresh=False)
        if first.kind is not VerdictKind.FRAUD or not self._confirm_backend:
            return _verdict(subject, first, "", [first])
        second = await verdict_on(self._engine, subject.question, self._confirm_backend, fresh=True)
        against = confirms(first, second)
        if against:
            return _verdict(subject, inconclusive(f"confirmation: {against}", self._backend), "", [first, second])
        return _verdict(subject, first, second.backend, [first, second])


def _verdict(subject: Subject, said: Verdict, confirmed: str, replays: Iterable[Verdict]) -> AuditVerdict:
    """``said``, as an audit says it; ``replays`` are what it rests on."""
    ran = list(replays)
    return AuditVerdict(
        audit=AuditId(subject.commitment),
        source=subject.source,
        block=subject.block,
        block_hash=subject.block_hash,
        provider=subject.provider,
        committed_output=subject.output_root,
        committed_state=subject.state_root,
        kind=said.kind,
        detail=said.detail,
        backend=said.backend,
        output_root=said.output_root,
        state_root=said.state_root,
        confirmed=confirmed,
        environment={one.backend: one.environment for one in ran if one.environment},
        seconds=sum(one.seconds for one in ran),
    )


if TYPE_CHECKING:

    async def _mypy_refuses(found: AuditVerdict, verdicts: Verdicts, commitment: CommitmentId) -> None:
        """Should mypy stop refusing any of these, its complaint about an unused ignore fails the check."""
        roots = found.committed_output, found.committed_state
        Accusation(found.audit, *roots, Hash32(b""))  # type: ignore[arg-type]
        subject_of(found.audit)  # type: ignore[arg-type]
        await verdicts.add(commitment, found, fresh=True)  # type: ignore[arg-type]
        confirms(found, found)  # type: ignore[arg-type]
