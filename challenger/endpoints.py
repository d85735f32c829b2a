"""The endpoints that settings name, as one pool to read from and one by one as witnesses."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from challenger.chain.asking import Member
from challenger.chain.complete import CheckedReader
from challenger.chain.endpoint import connect
from challenger.chain.follower import Reader
from challenger.chain.pool import Change, PoolProvider
from challenger.chain.rpc import Rpc
from challenger.chain.wakeup import Wakeup
from challenger.domain import Block, Mode
from challenger.pipeline.agree import Agreement
from challenger.pipeline.quorum import Contract, Quorum, Source
from challenger.settings import Settings, host_of
from challenger.store.engine import Store
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say


@dataclass(frozen=True, slots=True)
class Endpoints:
    """``rpc`` reads from a fit one and sends through all; ``members`` are asked alone; ``clock`` is monotonic."""

    rpc: Rpc
    pool: PoolProvider
    telemetry: Instruments
    clock: Callable[[], float]

    @property
    def members(self) -> tuple[Member, ...]:
        return self.pool.members

    def reader(self, *, believed: bool = False) -> Reader:
        """For the follower: logs near the head are held against their blocks' hashes, unless there is nothing to hold
        against them (``believed``)."""
        if believed:
            return self.rpc
        return CheckedReader(self.rpc, self._witnesses, caught=self._caught, unchecked=_unchecked)

    def agreement(self, settings: Settings, store: Store, contract: Contract) -> Agreement:
        """In the modes that spend the quorum as set (1 on an embedded chain); else no more than there are hosts."""
        hosts = len({member.host for member in self.members})
        live = settings.mode in (Mode.LIVE, Mode.CONFIRM) and not settings.chain.embedded
        needed = settings.chain.quorum if live else min(settings.chain.quorum, hosts)
        sources = [Source(one.rpc.hasty(), one.host, partial(self.pool.fit, one)) for one in self.members]
        quorum = Quorum(sources, contract, needed, bound=settings.chain.timeout, clock=self.clock)
        return Agreement(store, quorum, contract, self.rpc, self.telemetry)

    def _witnesses(self) -> Sequence[Rpc]:
        """The one that is read from, then those that are well: one that hangs is waited for only where nobody else can say."""
        current = self.pool.current
        others = sorted((one for one in self.members if one is not current), key=lambda one: not self.pool.fit(one))
        return [one.rpc.hasty() for one in (current, *others)]

    def _caught(self, endpoint: str, why: str) -> None:
        self.telemetry.alerts.alert("false-logs", about=endpoint, why=why)
        self.pool.distrust(endpoint, why)


@asynccontextmanager
async def open_endpoints(
    settings: Settings,
    telemetry: Instruments,
    rpc: Rpc | None = None,
    others: Sequence[Rpc] = (),
    *,
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
    rng: random.Random | None = None,
) -> AsyncIterator[Endpoints]:
    """Starts with those that answer. ``rpc`` stands in for the first endpoint, ``others`` for the next ones; ``clock``
    (monotonic seconds) and ``rng`` say when one that failed is tried again, ``wall`` (this machine's date) whose head is of
    the future. Raises ConfigError, WrongChain when one serves another chain, EndpointError when none answers."""
    chain = settings.chain
    given = [] if rpc is None else [rpc, *others]
    async with AsyncExitStack() as stack:
        # those of this process have no host: each counts as one
        members = [Member(one, f"{one.name}#{index}") for index, one in enumerate(given)]
        for url in dict.fromkeys(chain.rpc[len(given) :]):
            alone = await stack.enter_async_context(connect(url, timeout=chain.timeout))
            members.append(Member(alone, host_of(url)))

        early: list[Change] = []
        running = False

        def changed(change: Change) -> None:
            if not running:
                early.append(change)  # a start that fails says so itself, in one line
            elif change.why:
                telemetry.alerts.alert("endpoint", about=change.endpoint, why=change.why)
            else:
                telemetry.alerts.clear("endpoint", change.endpoint)

        pool = PoolProvider(
            members,
            chain_id=chain.chain_id,
            lag=chain.lag,
            timeout=chain.timeout,
            rng=rng,
            clock=clock,
            wall=None if chain.embedded else wall,
            on_change=changed,
        )
        await pool.start()
        running = True
        for change in early:
            changed(change)
        name = ", ".join(member.name for member in members)
        patience = len(members) * chain.timeout + 10.0
        yield Endpoints(Rpc(pool, name=name, timeout=patience), pool, telemetry, clock)


def _unchecked(block: Block, why: str) -> None:
    say("logs-unchecked", level=logging.WARNING, block=block.number, why=why)


def wakeup(settings: Settings) -> Wakeup | None:
    """The WebSocket that settings name, None where they name none."""
    where = settings.chain.websocket
    return Wakeup(where, lost=_lost) if where else None


def _lost(why: str) -> None:
    say("wakeup-lost", level=logging.WARNING, why=why)
