"""Providers' answers, counted: what was drawn and what came of it. Reads only."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import ColumnElement, FromClause, and_, func, literal, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import ONE, Address, Millionths, ModelId, State, UnixTime, VerdictKind
from challenger.store.schema import blocks, commitments, tasks, verdicts, work


class Tally(NamedTuple):
    """``answers`` of one provider with one model that stand alike. ``closed``: their first windows are over, as they were
    committed; ``extended``: and longer ones, which demands and disputes gave them, are not. ``drawn`` None where there was no
    draw (yet); ``base``: drawn by the base rate already, whatever the policy added; ``verdict`` is the last first-replay's,
    ``confirmed`` whether the second backend reproduced a fraud. ``start``: of the period in which they were committed, 0
    where there are none."""

    provider: Address
    model: ModelId
    state: State
    closed: bool
    drawn: bool | None
    base: bool
    verdict: VerdictKind | None
    confirmed: bool
    answers: int
    start: UnixTime = UnixTime(0)
    extended: bool = False


class Took(NamedTuple):
    """``answers`` of one provider with one model that took as many ``seconds`` of chain time."""

    provider: Address
    model: ModelId
    seconds: int
    answers: int


class Records:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def tallies(
        self, base: Millionths, now: UnixTime, provider: Address | None = None, period: int = 0
    ) -> list[Tally]:
        """By provider and model, and by ``period`` seconds of commitment where it is not 0. ``base``: the rate below which
        every draw selects."""
        # a draw is a number of 256 bits, big-endian: bytes compare as numbers do
        bar = (base << 256) // ONE
        below = work.c.drawn < bar.to_bytes(32, "big") if base < ONE else work.c.drawn.is_not(None)
        second = verdicts.alias("second")
        columns = (
            commitments.c.provider,
            commitments.c.model,
            work.c.state,
            # an extension follows from the draw, which must not decide what is counted
            (work.c.seen_closes <= now).label("closed"),
            and_(work.c.seen_closes <= now, commitments.c.closes > now).label("extended"),
            work.c.selected,
            func.coalesce(below, literal(False)).label("base"),
            verdicts.c.kind,
            func.coalesce(second.c.kind == VerdictKind.FRAUD.value, literal(False)).label("confirmed"),
            (
                commitments.c.committed_at - commitments.c.committed_at % literal_column(str(period))
                if period
                else literal(0)
            ).label("start"),
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
                UnixTime(row.start),
                bool(row.extended),
            )
            for row in await self._connection.execute(query)
        ]

    async def committed_after(self, provider: Address | None = None) -> list[Took]:
        """From the task's being taken to the commitment. Those whose taking is not in the index are left out."""
        joined = commitments.join(tasks, tasks.c.task == commitments.c.task).join(
            blocks, blocks.c.number == tasks.c.taken_block
        )
        return await self._took(joined, commitments.c.committed_at - blocks.c.time, provider)

    async def judged_after(self, provider: Address | None = None) -> list[Took]:
        """From the commitment to the first verdict for which all data was there: what is drawn alone. Our own queue and
        the replay are in it."""
        first = (
            select(verdicts.c.commitment, func.min(verdicts.c.time).label("time"))
            .where(verdicts.c.kind.in_([VerdictKind.VALID.value, VerdictKind.FRAUD.value]))
            .group_by(verdicts.c.commitment)
            .subquery()
        )
        joined = commitments.join(first, first.c.commitment == commitments.c.commitment)
        return await self._took(joined, first.c.time - commitments.c.committed_at, provider)

    async def _took(self, joined: FromClause, seconds: ColumnElement[int], provider: Address | None) -> list[Took]:
        columns = (commitments.c.provider, commitments.c.model, seconds.label("seconds"))
        query = select(*columns, func.count().label("answers")).select_from(joined).group_by(*columns)
        if provider is not None:
            query = query.where(commitments.c.provider == provider)
        return [
            Took(row.provider, row.model, row.seconds, row.answers) for row in await self._connection.execute(query)
        ]
