"""What each replay said, append-only."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import Address, CommitmentId, ModelId, State, UnixTime, Verdict, VerdictKind
from challenger.store.journal import Journal, canonical
from challenger.store.rows import VerdictRow
from challenger.store.schema import commitments, journal, verdicts, work
from challenger.store.subjects import subject_of

#: Verdicts on one commitment that are read again: more tell nothing new.
_SAID = 400


class Said(NamedTuple):
    """What was said of a commitment, and when."""

    kind: VerdictKind
    detail: str
    time: UnixTime


class Verdicts:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def add(self, commitment: CommitmentId, verdict: Verdict, *, fresh: bool) -> int:
        """Keeps ``verdict`` and gives its id; ``fresh``: from a process started for this replay alone."""
        values = {
            "commitment": commitment,
            "kind": verdict.kind.value,
            "detail": verdict.detail,
            "backend": verdict.backend,
            "fresh": fresh,
            "output_root": verdict.output_root,
            "state_root": verdict.state_root,
            "environment": canonical(verdict.environment),
            "microseconds": round(verdict.seconds * 1_000_000),
            "time": self._now,
        }
        result = await self._connection.execute(insert(verdicts).values(**values).returning(verdicts.c.id))
        identity: int = result.scalar_one()
        # where it ran stands in the row, beside what the journal hashes: equal decisions are equal entries everywhere
        told = {**values, "id": identity}
        del told["commitment"], told["time"], told["environment"]
        await self._journal.write(self._now, "verdict", subject_of(commitment), told)
        return identity

    async def get(self, identity: int) -> VerdictRow | None:
        row = (await self._connection.execute(select(verdicts).where(verdicts.c.id == identity))).one_or_none()
        return None if row is None else VerdictRow(*row)

    async def of(self, commitment: CommitmentId) -> list[VerdictRow]:
        """Every verdict on ``commitment``, oldest first."""
        query = select(verdicts).where(verdicts.c.commitment == commitment).order_by(verdicts.c.id)
        return [VerdictRow(*row) for row in await self._connection.execute(query)]

    async def said(self, commitment: CommitmentId) -> list[Said]:
        """What looks and first replays came to, newest first: the last few hundred."""
        query = select(verdicts.c.kind, verdicts.c.detail, verdicts.c.time)
        query = query.where(verdicts.c.commitment == commitment, verdicts.c.fresh.is_(False))
        rows = await self._connection.execute(query.order_by(verdicts.c.id.desc()).limit(_SAID))
        return [Said(VerdictKind(row.kind), row.detail, row.time) for row in rows]

    async def confirmed(self, after: int, limit: int) -> list[tuple[CommitmentId, int]]:
        """Commitments of which a fraud stands as borne out by the second backend, with the id of its verdict: those above
        ``after``, in order."""
        query = (
            select(work.c.commitment, work.c.confirmation)
            .select_from(work.join(verdicts, verdicts.c.id == work.c.confirmation))
            .where(verdicts.c.kind == VerdictKind.FRAUD.value, verdicts.c.id > after)
        )
        found = await self._connection.execute(query.order_by(verdicts.c.id).limit(limit))
        return [(row.commitment, row.confirmation) for row in found]

    async def accused(self, model: ModelId, since: UnixTime, until: UnixTime | None = None) -> frozenset[Address]:
        """Providers of ``model`` with a confirmed FRAUD at or after ``since`` (and before ``until``): correlated
        accusations start here."""
        query = (
            select(commitments.c.provider)
            .distinct()
            .select_from(
                verdicts.join(work, work.c.confirmation == verdicts.c.id).join(
                    commitments, commitments.c.commitment == verdicts.c.commitment
                )
            )
            .where(verdicts.c.kind == VerdictKind.FRAUD.value, verdicts.c.time >= since, commitments.c.model == model)
        )
        if until is not None:
            query = query.where(verdicts.c.time < until)
        return frozenset((await self._connection.execute(query)).scalars())

    async def withheld(self, model: ModelId, since: UnixTime, until: UnixTime) -> frozenset[Address]:
        """Providers of ``model`` of one of whose commitments data was away, and was given up (UNAVAILABLE), at or after ``since``
        and before ``until``: what a person who looked then was told of. What was still looked for is news when it is given up."""
        given_up = select(journal.c.subject).where(
            journal.c.kind == State.UNAVAILABLE.value, journal.c.time >= since, journal.c.time < until
        )
        subjects = set((await self._connection.execute(given_up)).scalars())
        away = (
            select(verdicts.c.commitment, commitments.c.provider)
            .distinct()
            .select_from(verdicts.join(commitments, commitments.c.commitment == verdicts.c.commitment))
            .where(
                verdicts.c.kind == VerdictKind.UNAVAILABLE.value,
                verdicts.c.time >= since,
                verdicts.c.time < until,
                commitments.c.model == model,
            )
        )
        rows = await self._connection.execute(away)
        return frozenset(row.provider for row in rows if subject_of(row.commitment) in subjects)
