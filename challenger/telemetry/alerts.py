"""Alerts: what a person must know. Raised once while their condition lasts, logged, counted, journalled, handed on.

``alert`` is called from anywhere, does no I/O and cannot fail; ``deliver`` takes what waits to the journal and to the
operator's hook, in a task of its own, so that a hook that hangs delays nothing but other alerts.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from challenger.telemetry.logs import say_fields, shown
from challenger.telemetry.metrics import ALERTS, ALERTS_ACTIVE, Metrics, Silent
from challenger.telemetry.notice import SEVERITY, Notice, Severity
from challenger.telemetry.outlets import Crier, Grouped, Outlet, Pause, Sink, until

__all__ = ["SEVERITY", "Alerts", "Notice", "Severity", "Sink"]

_LEVEL = {Severity.INFO: logging.INFO, Severity.WARNING: logging.ERROR, Severity.CRITICAL: logging.ERROR}


class Alerts:
    """``repeat``: seconds after which a condition that still lasts is said again."""

    def __init__(
        self, metrics: Metrics | None = None, *, repeat: float = 3_600, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics or Silent()
        self._outlets: list[Outlet | Grouped] = []
        self._repeat = repeat
        self._clock = clock
        self._active: dict[tuple[str, str], float] = {}

    def send_to(self, sink: Sink) -> None:
        """Every alert from now on goes there too."""
        self._outlets.append(Outlet(sink, self._metrics))

    def cry_to(self, crier: Crier, gap: float, wanted: Callable[[Notice], bool], pause: Pause = until) -> None:
        """Those alerts from now on that are ``wanted`` go there too, together: ``gap`` seconds between two messages."""
        self._outlets.append(Grouped(crier, self._metrics, gap, wanted, pause))

    def alert(self, name: str, severity: Severity | None = None, /, *, about: str = "", **fields: Any) -> bool:
        """Raises alert ``name`` about ``about``, unless it stands already; True when it was news.

        ``severity``: None takes the one of ``SEVERITY``. Nothing secret belongs in a field.
        """
        now, key = self._clock(), (name, about)
        since = self._active.get(key)
        if since is not None and now - since < self._repeat:
            return False
        self._active[key] = now
        self._metrics.set(ALERTS_ACTIVE, self._standing(name), name=name)
        self._tell(name, severity or SEVERITY.get(name, Severity.CRITICAL), about, fields)
        return True

    def event(self, name: str, /, *, about: str = "", **fields: Any) -> None:
        """As ``alert``, for what happened and does not last: told each time, and never stands."""
        self._tell(name, SEVERITY.get(name, Severity.CRITICAL), about, fields)

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
        async with asyncio.TaskGroup() as group:
            for outlet in self._outlets:
                group.create_task(outlet.drain())

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until ``stop`` is set, and what is left then. A sink that hangs delays no other."""
        # a group, which waits for all: one that is cancelled has its process to end first
        async with asyncio.TaskGroup() as group:
            for outlet in self._outlets:
                group.create_task(outlet.run(stop))

    def _tell(self, name: str, how_bad: Severity, about: str, fields: Mapping[str, Any]) -> None:
        plain = {field: shown(value) for field, value in fields.items()}
        say_fields("alert", _LEVEL[how_bad], {"name": name, "severity": how_bad.value, "about": about, **plain})
        self._metrics.count(ALERTS, name=name, severity=how_bad.value)
        notice = Notice(name, how_bad, about, plain, time.time())
        for outlet in self._outlets:
            outlet.put(notice)

    def _standing(self, name: str) -> int:
        return sum(there == name for there, _ in self._active)
