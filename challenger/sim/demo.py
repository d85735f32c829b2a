"""`challenger demo`: a chain, two models, ten providers of whom six cheat, and a watcher that is told none of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from challenger.chain.devnet.base import Devnet
from challenger.chain.rpc import Rpc
from challenger.domain import VerdictKind
from challenger.settings import Settings
from challenger.sim import files, report
from challenger.sim.history import whole
from challenger.sim.kits import Kit
from challenger.sim.report import Audit, Report, Sight
from challenger.sim.scenario import Kind, Knobs, plan
from challenger.sim.scoreboard import read_labels, score
from challenger.sim.screen import Frame, Row, Screen
from challenger.sim.workshop import Workbench
from challenger.sim.world import LABELS, WATCHER, World

#: Blocks without anything happening after which nothing more will: deeper than the watcher's confirmations and draws.
QUIET = 8
_REFRESH = 0.5
_MOST_STEPS = 200


class Watcher(Protocol):
    """The watcher as the demonstration drives it: in step with the blocks, so that a slow machine misses nothing."""

    async def step(self) -> bool:
        """All that can be done at this block: index, draw, replay, confirm, file, follow. Whether anything was."""
        ...

    async def sights(self) -> Sequence[Sight]:
        """Every commitment it knows. May be asked while a step is under way."""
        ...

    async def audited(self) -> Audit:
        """Its sampling, re-checked against the chain."""
        ...

    async def paused(self) -> Sequence[bytes]:
        """Models on which filing waits for a person, because several of their providers were accused at once."""
        ...

    async def keep_evidence(self) -> int:
        """Writes a bundle on each fraud, for others to check; how many."""
        ...

    async def approve(self, model: bytes, note: str) -> None:
        """A person has looked: filing on ``model`` goes on."""
        ...


WatcherFactory = Callable[[Settings, Rpc], AbstractAsyncContextManager[Watcher]]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demonstration plays on; all of it open."""

    devnet: Devnet
    kits: Sequence[Kit]
    workbench: Workbench


