"""What was settled before, in a temporary database on disk: memory does not grow with what is on chain."""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import NamedTuple, Self

from challenger.domain import At
from challenger.errors import OwnDisk

_TABLE = "CREATE TABLE firsts (key BLOB PRIMARY KEY, block INTEGER, log INTEGER, mark BLOB) WITHOUT ROWID"


class First(NamedTuple):
    """Where something was settled first, and the ``mark`` that was left with it."""

    block: int
    log_index: int
    mark: bytes

    def elsewhere(self, at: At) -> bool:
        return (self.block, self.log_index) != (at.block, at.log_index)


class Seen:
    """A context manager; it may be used from any thread, by one at a time. ``OwnDisk`` when the disk does not take it."""

    def __init__(self) -> None:
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)

    def __enter__(self) -> Self:
        for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192"):
            self._base.execute(f"PRAGMA {setting}")
        self._base.execute(_TABLE)
        self._base.execute("BEGIN")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._base.close()

    def first(self, key: bytes, at: At, mark: bytes = b"") -> First:
        """Where ``key`` was first, which is ``at`` if it is new."""
        here = First(at.block, at.log_index, mark)
        try:
            put = self._base.execute("INSERT OR IGNORE INTO firsts VALUES (?, ?, ?, ?)", (key, *here))
            if put.rowcount:
                return here
            return First(*self._base.execute("SELECT block, log, mark FROM firsts WHERE key = ?", (key,)).fetchone())
        except sqlite3.Error as error:
            raise OwnDisk(f"the temporary folder: {error}") from error
