"""SQLite in the caller's own turn, behind the seam where SQLAlchemy expects aiosqlite.

aiosqlite hands each call to a thread, so that the service's loop never waits for a disk. What is simulated gains without:
no thread is waited for, all happens in one order, and every statement passes one place, where it may be told that the
disk is full, or that the process has died.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Self

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine

from challenger.store.engine import create_engine

#: Told of each statement before it runs ("BEGIN IMMEDIATE", "COMMIT", …) and after each commit ("committed"); raises
#: what the database is to raise.
Gate = Callable[[str], None]


def _open(_: str) -> None:
    return


def engine(url: URL, gate: Gate = _open) -> AsyncEngine:
    """As ``store.engine.create_engine`` for an SQLite file, with ``gate`` in front of every statement."""
    return create_engine(url, connect_args={"async_creator_fn": lambda path, **_: _connected(str(path), gate)})


def passing(url: URL, busy_seconds: float) -> AsyncEngine:
    """For a database that can be had again: nothing is forced to the disk, and a power cut may take it. Another
    database than SQLite is used as it always is."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, busy_seconds)
    made = engine(url)

    @event.listens_for(made.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous = OFF")
        cursor.close()

    return made


async def _connected(path: str, gate: Gate) -> _Connection:
    gate("CONNECT")
    return _Connection(sqlite3.connect(path, check_same_thread=False), gate)


class _Cursor:
    def __init__(self, cursor: sqlite3.Cursor, gate: Gate) -> None:
        self._cursor = cursor
        self._gate = gate

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid

    async def execute(self, operation: str, parameters: Any = ()) -> Any:
        self._gate(operation)
        return self._cursor.execute(operation, parameters or ())

    async def executemany(self, operation: str, parameters: Any) -> Any:
        self._gate(operation)
        return self._cursor.executemany(operation, parameters)

    async def fetchone(self) -> Any:
        return self._cursor.fetchone()

    async def fetchmany(self, size: int | None = None) -> Any:
        return self._cursor.fetchmany(size or 1)

    async def fetchall(self) -> Any:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()


class _Connection:
    """What SQLAlchemy's adapter uses of aiosqlite's connection."""

    def __init__(self, connection: sqlite3.Connection, gate: Gate) -> None:
        self._connection: sqlite3.Connection | None = connection
        self._conn = connection
        self._gate = gate
        self._tx = _AtOnce()

    @property
    def isolation_level(self) -> str | None:
        return self._conn.isolation_level

    def cursor(self) -> _Cursor:
        return _Cursor(self._conn.cursor(), self._gate)

    async def create_function(self, *args: Any, **options: Any) -> None:
        self._conn.create_function(*args, **options)

    async def commit(self) -> None:
        self._gate("COMMIT")
        self._conn.commit()
        self._gate("committed")

    async def rollback(self) -> None:
        self._conn.rollback()

    async def close(self) -> None:
        if self._connection is not None:
            self._connection = None
            self._conn.close()

    def stop(self) -> None:
        if self._connection is not None:
            self._connection = None
            self._conn.close()


class _AtOnce:
    """aiosqlite's queue to its thread, without the thread."""

    def put_nowait(self, job: tuple[Any, Callable[[], Any]]) -> None:
        future, function = job
        future.set_result(function())
