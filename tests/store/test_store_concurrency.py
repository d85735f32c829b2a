"""Several processes on one database lose nothing: each has a store, and so connections and locks, of its own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from challenger.domain import Action, Call, Cursor, Intent, State
from challenger.store import Store, heads, open_store
from challenger.store.migrate import current
from challenger.store.schema import HEAD

from .chains import ME, T0, chain, committed, h


async def opened(stack: AsyncExitStack, url: str, count: int) -> list[Store]:
    return [await stack.enter_async_context(open_store(url)) for _ in range(count)]


async def test_what_is_committed_outlives_a_power_cut_whatever_the_server_has_set(url: str) -> None:
    async with open_store(url) as store, store.read() as view:
        if url.startswith("sqlite"):
            assert (await view.connection.execute(text("PRAGMA synchronous"))).scalar_one() == 2
        else:
            shown = "SELECT setting, reset_val, source FROM pg_settings WHERE name = 'synchronous_commit'"
            assert tuple((await view.connection.execute(text(shown))).one()) == ("on", "on", "client")


async def test_sixteen_writers_lose_nothing(url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = await opened(stack, url, 16)
        (block,) = chain(1, 1)
        event = committed(block)
        await stores[0].index().apply([block], [event], None)

        async def bump(store: Store) -> None:
            for _ in range(5):
                async with store.begin(T0) as unit:
                    row = await unit.work.get(event.commitment)
                    assert row is not None
                    await unit.work.note(event.commitment, State.OBSERVED, attempts=row.attempts + 1)

        await asyncio.gather(*map(bump, stores))
        async with stores[0].read() as view:
            row = await view.work.get(event.commitment)
            assert row is not None
            assert (row.attempts, row.version) == (80, 81)
        report = await heads.verify(stores[0])
        assert (report.entries, report.broken) == (81, None)


async def test_tasks_of_one_process_queue_up(url: str) -> None:
    async with open_store(url) as store:

        async def write(number: int) -> None:
            async with store.begin(T0) as unit:
                await unit.settings.put(f"key {number}", "x")

        await asyncio.gather(*map(write, range(20)))
        assert (await heads.verify(store)).entries == 20


async def test_one_of_many_wins_a_move_and_all_find_one_wish(url: str) -> None:
    async with AsyncExitStack() as stack:
        stores = await opened(stack, url, 6)
        (block,) = chain(1, 1)
        event = committed(block)
        await stores[0].index().apply([block], [event], None)

        async def sample(store: Store) -> None:
            async with store.begin(T0) as unit:
                await unit.work.move(event.commitment, State.OBSERVED, State.SAMPLED)

        results = await asyncio.gather(*map(sample, stores), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["NoneType"] + ["StaleRow"] * 5

        async def propose(store: Store) -> int:
            async with store.begin(T0) as unit:
                wish = Intent("reference", "job", Action.CHALLENGE, Call(ME, h("data"), 1), T0)
                return (await unit.transactions.propose(wish, ME)).id

        assert set(await asyncio.gather(*map(propose, stores))) == {1}


async def test_readers_see_a_snapshot_while_a_writer_writes(url: str) -> None:
    async with open_store(url) as store:
        async with store.begin(T0) as unit:
            await unit.settings.put("key", "old")
        async with store.read() as view:
            assert await view.settings.get("key") == "old"
            async with store.begin(T0) as unit:
                await unit.settings.put("key", "new")
            assert await view.settings.get("key") == "old"
        async with store.read() as view:
            assert await view.settings.get("key") == "new"


@pytest.mark.parametrize("turns", range(0, 12, 2))
async def test_a_cancelled_closing_closes_and_tells_no_error(url: str, caplog, turns: int) -> None:
    async with open_store(url) as store:
        closing = asyncio.ensure_future(store.close())
        for _ in range(turns):
            await asyncio.sleep(0)
        closing.cancel()
        closing.cancel()
        await asyncio.wait([closing])
        assert closing.cancelled() or closing.result() is None
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("later", range(0, 40, 5))
async def test_a_cancelled_migration_tells_no_error(url: str, caplog, later: int) -> None:
    asked = asyncio.ensure_future(current(url))
    # not a wait for anything: each is cancelled a little later in its course than the one before
    await asyncio.wait([asked], timeout=later / 1500)
    asked.cancel()
    await asyncio.wait([asked])
    assert asked.cancelled() or asked.result() == HEAD
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_cancelled_writer_leaves_nothing_and_holds_nothing(url: str) -> None:
    blocks = chain(1, 60)
    async with open_store(url) as store:
        index = store.index()
        cursor = await index.apply(blocks[:2], [], None)
        done = cancelled = 0
        for turns in range(2, 32):
            block = blocks[turns]
            apply = asyncio.ensure_future(index.apply([block], [committed(block, turns)], cursor))
            # not a wait for anything: each is cancelled a little later in its course than the one before
            await asyncio.wait([apply], timeout=turns / 1500)
            apply.cancel()
            await asyncio.wait([apply])
            now = await index.cursor()
            assert now is not None
            assert now in (cursor, Cursor(block.number, block.hash, cursor.version + 1))
            cancelled += apply.cancelled()
            if now == cursor:
                now = await index.apply([block], [committed(block, turns)], cursor)
            cursor, done = now, done + 1
        async with store.read() as view:
            assert len(await view.chain.commitments()) == done
        assert cancelled
        assert (await heads.verify(store)).broken is None
