"""One commitment's life on a devnet in this process, with watchers in processes of their own that die and come back.

A ``Life`` is a world at rest: no event loop, no thread, everything in this process's memory and one folder. So it can be
copied by ``fork`` and a copy of the folder, and each copy lives on by itself: that is how a thousand deaths share their
beginnings.

What else happens in it is its ``Story``: a reorganisation, an old copy of the database, a rival, a person.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self, TypeVar

from aiohttp import web

from challenger.chain.devnet import served
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Node
from challenger.domain import Address, State
from challenger.settings import Settings
from challenger.sim import files
from challenger.sim.scenario import DIGITS, Kind, Knobs, Scenario, plan
from challenger.sim.toy import ToyBench, kits
from challenger.sim.world import WATCHER, World
from challenger.store import migrate
from tests.crash.watcher import Crossed, Driven, fork

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

    @property
    def node(self) -> Node:
        assert self._methods is not None
        return self._methods._node


class Came(Enum):
    """What a story did after a watcher's turn. DEATH: the watcher died of what it was told; CHANGE: it was stopped, and
    another takes over. REST is the end of a life, and no story's to say."""

    NOTHING = auto()
    SOMETHING = auto()
    DEATH = auto()
    CHANGE = auto()
    REST = auto()


@dataclass
class Story:
    """Nothing but false answers. Others do more, once in a life, when the chain has come so far: all that they remember is
    in themselves, and so is copied with the life.

    ``cheats``: one answer each. ``opens``: the events of ours there must be, one of each for each answer; ``ends``: the
    state of each. ``gives_up``: whether an empty transaction of ours may take the place of another; ``fails``: whether one may
    fail on chain. ``changes``: how
    often the watcher is changed without a death. ``copied``: the crossing after which the record is copied, each time.
    """

    cheats: tuple[Kind, ...] = (Kind.NUDGE,)
    opens: tuple[str, ...] = ("Challenged",)
    ends: State = State.WITHDRAWN
    gives_up: bool = False
    fails: bool = False
    changes: int = 0
    copied: str = ""

    def tuned(self, settings: Settings) -> Settings:
        return settings

    async def happen(self, life: Life, watcher: Driven) -> Came:
        """After each turn of a watcher, before the block that follows it."""
        return Came.NOTHING


@dataclass
class Life:
    """``in_turn``: as in ``watcher.fork``. ``crossed``: the crossings from one death to the next, in order. ``lost``: heads
    that were published before an old copy of the record came back."""

    story: Story
    folder: Path
    devnet: InlineDevnet
    world: World
    settings: Settings
    in_turn: bool = False
    crossed: list[list[Crossed]] = field(default_factory=list)
    lost: int = 0

    @property
    def database(self) -> Path:
        return self.folder / "watcher.sqlite"

    @property
    def heads(self) -> Path:
        return self.folder / "heads.jsonl"

    @property
    def copy(self) -> Path:
        return self.folder / "copy.sqlite"

    @property
    def lost_record(self) -> Path:
        return self.folder / "lost.sqlite"

    @property
    def jobs(self) -> list[bytes]:
        return [label.job for label in self.world.labels]

    @property
    def account(self) -> Address:
        return self.devnet.accounts[WATCHER].address

    def asked(self, query: str) -> list[Any]:
        """The first column of what the record says, between two turns of a watcher."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return [row[0] for row in connection.execute(query)]

    def moved_to(self, folder: Path) -> None:
        """The same life with a copy of its record."""
        shutil.copytree(self.folder, folder)
        self.folder = folder

    def watchers(self, deaths: int) -> list[Driven]:
        """As many as may be needed for so many deaths, and an end."""
        count = 1 + deaths + self.story.changes
        return [fork(self.settings, in_turn=self.in_turn) for _ in range(count)]


async def begin(folder: Path, story: Story) -> Life:
    """The story's answers are committed on chain; nobody has looked yet."""
    devnet = await InlineDevnet(count=20).__aenter__()
    made = files.make(folder / "world")
    world = await World.open(devnet, made.path, _answers(story.cheats), kits(), ToyBench())
    settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
    settings = replace(
        settings,
        replay=replace(settings.replay, retry_seconds=12),
        store=replace(settings.store, heads_every=10),
        filing=replace(settings.filing, lease_seconds=3_600.0),  # one that stands still at a crossing renews none
    )
    record = folder / "record"
    record.mkdir()
    await world.play()
    life = Life(story, record, devnet, world, story.tuned(settings))
    await migrate.upgrade(f"sqlite:///{life.database}")
    await world.close()
    return life


def _answers(cheats: tuple[Kind, ...]) -> Scenario:
    tasks = 4 + len(cheats)  # the honest ones come first, and are left out
    knobs = Knobs(tasks=tasks, round_size=tasks, cheating=100, cheats=cheats, models=(DIGITS,), by_uri=0)
    made = plan(knobs)
    false = [task for task in made.tasks if task.cheats]
    return Scenario(knobs, made.providers, tuple(replace(t, index=n, round=0) for n, t in enumerate(false)))


def live(
    life: Life,
    watchers: Sequence[Driven],
    deaths: Sequence[int],
    *,
    to_the_end: bool = True,
    absent: int = 0,
    standing: Callable[[], None] | None = None,
) -> int:
    """Plays on until all is over, with a death at each of these crossings, one watcher after the other; how many came.
    ``to_the_end`` False: stops at the last death. ``absent``: blocks that pass before the first watcher starts.
    ``standing`` is called at each crossing, at which the watcher stands still until it returns."""
    for one in watchers:
        one.standing = standing
    return asyncio.run(_live(life, watchers, deaths, to_the_end=to_the_end, absent=absent))


async def _live(life: Life, watchers: Sequence[Driven], deaths: Sequence[int], *, to_the_end: bool, absent: int) -> int:
    for _ in range(absent):
        await life.world.step()
        await life.world.blocks.tick()
    runner, url = await _served(life.devnet)
    died = 0
    waiting = list(watchers)
    life.crossed.append([])
    try:
        while True:
            watcher = waiting.pop(0)
            watcher.crossed = life.crossed[-1]  # those of the one that it relieves come first
            dies_at = deaths[died] - len(watcher.crossed) if died < len(deaths) else None
            came = await _attended(life, watcher, url, dies_at)
            if came is Came.REST:
                return died
            if came is Came.CHANGE:
                continue
            watcher.buried()
            died += 1
            if died == len(deaths) and not to_the_end:
                return died
            life.crossed.append([])
    finally:
        for one in waiting:
            one.unused()
        await runner.cleanup()


async def _attended(life: Life, watcher: Driven, url: str, dies_at: int | None) -> Came:
    """One watcher's time, from its start to its death, its relief, or the end."""
    copies = (life.story.copied, str(life.copy)) if life.story.copied else None
    if await watcher.start(url, f"sqlite+aiosqlite:///{life.database}", str(life.heads), dies_at, copies) is None:
        return Came.DEATH
    idle = 0
    for _ in range(_MOST):
        moved = await watcher.turn()
        if moved is None:
            return Came.DEATH
        came = await life.story.happen(life, watcher)
        if came in (Came.DEATH, Came.CHANGE):
            return came
        moved |= came is Came.SOMETHING
        moved |= await life.world.step()
        await life.world.blocks.tick()
        idle = 0 if moved else idle + 1
        if idle == _QUIET and (due := life.world.last_demand()) is not None:
            await life.world.blocks.travel(due)
            idle = 0
        if idle == _QUIET:
            if await watcher.publish() is None:
                return Came.DEATH
            await watcher.stop()
            return Came.REST
    raise AssertionError("the watcher never comes to rest")


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
