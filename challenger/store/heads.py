"""Signed heads of the journal, published outside the database, and the check of the whole.

A head says "entry ``seq`` has hash ``hash``" and so binds everything before it. Whoever edits, reorders or cuts the
journal after a head went out cannot make it fit that head again without the signer's key *and* the publisher's copy.
What was appended after the last head is chained, yet nobody outside has seen it.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import func, insert, select

from challenger.domain import Hash32, UnixTime
from challenger.errors import JournalBroken, StoreError
from challenger.store.crossing import HEADS, Hook, Moment
from challenger.store.faults import explain
from challenger.store.journal import GENESIS, Entry, link
from challenger.store.rows import HeadRow, JournalRow
from challenger.store.schema import journal_heads
from challenger.store.unit import Unit, View

_DOMAIN = b"challenger/journal-head/1"
_PAGE = 2000


class Signer(Protocol):
    """Whoever vouches for a head. ``name`` is public: an address, a key's fingerprint."""

    @property
    def name(self) -> str: ...

    def sign(self, message: bytes) -> bytes: ...


class Verifier(Protocol):
    def verify(self, name: str, message: bytes, signature: bytes) -> bool: ...


class Publisher(Protocol):
    """Where heads go and stay, out of the reach of whoever can write the database."""

    async def publish(self, head: HeadRow) -> None: ...

    async def published(self) -> list[HeadRow]: ...


class Opens(Protocol):
    """The store, as far as heads need it."""

    def begin(self, now: UnixTime) -> AbstractAsyncContextManager[Unit]: ...
    def read(self) -> AbstractAsyncContextManager[View]: ...


@dataclass(frozen=True, slots=True)
class Report:
    """``entries`` walked; ``broken``: the first number that does not hold, None when all do; ``why``. ``bound``: the
    highest number that a published head vouches for."""

    entries: int
    broken: int | None
    why: str
    bound: int

    @property
    def vouched(self) -> int:
        """The highest number up to which a published head vouches for what the journal says; 0 where something is broken."""
        return self.bound if self.broken is None else 0

    def demand(self) -> None:
        """Raises JournalBroken unless everything holds."""
        if self.broken is not None:
            raise JournalBroken(self.why, seq=self.broken)


def head_message(seq: int, digest: bytes) -> bytes:
    """What a signer signs for a head."""
    return _DOMAIN + seq.to_bytes(8, "big") + digest


async def publish_head(store: Opens, signer: Signer, publisher: Publisher, now: UnixTime) -> HeadRow | None:
    """Signs and publishes the journal's head; None when it was published before, or there is none yet.

    Outside first: a head that only the publisher knows is checked all the same, one that only the database claims
    would prove nothing.
    """
    async with store.read() as view:
        seq, digest = await view.journal.tip()
        last = (await view.connection.execute(select(func.max(journal_heads.c.seq)))).scalar()
    if seq in (0, last):
        return None
    head = HeadRow(seq, Hash32(digest), signer.name, signer.sign(head_message(seq, digest)), now)
    await publisher.publish(head)
    async with store.begin(now) as unit:
        unit.mark("heads-row")
        known = select(journal_heads.c.seq).where(journal_heads.c.seq == seq)
        if (await unit.connection.execute(known)).one_or_none() is None:
            await unit.connection.execute(insert(journal_heads).values(**head._asdict()))
    return head


