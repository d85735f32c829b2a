"""The market's logs off an endpoint, as far as a history needs them: a range, and how what began in it ended later."""

from __future__ import annotations

import time
from collections.abc import Sequence

from challenger.backtest.past import Fold
from challenger.chain.rpc import Rpc
from challenger.chain.span import Span
from challenger.domain import Address, Block, BlockNumber, ChainEvent, DemandOpened, DisputeOpened, UnixTime
from challenger.errors import MalformedLog, RangeTooLarge
from challenger.protocols.reference_logs import MarketLogs

_ENDINGS = ("Challenged", "Settled", "Demanded", "DemandClosed", "JobClosed")
#: Tasks asked for in one query.
_TASKS = 50
#: Headers, the newest, that tell how far blocks are apart.
_NEWEST = 65

Terms = Sequence[bytes | Sequence[bytes] | None]


class MarketReader:
    """``start``: the first block that may hold a log of the market. ``times``: of blocks in which disputes and demands were
    opened."""

    def __init__(self, rpc: Rpc, market: Address, start: int) -> None:
        self._rpc = rpc
        self._market = market
        self._start = start
        self._logs = MarketLogs(market)
        self._span = Span()
        self.fold = Fold()
        self.times: list[tuple[BlockNumber, UnixTime]] = []

    async def read(self, first: int, last: int, settled: int) -> None:
        """Commitments in blocks ``first ≤ b ≤ last``, their tasks, and what came of them up to block ``settled``."""
        opened = await self._events(first, last, [self._logs.topics_of("TaskOpened", "Committed", *_ENDINGS)])
        opened += await self._events(last + 1, settled, [self._logs.topics_of(*_ENDINGS)])
        for event in opened:
            self.fold.take(event)
        untold = self.fold.untold()
        for at in range(0, len(untold), _TASKS):
            terms: Terms = [self._logs.topics_of("TaskOpened"), untold[at : at + _TASKS]]
            for event in await self._events(self._start, first - 1, terms):
                self.fold.take(event)
        moments = {event.at.block for event in opened if isinstance(event, DisputeOpened | DemandOpened)}
        self.times = [(block.number, block.time) for block in await self._rpc.blocks(sorted(moments))]

    async def headers(self, settled: int) -> list[Block]:
        """The newest, in order."""
        return await self._rpc.blocks(range(max(0, settled - _NEWEST + 1), settled + 1))

    async def _events(self, first: int, last: int, terms: Terms) -> list[ChainEvent]:
        """In chain order; what the contract cannot have written is left out, as the watcher leaves it out."""
        found: list[ChainEvent] = []
        while first <= last:
            width = min(self._span.blocks, last - first + 1)
            began = time.monotonic()
            try:
                logs = await self._rpc.logs([self._market], first, first + width - 1, terms)
            except RangeTooLarge:
                if width == 1:
                    raise
                self._span.refused(width)
                continue
            self._span.answered(width, time.monotonic() - began, len(logs))
            for log in logs:
                try:
                    event = self._logs.decode(log)
                except MalformedLog:
                    continue
                if event is not None:
                    found.append(event)
            first += width
        return found
