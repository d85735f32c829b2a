"""A world in motion: models registered, providers staked, tasks opened, taken and answered, disputes judged.

It runs with a watcher or without one, on an embedded devnet (``seconds``: chain time stands still between blocks) or on
a served one (``seconds=None``), and is used in pieces: ``open``, then ``play`` or single ``round``s, ``step`` whenever
disputes or demands may wait, ``finish`` after the windows.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from challenger.adjudicator import Bench
from challenger.chain.answers import Receipt as Mined
from challenger.chain.codec import EventDecoder, decode_result, encode_call
from challenger.chain.devnet.base import Devnet
from challenger.contracts import artifact
from challenger.domain import Address, Call, Hash32, ModelId, TaskId, Wei
from challenger.pipeline.engine import KNOWN_SEED
from challenger.protocols.reference_calls import MarketCalls, model_id
from challenger.sim.actors import Provider, Registrar, Requester
from challenger.sim.blocks import Blocks
from challenger.sim.court import Court, Signer
from challenger.sim.data import DataRoom
from challenger.sim.deploy import Deployment, MarketParams, deploy
from challenger.sim.history import History
from challenger.sim.kits import Kit
from challenger.sim.market import Market
from challenger.sim.scenario import Scenario, TaskPlan
from challenger.sim.scoreboard import Label, Truth, write_labels
from challenger.sim.strategies import STRATEGIES, Answer, Honest, Order
from challenger.sim.wallet import Wallet
from challenger.sim.workshop import Registered, Workbench

#: Who is who among the devnet's accounts.
REGISTRAR, REQUESTER, FIRST_PROVIDER, FIRST_SIGNER, WATCHER = 0, 1, 2, 12, 15
SIGNER_BACKENDS = ("torch", "numpy", "torch")
FEE = Wei(2 * 10**15)
_DEADLINE = 3_600
LABELS = "labels.json"


@dataclass(slots=True)
class World:
    """Made by ``open``. ``labels`` say what each commitment really is; they lie in ``folder`` too."""

    deployment: Deployment
    scenario: Scenario
    blocks: Blocks
    history: History
    market: Market
    labels: list[Label]
    providers: Sequence[Provider]
    models: Mapping[str, ModelId]
    folder: Path
    _kits: Mapping[str, Kit]
    _workshop: Workbench
    _registrar: Registrar
    _requester: Requester
    _court: Court
    _relay: Wallet
    _answers: dict[int, asyncio.Task[tuple[Answer, Answer]]]
    _seeds: dict[int, bytes]
    _decoder: EventDecoder

    @classmethod
    async def open(
        cls,
        devnet: Devnet,
        folder: Path,
        scenario: Scenario,
        kits: Sequence[Kit],
        workshop: Workbench,
        *,
        params: MarketParams | None = None,
        seconds: int | None = 12,
        base: str = "",
    ) -> Self:
        """Deploys the contracts, registers the models and stakes for the providers. Data and labels go to ``folder``;
        ``base``: see ``DataRoom``."""
        params = params or MarketParams()
        rpc, keys = devnet.rpc, [account.key for account in devnet.accounts]
        room = DataRoom(folder / "data", base)
        room.folder.mkdir(parents=True, exist_ok=True)
        registrar_wallet = Wallet(rpc, keys[REGISTRAR], "registrar")
        judges = [Wallet(rpc, keys[FIRST_SIGNER + i], f"signer {i}") for i in range(len(SIGNER_BACKENDS))]
        deployment = await deploy(rpc, registrar_wallet, [judge.address for judge in judges], params)
        calls = MarketCalls(deployment.market)
        contracts = (deployment.market, deployment.adjudicator, deployment.anchor)
        providers = [
            Provider(one, Wallet(rpc, keys[FIRST_PROVIDER + one.account], one.name), calls, room)
            for one in scenario.providers
        ]
        registrar = Registrar(registrar_wallet, calls)
        models: dict[str, ModelId] = {}
        for kit in kits:
            known = await workshop.run(kit.name, kit.known, seed=KNOWN_SEED)
            spec = kit.spec(Hash32(known.output_root))
            await registrar.wallet.transact(registrar.register(spec, params.model_bond))
            models[kit.name] = model_id(deployment.chain, deployment.market, registrar.wallet.address, spec)
        bench = Bench(deployment.chain, deployment.adjudicator, deployment.market)
        machine = Registered(workshop, {bytes(number): name for name, number in models.items()})
        signers = [Signer(w.signer, b, machine, room.read) for w, b in zip(judges, SIGNER_BACKENDS, strict=True)]
        world = cls(
            deployment=deployment,
            scenario=scenario,
            blocks=Blocks(devnet, seconds),
            history=History(rpc, contracts, deployment.start_block),
            market=Market(),
            labels=[],
            providers=providers,
            models=models,
            folder=folder,
            _kits={kit.name: kit for kit in kits},
            _workshop=workshop,
            _registrar=registrar,
            _requester=Requester(Wallet(rpc, keys[REQUESTER], "requester"), calls, room),
            _court=Court(bench, signers, params.quorum),
            _relay=judges[0],
            _answers={},
            _seeds={},
            _decoder=EventDecoder(artifact("InferenceMarket").abi),
        )
        await world.blocks.start()
        shares = [(one, sum(task.provider == one.plan for task in scenario.tasks)) for one in providers]
        await world.blocks.together(
            [(one.wallet, one.stake(Wei(params.job_collateral * max(share, 1)))) for one, share in shares]
        )
        await world.refresh()
        world.write()
        return world

    def name_of(self, address: Address) -> str:
        """A provider's name; of anybody else the address."""
        return next((one.plan.name for one in self.providers if one.wallet.address == address), address)

    # work

    def think_ahead(self) -> None:
        """Starts working out every answer of the scenario in the background, in the order of the tasks; answers that are
        drawn have to wait until their task is taken, for that fixes the seed."""
        for task in self.scenario.tasks:
            if not self._kits[task.model].draws:
                self._begin(task, b"")

    async def play(self) -> None:
        """All rounds, one after the other, with nobody watching. Disputes wait for ``step``."""
        self.think_ahead()
        for tasks in self.scenario.rounds:
            await self.round(tasks)

    async def round(self, tasks: Sequence[TaskPlan]) -> None:
        """Opens ``tasks``, lets their providers take and answer them."""
        deadline = await self.blocks.now() + _DEADLINE
        orders = [(self._requester.wallet, self._order(task, deadline)) for task in tasks]
        receipts = await self.blocks.together(orders)
        ids = [TaskId(self._event(receipt, "TaskOpened")["task"]) for receipt in receipts]
        await self.blocks.tick()  # the beacon is the hash of the block after a task's own
        takers = [self.providers[task.provider.account] for task in tasks]
        taken = await self.blocks.together([(one.wallet, one.take(id_)) for one, id_ in zip(takers, ids, strict=True)])
        answers = [
            await self._begin(task, self._event(receipt, "TaskTaken")["seed"])
            for task, receipt in zip(tasks, taken, strict=True)
        ]
        commits = [
            (provider.wallet, provider.commit(id_, answer, task))
            for provider, id_, task, (answer, _) in zip(takers, ids, tasks, answers, strict=True)
        ]
        mined = await self.blocks.together(commits)
        for task, provider, receipt, (answer, honest) in zip(tasks, takers, mined, answers, strict=True):
            committed = self._event(receipt, "Committed")
            truth = _truth(answer, honest)
            kind = str(task.kind) if truth is not Truth.HONEST else "honest"
            self.labels.append(
                Label(
                    job=committed["job"],
                    task=committed["task"],
                    provider=provider.wallet.address,
                    name=provider.plan.name,
                    model=task.model,
                    kind=kind,
                    truth=truth,
                )
            )
        self.write()
        await self.refresh()

    async def step(self) -> bool:
        """Lets everybody react to disputes and demands as they stand; whether anybody did."""
        await self.refresh()
        reactions = [(one.wallet, call) for one in self.providers for call in one.reactions(self.market)]
        reactions += [(self._requester.wallet, call) for call in self._requester.answers(self.market)]
        acted = await self._react(reactions)
        rulings = await self._court.rulings(self.market)
        acted |= await self._react([(self._relay, call) for call in rulings])
        return acted

    async def attend(self, stop: asyncio.Event, every: float = 0.2) -> None:
        """Steps until told to stop: for a watcher that lives in another process."""
        while not stop.is_set():
            if not await self.step():
                try:
                    async with asyncio.timeout(every):
                        await stop.wait()
                except TimeoutError:
                    continue

    # the end

    def last_demand(self) -> int | None:
        """When the last unanswered demand runs out."""
        return max((one.answer_by for one in self.market.demands.values()), default=None)

    def last_window(self) -> int | None:
        """When the last window of an open commitment ends."""
        return max((job.closes for job in self.market.open_jobs), default=None)

    async def finish(self) -> None:
        """Providers finalise what may be finalised now, then everybody fetches what is credited to them."""
        await self.refresh()
        now = await self.blocks.now()
        await self._react(
            [(one.wallet, call) for one in self.providers for call in one.finalisations(self.market, now)]
        )
        await self._collect()

    async def leave(self) -> None:
        """Stakes and model bonds are taken out too: what the market then still holds is owed to strangers."""
        abi = artifact("InferenceMarket").abi
        market = self.deployment.market
        calls = MarketCalls(market)
        parting: list[tuple[Wallet, Call]] = []
        for provider in self.providers:
            answer = await self._requester.wallet.rpc.call(
                market, encode_call(abi, "freeStake", [provider.wallet.address])
            )
            if stake := decode_result(abi, "freeStake", answer):
                parting.append((provider.wallet, calls.unstake(Wei(stake))))
        for model in self.models.values():
            retired = Call(market, encode_call(abi, "retireModel", [model]), Wei(0))
            parting.append((self._registrar.wallet, retired))
        await self._react(parting)
        await self._collect()

    async def close(self) -> None:
        for task in self._answers.values():
            task.cancel()
        await asyncio.gather(*self._answers.values(), return_exceptions=True)

    # inner

    async def _collect(self) -> None:
        wallets = [one.wallet for one in self.providers] + [self._requester.wallet, self._registrar.wallet]
        owed = [one for one in wallets if self.market.balances.get(one.address, 0)]
        await self._react([(one, MarketCalls(self.deployment.market).withdraw()) for one in owed])

    def reread(self) -> None:
        """After a reorganisation: everybody forgets what they knew of the chain, and reads it anew."""
        where = self.deployment
        contracts = (where.market, where.adjudicator, where.anchor)
        self.history = History(self._requester.wallet.rpc, contracts, where.start_block)
        self.market = Market()
        self._court.forget()
        for wallet in (
            self._registrar.wallet,
            self._requester.wallet,
            self._relay,
            *(p.wallet for p in self.providers),
        ):
            wallet.forget()

    async def refresh(self) -> None:
        for event in await self.history.refresh():
            self.market.take(event)

    def write(self) -> None:
        """The labels, as they stand, to ``labels.json``."""
        where = self.deployment
        document = {
            "chain_id": where.chain,
            "market": where.market,
            "adjudicator": where.adjudicator,
            "anchor": where.anchor,
            "start_block": where.start_block,
            "model_bond": str(where.params.model_bond),
        }
        write_labels(self.folder / LABELS, self.labels, document)

    def _begin(self, task: TaskPlan, seed: bytes) -> asyncio.Task[tuple[Answer, Answer]]:
        """The work on a task, begun now if it was not yet. A seed counts for models that draw only."""
        kit = self._kits[task.model]
        if task.index not in self._answers:
            self._seeds[task.index] = seed if kit.draws else b""
            self._answers[task.index] = asyncio.create_task(self._work(task))
        return self._answers[task.index]

    async def _work(self, task: TaskPlan) -> tuple[Answer, Answer]:
        """What the provider will commit to, and what an honest one would."""
        kit = self._kits[task.model]
        borrowed = None
        if task.copy_of is not None:
            borrowed = kit.sample(self.scenario.tasks[task.copy_of].sample), self._seeds[task.copy_of]
        order = Order(task.model, kit.sample(task.sample), self._seeds[task.index], borrowed)
        honest = await Honest().answer(order, self._workshop)
        return await STRATEGIES[task.kind].answer(order, self._workshop), honest

    def _order(self, task: TaskPlan, deadline: int) -> Call:
        data = self._kits[task.model].sample(task.sample)
        entropy = Hash32(hashlib.sha256(f"{self.scenario.knobs.seed} {task.index}".encode()).digest())
        return self._requester.order(self.models[task.model], data, task.input_by_uri, entropy, deadline, FEE)

    def _event(self, receipt: Mined, name: str) -> dict[str, Any]:
        events = map(self._decoder.decode, receipt.logs)
        return next(event.args for event in events if event is not None and event.name == name)

    async def _react(self, calls: Sequence[tuple[Wallet, Call]]) -> bool:
        acted = await self.blocks.attempt(calls)
        if acted:
            await self.refresh()
        return acted


def _truth(answer: Answer, honest: Answer) -> Truth:
    if not answer.same_roots(honest):
        return Truth.WRONG
    return Truth.HONEST if answer.served else Truth.WITHHELD
