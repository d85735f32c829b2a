"""What the chain said, and of commitments where they stand with us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Address,
    BlockNumber,
    CommitmentId,
    DemandOutcome,
    DisputeOutcome,
    JobStatus,
    ModelId,
    Part,
    State,
    TaskId,
    UnixTime,
    VerdictKind,
)
from challenger.store.listed.terms import blocks, is_, place, word
from challenger.store.listing import Filter, Listed, Timed
from challenger.store.rows import (
    CommitmentRow,
    DemandRow,
    DisputeRow,
    ModelRow,
    TaskRow,
    WorkRow,
)
from challenger.store.schema import (
    RARE_STATUS,
    commitments,
    demands,
    disputes,
    epochs,
    models,
    tasks,
    verdicts,
    work,
)


@dataclass(frozen=True, kw_only=True)
class Blocks(Filter):
    """Blocks ``from_block ≤ b ≤ to_block``."""

    from_block: BlockNumber | None = None
    to_block: BlockNumber | None = None


@dataclass(frozen=True, kw_only=True)
class ModelFilter(Blocks):
    registrar: Address | None = None
    disabled: bool | None = None


MODELS = Listed(
    "models",
    ModelFilter,
    select(models),
    place(models),
    ModelRow,
    {**blocks(models), "registrar": is_(models.c.registrar), "disabled": models.c.disabled.is_},
)


@dataclass(frozen=True, kw_only=True)
class TaskFilter(Blocks):
    """``open``: no provider has taken it, and it may still be taken."""

    model: ModelId | None = None
    requester: Address | None = None
    provider: Address | None = None
    open: bool | None = None


def _open(value: bool) -> ColumnElement[bool]:
    free = tasks.c.provider.is_(None) & tasks.c.closed.is_(None)
    return free if value else ~free


TASKS = Listed(
    "tasks",
    TaskFilter,
    select(tasks),
    place(tasks),
    TaskRow,
    {
        **blocks(tasks),
        "model": is_(tasks.c.model),
        "requester": is_(tasks.c.requester),
        "provider": is_(tasks.c.provider),
        "open": _open,
    },
)


class CommitmentListed(NamedTuple):
    """A commitment, where it stands with us, and the last verdicts: the first backend's, the second's on a fraud."""

    commitment: CommitmentRow
    work: WorkRow
    verdict: VerdictKind | None
    confirmation: VerdictKind | None


@dataclass(frozen=True, kw_only=True)
class CommitmentFilter(Timed, Blocks):
    """``verdict``: the last first-replay's; ``confirmation``: the second backend's; times are of the commitment."""

    provider: Address | None = None
    model: ModelId | None = None
    state: State | None = None
    status: JobStatus | None = None
    verdict: VerdictKind | None = None
    confirmation: VerdictKind | None = None
    selected: bool | None = None
    epoch: int | None = None


_second = verdicts.alias("second")
_CUTS = len(CommitmentRow._fields), len(CommitmentRow._fields) + len(WorkRow._fields)


def _commitment(*row: Any) -> CommitmentListed:
    first, second = (None if kind is None else VerdictKind(kind) for kind in row[_CUTS[1] :])
    return CommitmentListed(CommitmentRow(*row[: _CUTS[0]]), WorkRow(*row[_CUTS[0] : _CUTS[1]]), first, second)


def _status(value: JobStatus) -> ColumnElement[bool]:
    """Rare ones have an index, which the database sees by these words."""
    same = word(commitments.c.status)(value)
    return same & RARE_STATUS if value in (JobStatus.FRAUD, JobStatus.VOID) else same


def _verdict(value: VerdictKind) -> ColumnElement[bool]:
    """What few verdicts say is looked for among the verdicts: from the newest commitment down it would be far."""
    same = word(verdicts.c.kind)(value)
    if value is VerdictKind.VALID:
        return same
    some = verdicts.alias("some")
    return same & commitments.c.commitment.in_(select(some.c.commitment).where(word(some.c.kind)(value)))


def _confirmation(value: VerdictKind) -> ColumnElement[bool]:
    return word(_second.c.kind)(value) & work.c.confirmation.is_not(None)


def _epoch(number: int) -> ColumnElement[bool]:
    """Its blocks bound where to look."""
    there = epochs.c.number == number
    opens, closes = (
        select(edge).where(there).scalar_subquery() for edge in (epochs.c.opens_block, epochs.c.closes_block)
    )
    return (work.c.epoch == number) & (commitments.c.block >= opens) & (commitments.c.block < closes)


COMMITMENTS = Listed(
    "commitments",
    CommitmentFilter,
    select(commitments, work, verdicts.c.kind, _second.c.kind.label("confirmation_kind")).select_from(
        commitments.join(work, work.c.commitment == commitments.c.commitment)
        .outerjoin(verdicts, verdicts.c.id == work.c.verdict)
        .outerjoin(_second, _second.c.id == work.c.confirmation)
    ),
    place(commitments),
    _commitment,
    {
        **blocks(commitments),
        "provider": is_(commitments.c.provider),
        "model": is_(commitments.c.model),
        "state": word(work.c.state),
        "status": _status,
        "verdict": _verdict,
        "confirmation": _confirmation,
        "selected": work.c.selected.is_,
        "epoch": _epoch,
    },
    commitments.c.committed_at,
)


@dataclass(frozen=True, kw_only=True)
class DisputeFilter(Blocks):
    commitment: CommitmentId | None = None
    challenger: Address | None = None
    outcome: DisputeOutcome | None = None


DISPUTES = Listed(
    "disputes",
    DisputeFilter,
    select(disputes),
    place(disputes),
    DisputeRow,
    {
        **blocks(disputes),
        "commitment": is_(disputes.c.commitment),
        "challenger": is_(disputes.c.challenger),
        "outcome": word(disputes.c.outcome),
    },
)


@dataclass(frozen=True, kw_only=True)
class DemandFilter(Blocks):
    commitment: CommitmentId | None = None
    demander: Address | None = None
    outcome: DemandOutcome | None = None
    part: Part | None = None


DEMANDS = Listed(
    "demands",
    DemandFilter,
    select(demands),
    place(demands),
    DemandRow,
    {
        **blocks(demands),
        "commitment": is_(demands.c.commitment),
        "demander": is_(demands.c.demander),
        "outcome": word(demands.c.outcome),
        "part": word(demands.c.part),
    },
)


class ProviderListed(NamedTuple):
    """A provider that ever committed. Track records are ``view.records``."""

    provider: Address
    answers: int
    first_block: BlockNumber
    last_block: BlockNumber
    last_committed: UnixTime


def _known_providers() -> Select[Any]:
    """Each provider once, by one look into the index each: of a million rows none but these are read."""
    known = select(func.min(commitments.c.provider).label("provider")).cte("known", recursive=True)
    after = select(func.min(commitments.c.provider)).where(commitments.c.provider > known.c.provider)
    known = known.union_all(select(after.scalar_subquery()).where(known.c.provider.is_not(None)))
    return select(known.c.provider).where(known.c.provider.is_not(None))


async def _answers(connection: AsyncConnection, rows: list[Address]) -> list[ProviderListed]:
    block = commitments.c.block
    # these three are in the index itself
    told = select(commitments.c.provider, func.count().label("answers"), func.min(block), func.max(block).label("last"))
    counted = told.where(commitments.c.provider.in_(rows)).group_by(commitments.c.provider).subquery()
    there = commitments.alias("there")
    newest = select(func.max(there.c.committed_at)).where(
        there.c.provider == counted.c.provider, there.c.block == counted.c.last
    )
    found = {row[0]: row for row in await connection.execute(select(counted, newest.scalar_subquery()))}
    return [ProviderListed(*found[one]) for one in rows]


_providers = _known_providers()
PROVIDERS: Listed[Filter, Any] = Listed(
    "providers", Filter, _providers, (_providers.selected_columns.provider,), Address, attach=_answers
)


async def commitment_of(connection: AsyncConnection, task: TaskRow) -> CommitmentId | None:
    """The provider's answer to ``task``; None where there is none."""
    if task.provider is None or task.taken_block is None:
        return None
    row = commitments.c
    # its provider's, from where it was taken: commitments have no index by task
    query = select(row.commitment).where(row.provider == task.provider, row.block >= task.taken_block)
    query = query.where(row.task == TaskId(task.task)).order_by(row.block).limit(1)
    found: CommitmentId | None = (await connection.execute(query)).scalar_one_or_none()
    return found
