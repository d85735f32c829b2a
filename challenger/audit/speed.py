"""How long things take, from counts of equal durations. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from challenger.domain import Address, ModelId
from challenger.store.records import Took


class Speed(NamedTuple):
    """Of ``answers`` half took at most ``median`` seconds of chain time, and 95 of 100 at most ``p95``."""

    answers: int
    median: int
    p95: int


def speeds(took: Iterable[Took]) -> dict[tuple[Address, ModelId | None], Speed]:
    """By provider with all models (None) and with each."""
    durations: dict[tuple[Address, ModelId | None], Counter[int]] = {}
    for one in took:
        for key in ((one.provider, None), (one.provider, one.model)):
            durations.setdefault(key, Counter())[one.seconds] += one.answers
    return {key: _speed(counts) for key, counts in durations.items()}


def _speed(counts: Counter[int]) -> Speed:
    total = counts.total()
    return Speed(total, _rank(counts, -(-total // 2)), _rank(counts, -(-total * 95 // 100)))


def _rank(counts: Counter[int], rank: int) -> int:
    """The ``rank``-th smallest, from 1."""
    for seconds in sorted(counts):
        rank -= counts[seconds]
        if rank <= 0:
            return seconds
    raise ValueError("there are fewer")
