"""What audits of past commitments said: append-only, a table of its own, which nothing but audits and reports read.

No row of ``work`` is made or moved here, and none refers to it: the pipeline knows no audits.
"""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

from sqlalchemy import and_, exists, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Address,
    AuditId,
    AuditVerdict,
    BlockNumber,
    CommitmentId,
    Hash32,
    UnixTime,
    VerdictKind,
)
from challenger.store.journal import Journal, canonical
from challenger.store.schema import audits, commitments, verdicts
from challenger.store.subjects import hex_range

_JUDGED = (VerdictKind.VALID.value, VerdictKind.FRAUD.value)


class AuditRow(NamedTuple):
    """``environment`` is canonical JSON: by backend, where it ran; the rest as in ``AuditVerdict``."""

    id: int
    commitment: bytes
    source: str
    block: BlockNumber
    block_hash: Hash32
    provider: Address
    committed_output: Hash32
    committed_state: Hash32
    kind: str
    detail: str
    backend: str
    output_root: Hash32 | None
    state_root: Hash32 | None
    confirmed: str
    environment: str
    microseconds: int
    time: UnixTime

    @property
    def differs(self) -> list[str]:
        """Which of the committed roots, ``output`` and ``state``, are not the computed ones."""
        pairs = {
            "output": (self.committed_output, self.output_root),
            "state": (self.committed_state, self.state_root),
        }
        return [name for name, (committed, computed) in pairs.items() if computed is not None and committed != computed]

    @property
    def result(self) -> tuple[object, ...]:
        """What two audits of one commitment agree on, or do not. Why there was no result is not part of it."""
        why = self.detail if self.kind in _JUDGED else ""
        return self.kind, why, self.output_root, self.state_root, self.committed_output, self.committed_state


class Audits:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def add(self, verdict: AuditVerdict) -> AuditRow:
        """Keeps ``verdict`` beside those before it."""
        given = {field.name: getattr(verdict, field.name) for field in fields(verdict)}
        audit, environment, seconds = (given.pop(name) for name in ("audit", "environment", "seconds"))
        values = {
            **given,
            "kind": verdict.kind.value,
            "source": verdict.source.value,
            "commitment": audit.about,
            "environment": canonical(environment),
            "microseconds": round(seconds * 1_000_000),
            "time": self._now,
        }
        row = (await self._connection.execute(insert(audits).values(**values).returning(audits))).one()
        # where it ran stands in the row, beside what the journal hashes
        told = {name: value for name, value in values.items() if name not in ("commitment", "time", "environment")}
        await self._journal.write(self._now, "audit-verdict", audit.subject, {**told, "id": row.id})
        return AuditRow(*row)

    async def of(self, audit: AuditId) -> list[AuditRow]:
        """Every audit of this commitment, oldest first."""
        query = select(audits).where(audits.c.commitment == audit.about).order_by(audits.c.id)
        return [AuditRow(*row) for row in await self._connection.execute(query)]

    async def beginning(self, digits: str, limit: int = 4) -> list[AuditId]:
        """Audited commitments whose id begins with these hex digits."""
        low, high = hex_range(digits)
        query = select(audits.c.commitment).distinct().where(audits.c.commitment.between(low, high)).limit(limit)
        return [AuditId(about) for about in (await self._connection.execute(query)).scalars()]

    async def between(self, first: BlockNumber, last: BlockNumber, limit: int) -> list[CommitmentId]:
        """Indexed commitments of blocks ``first ≤ b ≤ last``, in chain order."""
        query = select(commitments.c.commitment).where(commitments.c.block.between(first, last))
        query = query.order_by(commitments.c.block, commitments.c.log_index).limit(limit)
        return list((await self._connection.execute(query)).scalars())

    async def unjudged(self, limit: int) -> list[CommitmentId]:
        """Indexed commitments that neither the watcher nor an audit has found VALID or FRAUD, in chain order."""
        judged = [
            exists().where(and_(table.c.commitment == commitments.c.commitment, table.c.kind.in_(_JUDGED)))
            for table in (verdicts, audits)
        ]
        query = select(commitments.c.commitment).where(~or_(*judged))
        query = query.order_by(commitments.c.block, commitments.c.log_index).limit(limit)
        return list((await self._connection.execute(query)).scalars())
