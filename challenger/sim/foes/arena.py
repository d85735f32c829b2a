"""A market for a handful of jobs of which every move is chosen: who orders, who answers what, who pays from where.

Smaller than ``World`` and without a plan: adversaries are played on it move by move. One model (the toy), the real
contracts, blocks by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from challenger import adjudicator
from challenger.adjudicator import Bench
from challenger.chain.answers import Receipt
from challenger.chain.codec import Event, EventDecoder
from challenger.contracts import artifact
from challenger.domain import Address, Call, CommitmentId, DemandId, DisputeId, Hash32, ModelId, Part, TaskId, Wei
from challenger.pipeline.engine import KNOWN_SEED
from challenger.protocols import reference_calls
from challenger.protocols.reference_calls import MarketCalls, model_id
from challenger.sim.blocks import Blocks
from challenger.sim.court import Court, Signer
from challenger.sim.data import DataRoom
from challenger.sim.deploy import Deployment, MarketParams, deploy
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.foes.forwarder import Forwarder, OnPayment, creation_code
from challenger.sim.history import History
from challenger.sim.market import Market
from challenger.sim.scoreboard import Truth
from challenger.sim.strategies import Answer, Honest, Order, Strategy
from challenger.sim.toy import ToyBench, kits
from challenger.sim.wallet import Wallet
from challenger.sim.workshop import Registered
from replay.layout import bundle_root, encode_bundle

#: Seconds from block to block, and for how long a task may be answered.
BLOCK, _DEADLINE = 12, 3_600
WATCHER, _REGISTRAR, _REQUESTER, _FIRST_SIGNER, _FIRST_OTHER = 0, 1, 2, 3, 6
FEE = Wei(2 * 10**15)
_BACKENDS = ("torch", "numpy", "torch")


def sample(number: int) -> bytes:
    """An input that no other number has."""
    return encode_bundle({"x": np.arange(number, number + 8, dtype=np.float32).reshape(1, 8)})


@dataclass(slots=True)
class Party:
    """Who acts: a key, and perhaps a contract in front of it."""

    wallet: Wallet
    front: Forwarder | None = None

    @property
    def address(self) -> Address:
        return self.front.address if self.front else self.wallet.address

    def does(self, call: Call) -> tuple[Wallet, Call]:
        return self.wallet, self.front.through(call) if self.front else call


@dataclass(frozen=True, slots=True)
class Deal:
    """One task and how it is answered. ``hides_input``, ``hides_output``: given by URI, and not to be found there."""

    provider: Party
    data: bytes
    strategy: Strategy = field(default_factory=Honest)
    fee: Wei = FEE
    requester: Party | None = None
    hides_input: bool = False
    hides_output: bool = False


@dataclass(slots=True)
class Dealt:
    """A deal on its way; ``job`` once it is committed. ``truth`` is what the commitment really is."""

    deal: Deal
    task: TaskId
    seed: bytes = b""
    answer: Answer | None = None
    truth: Truth = Truth.HONEST
    job: CommitmentId = CommitmentId(b"")


class Arena:
    def __init__(self, devnet: InlineDevnet, folder: Path, where: Deployment, model: ModelId) -> None:
        rpc, keys = devnet.rpc, [one.key for one in devnet.accounts]
        self.devnet = devnet
        self.deployment = where
        self.model = model
        self.calls = MarketCalls(where.market)
        self.blocks = Blocks(devnet, BLOCK)
        self.room = DataRoom(folder / "data")
        self.requester = Party(Wallet(rpc, keys[_REQUESTER], "requester"))
        self.market = Market()
        self.dealt: list[Dealt] = []
        #: Whether the signers judge what is put before them.
        self.sits = True
        self._history = History(rpc, (where.market, where.adjudicator, where.anchor), where.start_block)
        self._bench = Bench(where.chain, where.adjudicator, where.market)
        self._judges = [Wallet(rpc, keys[_FIRST_SIGNER + i], f"signer {i}") for i in range(len(_BACKENDS))]
        machine = Registered(ToyBench(), {bytes(model): kits()[0].name})
        signers = [Signer(w.signer, b, machine, self._read) for w, b in zip(self._judges, _BACKENDS, strict=True)]
        self._court = Court(self._bench, signers, where.params.quorum)
        self._decoder = EventDecoder(artifact("InferenceMarket").abi)
        self._posted: dict[str, bytes] = {}  # by the address under which it was not to be had
        self._free = iter(range(_FIRST_OTHER, len(devnet.accounts)))

    @classmethod
    async def open(cls, folder: Path, params: MarketParams | None = None) -> Self:
        """Contracts, one model, signers; from here on a block comes only when told. Data go to ``folder``."""
        devnet, params = InlineDevnet(count=32), params or MarketParams()
        keys = [one.key for one in devnet.accounts]
        registrar = Wallet(devnet.rpc, keys[_REGISTRAR], "registrar")
        signers = [devnet.accounts[_FIRST_SIGNER + i].address for i in range(len(_BACKENDS))]
        where = await deploy(devnet.rpc, registrar, signers, params)
        kit = kits()[0]
        known = await ToyBench().run(kit.name, kit.known, seed=KNOWN_SEED)
        spec = kit.spec(Hash32(known.output_root))
        await registrar.transact(MarketCalls(where.market).register_model(spec, params.model_bond))
        (folder / "data").mkdir(parents=True, exist_ok=True)
        arena = cls(devnet, folder, where, model_id(where.chain, where.market, registrar.address, spec))
        await arena.blocks.start()
        await arena.blocks.tick()
        return arena

    async def party(self, name: str, paid: OnPayment | None = None) -> Party:
        """A new account; with ``paid`` it acts through a contract that does so when it is paid."""
        wallet = Wallet(self.devnet.rpc, self.devnet.accounts[next(self._free)].key, name)
        if paid is None:
            return Party(wallet)
        await self.devnet.automine(True)
        address, _ = await wallet.create(creation_code(paid))
        await self.devnet.automine(False)
        return Party(wallet, Forwarder(address))

    # a job's way

    async def prepare(self, deals: Sequence[Deal]) -> list[Dealt]:
        """Orders and takes; what is answered is known then, and not yet committed."""
        now = await self.blocks.now()
        stakes = {deal.provider.address: deal.provider for deal in deals}
        shares = {address: sum(deal.provider.address == address for deal in deals) for address in stakes}
        collateral = self.deployment.params.job_collateral
        moves = [p.does(self.calls.stake(Wei(collateral * shares[a]))) for a, p in stakes.items()]
        orders = [(deal.requester or self.requester).does(self._order(deal, n, now)) for n, deal in enumerate(deals)]
        receipts = await self.blocks.together([*moves, *orders])
        dealt = [
            Dealt(deal, TaskId(self._event(receipt, "TaskOpened")["task"]))
            for deal, receipt in zip(deals, receipts[len(moves) :], strict=True)
        ]
        await self.blocks.tick()  # the beacon is the hash of the block after a task's own
        taken = await self.blocks.together([one.deal.provider.does(self.calls.take(one.task)) for one in dealt])
        for one, receipt in zip(dealt, taken, strict=True):
            one.seed = self._event(receipt, "TaskTaken")["seed"]
            order = Order(kits()[0].name, one.deal.data, one.seed)
            honest = await Honest().answer(order, ToyBench())
            one.answer = await one.deal.strategy.answer(order, ToyBench())
            withheld = Truth.WITHHELD if one.deal.hides_output else Truth.HONEST
            one.truth = withheld if one.answer.same_roots(honest) else Truth.WRONG
        return dealt

    async def commit(self, dealt: Sequence[Dealt]) -> list[Dealt]:
        """Commits to all of them, in one block if they fit."""
        receipts = await self.blocks.together([one.deal.provider.does(self._commitment(one)) for one in dealt])
        for one, receipt in zip(dealt, receipts, strict=True):
            one.job = CommitmentId(self._event(receipt, "Committed")["job"])
        self.dealt += dealt
        await self.refresh()
        return list(dealt)

    async def serve(self, deals: Sequence[Deal]) -> list[Dealt]:
        return await self.commit(await self.prepare(deals))

    def jobs(self, truth: Truth) -> set[bytes]:
        return {one.job for one in self.dealt if one.truth is truth}

    # what others do to it

    async def judge(self) -> bool:
        """The signers, where they sit, rule on what awaits them; whether they did."""
        await self.refresh()
        if not self.sits:
            return False
        calls = await self._court.rulings(self.market)
        acted = await self.blocks.attempt([(self._judges[0], call) for call in calls])
        await self.refresh()
        return acted

    async def rule(self, dispute: int, *, fraud: bool) -> None:
        """A ruling as the bench would give it if it erred, or were bought."""
        one = DisputeId(dispute)
        digest = self.market.disputes[dispute].digest
        rulings = [adjudicator.sign(self._bench, w.signer, one, digest, fraud=fraud) for w in self._judges]
        call = adjudicator.rule(self._bench, rulings, self.deployment.params.quorum)
        assert call is not None, "all signers agree"
        await self.act([(self._judges[0], call)])

    async def settle(self, party: Party, dispute: int) -> None:
        await self.act([party.does(self.calls.settle(DisputeId(dispute)))])

    async def answer(self, party: Party, demand: int, data: bytes) -> None:
        """What is posted stands on chain, where the signers read it too. ``ActorFailed``: it is not what was asked for."""
        await self.act([party.does(self.calls.answer(DemandId(demand), data))])
        self._posted[self.room.address(bundle_root(data))] = data

    async def act(self, moves: Sequence[tuple[Wallet, Call]]) -> list[Receipt]:
        receipts = await self.blocks.together(moves)
        await self.refresh()
        return receipts

    async def refresh(self) -> None:
        for event in await self._history.refresh():
            self.market.take(event)

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Arguments of all events of this name so far, in chain order."""
        return [event.args for event in self.logged(name)]

    def logged(self, name: str) -> list[Event]:
        return [event for event in self._history.events if event.name == name]

    def time_of(self, event: Event) -> int:
        """Chain time of the event's block."""
        return self._history.times[event.log.block]

    def open_demand(self, part: Part) -> int:
        """The number of the one open demand for ``part``."""
        (found,) = [one.id for one in self.market.demands.values() if reference_calls.PARTS[one.part] is part]
        return found

    async def until(self, holds: Callable[[], bool], step: Callable[[], Any], most: int = 60) -> None:
        """``step`` again and again until something ``holds``; ``AssertionError`` when it does not come to that."""
        for _ in range(most):
            if holds():
                return
            await step()
            await self.refresh()
        raise AssertionError(f"not within {most} turns")

    # inner

    def _read(self, inline: bytes, uri: str) -> bytes:
        return self._posted[uri] if uri in self._posted else self.room.read(inline, uri)

    def _order(self, deal: Deal, number: int, now: int) -> Call:
        root = Hash32(bundle_root(deal.data))
        uri = self.room.address(root) if deal.hides_input else ""
        entropy = Hash32(hashlib.sha256(f"{now} {number}".encode()).digest())
        inline = b"" if uri else deal.data
        return self.calls.open_task(self.model, root, inline, uri, len(deal.data), entropy, now + _DEADLINE, deal.fee)

    def _commitment(self, one: Dealt) -> Call:
        answer = one.answer
        assert answer is not None, "it was prepared"
        root = Hash32(answer.output_root)
        uri = self.room.address(root) if one.deal.hides_output else ""
        return self.calls.commit(
            one.task,
            root,
            Hash32(answer.state_root),
            b"" if uri else answer.output,
            uri,
            len(answer.output),
            answer.first_path,
            answer.last_path,
        )

    def _event(self, receipt: Receipt, name: str) -> dict[str, Any]:
        events = map(self._decoder.decode, receipt.logs)
        return next(event.args for event in events if event is not None and event.name == name)
