"""Two `challenger run` with one key on one PostgreSQL: one is killed, or stopped and woken up late; the other takes over
within a lease, and every fraud is challenged once."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import psycopg
import pytest

from challenger.chain.devnet.served import RemoteDevnet
from challenger.sim import scenario, stage
from challenger.sim.scoreboard import Truth
from challenger.sim.world import WATCHER, World
from tests.acceptance.test_killed import challenged, served, start, write_config
from tests.store.conftest import fresh_postgres, postgres

__all__ = ["fresh_postgres", "postgres"]

LEASE = 4.0
#: The trial is given up after this many seconds: a bound, not a measure.
PATIENCE = 240


class Watcher:
    """A process, and what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self._news = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            async with self._news:
                self.said.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def says(self, word: str, *, after: int = 0) -> None:
        """In any line but the first ``after``."""

        def heard() -> bool:
            return any(word in line for line in self.said[after:])

        async with self._news:
            await self._news.wait_for(lambda: self._reading.done() or heard())
        assert heard(), "".join(self.said)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


class Record:
    """The shared database, read from outside."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, query: str) -> list[tuple]:
        async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
            return await (await connection.execute(query)).fetchall()

    async def holder(self) -> tuple[int, int]:
        """The token, and the process that has it."""
        ((token, name),) = await self.ask("SELECT token, holder FROM fences")
        return token, int(name.rpartition("/")[2])


@asynccontextmanager
async def place(folder, url):
    """A served chain on which two providers in three cheat, and the settings of both watchers."""
    knobs = scenario.Knobs(
        tasks=18,
        models=(scenario.DIGITS,),
        cheats=(scenario.Kind.NUDGE, scenario.Kind.TRUNCATE, scenario.Kind.COPY),
        cheating=100,
        round_size=3,
    )
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(served())
        devnet = await stack.enter_async_context(RemoteDevnet(rpc))
        kits, workshop = await stack.enter_async_context(stage.workshop(folder / "models", (scenario.DIGITS,)))
        world = await World.open(devnet, folder, scenario.plan(knobs), kits, workshop, seconds=None)
        stack.push_async_callback(world.close)
        config = write_config(folder, rpc, world, devnet.accounts[WATCHER].key)
        text = config.read_text().replace(f"sqlite:///{folder}/watcher.sqlite", url)
        config.write_text(f"{text}lease_seconds = {LEASE}\n")
        stop = asyncio.Event()

        async def play() -> None:
            await world.play()
            await world.attend(stop)

        async with asyncio.TaskGroup() as group:
            group.create_task(play())
            watchers: list[Watcher] = []

            async def watcher() -> Watcher:
                watchers.append(Watcher(await start(config)))
                return watchers[-1]

            try:
                yield world, knobs.tasks, watcher
            finally:
                for each in watchers:
                    await each.end()
                stop.set()


async def until(condition) -> None:
    while not await condition():
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.Event().wait()


async def finished(world, tasks) -> Counter:
    """What was challenged, once every fraud is."""
    seen: Counter = Counter()

    async def all_challenged() -> bool:
        nonlocal seen
        seen = await challenged(world)
        return len(world.labels) == tasks and set(seen) >= {x.job for x in world.labels if x.truth is Truth.WRONG}

    await until(all_challenged)
    return seen


async def one_payload_a_nonce(record: Record, world, seen: Counter) -> None:
    frauds = {label.job for label in world.labels if label.truth is Truth.WRONG}
    assert frauds
    assert seen == Counter(dict.fromkeys(frauds, 1)), "a fraud challenged twice, or an honest provider accused"
    shared = await record.ask(
        "SELECT a.nonce FROM attempts a JOIN transactions t ON t.id = a.transaction "
        "GROUP BY a.nonce HAVING count(DISTINCT t.id) FILTER (WHERE t.protocol <> 'sender') > 1"
    )
    assert shared == [], "two payloads for one nonce"
    mined = await record.ask("SELECT nonce FROM transactions WHERE state IN ('mined', 'final') ORDER BY nonce")
    assert len({nonce for (nonce,) in mined}) == len(mined)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "paused"])
async def test_the_other_takes_over_within_a_lease_and_nothing_is_filed_twice(tmp_path, fresh_postgres, how):
    url = fresh_postgres()
    record = Record(url)
    async with place(tmp_path, url) as (world, tasks, watcher):
        first = await watcher()
        await first.says("action=started")
        second = await watcher()
        await second.says("action=standby")
        await first.says("action=transaction")  # it signs by now
        token, owner = await record.holder()
        assert owner == first.process.pid
        first.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        began = time.monotonic()

        async def taken() -> bool:
            return await record.holder() == (token + 1, second.process.pid)

        await until(taken)
        took = time.monotonic() - began
        print(f"{how}: taken over after {took:.2f} s of a lease of {LEASE} s")
        if how == "paused":
            first.process.send_signal(signal.SIGCONT)
            await first.says("action=lease-lost")
            await first.says("action=standby")
            lost = next(number for number, line in enumerate(first.said) if "lease-lost" in line)
        seen = await finished(world, tasks)
        await one_payload_a_nonce(record, world, seen)
        assert await record.holder() == (token + 1, second.process.pid)
        if how == "paused":  # and now the other way round, by an orderly end
            assert not any("action=transaction" in line for line in first.said[lost:])
            second.process.terminate()
            assert await second.process.wait() == 0

            async def back() -> bool:
                return await record.holder() == (token + 2, first.process.pid)

            await until(back)
            first.process.terminate()
            assert await first.process.wait() == 0
            assert await challenged(world) == seen
