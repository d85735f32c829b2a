"""`python -m tests.benchmarks.bench_idle [--quick] [--starts N]`: what it costs to hold 10,000 open commitments, and to come back.

The database holds that many commitments, drawn, replayed and waiting for their windows. The watcher with all its loops
runs in a process of its own against a devnet served by another one, whose head moves every two seconds: as busy as a
chain of two-second blocks without events. Reported: resident memory and processor time of that process while idle, and
the seconds from its start to its first finished round, imports and all, after it was killed: of N starts (100; ``--quick``
makes 2) the median, the 99th percentile by nearest rank, and the worst.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from challenger.chain.devnet.served import ServedDevnet
from challenger.domain import NEVER, At, Committed, Hash32, State
from challenger.sim import files
from challenger.sim.scenario import Knobs, plan
from challenger.sim.toy import ToyBench, kits
from challenger.sim.world import WATCHER, World
from challenger.store import migrate, open_store
from challenger.store.bulk import insert_rows
from challenger.store.projection import FOLDS
from challenger.store.schema import commitments, work

_WATCH = """
import asyncio, sys
from pathlib import Path
async def main():
    from challenger.app import opened
    from challenger.settings import load
    async with opened(load(Path(sys.argv[1]), {})) as app:
        await app.step()
        await app.investigate()
        print("first round", flush=True)
        stop = asyncio.Event()
        running = asyncio.create_task(app.run(stop))
        await asyncio.to_thread(sys.stdin.readline)
        print("torch" in sys.modules, flush=True)
        stop.set()
        await running
asyncio.run(main())
"""


async def _fill(url: str, count: int) -> None:
    """``count`` commitments in the newest block of the index, all replayed and found valid."""
    async with open_store(url) as store:
        index = store.index()
        cursor = await index.cursor()
        assert cursor is not None
        async with store.read() as view:
            head = await view.chain.block(cursor.block)
        assert head is not None
        ids = [Hash32(n.to_bytes(32, "big")) for n in range(1, count + 1)]
        rows, works = [], []
        for number, one in enumerate(ids):
            at = At(head.number, head.hash, 1_000 + number, one)
            provider: Any = "0x" + f"{number % 50:040x}"
            event: Any = Committed(
                at,
                one,
                one,
                one,
                provider,
                one,
                one,
                b"",
                "",
                64,
                head.time,
                head.time + 10**6,  # type: ignore[arg-type]
            )
            rows.append(tuple(FOLDS["commitment"].over([event])))
            seen = (head.number, head.time, head.time + 10**6)
            drawn = (0, 1_000_000, head.number, head.hash, bytes(32), True, "{}", None, None)
            works.append((one, State.REPLAYED.value, None, *seen, *drawn, "", 0, NEVER, head.time, 1))
        async with store.begin(head.time) as unit:
            await insert_rows(unit.connection, commitments, rows)
            await insert_rows(unit.connection, work, works)


def _start(config: Path) -> tuple[subprocess.Popen[str], float]:
    """The watcher's process once its first round is over, and the seconds that took."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "first round":
        raise SystemExit("the watcher did not come up")
    return process, time.perf_counter() - began


def _rank(ordered: list[float], percent: int) -> float:
    """The least of ``ordered`` that so many per cent of them do not exceed."""
    return ordered[-(-percent * len(ordered) // 100) - 1]


async def main(count: int, seconds: float, starts: int) -> dict[str, Any]:
    took = []
    with tempfile.TemporaryDirectory() as folder:
        async with ServedDevnet(count=20) as served:
            devnet = served.devnet
            made = files.make(Path(folder) / "out")
            world = await World.open(devnet, made.path, plan(Knobs(tasks=1, round_size=1)), kits(), ToyBench())
            settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
            made.config.write_text(made.config.read_text().replace("[chain]", f'[chain]\nrpc = ["{served.url}"]'))
            await migrate.upgrade(settings.store.url)
            first, _ = await asyncio.to_thread(_start, made.config)
            first.kill()
            first.wait()
            await _fill(settings.store.url, count)
            for left in range(starts, 0, -1):
                process, spent = await asyncio.to_thread(_start, made.config)
                took.append(spent)
                if left > 1:
                    process.kill()
                    process.wait()
            watched = psutil.Process(process.pid)
            before, clock = sum(watched.cpu_times()[:2]), time.perf_counter()
            while time.perf_counter() - clock < seconds:
                await devnet.mine()
                await asyncio.sleep(2)
            share = (sum(watched.cpu_times()[:2]) - before) / (time.perf_counter() - clock)
            memory = watched.memory_info().rss
            out, _ = await asyncio.to_thread(process.communicate, "\n", 60)
            await world.close()
    took.sort()
    return {
        "benchmark": "idle",
        "open_commitments": count,
        "seconds": seconds,
        "rss_mib": round(memory / 2**20, 1),
        "cpu_percent_of_one_core": round(100 * share, 2),
        "torch_in_parent": out.strip() == "True",
        "starts": len(took),
        "start_seconds_p50": round(_rank(took, 50), 2),
        "start_seconds_p99": round(_rank(took, 99), 2),
        "start_seconds_worst": round(took[-1], 2),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("--quick", action="store_true", help="few starts, and a short look at the idle process")
    parser.add_argument("--starts", type=int, default=None, help="how often it is killed and started again")
    options = parser.parse_args()
    quick = options.quick
    starts = options.starts or (2 if quick else 100)
    print(json.dumps(asyncio.run(main(10_000, 10 if quick else 30, starts))))
