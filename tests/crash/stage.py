"""The crash matrix: one life, killed at each crossing, and killed again at each crossing after that.

Run as a process of its own (``python -m tests.crash.stage FOLDER STORY …``), since it forks: a story's world is built once,
and every trial is a copy of it by ``fork`` with a copy of the record. What it finds is told line by line as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.crash.judge import check
from tests.crash.life import Life, begin, live
from tests.crash.stories import STORIES
from tests.crash.watcher import Crossed

#: Blocks that pass, with everybody else going on, before a watcher that died at an odd crossing is started again.
_ABSENT = 3


def distinct(crossed: Sequence[Crossed]) -> list[int]:
    """Crossings whose deaths leave different states: one before a commit leaves what the one before it left, unless
    that one was no commit, or none came before."""
    return [
        number
        for number, (_, moment) in enumerate(crossed)
        if moment == "after" or number == 0 or (crossed[number - 1][1] == "before")
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "stories", nargs="+", metavar="STORY[=POINTS]", help=f"with its own points: {', '.join(STORIES)}"
    )
    parser.add_argument("--points", default="distinct", help="all, distinct, none, or NAMEs or NAME#Ks with commas")
    parser.add_argument("--both", action="store_true", help="before the named transitions too, not only after them")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="every N-th point, from the K-th on")
    parser.add_argument("--seconds", default="0", help="second deaths for each first: a number of samples, or all")
    parser.add_argument(
        "--copies",
        action="store_true",
        help="first deaths are copies made where the watcher stands still; no second ones",
    )
    parser.add_argument("--in-turn", action="store_true", help="SQLite in the watcher's own turn, not in a thread")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for story in options.stories:
        name, _, points = story.partition("=")
        (options.folder / name).mkdir()
        # a copy of this process: what one story did to it is not there in the next one
        for found in _wait(_branch(partial(_story, name, points or options.points, options))):
            _tell({"story": name} | found)


def _story(name: str, points: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    folder = options.folder / name
    life = asyncio.run(begin(folder, STORIES[name]()))
    life.in_turn = options.in_turn
    gc.collect()
    gc.freeze()  # what is here now is shared by all copies
    part, parts = map(int, options.part.split("/"))
    every = partial(_everywhere, life, folder, [], slice(part - 1, None, parts)) if options.copies else None
    whole = _wait(_branch(lambda: _ending(life, folder / "whole", [], every=every)))
    told = [{"crossed": whole["crossed"][0], "error": whole["error"]}]
    if whole["error"]:
        return told
    if options.copies:
        return told + [{"first": one.pop("at"), **one} for one in whole["copies"]]
    reference = [(tuple(names), moment) for names, moment in whole["crossed"][0]]
    firsts = _chosen(points, reference, both=options.both)[part - 1 :: parts]
    running: list[tuple[int, int]] = []
    while firsts or running:
        while firsts and len(running) < options.jobs:
            running.append(_branch(partial(_first, life, folder, options, firsts.pop(0))))
        told += _wait(running.pop(0))
    return told


def _chosen(points: str, crossed: Sequence[Crossed], *, both: bool) -> list[int]:
    """All, the distinct ones, or those around the named transitions: NAME#K is the K-th crossing of that name in this
    life, NAME its last."""
    if points == "all":
        return list(range(len(crossed)))
    if points == "distinct":
        return distinct(crossed)
    if points == "none":
        return []
    chosen = set()
    for point in points.split(","):
        name, _, count = point.partition("#")
        for moment in ("before", "after") if both else ("after",):
            found = [number for number, (names, at) in enumerate(crossed) if name in names and at == moment]
            assert len(found) >= int(count or 1), f"{point} is never crossed"
            chosen.add(found[int(count or 0) - 1])
    return sorted(chosen)


def _first(life: Life, folder: Path, options: argparse.Namespace, number: int) -> list[dict[str, Any]]:
    """Everything that begins with a death at crossing ``number``."""
    here = folder / str(number)
    life.moved_to(here)
    died = live(life, life.watchers(0), [number], to_the_end=False)
    assert died == 1, f"no crossing {number}: the life is another one"
    point = life.crossed[-1][-1]
    absent = _ABSENT if number % 2 else 0
    every = partial(_everywhere, life, folder, [number], slice(None)) if options.seconds == "all" else None
    alone = _wait(_branch(lambda: _ending(life, folder / f"{number}-alone", [], absent, every)))
    found = [{"first": point, "number": number, "error": alone["error"]}]
    found += [{"first": point, "second": one.pop("at"), **one} for one in alone["copies"]]
    if not alone["error"] and every is None:
        for second in _seconds(options, number, [tuple(one) for one in alone["crossed"][-1]]):
            place = folder / f"{number}-{second}"
            pair = _wait(_branch(partial(_ending, life, place, [second], absent)))
            at = alone["crossed"][-1][second]
            found.append({"first": point, "second": at, **_after([number, second], pair)})
    shutil.rmtree(here)
    return found


def _seconds(options: argparse.Namespace, first: int, crossed: Sequence[Crossed]) -> Iterator[int]:
    possible = distinct(crossed)
    dice = random.Random(f"{options.seed} {first}")
    yield from sorted(dice.sample(possible, min(int(options.seconds), len(possible))))


def _everywhere(life: Life, folder: Path, deaths: list[int], which: slice, found: list[dict[str, Any]]) -> None:
    """Where the watcher stands still, after these deaths: the life goes on in a copy, as after one more, to the end. What a
    killed process leaves behind is its files, and those are copied as they are; so the way to here is gone once for all
    that follow, and not once for each. ``which`` of the distinct crossings are taken."""
    crossed = life.crossed[-1]
    number = len(crossed) - 1
    if number not in distinct(crossed)[which]:
        return
    all_of_them = [*deaths, number]
    absent = 0 if deaths or number % 2 == 0 else _ABSENT
    place = folder / "-".join(map(str, all_of_them))
    copy = _wait(_branch(partial(_in_a_copy, life, place, absent)))
    found.append({"at": crossed[number], **_after(all_of_them, copy)})


def _after(number: list[int], ended: dict[str, Any]) -> dict[str, Any]:
    """What is told of the last of these deaths: ``then`` is what was crossed after it."""
    return {"number": number, "then": ended["crossed"][-1], "error": ended["error"]}


def _in_a_copy(life: Life, folder: Path, absent: int) -> dict[str, Any]:
    asyncio._set_running_loop(None)  # that loop is of the process of which this is a copy
    return _ending(life, folder, [], absent)


def _ending(
    life: Life,
    folder: Path,
    deaths: list[int],
    absent: int = 0,
    every: Callable[[list[dict[str, Any]]], None] | None = None,
) -> dict[str, Any]:
    """On from here to the end, with these deaths, in a copy of the record; then the judgement. ``every`` is called where
    the watcher stands still, and adds to the copies."""
    copies: list[dict[str, Any]] = []
    life.moved_to(folder)
    try:
        standing = None if every is None else partial(every, copies)
        died = live(life, life.watchers(len(deaths)), deaths, absent=absent, standing=standing)
        assert died == len(deaths), f"it died {died} times"
        check(life)
    except Exception:  # noqa: BLE001 - told, with the number of the trial
        error = f"{folder}: {traceback.format_exc(limit=-4)}"
        return {"crossed": life.crossed, "error": error, "copies": copies}
    shutil.rmtree(folder)
    return {"crossed": life.crossed, "error": "", "copies": copies}


def _branch(work: Callable[[], Any]) -> tuple[int, int]:
    """``work`` in a copy of this process; its result is waited for with ``_wait``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        os.close(reading)
        result = json.dumps(work()).encode()
        with os.fdopen(writing, "wb") as out:
            out.write(result)
        code = 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        os._exit(code)


def _wait(branch: tuple[int, int]) -> Any:
    pid, reading = branch
    with os.fdopen(reading, "rb") as said:
        result = said.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit(f"a trial ended with status {status}")
    return json.loads(result)


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
