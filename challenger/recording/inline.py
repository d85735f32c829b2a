"""SQLite without threads: the driver's calls happen where they are asked for.

aiosqlite hands each call to a thread, so that the service's loop never waits for a disk. A replay has nothing else to
do, and its database no disk worth waiting for: there the hand-over is most of the time. What comes back, comes back in
one order. The shape is that of ``aiosqlite.Connection`` and ``Cursor``, as far as SQLAlchemy's adapter uses them.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine

from challenger.store.engine import create_engine


def quick(url: URL, busy_seconds: float) -> AsyncEngine:
    """An engine for a database that can be had again: a power cut may take it. Another server than SQLite is used as it
    always is."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, busy_seconds)

    async def connect() -> InlineConnection:
        return InlineConnection(sqlite3.connect(url.database or ""))

    engine = create_engine(url, busy_seconds, connect=connect)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    return engine


class InlineConnection:
    def __init__(self, plain: sqlite3.Connection) -> None:
        self._conn = plain
        self._connection: sqlite3.Connection | None = plain
        self._tx = self

    def put_nowait(self, task: tuple[asyncio.Future[Any], Callable[[], Any]]) -> None:
        """The thread's queue, as the adapter uses it: done at once."""
        future, function = task
        try:
            future.set_result(function())
        except sqlite3.Error as error:
            future.set_exception(error)

    def cursor(self) -> InlineCursor:
        return InlineCursor(self._conn.cursor())

    async def commit(self) -> None:
        self._conn.commit()

    async def rollback(self) -> None:
        self._conn.rollback()

    async def create_function(self, *args: Any, **options: Any) -> None:
        self._conn.create_function(*args, **options)

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:
        self._connection = None
        self._conn.close()


class InlineCursor:
    def __init__(self, plain: sqlite3.Cursor) -> None:
        self._plain = plain

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, values: Sequence[Any] = ()) -> Self:
        self._plain.execute(statement, values)
        return self

    async def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> Self:
        self._plain.executemany(statement, rows)
        return self

    async def fetchall(self) -> list[Any]:
        return self._plain.fetchall()

    async def close(self) -> None:
        self._plain.close()

    @property
    def description(self) -> Any:
        return self._plain.description

    @property
    def rowcount(self) -> int:
        return self._plain.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._plain.lastrowid
