"""The small aggregates: pauses and approvals, settings, latencies."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import UnixTime
from challenger.errors import StaleRow, StoreError
from challenger.store.journal import Journal
from challenger.store.rows import ApprovalRow, PauseRow
from challenger.store.schema import approvals, latencies, pauses, settings

#: Samples of one action that are kept, and of which the p99 is taken.
_SAMPLES = 1000
#: The subject of a pause that stops all filing.
EVERYTHING = "filing"


def scope_of(subject: str) -> str:
    """What a pause of ``subject`` stops, in words."""
    return "all filing" if subject == EVERYTHING else f"model {subject}"


class Approvals:
    """Where a person decides: pauses, which stop filing until resumed, and single actions approved or refused."""

    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def pause(self, reason: str, subject: str, detail: str) -> PauseRow:
        """Stops filing for ``reason`` about ``subject``; the pause in force is given when there is one already."""
        for there in await self.active():
            if (there.reason, there.subject) == (reason, subject):
                return there
        values = {"reason": reason, "subject": subject, "detail": detail, "opened_at": self._now, "note": ""}
        result = await self._connection.execute(insert(pauses).values(**values).returning(*pauses.c))
        row = PauseRow(*result.one())
        told = {"id": row.id, "reason": reason, "detail": detail}
        await self._journal.write(self._now, "paused", subject, told)
        return row

    async def active(self) -> list[PauseRow]:
        """Pauses that nobody resumed, oldest first."""
        return await self._pauses(pauses.c.resumed_at.is_(None))

    async def against(self, *subjects: str) -> str:
        """Which pause of all filing, or about one of ``subjects``, nobody has resumed; empty when there is none."""
        found = [pause for pause in await self.active() if pause.subject in (EVERYTHING, *subjects)]
        return f"paused: {found[0].detail}" if found else ""

    async def all(self) -> list[PauseRow]:
        return await self._pauses(pauses.c.id > 0)

    async def since(self, reason: str, subject: str, time: UnixTime) -> list[PauseRow]:
        """Pauses for ``reason`` about ``subject`` opened at or after ``time``, resumed or not."""
        return await self._pauses(
            (pauses.c.reason == reason) & (pauses.c.subject == subject) & (pauses.c.opened_at >= time)
        )

    async def resume(self, identity: int, person: str, note: str = "") -> None:
        """``person`` takes responsibility. Raises StaleRow when the pause is not in force."""
        statement = (
            update(pauses)
            .where(pauses.c.id == identity, pauses.c.resumed_at.is_(None))
            .values(resumed_at=self._now, resumed_by=person[:80], note=note)
            .returning(pauses.c.subject)
        )
        subject = (await self._connection.execute(statement)).scalar_one_or_none()
        if subject is None:
            raise StaleRow("no such pause in force", pause=identity)
        await self._journal.write(self._now, "resumed", subject, {"id": identity, "person": person, "note": note})

    async def decide(self, subject: str, action: str, *, approved: bool, person: str, note: str = "") -> None:
        """A person's word on one action; a later one replaces it (the journal keeps both)."""
        key = (approvals.c.subject == subject) & (approvals.c.action == action)
        await self._connection.execute(delete(approvals).where(key))
        row = ApprovalRow(subject, action, approved, person[:80], note, self._now)
        await self._connection.execute(insert(approvals).values(**row._asdict()))
        told = {"action": action, "approved": approved, "person": person, "note": note}
        await self._journal.write(self._now, "decided", subject, told)

    async def decision(self, subject: str, action: str) -> ApprovalRow | None:
        key = (approvals.c.subject == subject) & (approvals.c.action == action)
        row = (await self._connection.execute(select(approvals).where(key))).one_or_none()
        return None if row is None else ApprovalRow(*row)

    async def _pauses(self, condition: object) -> list[PauseRow]:
        query = select(pauses).where(condition).order_by(pauses.c.id)  # type: ignore[arg-type]
        return [PauseRow(*row) for row in await self._connection.execute(query)]


class Settings:
    """Small facts that must survive: keys and text."""

    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def get(self, key: str) -> str | None:
        query = select(settings.c.value).where(settings.c.key == key)
        return (await self._connection.execute(query)).scalar_one_or_none()

    async def put(self, key: str, value: str) -> None:
        """No secrets: the journal is told."""
        await self._connection.execute(delete(settings).where(settings.c.key == key))
        await self._connection.execute(insert(settings).values(key=key, value=value))
        await self._journal.write(self._now, "setting", key, {"value": value})

    async def keep(self, key: str, value: str) -> None:
        """As ``put``, where it is not so already."""
        if await self.get(key) != value:
            await self.put(key, value)

    async def pin(self, key: str, value: str) -> None:
        """Sets ``key`` once and for all: one database follows one chain and one deployment.

        Raises StoreError when it holds another value.
        """
        there = await self.get(key)
        if there is None:
            await self.put(key, value)
        elif there != value:
            raise StoreError(f"this database belongs to another {key}: use another file", stored=there, asked=value)


class Latencies:
    """How long actions took, for the 99th percentiles that the slack is reckoned with."""

    def __init__(self, connection: AsyncConnection, now: UnixTime) -> None:
        self._connection = connection
        self._now = now

    async def add(self, action: str, seconds: float) -> None:
        """Keeps the sample and forgets those older than the last thousand of this action."""
        sample = {"action": action, "microseconds": max(0, round(seconds * 1_000_000)), "time": self._now}
        await self._connection.execute(insert(latencies).values(**sample))
        keep = select(latencies.c.id).where(latencies.c.action == action).order_by(latencies.c.id.desc())
        oldest = (await self._connection.execute(keep.offset(_SAMPLES - 1).limit(1))).scalar_one_or_none()
        if oldest is not None:
            gone = delete(latencies).where(latencies.c.action == action, latencies.c.id < oldest)
            await self._connection.execute(gone)

    async def p99(self, action: str) -> float | None:
        """Seconds that 99 of 100 recent samples stayed within (nearest rank); None without samples."""
        query = select(latencies.c.microseconds).where(latencies.c.action == action)
        samples = sorted((await self._connection.execute(query)).scalars())
        return samples[-(-99 * len(samples) // 100) - 1] / 1_000_000 if samples else None

    async def all(self) -> dict[str, tuple[int, float]]:
        """(samples kept, their p99 in seconds) of every action, in one query."""
        ranked = select(
            latencies.c.action,
            latencies.c.microseconds,
            func.row_number()
            .over(partition_by=latencies.c.action, order_by=latencies.c.microseconds.desc())
            .label("rank"),
            func.count().over(partition_by=latencies.c.action).label("samples"),
        ).subquery()
        # the nearest rank from above: n − ⌈0.99 n⌉ + 1
        query = select(ranked).where(ranked.c.rank == ranked.c.samples // 100 + 1)
        return {
            row.action: (row.samples, row.microseconds / 1_000_000) for row in await self._connection.execute(query)
        }
