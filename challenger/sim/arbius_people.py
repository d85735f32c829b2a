"""Who meets at the Arbius engine in the demonstration: solvers with a model of their own, voters who know the truth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from challenger.chain.rpc import Rpc
from challenger.domain import ChainEvent, DisputeClosed, DisputeOpened, Hash32, ModelId, TaskId, Wei
from challenger.pipeline.recipes import KNOWN_TASK, Recipe
from challenger.protocols.arbius.adapter import ArbiusAdapter
from challenger.protocols.arbius.calls import EngineCalls
from challenger.protocols.arbius.cid import solution_cid, solution_digest
from challenger.protocols.arbius.meaning import task_of
from challenger.protocols.arbius.seed import seed_word
from challenger.sim.arbius import TOKEN, ArbiusDeployment, order, solve
from challenger.sim.gpt.text import decode, encode
from challenger.sim.wallet import Wallet
from replay.generate import generate, read_job
from replay.layout import decode_bundle, encode_bundle
from replay.model import load_model
from replay.run import Prepared, prepare
from replay.sampling import NAME, TOKENS, Sampling

PROMPT = "A module can be "
FILE = "out-1.txt"
DRAWN = Sampling(24, temperature=800_000, top_k=20)
#: How many tokens a solver writes who would rather not pay for all of them.
CHEAP = 8


class Solver:
    """The character model on the solver's own machine: a task's id and prompt to the files of its solution."""

    def __init__(self, manifest: Path) -> None:
        self.digest = sha256(manifest.read_bytes()).digest()
        self.model = load_model(manifest, self.digest)
        self._prepared: Prepared = prepare(self.model, "numpy")

    def text(self, task: TaskId, sampling: Sampling = DRAWN) -> str:
        ids = np.array(encode(PROMPT), np.int32)
        bundle = decode_bundle(encode_bundle({"input_ids": ids, NAME: sampling.tensor()}))
        run = generate(self._prepared, read_job(self.model.program, bundle, seed_word(task)))
        return decode(int(token) for token in run.outputs[TOKENS])

    def digest_of(self, task: TaskId, *, honest: bool) -> Hash32:
        """Of the folder that is handed in; a cheap one holds the beginning alone."""
        sampling = DRAWN if honest else replace(DRAWN, max_tokens=CHEAP)
        return solution_digest({FILE: self.text(task, sampling).encode()})

    def recipe(self, model: ModelId, manifest: Path) -> Recipe:
        """What an operator writes down to judge solutions of ``model``."""
        return Recipe(
            model=model,
            uri=manifest.as_uri(),
            file_digest=Hash32(self.digest),
            program_root=Hash32(self.model.program_root),
            artefact_root=Hash32(self.model.artefact_root),
            prompt="prompt",
            file=FILE,
            port="input_ids",
            sampling=DRAWN,
            known_input=_asked(),
            known_digest=self.digest_of(KNOWN_TASK, honest=True),
        )


def _asked() -> bytes:
    return json.dumps({"prompt": PROMPT}).encode()


@dataclass(slots=True)
class Town:
    """``solved``: task → whether its solution is right. ``asleep``: contests on which nobody votes. ``requester`` orders,
    ``voters`` run the model themselves and vote by what they find."""

    rpc: Rpc
    there: ArbiusDeployment
    model: ModelId
    solver: Solver
    requester: Wallet
    voters: Sequence[Wallet]
    solved: dict[TaskId, bool] = field(default_factory=dict)
    asleep: set[TaskId] = field(default_factory=set)

    @property
    def calls(self) -> EngineCalls:
        return EngineCalls(self.there.engine)

    def seat(self, who: Wallet) -> ArbiusAdapter:
        """The engine as ``who`` sees it."""
        return ArbiusAdapter(self.rpc, self.there.chain, self.there.engine, token_price=Wei(TOKEN), account=who.address)

    async def story(self) -> list[ChainEvent]:
        """All that the engine said so far."""
        reading = self.seat(self.requester)
        head = await self.rpc.block("latest")
        logs = await self.rpc.logs(reading.emitters, self.there.start_block, head.number, [reading.topics])
        return await reading.events(logs, lambda _: None)

    async def contests(self) -> list[DisputeOpened]:
        """Those that are not over."""
        told = await self.story()
        over = {event.dispute for event in told if isinstance(event, DisputeClosed)}
        return [event for event in told if isinstance(event, DisputeOpened) and event.dispute not in over]

    async def work(self, who: Wallet, *, honest: bool, count: int = 1) -> list[TaskId]:
        """``count`` tasks in one transaction, and their solutions."""
        tasks = await order(self.requester, self.there, self.model, _asked(), count=count)
        digests = [await asyncio.to_thread(self.solver.digest_of, task, honest=honest) for task in tasks]
        await solve(who, self.there, tasks, [solution_cid(digest) for digest in digests])
        self.solved |= dict.fromkeys(tasks, honest)
        return tasks

    async def vote(self) -> bool:
        """Each voter votes once on each contest; True when any did."""
        voted = False
        for case in await self.contests():
            task = task_of(case.dispute)
            for voter in self.voters if task not in self.asleep else ():
                if not await self.seat(voter).vote_eligibility(case.commitment, 0):
                    await voter.transact(self.calls.vote(task, not self.solved[task]))
                    voted = True
        return voted

    async def count(self, who: Wallet) -> bool:
        """``who`` has its own contests counted where no vote counts any more; True when any was."""
        counted = False
        for case in await self.contests():
            while case.challenger == who.address and (intent := await self.seat(who).advance(case.dispute)) is not None:
                await who.transact(intent.call)
                counted = True
        return counted
