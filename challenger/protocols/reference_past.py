"""A past commitment of the reference market, found in an endpoint's logs and read at its own block.

Nothing of ours has to have been there: the logs name the commitment, the task that it answers and the model, and the
state after its block must say the same. That state is served by endpoints that keep history only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from challenger.chain.answers import RawLog
from challenger.chain.receipts import Asks, prove
from challenger.domain import (
    Address,
    Block,
    ChainEvent,
    CommitmentId,
    Committed,
    DemandClosed,
    DemandOpened,
    Hash32,
    ModelRegistered,
    TaskOpened,
    TaskTaken,
)
from challenger.errors import (
    EndpointError,
    Expected,
    MalformedLog,
    NoHistory,
    RangeTooLarge,
    RateLimited,
    RpcError,
    Unproven,
)
from challenger.protocols.reference_logs import MarketLogs
from challenger.protocols.reference_views import Caller, MarketViews, NotThere

Terms = Sequence[bytes | Sequence[bytes] | None]


class Archive(Asks, Caller, Protocol):
    """An endpoint, as far as the past is read from it."""

    async def block(self, which: int | bytes | str) -> Block: ...
    async def logs(
        self, addresses: Address | Sequence[Address], first: int, last: int, topics: Terms | None = None
    ) -> list[RawLog]: ...


class Found(NamedTuple):
    """A commitment's event and the log that it was read from."""

    committed: Committed
    log: RawLog


@dataclass(frozen=True, slots=True)
class Case:
    """``model``, ``task`` and ``demands`` in chain order; ``proved``: every log is in its block by the block's hash."""

    committed: Committed
    task: tuple[TaskOpened | TaskTaken, ...]
    model: tuple[ModelRegistered, ...]
    demands: tuple[DemandOpened | DemandClosed, ...]
    proved: bool


class Past:
    """``chain`` is read from; ``archives`` are asked one after the other for state. ``start``: the first block that
    may hold a log of the market."""

    def __init__(self, chain: Archive, archives: Sequence[Caller], market: Address, start: int) -> None:
        self._chain = chain
        self._archives = archives
        self._market = market
        self._start = start
        self._logs = MarketLogs(market)
        self._width: int | None = None

    async def committed(self, first: int, last: int, limit: int) -> list[Found]:
        """Up to ``limit`` commitments of blocks ``first ≤ b ≤ last`` and no later than the head, in chain order."""
        last = min(last, (await self._chain.block("latest")).number)
        raw = await self._search(max(first, self._start), last, [self._logs.topics_of("Committed")], limit)
        return [Found(*one) for one in self._meant(raw, Committed)][:limit]

    async def commitment(self, commitment: CommitmentId) -> Found | None:
        """Its event, by the newest block's word that it is there; None when the chain does not know it."""
        head = await self._chain.block("latest")
        try:
            await MarketViews(self._chain, self._market).job(commitment, head.hash)
        except NotThere:
            return None
        raw = await self._search(self._start, head.number, [self._logs.topics_of("Committed"), commitment], 1)
        found = self._meant(raw, Committed)
        if not found or found[0][0].commitment != commitment:
            raise EndpointError(
                f"it shows the commitment and no log of it from block {self._start} on: "
                "lower [chain] start_block, or name an endpoint that keeps logs"
            )
        return Found(*found[0])

    async def case(self, found: Found) -> Case:
        """All that is to be known to judge it. Raises NoHistory when no endpoint has the state of its block,
        EndpointError when what is served does not fit together or lacks a part, else what the endpoint raises."""
        committed, log = found
        at = committed.at
        if (await self._chain.block(at.block)).hash != at.block_hash:
            raise EndpointError("a reorganisation came while it was read: ask again", block=at.block)
        await self._at_its_block(committed)
        head = (await self._chain.block("latest")).number
        wanted: list[tuple[int, int, Terms]] = [
            (self._start, at.block, [self._logs.topics_of("TaskOpened", "TaskTaken"), committed.task]),
            (self._start, at.block, [self._logs.topics_of("ModelRegistered"), committed.model]),
            (at.block, head, [self._logs.topics_of("Demanded", "DemandClosed"), None, committed.commitment]),
        ]
        logs = [await self._search(first, last, terms, None) for first, last, terms in wanted]
        task, model = (self._meant(logs[0], (TaskOpened, TaskTaken)), self._meant(logs[1], ModelRegistered))
        mine = [event for event, _ in task if event.task == committed.task]
        registered = [event for event, _ in model if event.model == committed.model]
        if not any(isinstance(event, TaskOpened) for event in mine) or not registered:
            raise EndpointError(
                f"no log of its {'model' if mine else 'task'} from block {self._start} on: "
                "lower [chain] start_block, or name an endpoint that keeps logs"
            )
        demands = [event for event, _ in self._meant(logs[2], (DemandOpened, DemandClosed))]
        proved = await self._proved([log, *logs[0], *logs[1]])
        return Case(committed, tuple(mine), tuple(registered), tuple(demands), proved)

    async def _at_its_block(self, committed: Committed) -> None:
        """The contract, in the state after the commitment's block, says what the log does."""
        at, troubles = committed.at, []
        for archive in self._archives:
            try:
                job = await MarketViews(archive, self._market).job(committed.commitment, at.block_hash)
            except RateLimited:
                raise
            except Expected as error:
                troubles.append(str(error))
                continue
            said = (job.provider, job.task, job.model, job.output_root, job.state_root)
            logged = (
                committed.provider,
                committed.task,
                committed.model,
                committed.output_root,
                committed.state_root,
            )
            if said != logged:
                raise EndpointError("the commitment's log and the state of its block differ", block=at.block)
            return
        raise NoHistory("; ".join(dict.fromkeys(troubles)), block=at.block)

    async def _proved(self, logs: Sequence[RawLog]) -> bool:
        """Whether the blocks' hashes bear these logs out. EndpointError when they do not."""
        places: dict[Hash32, list[RawLog]] = {}
        for log in logs:
            places.setdefault(log.block_hash, []).append(log)
        for block_hash, served in places.items():
            try:
                block = await self._chain.block(block_hash)
                there = {log.content for log in await prove(self._chain, block)}
            except RateLimited:
                raise
            except (Unproven, RpcError):
                return False  # an endpoint without receipts, or a chain whose receipts prove nothing
            if not {log.content for log in served} <= there:
                raise EndpointError("it serves a log that the block does not hold", block=block.number)
        return True

    def _meant(self, logs: Sequence[RawLog], kinds: Any) -> list[tuple[Any, RawLog]]:
        """Those of ``kinds`` with their logs; what the contract cannot have written is an EndpointError."""
        found: list[tuple[ChainEvent, RawLog]] = []
        for log in logs:
            try:
                event = self._logs.decode(log)
            except MalformedLog as error:
                raise EndpointError(str(error), block=log.block) from None
            if isinstance(event, kinds):
                found.append((event, log))
        return found

    async def _search(self, first: int, last: int, terms: Terms, limit: int | None) -> list[RawLog]:
        """Logs of a range that is narrowed where the endpoint wants less, in chain order; ``limit`` are enough."""
        found: list[RawLog] = []
        while first <= last and (limit is None or len(found) < limit):
            until = last if self._width is None else min(last, first + self._width - 1)
            try:
                found += await self._chain.logs([self._market], first, until, terms)
            except RangeTooLarge:
                if first == until:
                    raise
                self._width = (until - first + 1) // 2
                continue
            first = until + 1
        return found
