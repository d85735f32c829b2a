"""The record read as history: every commitment of a range, how it ended, and what replays said of it. Reads only."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import Address, BlockNumber, CommitmentId, TaskId, UnixTime, VerdictKind, Wei
from challenger.store.rows import CommitmentRow, DemandRow, DisputeRow
from challenger.store.schema import audits, blocks, commitments, demands, disputes, tasks, transactions, verdicts, work

_UNAVAILABLE = VerdictKind.UNAVAILABLE.value
_JUDGED = (VerdictKind.VALID.value, VerdictKind.FRAUD.value)


class Said(NamedTuple):
    """The last word of replays on one commitment. A FRAUD of the watcher's was reproduced by its second backend; an
    audit's need not have been."""

    commitment: CommitmentId
    kind: VerdictKind
    detail: str


class Hindsight:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def range(self) -> tuple[BlockNumber, BlockNumber]:
        """From the first block with a commitment to the last that is indexed; (0, 0) where there is none."""
        first = (await self._connection.execute(select(func.min(commitments.c.block)))).scalar_one()
        last = (await self._connection.execute(select(func.max(blocks.c.number)))).scalar_one()
        return BlockNumber(first or 0), BlockNumber(last or 0)

    async def commitments(self, first: BlockNumber, last: BlockNumber) -> list[CommitmentRow]:
        """In blocks ``first ≤ b ≤ last``, in chain order."""
        query = select(commitments).where(commitments.c.block.between(first, last))
        found = await self._connection.stream(query.order_by(commitments.c.block, commitments.c.log_index))
        return [CommitmentRow(*row) async for row in found]

    async def fees(self) -> dict[TaskId, Wei]:
        return {
            row.task: Wei(row.fee) async for row in await self._connection.stream(select(tasks.c.task, tasks.c.fee))
        }

    async def disputes(self) -> list[DisputeRow]:
        return [DisputeRow(*row) async for row in await self._connection.stream(select(disputes))]

    async def demands(self) -> list[DemandRow]:
        return [DemandRow(*row) async for row in await self._connection.stream(select(demands))]

    async def block_times(self) -> list[tuple[BlockNumber, UnixTime]]:
        """Of the blocks that the ledger still keeps, in order."""
        found = await self._connection.execute(select(blocks.c.number, blocks.c.time).order_by(blocks.c.number))
        return [(BlockNumber(row.number), UnixTime(row.time)) for row in found]

    async def accounts(self) -> frozenset[Address]:
        """Those that the watcher ever sent from."""
        return frozenset((await self._connection.execute(select(transactions.c.account).distinct())).scalars())

    async def said(self) -> dict[CommitmentId, Said]:
        """What replays said: the watcher, and audits where it came to no result. Data that is away is one only where
        no audit had it."""
        found: dict[CommitmentId, Said] = {}
        audited = select(audits.c.commitment, audits.c.kind, audits.c.detail).where(audits.c.kind.in_(_JUDGED))
        async for row in await self._connection.stream(audited.order_by(audits.c.id)):
            found[row.commitment] = Said(row.commitment, VerdictKind(row.kind), row.detail)
        # a fraud is the second backend's verdict; what it has not borne out is none
        decisive = case((verdicts.c.kind == VerdictKind.FRAUD.value, work.c.confirmation), else_=work.c.verdict)
        last = verdicts.alias("last")
        watched = select(work.c.commitment, last.c.kind, last.c.detail).select_from(
            work.join(verdicts, verdicts.c.id == work.c.verdict).join(last, last.c.id == decisive)
        )
        async for row in await self._connection.stream(watched):
            if row.kind in _JUDGED or (row.kind == _UNAVAILABLE and row.commitment not in found):
                found[row.commitment] = Said(row.commitment, VerdictKind(row.kind), row.detail)
        return found
