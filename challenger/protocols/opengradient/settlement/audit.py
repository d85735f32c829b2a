"""The audit over JSON-RPC: settlements of a range of blocks, the registries from their first block on, and the blobs.

Everything is one endpoint's word; ``EndpointError`` when it contradicts itself or the chain moved under the reading. Few
settlements are looked at together, and what was published of them is let go before the next: whatever is on chain, memory
holds no more than a few blobs and one answer of the endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing, nullcontext
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from challenger.domain import Address, Block
from challenger.errors import EndpointError
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.settlement.blobs import blob_name, misfit, read_batch
from challenger.protocols.opengradient.settlement.check import Earlier, Evidence, Limits, findings
from challenger.protocols.opengradient.settlement.fetch import Served
from challenger.protocols.opengradient.settlement.history import History, blocks_of
from challenger.protocols.opengradient.settlement.seen import Seen
from challenger.protocols.opengradient.settlement.settlements import BatchSettled, Settlement, SettlementLogs
from challenger.protocols.opengradient.settlement.terms import (
    TOGETHER,
    Asked,
    Chain,
    Deployment,
    Exchanges,
    Registry,
    UnnamedRegistry,
    asked_at,
    pieces,
    read_limits,
)

__all__ = ["Blobs", "Chain", "Deployment", "Known", "UnnamedRegistry", "audited", "settlement_findings"]


class Blobs(Protocol):
    """Where blobs come from (``fetch.BlobSources``)."""

    async def fetch(self, name: str, fits: Any) -> Served: ...


async def settlement_findings(
    chain: Chain,
    deployment: Deployment,
    first: int,
    last: int,
    blobs: Blobs | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """All that ``audited`` finds."""
    return [one async for one in audited(chain, deployment, first, last, blobs, limits)]


async def audited(
    chain: Chain,
    deployment: Deployment,
    first: int,
    last: int,
    blobs: Blobs | None = None,
    limits: Limits | None = None,
    known: Known | None = None,
) -> AsyncIterator[Finding]:
    """What does not hold of the settlements in blocks ``first ≤ n ≤ last``, in chain order. None of it holds before the end
    has come without an error.

    Without ``blobs`` batches are only compared with each other. ``limits`` are read from the contracts where they offer
    them, the rest is as stated in ``Limits``. Duplicates are found within the range, and beside what is ``known`` of the
    ranges before it. ``ConfigError``: an unknown form, a registry that was read from too late a block, or one that the
    deployment does not name (``UnnamedRegistry``). ``EndpointError``, ``RpcError``, ``MalformedLog`` (the address holds
    another contract, or another form of it), ``FetchRefused`` (our own rules forbid every source of blobs), ``OwnDisk``.
    """
    head = await chain.block(last)
    logs = SettlementLogs(deployment.settlement)
    with nullcontext(known) if known is not None else closing(Known()) as before:
        await before.begin(chain, first)
        past: _Past | None = None
        async for piece in pieces(chain, deployment.settlement, first, last, logs.topics):
            settlements = [settlement for log in piece if (settlement := logs.decode(log)) is not None]
            past = past or await before.past(chain, deployment, first, head, limits)
            for start in range(0, len(settlements), TOGETHER):
                some = settlements[start : start + TOGETHER]
                for found in await _looked_at(chain, past, some, blobs, before.seen):
                    yield found
        if (await chain.block(last)).hash != head.hash:
            raise EndpointError("the chain was reorganised while it was read: ask again", block=last)
        before.end = head


class Known:
    """What an audit of one deployment knows of the blocks before a range, kept from each range to the next: how far the
    registries were read, and what was settled (``seen``). What a reorganisation made untrue is forgotten, and so is all
    that was settled where a range does not follow the one before. ``end``: of the last range that was read to its end."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.end: Block | None = None
        self._past: _Past | None = None
        self._read: Block | None = None

    def close(self) -> None:
        self.seen.close()

    async def begin(self, chain: Chain, first: int) -> None:
        """A range, perhaps one that was read before or broken off."""
        follows = self.end is not None and first <= self.end.number + 1 and await _stands(chain, self.end)
        await asyncio.to_thread(self.seen.forget, first if follows else 0)

    async def past(self, chain: Chain, deployment: Deployment, first: int, head: Block, limits: Limits | None) -> _Past:
        """Read on to ``head``."""
        past, self._past = self._past, None  # what is broken off is read anew
        if past is None or not await _stands(chain, self._read):
            past, self._read = _Past(Exchanges(deployment, first), deployment), None
        await past.read(chain, head.number, limits)
        if not await _stands(chain, head):
            raise EndpointError("the chain was reorganised while it was read: ask again", block=head.number)
        self._past = past
        if self._read is None or self._read.number < head.number:
            self._read = head
        return past


