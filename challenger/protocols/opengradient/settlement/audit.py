"""The audit over JSON-RPC: settlements of a range of blocks, the registry from its first block on, and the blobs.

Everything is one endpoint's word; ``EndpointError`` when it contradicts itself or the chain moved under the reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from challenger.chain.codec import encode_call
from challenger.domain import Address, Block
from challenger.errors import ConfigError, EndpointError, Reverted
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.settlement.blobs import blob_name, misfit, read_batch
from challenger.protocols.opengradient.settlement.check import Earlier, Evidence, Limits, Seen, findings
from challenger.protocols.opengradient.settlement.enclaves import Moment, Timeline
from challenger.protocols.opengradient.settlement.fetch import Served
from challenger.protocols.opengradient.settlement.registry import (
    Change,
    Enclave,
    Form,
    Registered,
    RegistryLogs,
    form_named,
    read_enclave,
    views,
)
from challenger.protocols.opengradient.settlement.settlements import BatchSettled, Settlement, SettlementLogs
from challenger.protocols.opengradient.settlement.signatures import tee_id
from challenger.protocols.opengradient.settlement.terms import (
    Chain,
    Deployment,
    Registry,
    UnnamedRegistry,
    asked_at,
    read_limits,
    read_logs,
    registries_asked,
)

__all__ = ["Blobs", "Chain", "Deployment", "UnnamedRegistry", "settlement_findings"]

#: Questions under way at once.
_TOGETHER = 8
#: Enclaves that no event told of are looked up, to know a registry that was read from too late a block; so many will do.
_STRANGERS = 16


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
    """What does not hold of the settlements in blocks ``first ≤ n ≤ last``, in chain order.

    Without ``blobs`` batches are only compared with each other. ``limits`` are read from the contracts where they offer
    them, the rest is as stated in ``Limits``. Duplicates are found within the range. ``ConfigError``: an unknown form, a
    registry that was read from too late a block, or one that the deployment does not name (``UnnamedRegistry``, before
    any blob is asked for). ``EndpointError``, ``RpcError``, ``MalformedLog`` (the address holds another contract, or
    another form of it), ``FetchRefused`` (our own rules forbid every source of blobs).
    """
    head = await chain.block(last)
    settlements = await _settlements(chain, deployment, first, last)
    asked = await registries_asked(chain, deployment, first, last) if settlements else []
    for one in settlements:
        where = asked[asked_at(asked, one.at)]
        if where.registry is None:
            raise UnnamedRegistry(where.address, one.at.block)
    served = {} if blobs is None else await _served(blobs, settlements)
    blocks = await _blocks(chain, [settlement.at for settlement in settlements])
    settlers = await _settlers(chain, settlements)
    signers = await asyncio.to_thread(_signers, settlements, served)
    standings = [
        None if one.registry is None else await _standing(chain, deployment, one.registry, last, signers, limits)
        for one in asked
    ]
    seen, found = Seen(), []
    for which, group in groupby(settlements, lambda one: asked_at(asked, one.at)):
        standing = standings[which]
        assert standing is not None, "what was asked of these is named"
        earlier = [
            Earlier(None if before is None else before.timeline, after.time)
            for before, after in zip(standings[:which], asked[1:], strict=False)
        ]
        keys = {tee: key for one in standings[: which + 1] if one is not None for tee, key in one.keys.items()}
        evidence = Evidence(
            settlements=list(group),
            times={number: block.time for number, block in blocks.items()},
            settlers=settlers,
            served=served,
            timeline=standing.timeline,
            keys=keys,
            limits=standing.limits,
            older_leaves=deployment.older_leaves,
            earlier=earlier,
        )
        found += await asyncio.to_thread(findings, evidence, seen)
    if (await chain.block(last)).hash != head.hash:
        raise EndpointError("the chain was reorganised while it was read: ask again", block=last)
    return found


class _Standing(NamedTuple):
    """How the enclaves of one registry stood, and public keys of those that it keeps."""

    timeline: Timeline
    keys: Mapping[bytes, bytes]
    limits: Limits


async def _standing(
    chain: Chain,
    deployment: Deployment,
    registry: Registry,
    last: int,
    signers: set[bytes],
    limits: Limits | None,
) -> _Standing:
    """Up to block ``last``."""
    form = form_named(registry.form)
    limits = limits or await read_limits(chain, deployment, registry)
    told = await _changes(chain, registry, form, last)
    registered = {change.tee for _, change in told if isinstance(change, Registered)}
    enclaves = await _enclaves(chain, registry, form, sorted(signers & registered))
    if await _enclaves(chain, registry, form, sorted(signers - registered)[:_STRANGERS]):
        raise ConfigError(
            "the registry keeps enclaves that no event tells of: begin at an earlier block",
            registry=registry.address,
            start=registry.start,
        )
    keys = {tee: enclave.public_key for tee, enclave in enclaves.items()}
    return _Standing(Timeline(told, enclaves, limits.heartbeat), keys, limits)


async def _settlements(chain: Chain, deployment: Deployment, first: int, last: int) -> list[Settlement]:
    logs = SettlementLogs(deployment.settlement)
    raw = await read_logs(chain, deployment.settlement, first, last, logs.topics)
    return [settlement for log in raw if (settlement := logs.decode(log)) is not None]


async def _changes(chain: Chain, registry: Registry, form: Form, last: int) -> list[tuple[Moment, Change]]:
    logs = RegistryLogs(registry.address, form)
    raw = await read_logs(chain, registry.address, registry.start, last, logs.topics)
    blocks = await _blocks(chain, [log.at for log in raw])
    return [
        (Moment(blocks[log.block].time, log.block, log.log_index), change)
        for log in raw
        if (change := logs.decode(log)) is not None
    ]


async def _blocks(chain: Chain, places: Sequence[Any]) -> dict[int, Block]:
    """By number. ``EndpointError`` when a log is of another block than the endpoint has there."""
    blocks = {int(block.number): block for block in await chain.blocks(sorted({at.block for at in places}))}
    for at in places:
        if blocks[at.block].hash != at.block_hash:
            raise EndpointError("a log is of a block that is none of the chain's: ask again", block=at.block)
    return blocks


async def _served(blobs: Blobs, settlements: Sequence[Settlement]) -> dict[tuple[int, int], Served]:
    """By place; settlements whose blob id is none are left out."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def one(settlement: Settlement) -> tuple[tuple[int, int], Served] | None:
        try:
            name = blob_name(settlement.blob)
        except ValueError:
            return None
        async with gate:
            served = await blobs.fetch(name, partial(_fits, settlement))
        return (settlement.at.block, settlement.at.log_index), served

    return dict(found for found in await asyncio.gather(*map(one, settlements)) if found is not None)


