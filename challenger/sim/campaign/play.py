"""One world from its first block to its last, with everything that its plan does to it."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import func, select

from challenger.domain import State
from challenger.errors import StoreError
from challenger.settings import Settings
from challenger.sim import files
from challenger.sim.campaign.bonds import Bonds
from challenger.sim.campaign.life import FaultyFiles, Life
from challenger.sim.campaign.plan import ENDPOINTS, RULES, Plan
from challenger.sim.data import DataRoom
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.faults.engine import BLOCK, Engine
from challenger.sim.faults.kinds import OF_ENDPOINTS, Fault
from challenger.sim.faults.provider import FaultyProvider
from challenger.sim.scenario import plan as deal
from challenger.sim.toy import ToyBench, kits
from challenger.sim.world import WATCHER, World
from challenger.store import migrate
from challenger.store.schema import work

#: Blocks without anything moving before time is passed over, and after which all is over.
QUIET = 4
#: Where data seems to lie: the same on every machine, since it stands on chain.
ADDRESS = "file:///data"
_MOST_BLOCKS = 600
#: Tries of a replay whose worker dies: with their pauses they outlast the weather, as an operator would have it.
_ATTEMPTS = 9
#: A lease runs by the real clock, which nothing else here does: longer than any world takes.
_LEASE = 3_600.0
#: Seconds by which a skewed machine's date may be wrong, and for how many blocks it is.
_ERRORS = (-7_200, -300, -100, -70, 70, 300, 7_200)
_ASTRAY = 40
_WAITING = (State.OBSERVED, State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.UNAVAILABLE)
#: Independent endpoints that must show the same case, and how many must be well for a filing to be due.
_NEED = 2


@dataclass(slots=True)
class Played:
    """What checks stand on. ``hindered``: for each block's time, what stood in the way of a filing then."""

    plan: Plan
    world: World
    devnet: InlineDevnet
    life: Life
    settings: Settings
    engine: Engine
    account: bytes
    bonds: Bonds
    hindered: list[tuple[int, frozenset[str]]] = field(default_factory=list)
    reorgs: Counter[int] = field(default_factory=Counter)
    restless: bool = False


class Director:
    """Does to the chain what the plan says, before every block; lets the watcher have its turn after it."""

    def __init__(self, played: Played, base: int) -> None:
        self._p = played
        self._base = base
        self._busy = False
        self._done: set[int] = set()
        self.idle = 0

    def before(self) -> None:
        p, node, engine = self._p, self._p.devnet.node, self._p.engine
        p.bonds.look(node)
        engine.height = node.height + 1 - self._base
        for number, one in enumerate(engine.episodes):
            if number in self._done or not one.at(engine.height):
                continue
            dice = engine.dice(f"chain {one.fault}")
            if one.fault is Fault.SPIKE:
                node.chain.surge = 20
            elif one.fault is Fault.SKEW:
                node.force_next(node.next_time() + dice.randint(1, 5) * BLOCK)
                engine.misread(engine.dice("date").choice(_ERRORS), _ASTRAY)
            elif one.fault is Fault.DROPPED:
                for tx in [tx for tx in node.pool if tx.sender == p.account]:
                    node.pool.remove(tx)
            elif one.fault is Fault.REORG:
                self._reorg(min(one.depth, node.height - self._base), keep=one.how == "keep")
            else:
                continue
            self._done.add(number)
            engine.injected[one.fault] += 1
        censored = next(engine.now(Fault.CENSOR), None) is not None
        engine.injected[Fault.CENSOR] += censored
        node.censored = frozenset({p.account} if censored else ())
        p.hindered.append((node.head_time, frozenset(self._hindrances())))

    def _reorg(self, depth: int, *, keep: bool) -> None:
        """The others' transactions are mined again in their order; ours are, or they are gone."""
        if depth < 1:
            return
        account = self._p.account
        self._p.devnet.node.rewrite(depth, depth + 1, lambda tx: keep or tx.sender != account)
        self._p.bonds.look(self._p.devnet.node)
        self._p.reorgs[depth] += 1
        self._p.world.reread()

    def _hindrances(self) -> list[str]:
        p, engine = self._p, self._p.engine
        active = [one for one in engine.episodes if one.at(engine.height)]
        troubled = {one.where for one in active if one.fault in OF_ENDPOINTS}
        # of a leap of fees it is the fee that counts, below
        found = [str(one.fault) for one in active if one.fault not in (*OF_ENDPOINTS, Fault.SPIKE)]
        if ENDPOINTS - len(troubled) < _NEED:
            found.append("quorum")
        if any(one.fault is Fault.LYING for one in active):
            found.append("disagreement")  # one contradiction stops a filing
        if p.devnet.node.chain.next_header(p.devnet.node.next_time()).base_fee_per_gas > p.plan.max_fee // 2:
            found.append("fee")
        return found

    def block_in_passing(self) -> None:
        """Seconds went by while the watcher waited for something: the block that came meanwhile."""
        node = self._p.devnet.node
        self.before()
        node.force_next(node.next_time() + BLOCK)
        node.mine()

    async def after(self) -> None:
        if self._busy:
            return
        self._busy = True
        p = self._p
        operator = p.plan.correlated < 100 and p.devnet.node.height % 5 == 0
        moved = await p.life.turn(operator=operator)
        self.idle = 0 if moved else self.idle + 1
        self._busy = False


