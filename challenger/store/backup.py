"""A copy of a live SQLite database, and a database put back from such a copy.

Both go through SQLite's own backup, which reads one snapshot while others write, into a file beside the target; that
file is checked (pages, references, schema, the journal's chain) and only then takes the target's name. A copy holds the
secrets of epochs to come, so nobody but its owner may read it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from challenger.domain import UnixTime
from challenger.errors import ConfigError, JournalBroken, NotMigrated, StoreError
from challenger.store.engine import normalise
from challenger.store.faults import translated
from challenger.store.journal import GENESIS, Tip, canonical, link
from challenger.store.schema import HEAD

#: The kind of the entry that a restored journal goes on with.
RESTORED = "database-restored"


class Examined(NamedTuple):
    """What a copy holds: its journal's last entry, and how many bytes it has."""

    tip: Tip
    size: int


def backup(url: str, target: Path, *, force: bool = False) -> Examined:
    """Copies the database at ``url`` to ``target`` while others use it.

    Raises ConfigError when there is nothing to copy or ``target`` is there already (unless ``force``), StoreError when
    the copy cannot be written or does not verify; then ``target`` is as it was.
    """
    source = _file_of(url, "use pg_dump, which copies a live server as well")
    if not source.exists():
        raise NotMigrated("there is no such file", database=source)
    if target.exists() and (target.is_dir() or target.samefile(source)):
        raise ConfigError("a backup needs a file of its own", file=target)
    if target.exists() and not force:
        raise ConfigError("the file is there already: name another, or give --force", file=target)
    with _beside(target) as fresh:
        _copy(source, fresh)
        found = examine(fresh)
        _put(fresh, target)
    return found


def restore(url: str, source: Path, *, force: bool = False) -> Examined:
    """Puts the copy ``source`` in the place of the database at ``url``, which nobody may have open.

    The journal goes on with one entry that says so. Raises ConfigError when ``source`` is no file or the database holds
    a record (unless ``force``), StoreError for a copy that does not verify or a database in use; then the database is
    as it was.
    """
    target = _file_of(url, "use pg_restore with what pg_dump made")
    if not source.is_file():
        raise ConfigError("there is no such backup", file=source)
    if target.is_dir() or (target.exists() and target.samefile(source)):
        raise ConfigError("the database cannot be restored from itself", file=source)
    with _beside(target) as fresh:
        _copy(source, fresh)
        found = examine(fresh, source)
        _mark(fresh, found.tip)
        _vacate(target, force=force)
        _put(fresh, target)
    return found


def examine(path: Path, name: Path | None = None) -> Examined:
    """Checks a copy from end to end; ``name`` stands for it in errors. Raises StoreError, NotMigrated, JournalBroken."""
    shown = path if name is None else name
    with translated(str(shown)), closing(_open(path)) as connection:
        said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if said != "ok":
            raise StoreError("the file is damaged", file=shown, found=" ".join(said.split())[:100])
        if not _has(connection, "alembic_version"):
            raise NotMigrated("it is not a database of this program", file=shown)
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        if row is None or row[0] != HEAD:
            found = "nothing" if row is None else row[0]
            raise NotMigrated("restore it with the release that made it", file=shown, found=found, expected=HEAD)
        if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
            raise StoreError("rows lack those they refer to", file=shown)
        return Examined(_walk(connection), path.stat().st_size)


def _walk(connection: sqlite3.Connection) -> Tip:
    seq, prev = 0, GENESIS
    query = "SELECT seq, prev, hash, time, kind, subject, payload FROM journal ORDER BY seq"
    for number, before, digest, *entry in connection.execute(query):
        time, kind, subject, payload = entry
        linked = number == seq + 1 and before == prev and link(prev, number, (time, kind, subject, payload)) == digest
        if not linked:
            raise JournalBroken("the copy's entries do not follow one another", seq=seq + 1)
        seq, prev = number, digest
    return Tip(seq, prev)


def _mark(path: Path, tip: Tip) -> None:
    """From here on this journal is another one than that which the copy was taken of."""
    with translated(str(path)), closing(_open(path)) as connection:
        last = connection.execute("SELECT time FROM journal WHERE seq = ?", (tip.seq,)).fetchone()
        entry = (UnixTime(0 if last is None else last[0]), RESTORED, "database", canonical({"base": tip.seq}))
        row = (tip.seq + 1, tip.hash, link(tip.hash, tip.seq + 1, entry), *entry)
        insert = "INSERT INTO journal (seq, prev, hash, time, kind, subject, payload) VALUES (?, ?, ?, ?, ?, ?, ?)"
        connection.execute(insert, row)
        connection.commit()


def _vacate(target: Path, *, force: bool) -> None:
    """Makes sure that nobody uses the file and that its log is folded into it: a log left behind would be replayed onto
    the new file."""
    if not target.exists():
        return
    try:
        with closing(_open(target)) as connection:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
            empty = (
                not _has(connection, "journal") or not connection.execute("SELECT 1 FROM journal LIMIT 1").fetchone()
            )
            if not empty and not force:
                raise ConfigError("the database holds a record already: give --force to replace it", database=target)
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise StoreError("another process has the database open: stop it first", database=target) from error
        _given_up(target, error, force=force)
    except sqlite3.DatabaseError as error:
        _given_up(target, error, force=force)
    for suffix in ("-wal", "-shm", "-journal"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)


def _given_up(target: Path, error: sqlite3.Error, *, force: bool) -> None:
    if not force:
        raise ConfigError("what stands there cannot be read: give --force to replace it", database=target) from error


def _file_of(url: str, instead: str) -> Path:
    parsed = normalise(url)
    if parsed.get_backend_name() != "sqlite":
        raise ConfigError(f"only SQLite databases are copied by this command: {instead}")
    return Path(parsed.database or "")


def _copy(source: Path, target: Path) -> None:
    with translated(str(source)), closing(_open(source)) as one, closing(_open(target)) as other:
        one.backup(other)
        other.execute("PRAGMA journal_mode = DELETE")  # one file, with no log beside it


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=5)


def _has(connection: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (table,)).fetchone() is not None


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty file in the directory of ``target``, for its owner only; gone afterwards."""
    fresh = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        fresh.unlink(missing_ok=True)
        os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield fresh
    except OSError as error:
        raise StoreError(error.strerror or str(error), file=target) from error
    finally:
        with suppress(OSError):
            for suffix in ("", "-journal", "-wal", "-shm"):
                fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)


def _put(fresh: Path, target: Path) -> None:
    """Synced, then named: after a power cut the target is the old file or the new one."""
    _sync(fresh, os.O_RDWR)
    fresh.replace(target)
    _sync(target.absolute().parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
