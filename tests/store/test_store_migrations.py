"""The migrations end where the schema says, go both ways with data in place, and are asked for in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

from challenger.domain import Action, Call, Intent
from challenger.errors import ConfigError, NotMigrated
from challenger.store import Outbox, Store, open_store
from challenger.store.engine import create_engine, normalise
from challenger.store.migrate import current, downgrade, head, upgrade
from challenger.store.schema import HEAD, attempts, metadata

from .chains import ME, T0, chain, committed, dump, h


async def on(url: str, action: Callable[[Any], Any]) -> Any:
    engine = create_engine(normalise(url))
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(action)
    finally:
        await engine.dispose()


def differences(connection: Any) -> Any:
    return compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)


async def test_migrations_make_the_schema(url: str) -> None:
    assert await on(url, differences) == []
    assert await current(url) == HEAD == head()


async def test_down_to_nothing_and_up_again(url: str) -> None:
    assert await downgrade(url, "base") is None
    assert await on(url, lambda connection: inspect(connection).get_table_names()) == ["alembic_version"]
    with pytest.raises(NotMigrated, match="challenger db upgrade"):
        async with open_store(url):
            pass
    assert await upgrade(url) == HEAD
    assert await on(url, differences) == []


class Signed:
    nonce, gas, max_fee, tip, hash, raw, signed_at = 3, 21_000, 2**90, 1, h("signed"), b"raw", T0


async def fill(store: Store) -> None:
    blocks = chain(1, 3)
    await store.index().apply(blocks, [committed(b, b.number) for b in blocks], None)
    outbox = await Outbox.claim(store, ME, "test", T0)
    row = await outbox.propose(Intent("p", "s", Action.SEAL, Call(ME, b"data", 2**200), T0), ME, T0)
    await outbox.signed(row.id, Signed())
    await outbox.sent(row.id, 0, T0 + 5)


async def test_down_and_up_with_data_in_place(url: str) -> None:
    async with open_store(url) as store:
        await fill(store)
        before = await dump(store)
    assert await downgrade(url, "0001") == "0001"
    assert await on(url, differences) != []
    with pytest.raises(NotMigrated, match="found=0001"):
        async with open_store(url):
            pass
    columns = await on(url, lambda connection: [c["name"] for c in inspect(connection).get_columns("attempts")])
    assert "sent_at" not in columns
    assert await upgrade(url) == HEAD
    assert await upgrade(url) == HEAD
    assert await on(url, differences) == []
    async with open_store(url) as store:
        assert await dump(store) == before
        async with store.read() as view:
            (attempt,) = (await view.connection.execute(select(attempts))).all()
            assert (attempt.hash, attempt.max_fee, attempt.sent_at) == (h("signed"), 2**90, None)
            (row,) = await view.transactions.unfinished(ME)
            assert row.intent.call.value == 2**200
        # the keys that were rebuilt still count up and still bind
        async with store.begin(T0) as unit:
            more = await unit.transactions.propose(Intent("p", "t", Action.SEAL, Call(ME, b"", 0), T0), ME)
        assert more.id == row.id + 1


async def test_a_revision_that_does_not_exist_is_one_line(url: str) -> None:
    with pytest.raises(ConfigError, match="migration"):
        await upgrade(url, "9999")
    assert await current(url) == HEAD


async def test_a_migration_that_fails_changes_nothing(fresh: Callable[[], str]) -> None:
    url = fresh()
    await downgrade(url, "0001")

    def obstruct(connection: Any) -> None:
        connection.execute(text("CREATE TABLE approvals (x INTEGER)"))
        connection.commit()

    await on(url, obstruct)
    with pytest.raises(Exception, match="approvals"):
        await upgrade(url)
    assert await current(url) == "0001"
    columns = await on(url, lambda connection: [c["name"] for c in inspect(connection).get_columns("attempts")])
    assert "sent_at" not in columns


def names_in(path: Path) -> list[str]:
    return [found.name for found in path.iterdir()]


async def test_a_new_file_is_made_by_upgrade_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    with pytest.raises(NotMigrated, match="no such file"):
        async with open_store(url):
            pass
    assert names_in(tmp_path) == []
    assert await upgrade(url) == HEAD
    async with open_store(url) as store:
        assert await store.index().cursor() is None
