"""What the chain says happened, read with one's own eyes: raw logs over JSON-RPC, decoded, with their blocks' times.

Actors and scoreboard stand on this; the watcher's index is another, and the two can be compared.
"""

from __future__ import annotations

import asyncio

from challenger.chain.codec import Event, EventDecoder
from challenger.chain.rpc import Rpc
from challenger.contracts import artifact
from challenger.domain import Address, BlockNumber
from challenger.errors import UnknownBlock

CONTRACTS = ("InferenceMarket", "SignerAdjudicator", "EpochAnchor")
_STEP = 2_000


class History:
    """Events of ``contracts`` in chain order from block ``start`` on; ``refresh`` reads on. A chain that takes blocks
    back is not expected here."""

    def __init__(self, rpc: Rpc, contracts: tuple[Address, ...], start: BlockNumber) -> None:
        self.events: list[Event] = []
        self.times: dict[int, int] = {}
        self._rpc = rpc
        self._contracts = contracts
        self._next = int(start)
        self._one = asyncio.Lock()
        self._decoder = EventDecoder([entry for name in CONTRACTS for entry in artifact(name).abi])

    async def refresh(self) -> list[Event]:
        """The events since the last call. Several may call at once: each event is given to one of them."""
        async with self._one:
            head = await self._rpc.block("latest")
            fresh: list[Event] = []
            while self._next <= head.number:
                last = min(head.number, self._next + _STEP - 1)
                logs = await self._rpc.logs(self._contracts, self._next, last)
                fresh += [event for event in map(self._decoder.decode, logs) if event is not None]
                self._next = last + 1
            unknown = sorted({event.log.block for event in fresh} - self.times.keys())
            for block in await self._rpc.blocks(unknown):
                self.times[block.number] = block.time
            self.events += fresh
            return fresh


async def whole(rpc: Rpc, contracts: tuple[Address, ...], start: BlockNumber) -> History:
    """Everything from ``start`` to the head. ``UnknownBlock`` when the chain is shorter than that."""
    if (await rpc.block("latest")).number < start:
        raise UnknownBlock(f"the chain ends before block {start}")
    history = History(rpc, contracts, start)
    await history.refresh()
    return history
