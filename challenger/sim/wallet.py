"""How actors of the simulation spend: one key, its own nonce, and no patience with failure.

Not the watcher's sender: nothing is persisted, a wallet lives as long as its world and is its account's only user.
"""

from __future__ import annotations

import asyncio

from challenger.chain import signers
from challenger.chain.answers import Receipt
from challenger.chain.codec import decode_revert
from challenger.chain.rpc import Rpc
from challenger.contracts import NAMES, artifact
from challenger.domain import Address, Call, ChainId, Hash32
from challenger.errors import ChallengerError, Reverted

#: Enough for anything the actors do, and twelve of them fit into a devnet's block.
GAS = 4_000_000
DEPLOY_GAS = 12_000_000
_MAX_FEE = 100 * 10**9
_TIP = 10**9


class ActorFailed(ChallengerError):
    """an actor of the simulation could not do its part"""


class Wallet:
    """Sends from one account; ``name`` stands for it in errors."""

    def __init__(self, rpc: Rpc, key: bytes, name: str) -> None:
        self.signer = signers.from_key(key)
        self.name = name
        self.rpc = rpc
        self._nonce: int | None = None
        self._chain: ChainId | None = None

    @property
    def address(self) -> Address:
        return self.signer.address

    def forget(self) -> None:
        """The next nonce is asked of the chain again."""
        self._nonce = None

    async def send(self, call: Call, gas: int = GAS) -> Hash32:
        return await self._send({"to": call.to, "value": call.value, "data": call.data, "gas": gas})

    async def transact(self, call: Call) -> Receipt:
        """Sends, and waits until it is mined; for a chain that mines by itself."""
        return await self.settled(await self.send(call), call)

    async def create(self, code: bytes) -> tuple[Address, Receipt]:
        """Deploys ``code`` (creation code with its arguments); for a chain that mines by itself."""
        receipt = await self._mined(await self._send({"value": 0, "data": code, "gas": DEPLOY_GAS}))
        if not receipt.succeeded or receipt.created is None:
            raise ActorFailed("the contract could not be deployed", actor=self.name, gas_used=receipt.gas_used)
        return receipt.created, receipt

    async def settled(self, tx_hash: Hash32, call: Call) -> Receipt:
        """The receipt of ``call``, once there is one. ``ActorFailed`` with the contract's own words when it reverted."""
        receipt = await self._mined(tx_hash)
        if not receipt.succeeded:
            raise ActorFailed(await self._why(call, receipt), actor=self.name, block=receipt.block)
        return receipt

    async def _send(self, fields: dict[str, object]) -> Hash32:
        if self._nonce is None or self._chain is None:
            self._chain = await self.rpc.chain_id()
            self._nonce = await self.rpc.nonce(self.address, "pending")
        fees = {"maxFeePerGas": _MAX_FEE, "maxPriorityFeePerGas": _TIP}
        signed = await self.signer.sign_transaction(fields | fees | {"chainId": self._chain, "nonce": self._nonce})
        sent = await self.rpc.send_raw(signed.raw)
        self._nonce += 1
        return sent

    async def _mined(self, tx_hash: Hash32, seconds: float = 60.0) -> Receipt:
        try:
            async with asyncio.timeout(seconds):
                while (receipt := await self.rpc.receipt(tx_hash)) is None:  # noqa: ASYNC110  nothing tells of a block
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ActorFailed("a transaction is not mined", actor=self.name, seconds=seconds) from None
        return receipt

    async def _why(self, call: Call, receipt: Receipt) -> str:
        """The revert in words: the call is tried again on the state before its block."""
        try:
            before = receipt.block - 1
            await self.rpc.call(call.to, call.data, before, sender=self.address, value=call.value)
        except Reverted as error:
            return decode_revert(error.data, [entry for name in NAMES for entry in artifact(name).abi])
        return f"reverted, though it would not have one block earlier (gas used: {receipt.gas_used})"
