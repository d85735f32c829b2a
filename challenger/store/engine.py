"""Opening the database, and the two kinds of transaction there are: ``begin`` writes, ``read`` looks.

*SQLite*: WAL, so that readers never wait for the writer; every writing transaction starts with ``BEGIN IMMEDIATE``,
since one that reads first and locks later loses updates silently; inside the process an asyncio lock queues the
writers, so that none runs into the busy timeout. *PostgreSQL*: every writing transaction first takes one advisory
lock, which makes several processes one writer: compare-and-set and the journal's chain then need no other care.

``synchronous=FULL`` for everything, not for the spending rows alone: a hash persisted before sending must outlive a
power cut, and so must the journal up to a head that was published; one fsync a transaction is what that costs.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import URL, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util.concurrency import await_, greenlet_spawn

from challenger.domain import UnixTime
from challenger.errors import ConfigError, NoDatabase, NotMigrated, RecordOlder
from challenger.store.crossing import Hook, Moment, names_of
from challenger.store.faults import translated
from challenger.store.index import Index
from challenger.store.journal import GENESIS, Tip
from challenger.store.schema import HEAD
from challenger.store.unit import Unit, View

#: The advisory lock of all writers: "chlg" in ASCII.
WRITE_LOCK = 0x63686C67
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+psycopg",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql+psycopg": "postgresql+psycopg",
}
_MODE = "challenger_mode"
#: A writer that says nothing for so many seconds within its transaction has its PostgreSQL session ended, and all of it
#: undone: it keeps every other writer out.
_SILENCE = 10.0
_T = TypeVar("_T")


def normalise(url: str) -> URL:
    """The URL with the driver in it. Raises ConfigError for one that cannot be used."""
    try:
        url.encode()
        parsed = make_url(url)
    except (ArgumentError, UnicodeEncodeError) as error:
        raise ConfigError(
            "the database URL does not parse; expected sqlite:///file or postgresql://user@host/name"
        ) from error
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ConfigError("only SQLite and PostgreSQL are supported", database=parsed.drivername)
    if driver == "sqlite+aiosqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("the database must be a file: a record that ends with the process is none")
    return parsed.set(drivername=driver)


def create_engine(
    url: URL,
    busy_seconds: float = 30.0,
    *,
    foreign_keys: bool = True,
    connect_args: Mapping[str, Any] | None = None,
) -> AsyncEngine:
    """An engine whose transactions begin as the module says; both drivers wait ``busy_seconds`` for a lock.
    ``connect_args`` are SQLite's driver's."""
    if url.get_backend_name() == "postgresql":
        milliseconds = int(busy_seconds * 1000)
        # a hash that was kept before a transaction is sent outlives a power cut, whatever the server has set
        options = f"-c lock_timeout={milliseconds} -c timezone=UTC -c synchronous_commit=on"
        return create_async_engine(url, connect_args={"options": options}, pool_pre_ping=True)
    engine = create_async_engine(url, connect_args=dict(connect_args or {}))

    @event.listens_for(engine.sync_engine, "do_connect")
    def _connect(dialect: Any, _record: Any, args: Any, kwargs: Any) -> Any:
        def connected() -> Any:
            connection = dialect.connect(*args, **kwargs)
            connection.isolation_level = None  # the driver must not begin on its own
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
            cursor.execute("PRAGMA cache_size = -65536")
            cursor.execute("PRAGMA wal_autocheckpoint = 4000")  # 16 MiB: an index would copy hot pages at every commit
            cursor.execute("PRAGMA temp_store = MEMORY")
            cursor.close()
            return connection

        async def close(connection: Any) -> None:
            await greenlet_spawn(connection.close)

        # a task cancelled here would leave a connection that nobody closes, and its thread
        return await_(uninterrupted(greenlet_spawn(connected), undo=close))

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        reads = connection.get_execution_options().get(_MODE) == "read"
        if connection.info.get(_MODE) is not reads:  # most transactions are readers, one after the other
            connection.exec_driver_sql(f"PRAGMA query_only = {int(reads)}")
            connection.info[_MODE] = reads
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    @event.listens_for(engine.sync_engine, "invalidate")
    def _invalidate(connection: Any, _record: Any, error: BaseException | None) -> None:
        # A task cancelled within a statement has its connection closed; but SQLite keeps one alive, and with it the
        # write lock, as long as a cursor is, and the traceback of the cancellation holds the cursor.
        if isinstance(error, asyncio.CancelledError):
            with suppress(sqlite3.Error, ValueError):  # nothing to roll back, or closed already
                connection.run_async(lambda driver: asyncio.shield(driver.rollback()))

    return engine


async def dispose(engine: AsyncEngine) -> None:
    """Closes the engine's connections, uninterrupted: cut short, it is told by the pool as an error, with its
    traceback, to whoever pressed Ctrl-C."""
    await uninterrupted(engine.dispose())


async def uninterrupted(
    act: Coroutine[Any, Any, _T], undo: Callable[[_T], Coroutine[Any, Any, None]] | None = None
) -> _T:
    """What ``act`` gives. A cancellation meanwhile is raised when it is over, and what was given undone."""
    acting = asyncio.ensure_future(act)
    cancelled: asyncio.CancelledError | None = None
    while not acting.done():
        try:
            await asyncio.shield(acting)
        except asyncio.CancelledError as error:
            cancelled = error
    given = acting.result()
    if cancelled is None:
        return given
    if undo is not None:
        await uninterrupted(undo(given))
    raise cancelled


class Store:
    """The database, opened and found at the schema's head. Safe to share between tasks."""

    def __init__(self, engine: AsyncEngine, where: str, crossing: Hook | None = None) -> None:
        self._engine = engine
        self._where = where
        self._crossing = crossing
        self._sqlite = engine.dialect.name == "sqlite"
        self._one_writer = asyncio.Lock()
        #: writing transactions of this process so far: what has looked at the rows need not look again until it grows
        self.changes = 0
        self._guard: Callable[[View], Awaitable[None]] | None = None
        self._silence = _SILENCE
        self._written = Tip(0, GENESIS)

    @property
    def file(self) -> Path | None:
        """The database's file; None for a server's."""
        name = self._engine.url.database
        return Path(name).resolve() if self._sqlite and name else None

    def guard(self, check: Callable[[View], Awaitable[None]], silence: float = _SILENCE) -> None:
        """From now on every writing transaction begins with ``check``, and does not happen when it raises. ``silence``: the
        seconds for which a writer that was paused within one may keep others out."""
        self._guard = check
        self._silence = min(silence, _SILENCE)

    @property
    def where(self) -> str:
        """The URL without its password."""
        return self._where

    def index(self, name: str = "chain") -> Index:
        """The follower's ledger under cursor ``name``."""
        return Index(self, name)

    @asynccontextmanager
    async def begin(self, now: UnixTime, *, guarded: bool = True) -> AsyncIterator[Unit]:
        """One writing transaction at chain time ``now``: all of it, or on any exception nothing. ``guarded`` False
        leaves the guard out: for the lease itself.

        Raises StoreError when the database refuses.
        """
        async with self._one_writer:
            async with self._transaction("write") as connection:
                if not self._sqlite:
                    most = int(self._silence * 1000)
                    await connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {most}"))
                    await connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"))
                unit = Unit(connection, now)
                if self._crossing is not None:
                    unit.journal.heard = []
                if guarded and self._guard is not None:
                    await self._guard(unit)
                    await self._goes_on(unit)
                yield unit
                await unit.journal.flush()
                self._crossed(unit, Moment.BEFORE)
            self._written = unit.journal.known or self._written
            self.changes += guarded  # a lease's renewal is nothing to look at
            self._crossed(unit, Moment.AFTER)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[View]:
        """One consistent snapshot; writing through it fails."""
        async with self._transaction("read") as connection:
            if not self._sqlite:
                await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
            yield View(connection)

    async def _goes_on(self, unit: Unit) -> None:
        """A server that failed over to a copy that lagged has lost what this process wrote last: it has to start anew, as
        with an old copy that was put back. SQLite has its file under a lock. Raises RecordOlder."""
        if not self._sqlite and self._written.seq and not await unit.journal.has(self._written):
            raise RecordOlder(entry=self._written.seq, found=(await unit.journal.tip()).seq)

    def _crossed(self, unit: Unit, moment: Moment) -> None:
        if self._crossing is not None and (names := names_of(unit.journal.heard or (), unit.marks)):
            self._crossing(names, moment)

    @asynccontextmanager
    async def _transaction(self, mode: str) -> AsyncIterator[AsyncConnection]:
        with translated(self._where):
            async with self._engine.connect() as plain:
                connection = await plain.execution_options(**{_MODE: mode})
                async with connection.begin():
                    yield connection

    async def close(self) -> None:
        await dispose(self._engine)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


