"""Proof that a block's logs are complete and unaltered, against the block's own hash.

The hash is recomputed from the header's fields, the header's ``receiptsRoot`` from all receipts, each receipt's bloom
from its logs. So whoever holds the right block hash can take the logs from anyone: emitter, topics, data and order of
each are bound. The hash of the transaction that wrote a log is not: it stands in no receipt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from challenger.chain import wire
from challenger.chain.answers import RawLog, parse_logs
from challenger.chain.hashing import keccak
from challenger.chain.trie import Item, integer, ordered_root, rlp
from challenger.domain import Address, Block
from challenger.errors import EndpointError, RateLimited, RpcError, UnknownBlock, Unproven

#: The header's fields in their order: those since Frontier, then those that forks have added (London, Shanghai, Cancun, Prague).
_FRONTIER = (
    ("parentHash", 32), ("sha3Uncles", 32), ("miner", 20), ("stateRoot", 32), ("transactionsRoot", 32),
    ("receiptsRoot", 32), ("logsBloom", 256), ("difficulty", 0), ("number", 0), ("gasLimit", 0), ("gasUsed", 0),
    ("timestamp", 0), ("extraData", -1), ("mixHash", 32), ("nonce", 8),
)  # fmt: skip
_ADDED = (
    ("baseFeePerGas", 0), ("withdrawalsRoot", 32), ("blobGasUsed", 0), ("excessBlobGas", 0),
    ("parentBeaconBlockRoot", 32), ("requestsHash", 32),
)  # fmt: skip
#: What a hash binds, and the hash.
HEADER_FIELDS = frozenset(name for name, _ in (*_FRONTIER, *_ADDED)) | {"hash"}
#: The most transactions of one block.
_MOST = 20_000


@dataclass(frozen=True, slots=True)
class Header:
    """A block with what its hash binds. ``bound``: the fields do hash to ``block.hash``; the rest is worth nothing
    without that. ``bloom``: 256 bytes; ``transactions``: their hashes, which are the endpoint's word."""

    block: Block
    bound: bool
    bloom: bytes
    receipts_root: bytes
    transactions: tuple[str, ...]


class Asks(Protocol):
    """One endpoint: ``Rpc``."""

    @property
    def name(self) -> str: ...
    async def read(self, method: str, params: list[Any], parse: Any) -> Any: ...


def parse_header(answer: Any) -> Header:
    """``ValueError`` for what is no block; a header whose fields are absent or odd is one that is not bound."""
    block = wire.block(answer)
    try:
        digest = header_hash(answer)
        bloom, root = _sized(answer, "logsBloom", 256), wire.hash32(answer["receiptsRoot"])
        listed = wire.field(answer, "transactions")
        if type(listed) is not list or len(listed) > _MOST:
            raise ValueError("transactions are not a list")  # noqa: TRY301
        hashes = tuple(wire.to_hex(wire.hash32(one)) for one in listed)
    except ValueError:
        return Header(block, bound=False, bloom=b"", receipts_root=b"", transactions=())
    return Header(block, digest == block.hash, bloom, root, hashes)


def header_hash(answer: Any) -> bytes:
    """32 bytes, of the header's fields in ``answer`` (a block as JSON-RPC has it). ``ValueError``: one is no such field."""
    fields: list[Item] = [_field(answer, name, size) for name, size in _FRONTIER]
    fields += [_field(answer, name, size) for name, size in _ADDED if answer.get(name) is not None]
    return keccak(rlp(fields))


def receipt_bytes(answer: Any, logs: Sequence[RawLog]) -> bytes:
    """A receipt as its trie holds it, ``logs`` being its own: an envelope of its type (none for 0) around status (before
    Byzantium a state root), gas used so far, bloom and logs. ``ValueError`` for what is no receipt."""
    kind = wire.quantity(answer["type"], 0x7F) if answer.get("type") is not None else 0
    outcome = (
        wire.hash32(answer["root"]) if answer.get("root") else integer(wire.quantity(wire.field(answer, "status"), 1))
    )
    told: list[Item] = [[bytes.fromhex(log.address[2:]), list(log.topics), log.data] for log in logs]
    gas = integer(wire.quantity(wire.field(answer, "cumulativeGasUsed")))
    body = rlp([outcome, gas, bloom_of(logs), told])
    return bytes([kind]) + body if kind else body


def bloom_of(logs: Iterable[RawLog]) -> bytes:
    """256 bytes: the bits of each log's emitter and topics."""
    bits = 0
    for log in logs:
        for word in (bytes.fromhex(log.address[2:]), *log.topics):
            bits |= _bits(word)
    return bits.to_bytes(256, "big")


