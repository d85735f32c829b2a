"""Where the cases that provoke the market's errors are noted, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from market_world import Data, World, word

Provocation = Callable[[World], None]
#: (name of the error, a case that provokes it), in the order of definition.
CASES: list[tuple[str, Provocation]] = []


def provokes(error: str) -> Callable[[Provocation], Provocation]:
    def note(case: Provocation) -> Provocation:
        CASES.append((error, case))
        return case

    return note


def task_args(world: World, model: bytes, **changes: Any) -> tuple[Any, ...]:
    given = Data("in")
    fields = {
        "model": model,
        "root": given.root,
        "data": given.data,
        "uri": "",
        "length": len(given.data),
        "entropy": word("e"),
        "deadline": world.evm.time + 100,
    }
    return tuple({**fields, **changes}.values())


def taken(world: World) -> bytes:
    task = world.open_task(world.register(), Data("in"))
    world.take(task)
    return task
