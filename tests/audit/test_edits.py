"""A record that a live watcher made, edited in any cell that the audit protects: found out, and the row is named."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from challenger.audit.onchain import audit_chain
from challenger.audit.rows import audit_rows
from challenger.audit.sampling import audit_epoch
from challenger.sim.scoreboard import Truth
from challenger.store import open_store
from challenger.store.schema import events, metadata
from tests.integration.test_watcher import scene

#: table → its columns that no audit of rows protects, and why.
FREE = {
    "work": {"next_try", "attempts", "updated", "version", "detail"},  # when to look again
    "verdicts": {"environment", "time"},  # equal decisions are equal entries on every machine
    "audits": {"environment", "time"},
    "findings": {"time"},
    "epochs": {"anchor_tx", "anchor_block", "revealed_at", "reveal_tx", "number", "delay", "secret"},  # by the sampling audit, or the chain
    "transactions": {"created", "updated", "version"},
    "attempts": {"signed_at", "sent_at"},
    "events": {"tx_hash", "payload", "data", "block_hash"},  # of models and tasks: by the chain
    "models": set(), "tasks": set(), "commitments": set(), "disputes": set(), "demands": set(),
}  # fmt: skip


#: Tables of which such a life makes no rows.
EMPTY = {"audits", "findings"}


@pytest.fixture(scope="module")
def lived(tmp_path_factory) -> Path:
    """The database of a life with frauds, withheld data, disputes and demands, all over."""
    folder = tmp_path_factory.mktemp("lived")

    async def live() -> None:
        async with scene(folder, seed=3) as s:
            async with s.watcher(correlated_providers=100) as app:
                await s.world.play()
                await s.until_quiet(app)
                deadline = s.world.last_demand()
                assert deadline is not None
                await s.world.blocks.travel(deadline)
                await s.until_quiet(app)
                assert s.jobs(Truth.WRONG)
            shutil.copy(s.folder.database, folder / "record.sqlite")

    asyncio.run(live())
    return folder / "record.sqlite"


@pytest.fixture
def record(lived, tmp_path) -> Path:
    return Path(shutil.copy(lived, tmp_path / "record.sqlite"))


def verified(record: Path) -> list[str]:
    async def look() -> list[str]:
        async with open_store(f"sqlite:///{record}") as store, store.read() as view:
            lines = [f"{one.table}: {one.about}: {one.what}" for one in await audit_rows(view)]
            for row in await view.epochs.all():
                report = await audit_epoch(view, row, "")
                lines += [f"sampling: epoch {report.epoch}: {one.what}" for one in report.findings]
        return lines

    return asyncio.run(look())


def cells(record: Path, table: str) -> tuple[list[str], list[tuple]]:
    with closing(sqlite3.connect(record)) as base:
        found = base.execute(f"SELECT rowid, * FROM {table}")
        return [one[0] for one in found.description][1:], found.fetchall()


def other(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind."""
    match value:
        case bytes() if value:
            at = rng.randrange(len(value))
            return value[:at] + bytes([value[at] ^ (1 << rng.randrange(8))]) + value[at + 1 :]
        case 0 | 1:
            return 1 - value
        case int():
            return value + 1
        case str() if value.isdigit():
            return str(int(value) + 1)
        case str():
            return value + "x"
        case None:
            return 1
    return b"\x01"


def test_an_honest_life_holds(record) -> None:
    assert verified(record) == []
    for table in FREE:
        if table not in EMPTY:
            assert cells(record, table)[1], f"{table} has rows"


@pytest.mark.parametrize("table", sorted(set(FREE) - EMPTY - {"epochs", "events"}))
def test_any_cell_edited_is_found_and_its_table_named(record, table) -> None:
    rng = random.Random(table)
    names, rows = cells(record, table)
    for name in names:
        if name in FREE[table]:
            continue
        row = rng.choice(rows)
        value = row[1 + names.index(name)]
        # what the schema itself refuses is no matter
        with closing(sqlite3.connect(record)) as base, contextlib.suppress(sqlite3.IntegrityError):
            base.execute(f'UPDATE {table} SET "{name}" = ? WHERE rowid = ?', (other(value, rng), row[0]))
            base.commit()
            lines = verified(record)
            near = {"work": ("work", "sampling"), "commitments": ("commitments", "verdicts", "work")}.get(
                table, (table,)
            )
            assert any(line.partition(":")[0] in near for line in lines), (table, name, value, lines)
            base.execute(f'UPDATE {table} SET "{name}" = ? WHERE rowid = ?', (value, row[0]))
            base.commit()
    assert verified(record) == []


