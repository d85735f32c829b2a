"""What keeps a filing back, as most endpoints have the chain.

A look goes to one endpoint, and what it finds in favour of a filing is held against the others before anything is spent:
by the quorum, and by the simulation. What it finds against one would be the last word, and a window does not wait. So
whatever speaks against is asked again in the view of each other host, and counts when most of those who answer find it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

from challenger.domain import Intent
from challenger.errors import Expected
from challenger.pipeline.closing import Outlook

T = TypeVar("T")


class Chain(Protocol):
    def views(self) -> Sequence[AbstractContextManager[None]]:
        """Of each other host than the one that is read from: while one is entered, this task reads from that one alone."""
        ...


async def elsewhere(chain: Chain, ask: Callable[[], Awaitable[T]]) -> list[T]:
    """What ``ask`` gives in the view of each other host; one that cannot answer says nothing."""
    said: list[T] = []
    for view in chain.views():
        with view:
            try:
                said.append(await ask())
            except Expected:
                continue
    return said


async def against(chain: Chain, look: Callable[[], Awaitable[str]]) -> str:
    """What most find that speaks against it; of two that differ neither keeps it back."""
    said = await _said(chain, look, enough="".__eq__)
    found = [one for one in said if one]
    if 2 * len(found) <= len(said):
        return ""
    kinds = Counter(map(_kind, found))
    # a closed window is the one reason that may end a case: it is given where most give it
    return min(found, key=lambda one: (-kinds[_kind(one)], _kind(one) == "window"))


def _kind(reason: str) -> str:
    return reason.partition(":")[0]


async def answered(chain: Chain, ask: Callable[[], Awaitable[T]]) -> T:
    """The first answer: for what decides by several endpoints' words itself, once it can begin."""
    return (await _said(chain, ask, enough=lambda _first: True))[0]


async def kept_open(chain: Chain, look: Callable[[], Awaitable[Outlook]]) -> Outlook:
    """At a window that seems to be over: what the first sees who does not see it over for good, unless most do."""
    said = await _said(chain, look, enough=_waits)
    waits = [one for one in said if _waits(one)]
    return waits[0] if 2 * len(waits) >= len(said) else next(one for one in said if not _waits(one))


def _waits(at: Outlook) -> bool:
    return at.open or bool(at.why)


async def holds(chain: Chain, ask: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it does at the first look, or for most who answer."""
    said = await _said(chain, ask, enough=bool)
    return 2 * sum(said) > len(said)


async def wanted(chain: Chain, ask: Callable[[], Awaitable[Intent | None]]) -> Intent | None:
    """The transaction that most want; of two, one rather than none: whether it would go through is simulated yet. Its deadline
    is the middle one, of two the later."""
    said = await _said(chain, ask)
    keys = Counter(None if one is None else (one.action, one.subject) for one in said)
    key = max(keys, key=lambda one: (keys[one], one is not None))
    same = [one for one in said if one is not None and (one.action, one.subject) == key]
    if not same:
        return None
    deadlines = sorted(one.deadline for one in same)
    return replace(same[0], deadline=deadlines[len(deadlines) // 2])


async def _said(
    chain: Chain, ask: Callable[[], Awaitable[T]], enough: Callable[[T], bool] = lambda _first: False
) -> list[T]:
    """By the endpoint that is read from, and by the others unless that is ``enough``; at least one. Raises what the first
    look raised, where nobody has an answer."""
    try:
        first = [await ask()]
    except Expected:
        said = await elsewhere(chain, ask)
        if not said:
            raise
        return said
    return first if enough(first[0]) else first + await elsewhere(chain, ask)
