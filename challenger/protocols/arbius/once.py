"""A reader of the chain that asks each thing once: many logs of a block ask the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from challenger.domain import Address, Block

T = TypeVar("T")


class Reader(Protocol):
    """What the meanings of logs need of the chain."""

    async def block(self, which: int | bytes | str) -> Block: ...

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes: ...

    async def read(self, method: str, params: list[Any], parse: Callable[[Any], Any]) -> Any: ...


class Once:
    """For one range of logs: nothing is remembered beyond it."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._asked: dict[tuple[Any, ...], asyncio.Future[Any]] = {}

    async def block(self, which: int | bytes | str) -> Block:
        return await self.of(("block", which), partial(self._reader.block, which))

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes:
        return await self.of(("call", to, data, block), partial(self._reader.call, to, data, block))

    async def read(self, method: str, params: list[Any], parse: Callable[[Any], Any]) -> Any:
        return await self.of((method, *params), partial(self._reader.read, method, params, parse))

    async def of(self, key: tuple[Any, ...], ask: Callable[[], Awaitable[T]]) -> T:
        """What ``ask`` gives, asked once under ``key``."""
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(ask())
        return await asyncio.shield(self._asked[key])
