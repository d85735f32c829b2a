"""Sampling epochs: the secret before, its commitment and anchor, and the reveal after."""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import BlockNumber, Hash32, UnixTime
from challenger.errors import StaleRow
from challenger.store.journal import Journal
from challenger.store.rows import EpochRow
from challenger.store.schema import epochs


class Epochs:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def open(self, epoch: EpochRow) -> None:
        """Records ``epoch`` before its first block; the journal gets the commitment, never the secret.

        Raises StoreError when the number is taken.
        """
        await self._connection.execute(insert(epochs).values(**epoch._asdict()))
        told = {
            "opens": epoch.opens_block,
            "closes": epoch.closes_block,
            "policy_digest": epoch.policy_digest,
            "policy": epoch.policy,
            "commitment": epoch.commitment,
        }
        await self._journal.write(self._now, "epoch-opened", f"epoch/{epoch.number}", told)

    async def get(self, number: int) -> EpochRow | None:
        return await self._one(epochs.c.number == number)

    async def of_block(self, block: BlockNumber) -> EpochRow | None:
        """The epoch in which a commitment of ``block`` is drawn."""
        return await self._one((epochs.c.opens_block <= block) & (epochs.c.closes_block > block))

    async def latest(self) -> EpochRow | None:
        row = (await self._connection.execute(select(epochs).order_by(epochs.c.number.desc()).limit(1))).one_or_none()
        return None if row is None else EpochRow(*row)

    async def all(self) -> list[EpochRow]:
        return [EpochRow(*row) for row in await self._connection.execute(select(epochs).order_by(epochs.c.number))]

    async def anchored(self, number: int, tx: Hash32, block: BlockNumber | None) -> None:
        """The commitment is on chain: ``block`` is None until the transaction is mined (or after a reorg)."""
        await self._set(number, "epoch-anchored", anchor_tx=tx, anchor_block=block)

    async def revealed(self, number: int, tx: Hash32 | None) -> None:
        """The secret is public from now on; ``tx`` is None where there is no chain to write to."""
        await self._set(number, "epoch-revealed", revealed_at=self._now, reveal_tx=tx)

    async def _set(self, number: int, kind: str, **changes: Any) -> None:
        result = await self._connection.execute(update(epochs).where(epochs.c.number == number).values(**changes))
        if result.rowcount != 1:
            raise StaleRow("no such epoch", epoch=number)
        await self._journal.write(self._now, kind, f"epoch/{number}", changes)

    async def _one(self, where: Any) -> EpochRow | None:
        row = (await self._connection.execute(select(epochs).where(where))).one_or_none()
        return None if row is None else EpochRow(*row)
