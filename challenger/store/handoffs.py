"""What the record has on each hand-off of a commitment, many commitments at a time. Reads only."""

from __future__ import annotations

import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    BlockNumber,
    CommitmentId,
    DemandOutcome,
    Hash32,
    JobStatus,
    ModelId,
    Part,
    State,
    TaskId,
    UnixTime,
    VerdictKind,
)
from challenger.store import codec
from challenger.store.audits import AuditRow
from challenger.store.bulk import chunks, rows_by
from challenger.store.chainview import ChainView
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow, ModelRow, TaskRow, VerdictRow, WorkRow
from challenger.store.schema import (
    NOT_BULK,
    audits,
    blocks,
    commitments,
    demands,
    disputes,
    events,
    journal,
    models,
    settings,
    tasks,
    verdicts,
    work,
)
from challenger.store.subjects import hex_range, subject_of

R = TypeVar("R", DisputeRow, DemandRow, AuditRow)
_PAGE = 500
#: No reorganisation that the index survives reaches back so many blocks.
_DEEPEST = 100_000
_END = 2**63
_OBSERVED, _CLOSED = State.OBSERVED.value, "chain-job-closed"


class Happened(NamedTuple):
    """An event of the chain, without what it carried. ``time`` None: its block is no longer in the ledger."""

    kind: str
    subject: bytes
    block: BlockNumber
    log_index: int
    block_hash: Hash32
    tx_hash: Hash32
    time: UnixTime | None


class Undone(NamedTuple):
    """A fact that the chain took back with its block. ``kind``: ``observed`` (a commitment) or ``chain-job-closed``."""

    kind: str
    block: BlockNumber
    block_hash: Hash32
    time: UnixTime


@dataclass(frozen=True, slots=True)
class Story:
    """Of one task and, where there is one, its commitment. ``events``: of both, of the model, the disputes and the demands,
    in chain order. ``verdict`` and ``confirmation`` are those in force; ``audits`` only of the commitment as it stands.
    ``twin``: an earlier commitment to another task with the very same output root, looked for where a fraud is proved;
    ``condemned``: a lost demand for this model's weights, over whatever commitment; ``beacon``: hash of the block after the
    task's, where the ledger has it; ``deployment``: ``chain id/market``, as the database is bound to it."""

    identity: bytes
    commitment: CommitmentRow | None
    task: TaskRow | None
    model: ModelRow | None
    events: tuple[Happened, ...] = ()
    disputes: tuple[DisputeRow, ...] = ()
    demands: tuple[DemandRow, ...] = ()
    work: WorkRow | None = None
    verdict: VerdictRow | None = None
    confirmation: VerdictRow | None = None
    audits: tuple[AuditRow, ...] = ()
    twin: CommitmentRow | None = None
    condemned: DemandRow | None = None
    undone: tuple[Undone, ...] = ()
    beacon: Hash32 | None = None
    deployment: str = ""

    def first(self, kind: str, subject: bytes | int) -> Happened | None:
        """The first event of this kind about this aggregate."""
        wanted = codec.subject_bytes(subject)
        return next((one for one in self.events if one.kind == kind and one.subject == wanted), None)


@dataclass(slots=True)
class _Page:
    """What stories of one page are made of."""

    tasks: dict[TaskId, TaskRow]
    models: dict[ModelId, ModelRow]
    disputes: dict[CommitmentId, list[DisputeRow]] = field(default_factory=dict)
    demands: dict[CommitmentId, list[DemandRow]] = field(default_factory=dict)
    work: dict[CommitmentId, WorkRow] = field(default_factory=dict)
    verdicts: dict[int, VerdictRow] = field(default_factory=dict)
    audits: dict[bytes, list[AuditRow]] = field(default_factory=dict)
    events: dict[bytes, list[Happened]] = field(default_factory=dict)
    twins: dict[CommitmentId, CommitmentRow] = field(default_factory=dict)
    condemned: dict[ModelId, DemandRow] = field(default_factory=dict)
    beacons: dict[BlockNumber, Hash32] = field(default_factory=dict)
    deployment: str = ""


