"""The follower's reader: the logs that an endpoint serves are held against what the block's hash binds.

Older ranges are asked of a second endpoint too, and where the two differ a block's receipts decide: what one of them hides
while a watcher catches up would be missed for good. Near the head every block is checked. For each of these blocks the
header must hash to the block's hash; its bloom then says whether the block may hold a log of ours. Where it may, the
block's receipts settle it, from any endpoint, since they prove themselves: an endpoint that left a log out, altered or
invented one is caught before the cursor passes the block, and distrusted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.chain.answers import RawLog
from challenger.chain.follower import Reader
from challenger.chain.receipts import Asks, Header, at_once, may_hold, one_by_one, prove
from challenger.chain.rpc import BlockRef, Topics
from challenger.domain import Address, Block, Hash32
from challenger.errors import EndpointError, Expected, IncompleteLogs, RateLimited, RpcError, UnknownBlock, Unproven

#: Blocks of a range that are proved where two endpoints differ: one false block is enough to leave an endpoint.
_PROVED = 4
#: Headers remembered between the two questions about a block.
_KEPT = 1_024


class Chain(Reader, Protocol):
    """Whose answers are checked: what the follower asks of, with headers whole; ``Rpc`` over the pool."""

    async def headers(self, which: Sequence[int | bytes]) -> list[Header]: ...


class Witness(Asks, Protocol):
    """One endpoint alone."""

    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]: ...

    async def logs_in(
        self, addresses: Sequence[Address], blocks: Sequence[Block], topics: Topics | None = None
    ) -> list[RawLog]: ...


class CheckedReader:
    """``witnesses``: the endpoints one by one, the one that is read from first. ``caught(endpoint, why)`` is told who
    served false logs, ``unchecked(block, why)`` which block could be checked by nobody."""

    def __init__(
        self,
        chain: Chain,
        witnesses: Callable[[], Sequence[Witness]],
        *,
        caught: Callable[[str, str], None],
        unchecked: Callable[[Block, str], None],
    ) -> None:
        self._chain = chain
        self._witnesses = witnesses
        self._caught = caught
        self._unchecked = unchecked
        self._headers: OrderedDict[Hash32, Header] = OrderedDict()

    async def block(self, which: BlockRef) -> Block:
        return await self._chain.block(which)

    async def blocks(self, which: Sequence[int]) -> list[Block]:
        headers = await self._chain.headers(which)
        for header in headers:
            self._headers[header.block.hash] = header
        while len(self._headers) > _KEPT:
            self._headers.popitem(last=False)
        return [header.block for header in headers]

    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]:
        """Raises ``IncompleteLogs`` when a block holds other logs than those served. Where there is one endpoint, or no
        other answers, they are its word: what is false among them the proof before a filing finds, what is missing
        nobody does."""
        served = await self._chain.logs(addresses, first, last, topics)
        witnesses = self._witnesses()  # at once: who served it is the current one only until the next request
        query = _query(addresses, topics)
        for other in witnesses[1:]:
            try:
                theirs = await other.logs(addresses, first, last, topics)
            except Expected:
                continue
            if query is None or await self._upheld(query, served, theirs, witnesses):
                return served
        return served

    async def _upheld(
        self, query: _Query, served: list[RawLog], theirs: list[RawLog], witnesses: Sequence[Witness]
    ) -> bool:
        """Whether another endpoint serves the same. Where it does not, the blocks' receipts must bear out what was served
        (else ``IncompleteLogs``), and the next endpoint is asked."""
        ours, other = _by_block(served), _by_block(theirs)
        differing = sorted(number for number in ours.keys() | other.keys() if ours.get(number) != other.get(number))
        for number in differing[:_PROVED]:
            block = await self._chain.block(number)
            await self._check(query, block, [log for log in served if log.block == number], witnesses)
        return not differing

    async def logs_in(
        self, addresses: Sequence[Address], blocks: Sequence[Block], topics: Topics | None = None
    ) -> list[RawLog]:
        """Raises ``IncompleteLogs`` when a block holds other logs than those served."""
        logs = await self._chain.logs_in(addresses, blocks, topics)
        witnesses = self._witnesses()
        served: dict[Hash32, list[RawLog]] = {block.hash: [] for block in blocks}
        for log in logs:
            served[log.block_hash].append(log)
        query = _query(addresses, topics)
        if query is None:
            return logs
        for block in blocks:
            await self._check(query, block, served[block.hash], witnesses)
        return logs

    async def _check(self, query: _Query, block: Block, served: list[RawLog], witnesses: Sequence[Witness]) -> None:
        header = self._headers.get(block.hash)
        sealed = header is not None and header.bound and not served
        if sealed and header is not None and not may_hold(header.bloom, query.emitters, query.firsts):
            return
        truth = await self._truth(block, witnesses)
        if truth is None and (truth := await self._more(query, block, served, witnesses)) is None:
            return
        ours = query.ours(truth)
        if [log.content for log in ours] != [log.content for log in served]:
            why = f"it serves {len(served)} of our logs in block {block.number}, which holds {len(ours)}; or others"
            self._caught(witnesses[0].name, why)
            raise IncompleteLogs("another endpoint is read from", block=block.number, endpoint=witnesses[0].name)

    async def _truth(self, block: Block, witnesses: Sequence[Witness]) -> list[RawLog] | None:
        """All logs of the block, None where nobody can say. Raises as who did not answer, or asks to rest, when nobody else
        proves it: that one may at the next step.

        Where no witness serves receipts at once, they are asked for one by one: one request for each transaction of the
        block. That is paid only for blocks that showed a log of ours or whose bloom may hold one, and is what a log costs
        that was left out beside others of its block: nobody would look for it again, and the other endpoints' logs,
        cheaper to compare with, are their word as well."""
        told: list[str] = []
        passing: Expected | None = None
        single: list[tuple[Witness, Expected]] = []
        for witness in witnesses:
            try:
                return await prove(witness, block, at_once)
            except Unproven as error:
                told.append(str(error))
            except (RpcError, UnknownBlock) as error:
                # a limit too: one that is kept up for this dearer method alone must not hold the cursor for good
                single.append((witness, error))
            except EndpointError as error:
                passing = error
        for witness, before in single:
            try:
                return await prove(witness, block, one_by_one)
            except Unproven as error:
                told.append(str(error))
            except RpcError as error:
                told.append(str(error))
                passing = next((one for one in (error, before) if isinstance(one, RateLimited)), passing)
            except EndpointError as error:
                passing = error
        if passing is not None:
            raise passing
        self._unchecked(block, told[0] if told else "no endpoint")
        return None

    async def _more(
        self, query: _Query, block: Block, served: list[RawLog], witnesses: Sequence[Witness]
    ) -> list[RawLog] | None:
        """On an unusual chain, whose receipts prove nothing: what another endpoint shows of the block beside all that was
        served. Who shows something else is not believed more than who served it, or the two would be left in turn."""
        for witness in witnesses[1:]:
            try:
                theirs = query.ours(await witness.logs_in(query.emitters, [block]))
            except Expected:
                continue
            if {log.content for log in theirs} > {log.content for log in served}:
                return theirs
        return None


@dataclass(frozen=True, slots=True)
class _Query:
    emitters: tuple[Address, ...]
    firsts: tuple[bytes, ...]

    def ours(self, logs: Sequence[RawLog]) -> list[RawLog]:
        return [log for log in logs if log.address in self.emitters and log.topics and log.topics[0] in self.firsts]


def _query(addresses: Sequence[Address], topics: Topics | None) -> _Query | None:
    """None when nothing tells our logs from others'."""
    first = topics[0] if topics else None
    if first is None:
        return None
    firsts = (first,) if isinstance(first, bytes) else tuple(first)
    return _Query(tuple(Address(one.lower()) for one in addresses), firsts)


def _by_block(logs: Sequence[RawLog]) -> dict[int, list[tuple[object, ...]]]:
    found: dict[int, list[tuple[object, ...]]] = {}
    for log in logs:
        found.setdefault(log.block, []).append((log.block_hash, *log.content))
    return found
