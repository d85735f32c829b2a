"""What the self-test planted and what came of it: a table of its own, which nothing but the self-test and reports read."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import CommitmentId, Hash32, ModelId, PlantId, UnixTime, VerdictKind
from challenger.errors import StaleRow
from challenger.store.journal import Journal
from challenger.store.schema import commitments, selftests, verdicts

#: Valid answers of the recent past from which another one is taken.
_RECENT = 200


class Outcome(StrEnum):
    """``BROKEN_OFF``: a real case, or the end of the process, came before the verdict; it says nothing of recall."""

    OPEN = "open"
    CAUGHT = "caught"
    MISSED = "missed"
    UNDECIDED = "undecided"
    BROKEN_OFF = "broken-off"


class SelfTestRow(NamedTuple):
    """``source``: the honest commitment that the item was made from; ``ended`` None while it is under way."""

    id: int
    time: UnixTime
    model: ModelId
    source: CommitmentId
    change: str
    output_root: Hash32
    state_root: Hash32
    outcome: str
    detail: str
    microseconds: int
    ended: UnixTime | None


class Judged(NamedTuple):
    """A VALID verdict of the record."""

    verdict: int
    commitment: CommitmentId


class SelfTests:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def plant(
        self, model: ModelId, source: CommitmentId, change: str, output_root: Hash32, state_root: Hash32
    ) -> PlantId:
        """Records the item before anything judges it."""
        values = {
            "time": self._now,
            "model": model,
            "source": source,
            "change": change,
            "output_root": output_root,
            "state_root": state_root,
        }
        rest = {"outcome": Outcome.OPEN.value, "detail": "", "microseconds": 0}
        result = await self._connection.execute(insert(selftests).values(**values, **rest).returning(selftests.c.id))
        planted = PlantId(result.scalar_one())
        told = {name: value for name, value in values.items() if name != "time"}
        await self._journal.write(self._now, "selftest-planted", planted.subject, told)
        return planted

    async def end(self, planted: PlantId, outcome: Outcome, detail: str, seconds: float = 0.0) -> None:
        """What came of it. Raises StaleRow when it has ended before."""
        microseconds = round(seconds * 1_000_000)
        statement = (
            update(selftests)
            .where(selftests.c.id == planted.number, selftests.c.outcome == Outcome.OPEN.value)
            .values(outcome=outcome.value, detail=detail, microseconds=microseconds, ended=self._now)
        )
        if (await self._connection.execute(statement)).rowcount != 1:
            raise StaleRow("this planted item has ended", planted=planted.subject)
        told = {"outcome": outcome.value, "detail": detail, "microseconds": microseconds}
        await self._journal.write(self._now, "selftest-ended", planted.subject, told)

    async def open(self) -> list[PlantId]:
        """Items without an end: what a process left behind when it died."""
        query = select(selftests.c.id).where(selftests.c.outcome == Outcome.OPEN.value).order_by(selftests.c.id)
        return [PlantId(number) for number in (await self._connection.execute(query)).scalars()]

    async def counts(self) -> dict[Outcome, int]:
        """Items by outcome."""
        query = select(selftests.c.outcome, func.count()).group_by(selftests.c.outcome)
        return {Outcome(name): count for name, count in await self._connection.execute(query)}

    async def newest(self, limit: int = 1) -> list[SelfTestRow]:
        query = select(selftests).order_by(selftests.c.id.desc()).limit(limit)
        return [SelfTestRow(*row) for row in await self._connection.execute(query)]

    # what items are made from

    async def last_verdict(self) -> int:
        """The number of the newest verdict; 0 when there is none."""
        return (await self._connection.execute(select(func.max(verdicts.c.id)))).scalar_one() or 0

    async def valid_after(self, verdict: int, limit: int = 1_000) -> list[Judged]:
        """VALID verdicts that came after this one, oldest first."""
        query = select(verdicts.c.id, verdicts.c.commitment)
        query = query.where(verdicts.c.id > verdict, verdicts.c.kind == VerdictKind.VALID.value)
        return [Judged(*row) for row in await self._connection.execute(query.order_by(verdicts.c.id).limit(limit))]

    async def others(self, model: ModelId, *, same: bool) -> list[CommitmentId]:
        """Recent commitments with a VALID verdict, of this ``model`` or (``same`` False) of any other."""
        joined = verdicts.join(commitments, commitments.c.commitment == verdicts.c.commitment)
        of = commitments.c.model == model if same else commitments.c.model != model
        query = select(verdicts.c.commitment).select_from(joined)
        query = query.where(verdicts.c.kind == VerdictKind.VALID.value, of)
        rows = (await self._connection.execute(query.order_by(verdicts.c.id.desc()).limit(_RECENT))).scalars()
        return list(dict.fromkeys(rows))
