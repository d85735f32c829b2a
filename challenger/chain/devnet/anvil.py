"""The devnet on foundry's anvil, when its binary is there (npm ``@foundry-rs/anvil`` has it)."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from challenger.chain.devnet.base import ACCOUNTS, CHAIN_ID, FUNDS, Account, DevnetError, accounts
from challenger.chain.devnet.controls import Controls
from challenger.chain.endpoint import connect
from challenger.chain.rpc import Provider, Rpc
from challenger.errors import ConfigError

_LISTENING = re.compile(rb"Listening on (127\.0\.0\.1:\d+)")


def find_anvil(path: Path | None = None) -> Path | None:
    """The binary at ``path``, else on PATH; None when there is none."""
    found = shutil.which("anvil") if path is None else shutil.which(path)
    return None if found is None else Path(found)


class AnvilDevnet(Controls):
    """An anvil of its own: started on entering, ended on leaving. ``ConfigError`` when there is no binary or it does
    not start within ``patience`` seconds."""

    def __init__(
        self, path: Path | None = None, *, count: int = ACCOUNTS, funds: int = FUNDS, patience: float = 20.0
    ) -> None:
        super().__init__()
        self._path = path
        self._accounts = accounts(count)
        self._funds = funds
        self._patience = patience
        self._stack = AsyncExitStack()

    @property
    def provider(self) -> Provider:
        return self.rpc.provider

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._accounts

    async def __aenter__(self) -> Self:
        binary = find_anvil(self._path)
        if binary is None:
            raise ConfigError("anvil is not here: npm install @foundry-rs/anvil, or give its path", path=self._path)
        arguments = ["--host", "127.0.0.1", "--port", "0", "--chain-id", str(CHAIN_ID), "--accounts", "1"]
        async with AsyncExitStack() as stack:
            # a session of its own: npm's anvil is a wrapper, and its child must end with it
            process = await asyncio.create_subprocess_exec(
                binary, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
            )
            stack.push_async_callback(_end, process)
            assert process.stdout is not None
            try:
                async with asyncio.timeout(self._patience):
                    url = await _url(process.stdout)
            except TimeoutError:
                raise ConfigError("anvil did not start in time", path=binary) from None
            draining = asyncio.create_task(_drain(process.stdout), name="anvil-output")
            stack.push_async_callback(_cancelled, draining)
            self._rpc = await stack.enter_async_context(connect(url, timeout=60.0))
            for account in self._accounts:
                await self._command("anvil_setBalance", account.address, hex(self._funds))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def mine(self, blocks: int = 1) -> None:
        await self._command("anvil_mine", hex(blocks))

    async def time_travel(self, *, to: int | None = None, by: int | None = None) -> None:
        if (to is None) == (by is None):
            raise DevnetError("time_travel takes either `to` or `by`")
        if by is not None:
            to = (await self.rpc.block("pending")).time + by
        assert to is not None
        await self.next_time(to)
        await self.mine()

    async def reorg(self, depth: int, blocks: int | None = None, *, keep: bool = False) -> None:
        head = (await self.rpc.block("latest")).number
        count = depth + 1 if blocks is None else blocks
        if not 1 <= depth <= head or count < depth:
            raise DevnetError(f"a reorg drops 1 to {head} blocks and mines at least as many", depth=depth, blocks=count)
        again = await _raw_transactions(self.rpc, range(head - depth + 1, head + 1)) if keep else []
        await self._command("anvil_reorg", depth, [[raw, 0] for raw in again])
        if count > depth:
            await self.mine(count - depth)


async def _raw_transactions(rpc: Rpc, numbers: range) -> list[str]:
    found: list[str] = []
    for number in numbers:
        block = await rpc.ask("eth_getBlockByNumber", hex(number), False)
        found += [str(await rpc.ask("eth_getRawTransactionByHash", one)) for one in block["transactions"]]
    return found


async def _url(output: asyncio.StreamReader) -> str:
    while line := await output.readline():
        if found := _LISTENING.search(line):
            return f"http://{found[1].decode()}"
    raise ConfigError("anvil ended before it listened")


async def _drain(output: asyncio.StreamReader) -> None:
    while await output.read(65536):
        pass


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
