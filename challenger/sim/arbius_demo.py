"""`challenger demo --protocol arbius`: an engine, solvers of whom one is cheap, voters, and the real watcher beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.domain import Block, Committed, DisputeClosed, DisputeOpened, DisputeOutcome, TaskId
from challenger.pipeline.recipes import Recipe
from challenger.protocols.arbius.meaning import task_of
from challenger.protocols.arbius.seat import Settled
from challenger.protocols.arbius.views import EngineViews
from challenger.settings import Settings
from challenger.sim.arbius import STAKE, TOKEN, deploy_arbius, fund, register
from challenger.sim.arbius_people import Solver, Town
from challenger.sim.files import Folder
from challenger.sim.models import gpt_model
from challenger.sim.wallet import Wallet
from challenger.sim.watch import SteppedWatcher, watching
from replay.artifacts.ipfs.cid import DAG_PB, Cid

#: Seconds that a block takes here, and after how many blocks in which nothing moved nothing more will.
_BLOCK, _QUIET, _MOST = 12, 5, 200
#: Seconds for which who lost a contest hands in nothing: window and vote, and a little.
_COOLDOWN = 4_000
#: Earlier contests, from which the watcher learns who votes and how.
_PAST = 8
Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One task as it ended. ``did``: what the watcher did about it."""

    task: TaskId
    scene: str
    right: bool
    verdict: str
    did: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """``stakes``: what the contests did to people's stakes and tokens. ``wrong``: what should not have come to pass."""

    lines: Sequence[Line]
    stakes: dict[str, Settled]
    wrong: Sequence[str]

    @property
    def holds(self) -> bool:
        return not self.wrong


