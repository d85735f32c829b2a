"""What was settled before, in a temporary database on disk: memory does not grow with what is on chain, nor the disk beyond
a bound."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from challenger.domain import At
from challenger.errors import OwnDisk

#: Rows of one generation, two for each inference: some 150 MB.
_MOST = 2_000_000
_YOUNG = "CREATE TABLE young (key BLOB PRIMARY KEY, block INTEGER, log INTEGER, mark BLOB) WITHOUT ROWID"
_OLD = _YOUNG.replace("young", "old")


class First(NamedTuple):
    """Where something was settled first, and the ``mark`` that was left with it."""

    block: int
    log_index: int
    mark: bytes

    def elsewhere(self, at: At) -> bool:
        return (self.block, self.log_index) != (at.block, at.log_index)


class Seen:
    """The last ``most`` rows at least, and twice as many at most. It may be used from any thread, by one at a time.
    ``OwnDisk`` when the disk does not take it; nothing is known then any more."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._rows, self._newest = 0, -1
        self._base = _opened()

    def close(self) -> None:
        self._base.close()

    def first(self, key: bytes, at: At, mark: bytes = b"") -> First:
        """Where ``key`` was first, which is ``at`` if it is new."""
        here = First(at.block, at.log_index, mark)
        try:
            for query in (
                "SELECT block, log, mark FROM young WHERE key = ?",
                "SELECT block, log, mark FROM old WHERE key = ?",
            ):
                if (row := self._base.execute(query, (key,)).fetchone()) is not None:
                    return First(*row)
            self._base.execute("INSERT INTO young VALUES (?, ?, ?, ?)", (key, *here))
            self._newest = max(self._newest, at.block)
            self._rows += 1
            if self._rows >= self._most:
                self._age()
        except sqlite3.Error as error:
            self._begin_anew()
            raise OwnDisk(f"the temporary folder: {error}") from error
        return here

    def forget(self, first: int = 0) -> None:
        """All that was settled in block ``first`` or after it; everything where the disk does not take that."""
        if first > self._newest:
            return
        try:
            self._rows -= self._base.execute("DELETE FROM young WHERE block >= ?", (first,)).rowcount
            self._base.execute("DELETE FROM old WHERE block >= ?", (first,))
            self._newest = first - 1
        except sqlite3.Error:
            self._begin_anew()

    def _age(self) -> None:
        for statement in ("DROP TABLE old", "ALTER TABLE young RENAME TO old", _YOUNG):
            self._base.execute(statement)
        self._rows = 0

    def _begin_anew(self) -> None:
        self._base.close()
        self._rows, self._newest = 0, -1
        self._base = _opened()


def _opened() -> sqlite3.Connection:
    base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192"):
        base.execute(f"PRAGMA {setting}")
    for statement in (_YOUNG, _OLD, "BEGIN"):
        base.execute(statement)
    return base
