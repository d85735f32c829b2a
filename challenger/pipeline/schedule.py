"""Order of work by slack, admission when there is more than fits, and the clock of data that is away. Pure.

*Slack* is the time to a window's close less all that is predicted to happen before it. Replays are ordered by when each
must be over (its close less confirmation, inclusion and reorganisation depth): among items of one model that is the order
of their slack, and where long and short replays mix it fits whatever any order could fit (Jackson's rule), which
the order by slack itself does not.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from challenger.domain import CommitmentId, UnixTime

#: Room that must be left before shed work is taken up again: one part in so many of all worker time.
_ROOM = 4
#: Seconds between two looks at what is too late: a window may open again.
_AFTERWARDS = 60


@dataclass(frozen=True, slots=True)
class Ahead:
    """Predicted seconds still to pass (measured p99s): one replay, its confirmation, inclusion, reorg depth."""

    replay: float
    confirm: float
    inclusion: float
    depth: float

    def total(self) -> float:
        return self.replay + self.confirm + self.inclusion + self.depth


@dataclass(frozen=True, slots=True)
class Item:
    """``value``: wei at stake; ``provider``: whose answer it is."""

    commitment: CommitmentId
    closes: UnixTime
    value: int
    ahead: Ahead
    provider: str = ""


def slack(item: Item, now: UnixTime) -> float:
    """Seconds to spare; negative when the predicted work no longer fits the window."""
    return item.closes - now - item.ahead.total()


def due(item: Item) -> float:
    """When its replay must be over, for the rest to fit."""
    return item.closes - (item.ahead.confirm + item.ahead.inclusion + item.ahead.depth)


def order(items: Sequence[Item], now: UnixTime) -> list[Item]:
    """What can still be saved, the earliest due first; then what is predicted to miss its window, tried all the same
    when nobody else wants the worker. Of equals the worthier, then by id, so that the order is total."""
    return sorted(items, key=lambda item: (slack(item, now) < 0, due(item), -item.value, item.commitment))


def crowded(items: Sequence[Item], now: UnixTime) -> list[Item]:
    """In order, the k-th of one provider worth a k-th: who floods the queue pushes out its own work first."""
    seen: Counter[str] = Counter()
    lessened = []
    for item in order(items, now):
        seen[item.provider] += 1
        lessened.append(replace(item, value=item.value // seen[item.provider]))
    return lessened


def admit(
    items: Sequence[Item], now: UnixTime, workers: int, busy: float = 0.0
) -> tuple[list[Item], list[Item], list[Item]]:
    """(kept in order, shed, hopeless): when the backlog exceeds the slack, what is worth least goes first.

    ``busy``: seconds of worker time that are spoken for (frauds in hand). An item starts no later than all work before
    it, shared among the workers, is done (Graham's bound); if it would then end after it is due, the item worth least
    for the worker time it takes, it or one before it, is shed until the rest fits. Those that are late whatever is
    shed are hopeless: not shed, and in nobody's way.
    """
    share, taken = 1.0 / max(1, workers), busy
    kept: dict[CommitmentId, Item] = {}
    shed, hopeless = [], []
    cheapest: list[tuple[float, float, CommitmentId]] = []
    for item in order(items, now):
        if slack(item, now) < 0:
            hopeless.append(item)
            continue
        kept[item.commitment] = item
        heapq.heappush(cheapest, (_density(item), -due(item), item.commitment))
        while item.commitment in kept and now + taken * share + item.ahead.replay > due(item):
            victim = kept.pop(heapq.heappop(cheapest)[2])
            shed.append(victim)
            if victim is not item:
                taken -= victim.ahead.replay
        if item.commitment in kept:
            taken += item.ahead.replay
    return list(kept.values()), shed, hopeless


def readmit(kept: Sequence[Item], away: Sequence[Item], now: UnixTime, workers: int, busy: float = 0.0) -> list[Item]:
    """Those of ``away``, shed before, for which there is room again: with each replay taken for longer than predicted,
    so that nothing swings to and fro, all that is kept still fits."""
    worth_it = [item for item in away if slack(item, now) >= 0]
    candidates = {item.commitment for item in worth_it}
    slower = [_slower(item) for item in (*kept, *worth_it)]
    fits, dropped, late = admit(slower, now, workers, busy)
    if any(item.commitment not in candidates for item in (*dropped, *late)):
        return []
    back = {item.commitment for item in fits} & candidates
    return [item for item in away if item.commitment in back]


@dataclass(frozen=True, slots=True)
class Arranged:
    """``replays`` in order, what is predicted to be late at the end; ``shed``: put aside now; ``back``: taken up again."""

    replays: list[Item]
    shed: list[Item]
    back: list[Item]


def arrange(
    queue: Sequence[Item], aside: Sequence[Item], now: UnixTime, workers: int, busy: float = 0.0, *, idle: bool = True
) -> Arranged:
    """What is to be done with ``queue`` and with what was put ``aside`` before, both with open windows. ``busy`` as in
    ``admit``; ``idle``: nothing else wants a worker."""
    kept, shed, hopeless = admit(crowded(queue, now), now, workers, busy)
    back: list[Item] = []
    if aside and not shed:
        waiting = crowded(aside, now)
        back = readmit(kept, waiting, now, workers, busy)
        if idle and not (back or kept or hopeless):
            # predictions are careful: while nobody else wants a worker, what is late by them is tried all the same
            back = order(waiting, now)[:1]
    return Arranged([*kept, *hopeless], shed, back)


def demand_by(closes: UnixTime, ahead: Ahead, margin: int) -> UnixTime:
    """When withheld data must be demanded at the latest, for the demand to stand before the window closes."""
    return UnixTime(int(closes - ahead.inclusion - ahead.depth - margin))


def look_again(now: UnixTime, until: UnixTime, tries: int, first: int) -> UnixTime:
    """When to try again what failed ``tries`` times and makes sense until ``until``: ``first`` seconds later, then
    later and later, and never beyond half of the time left; at once when none is left."""
    left = max(0, until - now)
    return UnixTime(now + min(later(tries, first), left // 2))


def later(tries: int, first: int) -> int:
    """Seconds after which to try again what failed ``tries`` times: ``first``, then twice as many, at most 32 times."""
    return first << min(max(0, tries - 1), 5)


def soon(now: UnixTime, last: UnixTime, most: int) -> UnixTime:
    """When to look again at what may be otherwise by then and must be done by ``last``: ``most`` seconds later, sooner where
    that is more than an eighth of the time left, so that many looks are left however long ``most`` is; and not before the
    chain's time has moved."""
    left = last - now
    return UnixTime(now + max(1, min(most, left // 8 if left > 0 else _AFTERWARDS)))


def _density(item: Item) -> float:
    return item.value / max(item.ahead.replay, 1e-9)


def _slower(item: Item) -> Item:
    return replace(item, ahead=replace(item.ahead, replay=item.ahead.replay * (1 + 1 / _ROOM)))
