"""A small market for tests: an embedded chain that stands still until it is told to go on, four honest providers and
the cheats that one asks for, and the real watcher in step with its blocks. The model is the toy.

Nothing here waits for a clock: time is the chain's, the database and the chain answer in the caller's own turn, and the
watcher's secrets follow from the seed. The same calls make the same chain and the same journal, to the last hash.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from challenger.app import App, opened
from challenger.chain.rpc import Rpc
from challenger.domain import Address, CommitmentId, Hash32, State, UnixTime, VerdictKind
from challenger.errors import ChallengerError
from challenger.settings import Settings
from challenger.sim import files
from challenger.sim.data import DataRoom
from challenger.sim.deploy import MarketParams
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.scenario import CHEATS, DIGITS, Kind, Knobs, plan
from challenger.sim.scoreboard import Label, Truth
from challenger.sim.toy import ToyBench, ToyFiles, ToyWorkers, kits
from challenger.sim.world import WATCHER, World
from challenger.store import inline, migrate

#: Seconds from block to block.
BLOCK = 12
#: Where data seems to lie: it stands on chain, and must not depend on the folder.
_ADDRESS = "file:///data"
_HONEST = 4
#: More commitments than anybody plays in a test.
_ALL = 1_000_000
#: A lease runs by the real clock, which nothing else here does: longer than any test takes.
_LEASE = 3_600.0


class NeverQuiet(ChallengerError):
    """the watcher never comes to rest"""


@dataclass(slots=True)
class SmallWorld:
    """Made by ``small_world``. ``settings``: of a challenger that draws every commitment and files by itself; replace
    what you like and hand it to ``challenger``."""

    devnet: InlineDevnet
    settings: Settings
    workers: ToyWorkers
    _world: World
    _secrets: random.Random
    _files: ToyFiles

    @property
    def rpc(self) -> Rpc:
        """The chain, for whatever else shall look at it."""
        return self.devnet.rpc

    @property
    def market(self) -> Address:
        return self._world.deployment.market

    @property
    def account(self) -> Address:
        """The challenger's."""
        return self.devnet.accounts[WATCHER].address

    @property
    def labels(self) -> Sequence[Label]:
        """What each answer really is, in the order of the commitments: provider, kind of fraud, truth."""
        return tuple(self._world.labels)

    def answers(self, truth: Truth) -> frozenset[CommitmentId]:
        return frozenset(CommitmentId(label.job) for label in self._world.labels if label.truth is truth)

    @property
    def honest(self) -> frozenset[CommitmentId]:
        return self.answers(Truth.HONEST)

    @property
    def frauds(self) -> frozenset[CommitmentId]:
        """Answers whose roots are wrong."""
        return self.answers(Truth.WRONG)

    @property
    def withheld(self) -> frozenset[CommitmentId]:
        """Answers whose roots are right and whose output nobody can get."""
        return self.answers(Truth.WITHHELD)

    async def play(self) -> None:
        """Every task of the plan is opened, taken and answered."""
        await self._world.play()

    async def react(self) -> bool:
        """Providers, requester and judges act on disputes and demands as they stand; whether anybody did."""
        return await self._world.step()

    async def now(self) -> UnixTime:
        """Chain time: UTC seconds of the newest block."""
        return UnixTime(await self._world.blocks.now())

    async def advance(self, seconds: int = BLOCK) -> None:
        """Chain time goes on by ``seconds``, and a block is mined there."""
        await self._world.blocks.travel(await self._world.blocks.now() + seconds)

    async def reorg(self, depth: int, *, keep: bool = True) -> None:
        """The last ``depth`` blocks are replaced by one more. ``keep``: their transactions are mined again, all in the
        first of them; else they are gone. Everybody but the challenger reads the chain anew."""
        await self.devnet.reorg(depth, keep=keep)
        self._world.reread()

    async def accused(self, event: str, by: Address | None = None) -> list[CommitmentId]:
        """Commitments of the market's events ``Challenged`` or ``Demanded`` in chain order; ``by``: of one account."""
        await self._world.refresh()
        who = {"Challenged": "challenger", "Demanded": "demander"}[event]
        found = [one.args for one in self._world.history.events if one.name == event]
        return [CommitmentId(args["job"]) for args in found if by is None or args[who] == by]

    @asynccontextmanager
    async def challenger(self, settings: Settings | None = None) -> AsyncIterator[SmallChallenger]:
        """A challenger on this market. After the block it is gone, as a process that was stopped; the next one goes on
        from its database. Raises what ``challenger.app.opened`` raises."""
        settings = settings or self.settings
        await migrate.upgrade(settings.store.url)
        parts = opened(
            settings,
            rpc=self.devnet.rpc,
            files=self._files,
            workers=self.workers,
            engine=_in_our_own_turn,
            entropy=self._secrets.randbytes,
            monotonic=lambda: float(self.devnet.node.head_time),
        )
        async with parts as app:
            yield SmallChallenger(self, app)


