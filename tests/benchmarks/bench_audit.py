"""`python -m tests.benchmarks.bench_audit [--quick | --full]`: what `challenger audit verify` takes on SQLite, and how much memory.

The record is made by the store itself, so that it holds: a task opened and taken, an answer, its draw, for one in ten a
VALID verdict, and the job's end. 100,000 commitments, with ``--quick`` 5,000, with ``--full`` 1,000,000. The command runs
in a process of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from challenger.domain import (
    NEVER,
    At,
    Block,
    Committed,
    JobClosed,
    JobStatus,
    ModelRegistered,
    State,
    TaskOpened,
    TaskTaken,
    Verdict,
    VerdictKind,
)
from challenger.store import open_store
from challenger.store.migrate import upgrade

_PER_BLOCK, _BLOCKS = 20, 50
T0 = 1_700_000_000
_COMMAND = """
import resource, sys, time
from challenger.cli import main
began = time.perf_counter()
code = main(["audit", "verify"])
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def _hash(*what: object) -> Any:
    return hashlib.sha256(repr(what).encode()).digest()


def _block(number: int) -> Block:
    return Block(number, _hash("block", number), _hash("block", number - 1), T0 + 12 * number)  # type: ignore[arg-type]


def _events(block: Block) -> list[Any]:
    """The tasks of one block, each opened, taken, answered and closed in it: the least that a job can be."""
    found: list[Any] = []
    for n in range(_PER_BLOCK):
        name = (block.number, n)
        task, job, provider = _hash("task", name), _hash("job", name), "0x" + _hash("provider", n % 50).hex()[:40]

        def at(step: int, n: int = n, name: object = name) -> At:
            return At(block.number, block.hash, 4 * n + step, _hash("tx", name, step))

        root = _hash("output", name)
        found += [
            TaskOpened(at(0), task, _hash("model"), "0x" + "11" * 20, root, bytes(64), "", 64, root, 5, block.time + 600),  # type: ignore[arg-type]
            TaskTaken(at(1), task, provider, root),  # type: ignore[arg-type]
            Committed(at(2), job, task, _hash("model"), provider, root, root, bytes(64), "", 64, block.time, block.time + 3600),  # type: ignore[arg-type]
            JobClosed(at(3), job, JobStatus.FINAL),
        ]  # fmt: skip
    return found


async def _fill(url: str, count: int) -> None:
    said: Any = (_hash("f"), _hash("a"), _hash("p"), 1, "exact", 4, 4, "", b"in", _hash("out"))
    async with open_store(url) as store:
        index, cursor, born = store.index(), None, 1
        while (born - 1) * _PER_BLOCK < count:
            blocks = [_block(number) for number in range(born, born + min(_BLOCKS, count // _PER_BLOCK - born + 1))]
            events = [event for block in blocks for event in _events(block)]
            if born == 1:
                at = At(blocks[0].number, blocks[0].hash, 4 * _PER_BLOCK, _hash("tx", "model"))
                events.insert(0, ModelRegistered(at, _hash("model"), "0x" + "22" * 20, *said))  # type: ignore[arg-type]
            cursor = await index.apply(blocks, events, cursor)
            async with store.begin(blocks[-1].time) as unit:
                for n, event in enumerate(one for one in events if isinstance(one, Committed)):
                    drawn = n % 10 == 0
                    facts: dict[str, Any] = {"selected": drawn, "p_millionths": 100_000}
                    await unit.work.move(
                        event.commitment, State.OBSERVED, State.SAMPLED if drawn else State.SKIPPED, **facts
                    )
                    last = State.SKIPPED
                    if drawn:
                        roots = event.output_root, event.state_root
                        verdict = Verdict(VerdictKind.VALID, "", "torch", *roots, {}, 0.05)
                        identity = await unit.verdicts.add(event.commitment, verdict, fresh=False)
                        await unit.work.move(
                            event.commitment, State.SAMPLED, State.REPLAYED, verdict=identity, next_try=NEVER
                        )
                        last = State.REPLAYED
                    await unit.work.move(event.commitment, last, State.FINALISED)
            born += len(blocks)


def measure(url: str, folder: Path, count: int) -> dict[str, Any]:
    """Seconds and memory of the command over the record at ``url``."""
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND],
        env={
            **os.environ,
            "CHALLENGER_STORE_URL": url,
            "CHALLENGER_CHAIN_MARKET": "0x" + "33" * 20,
            "CHALLENGER_CHAIN_CHAIN_ID": "7",
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"it does not hold: {done.stdout[:2000]}{done.stderr[-2000:]}")
    seconds, kibibytes = map(float, done.stderr.split()[-2:])
    return {
        "commitments_per_second": round(count / seconds),
        "seconds": round(seconds, 1),
        "most_memory_mb": round(kibibytes / 1024),
    }


def main(count: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.sqlite")
        url = f"sqlite:///{path}"
        asyncio.run(upgrade(url))
        began = time.perf_counter()
        asyncio.run(_fill(url, count))
        made = round(time.perf_counter() - began, 1)
        size = {
            "benchmark": "audit",
            "commitments": count,
            "made_in_seconds": made,
            "file_mb": path.stat().st_size >> 20,
        }
        return size | measure(url, Path(folder), count)


if __name__ == "__main__":
    sizes = {"--quick": 5_000, "--full": 1_000_000}
    print(json.dumps(main(next((sizes[one] for one in sys.argv if one in sizes), 100_000))))
