"""Blocks, transactions, receipts and logs of the EVM chain in JSON-RPC's words."""

from __future__ import annotations

from typing import Any

from eth_bloom.bloom import BloomFilter

from challenger.chain.devnet.evm import Mined
from challenger.chain.wire import to_hex

Json = dict[str, Any]


def block_json(block: Mined, *, full: bool) -> Json:
    header = block.header
    return {
        "number": hex(header.block_number),
        "hash": to_hex(block.hash),
        "parentHash": to_hex(header.parent_hash),
        "timestamp": hex(header.timestamp),
        "nonce": to_hex(header.nonce),
        "sha3Uncles": to_hex(header.uncles_hash),
        "logsBloom": to_hex(header.bloom.to_bytes(256, "big")),
        "transactionsRoot": to_hex(header.transaction_root),
        "stateRoot": to_hex(header.state_root),
        "receiptsRoot": to_hex(header.receipt_root),
        "miner": to_hex(header.coinbase),
        "difficulty": hex(header.difficulty),
        "extraData": to_hex(header.extra_data),
        "size": hex(block.size),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "mixHash": to_hex(header.mix_hash),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "withdrawalsRoot": to_hex(header.withdrawals_root),
        "withdrawals": [],
        "blobGasUsed": hex(header.blob_gas_used),
        "excessBlobGas": hex(header.excess_blob_gas),
        "parentBeaconBlockRoot": to_hex(header.parent_beacon_block_root),
        "requestsHash": to_hex(header.requests_hash),
        "uncles": [],
        "transactions": [
            transaction_json(tx, block, index) if full else to_hex(tx.hash)
            for index, tx in enumerate(block.transactions)
        ],
    }


def transaction_json(tx: Any, block: Mined | None, index: int = 0) -> Json:
    """``block`` is None while it waits."""
    json: Json = {
        "hash": to_hex(tx.hash),
        "type": hex(tx.type_id or 0),
        "from": to_hex(tx.sender),
        "to": to_hex(tx.to) if tx.to else None,
        "nonce": hex(tx.nonce),
        "gas": hex(tx.gas),
        "value": hex(tx.value),
        "input": to_hex(tx.data),
        "r": hex(tx.r),
        "s": hex(tx.s),
        "v": hex(tx.y_parity if tx.type_id else tx.v),
        "gasPrice": hex(tx.max_fee_per_gas if block is None else _price(tx, block)),
        "blockHash": None if block is None else to_hex(block.hash),
        "blockNumber": None if block is None else hex(block.header.block_number),
        "transactionIndex": None if block is None else hex(index),
    }
    if tx.chain_id is not None:
        json["chainId"] = hex(tx.chain_id)
    if tx.type_id:
        json["yParity"] = hex(tx.y_parity)
        json["accessList"] = [
            {"address": to_hex(address), "storageKeys": [to_hex(slot.to_bytes(32, "big")) for slot in slots]}
            for address, slots in tx.access_list
        ]
    if tx.type_id == 2:
        json["maxFeePerGas"] = hex(tx.max_fee_per_gas)
        json["maxPriorityFeePerGas"] = hex(tx.max_priority_fee_per_gas)
    return json


def receipts_json(block: Mined) -> list[Json]:
    """One per transaction, with its logs."""
    place = {"blockHash": to_hex(block.hash), "blockNumber": hex(block.header.block_number)}
    answers: list[Json] = []
    log_index = used_before = 0
    for index, (tx, receipt) in enumerate(zip(block.transactions, block.receipts, strict=True)):
        where = place | {"transactionHash": to_hex(tx.hash), "transactionIndex": hex(index)}
        logs = []
        for log in receipt.logs:
            logs.append(
                where
                | {
                    "address": to_hex(log.address),
                    "topics": [to_hex(topic.to_bytes(32, "big")) for topic in log.topics],
                    "data": to_hex(log.data),
                    "logIndex": hex(log_index),
                    "blockTimestamp": hex(block.header.timestamp),
                    "removed": False,
                }
            )
            log_index += 1
        created = block.created[index]
        answers.append(
            where
            | {
                "type": hex(tx.type_id or 0),
                "from": to_hex(tx.sender),
                "to": to_hex(tx.to) if tx.to else None,
                "status": "0x1" if receipt.state_root == b"\x01" else "0x0",
                "cumulativeGasUsed": hex(receipt.gas_used),
                "gasUsed": hex(receipt.gas_used - used_before),
                "effectiveGasPrice": hex(_price(tx, block)),
                "contractAddress": None if created is None else to_hex(created),
                "logs": logs,
                "logsBloom": to_hex(int(BloomFilter(receipt.bloom)).to_bytes(256, "big")),
            }
        )
        used_before = receipt.gas_used
    return answers


def _price(tx: Any, block: Mined) -> int:
    return int(min(tx.max_fee_per_gas, tx.max_priority_fee_per_gas + block.header.base_fee_per_gas))
