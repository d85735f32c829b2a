"""What ends a watcher for good, and what only makes it start again: one that has run had settings that can be used."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web

from challenger.chain.devnet.served import ServedDevnet
from challenger.sim.deploy import MarketParams, deploy
from challenger.sim.wallet import Wallet
from challenger.store import migrate
from tests.acceptance.test_several_watchers import started, write
from tests.acceptance.test_two_watchers import PATIENCE, Watcher


class Door:
    """An endpoint that sees no contract anywhere while it is ``blind``."""

    def __init__(self, url: str) -> None:
        self.inner = url
        self.blind = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.blind and isinstance(body, dict) and body["method"] == "eth_getCode":
            return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": "0x"})
        async with aiohttp.ClientSession() as session, session.post(self.inner, json=body) as response:
            return web.json_response(await response.json())

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        try:
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


async def place(stack: AsyncExitStack, folder: Path) -> tuple[Path, Door]:
    """A market on a served chain, settings for a watcher that reads it through the door, and no database yet."""
    served = await stack.enter_async_context(ServedDevnet())
    accounts = served.devnet.accounts
    wallet = Wallet(served.devnet.rpc, accounts[0].key, "deployer")
    where = await deploy(served.devnet.rpc, wallet, [accounts[1].address], MarketParams(quorum=1))
    door = Door(served.url)
    return write(folder, await stack.enter_async_context(door.served()), where.market), door


@asynccontextmanager
async def watchers(*files: Path) -> AsyncIterator[Watcher]:
    more = [word for file in files[1:] for word in ("--also", str(file))]
    command = (sys.executable, "-m", "challenger", "run", "-c", str(files[0]), *more)
    watcher = Watcher(await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE))
    try:
        yield watcher
    finally:
        await watcher.end()


async def test_one_of_several_starts_again_by_itself_and_the_others_never_stop(tmp_path):
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        files = [(await place(stack, tmp_path / name))[0] for name in ("one", "two")]
        await migrate.upgrade(f"sqlite:///{tmp_path}/one/w.sqlite")
        async with watchers(*files) as process:
            await process.says("action=watcher-restarts watcher=two/reference/31337")
            await migrate.upgrade(f"sqlite:///{tmp_path}/two/w.sqlite")
            await started(process, "two")
            await started(process, "one")
            process.process.send_signal(signal.SIGTERM)
            assert await process.process.wait() == 0
            assert len([line for line in process.said if "action=started watcher=one/" in line]) == 1


async def test_after_a_lost_lease_no_answer_of_an_endpoint_ends_it_as_a_mistake_in_the_settings_does(tmp_path):
    async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
        file, door = await place(stack, tmp_path / "one")
        database = tmp_path / "one" / "w.sqlite"
        await migrate.upgrade(f"sqlite:///{database}")
        async with watchers(file) as process:
            await process.says("action=started")
            door.blind = True
            with sqlite3.connect(database, timeout=30) as connection:
                connection.execute("UPDATE fences SET token = token + 1, expires = 0")
            await process.says("action=lease-lost")
            await process.says("there is no contract")
            before = len(process.said)
            door.blind = False
            await process.says("action=started", after=before)
            process.process.send_signal(signal.SIGTERM)
            assert await process.process.wait() == 0