class Handoffs:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._chain = ChainView(connection)

    async def story(self, commitment: CommitmentId) -> Story | None:
        """Of one commitment, also of one that a reorganisation took away; None where the record has never had it."""
        row = await self._chain.commitment(commitment)
        undone = await self._undone(commitment)
        if row is not None:
            return (await self._stories([row], undone))[0]
        found = await rows_by(self._connection, work, work.c.commitment, [commitment])
        if not found:
            return None
        return Story(commitment, None, None, None, work=WorkRow(*found[0]), undone=tuple(undone[commitment]))

    async def task_story(self, task: TaskId) -> Story | None:
        """Of one task: with its commitment where it has one."""
        row = await self._chain.task(task)
        if row is None:
            return None
        made = select(commitments.c.commitment).where(commitments.c.task == task, commitments.c.block >= row.block)
        commitment = (await self._connection.execute(made)).scalar_one_or_none()
        if commitment is not None:
            return await self.story(commitment)
        return (await self._barren([row]))[0]

    async def beginning(self, digits: str, limit: int = 4) -> list[bytes]:
        """Commitments, those that a reorganisation took away included, and tasks whose id begins with these hex digits."""
        low, high = hex_range(digits)
        found: set[bytes] = set()
        for key in (work.c.commitment, tasks.c.task):
            query = select(key).where(key.between(low, high)).order_by(key).limit(limit)
            found |= set((await self._connection.execute(query)).scalars())
        return sorted(found)

    async def between(self, since: UnixTime, until: UnixTime, page: int = _PAGE) -> AsyncIterator[Story]:
        """Of every commitment made at ``since ≤ t < until`` (chain time), in chain order, then of the tasks that were taken,
        had their deadline in that time and were never answered. Holds one page in memory."""
        undone = await self._undone()
        block, log = BlockNumber(-1), 0
        while True:
            query = select(commitments).where(
                commitments.c.committed_at >= since,
                commitments.c.committed_at < until,
                commitments.c.block >= block,
                or_(commitments.c.block > block, commitments.c.log_index > log),
            )
            query = query.order_by(commitments.c.block, commitments.c.log_index).limit(page)
            rows = [CommitmentRow(*row) for row in await self._connection.execute(query)]
            if not rows:
                break
            for story in await self._stories(rows, undone):
                yield story
            block, log = rows[-1].block, rows[-1].log_index
        lapsed = select(tasks).where(tasks.c.closed == "lapsed", tasks.c.deadline >= since, tasks.c.deadline < until)
        found = [TaskRow(*row) for row in await self._connection.execute(lapsed.order_by(tasks.c.block))]
        for chunk in chunks(found):
            for story in await self._barren(chunk):
                yield story

    async def _barren(self, rows: Sequence[TaskRow]) -> list[Story]:
        """Of tasks without a commitment."""
        page = await self._page(rows, [])
        return [_story(row.task, None, row, page) for row in rows]

    async def _stories(self, rows: Sequence[CommitmentRow], undone: dict[CommitmentId, list[Undone]]) -> list[Story]:
        ordered = await self._chain.tasks_by_id([row.task for row in rows])
        page = await self._page(list(ordered.values()), rows)
        return [
            _story(row.commitment, row, ordered.get(row.task), page, undone.get(row.commitment, ())) for row in rows
        ]

    async def _page(self, ordered: Sequence[TaskRow], rows: Sequence[CommitmentRow]) -> _Page:
        ids = [row.commitment for row in rows]
        wanted = {task.model for task in ordered} | {row.model for row in rows}
        found = await rows_by(self._connection, models, models.c.model, sorted(wanted))
        page = _Page({row.task: row for row in ordered}, {row.model: ModelRow(*row) for row in found})
        page.disputes = _grouped(
            DisputeRow(*r) for r in await rows_by(self._connection, disputes, disputes.c.commitment, ids)
        )
        page.demands = _grouped(
            DemandRow(*r) for r in await rows_by(self._connection, demands, demands.c.commitment, ids)
        )
        page.work = {r.commitment: WorkRow(*r) for r in await rows_by(self._connection, work, work.c.commitment, ids)}
        said = {one for row in page.work.values() for one in (row.verdict, row.confirmation) if one is not None}
        judged = await rows_by(self._connection, verdicts, verdicts.c.id, sorted(said))
        page.verdicts = {row.id: VerdictRow(*row) for row in judged}
        again = (AuditRow(*r) for r in await rows_by(self._connection, audits, audits.c.commitment, ids))
        page.audits = _grouped(sorted(again))
        page.condemned = await self._condemned(wanted)
        page.beacons = await self._chain.block_hashes([BlockNumber(row.block + 1) for row in ordered])
        bound = await self._connection.execute(select(settings.c.value).where(settings.c.key == "deployment"))
        page.deployment = bound.scalar_one_or_none() or ""
        numbers: list[int] = [one.dispute for story in page.disputes.values() for one in story]
        numbers += [one.demand for story in page.demands.values() for one in story]
        page.events = await self._events(
            [*ids, *(row.task for row in ordered), *wanted, *map(codec.subject_bytes, numbers)]
        )
        page.twins = await self._twins([row for row in rows if _proved_false(row, page)])
        return page

    async def _events(self, subjects: Sequence[bytes]) -> dict[bytes, list[Happened]]:
        found: dict[bytes, list[Happened]] = defaultdict(list)
        columns = (
            events.c.kind,
            events.c.subject,
            events.c.block,
            events.c.log_index,
            events.c.block_hash,
            events.c.tx_hash,
            blocks.c.time,
        )
        joined = events.outerjoin(blocks, blocks.c.number == events.c.block)
        for chunk in chunks(subjects):
            query = select(*columns).select_from(joined).where(events.c.subject.in_(chunk))
            for row in await self._connection.execute(query.order_by(events.c.block, events.c.log_index)):
                found[row.subject].append(Happened(*row))
        return found

    async def _condemned(self, wanted: Iterable[ModelId]) -> dict[ModelId, DemandRow]:
        """The first lost demand for the weights of each of these models."""
        lost = and_(demands.c.part == Part.WEIGHTS.value, demands.c.outcome == DemandOutcome.LOST.value)
        joined = demands.join(commitments, commitments.c.commitment == demands.c.commitment)
        query = select(demands, commitments.c.model.label("whose")).select_from(joined).where(lost)
        found: dict[ModelId, DemandRow] = {}
        for row in await self._connection.execute(query.order_by(demands.c.closed_block, demands.c.closed_log)):
            model = ModelId(row[-1])
            if model in wanted:
                found.setdefault(model, DemandRow(*row[:-1]))
        return found

    async def _twins(self, false: Sequence[CommitmentRow]) -> dict[CommitmentId, CommitmentRow]:
        """The first commitment of all with the output root of each, where it is another task's and an earlier one."""
        first: dict[Hash32, CommitmentRow] = {}
        for row in await rows_by(
            self._connection, commitments, commitments.c.output_root, sorted({row.output_root for row in false})
        ):
            one = CommitmentRow(*row)
            there = first.setdefault(one.output_root, one)
            first[one.output_root] = min(there, one, key=_position)
        twins = {row.commitment: first[row.output_root] for row in false}
        return {one: twin for one, twin in twins.items() if twin.commitment != one}

    async def _undone(self, commitment: CommitmentId | None = None) -> dict[CommitmentId, list[Undone]]:
        """What was on chain and is not any more, as the journal tells it; of one commitment or of all."""
        # said so that the database sees its index of rare kinds
        back = select(journal.c.seq, journal.c.payload).where(journal.c.kind == "rewound", NOT_BULK)
        rewinds = deque((await self._connection.execute(back.order_by(journal.c.seq))).all())
        found: dict[CommitmentId, list[Undone]] = defaultdict(list)
        if not rewinds:
            return found
        query = select(journal).where(journal.c.kind.in_([_OBSERVED, _CLOSED]), journal.c.seq < rewinds[-1].seq)
        if commitment is not None:
            query = query.where(journal.c.subject == subject_of(commitment))
        lately: deque[tuple[CommitmentId, Undone]] = deque()

        def take_back(before: int) -> None:
            while rewinds and rewinds[0].seq < before:
                to = json.loads(rewinds.popleft().payload)["to"]
                while lately and lately[-1][1].block > to:
                    one, fact = lately.pop()
                    found[one].append(fact)

        async for row in await self._connection.stream(query.order_by(journal.c.seq)):
            take_back(row.seq)
            told = json.loads(row.payload)
            fact = Undone(row.kind, told["block"], Hash32(bytes.fromhex(told["block_hash"][2:])), row.time)
            lately.append((CommitmentId(bytes.fromhex(row.subject[2:])), fact))
            while lately[0][1].block < fact.block - _DEEPEST:
                lately.popleft()
        take_back(_END)
        return found