def _fits(settlement: Settlement, data: bytes) -> bool:
    try:
        return misfit(settlement, data) is None
    except ValueError:
        return False


def _signers(settlements: Sequence[Settlement], served: Mapping[tuple[int, int], Served]) -> set[bytes]:
    """Ids of the enclaves in whose name something is settled."""
    signers: set[bytes] = set()
    for settlement in settlements:
        if not isinstance(settlement, BatchSettled):
            signers.add(settlement.inference.tee)
            continue
        found = served.get((settlement.at.block, settlement.at.log_index))
        if found is not None and found.data is not None and _fits(settlement, found.data):
            signers.update(inference.tee for inference in read_batch(found.data).inferences)
    return signers


async def _enclaves(chain: Chain, registry: Registry, form: Form, tees: Sequence[bytes]) -> dict[bytes, Enclave]:
    """What the registry keeps of each; those it does not know are left out. ``EndpointError``: another key than the id's."""
    gate, abi = asyncio.Semaphore(_TOGETHER), views(form)

    async def one(tee: bytes) -> tuple[bytes, Enclave] | None:
        async with gate:
            try:
                answer = await chain.call(registry.address, encode_call(abi, "getTEE", [tee]))
            except Reverted:
                return None
        enclave = read_enclave(form, tee, answer)
        if not enclave.public_key:
            return None
        if tee_id(enclave.public_key) != tee:
            raise EndpointError("getTEE answers with a key that is not the enclave's", tee="0x" + tee.hex())
        return tee, enclave

    return dict(found for found in await asyncio.gather(*map(one, tees)) if found is not None)


async def _settlers(chain: Chain, settlements: Sequence[Settlement]) -> dict[bytes, Address]:
    """Who sent each transaction."""
    gate = asyncio.Semaphore(_TOGETHER)

    async def one(tx_hash: bytes) -> tuple[bytes, Address]:
        async with gate:
            sent = await chain.transaction(tx_hash)
        if sent is None:
            raise EndpointError("the endpoint does not know a transaction whose log it serves", tx="0x" + tx_hash.hex())
        return tx_hash, sent.sender

    return dict(await asyncio.gather(*map(one, {settlement.at.tx_hash for settlement in settlements})))
