"""The journal as it grows, as server-sent events.

One task looks for new entries while anybody listens; each listener reads on from the number it has come to, so that what
it missed is read, not kept. A listener that does not take what it is sent is dropped; it comes back with ``Last-Event-ID``.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web
from sqlalchemy import func, select

from challenger.shapes import shape
from challenger.store.engine import Store
from challenger.store.listed import JOURNAL, JournalFilter
from challenger.store.rows import JournalRow
from challenger.store.schema import journal
from challenger.telemetry.logs import say
from challenger.web.keys import ACCESS
from challenger.web.problems import Problem

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: between looks at the journal, between heartbeats, and for which a listener may take nothing."""

    look: float = 1.0
    beat: float = 15.0
    slow: float = 10.0


class Feed:
    """``most``: listeners at once."""

    def __init__(self, store: Store, most: int, pace: Pace | None = None) -> None:
        self._store = store
        self._most = most
        self._pace = pace or Pace()
        self._listeners = 0
        self._grown = asyncio.Condition()
        self._tip = 0
        self._stop = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        return self._listeners

    async def tip(self) -> int:
        """The number of the last entry."""
        async with self._store.read() as view:
            return int((await view.connection.execute(select(func.max(journal.c.seq)))).scalar_one() or 0)

    async def serve(self, request: web.Request, after: int | None, kind: str | None) -> web.StreamResponse:
        """Entries after number ``after`` (None: those to come), of one ``kind`` or all, until the client or we leave.

        Raises Problem 429 when too many listen."""
        if self._listeners >= self._most:
            raise Problem(429, "too many listen to the events now", headers={"Retry-After": "30"})
        self._listeners += 1
        try:
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="events")
            seq = await self.tip() if after is None else after
            response = web.StreamResponse(
                headers={
                    "Content-Type": "text/event-stream; charset=utf-8",
                    "Cache-Control": "no-store",
                    "X-Accel-Buffering": "no",
                }
            )
            await response.prepare(request)
            await self._write(response, f"retry: 3000\n: entries after {seq}\n\n")
            await self._tell(request, response, seq, kind)
        except Problem:
            say("listener-refused", address=request.remote or "?")
        except (TimeoutError, ConnectionError):
            say("listener-dropped", address=request.remote or "?")
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._listeners -= 1
        return response

    async def close(self) -> None:
        """Every listener is sent away."""
        self._stop.set()
        async with self._grown:
            self._grown.notify_all()
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _tell(self, request: web.Request, response: web.StreamResponse, seq: int, kind: str | None) -> None:
        encode = shape(JournalRow).encode
        while not self._stop.is_set():
            reached = await self.tip()
            if request.app[ACCESS].who(request) is None:
                return  # its token was revoked, or there are tokens now
            while seq < reached:
                async with self._store.read() as view:
                    wanted = JournalFilter(after=seq, kind=kind)
                    page = await view.listing.page(JOURNAL, wanted, limit=_PAGE, oldest_first=True)
                for row in page.rows:
                    body = json.dumps(encode(row), separators=(",", ":"))
                    await self._write(response, f"id: {row.seq}\ndata: {body}\n\n")
                seq = (
                    page.rows[-1].seq if page.next is not None else max(reached, page.rows[-1].seq if page.rows else 0)
                )
            try:
                async with asyncio.timeout(self._pace.beat), self._grown:
                    await self._grown.wait_for(lambda: self._tip > seq or self._stop.is_set())  # noqa: B023
            except TimeoutError:
                # of other kinds there may be entries: a client that comes back need not begin before them
                await self._write(response, f": {seq}\n\n")

    async def _write(self, response: web.StreamResponse, text: str) -> None:
        async with asyncio.timeout(self._pace.slow):
            await response.write(text.encode())

    async def _look(self) -> None:
        while self._listeners and not self._stop.is_set():
            tip = await self.tip()
            if tip != self._tip:
                async with self._grown:
                    self._tip = tip
                    self._grown.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.look):
                    await self._stop.wait()
