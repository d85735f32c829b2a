"""From an endpoint to a recorded chain: every block of a range, the market's logs, and what stood behind their URIs.

With proofs nothing is believed. Each header must hash to its block's hash; its bloom then says whether the block may
hold a log of the market, and where it may, the block's receipts, which prove themselves, say which. So a log that an
endpoint hides or alters is noticed here, and by whoever reads the recording. Without proofs the logs are the word of the
endpoints, two of which are asked where there are two.

Before the range stand, sparsely, the blocks in which its models were registered and its open tasks opened.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from challenger.chain import wire
from challenger.chain.answers import RawLog
from challenger.chain.receipts import HEADER_FIELDS, Header, may_hold, proven_logs, receipts_of
from challenger.chain.rpc import Rpc
from challenger.chain.span import Span
from challenger.domain import (
    Address,
    Block,
    ChainEvent,
    Committed,
    Hash32,
    ModelRegistered,
    TaskClosed,
    TaskOpened,
    TaskTaken,
)
from challenger.errors import MalformedLog, RangeTooLarge, Unproven
from challenger.pipeline.engine import WITHHELD, Files
from challenger.protocols.base import code_hashes
from challenger.protocols.reference_logs import MarketLogs
from challenger.protocols.reference_views import MarketViews
from challenger.recording.lines import CHAIN, PART, Answer, Data, Deployment, RecordedBlock
from replay.artifacts import ArtifactError
from replay.recording import RecordingWriter
from replay.recording.runs import embed_model

#: Blocks read at a time.
_PAGE = 200
#: Data up to this size stands in a line; what is larger gets a part of its own.
_IN_LINE = 1 << 20
#: Fetches under way at a time.
_FETCHES = 8
#: Roots of data that are known to be written already.
_REMEMBERED = 100_000
#: What was left out is told so many times, and counted from then on.
_TOLD = 20


class Logs(Protocol):
    """Who is asked for logs where there are no proofs."""

    async def logs(
        self,
        addresses: Sequence[Address],
        first: int,
        last: int,
        topics: Sequence[bytes | Sequence[bytes] | None] | None = None,
    ) -> list[RawLog]: ...


@dataclass
class Recorded:
    """What went in. ``away``: data that could not be had; ``left_out``: models and data that were not fetched, and why;
    ``not_told``: how many more."""

    blocks: int = 0
    logs: int = 0
    commitments: int = 0
    data: int = 0
    away: int = 0
    models: int = 0
    left_out: list[str] = field(default_factory=list)
    not_told: int = 0

    def leave_out(self, what: str) -> None:
        if len(self.left_out) < _TOLD:
            self.left_out.append(what)
        else:
            self.not_told += 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """Beside the chain: ``files`` None records no data and no models. ``bundle_bytes`` and ``model_bytes``: the largest
    that are kept."""

    files: Files | None
    bundle_bytes: int
    model_bytes: int


async def record(
    rpc: Rpc,
    reader: Logs,
    deployment: Deployment,
    start: int,
    wanted: Wanted,
    path: Path,
    told: Callable[[Block, Recorded], None],
) -> Recorded:
    """Writes the recording at ``path``. ``start``: the contract's first block; ``told`` is called after each page.

    Raises ``RecordingError``, ``OSError``, ``Unproven`` (what the endpoint serves does not fit its own hashes), and what
    ``Rpc`` raises; nothing is at ``path`` then."""
    recorder = _Recorder(rpc, reader, deployment, wanted)
    with ExitStack() as stack:
        recorder.writer = stack.enter_context(RecordingWriter(path, [CHAIN]))
        recorder.add = stack.enter_context(recorder.writer.lines(PART))
        recorder.add(deployment.as_line())
        for answer in await contract(rpc, deployment):
            recorder.add(answer.as_line())
        await recorder.before(start)
        first = int(deployment.first)
        while first <= deployment.last:
            last = min(first + _PAGE - 1, deployment.last)
            block = await recorder.page(first, last)
            told(block, recorder.recorded)
            first = last + 1
    return recorder.recorded


class _Recorder:
    writer: RecordingWriter
    add: Callable[[Mapping[str, Any]], None]

    def __init__(self, rpc: Rpc, reader: Logs, deployment: Deployment, wanted: Wanted) -> None:
        self._rpc = rpc
        self._reader = reader
        self._deployment = deployment
        self._wanted = wanted
        self._market = MarketLogs(deployment.market)
        self._span = Span(widest=_PAGE * 10)
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._models: set[bytes] = set()
        self._parts: set[str] = set()  # no more than a recording may have parts
        self.recorded = Recorded()

    async def page(self, first: int, last: int) -> Block:
        served = await self._rpc.headers_served(range(first, last + 1))
        logs: dict[int, list[RawLog]] = {}
        if not self._deployment.proofs:
            for log in await self._logs(first, last, [self._market.topics]):
                logs.setdefault(log.block, []).append(log)
        for header, words in served:
            await self._block(header, words, logs.get(header.block.number, []))
        return served[-1][0].block

    async def before(self, start: int) -> None:
        """Models registered, and tasks opened and not yet answered, before the first block; and the block below that."""
        first = self._deployment.first
        models: list[RawLog] = []
        tasks: dict[bytes, list[RawLog]] = {}
        at = start
        while at < first:
            last = min(at + self._span.blocks - 1, first - 1)
            for log in await self._logs(at, last, [self._market.topics]):
                match self._meaning(log):
                    case ModelRegistered():
                        models.append(log)
                    case TaskOpened(task=task):
                        tasks[task] = [log]
                    case TaskTaken(task=task) if task in tasks:
                        tasks[task].append(log)
                    case Committed(task=task) | TaskClosed(task=task):
                        tasks.pop(task, None)
            at = last + 1
        kept: dict[int, list[RawLog]] = {first - 1: []} if first else {}
        for log in [*models, *(log for logs in tasks.values() for log in logs)]:
            kept.setdefault(log.block, []).append(log)
        for number in sorted(kept):
            ((header, words),) = await self._rpc.headers_served([number])
            await self._block(header, words, sorted(kept[number], key=lambda log: log.log_index), chosen=True)

    async def _block(self, header: Header, words: dict[str, Any], logs: list[RawLog], *, chosen: bool = False) -> None:
        """One block's line, and the data that its logs name. ``chosen``: ``logs`` are the ones to keep, proofs or not."""
        receipts: list[dict[str, Any]] = []
        block, market = header.block, self._deployment.market
        if self._deployment.proofs:
            if not header.bound:
                raise Unproven(
                    "its header does not hash to the block's hash; record it without proofs", block=block.number
                )
            if logs or (not chosen and may_hold(header.bloom, [market], self._market.topics)):
                receipts = await receipts_of(self._rpc, header)
                try:
                    proven = proven_logs(header, receipts)
                except ValueError as error:
                    raise Unproven(str(error), block=block.number, endpoint=self._rpc.name) from None
                ours = self._market.among(proven)
                logs = [log for log in ours if log in logs] if chosen else ours
        known = {name: words[name] for name in HEADER_FIELDS & words.keys() if words[name] is not None}
        if not self._deployment.proofs:
            known = {name: known[name] for name in ("number", "hash", "parentHash", "timestamp")}
        plain = [{name: value for name, value in one.items() if name != "logsBloom"} for one in receipts]
        self.add(RecordedBlock(block, known, tuple(logs), tuple(plain)).as_line())
        self.recorded.blocks += 1
        self.recorded.logs += len(logs)
        await self._data(logs)

    async def _logs(self, first: int, last: int, topics: Sequence[Sequence[bytes]]) -> list[RawLog]:
        """Of a range that is split where the endpoint wants less."""
        try:
            return await self._reader.logs([self._deployment.market], first, last, topics)
        except RangeTooLarge:
            if first == last:
                raise
            self._span.refused(last - first + 1)
            middle = (first + last) // 2
            return await self._logs(first, middle, topics) + await self._logs(middle + 1, last, topics)

    def _meaning(self, log: RawLog) -> ChainEvent | None:
        try:
            return self._market.decode(log)
        except MalformedLog:
            return None

    # what stands behind URIs

    async def _data(self, logs: Sequence[RawLog]) -> None:
        events = [event for log in logs if (event := self._meaning(log)) is not None]
        self.recorded.commitments += sum(isinstance(event, Committed) for event in events)
        if self._wanted.files is None:
            return
        gate = asyncio.Semaphore(_FETCHES)

        async def fetch(uri: str, root: Hash32, length: int) -> Data | None:
            async with gate:
                return await self._fetched(uri, root, length)

        places: dict[Hash32, tuple[str, int]] = {}
        for event in events:
            match event:
                case TaskOpened(input_uri=uri, input_root=root, input_length=length) if uri:
                    places[root] = uri, length
                case Committed(output_uri=uri, output_root=root, output_length=length) if uri:
                    places[root] = uri, length
                case ModelRegistered():
                    await self._model(event)
        new = {root: place for root, place in places.items() if self._is_new(root)}
        for found in await asyncio.gather(*(fetch(uri, root, length) for root, (uri, length) in new.items())):
            if found is not None:
                self._keep(found)

    def _is_new(self, root: bytes) -> bool:
        """Whether it was not written lately: what is written twice is only longer, and memory must not grow."""
        if root in self._seen:
            self._seen.move_to_end(root)
            return False
        self._seen[root] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True

    async def _fetched(self, uri: str, root: Hash32, length: int) -> Data | None:
        assert self._wanted.files is not None
        if length > self._wanted.bundle_bytes:
            self.recorded.leave_out(f"data of {length} bytes at {uri}: larger than [replay] input_bytes")
            return None
        try:
            return Data(root, await self._wanted.files.fetch_bundle(uri, root, length, self._wanted.bundle_bytes))
        except ArtifactError as error:
            if error.reason not in WITHHELD:
                self.recorded.leave_out(f"data at {uri}: {error}")
                return None
            return Data(root, None, str(error.reason))

    def _keep(self, found: Data) -> None:
        if found.content is not None and len(found.content) > _IN_LINE:
            name = f"data/{found.root.hex()}"
            if name not in self._parts:  # a root that was forgotten since may come again
                self._parts.add(name)
                self.writer.raw(name, [found.content])
            found = Data(found.root, None, "", name)
        self.add(found.as_line())
        if found.away:
            self.recorded.away += 1
        else:
            self.recorded.data += 1

    async def _model(self, event: ModelRegistered) -> None:
        assert self._wanted.files is not None
        if event.file_digest in self._models:
            return
        self._models.add(event.file_digest)
        try:
            manifest = await self._wanted.files.fetch_model(event.uri, event.file_digest, self._wanted.model_bytes)
        except ArtifactError as error:
            self.recorded.leave_out(f"model {wire.to_hex(event.model)[:12]}…: {error}")
            return
        await asyncio.to_thread(embed_model, self.writer, manifest)
        self.recorded.models += 1


