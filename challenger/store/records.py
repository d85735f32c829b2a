"""Providers' answers, counted: what was drawn and what came of it. Reads only."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import ONE, Address, Millionths, ModelId, State, UnixTime, VerdictKind
from challenger.store.schema import commitments, verdicts, work


class Tally(NamedTuple):
    """``answers`` of one provider with one model that stand alike. ``closed``: their windows are over; ``drawn`` None
    where there was no draw (yet); ``base``: drawn by the base rate already, whatever the policy added; ``verdict`` is the
    last first-replay's, ``confirmed`` whether the second backend reproduced a fraud."""

    provider: Address
    model: ModelId
    state: State
    closed: bool
    drawn: bool | None
    base: bool
    verdict: VerdictKind | None
    confirmed: bool
    answers: int


class Records:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def tallies(self, base: Millionths, now: UnixTime, provider: Address | None = None) -> list[Tally]:
        """By provider and model. ``base``: the rate below which every draw selects."""
        # a draw is a number of 256 bits, big-endian: bytes compare as numbers do
        bar = (base << 256) // ONE
        below = work.c.drawn < bar.to_bytes(32, "big") if base < ONE else work.c.drawn.is_not(None)
        second = verdicts.alias("second")
        columns = (
            commitments.c.provider,
            commitments.c.model,
            work.c.state,
            (commitments.c.closes <= now).label("closed"),
            work.c.selected,
            func.coalesce(below, literal(False)).label("base"),
            verdicts.c.kind,
            func.coalesce(second.c.kind == VerdictKind.FRAUD.value, literal(False)).label("confirmed"),
        )
        joined = (
            commitments.join(work, work.c.commitment == commitments.c.commitment)
            .outerjoin(verdicts, verdicts.c.id == work.c.verdict)
            .outerjoin(second, second.c.id == work.c.confirmation)
        )
        query = select(*columns, func.count().label("answers")).select_from(joined).group_by(*columns)
        if provider is not None:
            query = query.where(commitments.c.provider == provider)
        query = query.order_by(commitments.c.provider, commitments.c.model)
        return [
            Tally(
                row.provider,
                row.model,
                State(row.state),
                bool(row.closed),
                None if row.selected is None else bool(row.selected),
                bool(row.base),
                None if row.kind is None else VerdictKind(row.kind),
                bool(row.confirmed),
                row.answers,
            )
            for row in await self._connection.execute(query)
        ]
