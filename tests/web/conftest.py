"""A served application over a database with content, on SQLite and on PostgreSQL, and a client for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from challenger.settings import Settings, build
from challenger.store import Store, open_store
from challenger.web.app import make_app
from challenger.web.events import Pace
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.store.conftest import (  # noqa: F401
    fresh,
    fresh_postgres,
    fresh_sqlite,
    postgres,
    sqlite_template,
    store,
    url,
)
from tests.store.test_store_listing import fill
from tests.web.browsing import axe, chromium  # noqa: F401

#: No test waits for these.
QUICK = Pace(look=0.01, beat=0.05, slow=2.0)
Open = Callable[..., Awaitable[TestClient]]


def settings_of(tmp_path: Path, **web: Any) -> Settings:
    made = build({}, {}, "-")
    return replace(
        made,
        store=replace(made.store, heads=tmp_path / "heads.jsonl"),
        web=replace(made.web, tokens=tmp_path / "tokens.json", rate=1_000_000, **web),
    )


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


@pytest.fixture
async def full(store: Store) -> Store:  # noqa: F811
    await fill(store)
    return store


@pytest.fixture
async def served(full: Store, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a client; its arguments are those of ``[web]``."""
    clients = []

    async def start(settings: Settings | None = None, **web: Any) -> TestClient:
        app = make_app(full, settings or settings_of(tmp_path, **web), pace=QUICK)
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(served: Open) -> TestClient:
    """Nobody has a token: reading is open."""
    return await served()


@pytest.fixture
async def small(fresh_sqlite: Callable[[], str]) -> AsyncIterator[Store]:  # noqa: F811
    async with open_store(fresh_sqlite()) as opened:
        await fill(opened)
        yield opened


def bearer(tokens: Tokens, name: str = "one", scope: Scope = Scope.READ) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.add(name, scope)}"}
