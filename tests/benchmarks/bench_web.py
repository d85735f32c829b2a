"""`python -m tests.benchmarks.bench_web [--quick | --full]`: what a page of 50 and the overview take on PostgreSQL.

The record is made by the server (`web_fill.py`): 100,000 commitments, with ``--full`` 1,000,000, with ``--quick`` 20,000.
Each kind of page is asked for in a snapshot of its own, as a request does; the page of the middle is found by its cursor.
``served`` is the same over HTTP on loopback, JSON and all; ``shown`` are the dashboard's pages. ``exports`` are whole ones of all
commitments by the command in a process of its own: rows a second, and the most memory that it ever had.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from challenger.domain import State, VerdictKind
from challenger.settings import Settings
from challenger.store import Store, open_store
from challenger.store.listed import COMMITMENTS, PROVIDERS, TASKS, CommitmentFilter, TaskFilter
from challenger.store.listing import PageCursor
from challenger.web import pages
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
            "tasks of a small provider": lambda view: view.listing.page(
                TASKS, TaskFilter(provider=providers[0].provider), limit=50
            ),
            "finalised": page(state=State.FINALISED),
            "won": page(state=State.WON),
            "fraud": page(verdict=VerdictKind.FRAUD),
            "a day long ago": page(since=T0 + 12 * middle - 86_400, until=T0 + 12 * middle),
            "overview": lambda view: view.overview.now(),
        }
        took = {name: await _took(store, ask, rounds) for name, ask in asked.items()}
        return took | {name: await _served(store, path, rounds) for name, path in _PATHS.items()}


_PATHS = {
    "served newest": "/api/v1/commitments?limit=50",
    "served won": "/api/v1/commitments?state=won&limit=50",
    "served overview": "/api/v1/overview",
    "shown newest": "/commitments",
    "shown won": "/commitments?state=won",
    "shown overview": "/",
}
_EXPORT = """
import resource, sys, time
from challenger.cli import main
began = time.perf_counter()
code = main(["export", "commitments", *sys.argv[1:]])
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def _exports(url: str, size: int) -> dict[str, dict[str, float]]:
    found = {}
    for form in ("csv", "jsonl", "parquet"):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", _EXPORT, "--format", form, "-o", f"{folder}/all.{form}"],
                env={**os.environ, "CHALLENGER_STORE_URL": url},
                capture_output=True,
                text=True,
                check=True,
            )
            large = Path(folder, f"all.{form}").stat().st_size
        seconds, kibibytes = map(float, done.stderr.split()[-2:])
        found[form] = {
            "rows_per_second": round(size / seconds),
            "most_memory_mb": round(kibibytes / 1024),
            "file_mb": round(large / 1e6),
        }
    return found


async def _served(store: Store, path: str, rounds: int) -> list[float]:
    settings = Settings()
    open_to_all = replace(settings, web=replace(settings.web, rate=1_000_000, tokens=Path("/nonexistent")))
    app = make_app(store, open_to_all, [pages.add])
    async with TestServer(app) as server, TestClient(server) as client:
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            answer = await client.get(path)
            body = await answer.read()
            took.append((time.perf_counter() - began) * 1e3)
            assert answer.status == 200, body
    return sorted(took)


def main() -> None:
    size = 20_000 if "--quick" in sys.argv else 1_000_000 if "--full" in sys.argv else 100_000
    with filled(size) as url:
        found = asyncio.run(_measure(url, size, 30))
        exports = _exports(url, size)
    told = {
        name: {
            "median_ms": round(statistics.median(took), 1),
            "p99_ms": round(took[-(-99 * len(took) // 100) - 1], 1),
            "target_ms": OVERVIEW_TARGET if "overview" in name else PAGE_TARGET,
        }
        for name, took in found.items()
    }
    print(json.dumps({"benchmark": "web", "commitments": size, "page": 50, **told, "exports": exports}))


if __name__ == "__main__":
    main()
