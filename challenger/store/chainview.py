"""The chain as indexed: models, tasks, commitments, disputes and demands, with the bytes their events carried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Column, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Address,
    Block,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    DemandId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Hash32,
    JobStatus,
    ModelId,
    TaskId,
    UnixTime,
)
from challenger.store import codec
from challenger.store.bulk import chunks, rows_by
from challenger.store.codec import subject_bytes
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow, ModelRow, TaskRow
from challenger.store.schema import blocks, commitments, demands, disputes, events, models, tasks
from challenger.store.subjects import hex_range

R = TypeVar("R")


class Money(NamedTuple):
    """What closed disputes and demands moved, in wei: ``paid`` to the winners, ``burnt`` to nobody."""

    paid: int
    burnt: int


class ChainView:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    # --- one ------------------------------------------------------------------------------------------------------

    async def model(self, model: ModelId) -> ModelRow | None:
        return await self._one(models, models.c.model == model, ModelRow)

    async def task(self, task: TaskId) -> TaskRow | None:
        return await self._one(tasks, tasks.c.task == task, TaskRow)

    async def commitment(self, commitment: CommitmentId) -> CommitmentRow | None:
        return await self._one(commitments, commitments.c.commitment == commitment, CommitmentRow)

    async def dispute(self, dispute: DisputeId) -> DisputeRow | None:
        return await self._one(disputes, disputes.c.dispute == dispute, DisputeRow)

    async def demand(self, demand: DemandId) -> DemandRow | None:
        return await self._one(demands, demands.c.demand == demand, DemandRow)

    async def block(self, number: BlockNumber) -> Block | None:
        """The block as the ledger has it: not every block is kept."""
        row = (await self._connection.execute(select(blocks).where(blocks.c.number == number))).one_or_none()
        return None if row is None else Block(*row)

    # --- what the events carried ----------------------------------------------------------------------------------

    async def data(self, row: ModelRow | TaskRow | CommitmentRow) -> bytes:
        """The bytes given on chain: a model's known input, a task's input, a commitment's output. Empty when they
        were given by URI."""
        return await self._data(row.block, row.log_index)

    async def answer(self, row: DemandRow) -> bytes:
        """What was posted in answer to a demand; empty when nothing was (yet)."""
        if row.closed_block is None or row.closed_log is None:
            return b""
        return await self._data(row.closed_block, row.closed_log)

    async def history(self, aggregate: str, identity: bytes | int) -> list[ChainEvent]:
        """Every event of one aggregate (``model``, ``task``, ``commitment``, ``dispute``, ``demand``), in order."""
        query = select(events).where(
            events.c.subject == subject_bytes(identity), events.c.kind.in_(codec.KINDS[aggregate])
        )
        query = query.order_by(events.c.block, events.c.log_index)
        return [codec.decode(row) for row in await self._connection.execute(query)]

    # --- many -----------------------------------------------------------------------------------------------------

    async def models(self) -> list[ModelRow]:
        return [ModelRow(*row) for row in await self._all(select(models).order_by(*_position(models)))]

    async def commitments(
        self,
        *,
        model: ModelId | None = None,
        provider: Address | None = None,
        status: JobStatus | None = None,
        before: tuple[BlockNumber, int] | None = None,
        limit: int = 100,
    ) -> list[CommitmentRow]:
        """The newest first, ``limit`` a page; ``before`` is the (block, log index) of the last one seen."""
        query = select(commitments)
        if model is not None:
            query = query.where(commitments.c.model == model)
        if provider is not None:
            query = query.where(commitments.c.provider == provider)
        if status is not None:
            query = query.where(commitments.c.status == status.value)
        rows = await self._all(_page(query, commitments, before, limit))
        return [CommitmentRow(*row) for row in rows]

    async def commitments_beginning(self, digits: str, limit: int = 4) -> list[CommitmentId]:
        """Ids that begin with these hex digits."""
        query = select(commitments.c.commitment).where(commitments.c.commitment.between(*hex_range(digits)))
        return list((await self._connection.execute(query.order_by(commitments.c.commitment).limit(limit))).scalars())

    async def tasks(
        self,
        *,
        untaken: bool = False,
        before: tuple[BlockNumber, int] | None = None,
        limit: int = 100,
    ) -> list[TaskRow]:
        """The newest first; ``untaken``: only those that a provider may still take."""
        query = select(tasks)
        if untaken:
            query = query.where(tasks.c.provider.is_(None), tasks.c.closed.is_(None))
        return [TaskRow(*row) for row in await self._all(_page(query, tasks, before, limit))]

    async def tasks_by_id(self, ids: Sequence[TaskId]) -> dict[TaskId, TaskRow]:
        found = await rows_by(self._connection, tasks, tasks.c.task, ids)
        return {row.task: TaskRow(*row) for row in found}

    async def disputes(
        self,
        *,
        commitment: CommitmentId | None = None,
        challenger: Address | None = None,
        outcome: DisputeOutcome | None = None,
        before: tuple[BlockNumber, int] | None = None,
        limit: int = 100,
    ) -> list[DisputeRow]:
        """The newest first, ``limit`` a page."""
        query = select(disputes)
        if commitment is not None:
            query = query.where(disputes.c.commitment == commitment)
        if challenger is not None:
            query = query.where(disputes.c.challenger == challenger)
        if outcome is not None:
            query = query.where(disputes.c.outcome == outcome.value)
        return [DisputeRow(*row) for row in await self._all(_page(query, disputes, before, limit))]

    async def demands(
        self,
        *,
        commitment: CommitmentId | None = None,
        demander: Address | None = None,
        outcome: DemandOutcome | None = None,
        before: tuple[BlockNumber, int] | None = None,
        limit: int = 100,
    ) -> list[DemandRow]:
        """The newest first, ``limit`` a page."""
        query = select(demands)
        if commitment is not None:
            query = query.where(demands.c.commitment == commitment)
        if demander is not None:
            query = query.where(demands.c.demander == demander)
        if outcome is not None:
            query = query.where(demands.c.outcome == outcome.value)
        return [DemandRow(*row) for row in await self._all(_page(query, demands, before, limit))]

    async def block_hashes(self, numbers: Sequence[BlockNumber]) -> dict[BlockNumber, Hash32]:
        """Those of ``numbers`` that the ledger has."""
        return {row.number: row.hash for row in await rows_by(self._connection, blocks, blocks.c.number, numbers)}

    async def blocks_of_events(self, numbers: Sequence[BlockNumber]) -> frozenset[tuple[BlockNumber, Hash32]]:
        """Number and hash of the blocks at these heights that events of the record are in."""
        found: set[tuple[BlockNumber, Hash32]] = set()
        for chunk in chunks(sorted(set(numbers))):
            query = select(events.c.block, events.c.block_hash).where(events.c.block.in_(chunk)).distinct()
            found |= {(row.block, row.block_hash) for row in await self._connection.execute(query)}
        return frozenset(found)

    async def head(self) -> Block | None:
        """The highest block in the ledger."""
        row = (await self._connection.execute(select(blocks).order_by(blocks.c.number.desc()).limit(1))).one_or_none()
        return None if row is None else Block(*row)

    async def last_close(self, opens: BlockNumber, closes: BlockNumber) -> UnixTime | None:
        """When the last window of the commitments in blocks ``opens ≤ b < closes`` closes; None without any."""
        query = select(func.max(commitments.c.closes))
        query = query.where(commitments.c.block >= opens, commitments.c.block < closes)
        latest: UnixTime | None = (await self._connection.execute(query)).scalar_one()
        return latest

    async def money(self) -> Money:
        paid = burnt = 0
        for table in (disputes, demands):
            for row in await self._connection.execute(select(table.c.paid, table.c.burnt)):
                paid += row.paid
                burnt += row.burnt
        return Money(paid, burnt)

    # --- within ---------------------------------------------------------------------------------------------------

    async def _one(self, table: Table, condition: Any, kind: Callable[..., R]) -> R | None:
        row = (await self._connection.execute(select(table).where(condition))).one_or_none()
        return None if row is None else kind(*row)

    async def _all(self, query: Any) -> Sequence[Any]:
        return (await self._connection.execute(query)).all()

    async def _data(self, block: BlockNumber, log_index: int) -> bytes:
        query = select(events.c.data).where(events.c.block == block, events.c.log_index == log_index)
        found: bytes = (await self._connection.execute(query)).scalar_one()
        return found


def _position(table: Table) -> tuple[Column[Any], Column[Any]]:
    return table.c.block, table.c.log_index


def _page(query: Any, table: Table, before: tuple[BlockNumber, int] | None, limit: int) -> Any:
    block, log = _position(table)
    if before is not None:
        query = query.where((block < before[0]) | and_(block == before[0], log < before[1]))
    return query.order_by(block.desc(), log.desc()).limit(limit)
