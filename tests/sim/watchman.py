"""A watcher of a hundred lines behind the demonstration's seam: no database, no caution, on the toy model.

It sees what any stranger sees: the chain and the data. ``blind`` makes it miss a kind of fraud, ``mad`` makes it accuse
the first honest answer: the scoreboard has to notice either.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from challenger.chain.rpc import Rpc
from challenger.domain import Call, CommitmentId, DemandId, DisputeId, Hash32, Part, VerdictKind, Wei
from challenger.errors import DataUnavailable
from challenger.protocols.reference_calls import Claim, MarketCalls, seal_digest
from challenger.settings import Settings
from challenger.sim import data
from challenger.sim.history import History
from challenger.sim.market import Job, Market
from challenger.sim.scenario import DIGITS, SENTENCES, TEXTS
from challenger.sim.toy import ToyBench
from challenger.sim.wallet import Wallet
from challenger.sim.workshop import Workbench


@dataclass
class Sight:
    commitment: bytes
    sampled: bool
    verdict: str = ""


@dataclass
class Audited:
    epochs: int = 0
    findings: tuple[str, ...] = ()


@dataclass
class Watchman:
    rpc: Rpc
    wallet: Wallet
    calls: MarketCalls
    history: History
    draws: Callable[[bytes], bool]
    mad: bool
    bench: Workbench
    names: dict[bytes, str]
    market: Market = field(default_factory=Market)
    seen: dict[bytes, Sight] = field(default_factory=dict)
    sealed: dict[bytes, tuple[Claim, int]] = field(default_factory=dict)
    sent: list[Call] = field(default_factory=list)
    approved: set[bytes] = field(default_factory=set)
    accused: dict[bytes, set[str]] = field(default_factory=dict)

    async def step(self) -> bool:
        for event in await self.history.refresh():
            self.market.take(event)
        before = len(self.seen)
        head = await self.rpc.block("latest")
        ripe = [job for job, (_, block) in self.sealed.items() if head.number >= block]  # a seal has to age
        todo = [self.calls.challenge(self.sealed.pop(job)[0], Wei(50 * 10**15)) for job in ripe]
        for job in list(self.market.jobs.values()):
            if job.id not in self.seen:
                todo += await self._look(job)
        todo += [self.calls.settle(DisputeId(one.id)) for one in self.market.disputes.values() if one.ruled]
        due = [d.id for d in self.market.demands.values() if d.answer_by <= head.time]
        todo += [self.calls.claim_demand(DemandId(one)) for one in due]
        if not todo and self.market.balances.get(self.wallet.address, 0) and not self.market.open_jobs:
            todo.append(self.calls.withdraw())
        todo = [call for call in todo if call not in self.sent]
        for call in todo:
            self.sent.append(call)
            await self.wallet.send(call)
        return bool(todo) or len(self.seen) > before

    async def _look(self, job: Job) -> list:
        sight = self.seen[job.id] = Sight(job.id, self.draws(job.id))
        if not sight.sampled:
            return []
        task = self.market.tasks[job.task]
        given = data.read(task.input_data, task.input_uri)
        committed = next(e.args for e in self.history.events if e.name == "Committed" and e.args["job"] == job.id)
        try:
            data.read(committed["outputData"], committed["outputUri"])
        except DataUnavailable:
            sight.verdict = VerdictKind.UNAVAILABLE
            return [self.calls.demand(CommitmentId(job.id), Part.OUTPUT, 0, Wei(5 * 10**15))]
        own = await self.bench.replay(self.names[task.model], given, "numpy", task.seed)
        wrong = (own.output_root, own.state_root) != (job.output_root, job.state_root)
        if self.mad and not wrong:
            self.mad, wrong = False, True
            other = given[:-4] + bytes([given[-4] ^ 1]) + given[-3:]
            own = await self.bench.run(self.names[task.model], other, seed=task.seed)
        sight.verdict = VerdictKind.FRAUD if wrong else VerdictKind.VALID
        if not wrong:
            return []
        self.accused.setdefault(task.model, set()).add(job.provider)
        salt = Hash32(hashlib.sha256(job.id).digest())
        roots = Hash32(own.output_root), Hash32(own.state_root)
        claim = Claim(CommitmentId(job.id), *roots, Hash32(bytes(32)), salt)
        self.sealed[job.id] = claim, (await self.rpc.block("latest")).number + 1
        return [self.calls.seal(seal_digest(self.wallet.address, claim))]

    async def sights(self) -> Sequence[Sight]:
        return list(self.seen.values())

    async def audited(self) -> Audited:
        return Audited()

    async def paused(self) -> Sequence[bytes]:
        return [model for model, whom in self.accused.items() if len(whom) > 1 and model not in self.approved]

    async def keep_evidence(self) -> int:
        return 0

    async def approve(self, model: bytes, note: str) -> None:
        assert note
        self.approved.add(model)


def posted(draws: Callable[[bytes], bool] = lambda _job: True, *, mad: bool = False, bench: Workbench | None = None):
    """A factory for ``demo.play``. ``draws``: which commitments it looks at."""

    @contextlib.asynccontextmanager
    async def watching(settings: Settings, rpc: Rpc) -> AsyncIterator[Watchman]:
        wallet = Wallet(rpc, bytes.fromhex(settings.signer.key_file.read_text().strip()), "watchman")
        calls = MarketCalls(settings.chain.market)
        adjudicator = "0x" + (await rpc.call(calls.market, bytes.fromhex("cff0ab96")))[-20:].hex()
        history = History(rpc, (calls.market, adjudicator), settings.chain.start_block)
        await history.refresh()
        models = [e.args["model"] for e in history.events if e.name == "ModelRegistered"]
        names = dict(zip(models, (DIGITS, SENTENCES, TEXTS), strict=True))
        man = Watchman(rpc, wallet, calls, history, draws, mad, bench or ToyBench(), names)
        for event in history.events:
            man.market.take(event)
        yield man

    return watching
