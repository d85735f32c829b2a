"""Replays of past commitments, wired from settings: no key, no lease, and nothing that could file.

It may run beside a watcher on the same database: each result is one short writing transaction that queues with the
watcher's, and of the watcher's rows none is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from challenger.chain.rpc import Rpc
from challenger.domain import BlockNumber, ChainId, CommitmentId, State, UnixTime
from challenger.endpoints import open_endpoints
from challenger.errors import Expected, NotInRecord
from challenger.parts import artifact_store, replay_pool
from challenger.pipeline.audits import Audited, Auditor, Missing, Subject, recorded, served
from challenger.pipeline.engine import Engine, Files, Workers
from challenger.protocols.reference import ReferenceAdapter
from challenger.protocols.reference_past import Found, Past
from challenger.settings import Settings, addresses, without_key
from challenger.store.engine import Store, open_store
from challenger.store.subjects import subject_of
from challenger.telemetry.instruments import Instruments

#: What stands for one thing that was asked: to be looked up, read off the chain already, or not there.
_Ask = CommitmentId | Found | Missing


@dataclass(frozen=True, slots=True)
class Wanted:
    """``ids``: hex digits, all 64 or, of indexed commitments, a beginning. ``blocks``: first and last. ``unjudged``: what
    the index holds that neither the watcher nor an audit has judged. At most ``limit`` of blocks and of unjudged."""

    ids: tuple[str, ...] = ()
    blocks: tuple[int, int] | None = None
    unjudged: bool = False
    limit: int = 100


class Audit:
    """``total`` and ``more`` hold once ``results`` has begun: how many there are, and whether the limit left some out."""

    total = 0
    more = False

    def __init__(
        self,
        settings: Settings,
        wanted: Wanted,
        *,
        confirm: bool = False,
        rpc: Rpc | None = None,
        others: Sequence[Rpc] = (),
        files: Files | None = None,
        workers: Workers | None = None,
    ) -> None:
        """``rpc`` and ``others`` stand in for the endpoints, ``files`` and ``workers`` for the artefact store and the
        replay pool. Raises ConfigError."""
        self._settings = without_key(addresses(settings))
        self._wanted = wanted
        self._confirm = confirm
        self._rpc, self._others = rpc, others
        self._files, self._workers = files, workers

    async def results(self) -> AsyncIterator[Audited | Missing]:
        """One for each commitment asked for, in order, recorded when it comes. Raises NotInRecord for a beginning that
        several ids share, WrongChain, StoreError."""
        settings = self._settings
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(open_store(settings.store.url))
            chain = _Chain(settings, stack, self._rpc, self._others)
            await self._belongs(store)
            asks = await self._asks(store, chain)
            self.total = len(asks)
            files, workers = self._files, self._workers
            if files is None:
                files = await stack.enter_async_context(artifact_store(settings))
            if workers is None:
                workers = await stack.enter_async_context(replay_pool(settings))
            limits = {"model_bytes": settings.replay.fetch_bytes, "bundle_bytes": settings.replay.input_bytes}
            second = settings.replay.confirm_backend if self._confirm else ""
            auditor = Auditor(store, Engine(files, workers, **limits), settings.replay.backend, second)
            width = settings.replay.workers
            for start in range(0, len(asks), width):
                found = [await _resolved(store, chain, ask) for ask in asks[start : start + width]]
                now = max(await _indexed_time(store), chain.time)
                for result in await _all(auditor, found, now):
                    yield result

    async def _belongs(self, store: Store) -> None:
        """StoreError where the database is of another deployment; a new one is of this from now on."""
        chain = self._settings.chain
        async with store.begin(await _indexed_time(store)) as unit:
            await unit.settings.pin("deployment", f"{chain.chain_id}/{chain.market}")

    async def _asks(self, store: Store, chain: _Chain) -> list[_Ask]:
        asks: list[_Ask] = [await _named(store, digits) for digits in dict.fromkeys(self._wanted.ids)]
        limit = self._wanted.limit
        if self._wanted.unjudged:
            async with store.read() as view:
                found = await view.audits.unjudged(limit + 1)
            self.more |= len(found) > limit
            asks += found[:limit]
        if self._wanted.blocks is not None:
            ranged = await self._between(store, chain, *self._wanted.blocks)
            self.more |= sum(not isinstance(ask, Missing) for ask in ranged) > limit
            asks += ranged[:limit]
        return list({_key(ask): ask for ask in asks}.values())

    async def _between(self, store: Store, chain: _Chain, first: int, last: int) -> list[_Ask]:
        """Of the index as far as it goes, then of the chain; one more than the limit tells that there are more."""
        limit = self._wanted.limit + 1
        cursor = await store.index().cursor()
        async with store.read() as view:
            found: list[_Ask] = [*await view.audits.between(BlockNumber(first), BlockNumber(last), limit)]
        beyond = first if cursor is None else max(first, cursor.block + 1)
        if beyond > last or len(found) >= limit:
            return found
        past = await chain.past()
        if past is None:
            return [*found, Missing(f"blocks {beyond} to {last}", f"not indexed, and {chain.away}")]
        try:
            return [*found, *await past.committed(beyond, last, limit - len(found))]
        except Expected as error:
            return [*found, Missing(f"blocks {beyond} to {last}", f"not indexed, and not read: {error}")]


class _Chain:
    """The endpoints, opened when they are first needed. ``away``: why there are none."""

    away = ""
    time = UnixTime(0)

    def __init__(self, settings: Settings, stack: AsyncExitStack, rpc: Rpc | None, others: Sequence[Rpc]) -> None:
        self._settings = settings
        self._stack = stack
        self._rpc, self._others = rpc, others
        self._past: Past | None = None

    async def past(self) -> Past | None:
        if self._past is None and not self.away:
            chain = self._settings.chain
            try:
                endpoints = await self._stack.enter_async_context(
                    open_endpoints(self._settings, Instruments(), self._rpc, self._others)
                )
                await ReferenceAdapter(endpoints.rpc, ChainId(chain.chain_id), chain.market).check()
                self.time = (await endpoints.rpc.block("latest")).time
            except Expected as error:
                self.away = str(error)
                return None
            members = [member.rpc for member in endpoints.members]
            self._past = Past(endpoints.rpc, members, chain.market, chain.start_block)
        return self._past


async def _named(store: Store, digits: str) -> _Ask:
    if len(digits) == 64:
        return CommitmentId(bytes.fromhex(digits))
    async with store.read() as view:
        indexed = await view.chain.commitments_beginning(digits)
        seen = {*indexed, *(audit.about for audit in await view.audits.beginning(digits))}
    if len(seen) > 1:
        some = ", ".join("0x" + one.hex()[:16] for one in sorted(seen)[:3])
        raise NotInRecord(f"several commitments begin with this: {some}, …", asked="0x" + digits)
    if not seen:
        return Missing(
            "0x" + digits, "no indexed commitment begins with this; its whole id is looked for on the chain too"
        )
    return CommitmentId(seen.pop())


def _key(ask: _Ask) -> object:
    return ask.committed.commitment if isinstance(ask, Found) else ask


async def _resolved(store: Store, chain: _Chain, ask: _Ask) -> Subject | Missing:
    """From the record where it has it, else from the chain."""
    if isinstance(ask, Missing):
        return ask
    commitment = ask.committed.commitment if isinstance(ask, Found) else ask
    subject = await recorded(store, commitment)
    if subject is not None:
        return subject
    past, name = await chain.past(), subject_of(commitment)
    if past is None:
        return Missing(name, f"not in the record, and {chain.away}")
    try:
        found = ask if isinstance(ask, Found) else await past.commitment(commitment)
    except Expected as error:
        return Missing(name, f"not in the record, and not read from the chain: {error}")
    if found is not None:
        return await served(past, found)
    async with store.read() as view:
        work = await view.work.get(commitment)
    if work is not None and work.state == State.ORPHANED.value:
        return Missing(name, "a reorganisation took it away, and it has not come back")
    return Missing(name, "neither in the record nor on the chain")


async def _all(auditor: Auditor, found: Sequence[Subject | Missing], now: UnixTime) -> list[Audited | Missing]:
    """At once; the first failure ends them all."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [one if isinstance(one, Missing) else group.create_task(auditor.audit(one, now)) for one in found]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [one if isinstance(one, Missing) else one.result() for one in tasks]


async def _indexed_time(store: Store) -> UnixTime:
    async with store.read() as view:
        head = await view.chain.head()
    return UnixTime(0) if head is None else head.time