async def play(plan: Plan, folder: Path, template: Path) -> Played:
    """``template``: an empty database of the present schema, copied into ``folder``."""
    devnet = InlineDevnet()
    made = files.make(folder / "world")
    world = await World.open(devnet, made.path, deal(plan.knobs), kits(), ToyBench(), params=RULES, base=ADDRESS)
    account = devnet.accounts[WATCHER]
    settings = made.write_config(world.deployment, account.key, 1.0)
    settings = replace(
        settings,
        # as an operator who spends money must have it: on what one endpoint says nothing is filed
        chain=replace(settings.chain, embedded=False, quorum=_NEED),
        replay=replace(settings.replay, retry_seconds=BLOCK, attempts=_ATTEMPTS),
        filing=replace(
            settings.filing,
            exposure=plan.exposure,
            max_fee=plan.max_fee,
            correlated_providers=plan.correlated,
            lease_seconds=_LEASE,
        ),
    )
    shutil.copyfile(template, made.database)
    engine = Engine(plan.seed, plan.episodes)
    providers = [FaultyProvider(devnet.node, engine, number) for number in range(ENDPOINTS)]
    room = DataRoom(made.path / "data", ADDRESS)
    life = Life(
        settings,
        providers,
        FaultyFiles(engine, room.read),
        engine,
        plan.seed,
        lambda: devnet.node.head_time + engine.clock_error,
    )
    played = Played(
        plan, world, devnet, life, settings, engine, bytes.fromhex(account.address[2:]), Bonds(account.address, RULES)
    )
    director = Director(played, devnet.node.height)
    devnet.before, devnet.after, engine.block = director.before, director.after, director.block_in_passing
    try:
        await _story(played, director)
    finally:
        devnet.before, devnet.after = (lambda: None), _nothing
        await life.end()
        await world.close()
    return played


async def _story(p: Played, director: Director) -> None:
    world = p.world
    await world.blocks.tick(2)
    for tasks, pause in zip(world.scenario.rounds, p.plan.pauses, strict=False):
        await world.round(tasks)
        await world.blocks.tick(pause)
    clears = max((one.last for one in p.plan.episodes), default=0)
    for _ in range(_MOST_BLOCKS):
        if await world.step():
            director.idle = 0
        await world.blocks.tick()
        if director.idle < QUIET or p.engine.height <= clears:
            continue
        await world.finish()
        if director.idle < QUIET:
            continue
        if (wake := await _wake(p)) is None:
            return
        await world.blocks.travel(wake)
    p.restless = True


async def _wake(p: Played) -> int | None:
    """When something will happen next, now that nothing does; None: never."""
    now = await p.world.blocks.now()
    times = [p.world.last_demand(), p.world.last_window()]
    times += [one.ruling_by for one in p.world.market.disputes.values()]
    app = p.life.app
    if app is not None:
        query = select(func.min(work.c.next_try)).where(
            work.c.state.in_([str(one) for one in _WAITING]), work.c.next_try > now
        )
        try:
            async with app.store.read() as view:
                times.append((await view.connection.execute(query)).scalar_one_or_none())
        except StoreError:
            return now + BLOCK
    return min((time for time in times if time is not None and time > now), default=None)


async def _nothing() -> None:
    return


async def make_template(path: Path) -> None:
    await migrate.upgrade(f"sqlite+aiosqlite:///{path}")
