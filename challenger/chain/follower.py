"""Follows the chain: the next blocks' events into the ledger, or the ledger back to where the chain still agrees.

One ``step`` reads the head, and then does one of three things in one ledger transaction: rewinds to the common ancestor
after a reorganisation, indexes the next range, or nothing. The newest ``depth`` blocks are all in the ledger, and their
logs are asked for by block hash, so that an endpoint which lacks the block has to say so; below them, where a gap may
be of millions, only the blocks that carry logs, those that the ledger rests on and the last of each range are fetched.

Every answer is checked against the others before anything is kept: headers chain, logs are of exactly those blocks.
What does not fit is one endpoint speaking for several nodes, and is asked again at the next step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.chain.answers import RawLog
from challenger.chain.rpc import BlockRef, Topics
from challenger.chain.span import Span
from challenger.domain import Address, Block, BlockNumber, ChainEvent, Cursor, Hash32
from challenger.errors import EndpointError, LedgerExhausted, MalformedLog, RangeTooLarge, RateLimited


class MixedViews(EndpointError):
    """the JSON-RPC endpoint answers for several forks at once"""


class Reader(Protocol):
    """What the follower asks of the chain: ``Rpc``, or several that agree."""

    async def block(self, which: BlockRef) -> Block: ...

    async def blocks(self, which: Sequence[int]) -> list[Block]: ...

    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]: ...

    async def logs_in(
        self, addresses: Sequence[Address], blocks: Sequence[Block], topics: Topics | None = None
    ) -> list[RawLog]: ...


class Ledger(Protocol):
    """Where the follower keeps what it found. Both writes are one transaction and move the cursor by compare-and-set:
    ``CursorMoved`` when it is not where ``expected`` says."""

    async def cursor(self) -> Cursor | None: ...

    async def block_hash(self, number: BlockNumber) -> Hash32 | None:
        """None for a block that the ledger does not hold."""
        ...

    async def rests_on(self, first: int, last: int) -> Sequence[BlockNumber]:
        """Blocks of this range whose hashes something in the ledger rests on, beside events."""
        ...

    async def apply(self, blocks: Sequence[Block], events: Sequence[ChainEvent], expected: Cursor | None) -> Cursor:
        """Adds blocks (ascending, above the cursor, with every event's block among them) and their events."""
        ...

    async def rewind(self, to: BlockNumber, expected: Cursor) -> Cursor:
        """Forgets every block above ``to`` and what came with it."""
        ...


@dataclass(frozen=True, slots=True)
class Malformed:
    """Details for the hook: a log that was left out of the index, and why."""

    log: RawLog
    error: MalformedLog


#: Told of each log that is left out.
LeftOut = Callable[[Malformed], None]


class Decoder(Protocol):
    """What the logs mean: a protocol adapter."""

    @property
    def emitters(self) -> tuple[Address, ...]: ...

    @property
    def topics(self) -> tuple[bytes, ...]: ...

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        """What the logs of a range say, in their order. Where a log does not say enough the chain is read, at the log's
        block, by its hash. A log that does not hold what it claims goes to ``left_out``. Raises as the chain's reads do."""
        ...


def one_by_one(
    decode: Callable[[RawLog], ChainEvent | None], logs: Sequence[RawLog], left_out: LeftOut
) -> list[ChainEvent]:
    """``events`` of a protocol whose every log says all. ``decode``: None for a log without meaning, ``MalformedLog`` for
    one that does not hold what it claims."""
    events = []
    for log in logs:
        try:
            event = decode(log)
        except MalformedLog as error:
            left_out(Malformed(log, error))
        else:
            if event is not None:
                events.append(event)
    return events


def _ignore(_malformed: Malformed) -> None:
    return


@dataclass(frozen=True, slots=True)
class Options:
    """``start``: the first block to index (the contract's). ``depth``: how many of the newest blocks the ledger holds
    without gaps; a deeper reorganisation may end in ``LedgerExhausted``. ``tag``: what counts as the head (``latest``,
    or ``safe``, ``finalized``). ``near``: the most blocks of one step among the newest ones. ``gap``: the widest hole that
    older ranges may have left between two blocks of the ledger."""

    start: int = 0
    depth: int = 64
    tag: str = "latest"
    near: int = 64
    gap: int = 10_000


class Follower:
    """``step`` until it says False, then wait for the next block. One instance owns the ledger's cursor."""

    def __init__(
        self,
        reader: Reader,
        ledger: Ledger,
        decoder: Decoder,
        options: Options | None = None,
        *,
        span: Span | None = None,
        on_malformed: LeftOut = _ignore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._ledger = ledger
        self._decoder = decoder
        self._options = options or Options()
        self._span = span or Span(widest=self._options.gap)
        self._on_malformed = on_malformed
        self._clock = clock
        #: the endpoint's head as the last step saw it
        self.head: Block | None = None

    async def step(self) -> bool:
        """Whether the ledger moved. Raises ``EndpointError`` or ``RpcError`` (nothing was kept; try again),
        ``CursorMoved`` (another process follows too) and ``LedgerExhausted`` (the index must be built anew)."""
        cursor = await self._ledger.cursor()
        self.head = head = await self._reader.block(self._options.tag)
        if cursor is not None:
            if await self._diverged(cursor, head):
                await self._ledger.rewind(await self._ancestor(cursor, head), cursor)
                return True
            if head.number <= cursor.block:
                return False
        first = self._options.start if cursor is None else cursor.block + 1
        if head.number < first:
            return False
        settled = head.number - self._options.depth
        if first <= settled:
            blocks, logs = await self._far(first, settled, cursor)
        else:
            blocks, logs = await self._near(first, min(head.number, first + self._options.near - 1), cursor)
        if blocks[-1].time > head.time:
            raise MixedViews(f"block {blocks[-1].number} is later than the head {head.number}")
        await self._ledger.apply(blocks, await self._decoder.events(logs, self._on_malformed), cursor)
        return True

    async def _diverged(self, cursor: Cursor, head: Block) -> bool:
        """Whether the ledger's newest block that the endpoint can have is not the endpoint's."""
        if head.number > cursor.block:
            if head.number == cursor.block + 1 and head.parent == cursor.hash:
                return False
            return (await self._reader.block(cursor.block)).hash != cursor.hash
        if head.number == cursor.block:
            return head.hash != cursor.hash
        # the endpoint is behind: it lags, unless what it has is something else
        known = await self._ledger.block_hash(head.number)
        return known is not None and known != head.hash

    async def _ancestor(self, cursor: Cursor, head: Block) -> BlockNumber:
        """The highest block of the ledger that the chain still has. Gaps are walked over while they are no wider than
        ranges leave them."""
        lowest = max(0, self._options.start - 1)
        number, last_known = min(head.number, cursor.block - 1), cursor.block
        while True:
            known: list[tuple[BlockNumber, Hash32]] = []
            while number >= lowest and len(known) < 16 and last_known - number <= self._options.gap:
                at = BlockNumber(number)
                if (digest := await self._ledger.block_hash(at)) is not None:
                    known.append((at, digest))
                    last_known = at
                number -= 1
            if not known:
                raise LedgerExhausted("index anew from an earlier block", searched_down_to=number + 1)
            served = await self._reader.blocks([at for at, _ in known])
            for (at, digest), block in zip(known, served, strict=True):
                if block.hash == digest:
                    return at

    async def _far(self, first: int, settled: int, cursor: Cursor | None) -> tuple[list[Block], list[RawLog]]:
        last = min(settled, first + self._span.blocks - 1)
        while True:
            width = last - first + 1
            began = self._clock()
            try:
                logs = await self._reader.logs(self._decoder.emitters, first, last, [self._decoder.topics])
            except RangeTooLarge:
                self._span.refused(width)
                if width == 1:
                    raise
                last = first + width // 2 - 1
            except (EndpointError, RateLimited):
                self._span.failed()
                raise
            else:
                self._span.answered(width, self._clock() - began, len(logs))
                break
        # what was taken from a block that a reorganisation has replaced is void once the ledger has the other one
        numbers = {log.block for log in logs} | {last, *await self._ledger.rests_on(first, last)}
        if cursor is None and first > 0:
            numbers.add(BlockNumber(first - 1))  # what a reorganisation of the first blocks goes back to
        blocks = await self._reader.blocks(sorted(numbers))
        _check_chain(blocks, cursor)
        _check_views(blocks, logs)
        return blocks, logs

    async def _near(self, first: int, last: int, cursor: Cursor | None) -> tuple[list[Block], list[RawLog]]:
        lowest = first - 1 if cursor is None and first > 0 else first
        blocks = await self._reader.blocks(range(lowest, last + 1))
        _check_chain(blocks, cursor)
        asked = [block for block in blocks if block.number >= first]
        logs = await self._reader.logs_in(self._decoder.emitters, asked, [self._decoder.topics])
        _check_views(asked, logs)
        return blocks, logs


def _check_chain(blocks: Sequence[Block], cursor: Cursor | None) -> None:
    """Neighbours are parent and child, and time does not run back."""
    number, digest, at = (-1, b"", 0) if cursor is None else (cursor.block, cursor.hash, 0)
    for block in blocks:
        if block.number == number + 1 and number >= 0 and block.parent != digest:
            raise MixedViews(f"block {block.number} is not a child of block {number}")
        if block.time < at:
            raise MixedViews(f"block {block.number} is older than block {number}")
        number, digest, at = block.number, block.hash, block.time


def _check_views(blocks: Sequence[Block], logs: Sequence[RawLog]) -> None:
    hashes = {block.number: block.hash for block in blocks}
    for log in logs:
        if hashes.get(log.block) != log.block_hash:
            raise MixedViews(f"a log of block {log.block} is of another fork than the block")