@pytest.mark.parametrize("table", sorted(set(FREE) - EMPTY))
def test_any_row_deleted_is_found(record, table) -> None:
    rng = random.Random(table)
    _, rows = cells(record, table)
    with closing(sqlite3.connect(record)) as base:
        base.execute(f"DELETE FROM {table} WHERE rowid = ?", (rng.choice(rows)[0],))
        base.commit()
    assert verified(record), table


def test_an_event_of_a_commitment_edited_is_found_even_with_its_row(record) -> None:
    """Whoever edits the event and what is folded from it has the journal's digest against him."""
    with closing(sqlite3.connect(record)) as base:
        block, log, payload = base.execute(
            "SELECT block, log_index, payload FROM events WHERE kind = 'Committed'"
        ).fetchone()
        (root,) = base.execute(
            "SELECT output_root FROM commitments WHERE block = ? AND log_index = ?", (block, log)
        ).fetchone()
        wrong = bytes([root[0] ^ 1]) + root[1:]
        base.execute(
            "UPDATE events SET payload = ? WHERE block = ? AND log_index = ?",
            (payload.replace(root.hex(), wrong.hex()), block, log),
        )
        base.execute("UPDATE commitments SET output_root = ? WHERE block = ? AND log_index = ?", (wrong, block, log))
        base.commit()
    assert f"events: block {block}, log {log}: it is another event than the journal tells of" in verified(record)


def test_signed_bytes_that_are_exchanged_are_found(record) -> None:
    with closing(sqlite3.connect(record)) as base:
        first, second = base.execute("SELECT rowid, raw, hash FROM attempts LIMIT 2").fetchall()
        base.execute("UPDATE attempts SET raw = ? WHERE rowid = ?", (second[1], first[0]))
        base.commit()
    assert any(line.startswith("attempts: ") and "do not hash" in line for line in verified(record))


async def test_the_chain_has_every_event_and_no_other(tmp_path) -> None:
    async with scene(tmp_path, seed=3, tasks=4) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        await s.until_quiet(app)
        start = s.settings.chain.start_block

        async def looked() -> tuple[list[str], int]:
            async with app.store.read() as view:
                found, held = await audit_chain(view, s.devnet.rpc, app.adapter, start)
            return [f"{one.about}: {one.what}" for one in found], held

        found, held = await looked()
        assert found == []
        assert held > 8
        async with app.store.begin(0) as unit:
            row = (await unit.connection.execute(select(events).where(events.c.kind == "TaskOpened"))).first()
            where = (events.c.block == row.block) & (events.c.log_index == row.log_index)
            await unit.connection.execute(update(events).where(where).values(payload=row.payload.replace("1", "2")))
        about = f"block {row.block}, log {row.log_index}"
        assert await looked() == ([f"{about}: the chain has another payload"], held - 1)
        async with app.store.begin(0) as unit:
            await unit.connection.execute(update(events).where(where).values(log_index=99))
        assert await looked() == (
            [
                f"block {row.block}, log 99: TaskOpened is not on the chain",
                f"{about}: the chain has a TaskOpened here, and the record lacks it",
            ],
            held - 1,
        )


@pytest.mark.parametrize(
    ("table", "key", "column", "value"),
    [
        ("disputes", "dispute", "bond", "rubbish"),
        ("disputes", "dispute", "ruling_by", "soon"),
        ("disputes", "dispute", "outcome", b"\xff"),
        ("tasks", "task", "fee", "rubbish"),
        ("commitments", "commitment", "provider", b"\xff"),
        ("demands", "demand", "paid", "-"),
        ("transactions", "id", "value", "rubbish"),
        ("attempts", "transaction", "tip", "rubbish"),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_its_table_and_row(record, table, key, column, value) -> None:
    with closing(sqlite3.connect(record)) as base, base:
        (name,) = base.execute(f'SELECT max("{key}") FROM {table}').fetchone()
        assert base.execute(f'UPDATE {table} SET {column} = ? WHERE "{key}" = ?', (value, name)).rowcount > 0
    lines = verified(record)
    shown = "0x" + name.hex() if isinstance(name, bytes) else str(name)
    named = [line for line in lines if line.startswith(f"{table}: {shown}")]
    assert named, lines
    assert not [line for line in lines if line.startswith("events:")], "the events are as they were"
    assert len(lines) == len(named) == 1, "the other rows are looked at all the same, and hold"


def test_every_table_is_protected_or_said_not_to_be() -> None:
    free = {"blocks", "cursors", "chain_moves", "fences", "pauses", "approvals", "settings", "latencies", "selftests"}
    held = {"journal", "journal_heads"}  # by their hashes and signatures
    assert set(metadata.tables) == set(FREE) | free | held
    page = (Path(__file__).parents[2] / "docs" / "auditors.md").read_text()
    assert all(f"`{name}`" in page for name in free)