class _Demo:
    def __init__(self, devnet: EmbeddedDevnet, folder: Folder, say: Say) -> None:
        self._devnet = devnet
        self._folder = folder
        self._say = say
        names = ("owner", "requester", "honest solver", "cheap solver", "watcher", *["voter"] * 4, "other contester")
        self._people = [Wallet(devnet.rpc, devnet.accounts[i].key, name) for i, name in enumerate(names)]
        self._scenes: dict[TaskId, str] = {}

    async def play(self) -> Outcome:
        owner, requester, honest, cheap, ours, *voters, other = self._people
        self._say("models", "a character model that three of them run on machines of their own")
        manifest = gpt_model(self._folder.models)
        solver = Solver(manifest)
        self._say("engine", "a double of the engine, generation 5; validators stake")
        there = await deploy_arbius(self._devnet.rpc, owner, 5)
        await fund(owner, there, [requester], 0)
        await fund(owner, there, [honest, cheap, ours, *voters, other], STAKE)
        model = await register(owner, there)
        town = Town(self._devnet.rpc, there, model, solver, requester, voters)
        await self._devnet.time_travel(by=600)  # stakes may vote once they are older than what is voted on
        await self._past(town, cheap, other)
        settings = self._settings(town, solver.recipe(model, manifest), ours)
        self._say("watcher", "starts: who voted on earlier contests, and how, is read from the chain")
        async with watching(settings, self._devnet.rpc) as watcher:
            before = await self._devnet.rpc.block("latest")
            await self._scenes_of(town, watcher, honest, cheap, other)
            verdicts = {one.commitment: one.verdict for one in await watcher.sights()}
        after = await self._devnet.rpc.block("latest")
        return await self._told(town, verdicts, before, after)

    async def _past(self, town: Town, cheap: Wallet, other: Wallet) -> None:
        self._say("past", f"{_PAST} contests before the watcher came: the voters side with the truth")
        for _ in range(_PAST):
            (task,) = await town.work(cheap, honest=False)
            await other.transact(town.calls.contest(task))
            await town.vote()
            await self._past_vote(town)
            await town.count(other)
            await self._devnet.time_travel(by=_COOLDOWN)
        town.solved.clear()

    async def _past_vote(self, town: Town) -> None:
        """To where no vote counts any more on any contest."""
        for case in await town.contests():
            standing = await town.seat(town.requester).status(case.dispute)
            if (await self._devnet.rpc.block("latest")).time <= standing.ruling_by:
                await self._devnet.time_travel(to=standing.ruling_by + 1)

    async def _scenes_of(
        self, town: Town, watcher: SteppedWatcher, honest: Wallet, cheap: Wallet, other: Wallet
    ) -> None:
        await self._until_quiet(town, watcher)
        self._scene(
            "bulk", await town.work(honest, honest=True, count=5), "five tasks in one transaction, solved rightly"
        )
        await self._until_quiet(town, watcher)
        self._scene("cheap", await town.work(cheap, honest=False), "a solver stops early: contested, and voted on")
        await self._to_the_end(town, watcher, other)
        beside = await town.work(cheap, honest=False)
        await other.transact(town.calls.contest(beside[0]))
        self._scene("beside", beside, "somebody else is first: the watcher's yea goes beside theirs")
        await self._to_the_end(town, watcher, other)
        asleep = await town.work(cheap, honest=False)
        town.asleep |= set(asleep)
        self._scene("asleep", asleep, "and once nobody votes: a tie, which the accused wins")
        await self._to_the_end(town, watcher, other)

    async def _to_the_end(self, town: Town, watcher: SteppedWatcher, other: Wallet) -> None:
        """Contested, voted on, counted; then to where whoever lost may hand in again."""
        await self._until_quiet(town, watcher)
        self._say("count", "the votes' time passes, and heads are counted")
        await self._past_vote(town)
        await self._until_quiet(town, watcher)
        await town.count(other)
        await self._devnet.time_travel(by=_COOLDOWN)
        await self._until_quiet(town, watcher)

    def _scene(self, name: str, tasks: Sequence[TaskId], line: str) -> None:
        self._say(name, line)
        self._scenes |= dict.fromkeys(tasks, name)

    async def _until_quiet(self, town: Town, watcher: SteppedWatcher) -> None:
        idle = 0
        for _ in range(_MOST):
            moved = await watcher.step()
            moved |= await town.vote()
            await self._devnet.time_travel(by=_BLOCK)
            idle = 0 if moved else idle + 1
            if idle == _QUIET:
                return

    def _settings(self, town: Town, recipe: Recipe, ours: Wallet) -> Settings:
        drawn = recipe.sampling
        protocol = f"""\
[protocol]
name = "arbius"

[protocol.options]
token_price = {TOKEN}
votes_from = {town.there.start_block}

[protocol.options.recipes.0x{town.model.hex()}]
uri = "{recipe.uri}"
file_digest = "0x{recipe.file_digest.hex()}"
program_root = "0x{recipe.program_root.hex()}"
artefact_root = "0x{recipe.artefact_root.hex()}"
known_input = '{recipe.known_input.decode()}'
known_cid = "{Cid(0, DAG_PB, recipe.known_digest)}"
max_tokens = {drawn.max_tokens}
temperature = {drawn.temperature}
top_k = {drawn.top_k}

"""
        there = town.there
        key = self._devnet.accounts[self._people.index(ours)].key
        return self._folder.write_stake_config(there.chain, there.engine, there.start_block, key, protocol)

    # what came of it

    async def _told(self, town: Town, verdicts: dict[bytes, str], before: Block, after: Block) -> Outcome:
        _, _, _, cheap, ours, voter, *_, other = self._people
        told = await town.story()
        contests = {task_of(e.dispute): e for e in told if isinstance(e, DisputeOpened)}
        ends = {task_of(e.dispute): e.outcome for e in told if isinstance(e, DisputeClosed)}
        lines = []
        for made in (event for event in told if isinstance(event, Committed)):
            task = TaskId(made.commitment)
            if task not in town.solved:
                continue
            contest = contests.get(task)
            did = "nothing"
            if contest is not None:
                votes = await EngineViews(town.rpc, town.there.engine).contest(task, after.hash)
                voted = ours.address in votes.yeas
                did = "contested" if contest.challenger == ours.address else "voted yea" if voted else "looked on"
            end = ends.get(task)
            lines.append(
                Line(
                    task,
                    self._scenes[task],
                    town.solved[task],
                    verdicts.get(made.commitment, "none"),
                    did,
                    {None: "stands", DisputeOutcome.CHALLENGER: "won", DisputeOutcome.PROVIDER: "lost"}.get(
                        end, str(end)
                    ),
                )
            )
        people = {"watcher": ours, "cheap solver": cheap, "a voter": voter, "other contester": other}
        settled = await town.seat(ours).settled_stakes([w.address for w in people.values()], before.hash, after.hash)
        stakes = {name: settled[wallet.address] for name, wallet in people.items()}
        return Outcome(lines, stakes, wrong(lines))


#: Scene → (what the watcher does about it, how it ends).
EXPECTED = {
    "bulk": ("nothing", "stands"),
    "cheap": ("contested", "won"),
    "beside": ("voted yea", "won"),
    "asleep": ("contested", "lost"),
}


def wrong(lines: Sequence[Line]) -> list[str]:
    found = [f"scene {name} did not take place" for name in EXPECTED if name not in {line.scene for line in lines}]
    for line in lines:
        expected = ("VALID" if line.right else "FRAUD", *EXPECTED[line.scene])
        if (line.verdict, line.did, line.outcome) != expected:
            came = f"{line.verdict}, {line.did}, {line.outcome}"
            found.append(f"{line.scene}: task 0x{line.task.hex()[:8]}: {came} where {', '.join(expected)} was to come")
    return found


async def play(folder: Folder, say: Say) -> Outcome:
    """``say``: told what happens, as a phase and a line."""
    async with EmbeddedDevnet() as devnet:
        return await _Demo(devnet, folder, say).play()