@asynccontextmanager
async def open_store(
    url: str,
    *,
    busy_seconds: float = 30.0,
    crossing: Hook | None = None,
    engine: Callable[[URL, float], AsyncEngine] = create_engine,
) -> AsyncIterator[Store]:
    """The store at ``url`` (``sqlite:///file`` or ``postgresql://…``), closed at the end of the block. ``crossing`` is
    told of every transaction (see ``crossing.py``); ``engine`` makes the connections (a simulation has its own).

    Raises ConfigError for a URL that cannot be used, NotMigrated when its schema is another one than this
    program's, StoreError when it cannot be opened.
    """
    parsed = normalise(url)
    where = parsed.render_as_string(hide_password=True)
    if parsed.get_backend_name() == "sqlite":
        # SQLite would create an empty file; a mistyped path should say so instead
        await asyncio.to_thread(_must_exist, parsed.database or "", where)
    async with Store(engine(parsed, busy_seconds), where, crossing) as store:
        revision = await _revision(store)
        if revision != HEAD:
            raise NotMigrated(database=where, found=revision or "nothing", expected=HEAD)
        yield store


def _must_exist(path: str, where: str) -> None:
    if not Path(path).exists():
        raise NoDatabase("there is no such file", database=where)


async def _revision(store: Store) -> str | None:
    async with store.read() as view:
        try:
            found = await view.connection.execute(text("SELECT version_num FROM alembic_version"))
        except DBAPIError as error:
            if _no_such_table(error):
                return None
            raise
        return found.scalar_one_or_none()


def _no_such_table(error: DBAPIError) -> bool:
    return "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", None) == "42P01"
