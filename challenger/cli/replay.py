"""`challenger replay`: the watcher run over a recorded chain, offline, under a simulated clock. Needs no key."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from challenger.cli.common import print_json, run_to_end, settings_of
from challenger.errors import ConfigError, RecordingUnusable
from challenger.settings import reference_only

if TYPE_CHECKING:
    from challenger.app import App
    from challenger.domain import Block
    from challenger.recording.watch import Replayed


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("recording", type=Path, metavar="FILE", help="a recording of a chain: NAME.tar or a folder")
    sub.add_argument(
        "--every", type=_seconds, default=60.0, metavar="S", help="simulated seconds between looks (default: 60)"
    )
    sub.add_argument(
        "--replay-seconds", type=_duration, default=1.0, metavar="S", help="simulated seconds of a replay (default: 1)"
    )
    sub.add_argument("--seed", default="", metavar="TEXT", help="of what is drawn (default: the recording's digest)")
    sub.add_argument("--fresh", action="store_true", help="run every model again, whatever results are known")
    sub.add_argument("--fetch", action="store_true", help="fetch data and models that the recording does not hold")
    sub.add_argument("--database", default="", metavar="URL", help="keep the record in this new database")
    sub.add_argument("--journal", type=Path, default=None, metavar="FILE", help="write the journal as JSON Lines")
    sub.add_argument(
        "--expect", type=_digest, default=None, metavar="HASH", help="fail unless the journal ends with this hash"
    )


def _digest(text: str) -> str:
    digits = text.lower().removeprefix("0x")
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise argparse.ArgumentTypeError("a journal's hash is 64 hex digits")
    return digits


def _seconds(text: str) -> float:
    value = _duration(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1 second")
    return value


def _duration(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 86_400):
        raise argparse.ArgumentTypeError("must be seconds, 0 to 86400")
    return value


def run(options: argparse.Namespace) -> int:
    from challenger.telemetry.logs import configure
    from replay.recording import RecordingError

    configure(as_json=options.json, level=logging.CRITICAL)  # what was alarming is told at the end
    try:
        with _whole_or_none(options.database):
            found = run_to_end(_replay(options))
    except (RecordingError, OSError) as error:
        raise RecordingUnusable(str(error)) from error
    _print(options, found)
    if options.expect and options.expect != found.head.hex():
        print("challenger: the journal is another one than expected", file=sys.stderr)
        return 1
    return 0


async def _replay(options: argparse.Namespace) -> Replayed:
    from challenger.parts import artifact_store, replay_pool, tune_collector
    from challenger.recording.lines import deployment_of
    from challenger.recording.results import Results
    from challenger.recording.watch import Pace, watching
    from replay.recording import open_recording

    given = settings_of(options)
    reference_only(given, "a replay of a recording")
    if options.journal is not None:
        _must_be_free(options.journal)
    async with AsyncExitStack() as stack:
        recording = stack.enter_context(open_recording(options.recording))
        fallback = await stack.enter_async_context(artifact_store(given)) if options.fetch else None
        known = nullcontext() if options.fresh else Results(given.replay.cache / "results.sqlite")
        watch = await stack.enter_async_context(
            watching(
                recording,
                given,
                Path(stack.enter_context(TemporaryDirectory(prefix="replay-"))),
                await stack.enter_async_context(replay_pool(given)),
                pace=Pace(options.every, options.replay_seconds),
                database=options.database,
                results=stack.enter_context(known),
                fallback=fallback,
                seed=options.seed,
            )
        )
        tune_collector()
        found = await watch.play(_progress(deployment_of(recording).last))
        if options.journal is not None:
            await _write_journal(watch.app, options.journal)
        if isinstance(known, Results) and known.trouble:
            print(f"challenger: the known results were left aside: {known.trouble}", file=sys.stderr)
        return found


@contextmanager
def _whole_or_none(url: str) -> Iterator[None]:
    """A replay that did not come to its end leaves no half-made database of SQLite's behind."""
    from challenger.store.engine import normalise

    parsed = normalise(url) if url else None
    made = None
    if parsed is not None and parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        made = parsed.database
    try:
        yield
    except BaseException:
        for ending in ("", "-wal", "-shm") if made else ():
            Path(f"{made}{ending}").unlink(missing_ok=True)
        raise


async def _write_journal(app: App, path: Path) -> None:
    """An entry a line, as it is hashed. It is at its place when it is whole."""
    draft, seq = path.with_name(f".{path.name}.{os.getpid()}"), 0
    try:
        with draft.open("w", encoding="utf-8") as target:
            while True:
                async with app.store.read() as view:
                    rows = await view.journal.after(seq)
                if not rows:
                    break
                for row in rows:
                    told = {"seq": row.seq, "hash": row.hash.hex(), "time": row.time, "kind": row.kind}
                    line = json.dumps(told | {"subject": row.subject}, sort_keys=True)[:-1]
                    target.write(line + ', "payload": ' + row.payload + "}\n")
                seq = rows[-1].seq
        _must_be_free(path)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _must_be_free(path: Path) -> None:
    """Before the work is done, not after it."""
    if os.path.lexists(path):
        raise ConfigError("--journal: something is there already", file=path)
    if not path.parent.is_dir():
        raise ConfigError("--journal: there is no such folder", file=path)


def _progress(last: int) -> Callable[[Block], None]:
    def told(block: Block) -> None:
        if sys.stderr.isatty():
            print(f"\rblock {block.number} of {last}", end="\n" if block.number == last else "", file=sys.stderr)

    return told


def _print(options: argparse.Namespace, found: Replayed) -> None:
    if options.json:
        print_json(
            {
                "blocks": found.blocks,
                "commitments": found.commitments,
                "states": found.states,
                "verdicts": found.verdicts,
                "simulated_seconds": found.seconds,
                "replays_run": found.run,
                "replays_known": found.known,
                "alerts": list(found.alerts),
                "journal": {"entries": found.entries, "head": found.head},
            }
        )
        return
    print(f"{found.blocks} blocks, {found.seconds} simulated seconds, {found.commitments} commitments")
    for name, counts in (("states", found.states), ("verdicts", found.verdicts)):
        print(f"{name}: " + (", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"))
    print(f"replays: {found.run} run, {found.known} known from before")
    for alert in found.alerts:
        print(f"alert at the end: {alert}")
    print(f"journal: {found.entries} entries, head {found.head.hex()}")
