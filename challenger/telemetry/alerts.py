"""Alerts: what a person must know. Raised once while their condition lasts, logged, counted, journalled, handed on.

``alert`` is called from anywhere, does no I/O and cannot fail; ``deliver`` takes what waits to the journal and to the
operator's hook, in a task of its own, so that a hook that hangs delays nothing but other alerts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from challenger.telemetry.logs import say, say_fields, shown
from challenger.telemetry.metrics import ALERTS, ALERTS_ACTIVE, HOOK_FAILURES, Metrics, Silent

#: Alerts that wait to be delivered; of more the oldest are given up, having been logged.
_WAITING = 1_000


class Severity(StrEnum):
    """``critical``: money or a deadline is at stake now; ``warning``: it will be if nobody looks."""

    WARNING = "warning"
    CRITICAL = "critical"


#: name → how bad it is. ``docs/operators.md`` says what each means and what to do; a test holds the two together.
SEVERITY = {
    "predicted-miss": Severity.CRITICAL,
    "missed": Severity.CRITICAL,
    "shed": Severity.WARNING,
    "stale-head": Severity.CRITICAL,
    "disagreement": Severity.CRITICAL,
    "endpoint": Severity.WARNING,
    "false-logs": Severity.CRITICAL,
    "paused": Severity.CRITICAL,
    "approval": Severity.CRITICAL,
    "selftest-missed": Severity.CRITICAL,
    "selftest-undecided": Severity.WARNING,
    "planted-filing": Severity.CRITICAL,
    "bug": Severity.CRITICAL,
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert as it is delivered. ``about``: what it is about (a commitment's id, an endpoint), may be empty;
    ``fields``: plain values, bytes as 0x hex; ``raised`` is this machine's clock, seconds."""

    name: str
    severity: Severity
    about: str
    fields: Mapping[str, Any]
    raised: float


class Sink(Protocol):
    """Where notices go: the journal, a hook. What it raises is said and counted, and that is all."""

    async def take(self, notice: Notice) -> None: ...


class Alerts:
    """``repeat``: seconds after which a condition that still lasts is said again."""

    def __init__(
        self, metrics: Metrics | None = None, *, repeat: float = 3_600, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics or Silent()
        self._outlets: list[_Outlet] = []
        self._repeat = repeat
        self._clock = clock
        self._active: dict[tuple[str, str], float] = {}

    def send_to(self, sink: Sink) -> None:
        """Every alert from now on goes there too."""
        self._outlets.append(_Outlet(sink, self._metrics))

    def alert(self, name: str, severity: Severity | None = None, /, *, about: str = "", **fields: Any) -> bool:
        """Raises alert ``name`` about ``about``, unless it stands already; True when it was news.

        ``severity``: None takes the one of ``SEVERITY``. Nothing secret belongs in a field.
        """
        now, key = self._clock(), (name, about)
        since = self._active.get(key)
        if since is not None and now - since < self._repeat:
            return False
        self._active[key] = now
        how_bad = severity or SEVERITY.get(name, Severity.CRITICAL)
        plain = {field: shown(value) for field, value in fields.items()}
        say_fields("alert", logging.ERROR, {"name": name, "severity": how_bad.value, "about": about, **plain})
        self._metrics.count(ALERTS, name=name, severity=how_bad.value)
        self._metrics.set(ALERTS_ACTIVE, self._standing(name), name=name)
        notice = Notice(name, how_bad, about, plain, time.time())
        for outlet in self._outlets:
            outlet.put(notice)
        return True

    def clear(self, name: str, about: str = "") -> None:
        """The condition is over; should it come back, it is news."""
        if self._active.pop((name, about), None) is not None:
            say_fields("alert-cleared", logging.INFO, {"name": name, "about": about})
            self._metrics.set(ALERTS_ACTIVE, self._standing(name), name=name)

    def standing(self, name: str, conditions: Mapping[str, Mapping[str, Any]]) -> None:
        """Exactly these conditions of ``name`` hold now (``about`` → fields): new ones are raised, others cleared."""
        for there, about in list(self._active):
            if there == name and about not in conditions:
                self.clear(name, about)
        for about, fields in conditions.items():
            self.alert(name, about=about, **fields)

    def active(self) -> list[tuple[str, str]]:
        """(name, about) of every condition that lasts."""
        return sorted(self._active)

    async def deliver(self) -> None:
        """Hands on what waits, to all sinks at once; returns when each has had all."""
        await asyncio.gather(*(outlet.drain() for outlet in self._outlets))

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until ``stop`` is set, and what is left then. A sink that hangs delays no other."""
        await asyncio.gather(*(outlet.run(stop) for outlet in self._outlets))

    def _standing(self, name: str) -> int:
        return sum(there == name for there, _ in self._active)


class _Outlet:
    """One sink and what waits for it."""

    def __init__(self, sink: Sink, metrics: Metrics) -> None:
        self._sink = sink
        self._metrics = metrics
        self._waiting: deque[Notice] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()

    def put(self, notice: Notice) -> None:
        self._waiting.append(notice)
        self._news.set()

    async def drain(self) -> None:
        self._news.clear()
        while self._waiting:
            notice = self._waiting.popleft()
            try:
                await self._sink.take(notice)
            except Exception as error:  # noqa: BLE001 - an alert that reaches nobody must not end the watch as well
                say("alert-not-delivered", level=logging.WARNING, name=notice.name, error=str(error))
                self._metrics.count(HOOK_FAILURES)

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                await self.drain()
                news = asyncio.ensure_future(self._news.wait())
                await asyncio.wait([news, stopping], return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
            await self.drain()
        finally:
            stopping.cancel()
