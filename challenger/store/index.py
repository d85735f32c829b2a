"""The follower's ledger: blocks, their events, the rows folded from them and the cursor, in step at every commit.

``apply`` and ``rewind`` are one SQL transaction each and move the cursor by compare-and-set. After any sequence of
them the index equals one built from the remaining blocks alone; our own decisions follow by the rules of
``reorgs.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from typing import Any, Protocol

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import Block, BlockNumber, ChainEvent, Committed, Cursor, Hash32, State, UnixTime
from challenger.errors import CursorMoved, LedgerExhausted, StoreError
from challenger.store import codec, reorgs
from challenger.store.bulk import chunks, delete_keys, insert_rows, key_of, rows_by
from challenger.store.codec import Columns
from challenger.store.journal import EntryColumns
from challenger.store.projection import FOLDS
from challenger.store.rows import CommitmentRow
from challenger.store.schema import blocks as ledger
from challenger.store.schema import cursors, work
from challenger.store.schema import events as event_table
from challenger.store.unit import Unit, View

#: Kinds that are facts about a commitment → how the journal calls them.
FACTS = {
    "Committed": State.OBSERVED.value,
    "WindowExtended": "chain-window-extended",
    "DisputeOpened": "chain-dispute-opened",
    "DisputeClosed": "chain-dispute-closed",
    "DemandOpened": "chain-demand-opened",
    "DemandClosed": "chain-demand-closed",
    "JobClosed": "chain-job-closed",
}
_OBSERVED = State.OBSERVED.value


class Opens(Protocol):
    """The store, as far as the index needs it."""

    def begin(self, now: UnixTime) -> AbstractAsyncContextManager[Unit]: ...
    def read(self) -> AbstractAsyncContextManager[View]: ...


class Index:
    """One follower's view; several may share a database under different names only if they share no block."""

    def __init__(self, store: Opens, name: str) -> None:
        self._store = store
        self._name = name

    async def cursor(self) -> Cursor | None:
        """How far the index has come; None before the first ``apply``."""
        async with self._store.read() as view:
            row = (await view.connection.execute(select(cursors).where(cursors.c.name == self._name))).one_or_none()
        return None if row is None else Cursor(row.block, row.hash, row.version)

    async def block_hash(self, number: BlockNumber) -> Hash32 | None:
        """The hash the ledger holds for ``number``; None when it holds none."""
        async with self._store.read() as view:
            block = await view.chain.block(number)
        return None if block is None else block.hash

    async def rests_on(self, first: int, last: int) -> list[BlockNumber]:
        """The blocks of this range with which draws were made."""
        query = select(work.c.draw_block).where(work.c.draw_block.between(first, last), work.c.draw_hash.is_not(None))
        async with self._store.read() as view:
            return list((await view.connection.execute(query.distinct())).scalars())

    async def apply(self, blocks: Sequence[Block], events: Sequence[ChainEvent], expected: Cursor | None) -> Cursor:
        """Adds ``blocks`` (ascending, above ``expected``; those with events and the last of the range at least) and
        their ``events``, and moves the cursor to the last block.

        Raises CursorMoved when the cursor is not ``expected``, StoreError for blocks that do not chain.
        """
        events = sorted(events, key=_position)
        _must_chain(blocks, events, expected)
        rows = codec.encode(events)
        times = {block.number: block.time for block in blocks}
        entries = [_fact(event, row, times) for event, row in zip(events, rows, strict=True) if row[2] in FACTS]
        last = blocks[-1]
        async with self._store.begin(last.time) as unit:
            unit.mark("index:apply")
            connection = unit.connection
            cursor = await self._move_cursor(connection, expected, last.number, last.hash)
            await insert_rows(connection, ledger, [(b.number, b.hash, b.parent, b.time) for b in blocks])
            await insert_rows(connection, event_table, rows)
            await _project(connection, events)
            back = await reorgs.restore(unit, [event for event in events if type(event) is Committed])
            fresh = [_new_work(e, times) for e in events if type(e) is Committed and e.commitment not in back]
            await insert_rows(connection, work, fresh, first_stays=True)
            await unit.journal.append(entries)
            await reorgs.check_draws(unit, blocks[0].number, last.number)
        return cursor

    async def rewind(self, to: BlockNumber, expected: Cursor) -> Cursor:
        """Forgets every block above ``to`` and all that rested on them; the cursor moves to the highest block left.

        Raises CursorMoved, or LedgerExhausted when no block at or below ``to`` is known.
        """
        async with self._store.read() as view:
            low = select(ledger).where(ledger.c.number <= to).order_by(ledger.c.number.desc()).limit(1)
            left = (await view.connection.execute(low)).one_or_none()
        if left is None:
            raise LedgerExhausted("index anew from an earlier block", wanted=to)
        async with self._store.begin(left.time) as unit:
            unit.mark("index:rewind")
            connection = unit.connection
            cursor = await self._move_cursor(connection, expected, left.number, left.hash)
            above = event_table.c.block > left.number
            gone = (await connection.execute(select(event_table.c.kind, event_table.c.subject).where(above))).all()
            await connection.execute(delete(event_table).where(above))
            await connection.execute(delete(ledger).where(ledger.c.number > left.number))
            told = {"from": expected.block, "from_hash": expected.hash, "to": left.number, "events": len(gone)}
            await unit.journal.write(left.time, "rewound", self._name, told)
            vanished = await _refold(connection, {(row.kind, row.subject) for row in gone})
            await reorgs.take_back(unit, left.number)
            await reorgs.orphan(unit, vanished)
        return cursor

    async def _move_cursor(
        self, connection: AsyncConnection, expected: Cursor | None, block: BlockNumber, digest: Hash32
    ) -> Cursor:
        version = 1 if expected is None else expected.version + 1
        if expected is None:
            there = select(cursors.c.block).where(cursors.c.name == self._name)
            if (await connection.execute(there)).one_or_none() is not None:
                raise CursorMoved(cursor=self._name, expected="none")
            fresh = {"name": self._name, "block": block, "hash": digest, "version": version}
            await connection.execute(insert(cursors).values(**fresh))
        else:
            moved = (
                update(cursors)
                .where(
                    cursors.c.name == self._name,
                    cursors.c.version == expected.version,
                    cursors.c.block == expected.block,
                    cursors.c.hash == expected.hash,
                )
                .values(block=block, hash=digest, version=version)
            )
            if (await connection.execute(moved)).rowcount != 1:
                raise CursorMoved(cursor=self._name, expected=expected.block)
        return Cursor(block, digest, version)


