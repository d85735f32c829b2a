"""Edits, cuts and new orders show; what a crash leaves behind does not."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, text, update

from challenger.errors import JournalBroken, StoreError
from challenger.store import Store, heads
from challenger.store.heads import FilePublisher, publish_head, verify
from challenger.store.journal import Entry, canonical, link
from challenger.store.schema import journal, journal_heads

from .chains import T0


class Key:
    """A keyed hash serves as a signature: signing is the signers' business."""

    name = "test-key"

    def sign(self, message: bytes) -> bytes:
        return hmac.digest(b"secret", message, "sha256")

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        return name == self.name and hmac.compare_digest(self.sign(message), signature)


async def write(store: Store, count: int) -> None:
    for number in range(count):
        async with store.begin(T0 + number) as unit:
            await unit.journal.write(T0 + number, "note", f"subject {number}", {"n": number, "b": b"\1"})


async def tamper(store: Store, *statements: Any) -> None:
    async with store.begin(T0) as unit:
        for statement in statements:
            await unit.connection.execute(statement)


@pytest.fixture
def publisher(tmp_path: Path) -> FilePublisher:
    return FilePublisher(tmp_path / "heads.jsonl")


async def test_an_untouched_journal_verifies(store: Store, publisher: FilePublisher) -> None:
    assert await publish_head(store, Key(), publisher, T0) is None
    await write(store, 5)
    head = await publish_head(store, Key(), publisher, T0 + 9)
    assert head is not None
    assert head.seq == 5
    assert await publish_head(store, Key(), publisher, T0 + 9) is None
    await write(store, 2)
    report = await verify(store, await publisher.published(), Key())
    assert (report.entries, report.broken, report.bound) == (7, None, 5)
    report.demand()


async def test_each_way_to_tamper_names_the_first_entry_that_does_not_hold(store: Store) -> None:
    await write(store, 6)
    # two entries that change places, with all of their columns
    swap = [
        update(journal).where(journal.c.seq == 3).values(seq=99),
        update(journal).where(journal.c.seq == 4).values(seq=3),
        update(journal).where(journal.c.seq == 99).values(seq=4),
    ]
    for statements, broken in (
        ([update(journal).where(journal.c.seq == 3).values(payload="{}")], 3),
        ([update(journal).where(journal.c.seq == 2).values(time=1)], 2),
        ([update(journal).where(journal.c.seq == 4).values(kind="not")], 4),
        ([update(journal).where(journal.c.seq == 4).values(subject="subject")], 4),
        ([update(journal).where(journal.c.seq == 5).values(hash=b"\0" * 32)], 5),
        ([update(journal).where(journal.c.seq == 5).values(prev=b"\0" * 32)], 5),
        ([delete(journal).where(journal.c.seq == 1)], 1),
        ([delete(journal).where(journal.c.seq == 4)], 4),
        (swap, 3),
    ):
        async with undone(store) as unit:
            for statement in statements:
                await unit.connection.execute(statement)
            report = await verify(_Within(unit))
            assert report.broken == broken, report
            with pytest.raises(JournalBroken):
                report.demand()
    assert (await verify(store)).broken is None


class _Undo(Exception):
    pass


@asynccontextmanager
async def undone(store: Store) -> AsyncIterator[Any]:
    """A transaction that leaves nothing behind."""
    with suppress(_Undo):
        async with store.begin(T0) as unit:
            yield unit
            raise _Undo


class _Within:
    """``read`` inside a transaction that will be undone."""

    def __init__(self, unit: Any) -> None:
        self._unit = unit

    def read(self) -> Any:
        unit = self._unit
        unit.journal._tip = None
        return nullcontext(unit)

    begin = read


async def test_a_cut_tail_shows_by_the_published_head(store: Store, publisher: FilePublisher) -> None:
    await write(store, 6)
    await publish_head(store, Key(), publisher, T0)
    await tamper(store, delete(journal).where(journal.c.seq > 4), delete(journal_heads))
    assert (await verify(store)).broken is None  # the chain alone cannot tell
    report = await verify(store, await publisher.published(), Key())
    assert (report.broken, report.bound) == (5, 6)
    assert "cut" in report.why


