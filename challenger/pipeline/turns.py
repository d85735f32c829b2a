"""How much of what waits one step looks at: a piece, so that what it wishes for is sent soon, and the next piece then.

A *sweep* gives each item one look. It may take many steps; what comes meanwhile takes part in it, in its place, and what
comes due again before the others have had their look does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from challenger.domain import CommitmentId

#: What a look costs that asks the record alone, and one that asks the chain too (about ten requests).
_RECORD, _CHAIN = 1, 10
#: What the looks of one step may cost, and those after something was wished for.
_STEP, _AFTER = 160, 40


class _Work(Protocol):
    @property
    def commitment(self) -> CommitmentId: ...


class _Item(Protocol):
    @property
    def work(self) -> _Work: ...


_T = TypeVar("_T", bound=_Item)


class Sweep:
    def __init__(self) -> None:
        self._had: set[CommitmentId] = set()
        self._left = _STEP

    def waiting(self, items: Iterable[_T]) -> list[_T]:
        """Those that have had no look in this sweep; all, where each has had one: a new sweep."""
        items = list(items)
        found = [item for item in items if item.work.commitment not in self._had]
        if not found:
            self._had.clear()
        return found or items

    def turns(self, items: Iterable[_T]) -> Iterator[_T]:
        """Of ``items`` as many as one step looks at; ``over`` tells whether these were all."""
        self._left = _STEP
        for item in items:
            if self._left <= 0:
                return
            self._had.add(item.work.commitment)
            yield item
        self._had.clear()

    def looked(self, *, asked: bool, wished: bool) -> None:
        """One look is over: whether it ``asked`` the chain, and whether something waits to be sent by now."""
        self._left -= _CHAIN if asked else _RECORD
        if wished:
            self._left = min(self._left, _AFTER)

    @property
    def over(self) -> bool:
        """Whether each has had its look."""
        return not self._had