def _story(
    identity: bytes, row: CommitmentRow | None, task: TaskRow | None, page: _Page, undone: Iterable[Undone] = ()
) -> Story:
    known = row or task
    model = None if known is None else page.models.get(known.model)
    ours, parties = page.work.get(CommitmentId(identity)), page.disputes.get(CommitmentId(identity), [])
    asked = page.demands.get(CommitmentId(identity), [])
    numbers = [codec.subject_bytes(number) for number in (*(d.dispute for d in parties), *(d.demand for d in asked))]
    subjects = {identity, *numbers, *([task.task] if task else []), *([model.model] if model else [])}
    told = sorted((one for subject in subjects for one in page.events.get(subject, ())), key=_position)
    born = next((one for one in told if one.kind == "Committed"), None)
    return Story(
        identity,
        row,
        task,
        model,
        tuple(told),
        tuple(sorted(parties, key=_position)),
        tuple(sorted(asked, key=_position)),
        ours,
        None if ours is None else page.verdicts.get(ours.verdict or 0),
        None if ours is None else page.verdicts.get(ours.confirmation or 0),
        tuple(one for one in page.audits.get(identity, ()) if born is not None and one.block_hash == born.block_hash),
        page.twins.get(CommitmentId(identity)),
        None if model is None else page.condemned.get(model.model),
        tuple(undone),
        None if task is None else page.beacons.get(BlockNumber(task.block + 1)),
        page.deployment,
    )


def _proved_false(row: CommitmentRow, page: _Page) -> bool:
    ours = page.work.get(row.commitment)
    second = None if ours is None else page.verdicts.get(ours.confirmation or 0)
    if row.status == JobStatus.FRAUD.value or (second is not None and second.kind == VerdictKind.FRAUD.value):
        return True
    return any(one.kind == VerdictKind.FRAUD.value and one.confirmed for one in page.audits.get(row.commitment, ()))


def _position(row: CommitmentRow | DisputeRow | DemandRow | Happened) -> tuple[int, int]:
    return row.block, row.log_index


def _grouped(rows: Iterable[R]) -> dict[Any, list[R]]:
    found: dict[Any, list[R]] = defaultdict(list)
    for row in rows:
        found[row.commitment].append(row)
    return found
