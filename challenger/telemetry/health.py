"""Whether the watcher makes progress: what ``/readyz`` answers."""

from __future__ import annotations

import time
from collections.abc import Callable


class Health:
    """``limit``: seconds without a look at the chain that came to its end after which it is not ready. ``clock``:
    monotonic seconds."""

    def __init__(self, limit: float = 120.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._looked: float | None = None
        self._old = False
        self._began = clock()

    def looked(self) -> None:
        """The chain was read as far as it goes, or as far as one look goes."""
        self._looked = self._clock()

    def head(self, *, old: bool) -> None:
        """Whether the newest block is older than it may be."""
        self._old = old

    def stalled(self) -> int | None:
        """Seconds since the chain was read last, or since the start, where these are too many."""
        passed = self._clock() - (self._began if self._looked is None else self._looked)
        return int(passed) if passed > self._limit else None

    def trouble(self) -> str:
        """Why it is not ready; empty when it is."""
        if self._looked is None:
            return "the chain was not read yet"
        passed = self._clock() - self._looked
        if passed > self._limit:
            return f"the chain was last read {passed:.0f} s ago"
        return "the newest block is older than [telemetry] stale_seconds" if self._old else ""