def _position(event: ChainEvent) -> tuple[int, int]:
    return event.at.block, event.at.log_index


def _must_chain(blocks: Sequence[Block], events: Sequence[ChainEvent], expected: Cursor | None) -> None:
    """The last defence against a follower's mistake; every other check is the follower's."""
    if not blocks:
        raise StoreError("no blocks to apply")
    number, digest = (blocks[0].number - 1, blocks[0].parent) if expected is None else (expected.block, expected.hash)
    hashes = {}
    for block in blocks:
        if block.number <= number or (block.number == number + 1 and block.parent != digest):
            raise StoreError("the blocks do not chain to the cursor", at=block.number, after=number)
        number, digest = block.number, block.hash
        hashes[number] = digest
    for event in events:
        if hashes.get(event.at.block) != event.at.block_hash:
            raise StoreError("an event of a block that was not given", block=event.at.block)


def _fact(event: Any, row: Columns, times: dict[BlockNumber, UnixTime]) -> EntryColumns:
    """The journal's entry about a chain fact: where it stands, and the digest of all that it says.
    The payload is canonical JSON by construction."""
    block, log_index, kind, _, block_hash, tx_hash, payload, data = row
    digest = sha256(tx_hash + payload.encode() + data).hexdigest()
    where = f'{{"block":{block},"block_hash":"0x{block_hash.hex()}","digest":"0x{digest}","log":{log_index}}}'
    return times[event.at.block], FACTS[kind], "0x" + event.commitment.hex(), where


def _new_work(event: Committed, times: dict[BlockNumber, UnixTime]) -> tuple[Any, ...]:
    """``work`` in the order of its columns."""
    at = event.at.block
    seen = reorgs.seen(event)
    nothing = (None,) * 9
    return (event.commitment, _OBSERVED, None, *seen, *nothing, "", 0, 0, times[at], 1)


async def _project(connection: AsyncConnection, events: Iterable[ChainEvent]) -> None:
    """Folds new events into their rows."""
    grouped: dict[str, dict[Any, list[ChainEvent]]] = {name: {} for name in FOLDS}
    for event in events:
        aggregate = codec.AGGREGATE[type(event)]
        grouped[aggregate].setdefault(getattr(event, aggregate), []).append(event)
    for aggregate, subjects in grouped.items():
        fold = FOLDS[aggregate]
        born: dict[Any, Any] = {}
        later = []
        for key, story in subjects.items():
            row = fold.step(None, story[0])
            if row is None:
                later.append(key)
            else:
                born[key] = row if len(story) == 1 else fold.over(story[1:], row)
        inserted = await insert_rows(connection, fold.table, list(born.values()), first_stays=True)
        if inserted != len(born):  # absurd, yet possible: some were born before
            there = await rows_by(connection, fold.table, key_of(fold.table), list(born))
            later += [row[0] for row in there if row[1:3] != born[row[0]][1:3]]
        known = {row[0]: fold.row(*row) for row in await rows_by(connection, fold.table, key_of(fold.table), later)}
        changed = [fold.over(subjects[key], known.get(key)) for key in later]
        await delete_keys(connection, fold.table, list(known))
        await insert_rows(connection, fold.table, [row for row in changed if row is not None])


async def _refold(connection: AsyncConnection, touched: Iterable[tuple[str, bytes]]) -> list[CommitmentRow]:
    """Folds anew what lost events; gives the commitments that are no more."""
    subjects: dict[str, set[bytes]] = {name: set() for name in FOLDS}
    for kind, subject in touched:
        subjects[codec.aggregate_of(kind)].add(subject)
    vanished: list[CommitmentRow] = []
    for aggregate, wanted in subjects.items():
        fold = FOLDS[aggregate]
        stories = await _stories(connection, aggregate, sorted(wanted))
        keys = [codec.key(aggregate, subject) for subject in wanted]
        old = await rows_by(connection, fold.table, key_of(fold.table), keys)
        new = [row for story in stories.values() if (row := fold.over(story)) is not None]
        await delete_keys(connection, fold.table, keys)
        await insert_rows(connection, fold.table, new)
        if aggregate == "commitment":
            remaining = {row[0] for row in new}
            vanished = [CommitmentRow(*row) for row in old if row[0] not in remaining]
    return vanished


async def _stories(
    connection: AsyncConnection, aggregate: str, subjects: Sequence[bytes]
) -> dict[bytes, list[ChainEvent]]:
    """The events left of each subject, in chain order."""
    stories: dict[bytes, list[ChainEvent]] = {}
    kinds = codec.KINDS[aggregate]
    for chunk in chunks(subjects):
        query = select(event_table).where(event_table.c.subject.in_(chunk), event_table.c.kind.in_(kinds))
        for row in await connection.execute(query.order_by(event_table.c.block, event_table.c.log_index)):
            stories.setdefault(row.subject, []).append(codec.decode(row))
    return stories
