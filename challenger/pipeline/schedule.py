"""Order of work by slack: time to the window's close, less what is still to be done before it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import CommitmentId, UnixTime


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
    commitment: CommitmentId
    closes: UnixTime
    value: int
    ahead: Ahead


def slack(item: Item, now: UnixTime) -> float:
    """Seconds to spare; negative when the predicted work no longer fits the window."""
    return item.closes - now - item.ahead.total()


def order(items: list[Item], now: UnixTime) -> list[Item]:
    """Least slack first; of equals the worthier, then by id, so that the order is total."""
    return sorted(items, key=lambda item: (slack(item, now), -item.value, item.commitment))


def admit(items: list[Item], now: UnixTime, workers: int) -> tuple[list[Item], list[Item]]:
    """(kept in order, shed): when the backlog exceeds the slack, what is worth least goes first.

    Each worker replays one item at a time, most urgent first; an item that would finish after its window is the
    sign of overload, and the least valuable item at or before it is shed until the rest fits.
    """
    kept, shed = order(items, now), []
    while kept:
        late = _first_late(kept, now, workers)
        if late is None:
            break
        victim = min(kept[: late + 1], key=lambda item: (item.value, -slack(item, now), item.commitment))
        kept.remove(victim)
        shed.append(victim)
    return kept, shed


def _first_late(items: list[Item], now: UnixTime, workers: int) -> int | None:
    busy = [0.0] * max(1, workers)
    for index, item in enumerate(items):
        soonest = min(range(len(busy)), key=busy.__getitem__)
        busy[soonest] += item.ahead.replay + item.ahead.confirm
        if now + busy[soonest] + item.ahead.inclusion + item.ahead.depth > item.closes:
            return index
    return None
