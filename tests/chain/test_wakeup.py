"""A head heard over the WebSocket ends a wait early; its loss changes nothing but that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from challenger.chain.wakeup import Wakeup, pause


class Server:
    """Takes subscriptions and tells of heads; ``drop`` closes the connection at once."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.drops = 0
        self.connected = asyncio.Event()

    async def answer(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if self.drops:
            self.drops -= 1
            await socket.close()
            return socket
        self.sockets.append(socket)
        self.asked.append(await socket.receive_str())
        self.connected.set()
        async for _message in socket:
            pass
        return socket

    async def head(self) -> None:
        await self.sockets[-1].send_str('{"method": "eth_subscription", "params": {}}')


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def listening(wakeup: Wakeup) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(wakeup.run(stop))
        yield stop
        stop.set()


async def test_a_head_ends_a_wait():
    async with served() as server:
        wakeup = Wakeup(server.url)
        async with listening(wakeup) as stop:
            await server.connected.wait()
            assert "newHeads" in server.asked[0]
            await server.head()
            await pause(stop, wakeup.heard, 3_600)
            assert not wakeup.heard.is_set(), "what was heard is used up"


async def test_a_lost_connection_is_made_again():
    async with served() as server:
        server.drops = 3
        wakeup = Wakeup(server.url, backoff=(0.0, 0.0))
        async with listening(wakeup) as stop:
            await server.connected.wait()
            server.connected.clear()
            await server.sockets[-1].close()
            await server.connected.wait()
            await server.head()
            await pause(stop, wakeup.heard, 3_600)
        assert len(server.asked) == 2


async def test_silence_counts_as_a_loss():
    async with served() as server:
        async with listening(Wakeup(server.url, silence=0.01, backoff=(0.0, 0.0))):
            while len(server.asked) < 3:
                server.connected.clear()
                await server.connected.wait()
        assert len(server.asked) >= 3


async def test_where_nobody_listens_it_tries_on_and_stops_when_told():
    wakeup = Wakeup("ws://127.0.0.1:1/", backoff=(0.0, 0.0))
    async with listening(wakeup):
        await asyncio.sleep(0)
    assert not wakeup.heard.is_set()


async def test_without_a_socket_it_is_a_wait_that_stop_ends():
    stop = asyncio.Event()
    await pause(stop, None, 0.0)
    stop.set()
    await pause(stop, None, 3_600)
    assert stop.is_set()
