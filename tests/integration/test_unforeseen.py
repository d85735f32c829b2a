"""An error that nobody foresaw, in one part of the watcher: it is told as what it is, and the windows of all else are kept."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from challenger.app import opened
from challenger.chain.rpc import Rpc
from challenger.domain import TxState
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.telemetry.logs import LOGGER, Json
from tests.integration.test_told import Kept, kept_of, standing
from tests.integration.test_watcher import Scene, scene


class Faulty:
    """A door to the chain with a mistake in our own code behind it, at one method."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.fails = ""

    async def make_request(self, method: Any, params: Any) -> Any:
        if method == self.fails:
            raise KeyError(f"nobody thought of {method}")
        return await self.inner.make_request(method, params)


def watcher(s: Scene, door: Faulty, **chain: Any) -> Any:
    settings = replace(s.settings, chain=replace(s.settings.chain, **chain))
    return opened(settings, rpc=Rpc(door), files=ToyFiles(), workers=s.workers)


async def signed(s: Scene, app: Any) -> Counter[TxState]:
    async with app.store.read() as view:
        return Counter(await view.transactions.counts())


async def test_what_one_stage_cannot_do_keeps_no_other_from_its_turn(tmp_path):
    """The index stands still, and what was decided before is sent, mined and settled."""
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        door = Faulty(s.devnet.provider)
        async with watcher(s, door) as app:
            await s.world.play()
            while not (await signed(s, app))[TxState.SENT]:
                await s.turn(app)
            door.fails = "eth_getLogs"
            for _ in range(4):
                await s.world.blocks.tick()
                with pytest.raises(KeyError, match="nobody thought of eth_getLogs"):
                    await app.step()
            states = await signed(s, app)
            assert states[TxState.FINAL], "it was followed to its end"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged, one JSON object a line."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(Json())
    LOGGER.addHandler(handler)
    yield out
    LOGGER.removeHandler(handler)


async def test_a_watcher_whose_loop_fails_goes_on_and_says_so(tmp_path, lines):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        door, stop = Faulty(s.devnet.provider), asyncio.Event()
        async with watcher(s, door, poll=0.01) as app:
            kept = kept_of(app)
            running = asyncio.create_task(app.run(stop))
            door.fails = "eth_getLogs"
            await s.world.play()
            await told(kept, running)
            (notice,) = kept.named("crashed")
            assert (notice.about, notice.severity) == ("chain", "critical")
            assert "nobody thought of eth_getLogs" in notice.fields["error"]
            said = [line for line in map(json.loads, lines.getvalue().splitlines()) if line["action"] == "crashed"]
            assert (len(said), said[0]["level"], said[0]["loop"]) == (1, "error", "chain"), "once, not at every poll"
            assert "make_request" in said[0]["traceback"]
            door.fails = ""
            async with asyncio.timeout(60):
                while standing(app, "crashed"):
                    await s.devnet.rpc.block("latest")
            stop.set()
            await running
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def told(kept: Kept, running: asyncio.Task[None]) -> None:
    """An alert has come; an end of the watcher comes first where it does not survive."""
    coming = asyncio.create_task(kept.came.wait())
    await asyncio.wait([coming, running], return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        coming.cancel()
        await running
