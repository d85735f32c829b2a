"""The embedded devnet behind loopback JSON-RPC, so that it outlives the processes that use it; and its client."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from aiohttp import web

from challenger.chain import wire
from challenger.chain.devnet.base import ACCOUNTS, FUNDS, Account
from challenger.chain.devnet.controls import Controls
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Options
from challenger.chain.endpoint import connect
from challenger.chain.rpc import Provider, Rpc
from challenger.domain import Address
from challenger.errors import ConfigError, RpcError

_MAX_REQUEST = 8 * 2**20
_MAX_BATCH = 1000


class ServedDevnet:
    """Async context manager; while it lasts the chain answers at ``url``. ``port`` 0 picks a free one; ``interval``
    mines a block every so many seconds instead of one per transaction."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        count: int = ACCOUNTS,
        funds: int = FUNDS,
        options: Options | None = None,
        interval: float | None = None,
    ) -> None:
        if not _is_loopback(host):
            raise ConfigError("a devnet is served on loopback only: its keys are public", host=host)
        self.devnet = EmbeddedDevnet(count=count, funds=funds, options=options)
        self.url = ""
        self._host = host
        self._port = port
        self._interval = interval
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.devnet)
            app = web.Application(client_max_size=_MAX_REQUEST)
            app.router.add_post("/", self._answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, self._host, self._port)
            try:
                await site.start()
            except OSError as error:
                raise ConfigError(f"cannot listen: {error.strerror}", host=self._host, port=self._port) from None
            host, port = runner.addresses[0][:2]
            self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            if self._interval is not None:
                await self.devnet.automine(False)
                ticking = asyncio.create_task(self._tick(self._interval), name="devnet-interval")
                stack.push_async_callback(_stopped, ticking)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _tick(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self.devnet.mine()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        answer = await self.devnet.run(lambda methods: _answered(methods, body))
        return web.Response(body=answer, content_type="application/json")


async def serve(
    host: str,
    port: int,
    *,
    options: Options | None = None,
    count: int = ACCOUNTS,
    interval: float | None = None,
    ready: Callable[[ServedDevnet], None] = lambda _served: None,
) -> None:
    """Serves until cancelled; ``ready`` is told once requests are answered. ``ConfigError``: it cannot listen there."""
    async with ServedDevnet(host, port, count=count, options=options, interval=interval) as served:
        ready(served)
        await asyncio.Event().wait()


class RemoteDevnet(Controls):
    """A served devnet, driven from another process. ``ConfigError``: what answers at ``url`` is no devnet of ours."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._accounts: tuple[Account, ...] = ()
        self._stack = AsyncExitStack()

    @property
    def provider(self) -> Provider:
        return self.rpc.provider

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._accounts

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            rpc = await stack.enter_async_context(connect(self._url, timeout=60.0))
            self._accounts = await _accounts(rpc)
            self._rpc = rpc
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


async def _accounts(rpc: Rpc) -> tuple[Account, ...]:
    try:
        listed = await rpc.ask("devnet_accounts")
        return tuple(Account(Address(one["address"]), bytes.fromhex(one["key"][2:])) for one in listed)
    except (RpcError, TypeError, KeyError, ValueError):
        raise ConfigError("the endpoint is not a devnet of ours", endpoint=rpc.name) from None


async def _stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Exception):
        raise outcome


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answered(methods: Methods, body: bytes) -> bytes:
    try:
        request = wire.parse_json(body)
    except ValueError:
        return json.dumps(_error(None, -32700, "parse error")).encode()
    if not isinstance(request, list):
        return json.dumps(_one(methods, request)).encode()
    if not 1 <= len(request) <= _MAX_BATCH:
        return json.dumps(_error(None, -32600, f"a batch has 1 to {_MAX_BATCH} requests")).encode()
    return json.dumps([_one(methods, one) for one in request]).encode()


def _one(methods: Methods, request: Any) -> dict[str, Any]:
    if not isinstance(request, dict) or "method" not in request:
        return _error(None, -32600, "invalid request")
    answer_id = request.get("id")
    if not isinstance(answer_id, str | int | float | None):
        return _error(None, -32600, "invalid request id")
    return {"id": answer_id} | methods.handle(request["method"], request.get("params", []))


def _error(answer_id: Any, code: int, message: str) -> dict[str, Any]:
    return {"id": answer_id, "jsonrpc": "2.0", "error": {"code": code, "message": message}}
