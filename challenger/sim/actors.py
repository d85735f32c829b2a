"""Who acts on the market besides the watcher: registrar, requester, providers. Each turns what it sees into calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from challenger.domain import Call, CommitmentId, DemandId, DisputeId, Hash32, ModelId, Part, TaskId, Wei
from challenger.protocols.reference_calls import PARTS, MarketCalls, ModelSpec
from challenger.sim.data import DataRoom
from challenger.sim.market import Market
from challenger.sim.scenario import Kind, ProviderPlan, TaskPlan
from challenger.sim.strategies import Answer
from challenger.sim.wallet import Wallet
from replay.layout import bundle_root, merkle_path

#: The provider whose model is merely out of date owns up when it is accused; the others wait for the ruling.
CONCEDES = frozenset({Kind.OLDER})


@dataclass(slots=True)
class Registrar:
    wallet: Wallet
    calls: MarketCalls

    def register(self, spec: ModelSpec, bond: Wei) -> Call:
        return self.calls.register_model(spec, bond)


@dataclass(slots=True)
class Requester:
    """Orders inferences, and posts an input that was given by URI when somebody demands it."""

    wallet: Wallet
    calls: MarketCalls
    room: DataRoom
    _inputs: dict[bytes, bytes] = field(default_factory=dict)

    def order(self, model: ModelId, data: bytes, by_uri: bool, entropy: Hash32, deadline: int, fee: Wei) -> Call:
        root = Hash32(bundle_root(data))
        self._inputs[root] = data
        uri = self.room.put(root, data) if by_uri else ""
        return self.calls.open_task(model, root, b"" if by_uri else data, uri, len(data), entropy, deadline, fee)

    def answers(self, market: Market) -> Iterator[Call]:
        for demand in market.demands.values():
            task = market.tasks[market.jobs[demand.job].task]
            if PARTS[demand.part] is Part.INPUT and task.input_root in self._inputs:
                yield self.calls.answer(DemandId(demand.id), self._inputs[task.input_root])


@dataclass(slots=True)
class Provider:
    """One who stakes, takes tasks and commits. What it commits to was worked out by its strategy."""

    plan: ProviderPlan
    wallet: Wallet
    calls: MarketCalls
    room: DataRoom
    _answers: dict[bytes, Answer] = field(default_factory=dict)  # by state root
    _confessed: set[bytes] = field(default_factory=set)  # state roots it will not defend

    def stake(self, amount: Wei) -> Call:
        return self.calls.stake(amount)

    def take(self, task: TaskId) -> Call:
        return self.calls.take(task)

    def commit(self, task: TaskId, answer: Answer, plan: TaskPlan) -> Call:
        self._answers[answer.state_root] = answer
        if plan.kind in CONCEDES:
            self._confessed.add(answer.state_root)
        root = Hash32(answer.output_root)
        uri = ""
        if not answer.served:
            uri = self.room.address(root)
        elif plan.output_by_uri:
            uri = self.room.put(root, answer.output)
        return self.calls.commit(
            task,
            root,
            Hash32(answer.state_root),
            b"" if uri else answer.output,
            uri,
            len(answer.output),
            answer.first_path,
            answer.last_path,
        )

    def reactions(self, market: Market) -> Iterator[Call]:
        """Answers to demands for what it serves; concessions, where it owns up."""
        for demand in market.demands.values():
            job = market.jobs[demand.job]
            known = self._answers.get(job.state_root)
            if job.provider != self.wallet.address or known is None or not known.served:
                continue
            if PARTS[demand.part] is Part.OUTPUT:
                yield self.calls.answer(DemandId(demand.id), known.output)
            elif PARTS[demand.part] is Part.OPENING:
                path = merkle_path(known.leaves, demand.index)
                yield self.calls.answer_tile(DemandId(demand.id), known.leaves[demand.index], path)
        accused: set[bytes] = set()
        for dispute in market.disputes.values():
            job = market.jobs[dispute.job]
            mine = job.provider == self.wallet.address and job.state_root in self._confessed
            if mine and job.id not in accused:  # only towards the oldest: they stand in the order of their opening
                accused.add(job.id)
                yield self.calls.concede(DisputeId(dispute.id))

    def finalisations(self, market: Market, now: int) -> Iterator[Call]:
        """For its own jobs whose window is over and over which nothing is open."""
        busy = {one.job for one in market.disputes.values()} | {one.job for one in market.demands.values()}
        for job in market.open_jobs:
            if job.provider == self.wallet.address and now >= job.closes and job.id not in busy:
                yield self.calls.finalise(CommitmentId(job.id))
