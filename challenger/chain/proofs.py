"""One log proved by its block's hash alone: the header, and the way through the receipts' trie to the log.

Whoever holds the right block hash needs nobody's word for such a log: emitter, topics and data are bound. Which
transaction wrote it stands in no receipt, and is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rlp as codec

from challenger.chain import wire
from challenger.chain.answers import RawLog, parse_logs
from challenger.chain.receipts import HEADER_FIELDS, header_hash, parse_header, proven_logs, receipt_bytes
from challenger.chain.trie import branch, followed
from challenger.domain import Address, Block, Hash32

#: No way through a trie of receipts is longer.
MAX_NODES = 64


@dataclass(frozen=True, slots=True)
class LogProof:
    """``header``: its fields as JSON-RPC names and writes them; ``transaction``: number of the receipt in the block;
    ``position``: of the log in that receipt; ``nodes``: from the trie's root to the receipt."""

    header: dict[str, str]
    transaction: int
    position: int
    nodes: tuple[bytes, ...]


def log_proof(header: dict[str, Any], receipts: Sequence[Any], log_index: int) -> LogProof:
    """The proof of log ``log_index`` of a block, from its header and all receipts as an endpoint serves them.
    ``ValueError``: they do not fit the block's hash, or there is no such log."""
    proven_logs(parse_header(header), receipts)
    own = [parse_logs(wire.field(answer, "logs")) for answer in receipts]
    before = 0
    for transaction, logs in enumerate(own):
        if before <= log_index < before + len(logs):
            encoded = [receipt_bytes(answer, told) for answer, told in zip(receipts, own, strict=True)]
            fields = {name: value for name, value in header.items() if name in HEADER_FIELDS - {"hash"} and value}
            return LogProof(fields, transaction, log_index - before, tuple(branch(encoded, transaction)))
        before += len(logs)
    raise ValueError(f"the block has no log {log_index}")


def proven_log(proof: LogProof, log_index: int, tx_hash: Hash32) -> tuple[Block, RawLog]:
    """The block that the header hashes to, and the log. ``log_index`` and ``tx_hash`` are the word of whoever made the
    proof. ``ValueError`` says what does not hold."""
    digest = Hash32(header_hash(proof.header))
    block = wire.block({**proof.header, "hash": wire.to_hex(digest)})
    if len(proof.nodes) > MAX_NODES:
        raise ValueError("the proof is too long")
    receipt = followed(wire.hash32(proof.header["receiptsRoot"]), proof.transaction, proof.nodes)
    address, topics, data = _log(receipt, proof.position)
    return block, RawLog(address, topics, data, block.number, digest, log_index, tx_hash)


def _log(receipt: bytes, position: int) -> tuple[Address, tuple[bytes, ...], bytes]:
    """Emitter, topics and data of a receipt's log (EIP-2718: a type before it, or none)."""
    try:
        fields = codec.decode(receipt[1:] if receipt[0] < 0xC0 else receipt)
        address, topics, data = fields[3][position]
        if len(address) != 20 or len(topics) > 4 or any(len(topic) != 32 for topic in topics):
            raise ValueError  # noqa: TRY301
        return Address(wire.to_hex(address)), tuple(topics), bytes(data)
    except Exception:  # noqa: BLE001 - the library has no common error, and what comes out may be of any shape
        raise ValueError(f"the receipt has no log {position}") from None