@dataclass(slots=True)
class SmallChallenger:
    """The watcher that ``challenger run`` wires, stepped by hand. ``app`` has everything else."""

    world: SmallWorld
    app: App
    #: Everybody else on the market acts too, in each turn.
    people: bool = field(default=True)

    async def turn(self) -> bool:
        """All that the challenger, and everybody else, can do now; then the next block. Whether anything moved."""
        moved = await self.app.step()
        await self.app.gather()
        if await self.app.investigate():
            moved = True
            await self.app.step()
        if self.people:
            moved |= await self.world.react()
        await self.world.advance()
        return moved

    async def until_quiet(self, blocks: int = 6, most: int = 200) -> int:
        """Turns until nothing moved for ``blocks`` blocks; their number. ``NeverQuiet`` after ``most``."""
        idle = 0
        for turn in range(1, most + 1):
            idle = 0 if await self.turn() else idle + 1
            if idle == blocks:
                return turn
        raise NeverQuiet(turns=most)

    async def verdicts(self) -> dict[CommitmentId, VerdictKind]:
        """The last verdict on each commitment that has one."""
        found: dict[CommitmentId, VerdictKind] = {}
        async with self.app.store.read() as view:
            for item in await view.work.listing(limit=_ALL):
                for one in await view.verdicts.of(item.work.commitment):
                    found[item.work.commitment] = VerdictKind(one.kind)
        return found

    async def states(self) -> dict[CommitmentId, State]:
        """Where each commitment stands with the challenger."""
        async with self.app.store.read() as view:
            return {item.work.commitment: State(item.work.state) for item in await view.work.listing(limit=_ALL)}

    async def filings(self) -> list[CommitmentId]:
        """What it challenged, as the chain has it, in order."""
        return await self.world.accused("Challenged", self.world.account)

    async def demands(self) -> list[CommitmentId]:
        """Whose data it demanded, as the chain has it, in order."""
        return await self.world.accused("Demanded", self.world.account)

    async def approve(self, note: str = "looked at in a test") -> int:
        """A person lifts every pause of filing (two providers of one model accused at once make one); how many there
        were."""
        return await self.app.approve("", "tester", note)

    async def journal(self) -> tuple[int, Hash32]:
        """Number and hash of the journal's last entry."""
        async with self.app.store.read() as view:
            tip = await view.journal.tip()
        return tip.seq, Hash32(tip.hash)


@asynccontextmanager
async def small_world(
    folder: Path,
    cheats: Sequence[str] = ("nudge",),
    *,
    tasks: int = 0,
    seed: int = 1,
    rules: MarketParams | None = None,
) -> AsyncIterator[SmallWorld]:
    """Four honest providers and one for each of ``cheats`` (int8, older, nudge, truncate, copy, withhold), who cheats
    whenever it answers. ``tasks``: dealt in turn, by default one for each provider. ``folder`` is empty, or not there.

    Raises ``ValueError`` for a cheat that does not exist.
    """
    kinds = tuple(dict.fromkeys(map(_kind, cheats)))
    count = tasks or _HONEST + len(kinds)
    scenario = plan(Knobs(tasks=count, seed=seed, cheating=100, cheats=kinds, models=(DIGITS,)))
    devnet, made = InlineDevnet(), files.make(folder)
    toys = [kit for kit in kits() if kit.name == DIGITS]
    world = await World.open(devnet, made.path, scenario, toys, ToyBench(), params=rules, seconds=BLOCK, base=_ADDRESS)
    try:
        settings = made.write_config(world.deployment, devnet.accounts[WATCHER].key, 1.0)
        settings = replace(
            settings,
            replay=replace(settings.replay, retry_seconds=BLOCK),
            filing=replace(settings.filing, lease_seconds=_LEASE),
        )
        secrets = random.Random(f"secrets {seed}")  # noqa: S311  a simulated watcher's
        room = DataRoom(made.path / "data", _ADDRESS)
        yield SmallWorld(devnet, settings, ToyWorkers(), world, secrets, ToyFiles(room.read))
    finally:
        await world.close()


def _kind(name: str) -> Kind:
    known = {kind.name.lower(): kind for kind in CHEATS}
    if name.lower() not in known:
        raise ValueError(f"there is no cheat {name!r}: known are {', '.join(known)}")
    return known[name.lower()]


def _in_our_own_turn(url: URL, _busy_seconds: float) -> AsyncEngine:
    return inline.engine(url)
