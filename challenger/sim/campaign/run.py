"""Many worlds, in as many processes as there are cores to give, and their sum."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

from challenger.sim.campaign.check import Findings, check
from challenger.sim.campaign.plan import plan
from challenger.sim.campaign.play import make_template, play
from challenger.sim.faults.kinds import Fault, shown

_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made below it


@dataclass(frozen=True, slots=True)
class Outcome:
    """One world. ``seconds`` of real time; ``starts`` of the watcher's process."""

    seed: int
    findings: Findings
    injected: dict[str, int]
    blocks: int
    starts: int
    reorgs: dict[int, int]
    seconds: float


@dataclass(slots=True)
class Total:
    """``broken``: (seed, what), a line each."""

    worlds: int = 0
    filings: int = 0
    inside: int = 0
    on_time: int = 0
    outside: int = 0
    outside_filed: int = 0
    honest: int = 0
    false: int = 0
    starts: int = 0
    broken: list[tuple[int, str]] = field(default_factory=list)
    late: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    reorgs: Counter[int] = field(default_factory=Counter)

    def add(self, one: Outcome) -> None:
        found = one.findings
        self.worlds += 1
        self.starts += one.starts
        for name in ("filings", "inside", "on_time", "outside", "outside_filed", "honest", "false"):
            setattr(self, name, getattr(self, name) + getattr(found, name))
        self.broken += [(one.seed, line) for line in found.broken]
        self.late += found.late
        self.injected.update(one.injected)
        self.reorgs.update(one.reorgs)


def world(seed: int, faults: Sequence[Fault], *, all_of: bool) -> Outcome:
    """Plays the world of ``seed`` and checks it. ``all_of``: each of the faults strikes, not only those that the seed picks."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what a watcher in trouble says is checked in its record
    try:
        return asyncio.run(_world(seed, faults, _empty(), all_of=all_of))
    finally:
        logging.disable(before)


def campaign(
    seeds: Sequence[int], faults: Sequence[Fault], *, processes: int, seen: Callable[[Outcome], None]
) -> Total:
    """``seen`` is told of each world as it ends."""
    total = Total()
    one = partial(world, faults=tuple(faults), all_of=len(set(faults)) < len(Fault) - 1)
    for outcome in _all(seeds, one, processes):
        total.add(outcome)
        seen(outcome)
    total.broken.sort()
    return total


def reproduction(seed: int, faults: Sequence[Fault]) -> str:
    return f"challenger sim --seed {seed} --faults {shown(faults)}"


def _all(seeds: Sequence[int], one: Callable[[int], Outcome], processes: int) -> Iterator[Outcome]:
    if processes == 1 or len(seeds) == 1:
        yield from map(one, seeds)
        return
    spawned = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=spawned)
    try:
        for done in as_completed([pool.submit(one, seed) for seed in seeds]):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops waits for no world that has not begun


@cache
def _empty() -> bytes:
    """A database of the present schema with nothing in it: made once in a process."""
    with _folder() as folder:
        asyncio.run(make_template(folder / "template.sqlite"))
        return (folder / "template.sqlite").read_bytes()


async def _world(seed: int, faults: Sequence[Fault], empty: bytes, *, all_of: bool) -> Outcome:
    began = time.monotonic()
    with _folder() as folder:
        template = folder / "template.sqlite"
        await asyncio.to_thread(template.write_bytes, empty)
        played = await play(plan(seed, faults, all_of=all_of), folder, template)
        findings = await check(played, template)
    return Outcome(
        seed,
        findings,
        {str(fault): times for fault, times in played.engine.injected.items() if times},
        played.devnet.node.height,
        played.life.starts,
        dict(played.reorgs),
        time.monotonic() - began,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    """In memory where that can be had: thousands of commits wait for no disk."""
    with tempfile.TemporaryDirectory(prefix="challenger-sim-", dir=_MEMORY if _MEMORY.is_dir() else None) as made:
        yield Path(made)
