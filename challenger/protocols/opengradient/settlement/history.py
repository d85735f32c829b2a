"""What one registry of enclaves told and keeps: its events up to a block, and enclaves as they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from challenger.chain.codec import encode_call
from challenger.domain import Block
from challenger.errors import ConfigError, EndpointError, Reverted
from challenger.protocols.opengradient.settlement.enclaves import Moment, Timeline
from challenger.protocols.opengradient.settlement.registry import (
    Enclave,
    RegistryLogs,
    form_named,
    read_enclave,
    views,
)
from challenger.protocols.opengradient.settlement.signatures import tee_id
from challenger.protocols.opengradient.settlement.terms import TOGETHER, Chain, Registry, pieces

#: Enclaves that no event told of are looked up, to know a registry that was read from too late a block; so many of one
#: settlement, in whose name anything may be.
_STRANGERS = 16


class History:
    """``heartbeat``: seconds one is good for; None where the registry knows none."""

    def __init__(self, registry: Registry, heartbeat: int | None) -> None:
        self._registry = registry
        self._form = form_named(registry.form)
        self._enclaves: dict[bytes, Enclave] = {}
        self._next = registry.start
        self.timeline = Timeline((), self._enclaves, heartbeat)

    async def read(self, chain: Chain, last: int) -> None:
        """On to block ``last``. ``MalformedLog``: the address holds another contract, or another form of it."""
        where, logs = self._registry.address, RegistryLogs(self._registry.address, self._form)
        async for piece in pieces(chain, where, self._next, last, logs.topics):
            blocks = await blocks_of(chain, [log.at for log in piece])
            decoded = [(Moment(blocks[log.block].time, log.block, log.log_index), logs.decode(log)) for log in piece]
            self.timeline.take((moment, change) for moment, change in decoded if change is not None)
        self._next = max(self._next, last + 1)

    async def meet(self, chain: Chain, signers: Sequence[set[bytes]]) -> None:
        """Asks for what is kept of the enclaves in whose names each of some settlements is. ``ConfigError`` when it keeps
        one that no event told of; ``EndpointError`` when it answers with another key than the enclave's."""
        registered = self.timeline.registered
        known = {tee for tees in signers for tee in tees & registered}
        self._enclaves |= await self._kept(chain, sorted(known - set(self._enclaves)))
        strangers = {tee for tees in signers for tee in sorted(tees - registered)[:_STRANGERS]}
        if await self._kept(chain, sorted(strangers)):
            raise ConfigError(
                "the registry keeps enclaves that no event tells of: begin at an earlier block",
                registry=self._registry.address,
                start=self._registry.start,
            )

    def keys(self, tees: Iterable[bytes]) -> dict[bytes, bytes]:
        """Public keys (DER) of those that were met and are kept."""
        return {tee: self._enclaves[tee].public_key for tee in tees if tee in self._enclaves}

    async def _kept(self, chain: Chain, tees: Sequence[bytes]) -> dict[bytes, Enclave]:
        """Those that it does not know are left out."""
        gate, abi = asyncio.Semaphore(TOGETHER), views(self._form)

        async def one(tee: bytes) -> tuple[bytes, Enclave] | None:
            async with gate:
                try:
                    answer = await chain.call(self._registry.address, encode_call(abi, "getTEE", [tee]))
                except Reverted:
                    return None
            enclave = read_enclave(self._form, tee, answer)
            if not enclave.public_key:
                return None
            if tee_id(enclave.public_key) != tee:
                raise EndpointError("getTEE answers with a key that is not the enclave's", tee="0x" + tee.hex())
            return tee, enclave

        return dict(found for found in await asyncio.gather(*map(one, tees)) if found is not None)


async def blocks_of(chain: Chain, places: Sequence[Any]) -> dict[int, Block]:
    """By number. ``EndpointError`` when a log is of another block than the endpoint has there."""
    blocks = {int(block.number): block for block in await chain.blocks(sorted({at.block for at in places}))}
    for at in places:
        if blocks[at.block].hash != at.block_hash:
            raise EndpointError("a log is of a block that is none of the chain's: ask again", block=at.block)
    return blocks
