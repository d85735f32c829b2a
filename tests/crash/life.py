"""One commitment's life on a devnet in this process, with watchers in processes of their own that die and come back.

A ``Life`` is a world at rest: no event loop, no thread, everything in this process's memory and one folder. So it can be
copied by ``fork`` and a copy of the folder, and each copy lives on by itself: that is how a thousand deaths share their
beginnings.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from aiohttp import web

from challenger.chain.devnet import served
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.methods import Methods
from challenger.chain.follower import Follower, Options
from challenger.domain import Address, State
from challenger.protocols.reference_logs import MarketLogs
from challenger.settings import Settings
from challenger.sim import files
from challenger.sim.history import whole
from challenger.sim.scenario import DIGITS, Kind, Knobs, Scenario, plan
from challenger.sim.toy import ToyBench, kits
from challenger.sim.world import WATCHER, World
from challenger.store import migrate
from challenger.store.engine import open_store
from challenger.store.heads import FilePublisher, verify
from tests.crash.watcher import Crossed, Driven, fork
from tests.store.chains import dump

T = TypeVar("T")
#: Turns without a move after which nothing more will come.
_QUIET = 3
_MOST = 120


class InlineDevnet(EmbeddedDevnet):
    """Without a thread, so that the process can be forked."""

    async def __aenter__(self) -> Self:
        self._methods = self._build()
        return self

    async def run(self, task: Callable[[Methods], T]) -> T:
        assert self._methods is not None
        return task(self._methods)


@dataclass
class Life:
    """``kind``: what the provider does. ``in_turn``: as in ``watcher.fork``. ``crossed``: every crossing of every watcher
    so far."""

    kind: Kind
    folder: Path
    devnet: InlineDevnet
    world: World
    settings: Settings
    in_turn: bool = False
    crossed: list[list[Crossed]] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.folder / "watcher.sqlite"

    @property
    def job(self) -> bytes:
        return self.world.labels[0].job

    @property
    def account(self) -> Address:
        return self.devnet.accounts[WATCHER].address

    def moved_to(self, folder: Path) -> None:
        """The same life with a copy of its record."""
        shutil.copytree(self.folder, folder)
        self.folder = folder

    def watchers(self, count: int) -> list[Driven]:
        return [fork(self.settings, in_turn=self.in_turn) for _ in range(count)]


async def begin(folder: Path, kind: Kind) -> Life:
    """One false or withheld answer is committed on chain; nobody has looked yet."""
    devnet = await InlineDevnet(count=20).__aenter__()
    made = files.make(folder / "world")
    world = await World.open(devnet, made.path, _one_answer(kind), kits(), ToyBench())
    settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
    settings = replace(
        settings,
        replay=replace(settings.replay, retry_seconds=12),
        store=replace(settings.store, heads_every=10),
    )
    record = folder / "record"
    record.mkdir()
    await world.play()
    life = Life(kind, record, devnet, world, settings)
    await migrate.upgrade(f"sqlite:///{life.database}")
    await world.close()
    return life


def _one_answer(kind: Kind) -> Scenario:
    knobs = Knobs(tasks=5, round_size=5, cheating=100, cheats=(kind,), models=(DIGITS,), by_uri=0)
    made = plan(knobs)
    (task,) = (task for task in made.tasks if task.cheats)
    return Scenario(knobs, made.providers, (replace(task, index=0, round=0),))


def live(
    life: Life, watchers: Sequence[Driven], deaths: Sequence[int], *, to_the_end: bool = True, absent: int = 0
) -> int:
    """Plays on until all is over, with a death at each of these crossings, one watcher after the other; how many came.
    ``to_the_end`` False: stops at the last death. ``absent``: blocks that pass before the first watcher starts."""
    return asyncio.run(_live(life, watchers, deaths, to_the_end=to_the_end, absent=absent))


async def _live(life: Life, watchers: Sequence[Driven], deaths: Sequence[int], *, to_the_end: bool, absent: int) -> int:
    for _ in range(absent):
        await life.world.step()
        await life.world.blocks.tick()
    runner, url = await _served(life.devnet)
    died, idle = 0, 0
    waiting = list(watchers)
    try:
        while True:
            watcher = waiting.pop(0)
            moved = await watcher.start(
                url,
                f"sqlite+aiosqlite:///{life.database}",
                str(life.folder / "heads.jsonl"),
                deaths[died] if died < len(deaths) else None,
            )
            life.crossed.append(watcher.crossed)
            for _ in range(_MOST):
                moved = None if moved is None else await watcher.turn()
                if moved is None:
                    break
                moved |= await life.world.step()
                await life.world.blocks.tick()
                idle = 0 if moved else idle + 1
                if idle == _QUIET and (due := life.world.last_demand()) is not None:
                    await life.world.blocks.travel(due)
                    idle = 0
                if idle == _QUIET:
                    moved = await watcher.publish()
                    break
            else:
                raise AssertionError("the watcher never comes to rest")
            if moved is not None:
                await watcher.stop()
                return died
            watcher.buried()
            died, idle = died + 1, 0
            if died == len(deaths) and not to_the_end:
                return died
    finally:
        for one in waiting:
            one.unused()
        await runner.cleanup()


async def _served(devnet: InlineDevnet) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        said = await devnet.run(lambda methods: served._answered(methods, body))
        return web.Response(body=said, content_type="application/json")

    app = web.Application(client_max_size=1 << 23)
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    return runner, f"http://{host}:{port}"


def check(life: Life) -> None:
    """Exactly one challenge (or demand), none missed, and a record that holds."""
    asyncio.run(_check(life))


async def _check(life: Life) -> None:
    where, rpc = life.world.deployment, life.devnet.rpc
    story = (await whole(rpc, (where.market, where.adjudicator), where.start_block)).events
    opening = "Demanded" if life.kind is Kind.WITHHOLD else "Challenged"
    opened = Counter(event.args["job"] for event in story if event.name in ("Demanded", "Challenged"))
    assert opened == {life.job: 1}, f"{opening}: {opened}"
    assert Counter(event.name for event in story)[opening] == 1
    async with open_store(f"sqlite:///{life.database}") as store:
        async with store.read() as view:
            item = await view.work.item(life.job)
            assert item is not None
            assert item.work.state == State.WITHDRAWN, item.work
            rows = [
                row for state in await view.transactions.counts() for row in await view.transactions.in_states([state])
            ]
        published = await FilePublisher(life.folder / "heads.jsonl").published()
        report = await verify(store, published)
        assert report.broken is None, report
        assert report.bound == report.entries
        nonces: dict[int, set[int]] = {}
        for row in rows:
            for attempt in row.attempts:
                nonces.setdefault(attempt.nonce, set()).add(row.id)
        assert all(len(owners) == 1 for owners in nonces.values()), f"two payloads for one nonce: {nonces}"
        assert sorted(nonces) == list(range(await rpc.nonce(life.account))), "a gap in the nonces"
        assert await rpc.nonce(life.account) == await rpc.nonce(life.account, "pending")
        assert life.world.market.balances.get(life.account, 0) == 0, "money left in the contract"
        await _equals_a_clean_index(life, store)


async def _equals_a_clean_index(life: Life, store: Any) -> None:
    url = f"sqlite:///{life.folder / 'clean.sqlite'}"
    await migrate.upgrade(url)
    where = life.world.deployment
    async with open_store(url) as clean:
        options = Options(start=where.start_block, depth=life.settings.chain.ledger_depth)
        follower = Follower(life.devnet.rpc, clean.index(), MarketLogs(where.market), options)
        while await follower.step():
            pass
        expected, found = await dump(clean), await dump(store)
    # what we decided is not the chain's, and which empty blocks are kept is a matter of the ranges read
    for name in ("events", "models", "tasks", "commitments", "disputes", "demands"):
        assert found[name] == expected[name], name
