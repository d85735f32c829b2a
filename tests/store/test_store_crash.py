"""``kill -9`` in the middle of writing: the next start finds whole transactions and goes on."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from challenger.store import heads, open_store

from .chains import Forking, dump, follow

#: Follows a chain that a seed makes, with reorgs, telling of each commit; meant to be killed.
_WRITER = """
import asyncio, random, sys
sys.path.insert(0, sys.argv[1])
from store.chains import Forking, follow
from challenger.store import open_store

async def main(url, seed, rounds):
    source = Forking(random.Random(seed))
    source.grow(4)
    async with open_store(url) as store:
        for _ in range(rounds):
            await follow(store, source, random.Random(1))
            print(len(source.blocks), flush=True)
            source.reorganise(2)
            source.grow(3)

asyncio.run(main(sys.argv[2], int(sys.argv[3]), 400))
"""


async def _killed_after(url: str, seed: int, lines: int, pause: float) -> int:
    """Starts the writer, kills it ``pause`` after its line number ``lines``; gives how many rounds it completed."""
    tests = str(Path(__file__).parent.parent)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, tests, url, str(seed), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    told = 0
    while told < lines and await process.stdout.readline():
        told += 1
    # not a wait for anything: it moves the blow to anywhere within the next transactions
    try:
        await asyncio.wait_for(process.wait(), pause)
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
    told += len((await process.stdout.read()).splitlines())
    assert await process.wait() == -signal.SIGKILL
    return told


async def _survives(url: str, seed: int, lines: int, pause: float) -> None:
    rounds = await _killed_after(url, seed, lines, pause)
    assert rounds >= lines
    source = Forking(random.Random(seed))
    source.grow(4)
    for _ in range(rounds):
        source.reorganise(2)
        source.grow(3)
    async with open_store(url) as store:
        assert (await heads.verify(store)).broken is None
        cursor = await store.index().cursor()
        assert cursor is not None
        await follow(store, source, random.Random(2))
        assert (await heads.verify(store)).broken is None
        _expect(await dump(store), source)


def _expect(found: dict[str, list[tuple[object, ...]]], source: Forking) -> None:
    assert found["blocks"] == [(b.number, b.hash, b.parent, b.time) for b in source.blocks]
    places = [(event.at.block, event.at.log_index) for story in source.events for event in story]
    assert [row[:2] for row in found["events"]] == places


@pytest.mark.parametrize("lines", [1, 3])
async def test_a_killed_writer_leaves_whole_transactions(url: str, lines: int) -> None:
    await _survives(url, seed=lines, lines=lines, pause=0.013)


@pytest.mark.slow
async def test_a_killed_writer_leaves_whole_transactions_wherever_it_dies(fresh: Callable[[], str]) -> None:
    rng = random.Random(5)
    for seed in range(25):
        await _survives(fresh(), seed, rng.randrange(1, 6), rng.random() / 20)
