"""How blocks come. In a demonstration time stands still until it is told to go on, so that a slow machine changes
nothing in what the chain records; on a served chain blocks come as transactions do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from challenger.chain.answers import Receipt
from challenger.chain.rpc import Rpc
from challenger.domain import Block, Call, Hash32
from challenger.errors import Reverted
from challenger.sim.wallet import ActorFailed, Wallet

_MOST = 60  # blocks after which a transaction that waits is given up


class Clockwork(Protocol):
    """What is used of a devnet."""

    @property
    def rpc(self) -> Rpc: ...

    async def mine(self, blocks: int = 1) -> None: ...

    async def automine(self, on: bool) -> None: ...

    async def next_time(self, at: int) -> None: ...


class Blocks:
    """``seconds`` of chain time from block to block; None: the chain's own clock, which mines as transactions come."""

    def __init__(self, devnet: Clockwork, seconds: int | None) -> None:
        self._devnet = devnet
        self._seconds = seconds

    @property
    def by_hand(self) -> bool:
        return self._seconds is not None

    async def start(self) -> None:
        """From now on blocks come as this object says."""
        if self.by_hand:
            await self._devnet.automine(False)

    async def tick(self, blocks: int = 1) -> None:
        """The next ``blocks`` blocks, with whatever waits."""
        for _ in range(blocks):
            if self._seconds is not None:
                await self._devnet.next_time((await self.now()) + self._seconds)
            await self._devnet.mine()

    async def now(self) -> int:
        """Time of the newest block."""
        return (await self.head()).time

    async def head(self) -> Block:
        return await self._devnet.rpc.block("latest")

    async def travel(self, to: int) -> None:
        """Mines a block at ``to``, unless the chain is there already."""
        if to > await self.now():
            await self._devnet.next_time(to)
            await self._devnet.mine()

    async def together(self, calls: Sequence[tuple[Wallet, Call]]) -> list[Receipt]:
        """Sends all calls and mines them, several to a block; receipts in their order. ``ActorFailed``: one reverted."""
        sent = [(wallet, call, await wallet.send(call)) for wallet, call in calls]
        await self._mine([tx_hash for _, _, tx_hash in sent])
        return [await wallet.settled(tx_hash, call) for wallet, call, tx_hash in sent]

    async def attempt(self, calls: Sequence[tuple[Wallet, Call]]) -> bool:
        """As ``together`` for those that would succeed now. Others send too, and one of theirs may come first in the same
        block (the watcher settles what a provider is just conceding): then there is nothing left to do here, and
        whoever still has to act does so at the next attempt. Whether there were any."""
        due = [(wallet, call) for wallet, call in calls if await self._possible(wallet, call)]
        sent = [(wallet, call, await wallet.send(call)) for wallet, call in due]
        await self._mine([tx_hash for _, _, tx_hash in sent])
        for wallet, call, tx_hash in sent:
            with suppress(ActorFailed):
                await wallet.settled(tx_hash, call)
        return bool(due)

    async def _possible(self, wallet: Wallet, call: Call) -> bool:
        try:
            await self._devnet.rpc.call(call.to, call.data, sender=wallet.address, value=call.value)
        except Reverted:
            return False
        return True

    async def _mine(self, waiting: list[Hash32]) -> None:
        if not self.by_hand:
            return
        for _ in range(_MOST):
            if not waiting:
                return
            await self.tick()
            waiting = [one for one in waiting if await self._devnet.rpc.receipt(one) is None]
        raise ActorFailed("transactions are not mined", waiting=len(waiting), blocks=_MOST)
