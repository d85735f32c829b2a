"""The journal: append-only, each entry bound to the one before by its hash.

``hash = sha256(prev ‖ seq u64 ‖ time u64 ‖ length of kind u16 ‖ length of subject u16 ‖ kind ‖ subject ‖ payload)``,
numbers in big endian, lengths in characters, text in UTF-8,
payload being the canonical JSON as stored; the first entry's ``prev`` is 32 zero bytes. ``heads.py`` signs and
publishes, and checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from struct import Struct
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import Hash32, UnixTime
from challenger.store.bulk import insert_rows
from challenger.store.rows import JournalRow
from challenger.store.schema import NOT_BULK, journal
from challenger.store.subjects import prefix_range

GENESIS = bytes(32)
_HEAD = Struct(">QQHH")
#: Entries that wait before they go to the database.
_MANY = 1_000


class Tip(NamedTuple):
    """The last entry's number and hash; ``(0, GENESIS)`` for an empty journal."""

    seq: int
    hash: bytes


class Entry(NamedTuple):
    """What happened: ``payload`` is canonical JSON (see ``canonical``) and holds no secret."""

    time: UnixTime
    kind: str
    subject: str
    payload: str


EntryColumns = tuple[UnixTime, str, str, str]


def canonical(payload: Mapping[str, Any]) -> str:
    """Canonical JSON: ASCII, keys sorted, no spaces; bytes as ``0x`` hex. Floats are refused: they are not exact."""
    return json.dumps(_plain(payload), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return "0x" + value.hex()
        case float():
            raise TypeError("no floats in the record: use an integer of a smaller unit")
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return value


def link(prev: bytes, seq: int, entry: EntryColumns) -> bytes:
    """The hash of ``entry`` as number ``seq`` after ``prev``."""
    time, kind, subject, payload = entry
    head = _HEAD.pack(seq, time, len(kind), len(subject))
    return sha256(prev + head + (kind + subject + payload).encode()).digest()


class Journal:
    """The journal within one transaction. The transaction is the only writer, so the tip is read once, and entries are
    handed to the database many at a time: ``Store.begin`` has them all there before it commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._tip: Tip | None = None
        self._waiting: list[tuple[Any, ...]] = []
        self.heard: list[tuple[str, str]] | None = None  # (kind, payload) of what is appended; None: nobody listens

    @property
    def known(self) -> Tip | None:
        """The tip, if it was read or written here."""
        return self._tip

    async def tip(self) -> Tip:
        if self._tip is None:
            newest = select(journal.c.seq, journal.c.hash).order_by(journal.c.seq.desc()).limit(1)
            row = (await self._connection.execute(newest)).one_or_none()
            self._tip = Tip(0, GENESIS) if row is None else Tip(row.seq, row.hash)
        return self._tip

    async def has(self, tip: Tip) -> bool:
        """Whether its entry of that number is that one."""
        found = select(journal.c.hash).where(journal.c.seq == tip.seq)
        return (await self._connection.execute(found)).scalar_one_or_none() == tip.hash

    async def append(self, entries: Iterable[EntryColumns]) -> Tip:
        """Chains ``entries`` on, in order; they become durable with the transaction."""
        seq, prev = await self.tip()
        rows = []
        for entry in entries:
            seq += 1
            digest = link(prev, seq, entry)
            rows.append((seq, prev, digest, *entry))
            prev = digest
        self._waiting += rows
        if self.heard is not None:
            self.heard.extend((row[4], row[6]) for row in rows)
        self._tip = Tip(seq, prev)
        if len(self._waiting) >= _MANY:
            await self.flush()
        return self._tip

    async def flush(self) -> None:
        """Hands what waits to the database."""
        rows, self._waiting = self._waiting, []
        await insert_rows(self._connection, journal, rows)

    async def write(self, time: UnixTime, kind: str, subject: str, payload: Mapping[str, Any]) -> Tip:
        """One entry."""
        return await self.append([Entry(time, kind, subject, canonical(payload))])

    async def about(self, subject: str, limit: int = 1000) -> list[JournalRow]:
        """The latest ``limit`` entries about ``subject``, oldest first."""
        await self.flush()
        newest = select(journal).where(journal.c.subject == subject).order_by(journal.c.seq.desc()).limit(limit)
        return [_row(row) for row in reversed((await self._connection.execute(newest)).all())]

    async def life(self, identity: bytes) -> list[JournalRow]:
        """All entries about the aggregate ``identity`` and its parts (see ``subject_of``), oldest first."""
        await self.flush()
        low, high = prefix_range(identity)
        query = select(journal).where(journal.c.subject >= low, journal.c.subject < high).order_by(journal.c.seq)
        return [_row(row) for row in await self._connection.execute(query)]

    async def latest(self, kinds: Sequence[str]) -> int:
        """The number of the last entry of these kinds, none of which may be in ``BULK_KINDS``; 0 where there is none."""
        await self.flush()
        query = select(func.max(journal.c.seq)).where(journal.c.kind.in_(kinds), NOT_BULK)
        return (await self._connection.execute(query)).scalar_one() or 0

    async def after(self, seq: int, limit: int = 1000) -> list[JournalRow]:
        """Up to ``limit`` entries that follow number ``seq``."""
        await self.flush()
        following = select(journal).where(journal.c.seq > seq).order_by(journal.c.seq).limit(limit)
        return [_row(row) for row in await self._connection.execute(following)]


def _row(row: Any) -> JournalRow:
    return JournalRow(row.seq, Hash32(row.prev), Hash32(row.hash), row.time, row.kind, row.subject, row.payload)
