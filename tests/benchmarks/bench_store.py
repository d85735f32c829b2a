"""`python -m tests.benchmarks.bench_store [--quick]`: what the store costs for each indexed commitment.

One ``apply`` of a range writes five rows a commitment (event, projection, work, journal) and its block. The peer is
the standard library's ``sqlite3.executemany`` putting the very same rows into the same schema with the same pragmas:
the ratio is what encoding, folding, the hash chain and the asynchronous driver add to SQLite itself. ``cpu`` is the
time of all threads, which a busy machine distorts less than the clock.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from challenger.domain import At, Block, Committed
from challenger.store import open_store
from challenger.store.migrate import upgrade

_TABLES = ("blocks", "events", "commitments", "work", "journal")
_RANGE = 2000
_PER_BLOCK = 20


def _hash(*what: object) -> Any:
    return hashlib.sha256(repr(what).encode()).digest()


def _chain(count: int) -> tuple[list[Any], list[Any]]:
    """``count`` commitments of fifty providers with 64 bytes of output each, twenty a block."""
    blocks: list[Any] = []
    events: list[Any] = []
    for number in range(1, count // _PER_BLOCK + 1):
        parent = blocks[-1].hash if blocks else _hash("genesis")
        now = 1_700_000_000 + 12 * number
        block = Block(number, _hash("block", number), parent, now)  # type: ignore[arg-type]
        blocks.append(block)
        for log in range(_PER_BLOCK):
            name = (number, log)
            at = At(block.number, block.hash, log, _hash("tx", name))
            ids = _hash("job", name), _hash("task", name), _hash("model")
            provider: Any = "0x" + _hash("provider", log % 50).hex()[:40]
            roots = _hash("output", name), _hash("state", name)
            events.append(Committed(at, *ids, provider, *roots, bytes(64), "", 64, now, now + 3600))  # type: ignore[arg-type]
    return blocks, events


async def _ours(path: Path, blocks: list[Any], events: list[Any]) -> tuple[float, float]:
    """(seconds, seconds of all threads) for the whole chain, in ranges of ``_RANGE`` commitments."""
    async with open_store(f"sqlite:///{path}") as store:
        index, cursor = store.index(), None
        clock, cpu = time.perf_counter(), time.process_time()
        for start in range(0, len(events), _RANGE):
            some = blocks[start // _PER_BLOCK : (start + _RANGE) // _PER_BLOCK]
            cursor = await index.apply(some, events[start : start + _RANGE], cursor)
        return time.perf_counter() - clock, time.process_time() - cpu


def _theirs(path: Path, rows: dict[str, list[Any]]) -> tuple[float, float]:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536", "wal_autocheckpoint = 4000"):
        connection.execute(f"PRAGMA {pragma}")
    clock, cpu = time.perf_counter(), time.process_time()
    count = len(rows["events"])
    for start in range(0, count, _RANGE):
        connection.execute("BEGIN IMMEDIATE")
        for table, all_rows in rows.items():
            part = [start * len(all_rows) // count, (start + _RANGE) * len(all_rows) // count]
            marks = ",".join("?" * len(all_rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", all_rows[slice(*part)])
        connection.execute("COMMIT")
    spent = time.perf_counter() - clock, time.process_time() - cpu
    connection.close()
    return spent


def _rows(path: Path) -> dict[str, list[Any]]:
    with sqlite3.connect(path) as connection:
        found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES}
    connection.close()
    return found


async def main(count: int, rounds: int) -> dict[str, Any]:
    blocks, events = _chain(count)
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        template, path = Path(folder) / "template.sqlite", Path(folder) / "run.sqlite"
        await upgrade(f"sqlite:///{template}")
        for _ in range(rounds):
            shutil.copy(template, path)
            ours.append(await _ours(path, blocks, events))
            rows = _rows(path)
            size = path.stat().st_size
            path.unlink()
            shutil.copy(template, path)
            theirs.append(_theirs(path, rows))
            path.unlink()
    wall, cpu = (1e6 / count * statistics.median(column) for column in zip(*ours, strict=True))
    peer_wall, peer_cpu = (1e6 / count * statistics.median(column) for column in zip(*theirs, strict=True))
    return {
        "benchmark": "store",
        "commitments": count,
        "range": _RANGE,
        "microseconds": round(wall, 1),
        "microseconds_cpu": round(cpu, 1),
        "peer": "sqlite3.executemany of the same rows",
        "peer_microseconds": round(peer_wall, 1),
        "peer_microseconds_cpu": round(peer_cpu, 1),
        "ratio": round(statistics.median(t[0] / o[0] for o, t in zip(ours, theirs, strict=True)), 2),
        "bytes_per_commitment": size // count,
    }


if __name__ == "__main__":
    quick = "--quick" in sys.argv
    print(json.dumps(asyncio.run(main(4_000 if quick else 20_000, 1 if quick else 5))))
