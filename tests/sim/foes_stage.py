"""The real watcher on an arena: the toy model at the replay seam, everything else as in production."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from challenger.app import App, opened
from challenger.domain import CommitmentId, State
from challenger.settings import Settings
from challenger.sim import files
from challenger.sim.deploy import MarketParams
from challenger.sim.foes.arena import BLOCK, WATCHER, Arena
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.store import inline, migrate
from challenger.store.journal import canonical
from challenger.store.subjects import subject_of


class Contest:
    """An arena and the watcher's settings on it. ``before``: what the adversary does before each block."""

    def __init__(self, arena: Arena, settings: Settings) -> None:
        self.arena = arena
        self.settings = settings
        self.workers = ToyWorkers()
        #: what the watcher reads the chain from
        self.rpc = arena.devnet.rpc
        self.before: Callable[[], Awaitable[None]] = _nothing

    @property
    def account(self) -> str:
        return self.arena.devnet.accounts[WATCHER].address

    @asynccontextmanager
    async def watcher(self, files: ToyFiles | None = None, **filing) -> AsyncIterator[App]:
        filing = {"correlated_providers": 100} | filing
        settings = replace(self.settings, filing=replace(self.settings.filing, **filing))
        files = files or ToyFiles(self.arena.room.read)
        rpc, engine = self.rpc, _in_our_own_turn
        async with opened(settings, rpc=rpc, files=files, workers=self.workers, engine=engine) as app:
            yield app

    async def turn(self, app: App) -> bool:
        """One look of the watcher, one of the signers, one block."""
        moved = await app.step()
        await app.gather()
        if await app.investigate():
            moved = True
            await app.step()
        moved |= await self.arena.judge()
        await self.before()
        await self.arena.blocks.tick()
        await self.arena.refresh()
        return moved

    async def turns(self, app: App, count: int) -> None:
        for _ in range(count):
            await self.turn(app)

    async def until_quiet(self, app: App) -> None:
        idle = 0
        for _ in range(120):
            idle = 0 if await self.turn(app) else idle + 1
            if idle == 4:
                return
        raise AssertionError("the watcher never comes to rest")

    def filed(self) -> list[bytes]:
        """Jobs that the watcher challenged, in chain order."""
        return [e["job"] for e in self.arena.events("Challenged") if e["challenger"] == self.account]

    def once(self, *jobs: bytes) -> bool:
        """Whether exactly these were challenged by the watcher, each once."""
        return Counter(self.filed()) == Counter(dict.fromkeys(jobs, 1))


async def state(app: App, job: bytes) -> tuple[State, str]:
    async with app.store.read() as view:
        item = await view.work.item(CommitmentId(job))
    return State(item.work.state), item.work.detail


async def history(app: App, job: bytes) -> str:
    """All that the journal says about a commitment, as text."""
    async with app.store.read() as view:
        entries = await view.journal.about(subject_of(CommitmentId(job)))
    return "\n".join(f"{e.kind} {e.payload if isinstance(e.payload, str) else canonical(e.payload)}" for e in entries)


@asynccontextmanager
async def contest(folder: Path, template: Path, **rules) -> AsyncIterator[Contest]:
    """``template``: an empty database, copied. ``rules``: of the market."""
    made = files.make(folder / "out")
    arena = await Arena.open(made.path, MarketParams(**rules))
    settings = made.write_config(arena.deployment, arena.devnet.accounts[WATCHER].key, 1.0)
    settings = replace(
        settings,
        replay=replace(settings.replay, retry_seconds=BLOCK),
        # a lease runs by the real clock: on a busy machine it must not end in the middle of a test
        filing=replace(settings.filing, lease_seconds=3_600),
    )
    shutil.copyfile(template, made.database)
    yield Contest(arena, settings)


async def make_template(path: Path) -> Path:
    await migrate.upgrade(f"sqlite+aiosqlite:///{path}")
    return path


def _in_our_own_turn(url: URL, _: float) -> AsyncEngine:
    """SQLite without a thread of its own: most of a turn would go by in waiting for it."""
    return inline.engine(url)


async def _nothing() -> None:
    return
