"""The chain as the kit hands it to an adapter: everything is passed on, and what of the state was asked is noted."""

from __future__ import annotations

from typing import Any

from challenger.domain import Address, Wei
from challenger.errors import EndpointError

BlockRef = int | bytes | str


class Onlooker:
    """``asked``: as of which blocks state was read. ``gone``: nothing is answered any more, as by an endpoint that is away.
    ``changed``: contracts whose code is another from now on."""

    def __init__(self, chain: Any) -> None:
        self._chain = chain
        self.asked: list[BlockRef] = []
        self.gone = False
        self.changed: set[Address] = set()

    def __getattr__(self, name: str) -> Any:
        if self.gone:
            raise EndpointError("it is away", asked=name)
        return getattr(self._chain, name)

    async def call(self, to: Address, data: bytes, block: BlockRef = "latest", **more: Any) -> bytes:
        return bytes(await self._noted(block).call(to, data, block, **more))

    async def code(self, address: Address, block: BlockRef = "latest") -> bytes:
        code = bytes(await self._noted(block).code(address, block))
        return code + b"\0" if address in self.changed else code

    async def storage(self, address: Address, slot: int, block: BlockRef = "latest") -> bytes:
        return bytes(await self._noted(block).storage(address, slot, block))

    async def balance(self, address: Address, block: BlockRef = "latest") -> Wei:
        return Wei(await self._noted(block).balance(address, block))

    def _noted(self, block: BlockRef) -> Any:
        if self.gone:
            raise EndpointError("it is away")
        self.asked.append(block)
        return self._chain
