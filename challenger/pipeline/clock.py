"""Chain time, read anew for each action. It never runs back, whatever an endpoint that lags says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from challenger.domain import Block, UnixTime
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import HEAD_AGE


class Heads(Protocol):
    async def block(self, which: int | bytes | str) -> Block: ...


class ChainClock:
    """``stale``: seconds that the newest block may be older than this machine's clock before an alert is raised; None
    for a chain whose time is its own (a devnet)."""

    def __init__(
        self,
        chain: Heads,
        telemetry: Instruments,
        *,
        stale: float | None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._chain = chain
        self._telemetry = telemetry
        self._stale = stale
        self._wall = wall
        self._latest = UnixTime(0)

    @property
    def latest(self) -> UnixTime:
        """The latest chain time seen."""
        return self._latest

    async def __call__(self) -> UnixTime:
        """The time of the endpoint's newest block, or the latest ever seen when that is later."""
        return self.seen((await self._chain.block("latest")).time)

    def seen(self, time_of_head: UnixTime) -> UnixTime:
        """As the call, for a head that was read already."""
        self._latest = max(self._latest, time_of_head)
        age = self._wall() - time_of_head
        self._telemetry.metrics.set(HEAD_AGE, age)
        old = self._stale is not None and age > self._stale
        self._telemetry.health.head(old=old)
        if old:
            self._telemetry.alerts.alert("stale-head", age=int(age), head_time=time_of_head, latest=self._latest)
        else:
            self._telemetry.alerts.clear("stale-head")
        return self._latest
