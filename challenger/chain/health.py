"""What is known of one endpoint's fitness: failures, rest, lag, chain, and how much it takes at once. No I/O, no clock:
times are handed in, seconds of any monotonic clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from challenger.chain.span import Span

#: Requests in one batch at the start, and after how many batches in a row it may grow again.
BATCH = 100
_CALM = 32


@dataclass(frozen=True, slots=True)
class Resting:
    """``first``: seconds of rest after the first failure, doubling with each up to ``longest``; a tenth of jitter, so
    that several watchers do not come back together. ``limited``: rest after a rate limit that names no time."""

    first: float = 1.0
    longest: float = 120.0
    limited: float = 2.0


@dataclass(slots=True)
class Health:
    """``why``: empty while the endpoint may be used. ``wrong``: it serves another chain. ``lags``: seconds of chain time
    behind the best, 0 when that is within bounds. ``head``: (number, time) of its newest block as last seen."""

    failures: int = 0
    rests_until: float = 0.0
    #: an explicit wish of the endpoint, which is kept even when no other is left
    asked: bool = False
    wrong: str = ""
    lags: int = 0
    head: tuple[int, int] | None = None
    why: str = ""
    batch: int = BATCH
    calm: int = 0
    span: Span | None = field(default=None)

    def fit(self, now: float) -> bool:
        """Whether it is read from first. After a rest one request tries it: it fails, and rests longer, or is well."""
        return not self.wrong and not self.lags and now >= self.rests_until

    def usable(self, now: float) -> bool:
        """Whether it is read from when no fit one answers: better one that failed or lags than none."""
        return not self.wrong and not (self.asked and now < self.rests_until)

    def answered(self) -> None:
        self.failures, self.rests_until, self.asked = 0, 0.0, False

    def failed(self, now: float, why: str, resting: Resting, rng: random.Random) -> None:
        self.failures += 1
        pause = min(resting.longest, resting.first * 2 ** min(self.failures - 1, 20))
        self._rest(now + pause * rng.uniform(0.9, 1.0), why, asked=False)

    def limited(self, now: float, why: str, seconds: float | None, resting: Resting) -> None:
        """It asked to slow down: no failure, a rest. The next batch is smaller."""
        self.batch = max(1, self.batch // 2)
        self._rest(now + (resting.limited if seconds is None else seconds), why, asked=True)

    def distrusted(self, now: float, why: str, resting: Resting) -> None:
        """It was caught serving something false or incomplete."""
        self.failures += 1
        self._rest(now + resting.longest, why, asked=False)

    def _rest(self, until: float, why: str, *, asked: bool) -> None:
        self.rests_until, self.asked, self.why = max(until, self.rests_until), asked, why

    def batch_refused(self) -> None:
        self.batch, self.calm = self.batch // 2, 0

    def batch_answered(self) -> None:
        self.calm += 1
        if self.calm >= _CALM:
            self.batch, self.calm = min(BATCH, max(2, self.batch * 2)), 0

    def range_refused(self, width: int) -> None:
        if self.span is None:
            self.span = Span(blocks=width, widest=width)
        self.span.refused(width)


def best_head(heads: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The head that others are measured against: the highest, or of three and more the second, so that one endpoint
    that invents a head makes nobody else look late."""
    ranked = sorted(heads, reverse=True)
    return None if not ranked else ranked[1 if len(ranked) >= 3 else 0]