async def contract(rpc: Rpc, deployment: Deployment) -> list[Answer]:
    """All that the watcher asks of the contracts once and for all: their code, where it is delegated to, their
    parameters. As of the newest block: the market's are immutable."""
    head = await rpc.block("latest")
    noting = _Noting(rpc)
    params = await MarketViews(noting, deployment.market).params(head.hash)
    there = [deployment.market, params.adjudicator, *([deployment.anchor] if deployment.anchor else [])]
    await code_hashes(noting, there, head.hash)
    return noting.answers


class _Noting:
    """Reads, and keeps what it was told."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self.answers: list[Answer] = []

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes:
        return self._noted("eth_call", ({"to": to, "data": wire.to_hex(data)},), await self._rpc.call(to, data, block))

    async def code(self, address: Address, block: int | bytes | str = "latest") -> bytes:
        return self._noted("eth_getCode", (address,), await self._rpc.code(address, block))

    async def storage(self, address: Address, slot: int, block: int | bytes | str = "latest") -> bytes:
        return self._noted("eth_getStorageAt", (address, hex(slot)), await self._rpc.storage(address, slot, block))

    def _noted(self, method: str, params: tuple[Any, ...], result: bytes) -> bytes:
        self.answers.append(Answer(method, params, wire.to_hex(result)))
        return result
