"""Copies of a live database and databases put back: verified, atomic, and one clear line for everything else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from challenger.domain import UnixTime
from challenger.errors import ChallengerError, ConfigError, JournalBroken, NotMigrated, StoreError
from challenger.store import migrate
from challenger.store.backup import RESTORED, backup, restore
from challenger.store.engine import open_store
from challenger.store.heads import verify


async def made(folder: Path, entries: int = 3) -> tuple[str, Path]:
    path = folder / "live.sqlite"
    url = f"sqlite:///{path}"
    await migrate.upgrade(url)
    await write(url, entries)
    return url, path


async def write(url: str, entries: int) -> None:
    async with open_store(url) as store, store.begin(UnixTime(7)) as unit:
        for number in range(entries):
            await unit.journal.write(UnixTime(7), "note", "test", {"n": number})


async def kinds(url: str) -> list[str]:
    async with open_store(url) as store:
        assert (await verify(store)).broken is None
        async with store.read() as view:
            return [row.kind for row in await view.journal.after(0)]


async def test_a_live_database_is_copied_while_a_writer_is_in_the_middle(tmp_path):
    url, _ = await made(tmp_path)
    copy = tmp_path / "copy.sqlite"
    async with open_store(url) as store:
        async with store.begin(UnixTime(8)) as unit:
            await unit.journal.write(UnixTime(8), "later", "test", {})
            found = backup(url, copy)
        assert found.tip.seq == 3, "what was not committed is not in it"
        assert backup(url, copy, force=True).tip.seq == 4
    assert copy.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir() if "copy" in path.name) == ["copy.sqlite"]


async def test_what_is_restored_is_what_was_copied_and_says_so(tmp_path):
    url, path = await made(tmp_path)
    copy = tmp_path / "copy.sqlite"
    backup(url, copy)
    await write(url, 5)
    with pytest.raises(ConfigError, match="holds a record already"):
        restore(url, copy)
    assert len(await kinds(url)) == 8
    assert restore(url, copy, force=True).tip.seq == 3
    assert await kinds(url) == ["note"] * 3 + [RESTORED]
    other = f"sqlite:///{tmp_path / 'new.sqlite'}"
    restore(other, copy)
    assert await kinds(other) == ["note"] * 3 + [RESTORED]
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(ConfigError, match="cannot be read"):
        restore(url, copy)
    restore(url, copy, force=True)
    assert await kinds(url) == ["note"] * 3 + [RESTORED]


async def test_a_database_in_use_is_not_replaced(tmp_path):
    url, _ = await made(tmp_path)
    copy = tmp_path / "copy.sqlite"
    backup(url, copy)
    async with open_store(url) as store, store.read() as view:
        await view.journal.tip()
        with pytest.raises(StoreError, match="another process has the database open"):
            restore(url, copy, force=True)
    assert await kinds(url) == ["note"] * 3


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _run(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as connection:
        for line in statement.split(";"):
            connection.execute(line)


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda p: p.write_bytes(b"no database" * 500), StoreError, "not an SQLite database"),
        (_cut, StoreError, "damaged"),
        (lambda p: _run(p, "UPDATE alembic_version SET version_num = '0000'"), NotMigrated, "release that made it"),
        (lambda p: _run(p, "DROP TABLE alembic_version"), NotMigrated, "not a database of this program"),
        (
            lambda p: _run(p, "DROP TRIGGER IF EXISTS x;UPDATE journal SET kind = 'lie' WHERE seq = 2"),
            JournalBroken,
            "2",
        ),
        (lambda p: p.unlink(), ConfigError, "no such backup"),
    ],
)
async def test_a_bad_copy_is_one_line_and_changes_nothing(tmp_path, spoil, error, said):
    url, path = await made(tmp_path)
    copy = tmp_path / "copy.sqlite"
    backup(url, copy)
    for name in _triggers(copy):
        _run(copy, f"DROP TRIGGER {name}")
    spoil(copy)
    before = path.read_bytes()
    with pytest.raises(error, match=said) as caught:
        restore(url, copy, force=True)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert await kinds(url) == ["note"] * 3
    assert not list(tmp_path.glob(".*"))


def _triggers(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]


@pytest.mark.parametrize("act", [backup, restore])
def test_postgresql_is_refused_with_what_to_use_instead(tmp_path, act):
    with pytest.raises(ConfigError, match="pg_"):
        act("postgresql://somebody@nowhere/x", tmp_path / "file")


async def test_a_backup_overwrites_nothing_unasked(tmp_path):
    url, path = await made(tmp_path)
    taken = tmp_path / "taken"
    taken.write_text("mine")
    for target in (taken, path, tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(ChallengerError) as caught:
            backup(url, target)
        assert "\n" not in str(caught.value)
    assert taken.read_text() == "mine"
    with pytest.raises(NotMigrated, match="no such file"):
        backup(f"sqlite:///{tmp_path / 'absent.sqlite'}", tmp_path / "x")
