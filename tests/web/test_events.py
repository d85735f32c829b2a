"""Live events: what is journalled arrives, in order and once, also after an interruption; nobody holds the service up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp.test_utils import TestClient

from challenger.store import Store
from challenger.web.keys import FEED
from tests.store.chains import T0
from tests.web.conftest import Open

ROOT = "/api/v1"


async def note(store: Store, *names: str, kind: str = "setting") -> None:
    async with store.begin(T0) as unit:
        for name in names:
            await unit.journal.write(T0, kind, name, {"value": 1})


async def block(answer: Any) -> list[str]:
    """The lines up to the next empty one."""
    found = []
    async with asyncio.timeout(20):
        while line := (await answer.content.readline()).decode().rstrip("\n"):
            found.append(line)
    return found


async def events(answer: Any, count: int) -> list[tuple[int, dict[str, Any]]]:
    found = []
    while len(found) < count:
        lines = await block(answer)
        if lines and lines[0].startswith("id: "):
            found.append((int(lines[0][4:]), json.loads(lines[1].removeprefix("data: "))))
    return found


async def test_what_is_journalled_arrives_and_resumes(client: TestClient, full: Store) -> None:
    tip = await client.app[FEED].tip()
    async with client.get(f"{ROOT}/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        assert await block(answer) == ["retry: 3000", f": entries after {tip}"]
        await note(full, "a", "b")
        found = await events(answer, 2)
    assert [seq for seq, _ in found] == [tip + 1, tip + 2]
    assert [entry["subject"] for _, entry in found] == ["a", "b"]
    assert found[0][1]["payload"] == {"value": 1}
    await note(full, "c")
    async with client.get(f"{ROOT}/events", headers={"Last-Event-ID": str(tip + 1)}) as answer:
        assert [entry["subject"] for _, entry in await events(answer, 2)] == ["b", "c"]
    async with client.get(f"{ROOT}/events?after=0") as answer:
        assert [seq for seq, _ in await events(answer, tip + 3)] == list(range(1, tip + 4))


async def test_one_kind_and_a_heartbeat(client: TestClient, full: Store) -> None:
    async with client.get(f"{ROOT}/events?kind=alert") as answer:
        await block(answer)
        while not (await block(answer))[0].startswith(": "):
            pass
        await note(full, "x")
        await note(full, "y", kind="alert")
        ((seq, entry),) = await events(answer, 1)
    assert (entry["subject"], entry["seq"]) == ("y", seq)


async def test_listeners_are_bounded_and_their_places_free_again(served: Open) -> None:
    client = await served(listeners=1)
    async with client.get(f"{ROOT}/events") as answer:
        await block(answer)
        refused = await client.get(f"{ROOT}/events")
        assert refused.status == 429
        assert refused.headers["Retry-After"] == "30"
    feed = client.app[FEED]
    async with asyncio.timeout(20):
        while feed.listeners:  # until the server has seen the client go
            await client.get(f"{ROOT}/openapi.json")
    async with client.get(f"{ROOT}/events") as answer:
        assert (await block(answer))[0].startswith("retry")


async def test_a_number_that_is_none_is_refused(client: TestClient) -> None:
    for wrong in ("x", "-1", "9" * 30):
        answer = await client.get(f"{ROOT}/events", headers={"Last-Event-ID": wrong})
        told = await answer.json(content_type="application/problem+json")
        assert (answer.status, told["parameter"]) == (400, "Last-Event-ID")
    answer = await client.get(f"{ROOT}/events", headers={"Accept": "application/json"})
    assert answer.status == 406


async def test_who_takes_nothing_is_dropped(served: Open, full: Store) -> None:
    client = await served()
    feed = client.app[FEED]
    host, port = client.server.host, client.server.port
    # beyond 1 KiB nobody reads from this end
    _, writer = await asyncio.open_connection(host, port, limit=1 << 10)
    writer.write(f"GET {ROOT}/events?after=0 HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    await writer.drain()
    async with asyncio.timeout(60):
        while not feed.listeners:
            await client.get(f"{ROOT}/openapi.json")
        # more than any buffer between the two holds
        payload = {"value": "x" * 60_000}
        while feed.listeners:
            async with full.begin(T0) as unit:
                for _ in range(20):
                    await unit.journal.write(T0, "setting", "big", payload)
    assert feed.listeners == 0
    writer.close()
