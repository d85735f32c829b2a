"""A watcher says that it is ready when it has read the chain."""

from __future__ import annotations

from challenger.sim.small import small_world


async def test_ready_once_the_chain_was_read(tmp_path) -> None:
    async with small_world(tmp_path, [], tasks=1) as world, world.challenger() as challenger:
        health = challenger.app.telemetry.health
        assert health.trouble() == "the chain was not read yet"
        await challenger.turn()
        assert health.trouble() == ""
