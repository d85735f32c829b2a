"""The watcher run over a recorded chain, under a simulated clock: the same parts that `challenger run` wires, in watch
mode. Equal recordings, settings and seeds give equal journals.

Time is the recording's. It moves on by ``every`` seconds when the watcher has nothing left to do, and by a replay's
seconds at each replay; the newest block is the newest of that time. Everything happens one thing after the other, and
nothing is filed: what our transactions would have changed, no recording can tell.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import func, select

from challenger.app import App, Replaying, opened
from challenger.chain.answers import parse_logs
from challenger.chain.rpc import Rpc
from challenger.domain import Block, ChainEvent, Mode
from challenger.errors import ConfigError, Expected
from challenger.parts import left_out
from challenger.pipeline.engine import Files, Workers
from challenger.recording.files import RecordedFiles
from challenger.recording.lines import Deployment
from challenger.recording.provider import RecordedProvider
from challenger.recording.results import KnownWorkers, Results
from challenger.recording.spool import Spool
from challenger.settings import SelftestSettings, Settings, SignerSettings, StoreSettings, TelemetrySettings
from challenger.store import migrate
from challenger.store.inline import passing
from challenger.store.schema import commitments, verdicts
from replay.recording import Recording

#: Blocks below the first one that are put into the index in one transaction.
_PAGE = 500
#: Rounds without the clock moving after which something turns in circles.
_ROUNDS = 100_000


@dataclass
class Clock:
    """Simulated seconds since 1970."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. ``head``: number and hash of the journal's last entry; ``states`` of commitments and ``verdicts``
    by kind; ``seconds``: simulated; ``run`` and ``known``: replays that were run, and whose results were known;
    ``alerts``: those that stood at the end."""

    blocks: int
    commitments: int
    states: Mapping[str, int]
    verdicts: Mapping[str, int]
    entries: int
    head: bytes
    seconds: int
    run: int
    known: int
    alerts: tuple[str, ...]


def settings_for(deployment: Deployment, given: Settings, folder: Path, url: str) -> Settings:
    """``given`` with the recording's chain in place of its own, in watch mode without a key, with nothing that reaches
    outside."""
    chain = given.chain
    return replace(
        given,
        chain=replace(
            chain,
            rpc=("recording",),
            chain_id=deployment.chain_id,
            market=deployment.market,
            anchor=deployment.anchor,
            start_block=deployment.first,
            websocket="",
            embedded=True,
        ),
        store=StoreSettings(url, folder / "heads.jsonl", 1 << 30),
        signer=SignerSettings(),
        # a lease that outlives any replay: whose renewals depend on no clock of this machine
        filing=replace(given.filing, mode=Mode.WATCH, lease_seconds=3_600.0),
        replay=replace(given.replay, workers=1),
        selftest=SelftestSettings(rate=type(given.selftest.rate)(0)),
        telemetry=TelemetrySettings(),
    )


@dataclass(frozen=True, slots=True)
class Pace:
    """Simulated seconds: ``every`` between two looks at the chain, ``replay`` for a replay."""

    every: float = 60.0
    replay: float = 1.0


class RecordedWatch:
    """A watcher at the first block of a recording, with all that stands below it in the index."""

    def __init__(self, app: App, spool: Spool, clock: Clock, workers: KnownWorkers, every: float) -> None:
        self.app = app
        self.clock = clock
        self._spool = spool
        self._workers = workers
        self._every = every
        self._began = clock.now

    async def play(self, told: Callable[[Block], None] = lambda _: None) -> Replayed:
        """From where the clock is to the recording's end; ``told`` is called with the newest block after each look.

        Raises Expected (``RpcError`` where the recording does not hold what the watcher asks for) and StoreError."""
        app, clock, last = self.app, self.clock, self._spool.deployment.last
        end = float(self._spool.time(last))
        while True:
            looked = clock.now
            moved = await self.look()
            # replays take their time meanwhile: the next look is not kept waiting by a queue of them
            while clock.now < looked + self._every and await app.investigate():
                moved = True
            await app.telemetry.alerts.deliver()
            head = await app.rpc.block("latest")
            told(head)
            if not moved and clock.now >= end and head.number >= last:
                return await self.told()
            if not moved:
                clock.now = max(clock.now, self._news_after(looked, end))
            elif clock.now < looked + self._every:
                clock.now = min(looked + self._every, max(end, clock.now))

    def _news_after(self, looked: float, end: float) -> float:
        """The time of the next look that finds another block: those between would find what the last one found."""
        following = self._spool.time_after(looked)
        looks = 1 if following is None else max(1, math.ceil((following - looked) / self._every))
        return min(looked + looks * self._every, end)

    async def look(self) -> bool:
        """At the chain, until it has no news for this time; whether there were any. The data is fetched at once."""
        moved = False
        for _ in range(_ROUNDS):
            again = await self.app.step()
            while await self.app.gather():
                again = True
            if not again:
                return moved
            moved = True
        raise Expected("the watcher does not come to rest: this is a bug, please report it with the recording")

    async def told(self) -> Replayed:
        """The journal's head and what stands in the rows."""
        async with self.app.store.read() as view:
            tip = await view.journal.tip()
            count = select(func.count()).select_from(commitments)
            states = {state.value: number for state, number in sorted((await view.work.counts()).items())}
            kinds = select(verdicts.c.kind, func.count()).group_by(verdicts.c.kind).order_by(verdicts.c.kind)
            found = {row[0]: row[1] for row in await view.connection.execute(kinds)}
            total = (await view.connection.execute(count)).scalar_one()
        deployment = self._spool.deployment
        return Replayed(
            deployment.last - deployment.first + 1,
            total,
            states,
            found,
            tip.seq,
            tip.hash,
            round(self.clock.now - self._began),
            self._workers.run,
            self._workers.known,
            tuple(f"{name} {about}".strip() for name, about in self.app.telemetry.alerts.active()),
        )


