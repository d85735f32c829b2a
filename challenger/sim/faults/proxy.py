"""A JSON-RPC endpoint over real HTTP on loopback that fails as real ones do: what breaks here breaks on the wire.

It stands before anything with web3's ``make_request``: a devnet, a node by URL, or a ``FaultyProvider``, for an endpoint
that lies or lags besides. Which faults strike is the plan's (``Engine``), with dice for each of its own: the same
requests in the same order meet the same faults.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web

from challenger.chain import wire
from challenger.chain.rpc import Provider
from challenger.errors import ChallengerError, ConfigError
from challenger.sim.faults import answers
from challenger.sim.faults.engine import Engine
from challenger.sim.faults.kinds import Episode, Fault

#: Those that strike on the wire.
ON_THE_WIRE = (Fault.LATENCY, Fault.TIMEOUT, Fault.LIMITS, Fault.SERVER, Fault.BATCHES, Fault.GARBAGE)
#: Episodes without an end.
FOREVER = 10**9
_MAX_REQUEST = 8 * 2**20
_PART = 2**20
_PAGE = b"<html><body><h1>Bad gateway</h1></body></html>"
#: ``Retry-After`` in all its forms: none, seconds, a date (long past: one to come would be a rest of an hour), and what is
#: neither.
RETRY_AFTER = (None, "0", "30", "Wed, 21 Oct 2015 07:28:00 GMT", "soon")


@dataclass(frozen=True, slots=True)
class Pace:
    """Real seconds: ``latency``, the most that an answer is late; ``silence``, after which one that never comes is given
    up here. ``oversize``: bytes of an endless body. ``retry_after``: what a limit may say."""

    latency: float = 1.0
    silence: float = 60.0
    oversize: int = 66 * 2**20
    retry_after: tuple[str | None, ...] = RETRY_AFTER


class _Cut(Exception):
    """the connection ends here"""


class FaultyProxy:
    """Async context manager; while it lasts endpoint number ``where`` answers at ``url``. ``port`` 0 picks a free one."""

    def __init__(
        self, upstream: Provider, engine: Engine, where: int, *, pace: Pace | None = None, port: int = 0
    ) -> None:
        self.url = ""
        self._upstream = upstream
        self._engine = engine
        self._where = where
        self._pace = pace or Pace()
        self._port = port
        self._closing = asyncio.Event()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            app = web.Application(client_max_size=_MAX_REQUEST)
            app.router.add_post("/", self._serve)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stack.callback(self._closing.set)
            try:
                await web.TCPSite(runner, "127.0.0.1", self._port).start()
            except OSError as error:
                raise ConfigError(f"cannot listen: {error.strerror}", port=self._port) from None
            self.url = "http://{}:{}".format(*runner.addresses[0][:2])
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            return await self._answer(request, body)
        except _Cut:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None  # nothing more is to be written to this connection

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        dice = self._engine.dice(f"wire {self._where}")
        if self._strikes(Fault.LATENCY):
            await self._wait(dice.uniform(0.0, self._pace.latency))
        if self._strikes(Fault.LIMITS):
            return self._limited(dice)
        if self._strikes(Fault.TIMEOUT):
            if dice.randrange(2):  # it arrived, only the answer did not
                await self._asked(body)
            await self._wait(self._pace.silence)
            raise _Cut
        broken = self._strikes(Fault.SERVER)
        if broken and dice.randrange(2):
            return web.Response(status=dice.choice((500, 502, 503, 504)), body=_PAGE, content_type="text/html")
        told = await self._asked(body)
        if isinstance(told, list) and self._strikes(Fault.BATCHES):
            told = _disordered(told, dice)
        if self._strikes(Fault.GARBAGE):
            return await self._garbage(request, told, dice)
        if broken:
            await self._cut_short(request, json.dumps(told).encode(), dice)
        return web.json_response(told)

    def _strikes(self, fault: Fault) -> bool:
        return self._engine.strikes(fault, f"{fault} {self._where}", self._where) is not None

    async def _wait(self, seconds: float) -> None:
        """Seconds, or until the proxy is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    # the truth

    async def _asked(self, body: bytes) -> Any:
        """The answer of who stands behind, single or as a batch."""
        try:
            asked = wire.parse_json(body)
        except ValueError:
            return _error(None, -32700, "parse error")
        if isinstance(asked, list):
            return [await self._one(each) for each in asked]
        return await self._one(asked)

    async def _one(self, asked: Any) -> dict[str, Any]:
        if not isinstance(asked, dict) or not isinstance(asked.get("params", []), list):
            return _error(None, -32600, "invalid request")
        number = asked.get("id")
        try:
            answer = await self._upstream.make_request(asked.get("method"), asked.get("params", []))
        except ChallengerError as error:
            return _error(number, -32603, str(error))
        return {"jsonrpc": "2.0", **answer, "id": number}

    # what becomes of it

    def _limited(self, dice: random.Random) -> web.Response:
        """429 or 503, sometimes with the JSON that providers put there."""
        says = dice.choice(self._pace.retry_after)
        headers = {} if says is None else {"Retry-After": says}
        status = 429 if says is None else dice.choice((429, 503))
        if dice.randrange(2):
            return web.Response(status=status, headers=headers, text="slow down")
        limit = _error(None, -32005, "daily request count exceeded, request rate limited")
        return web.json_response(limit, status=status, headers=headers)

    async def _cut_short(self, request: web.Request, body: bytes, dice: random.Random) -> None:
        """The headers promise the whole body, and the connection ends within it."""
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: dice.randrange(len(body))])
        raise _Cut

    async def _garbage(self, request: web.Request, told: Any, dice: random.Random) -> web.StreamResponse:
        match dice.randrange(5):
            case 0:  # JSON, and no answer to what was asked
                spoilt = (
                    [answers.garbage(a, dice) for a in told] if isinstance(told, list) else answers.garbage(told, dice)
                )
                return web.json_response(spoilt)
            case 1:  # no JSON
                return web.Response(body=json.dumps(told).encode()[:-1], content_type="application/json")
            case 2:  # nesting without end
                return web.Response(body=b"[" * 100_000, content_type="application/json")
            case 3:  # the right answer by the wrong name: nobody should mind
                return web.Response(body=json.dumps(told).encode(), content_type="text/html", charset="latin-1")
            case _:
                return await self._endless(request)

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            for _ in range(0, self._pace.oversize, _PART):
                await response.write(b" " * _PART)
        except ConnectionError:
            raise _Cut from None  # who asked has had enough
        return response


def lasting(rates: Mapping[Fault, int], endpoints: int) -> tuple[Episode, ...]:
    """Each fault at each endpoint for as long as the world lasts, at its rate: per cent of the requests."""
    return tuple(Episode(one, 0, FOREVER, where, rate) for one, rate in rates.items() for where in range(endpoints))


def _disordered(told: list[Any], dice: random.Random) -> Any:
    """Refused, truncated, or in another order."""
    match dice.randrange(3):
        case 0:
            return _error(None, -32600, "batch requests are not supported")
        case 1:
            return told[: dice.randrange(len(told))]
        case _:
            return dice.sample(told, len(told))


def _error(number: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}
