"""The k-of-n signers who decide disputes. Each replays for itself, and signs only what its own replay says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from challenger import adjudicator
from challenger.adjudicator import Bench, Key, Ruling
from challenger.domain import Call, CommitmentId, DisputeId, Hash32
from challenger.errors import DataUnavailable
from challenger.protocols.reference_calls import case_digest
from challenger.sim import data
from challenger.sim.market import Dispute, Job, Market, Task
from challenger.sim.workshop import ReplayFailed
from replay.layout import bundle_root
from replay.sandbox import Receipt


class Machine(Protocol):
    """What a signer replays on: the registered model by its id on chain."""

    async def rerun(self, model: bytes, data: bytes, backend: str, seed: bytes) -> Receipt: ...


@dataclass(slots=True)
class Signer:
    """``backend``: the signers of one bench use different ones, so that one backend's error convicts nobody."""

    key: Key
    backend: str
    machine: Machine
    read: Callable[[bytes, str], bytes] = data.read
    _opinions: dict[bytes, bool | None] = field(default_factory=dict)

    async def opinion(self, task: Task, job: Job) -> bool | None:
        """Whether the commitment is wrong; None when this signer cannot say."""
        if job.id not in self._opinions:
            self._opinions[job.id] = await self._replay(task, job)
        return self._opinions[job.id]

    async def _replay(self, task: Task, job: Job) -> bool | None:
        try:
            given = self.read(task.input_data, task.input_uri)
            if bundle_root(given) != task.input_root:
                return None
            own = await self.machine.rerun(task.model, given, self.backend, task.seed)
        except (DataUnavailable, ReplayFailed):
            return None
        return adjudicator.is_fraud(job.output_root, job.state_root, Hash32(own.output_root), Hash32(own.state_root))


@dataclass(slots=True)
class Court:
    """``signers`` in the order in which they are asked; ``quorum`` of them must agree."""

    bench: Bench
    signers: Sequence[Signer]
    quorum: int
    _decided: set[int] = field(default_factory=set)

    async def rulings(self, market: Market) -> list[Call]:
        """The calls that carry rulings on disputes that await one. Each is handed out once."""
        calls = []
        waiting = [one for one in market.disputes.values() if not one.ruled and one.id not in self._decided]
        for dispute in waiting:
            if (call := await self._judge(market, dispute)) is not None:
                self._decided.add(dispute.id)
                calls.append(call)
        return calls

    def forget(self) -> None:
        """What was handed out may have left the chain: it is decided again. Signers keep their opinions."""
        self._decided.clear()

    async def _judge(self, market: Market, dispute: Dispute) -> Call | None:
        job = market.jobs[dispute.job]
        if not _matches(dispute, job):
            return None
        rulings: list[Ruling] = []
        for signer in self.signers:
            fraud = await signer.opinion(market.tasks[job.task], job)
            if fraud is not None:
                number = DisputeId(dispute.id)
                rulings.append(adjudicator.sign(self.bench, signer.key, number, dispute.digest, fraud=fraud))
            # nobody is asked once enough have agreed
            if (call := adjudicator.rule(self.bench, rulings, self.quorum)) is not None:
                return call
        return None


def _matches(dispute: Dispute, job: Job) -> bool:
    """Whether the case put to the signers is the one that stands on the market: they sign nothing else."""
    return dispute.digest == case_digest(
        CommitmentId(job.id),
        job.output_root,
        job.state_root,
        dispute.output_root,
        dispute.state_root,
        dispute.evidence,
    )
