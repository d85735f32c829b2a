"""Whether a provider's answers change over time: its record period by period, and the last one held against all before. Pure.

Each share is bounded from both sides by the bound of ``bounds.py``: the bad ones from above, and, the good ones being as
many as the rest, from below; what may still be judged counts as bad in the one and as good in the other. "Worse" is said
only where the least of the last period exceeds the most of those before.
Periods follow each other for ever and each is a new chance to be wrong, so the k-th comparison may err with probability
0.05 · 6/(π·k)²; the sum over all k is 0.05, whenever one looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from challenger.audit.bounds import ALPHA, most
from challenger.audit.records import TrackRecord, record_of
from challenger.domain import Address, Millionths, ModelId, UnixTime
from challenger.store.records import Tally


class Range(NamedTuple):
    """How many of ``closed`` answers are bad."""

    least: int
    most: int
    closed: int

    def __str__(self) -> str:
        """As a share."""
        if self.least == self.most:
            return _share(self.most, self.closed)
        return f"{_share(self.least, self.closed)} to {_share(self.most, self.closed)}"


@dataclass(frozen=True, slots=True)
class Period:
    """What was committed from ``start`` on, for one period."""

    start: UnixTime
    record: TrackRecord


@dataclass(frozen=True, slots=True)
class Change:
    """``what``: worse, better, or none that is shown. ``last`` begins at ``start``; ``before``: all earlier ones."""

    what: str
    start: UnixTime
    last: Range
    before: Range


def periods(tallies: Iterable[Tally], rate: Millionths) -> dict[tuple[Address, ModelId | None], list[Period]]:
    """By provider with all models (None) and with each, the oldest first; of tallies that were taken period by period.
    A period in which nothing was committed is left out."""
    sorted_in: dict[tuple[Address, ModelId | None], dict[UnixTime, list[Tally]]] = {}
    for tally in tallies:
        for key in ((tally.provider, None), (tally.provider, tally.model)):
            sorted_in.setdefault(key, {}).setdefault(tally.start, []).append(tally)
    return {
        (provider, model): [
            Period(start, record_of(provider, model, rows, rate)) for start, rows in sorted(starts.items())
        ]
        for (provider, model), starts in sorted_in.items()
    }


def change(found: Sequence[Period], length: int) -> Change | None:
    """The last period of which anything was drawn at the base rate, against all before it; None where there is nothing to
    compare. ``length`` of a period, in seconds."""
    seen = [period for period in found if period.record.looked]
    if len(seen) < 2:
        return None
    last, before = seen[-1].record, [period.record for period in found if period.start < seen[-1].start]
    number = (seen[-1].start - found[0].start) // length
    alpha = ALPHA * 6 / (math.pi * number) ** 2 / 2  # each comparison rests on two bounds
    of_last, of_before = _range([last], alpha), _range(before, alpha)
    what = "none"
    if of_last.least * of_before.closed > of_before.most * of_last.closed:
        what = "worse"
    elif of_last.most * of_before.closed < of_before.least * of_last.closed:
        what = "better"
    return Change(what, seen[-1].start, of_last, of_before)


def _range(records: Sequence[TrackRecord], alpha: float) -> Range:
    counts = [(one.bad, one.waiting, one.looked, one.closed) for one in records]
    bad, waiting, looked, closed = map(sum, zip(*counts, strict=True))
    rate = records[0].rate
    good = most(looked - bad + waiting, looked, closed, rate, alpha)
    return Range(closed - good, most(bad, looked, closed, rate, alpha), closed)


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.3g} %"
