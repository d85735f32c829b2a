"""`kill -9` of `challenger run` against a served chain, again and again: every fraud is challenged exactly once, in time.

The kills are counted in what the watcher has said, not in seconds: after a random number of log lines of a run it dies.
``CHALLENGER_TEST_KILLS`` sets how often (.ci/full: 50).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from challenger.chain.devnet.served import RemoteDevnet
from challenger.sim import scenario, stage
from challenger.sim.history import whole
from challenger.sim.scoreboard import Truth
from challenger.sim.world import WATCHER, World
from challenger.store import migrate

KILLS = int(os.environ.get("CHALLENGER_TEST_KILLS", "8"))
#: The whole trial is given up after this many seconds: a bound, not a measure.
PATIENCE = 240 + 30 * KILLS


async def lines(process: asyncio.subprocess.Process):
    assert process.stderr is not None
    while line := await process.stderr.readline():
        yield line.decode()


async def said(process: asyncio.subprocess.Process, count: int) -> None:
    """Returns once ``count`` lines were said, or when there is nothing more to say for now."""
    assert process.stderr is not None
    for _ in range(count):
        try:
            async with asyncio.timeout(15):
                if not await process.stderr.readline():
                    return
        except TimeoutError:
            return


@contextlib.asynccontextmanager
async def served():
    """`challenger devnet` in a process of its own: it outlives every watcher."""
    command = (
        sys.executable,
        "-m",
        "challenger",
        "devnet",
        "--port",
        "0",
        "--json",
        "--accounts",
        "20",
        "--interval",
        "0.5",
    )
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        text = b""
        while True:
            text += await process.stdout.readline()
            with contextlib.suppress(ValueError):
                said = json.loads(text)
                break
        yield said["url"]
    finally:
        process.terminate()
        await process.wait()


def write_config(folder: Path, url: str, world: World, key: bytes) -> Path:
    where = world.deployment
    key_file = folder / "watcher.key"
    key_file.touch(mode=0o600)
    key_file.write_text(key.hex())
    config = folder / "challenger.toml"
    config.write_text(
        f"""
[chain]
rpc = ["{url}"]
embedded = true
chain_id = {where.chain}
market = "{where.market}"
anchor = "{where.anchor}"
start_block = {where.start_block}
confirmations = 2
poll = 0.1
[store]
url = "sqlite:///{folder}/watcher.sqlite"
heads = "{folder}/heads.jsonl"
heads_every = 20
[signer]
key_file = "{key_file}"
[sampling]
base = 1000000
newcomer = 1000000
[replay]
cache = "{folder}/cache"
roots = ["{folder}"]
retry_seconds = 1
[filing]
mode = "live"
exposure = {10**19}
correlated_providers = 10
"""
    )
    return config


async def start(config: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "challenger", "run", "-c", str(config)),
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


async def challenged(world: World) -> Counter[bytes]:
    where = world.deployment
    history = await whole(world.blocks._devnet.rpc, (where.market, where.adjudicator), where.start_block)
    return Counter(event.args["job"] for event in history.events if event.name == "Challenged")


@pytest.mark.slow
async def test_killed_anywhere_it_challenges_every_fraud_once_and_in_time(tmp_path):
    dice = random.Random(20261120)
    knobs = scenario.Knobs(
        tasks=24 + 2 * KILLS,  # so that there is work left to be killed in
        models=(scenario.DIGITS,),
        cheats=(scenario.Kind.NUDGE, scenario.Kind.TRUNCATE, scenario.Kind.COPY),
        cheating=100,
        round_size=4,
    )
    plan = scenario.plan(knobs)
    async with asyncio.timeout(PATIENCE), contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(served())
        devnet = await stack.enter_async_context(RemoteDevnet(url))
        kits, workshop = await stack.enter_async_context(stage.workshop(tmp_path / "models", (scenario.DIGITS,)))
        world = await World.open(devnet, tmp_path, plan, kits, workshop, seconds=None)
        stack.push_async_callback(world.close)
        config = write_config(tmp_path, url, world, devnet.accounts[WATCHER].key)
        await migrate.upgrade(f"sqlite:///{tmp_path}/watcher.sqlite")
        stop = asyncio.Event()

        async def play() -> None:
            await world.play()
            await world.attend(stop)

        async with asyncio.TaskGroup() as group:
            group.create_task(play())
            for _ in range(KILLS):
                process = await start(config)
                await said(process, dice.randrange(1, 14))
                if process.returncode is None:
                    process.kill()
                await process.wait()
            process = await start(config)
            drain = group.create_task(_drain(process))
            frauds: set[bytes] = set()
            while True:
                frauds = {label.job for label in world.labels if label.truth is Truth.WRONG}
                seen = await challenged(world)
                if len(world.labels) == knobs.tasks and set(seen) >= frauds:
                    break
                assert process.returncode is None, "the last watcher died by itself"
                await asyncio.wait([drain], timeout=0.5)
            process.terminate()
            assert await process.wait() == 0
            stop.set()
        seen = await challenged(world)
        assert frauds
        assert seen == Counter(dict.fromkeys(frauds, 1)), "a fraud challenged twice, or an honest provider accused"
        for job in frauds:
            assert world.market.jobs[job].status in (0, 2)


async def _drain(process: asyncio.subprocess.Process) -> None:
    async for line in lines(process):
        print(line, end="")