@dataclass(frozen=True, slots=True)
class Options:
    """``rate``: the share of commitments that is drawn, 0 to 1. ``afterwards`` is called when all is over, while the
    chain is still there."""

    rate: float = 1.0
    knobs: Knobs = Knobs()
    afterwards: Callable[[Settings], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    report: Report
    window: int
    labels: Path


async def play(
    stage: Stage, folder: files.Folder, options: Options, watching: WatcherFactory, screen: Screen
) -> Outcome:
    """The whole story on an open ``stage``."""
    scenario = plan(options.knobs)
    async with AsyncExitStack() as stack:
        screen.phase("protocol", "deploying the market and its adjudicator; ten providers stake")
        world = await World.open(stage.devnet, folder.path, scenario, stage.kits, stage.workbench)
        stack.push_async_callback(world.close)
        key = stage.devnet.accounts[WATCHER].key
        settings = folder.write_config(world.deployment, key, options.rate)
        screen.phase("watcher", "starts, and anchors its sampling secret before any work")
        watcher = await stack.enter_async_context(watching(settings, stage.devnet.rpc))
        show = _Show(world, watcher, screen)
        stack.push_async_callback(show.stop)
        await show.until_quiet()
        world.think_ahead()
        rounds = scenario.rounds
        screen.phase(
            "work", f"{len(scenario.tasks)} tasks in {len(rounds)} rounds: providers answer, the watcher re-runs"
        )
        for tasks in rounds:
            await asyncio.gather(world.round(tasks), show.watch())
            await show.turn()
        screen.phase("disputes", "challenges filed; signers replay for themselves, two of three decide")
        await show.until_quiet()
        while (deadline := world.last_demand()) is not None:
            screen.phase("demands", "the deadline to show withheld data passes: its provider loses")
            await world.blocks.travel(deadline)
            await show.until_quiet()
        screen.phase("windows", "an hour passes: what stands is final, fees and bounties are paid")
        while (end := world.last_window()) is not None and await show.pass_to(end):
            pass
        await world.leave()
        await show.until_quiet()
        screen.phase("evidence", "a bundle on each fraud, which anybody can check offline")
        await watcher.keep_evidence()
        screen.phase("accounts", "the summary is computed anew, from chain events and labels alone")
        outcome = await _outcome(stage.devnet.rpc, world, watcher, every_one=options.rate >= 1)
        await show.frame()
        if options.afterwards is not None:
            await options.afterwards(settings)
    return outcome


async def _outcome(rpc: Rpc, world: World, watcher: Watcher, *, every_one: bool) -> Outcome:
    where = world.deployment
    path = world.folder / LABELS
    _, labels = read_labels(path)
    history = await whole(rpc, (where.market, where.adjudicator), where.start_block)
    board = score(history.events, history.times, labels, where.params.model_bond)
    holds = await rpc.balance(where.market)
    sights, audit = await watcher.sights(), await watcher.audited()
    judged = report.judge(board, labels, sights, audit, every_one=every_one, market_holds=holds)
    return Outcome(judged, where.params.window, path)


class _Show:
    """Drives world and watcher block by block, and keeps the screen true while they work."""

    def __init__(self, world: World, watcher: Watcher, screen: Screen) -> None:
        self._world = world
        self._watcher = watcher
        self._screen = screen
        self._began: int | None = None
        self._looks = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        self._looks.cancel()
        await asyncio.gather(self._looks, return_exceptions=True)

    async def watch(self) -> None:
        """All that the watcher can do at this block; where it waits for a person, the demonstration's operator looks
        and approves."""
        for _ in range(_MOST_STEPS):
            moved = await self._watcher.step()
            for model in await self._watcher.paused():
                name = next((name for name, number in self._world.models.items() if number == model), "a model")
                self._screen.note(f"pause: several providers of {name} accused; a person approves")
                await self._watcher.approve(model, "demonstration: the operator looked and approved")
                moved = True
            if not moved:
                return

    async def turn(self) -> None:
        """Everybody does what can be done now, then comes the next block."""
        await asyncio.gather(self.watch(), self._world.step())
        await self._world.blocks.tick()

    async def until_quiet(self) -> None:
        """Until nothing happened to any commitment for a while. (Epochs of sampling come and go for ever.)"""
        idle, before = 0, await self._standing()
        while idle < QUIET:
            await self.turn()
            now = await self._standing()
            idle, before = (idle + 1 if now == before else 0), now

    async def _standing(self) -> tuple[int, tuple[str, ...]]:
        verdicts = tuple(one.verdict for one in await self._watcher.sights())
        market = sum(event.log.address == self._world.deployment.market for event in self._world.history.events)
        return market, verdicts

    async def pass_to(self, end: int) -> bool:
        """Past the end of a window; whether a commitment was closed by that."""
        before = len(self._world.market.open_jobs)
        await self._world.blocks.travel(end)
        await self._world.finish()
        await self.until_quiet()
        await self._world.finish()
        return len(self._world.market.open_jobs) < before

    async def frame(self) -> None:
        head = await self._world.blocks.head()
        self._began = self._began or head.time
        rows = _rows(self._world, await self._watcher.sights())
        self._screen.show(Frame(head.number, head.time - self._began, rows))

    async def _keep_looking(self) -> None:
        while True:
            await self.frame()
            await asyncio.sleep(_REFRESH)


def _rows(world: World, sights: Sequence[Sight]) -> list[Row]:
    seen = {one.commitment: one for one in sights}
    accused = {e.args["job"] for e in world.history.events if e.name in ("Challenged", "Demanded")}
    rows = []
    for provider in world.providers:
        jobs = [job for job in world.market.jobs.values() if job.provider == provider.wallet.address]
        known = [seen[job.id] for job in jobs if job.id in seen]
        verdicts = [one.verdict for one in known if one.sampled]
        kind = provider.plan.kind
        rows.append(
            Row(
                name=provider.plan.name,
                kind="honest" if kind is Kind.HONEST else str(kind),
                answers=len(jobs),
                drawn=len(verdicts),
                valid=verdicts.count(VerdictKind.VALID),
                fraud=verdicts.count(VerdictKind.FRAUD),
                unavailable=verdicts.count(VerdictKind.UNAVAILABLE),
                waiting=len(verdicts) - sum(verdicts.count(one) for one in VerdictKind),
                accused=sum(job.id in accused for job in jobs),
                lost=sum(job.status == 2 for job in jobs),
            )
        )
    return rows
