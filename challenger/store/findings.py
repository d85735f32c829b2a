"""What audits of protocols without disputes found: append-only, a table of its own, from which nothing can be filed.

The same finding twice is one row: what it is is (chain, protocol, kind, subject, where on chain).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from sqlalchemy import and_, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import At, AuditId, BlockNumber, ChainId, Hash32, UnixTime
from challenger.store.journal import Journal, canonical
from challenger.store.schema import findings


class Told(Protocol):
    """What is recorded, as ``protocols.findings.Finding`` has it."""

    @property
    def kind(self) -> str: ...
    @property
    def subject(self) -> bytes: ...
    @property
    def hop(self) -> str: ...
    @property
    def party(self) -> str: ...
    @property
    def ground(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def at(self) -> At: ...
    @property
    def facts(self) -> Mapping[str, str]: ...


class FindingRow(NamedTuple):
    """``facts`` is canonical JSON, text by name; ``chain`` the id of the chain it is about; ``time``: chain time of the
    audit that found it first."""

    id: int
    chain: ChainId
    protocol: str
    kind: str
    subject: bytes
    hop: str
    party: str
    ground: str
    said: str
    block: BlockNumber
    block_hash: Hash32
    log_index: int
    tx_hash: Hash32
    facts: str
    time: UnixTime


class Findings:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def add(self, chain: ChainId, protocol: str, found: Told) -> tuple[FindingRow, bool]:
        """The row of ``found``, and whether it is new."""
        at = found.at
        key = {
            "chain": chain,
            "protocol": protocol,
            "kind": found.kind,
            "subject": found.subject,
            "block_hash": at.block_hash,
            "log_index": at.log_index,
        }
        query = select(findings).where(and_(*(findings.c[name] == value for name, value in key.items())))
        if (before := (await self._connection.execute(query)).one_or_none()) is not None:
            return FindingRow(*before), False
        values = key | {
            "hop": found.hop,
            "party": found.party,
            "ground": str(found.ground),
            "said": found.said,
            "block": at.block,
            "tx_hash": at.tx_hash,
        }
        facts = dict(found.facts)
        made = insert(findings).values(**values, facts=canonical(facts), time=self._now).returning(findings)
        row = FindingRow(*(await self._connection.execute(made)).one())
        subject = AuditId(found.subject).subject
        await self._journal.write(self._now, "finding", subject, {**values, "facts": facts, "id": row.id})
        return row, True

    async def all(self, protocol: str | None = None, limit: int = 1_000) -> list[FindingRow]:
        """The latest ``limit``, oldest first."""
        query = select(findings).order_by(findings.c.id.desc()).limit(limit)
        if protocol is not None:
            query = query.where(findings.c.protocol == protocol)
        return [FindingRow(*row) for row in reversed((await self._connection.execute(query)).all())]
