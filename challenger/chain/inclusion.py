"""What became of a transaction, from positive evidence only.

A receipt says that it is mined; *another transaction with its nonce*, found in a block, says that it can never be. The
absence of a receipt says nothing: endpoints lag, and behind one URL may stand several that lag differently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain import wire
from challenger.chain.answers import Receipt
from challenger.domain import Address, Block, BlockNumber, Call, Hash32
from challenger.errors import EndpointError, Expected, Reverted

#: A call hands on at most all but a 64th of its gas (EIP-150): one that took more than that has run out.
_KEPT_BACK = 64


class ChainReader(Protocol):
    """What this module needs of the chain."""

    async def block(self, which: int | bytes | str) -> Block: ...

    async def nonce(self, address: Address, block: int | bytes | str = "latest") -> int: ...

    async def receipt(self, tx_hash: bytes) -> Receipt | None: ...

    async def ask(self, method: str, *params: Any) -> Any: ...


class Caller(Protocol):
    """A chain that can be asked what a call would do."""

    async def call(
        self,
        to: Address,
        data: bytes,
        block: int | bytes | str = "latest",
        *,
        sender: Address | None = None,
        value: int = 0,
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Consumer:
    """The mined transaction that used up a nonce. ``empty``: to its own sender, with no value and no data, which is how
    a nonce is given up on purpose."""

    hash: Hash32
    block: BlockNumber
    empty: bool


async def is_canonical(chain: ChainReader, receipt: Receipt) -> bool:
    """Whether the receipt's block still stands in the chain: asked by number, compared by hash."""
    return (await chain.block(receipt.block)).hash == receipt.block_hash


async def find_consumer(chain: ChainReader, account: Address, nonce: int, head: Block) -> Consumer | None:
    """The transaction of ``account`` with ``nonce``, None when none is mined up to ``head``.

    Goes back from ``head`` in doubling steps, then bisects: about 2 log₂(age in blocks) questions. An endpoint that has
    forgotten the states it is asked about raises ``RpcError``, and the outcome stays uncertain.
    """
    if await chain.nonce(account, head.number) <= nonce:
        return None
    last, step = int(head.number), 1  # the nonce is used at or before ``last``
    while last > 0:
        first = max(0, last - step)
        if await chain.nonce(account, first) <= nonce:
            break
        last, step = first, step * 2
    else:
        raise EndpointError("the account's nonce was used before the first block", account=account, nonce=nonce)
    while last - first > 1:
        middle = (first + last) // 2
        if await chain.nonce(account, middle) <= nonce:
            first = middle
        else:
            last = middle
    return _consumer(await chain.ask("eth_getBlockByNumber", hex(last), True), account, nonce, BlockNumber(last))


def _consumer(answer: Any, account: Address, nonce: int, number: BlockNumber) -> Consumer:
    try:
        for item in wire.field(answer, "transactions"):
            if wire.address(wire.field(item, "from")) != account or wire.quantity(wire.field(item, "nonce")) != nonce:
                continue
            to = item.get("to")
            empty = to is not None and wire.address(to) == account
            empty = empty and not wire.blob(wire.field(item, "input"))
            empty = empty and wire.quantity(wire.field(item, "value"), wire.MAX_U256) == 0
            return Consumer(wire.hash32(wire.field(item, "hash")), number, empty)
    except (ValueError, TypeError) as error:
        raise EndpointError(f"nonsense in answer to eth_getBlockByNumber: {error}", block=number) from None
    raise EndpointError("a block does not hold the transaction that its state counts", block=number, nonce=nonce)


async def why_reverted(
    chain: Caller, account: Address, call: Call, gas: int, receipt: Receipt, in_words: Callable[[Reverted], str]
) -> str:
    """Why ``call`` reverted, which was given so much ``gas``: as far as what it took and a call on its block's state tell."""
    if receipt.gas_used >= gas - gas // _KEPT_BACK:
        return f"out of gas: {receipt.gas_used} of {gas} taken"
    try:
        await chain.call(call.to, call.data, receipt.block, sender=account, value=call.value)
    except Reverted as error:
        return in_words(error)
    except Expected as error:
        return f"reason not known: {error.detail}"
    return "it would not revert at the end of its block: another transaction came first"
