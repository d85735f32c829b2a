"""What happens in the lives of the crash matrix beside a false answer.

Each story is told by the chain alone (and where a person acts, by the record), so it is the same whoever dies when.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from challenger.chain.codec import Event
from challenger.domain import Call, CommitmentId, DemandId, DisputeId, Hash32, Mode, State, Wei
from challenger.protocols.reference_calls import Claim, MarketCalls, seal_digest
from challenger.settings import Settings
from challenger.sim.files import EPOCH_BLOCKS
from challenger.sim.scenario import Kind
from challenger.sim.wallet import Wallet
from challenger.store.backup import backup, restore
from challenger.store.heads import FilePublisher
from tests.crash.life import Came, Life, Story
from tests.crash.watcher import Driven

#: Nobody else's among the devnet's accounts.
_OTHER = 18


async def _seen(life: Life, name: str) -> Event | None:
    """The first event of this name that the chain shows."""
    await life.world.refresh()
    return next((event for event in life.world.history.events if event.name == name), None)


def _ours(life: Life) -> bytes:
    return bytes.fromhex(life.account[2:])


def _waits(life: Life, what: Call) -> bool:
    """Whether a transaction of ours that calls the same as ``what`` waits for a block."""
    to, selector = bytes.fromhex(what.to[2:]), what.data[:4]
    waiting = [tx for tx in life.devnet.node.pool if tx.sender == _ours(life)]
    return any((tx.to, tx.data[:4]) == (to, selector) for tx in waiting)


def _wallet(life: Life, name: str) -> Wallet:
    return Wallet(life.devnet.rpc, life.devnet.accounts[_OTHER].key, name)


def _calls(life: Life) -> MarketCalls:
    return MarketCalls(life.world.deployment.market)


def _seal(life: Life) -> Call:
    return _calls(life).seal(Hash32(bytes(32)))


def _challenge(life: Life) -> Call:
    return _calls(life).challenge(_sham(life), Wei(0))


def _sham(life: Life) -> Claim:
    return Claim(CommitmentId(life.jobs[0]), *(Hash32(bytes([n]) * 32) for n in range(4)))


def _rewritten(life: Life, first: int, keep: Callable[[Any], bool]) -> None:
    """All blocks from ``first`` on are replaced; they hold those of their transactions that ``keep`` picks."""
    depth = life.devnet.node.height - first + 1
    life.devnet.node.rewrite(depth, depth, keep)
    life.world.reread()


@dataclass
class Reorganised(Story):
    """Once our challenge has been seen on chain, everything from the block of ``since`` on is replaced. ``kept``: our
    transactions stand in the new blocks again, else they are gone and must be sent again."""

    since: str = "Challenged"
    kept: bool = False
    gives_up: bool = True
    fails: bool = True
    told: bool = False

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if self.told or await _seen(life, "Challenged") is None:
            return Came.NOTHING
        first = await _seen(life, self.since)
        assert first is not None
        _rewritten(life, first.log.block, lambda tx: self.kept or tx.sender != _ours(life))
        self.told = True
        return Came.SOMETHING


@dataclass
class Uncommitted(Story):
    """Once our challenge has been seen on chain, the commitment itself is taken out, and everything after it: for two
    turns there is nothing to accuse; then its provider commits again."""

    gives_up: bool = True
    fails: bool = True
    turns: int = 0
    commitment: bytes = b""

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if self.turns:
            self.turns += 1
            if self.turns == 3:
                life.devnet.node.send(self.commitment)
            return Came.SOMETHING if self.turns <= 3 else Came.NOTHING
        if await _seen(life, "Challenged") is None:
            return Came.NOTHING
        made = await _seen(life, "Committed")
        assert made is not None
        first = made.log.block
        provider = bytes.fromhex(made.args["provider"][2:])
        (tx,) = [tx for tx in life.devnet.node.chain.blocks[first].transactions if tx.sender == provider]
        self.commitment = tx.encode()
        gone = {provider, _ours(life)}
        _rewritten(life, first, lambda tx: tx.sender not in gone)
        self.turns = 1
        return Came.SOMETHING


@dataclass
class Person(Story):
    """In mode confirm a person approves what is asked. ``redrawn``: before that the block by which it was drawn is
    replaced, once, and with it go the draw and all that followed."""

    redrawn: bool = False

    def tuned(self, settings: Settings) -> Settings:
        return replace(settings, filing=replace(settings.filing, mode=Mode.CONFIRM))

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if not life.asked("SELECT subject FROM approvals"):
            assert not life.asked("SELECT id FROM transactions WHERE action = 'seal'"), "nobody has approved it"
        if not life.asked("SELECT commitment FROM work WHERE state = 'confirmed'"):
            return Came.NOTHING
        if self.redrawn:
            (drawn,) = life.asked("SELECT draw_block FROM work")
            _rewritten(life, drawn, lambda _: True)
            self.redrawn = False
            return Came.SOMETHING
        moved = await watcher.told("decide")
        return Came.DEATH if moved is None else Came.SOMETHING if moved else Came.NOTHING


@dataclass
class Correlated(Story):
    """Two providers of one model are wrong within the hour: filing waits until a person lifts that."""

    cheats: tuple[Kind, ...] = (Kind.NUDGE, Kind.TRUNCATE)

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if not life.asked("SELECT id FROM pauses WHERE resumed_at IS NULL"):
            return Came.NOTHING
        assert life.asked("SELECT count(*) FROM work WHERE state = 'confirmed'") == [1], (
            "paused, and filed all the same"
        )
        moved = await watcher.told("approve")
        return Came.DEATH if moved is None else Came.SOMETHING if moved else Came.NOTHING


@dataclass
class OldCopy(Story):
    """The watcher is stopped, the record put back to a copy made earlier, and another started. ``waiting``: while our
    challenge waits for a block, else when it is on chain."""

    changes: int = 1
    copied: str = "work:replayed->confirmed"
    waiting: bool = False
    told: bool = False

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if self.told or not await self._due(life):
            return Came.NOTHING
        await watcher.stop()
        url = f"sqlite:///{life.database}"
        backup(url, life.lost_record)
        restore(url, life.copy, force=True)
        life.lost = len(await FilePublisher(life.heads).published())
        self.told = True
        return Came.CHANGE

    async def _due(self, life: Life) -> bool:
        return _waits(life, _challenge(life)) if self.waiting else await _seen(life, "Challenged") is not None


@dataclass
class Rival(Story):
    """Somebody else accuses too, and is judged first. ``due``: once ours waits with its seal; else, ``stuck`` or not, with
    its challenge, which no block takes until the rival has won, and when ``stuck`` until it is given up."""

    ends: State = State.FILED_BY_OTHER
    gives_up: bool = True
    fails: bool = True
    late: bool = False
    stuck: bool = False
    told: bool = False

    async def happen(self, life: Life, watcher: Driven) -> Came:
        node, given_up = life.devnet.node, Call(life.account, b"", Wei(0))
        if not self.told and await _seen(life, "Challenged") is not None:
            self.told, self.ends = True, State.WITHDRAWN  # blocks passed while nobody watched: ours is first, and wins
        if self.told:
            if node.censored and _waits(life, given_up):
                node.censored = frozenset()
            settled = await self._settles(life)
            return Came.SOMETHING if settled or node.censored else Came.NOTHING
        if not _waits(life, _challenge(life) if self.late else _seal(life)):
            return Came.NOTHING
        self.told = True
        if self.late:
            node.censored = frozenset({_ours(life)})
        await self._accuses(life)
        if self.late:
            await life.world.step()
            await self._settles(life)
            if not self.stuck:
                node.censored = frozenset()
        return Came.SOMETHING

    async def _accuses(self, life: Life) -> None:
        wallet, claim, blocks = _wallet(life, "rival"), _sham(life), life.world.blocks
        bond = life.world.deployment.params.challenge_bond
        await blocks.together([(wallet, _calls(life).seal(seal_digest(wallet.address, claim)))])
        await blocks.together([(wallet, _calls(life).challenge(claim, bond))])

    async def _settles(self, life: Life) -> bool:
        await life.world.refresh()
        wallet = _wallet(life, "rival")
        won = [one for one in life.world.market.disputes.values() if one.ruled and one.challenger == wallet.address]
        return await life.world.blocks.attempt([(wallet, _calls(life).settle(DisputeId(one.id))) for one in won])


@dataclass
class HeldUp(Story):
    """No block takes our challenge until it has been replaced by a dearer one."""

    turns: int = 0

    async def happen(self, life: Life, watcher: Driven) -> Came:
        node = life.devnet.node
        if self.turns == 0 and not _waits(life, _challenge(life)):
            return Came.NOTHING
        self.turns += 1
        node.censored = frozenset({_ours(life)} if self.turns < 6 else ())
        return Came.SOMETHING if self.turns <= 6 else Came.NOTHING


@dataclass
class Answered(Story):
    """What was withheld is posted once we demand it, and is right: with that the window is longer."""

    cheats: tuple[Kind, ...] = (Kind.WITHHOLD,)
    opens: tuple[str, ...] = ("Demanded",)
    ends: State = State.REPLAYED

    async def happen(self, life: Life, watcher: Driven) -> Came:
        await life.world.refresh()
        friend, (answer, _) = _wallet(life, "friend"), life.world._answers[0].result()
        posts = [(friend, _calls(life).answer(DemandId(number), answer.output)) for number in life.world.market.demands]
        return Came.SOMETHING if await life.world.blocks.attempt(posts) else Came.NOTHING


@dataclass
class Longer(Story):
    """After the end, until the epoch's secret is published: its blocks are deep, and its window is over."""

    told: bool = False

    async def happen(self, life: Life, watcher: Driven) -> Came:
        if self.told or life.asked("SELECT state FROM work") != [self.ends]:
            return Came.NOTHING
        await life.world.blocks.tick(EPOCH_BLOCKS + 8)
        closes = max(job.closes for job in life.world.market.jobs.values())
        await life.world.blocks.travel(closes)
        self.told = True
        return Came.SOMETHING


STORIES: dict[str, Callable[[], Story]] = {
    "NUDGE": Story,
    "WITHHOLD": lambda: Story((Kind.WITHHOLD,), ("Demanded",)),
    "DROPPED": Reorganised,
    "KEPT": lambda: Reorganised(kept=True),
    "UNSEALED": lambda: Reorganised(since="Sealed"),
    "UNCOMMITTED": Uncommitted,
    "OLD-COPY": OldCopy,
    "OLD-COPY-WAITING": lambda: OldCopy(copied="tx:intent", waiting=True),
    "OLD-COPY-WISHED": lambda: OldCopy(copied="tx:intent"),
    "RIVAL": Rival,
    "OVERTAKEN": lambda: Rival(late=True),
    "STUCK": lambda: Rival(late=True, stuck=True),
    "HELD-UP": HeldUp,
    "ANSWERED": Answered,
    "LONGER": Longer,
    "CONFIRM": Person,
    "REDRAWN": lambda: Person(redrawn=True),
    "CORRELATED": Correlated,
}