async def verify(store: Opens, published: Iterable[HeadRow] = (), verifier: Verifier | None = None) -> Report:
    """Walks the journal from its first entry and holds it against the ``published`` heads and those in the database.

    Give the publisher's heads: the database's own vouch for nothing that its editor did not want. Without ``verifier``
    signatures are not checked.
    """
    async with store.read() as view:
        own = [HeadRow(*row) for row in await view.connection.execute(select(journal_heads))]
        given = list(published)
        # what lies in the database binds nothing: whoever edits it edits that too
        bound = max((head.seq for head in given), default=0)
        heads: dict[int, list[HeadRow]] = {}
        for head in (*given, *own):
            heads.setdefault(head.seq, []).append(head)
        seq, prev, walked = 0, GENESIS, 0
        while True:
            page = await view.journal.after(seq, _PAGE)
            for row in page:
                why = ""
                if row.seq != seq + 1:
                    return Report(walked, seq + 1, f"missing: the next entry is number {row.seq}", bound)
                if row.prev != prev:
                    why = "it does not follow the entry before it"
                elif _link(prev, row) != row.hash:
                    why = "its hash is not that of what it says"
                elif any(head.hash != row.hash for head in heads.get(row.seq, ())):
                    why = "a published head has another hash here: it or an earlier entry was rewritten"
                elif not all(_signed(head, verifier) for head in heads.get(row.seq, ())):
                    why = "the signature of the head published here does not verify"
                if why:
                    return Report(walked, row.seq, why, bound)
                seq, prev, walked = row.seq, row.hash, walked + 1
            if len(page) < _PAGE:
                break
    if heads and max(heads) > seq:
        return Report(walked, seq + 1, f"cut: a head was published for entry {max(heads)}", bound)
    return Report(walked, None, "", bound)


def _link(prev: bytes, row: JournalRow) -> bytes:
    """The hash that the entry should have; none for one that nothing of ours wrote."""
    try:
        return link(prev, row.seq, Entry(row.time, row.kind, row.subject, row.payload))
    except (TypeError, ValueError, AttributeError, struct.error):
        return b""


def _signed(head: HeadRow, verifier: Verifier | None) -> bool:
    return verifier is None or verifier.verify(head.signer, head_message(head.seq, head.hash), head.signature)


class FilePublisher:
    """Appends heads to a file, one JSON object a line, synced to the disk before ``publish`` returns. Put it where
    the database's user may append only, or ship it elsewhere."""

    def __init__(self, path: Path, crossing: Hook | None = None) -> None:
        self._path = path
        self._crossing = crossing

    async def publish(self, head: HeadRow) -> None:
        """Raises StoreError when the file cannot be written."""
        if self._crossing is not None:
            self._crossing((HEADS,), Moment.BEFORE)
        await asyncio.to_thread(self._append, head)
        if self._crossing is not None:
            self._crossing((HEADS,), Moment.AFTER)

    async def published(self) -> list[HeadRow]:
        """All heads in the file; a line that a crash cut short is passed over. Raises JournalBroken for any other
        line that is not a head."""
        return await asyncio.to_thread(self._read)

    def _append(self, head: HeadRow) -> None:
        line = json.dumps(
            {
                "seq": head.seq,
                "hash": head.hash.hex(),
                "signer": head.signer,
                "signature": head.signature.hex(),
                "published_at": head.published_at,
            }
        )
        try:
            with self._path.open("ab+") as file:
                # a line that a crash cut short stays as it is, and is passed over
                file.write((b"" if _ends_line(file) else b"\n") + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(explain(error), heads=self._path) from error

    def _read(self) -> list[HeadRow]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(explain(error), heads=self._path) from error
        heads = []
        for number, line in enumerate(lines, 1):
            if line.endswith(b"}"):
                try:
                    heads.append(_parsed(line))
                except (ValueError, KeyError, TypeError) as error:
                    raise JournalBroken("a line of the heads' file is not a head", line=number) from error
        return heads


def _ends_line(file: IO[bytes]) -> bool:
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return True
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _parsed(line: bytes) -> HeadRow:
    said = json.loads(line)
    if int(said["seq"]) < 1:
        raise ValueError("the first entry is number 1")
    digest, signature = bytes.fromhex(said["hash"]), bytes.fromhex(said["signature"])
    return HeadRow(
        int(said["seq"]), Hash32(digest), str(said["signer"]), signature, UnixTime(int(said["published_at"]))
    )
