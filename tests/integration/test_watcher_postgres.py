"""The same watcher with its record in a real PostgreSQL server."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from challenger.domain import State
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.heads import verify
from tests.integration.test_watcher import scene
from tests.store.conftest import fresh_postgres, postgres

__all__ = ["fresh_postgres", "postgres"]  # fixtures of the store's tests, used here too


async def test_from_observation_to_withdrawal_on_postgresql(tmp_path, fresh_postgres):
    async with scene(tmp_path, cheats=(Kind.NUDGE, Kind.COPY)) as s:
        s.settings = replace(s.settings, store=replace(s.settings.store, url=fresh_postgres()))
        for _ in range(2):  # stopped and started again half way
            async with s.watcher(correlated_providers=100) as app:
                if not s.world.labels:
                    await s.world.play()
                for _ in range(6):
                    await s.turn(app)
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
            assert (await s.states(app))[State.WITHDRAWN] == len(s.jobs(Truth.WRONG))
            assert (await verify(app.store)).broken is None