async def _stands(chain: Chain, block: Block | None) -> bool:
    return block is not None and (await chain.block(block.number)).hash == block.hash


class _Past:
    """Which registries were ``asked``, and of each that is named its history and limits."""

    def __init__(self, exchanges: Exchanges, deployment: Deployment) -> None:
        self._exchanges = exchanges
        self._deployment = deployment
        self.older_leaves = deployment.older_leaves
        self.asked: Sequence[Asked] = ()
        self.registries: dict[Registry, tuple[History, Limits]] = {}

    async def read(self, chain: Chain, last: int, limits: Limits | None) -> None:
        """On to block ``last``."""
        self.asked = await self._exchanges.asked(chain, last)
        for registry in {one.registry for one in self.asked if one.registry is not None}:
            limited = limits or await read_limits(chain, self._deployment, registry)
            history, before = self.registries.get(registry, (None, None))
            if history is None or before is None or before.heartbeat != limited.heartbeat:
                history = History(registry, limited.heartbeat)
            await history.read(chain, last)
            self.registries[registry] = history, limited

    def earlier(self, which: int) -> list[Earlier]:
        """What was asked before ``asked[which]``."""
        return [
            Earlier(None if before.registry is None else self.registries[before.registry][0].timeline, after.time)
            for before, after in zip(self.asked[:which], self.asked[1:], strict=False)
        ]


async def _looked_at(
    chain: Chain, past: _Past, settlements: Sequence[Settlement], blobs: Blobs | None, seen: Seen
) -> list[Finding]:
    for one in settlements:
        where = past.asked[asked_at(past.asked, one.at)]
        if where.registry is None:
            raise UnnamedRegistry(where.address, one.at.block)
    served = {} if blobs is None else await _served(blobs, settlements)
    blocks = await blocks_of(chain, [settlement.at for settlement in settlements])
    settlers = await _settlers(chain, settlements)
    signers = await asyncio.to_thread(_signers, settlements, served)
    keys: dict[bytes, bytes] = {}
    for history, _ in past.registries.values():
        await history.meet(chain, signers)
        keys |= history.keys(set().union(*signers))
    found: list[Finding] = []
    for which, group in groupby(settlements, lambda one: asked_at(past.asked, one.at)):
        registry = past.asked[which].registry
        assert registry is not None, "it was looked at above"
        history, limits = past.registries[registry]
        evidence = Evidence(
            settlements=list(group),
            times={number: block.time for number, block in blocks.items()},
            settlers=settlers,
            served=served,
            timeline=history.timeline,
            keys=keys,
            limits=limits,
            older_leaves=past.older_leaves,
            earlier=past.earlier(which),
        )
        found += await asyncio.to_thread(findings, evidence, seen)
    return found


async def _served(blobs: Blobs, settlements: Sequence[Settlement]) -> dict[tuple[int, int], Served]:
    """By place; settlements whose blob id is none are left out."""

    async def one(settlement: Settlement) -> tuple[tuple[int, int], Served] | None:
        try:
            name = blob_name(settlement.blob)
        except ValueError:
            return None
        served = await blobs.fetch(name, partial(_fits, settlement))
        return (settlement.at.block, settlement.at.log_index), served

    return dict(found for found in await asyncio.gather(*map(one, settlements)) if found is not None)


def _fits(settlement: Settlement, data: bytes) -> bool:
    try:
        return misfit(settlement, data) is None
    except ValueError:
        return False


def _signers(settlements: Sequence[Settlement], served: Mapping[tuple[int, int], Served]) -> list[set[bytes]]:
    """Of each, ids of the enclaves in whose name something is settled."""
    return [_signed_by(one, served.get((one.at.block, one.at.log_index))) for one in settlements]


def _signed_by(settlement: Settlement, found: Served | None) -> set[bytes]:
    if not isinstance(settlement, BatchSettled):
        return {settlement.inference.tee}
    if found is None or found.data is None or not _fits(settlement, found.data):
        return set()
    return {inference.tee for inference in read_batch(found.data).inferences}


async def _settlers(chain: Chain, settlements: Sequence[Settlement]) -> dict[bytes, Address]:
    """Who sent each transaction."""

    async def one(tx_hash: bytes) -> tuple[bytes, Address]:
        sent = await chain.transaction(tx_hash)
        if sent is None:
            raise EndpointError("the endpoint does not know a transaction whose log it serves", tx="0x" + tx_hash.hex())
        return tx_hash, sent.sender

    return dict(await asyncio.gather(*map(one, {settlement.at.tx_hash for settlement in settlements})))