def may_hold(bloom: bytes, emitters: Iterable[Address], topics: Sequence[bytes]) -> bool:
    """Whether a block with this bloom may hold a log of one of ``emitters`` under one of ``topics``."""
    there = int.from_bytes(bloom, "big")
    first = any(there & bits == bits for bits in map(_bits, topics))
    return first and any(there & bits == bits for bits in (_bits(bytes.fromhex(one[2:])) for one in emitters))


def _bits(word: bytes) -> int:
    """Three of 2048 bits, each given by eleven bits of the hash (yellow paper, M3:2048)."""
    digest = keccak(word)
    bits = 0
    for at in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[at : at + 2], "big") & 2047)
    return bits


def proven_logs(header: Header, answers: Any) -> list[RawLog]:
    """All logs of the block, from all its receipts. ``ValueError`` says which part does not fit the block's hash."""
    if not header.bound:
        raise ValueError("the header's fields do not hash to the block's hash")
    if type(answers) is not list or len(answers) > _MOST:
        raise ValueError("receipts are not a list")
    encoded: list[bytes] = []
    logs: list[RawLog] = []
    for answer in answers:
        own = parse_logs(wire.field(answer, "logs"))
        for log in own:
            if log.log_index != len(logs) or log.block_hash != header.block.hash or log.block != header.block.number:
                raise ValueError(f"log {log.log_index} of the receipts is out of its place")
            logs.append(log)
        encoded.append(receipt_bytes(answer, own))
    if ordered_root(encoded) != header.receipts_root:
        raise ValueError("the receipts do not hash to the header's receiptsRoot")
    if bloom_of(logs) != header.bloom:
        raise ValueError("the logs do not make the header's bloom")
    return logs


async def receipts_of(endpoint: Asks, header: Header) -> Any:
    """All receipts of the block as ``endpoint`` serves them, for ``proven_logs`` to check: at once, or where it does not know
    how to, one by one; else as ``prove``."""
    try:
        return await at_once(endpoint, header)
    except RateLimited:
        raise
    except (RpcError, UnknownBlock):
        return await one_by_one(endpoint, header)


async def at_once(endpoint: Asks, header: Header) -> Any:
    """As ``receipts_of``, in one request, which not every endpoint serves: ``RpcError``, or ``UnknownBlock``."""
    return await endpoint.read("eth_getBlockReceipts", [wire.to_hex(header.block.hash)], _listed)


async def one_by_one(endpoint: Asks, header: Header) -> list[Any]:
    """As ``receipts_of``, in one request for each transaction."""

    async def one(tx_hash: str) -> Any:
        answer = await endpoint.read("eth_getTransactionReceipt", [tx_hash], partial(_receipt, tx_hash))
        if answer is None:
            raise EndpointError("it lacks a receipt of the block", tx=tx_hash, endpoint=endpoint.name)
        return answer

    return [await one(tx_hash) for tx_hash in header.transactions]


#: How receipts are asked for: one of the three above.
Way = Callable[[Asks, Header], Awaitable[Any]]


async def prove(endpoint: Asks, block: Block, way: Way = receipts_of) -> list[RawLog]:
    """All logs of ``block`` by what ``endpoint`` serves, asked for receipts in this ``way``.

    Raises ``Unproven`` when what it serves does not fit the block's hash, ``EndpointError`` or ``RpcError`` when it
    serves nothing.
    """
    header: Header = await endpoint.read("eth_getBlockByHash", [wire.to_hex(block.hash), False], _present)
    try:
        if header.block != block:
            raise ValueError("it is another block than the one asked for")  # noqa: TRY301
        return proven_logs(header, await way(endpoint, header))
    except ValueError as error:
        raise Unproven(str(error), block=block.number, endpoint=endpoint.name) from None


def _present(answer: Any) -> Header:
    if answer is None:
        raise UnknownBlock("the endpoint has no such block")
    return parse_header(answer)


def _listed(answer: Any) -> Any:
    if answer is None:
        raise UnknownBlock("the endpoint has no receipts of this block")
    return answer


def _receipt(tx_hash: str, answer: Any) -> Any:
    if answer is not None and wire.field(answer, "transactionHash") != tx_hash:
        raise ValueError("the receipt is of another transaction")
    return answer


def _field(answer: Any, name: str, size: int) -> bytes:
    if size:
        return _sized(answer, name, size)
    return integer(wire.quantity(wire.field(answer, name), wire.MAX_U256))


def _sized(answer: Any, name: str, size: int) -> bytes:
    data = wire.blob(wire.field(answer, name))
    if size >= 0 and len(data) != size:
        raise ValueError(f"{name} is not of {size} bytes")
    return data
