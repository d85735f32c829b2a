"""The first endpoint that answers: a command that a person gives in need must not hang on one that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from challenger.domain import UnixTime
from challenger.errors import EndpointError, Expected
from challenger.settings import Settings

if TYPE_CHECKING:
    from challenger.chain.rpc import Rpc
    from challenger.store.engine import Store


@asynccontextmanager
async def reached(settings: Settings) -> AsyncIterator[tuple[Rpc, UnixTime]]:
    """An endpoint, and chain time by it; they are asked in the order of ``[chain] rpc``; a chain id of 0 takes any chain. ``WrongChain`` when one serves
    another chain, ``EndpointError`` with each one's trouble when none answers."""
    from challenger.chain.endpoint import connect

    chain, troubles = settings.chain, []
    async with AsyncExitStack() as stack:
        for url in chain.rpc:
            try:
                rpc = await stack.enter_async_context(
                    connect(url, chain_id=chain.chain_id or None, timeout=chain.timeout)
                )
                now = (await rpc.block("latest")).time
            except Expected as error:
                troubles.append(str(error))
                continue
            yield rpc, now
            return
    raise EndpointError(f"none answers ({'; '.join(troubles)})")


async def indexed_time(store: Store) -> UnixTime:
    """Chain time as the record has it, 0 while it has none: what needs no endpoint asks none."""
    async with store.read() as view:
        head = await view.chain.head()
    return UnixTime(0) if head is None else head.time
