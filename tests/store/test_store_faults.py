"""What goes wrong outside is one line, and nothing that was committed is lost."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from challenger.errors import ConfigError, NotMigrated, StoreError
from challenger.store import heads, open_store
from challenger.store.engine import WRITE_LOCK
from challenger.store.faults import explain

from .chains import T0, chain, committed


def path_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def one_line(error: BaseException) -> str:
    said = str(error)
    assert "\n" not in said
    assert len(said) < 600
    return said


async def refused(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        async with open_store(url, busy_seconds=0.05) as store, store.begin(T0) as unit:
            await unit.settings.put("key", "value")
    return one_line(caught.value)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x", "no url at all", "sqlite+pysqlite:///x"]
)
async def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_store(url):
            pass
    one_line(caught.value)


async def test_a_file_that_is_not_a_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a database, but long enough to look like one " * 100)
    content = path.read_bytes()
    assert "not an SQLite database" in await refused(f"sqlite:///{path}")
    assert path.read_bytes() == content
    path.write_bytes(b"")
    with pytest.raises(NotMigrated):
        async with open_store(f"sqlite:///{path}"):
            pass
    assert "cannot be opened" in await refused(f"sqlite:///{tmp_path}")


async def test_a_damaged_file(fresh_sqlite: Callable[[], str]) -> None:
    url = fresh_sqlite()
    blocks = chain(1, 40)
    async with open_store(url) as store:
        await store.index().apply(blocks, [committed(b, b.number) for b in blocks], None)
    path = path_of(url)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = 'commitments'").fetchone()
    raw.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    async with open_store(url) as store:
        with pytest.raises(StoreError, match="damaged"):
            async with store.read() as view:
                await view.chain.commitments()


async def test_a_database_that_another_process_holds(fresh_sqlite: Callable[[], str]) -> None:
    url = fresh_sqlite()
    other = sqlite3.connect(path_of(url), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert "another process holds" in await refused(url)
    other.rollback()
    other.close()
    async with open_store(url) as store, store.begin(T0) as unit:
        await unit.settings.put("key", "value")


async def test_a_server_whose_write_lock_another_process_holds(fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    with psycopg.connect(url) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
        assert "another process holds" in await refused(url)
    async with open_store(url) as store, store.begin(T0) as unit:
        await unit.settings.put("key", "value")


async def test_a_server_that_is_away_and_a_password_that_stays_secret(tmp_path: Path) -> None:
    said = await refused(f"postgresql://someone:hunter2@/nothing?host={tmp_path}")
    assert "hunter2" not in said


async def test_a_full_disk_loses_nothing(fresh_sqlite: Callable[[], str]) -> None:
    url = fresh_sqlite()
    blocks = chain(1, 60)
    async with open_store(url) as store:
        index = store.index()
        cursor = await index.apply(blocks[:10], [committed(b, b.number) for b in blocks[:10]], None)
        async with store.begin(T0) as unit:
            (pages,) = (await unit.connection.exec_driver_sql("PRAGMA page_count")).one()
            await unit.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
        events = [committed(b, b.number, output_data=bytes(9000)) for b in blocks[10:]]
        with pytest.raises(StoreError, match="disk is full"):
            await index.apply(blocks[10:], events, cursor)
        assert await index.cursor() == cursor
        async with store.begin(T0) as unit:
            await unit.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        await index.apply(blocks[10:], events, cursor)
        assert (await heads.verify(store)).broken is None


_FILLING = """
import asyncio, resource, sys
from challenger.errors import StoreError
from challenger.store import open_store

async def main(url, path):
    async with open_store(url) as store:
        async with store.begin(1) as unit:
            await unit.settings.put("first", "kept")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        written = 0
        try:
            while True:
                async with store.begin(1) as unit:
                    await unit.settings.put(f"key {written}", "x" * 20_000)
                written += 1
        except StoreError as error:
            print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        async with store.begin(1) as unit:
            await unit.settings.put("last", "kept")
        print(written)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_a_file_that_may_not_grow_loses_nothing(fresh_sqlite: Callable[[], str]) -> None:
    url = fresh_sqlite()
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _FILLING, url, path_of(url)], capture_output=True, text=True, check=True
    )
    said, written = done.stdout.splitlines()
    assert "nothing was written" in said
    async with open_store(url) as store, store.read() as view:
        assert int(written) > 0
        for key in ("first", "last", *(f"key {number}" for number in range(int(written)))):
            assert await view.settings.get(key) is not None
        assert await view.settings.get(f"key {written}") is None
        assert (await heads.verify(store)).broken is None


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("attempt to write a readonly database", "cannot be written"),
        ("database or disk is full", "disk is full"),
        ("disk I/O error", "refuses to write"),
        ("something\n  nobody   foresaw", "something nobody foresaw"),
        ("", "OperationalError"),
    ],
)
def test_drivers_words_become_advice(said: str, meant: str) -> None:
    assert meant in explain(sqlite3.OperationalError(said))
