"""A devnet's controls spoken over JSON-RPC: what the embedded and the served one understand."""

from __future__ import annotations

from typing import Any

from challenger.chain.devnet.base import DevnetError
from challenger.chain.rpc import Rpc
from challenger.errors import RpcError


class Controls:
    """The commanding half of ``Devnet``. A subclass sets ``_rpc`` when it starts."""

    def __init__(self, rpc: Rpc | None = None) -> None:
        self._rpc = rpc

    @property
    def rpc(self) -> Rpc:
        if self._rpc is None:
            raise DevnetError("it has not been started")
        return self._rpc

    async def mine(self, blocks: int = 1) -> None:
        await self._command("evm_mine", blocks)

    async def automine(self, on: bool) -> None:
        await self._command("evm_setAutomine", on)

    async def next_time(self, at: int) -> None:
        await self._command("evm_setNextBlockTimestamp", at)

    async def time_travel(self, *, to: int | None = None, by: int | None = None) -> None:
        if (to is None) == (by is None):
            raise DevnetError("time_travel takes either `to` or `by`")
        if to is not None:
            await self.next_time(to)
        else:
            await self._command("evm_increaseTime", by)
        await self.mine()

    async def snapshot(self) -> str:
        return str(await self._command("evm_snapshot"))

    async def revert(self, snapshot: str) -> None:
        if await self._command("evm_revert", snapshot) is not True:
            raise DevnetError("there is no such snapshot", snapshot=snapshot)

    async def reorg(self, depth: int, blocks: int | None = None, *, keep: bool = False) -> None:
        await self._command("devnet_reorg", depth, blocks, keep)

    async def _command(self, method: str, *params: Any) -> Any:
        try:
            return await self.rpc.ask(method, *params)
        except RpcError as error:
            raise DevnetError(error.detail, method=method) from None
