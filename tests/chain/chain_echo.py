"""A contract small enough to read as bytes, and transactions that talk to it."""

from __future__ import annotations

import asyncio
from typing import Any

from eth_account import Account as EthAccount
from eth_utils.address import to_checksum_address

from challenger.chain.answers import Receipt
from challenger.chain.devnet.base import CHAIN_ID, Account, Devnet
from challenger.chain.hashing import keccak
from challenger.domain import Address

# Called with (topic, data): logs `data` under `topic`. Called with (0, data): reverts with `data`.
ECHO_RUNTIME = bytes.fromhex(
    "60203603"  # size := calldatasize - 32
    "8060206000" "37"  # memory[0:size] := calldata[32:]
    "600035"  # topic := calldata[0:32]
    "8015601757"  # if topic == 0 goto 0x17
    "906000a1" "00"  # log1(0, size, topic); stop
    "5b506000fd"  # 0x17: revert(0, size)
)  # fmt: skip
ECHO_CREATION = bytes.fromhex("601c8060095f395ff3") + ECHO_RUNTIME


def sign(account: Account, nonce: int, to: str | None = None, data: bytes = b"", **fields: Any) -> bytes:
    """A raw type-2 transaction."""
    tx = {
        "type": 2,
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "to": to_checksum_address(to) if to else "",
        "data": data,
        "value": 0,
        "gas": 200_000,
        "maxFeePerGas": 20 * 10**9,
        "maxPriorityFeePerGas": 10**9,
    }
    return bytes(EthAccount.sign_transaction(tx | fields, account.key).raw_transaction)


async def mined(devnet: Devnet, raw: bytes) -> Receipt:
    """Sends to an automining devnet; anvil mines a moment after it answers."""
    tx_hash = await devnet.rpc.send_raw(raw)
    async with asyncio.timeout(10):
        while (receipt := await devnet.rpc.receipt(tx_hash)) is None:
            pass
    return receipt


async def deploy_echo(devnet: Devnet, account: Account) -> Address:
    nonce = await devnet.rpc.nonce(account.address)
    receipt = await mined(devnet, sign(account, nonce, data=ECHO_CREATION))
    assert receipt.created is not None
    return receipt.created


def topic(name: str) -> bytes:
    return keccak(name.encode())
