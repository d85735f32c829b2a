"""A watcher whose settings name a WebSocket looks at the chain when a head is told, however seldom it polls."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from challenger.app import opened
from challenger.sim.small import small_world
from challenger.sim.toy import ToyFiles
from challenger.store import migrate
from challenger.store.crossing import Moment
from challenger.store.inline import passing
from tests.chain.test_wakeup import served


async def test_a_head_that_is_told_is_indexed_without_waiting_for_the_poll(tmp_path):
    async with small_world(tmp_path / "world", cheats=()) as world, served() as server:
        settings = replace(world.settings, chain=replace(world.settings.chain, websocket=server.url, poll=3_600.0))
        await migrate.upgrade(settings.store.url)
        moved, stop = asyncio.Event(), asyncio.Event()

        def crossing(names, moment) -> None:
            if moment is Moment.AFTER and "index:apply" in names:
                moved.set()

        given = {"rpc": world.rpc, "files": ToyFiles(), "workers": world.workers}
        async with opened(settings, **given, crossing=crossing, engine=passing) as app:
            while await app.step():
                pass
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                group.create_task(app.run(stop))
                await server.connected.wait()
                assert "newHeads" in server.asked[0]
                for _ in range(3):
                    moved.clear()
                    await world.advance()
                    await server.head()
                    await moved.wait()
                    cursor = await app.store.index().cursor()
                    assert cursor.block == (await world.rpc.block("latest")).number
                stop.set()
