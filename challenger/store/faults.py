"""What a driver's error means to an operator: one line with what, where and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from challenger.errors import ChallengerError, StoreError

#: What the driver says (lower case) → what to tell the operator. The first that fits wins.
_MEANINGS = (
    ("disk is full", "the disk is full: free space or move the database; nothing was written"),
    ("no space left", "the disk is full: free space or move the database; nothing was written"),
    ("disk i/o error", "the disk refuses to write: check space, quota and hardware; nothing was written"),
    ("readonly database", "the file cannot be written: check its owner, mode and mount"),
    ("read-only transaction", "a reading transaction tried to write"),
    ("file is not a database", "the file is not an SQLite database: check the path"),
    ("malformed", "the file is damaged: restore a backup, or index anew into another file"),
    ("is locked", "another process holds the database: stop it, or raise the busy timeout"),
    ("lock timeout", "another process holds the write lock: stop it, or raise the busy timeout"),
    ("unable to open", "the file cannot be opened: check that its directory exists and may be written"),
    ("connection refused", "the server does not answer: is PostgreSQL running?"),
    ("does not exist", "a database, role or table is missing: create it, then run `challenger db upgrade`"),
    ("no such table", "a table is missing: run `challenger db upgrade`"),
    ("password authentication failed", "user or password is wrong"),
)


def explain(error: BaseException) -> str:
    """The operator's line for a driver's error."""
    raw = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    said = " ".join(str(raw).split())
    lowered = said.lower()
    for needle, meaning in _MEANINGS:
        if needle in lowered:
            return meaning
    return said[:300] or type(raw).__name__


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns whatever a driver raises inside into ``StoreError`` for the database ``where``."""
    try:
        yield
    except ChallengerError:
        raise
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreError(explain(error), database=where) from error
