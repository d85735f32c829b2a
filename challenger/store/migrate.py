"""Bringing a database to this program's schema, and back: what ``challenger db`` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

import migrations
from challenger.errors import ConfigError, StoreError
from challenger.store.engine import WRITE_LOCK, create_engine, dispose, normalise
from challenger.store.faults import translated


async def upgrade(url: str, revision: str = "head") -> str | None:
    """Migrates the database at ``url`` up to ``revision``, creating an SQLite file that is not there; gives the
    revision reached. All or nothing.

    Raises ConfigError for a URL or revision that does not exist, StoreError when the database refuses.
    """
    return await _migrate(url, command.upgrade, revision)


async def downgrade(url: str, revision: str) -> str | None:
    """Migrates down to ``revision`` (``base``: nothing is left). What the older schema cannot hold is dropped."""
    return await _migrate(url, command.downgrade, revision)


async def current(url: str) -> str | None:
    """The revision the database is at; None for one that was never migrated."""
    return await _on_connection(url, lambda connection: MigrationContext.configure(connection).get_current_revision())


def head() -> str | None:
    """The newest revision that this program ships."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config


async def _migrate(url: str, run: Any, revision: str) -> str | None:
    def migrate(connection: Connection) -> str | None:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})"))
        config = _config()
        config.attributes["connection"] = connection
        try:
            run(config, revision)
        except CommandError as error:
            raise ConfigError(f"migration: {error}") from error
        if connection.dialect.name == "sqlite":
            broken = connection.execute(text("PRAGMA foreign_key_check")).all()
            if broken:
                raise StoreError("the migration would leave rows without their parent", table=broken[0][0])
        return MigrationContext.configure(connection).get_current_revision()

    return await _on_connection(url, migrate)


async def _on_connection(url: str, action: Any) -> str | None:
    parsed = normalise(url)
    # a table that is rebuilt is dropped for a moment: its children must not mind
    engine = create_engine(parsed, foreign_keys=False)
    try:
        with translated(parsed.render_as_string(hide_password=True)):
            async with engine.begin() as connection:
                reached: str | None = await connection.run_sync(action)
                return reached
    finally:
        await dispose(engine)
