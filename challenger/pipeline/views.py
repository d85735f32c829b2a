"""What keeps a filing back, as most endpoints have the chain.

A look goes to one endpoint, and what it finds in favour of a filing is held against the others before anything is spent:
by the quorum, and by the simulation. What it finds against one would be the last word, and a window does not wait. So
whatever speaks against is asked again in the view of each other host, and counts when most of those who answer find it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol, TypeVar

from challenger.domain import Address, Hash32, Intent
from challenger.errors import ConfigError, EndpointError, Expected
from challenger.pipeline.closing import Outlook
from challenger.protocols.base import Terms

T = TypeVar("T")
C = TypeVar("C", bound="Contract")


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


class Contract(Protocol):
    """A protocol's adapter, as far as its start is concerned: see ``protocols.base.Adapter``."""

    async def check(self) -> None: ...
    @property
    def pins(self) -> Mapping[Address, Hash32]: ...
    @property
    def terms(self) -> Terms: ...


async def checked(chain: Chain, make: Callable[[], C]) -> C:
    """The adapter as most hosts show its contract: what one alone shows would be pinned, and kept, for the whole life of
    the process. Raises EndpointError where no more than half agree, and what the check raises where all say that."""
    asked = 0
    shown: list[C] = []
    refused: list[ConfigError] = []

    async def look() -> None:
        nonlocal asked
        asked += 1
        adapter = make()
        try:
            await adapter.check()
        except ConfigError as error:
            refused.append(error)
        else:
            shown.append(adapter)

    silent: Expected | None = None
    try:
        await look()
    except Expected as error:
        silent = error
    await elsewhere(chain, look)
    most = max(([one for one in shown if same_contract(one, first)] for first in shown), key=len, default=[])
    if 2 * len(most) > len(shown) + len(refused):
        return most[0]
    if len(refused) == asked:
        raise refused[0]
    if silent is not None and not shown and not refused:
        raise silent
    why = refused[0] if refused else "its code or its terms are not the same from all"
    raise EndpointError(f"the endpoints do not show one contract: {why} (challenger check says which of them)")


def same_contract(one: Contract, other: Contract) -> bool:
    """By its code, and by its terms where no block can change them: two looks are seldom at the same block."""
    live = not (one.terms.fixed and other.terms.fixed)
    return one.pins == other.pins and (live or one.terms == other.terms)


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
