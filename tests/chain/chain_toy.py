"""A chain of a few dictionaries behind the provider seam, and a ledger in memory: the follower's whole world.

``ToyChain`` answers real JSON-RPC; ``ToyProvider`` sits before one or several of them and misbehaves on demand.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from challenger.chain.answers import RawLog
from challenger.chain.follower import LeftOut, one_by_one
from challenger.chain.hashing import keccak
from challenger.domain import Address, Block, BlockNumber, ChainEvent, Cursor, Hash32, ModelDisabled, ModelId, UnixTime
from challenger.errors import CursorMoved, MalformedLog

EMITTER = Address("0x" + "ee" * 20)
TOPIC = keccak(b"Said(bytes)")


@dataclass(frozen=True)
class ToyBlock:
    block: Block
    words: tuple[bytes, ...]  # one log each


def grow(parent: ToyBlock | None, words: Sequence[bytes], salt: int) -> ToyBlock:
    number = 0 if parent is None else parent.block.number + 1
    above = bytes(32) if parent is None else parent.block.hash
    digest = keccak(above + salt.to_bytes(8, "big") + b"\0".join(words))
    block = Block(BlockNumber(number), Hash32(digest), Hash32(above), UnixTime(1_000 + 12 * number))
    return ToyBlock(block, tuple(words))


@dataclass
class ToyChain:
    """``range_limit`` and ``result_limit`` as endpoints have them (0: none)."""

    blocks: list[ToyBlock] = field(default_factory=lambda: [grow(None, (), 0)])
    range_limit: int = 0
    result_limit: int = 0
    salt: int = 0

    def extend(self, words: Sequence[Sequence[bytes]]) -> None:
        for one in words:
            self.salt += 1
            self.blocks.append(grow(self.blocks[-1], one, self.salt))

    def reorg(self, depth: int, words: Sequence[Sequence[bytes]]) -> None:
        del self.blocks[len(self.blocks) - min(depth, len(self.blocks) - 1) :]
        self.extend(words)

    def copy(self, height: int | None = None) -> ToyChain:
        blocks = list(self.blocks if height is None else self.blocks[: height + 1])
        return ToyChain(blocks, self.range_limit, self.result_limit, self.salt)

    def answer(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        head = len(self.blocks) - 1
        if method == "eth_getBlockByNumber":
            number = head if params[0] == "latest" else int(params[0], 16)
            return {"result": _header(self.blocks[number]) if number <= head else None}
        if method != "eth_getLogs":
            return {"error": {"code": -32601, "message": f"no {method}"}}
        query = params[0]
        if "blockHash" in query:
            found = [b for b in self.blocks if "0x" + b.block.hash.hex() == query["blockHash"]]
            return {"result": _logs(found[0])} if found else {"error": {"code": -32000, "message": "unknown block"}}
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        if self.range_limit and last - first >= self.range_limit:
            return {"error": {"code": -32005, "message": f"block range is limited to {self.range_limit} blocks"}}
        logs = [log for block in self.blocks[first : last + 1] for log in _logs(block)]  # short without a word
        if self.result_limit and len(logs) > self.result_limit:
            return {"error": {"code": -32005, "message": f"query returned more than {self.result_limit} results"}}
        return {"result": logs}


def _header(block: ToyBlock) -> dict[str, Any]:
    b = block.block
    names = {"number": hex(b.number), "timestamp": hex(b.time)}
    return names | {"hash": "0x" + b.hash.hex(), "parentHash": "0x" + b.parent.hex()}


def _logs(block: ToyBlock) -> list[dict[str, Any]]:
    return [
        {
            "address": EMITTER,
            "topics": ["0x" + TOPIC.hex()],
            "data": "0x" + word.hex(),
            "blockNumber": hex(block.block.number),
            "blockHash": "0x" + block.block.hash.hex(),
            "logIndex": hex(index),
            "transactionHash": "0x" + keccak(block.block.hash + bytes([index])).hex(),
            "removed": False,
        }
        for index, word in enumerate(block.words)
    ]


class ToyProvider:
    """Each request goes to one of ``views``, at random: a load balancer. ``fault`` may answer (or raise) instead."""

    def __init__(self, *views: ToyChain, seed: int = 0, fault: Callable[[str], Any] | None = None) -> None:
        self.views: list[ToyChain] = list(views)
        self.fault = fault
        self.asked: Counter[str] = Counter()
        self._random = random.Random(seed)

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked[method] += 1
        if self.fault is not None and (instead := self.fault(method)) is not None:
            return instead
        return self._random.choice(self.views).answer(method, params)


@dataclass
class ToyLedger:
    """Keeps what it is given and asserts what a store relies on."""

    blocks: dict[int, Block] = field(default_factory=dict)
    events: list[ChainEvent] = field(default_factory=list)
    at: Cursor | None = None
    rewinds: int = 0
    resting: Sequence[BlockNumber] = ()

    async def cursor(self) -> Cursor | None:
        return self.at

    async def block_hash(self, number: BlockNumber) -> Hash32 | None:
        block = self.blocks.get(number)
        return None if block is None else block.hash

    async def rests_on(self, first: int, last: int) -> Sequence[BlockNumber]:
        return [one for one in self.resting if first <= one <= last]

    async def apply(self, blocks: Sequence[Block], events: Sequence[ChainEvent], expected: Cursor | None) -> Cursor:
        if expected != self.at:
            raise CursorMoved
        assert blocks
        numbers = [block.number for block in blocks]
        assert numbers == sorted(set(numbers))
        assert expected is None or numbers[0] > expected.block
        self.blocks |= {block.number: block for block in blocks}
        for number in numbers:  # neighbours chain
            below = self.blocks.get(number - 1)
            assert below is None or self.blocks[number].parent == below.hash
        assert all(self.blocks[event.at.block].hash == event.at.block_hash for event in events)
        places = [(event.at.block, event.at.log_index) for event in [*self.events, *events]]
        assert places == sorted(set(places))
        self.events += events
        self.at = Cursor(blocks[-1].number, blocks[-1].hash, expected.version + 1 if expected else 1)
        return self.at

    async def rewind(self, to: BlockNumber, expected: Cursor) -> Cursor:
        if expected != self.at:
            raise CursorMoved
        self.blocks = {number: block for number, block in self.blocks.items() if number <= to}
        self.events = [event for event in self.events if event.at.block <= to]
        last = self.blocks[max(self.blocks)]
        self.at = Cursor(last.number, last.hash, expected.version + 1)
        self.rewinds += 1
        return self.at


class ToyDecoder:
    """Every word is an event; ``b"?"`` means nothing, ``b"!"`` is malformed."""

    emitters = (EMITTER,)
    topics = (TOPIC,)

    def decode(self, log: RawLog) -> ChainEvent | None:
        if log.data == b"!":
            raise MalformedLog("an exclamation", block=log.block)
        return None if log.data == b"?" else ModelDisabled(log.at, ModelId(log.data))

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        return one_by_one(self.decode, logs, left_out)


def words_of(chain: ToyChain) -> list[tuple[int, bytes]]:
    """What a clean index holds: block and word, in order."""
    return [(b.block.number, word) for b in chain.blocks for word in b.words if word not in {b"?", b"!"}]
