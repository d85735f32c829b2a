"""What waits for each sink of alerts, and when it is handed over: one by one, or together as one message."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from challenger.telemetry.logs import say
from challenger.telemetry.metrics import HOOK_FAILURES, Metrics
from challenger.telemetry.notice import Notice

#: Alerts that wait to be delivered; of more the oldest are given up, having been logged.
_WAITING = 1_000
#: Seconds from the first alert of a message to its sending, for what comes with it.
_SETTLE = 3.0
#: Times that a message is tried, later and later; seconds between two tries at most.
_TRIES, _LONGEST = 5, 900.0

#: Waits until the event is set or so many seconds have passed.
Pause = Callable[[asyncio.Event, float], Awaitable[None]]


class Sink(Protocol):
    """Where notices go: the journal, a hook. What it raises is said and counted, and that is all."""

    async def take(self, notice: Notice) -> None: ...


class Crier(Protocol):
    """Where notices go together. What it raises is said, and all of them are handed over again later."""

    async def tell(self, notices: Sequence[Notice]) -> None: ...


class Outlet:
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
        while not stop.is_set():
            await self.drain()
            await _either(stop, self._news)
        await self.drain()


class Grouped:
    """One crier and what waits for it. At least ``gap`` seconds lie between two messages; each holds all that came
    meanwhile, so that a storm is one message."""

    def __init__(
        self, crier: Crier, metrics: Metrics, gap: float, wanted: Callable[[Notice], bool], pause: Pause
    ) -> None:
        self._crier = crier
        self._metrics = metrics
        self._gap = gap
        self._wanted = wanted
        self._pause = pause
        self._waiting: deque[Notice] = deque(maxlen=_WAITING)
        self._news = asyncio.Event()
        self._tries = 0

    def put(self, notice: Notice) -> None:
        if self._wanted(notice):
            self._waiting.append(notice)
            self._news.set()

    async def drain(self) -> None:
        """One message of all that waits. One that fails stays, until it has failed too often."""
        self._news.clear()
        notices = list(self._waiting)
        self._waiting.clear()
        if not notices:
            return
        try:
            await self._crier.tell(notices)
        except Exception as error:  # noqa: BLE001 - as above
            self._tries += 1
            more = self._tries < _TRIES
            say("notification-failed", level=logging.WARNING, alerts=len(notices), again=more, error=str(error))
            if more:
                self._waiting = deque([*notices, *self._waiting], maxlen=_WAITING)
                self._news.set()
                return
            self._metrics.count(HOOK_FAILURES, len(notices))
        self._tries = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _either(stop, self._news)
            if not self._tries:
                await self._pause(stop, min(_SETTLE, self._gap))
            if not stop.is_set():
                await self.drain()
                await self._pause(stop, min(self._gap * 2**self._tries, max(_LONGEST, self._gap)))
        await self.drain()


async def until(stop: asyncio.Event, seconds: float) -> None:
    """``Pause`` by the loop's clock."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def _either(first: asyncio.Event, second: asyncio.Event) -> None:
    """Waits until one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in (first, second)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
