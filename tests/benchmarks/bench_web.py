"""`python -m tests.benchmarks.bench_web [--quick | --full]`: what a page of 50 and the overview take on PostgreSQL.

The record is made by the server (`web_fill.py`): 100,000 commitments, with ``--full`` 1,000,000, with ``--quick`` 20,000.
Each kind of page is asked for in a snapshot of its own, as a request does; the page of the middle is found by its cursor.
``served`` is the same over HTTP on loopback, JSON and all.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from challenger.domain import State, VerdictKind
from challenger.settings import Settings
from challenger.store import Store, open_store
from challenger.store.listed import COMMITMENTS, PROVIDERS, CommitmentFilter
from challenger.store.listing import PageCursor
from challenger.web.app import make_app
from tests.benchmarks.web_fill import T0, filled

PAGE_TARGET, OVERVIEW_TARGET = 100, 300  # milliseconds, medians


async def _took(store: Store, ask: Callable[[Any], Awaitable[Any]], rounds: int) -> list[float]:
    """Milliseconds of each round, sorted."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        async with store.read() as view:
            await ask(view)
        took.append((time.perf_counter() - began) * 1e3)
    return sorted(took)


async def _measure(url: str, size: int, rounds: int) -> dict[str, list[float]]:
    async with open_store(url) as store:
        async with store.read() as view:
            providers = (await view.listing.page(PROVIDERS, limit=200)).rows
        providers.sort(key=lambda row: row.answers)
        middle = 1000 + size // 20

        def page(at: PageCursor | None = None, **asked: Any) -> Callable[[Any], Awaitable[Any]]:
            return lambda view: view.listing.page(COMMITMENTS, CommitmentFilter(**asked), at=at, limit=50)

        asked = {
            "newest": page(),
            "middle": page(PageCursor("commitments-", (middle, 3))),
            "before the middle": page(PageCursor("commitments-", (middle, 3), back=True)),
            "of a small provider": page(provider=providers[0].provider),
            "of a large provider": page(provider=providers[-1].provider),
            "finalised": page(state=State.FINALISED),
            "won": page(state=State.WON),
            "fraud": page(verdict=VerdictKind.FRAUD),
            "a day long ago": page(since=T0 + 12 * middle - 86_400, until=T0 + 12 * middle),
            "overview": lambda view: view.overview.now(),
        }
        took = {name: await _took(store, ask, rounds) for name, ask in asked.items()}
        return took | {f"served {name}": await _served(store, path, rounds) for name, path in _PATHS.items()}


_PATHS = {"newest": "commitments?limit=50", "won": "commitments?state=won&limit=50", "overview": "overview"}


async def _served(store: Store, path: str, rounds: int) -> list[float]:
    settings = Settings()
    app = make_app(store, replace(settings, web=replace(settings.web, rate=1_000_000, tokens=Path("/nonexistent"))))
    async with TestServer(app) as server, TestClient(server) as client:
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = await client.get(f"/api/v1/{path}")
            body = await answer.read()
            took.append((time.perf_counter() - began) * 1e3)
            assert answer.status == 200, body
    return sorted(took)


def main() -> None:
    size = 20_000 if "--quick" in sys.argv else 1_000_000 if "--full" in sys.argv else 100_000
    with filled(size) as url:
        found = asyncio.run(_measure(url, size, 30))
    told = {
        name: {
            "median_ms": round(statistics.median(took), 1),
            "p99_ms": round(took[-(-99 * len(took) // 100) - 1], 1),
            "target_ms": OVERVIEW_TARGET if "overview" in name else PAGE_TARGET,
        }
        for name, took in found.items()
    }
    print(json.dumps({"benchmark": "web", "commitments": size, "page": 50, **told}))


if __name__ == "__main__":
    main()