async def test_a_journal_rewritten_with_fitting_hashes_shows_by_the_published_head(
    store: Store, publisher: FilePublisher
) -> None:
    await write(store, 6)
    await publish_head(store, Key(), publisher, T0)
    async with store.read() as view:
        rows = await view.journal.after(1)
        prev = rows[0].prev
    statements = [delete(journal_heads)]
    for row in rows:
        kind = "other" if row.seq == 2 else row.kind
        digest = link(prev, row.seq, Entry(row.time, kind, row.subject, row.payload))
        statements.append(update(journal).where(journal.c.seq == row.seq).values(kind=kind, prev=prev, hash=digest))
        prev = digest
    await tamper(store, *statements)
    assert (await verify(store)).broken is None
    assert (await verify(store, await publisher.published(), Key())).broken == 6


async def test_a_head_signed_by_another_shows(store: Store, publisher: FilePublisher) -> None:
    await write(store, 2)
    head = await publish_head(store, Key(), publisher, T0)
    assert head is not None
    await tamper(store, delete(journal_heads))
    report = await verify(store, [head._replace(signature=b"forged")], Key())
    assert report.broken == 2
    assert (await verify(store, [head._replace(signature=b"forged")])).broken is None


async def test_a_head_that_only_the_publisher_knows_is_published_anew_without_harm(
    store: Store, publisher: FilePublisher
) -> None:
    await write(store, 3)
    await publish_head(store, Key(), publisher, T0)
    await tamper(store, delete(journal_heads))  # as if the process died between the two
    await publish_head(store, Key(), publisher, T0 + 1)
    assert [head.seq for head in await publisher.published()] == [3, 3]
    assert (await verify(store, await publisher.published(), Key())).broken is None


async def test_a_line_cut_short_by_a_crash_is_passed_over(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    publisher = FilePublisher(path)
    assert await publisher.published() == []
    await write(store, 1)
    await publish_head(store, Key(), publisher, T0)
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "hash": "ab')
    assert [head.seq for head in await publisher.published()] == [1]
    await write(store, 1)
    await publish_head(store, Key(), publisher, T0)
    assert [head.seq for head in await publisher.published()] == [1, 2]
    path.write_bytes(b'{"seq": "x"}\n' + path.read_bytes())
    with pytest.raises(JournalBroken, match="line=1"):
        await publisher.published()


async def test_heads_that_cannot_be_written_are_one_line(store: Store, tmp_path: Path) -> None:
    await write(store, 1)
    with pytest.raises(StoreError, match=r"heads"):
        await publish_head(store, Key(), FilePublisher(tmp_path), T0)
    async with store.read() as view:
        count = await view.connection.execute(text("SELECT count(*) FROM journal_heads"))
        assert count.scalar_one() == 0


def test_the_hash_is_the_documented_one() -> None:
    entry = Entry(7, "kind", "subject", '{"a":1}')  # type: ignore[arg-type]
    told = b"\0" * 7 + b"\x02" + b"\0" * 7 + b"\x07" + b"\0\x04" + b"\0\x07" + b'kindsubject{"a":1}'
    assert link(b"p" * 32, 2, entry) == hashlib.sha256(b"p" * 32 + told).digest()


def test_canonical_json_is_sorted_exact_and_ascii() -> None:
    assert (
        canonical({"b": 2**70, "a": [b"\xff", "ü", None, True]})
        == '{"a":["0xff","\\u00fc",null,true],"b":1180591620717411303424}'
    )
    with pytest.raises(TypeError):
        canonical({"seconds": 0.5})


def test_heads_sign_number_and_hash() -> None:
    assert heads.head_message(258, b"h") == b"challenger/journal-head/1" + b"\0" * 6 + b"\x01\x02" + b"h"