_PACE = Pace()


@asynccontextmanager
async def watching(
    recording: Recording,
    given: Settings,
    folder: Path,
    workers: Workers,
    *,
    pace: Pace = _PACE,
    database: str = "",
    results: Results | None = None,
    fallback: Files | None = None,
    seed: str = "",
) -> AsyncIterator[RecordedWatch]:
    """``given``: the policy (sampling, replay, filing) is taken from these settings, the chain from the recording.
    ``folder``: for what lives as long as the replay. ``database`` (a URL, new or empty; else one in ``folder``) keeps the
    record; ``seed``: of the epochs' secrets, else the recording's digest; ``results`` and ``fallback`` as
    ``KnownWorkers`` and ``RecordedFiles`` have them.

    Raises ``RecordingError`` before anything is written, and what ``opened`` raises."""
    clock = Clock()
    with Spool(recording) as spool:
        deployment = spool.deployment
        settings = settings_for(deployment, given, folder, database or f"sqlite:///{folder / 'replay.sqlite'}")
        clock.now = float(spool.time(max(0, deployment.first - 1)))
        rpc = Rpc(RecordedProvider(spool, clock), name="recording", attempts=1)
        known = KnownWorkers(workers, results, pace.replay, clock.pass_time)
        if await migrate.current(settings.store.url) is not None:
            raise ConfigError("the database is not empty: a recording is replayed into a new one")
        await migrate.upgrade(settings.store.url)
        async with opened(
            settings,
            rpc=rpc,
            files=RecordedFiles(spool, recording, folder / "models", fallback),
            workers=known,
            engine=passing,
            entropy=_entropy((seed or recording.manifest.digest).encode("utf-8", "surrogateescape")),
            monotonic=clock,
            replaying=Replaying(believed=not deployment.proofs),
        ) as app:
            await _found(app, spool)
            yield RecordedWatch(app, spool, clock, known, pace.every)


async def _found(app: App, spool: Spool) -> None:
    """What was registered before the first block: into the index as it is, since the blocks between were not recorded."""
    index = app.store.index()
    cursor = await index.cursor()
    page: list[Block] = []
    for block in spool.below(spool.deployment.first):
        page.append(block)
        if len(page) == _PAGE:
            cursor, page = await index.apply(page, await _events(app, spool, page), cursor), []
    if page:
        await index.apply(page, await _events(app, spool, page), cursor)


async def _events(app: App, spool: Spool, page: list[Block]) -> list[ChainEvent]:
    logs = parse_logs(spool.logs(page[0].number, page[-1].number, list(app.adapter.topics)))
    return await app.adapter.events(logs, left_out)


def _entropy(seed: bytes) -> Callable[[int], bytes]:
    """Secrets that follow from ``seed``: the n-th is an HMAC of n."""
    count = 0

    def draw(length: int) -> bytes:
        nonlocal count
        count += 1
        found = hmac.digest(seed, count.to_bytes(8, "big"), "sha256")
        if length > len(found):
            raise ValueError("no secret is longer than 32 bytes")
        return found[:length]

    return draw
