"""A recording of what the settings' endpoints serve: opened, checked, and the range chosen. No key is ever loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from challenger.chain.rpc import Rpc
from challenger.domain import Block, BlockNumber, ChainId
from challenger.endpoints import open_endpoints
from challenger.errors import ConfigError
from challenger.parts import artifact_store
from challenger.protocols.reference import ReferenceAdapter
from challenger.recording.lines import Deployment
from challenger.recording.record import Recorded, Wanted, record
from challenger.settings import Settings, addresses, without_key
from challenger.telemetry.instruments import Instruments

#: The largest model that goes into a recording unless told otherwise.
MODEL_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """``first`` None: the contract's first block; ``last`` None: the newest settled one. ``data`` False leaves out what
    stands behind URIs, and the models; those of more than ``model_bytes`` stay out anyway."""

    first: int | None = None
    last: int | None = None
    proofs: bool = True
    data: bool = True
    model_bytes: int = MODEL_BYTES


async def record_range(
    given: Settings,
    asked: Range,
    path: Path,
    told: Callable[[Block, Recorded], None] = lambda *_: None,
    rpc: Rpc | None = None,
) -> Recorded:
    """``rpc`` stands in for the first endpoint. Raises ConfigError for a range that is not there, and what ``record`` and
    ``ReferenceAdapter.check`` raise."""
    settings = addresses(without_key(given))
    chain = settings.chain
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(open_endpoints(settings, Instruments(), rpc))
        adapter = ReferenceAdapter(endpoints.rpc, ChainId(chain.chain_id), chain.market, anchor=chain.anchor or None)
        await adapter.check()
        head = (await endpoints.rpc.block("latest")).number
        settled = head if chain.embedded else max(0, head - chain.confirmations)
        first = chain.start_block if asked.first is None else asked.first
        last = settled if asked.last is None else asked.last
        if not first <= last <= settled:
            raise ConfigError(
                "the first and last block must be in order, and settled by now", first=first, last=last, settled=settled
            )
        wanted = Wanted(None, 0, 0)
        if asked.data:
            store = await stack.enter_async_context(artifact_store(settings))
            wanted = Wanted(store, settings.replay.input_bytes, asked.model_bytes)
        deployment = Deployment(
            adapter.name,
            ChainId(chain.chain_id),
            chain.market,
            chain.anchor,
            BlockNumber(first),
            BlockNumber(last),
            asked.proofs,
        )
        return await record(endpoints.rpc, endpoints.reader(), deployment, chain.start_block, wanted, path, told)
