"""What the adapter kit plays on, and the steps that its tests share: see ``kit``."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from challenger.chain.answers import RawLog
from challenger.chain.follower import Follower, Malformed, Options
from challenger.chain.rpc import Rpc
from challenger.domain import (
    Action,
    Address,
    Call,
    ChainEvent,
    DisputeClosed,
    DisputeId,
    DisputeOpened,
    Intent,
)
from challenger.errors import Reverted
from challenger.plugins.registry import Disputed, Place
from challenger.protocols.base import Accusation, Adapter
from challenger.store import migrate
from challenger.store.engine import open_store
from challenger.store.schema import commitments, disputes, events, models, tasks

#: Steps that opening or ending a dispute may take before the kit gives up.
STEPS = 64
ELSEWHERE = Address("0x" + "5e" * 20)


class Stage(Protocol):
    """One deployed protocol. ``place`` has the account whose disputes these are, and its secret."""

    @property
    def plugin(self) -> Disputed: ...

    @property
    def place(self) -> Place: ...

    @property
    def rpc(self) -> Rpc: ...

    async def commit(self, *, honest: bool) -> Accusation:
        """A provider answers a fresh task. Gives what a replay comes to: the committed roots of an ``honest`` one, others
        else; ``evidence`` is any digest."""
        ...

    async def send(self, call: Call) -> None:
        """Sends as the account and has it mined; raises when it reverts."""
        ...

    async def mine(self, seconds: int = 0) -> None:
        """One block, exactly so many seconds after the last; with 0, whenever it comes."""
        ...

    async def decide(self, dispute: DisputeId, *, for_us: bool) -> None:
        """Whoever decides (a court, voters, time) does what ends the dispute so."""
        ...

    async def rival(self, accusation: Accusation) -> Address:
        """Somebody else disputes the commitment; who."""
        ...


async def adapter_on(stage: Stage, **changes: Any) -> Adapter:
    """An adapter made anew, as after a restart, and checked. ``changes``: of the place."""
    made = stage.plugin.adapter(replace(stage.place, **changes))
    await made.check()
    return made


async def logs_on(stage: Stage, adapter: Adapter) -> list[RawLog]:
    head = await stage.rpc.block("latest")
    return await stage.rpc.logs(adapter.emitters, 0, head.number, [adapter.topics])


async def events_on(stage: Stage, adapter: Adapter) -> list[ChainEvent]:
    """All that the chain says. Raises AssertionError for a log that is left out."""
    left: list[Malformed] = []
    told = await adapter.events(await logs_on(stage, adapter), left.append)
    assert not left, f"a log of the contract itself is called malformed: {left[0].error}"
    return told


async def opened(stage: Stage, adapter: Adapter, accusation: Accusation) -> DisputeOpened:
    """Opens the dispute as the watcher would: whatever the adapter names next, until it is there."""
    for _ in range(STEPS):
        mine = [
            event
            for event in await events_on(stage, adapter)
            if isinstance(event, DisputeOpened)
            and (event.commitment, event.challenger) == (accusation.commitment, stage.place.account)
        ]
        if mine:
            return mine[-1]
        intent = await adapter.open_dispute(accusation)
        await (stage.mine() if intent is None else stage.send(intent.call))
    raise AssertionError(f"after {STEPS} steps there is no dispute")


async def led_to_the_challenge(stage: Stage, adapter: Adapter, accusation: Accusation) -> Intent:
    """All that comes before it is sent; the transaction that opens the dispute is not."""
    for _ in range(STEPS):
        intent = await adapter.open_dispute(accusation)
        if intent is not None and intent.action is Action.CHALLENGE:
            return intent
        await (stage.mine() if intent is None else stage.send(intent.call))
    raise AssertionError(f"after {STEPS} steps nothing opens the dispute")


async def refused(stage: Stage, intent: Intent) -> bool:
    """Whether the contract would refuse it in a block of the head's time."""
    head, call = await stage.rpc.block("latest"), intent.call
    try:
        await stage.rpc.call(call.to, call.data, head.hash, sender=stage.place.account, value=call.value)
    except Reverted:
        return True
    return False


async def ended(stage: Stage, adapter: Adapter, dispute: DisputeId) -> DisputeClosed:
    """Takes the dispute to its end."""
    for _ in range(STEPS):
        closed = [e for e in await events_on(stage, adapter) if isinstance(e, DisputeClosed) and e.dispute == dispute]
        if closed:
            return closed[-1]
        intent = await adapter.advance(dispute)
        await (stage.mine(1) if intent is None else stage.send(intent.call))
    raise AssertionError(f"after {STEPS} steps the dispute is not over")


async def indexed(stage: Stage, adapter: Adapter, near: int) -> dict[str, list[Any]]:
    """What a fresh index holds of the chain, ``near`` blocks at a time: rows by table."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'kit.sqlite'}"
        await migrate.upgrade(url)
        async with open_store(url) as store:
            follower = Follower(stage.rpc, store.index(), adapter, Options(depth=4096, near=near))
            while await follower.step():
                pass
            async with store.read() as view:
                return {
                    table.name: sorted((await view.connection.execute(table.select())).all(), key=repr)
                    for table in (events, models, tasks, commitments, disputes)
                }


def key_of(intent: Intent) -> tuple[str, str, Action]:
    """What the store sends once."""
    return intent.protocol, intent.subject, intent.action


def spoilt_of(log: RawLog, draw: random.Random) -> Sequence[RawLog]:
    """What an endpoint that is broken or lies might serve in place of ``log``."""
    data, topics = log.data, log.topics
    flipped = bytearray(data or b"\0")
    flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
    swapped = (*topics[:1], *(draw.randbytes(32) for _ in topics[1:]))
    return (
        log._replace(data=data[: len(data) // 2]),
        log._replace(data=draw.randbytes(len(data))),
        log._replace(data=b"\xff" * len(data)),
        log._replace(data=bytes(flipped)),
        log._replace(data=b""),
        log._replace(topics=topics[:1]),
        log._replace(topics=(*topics, bytes(32))),
        log._replace(topics=swapped),
        log._replace(topics=()),
    )
