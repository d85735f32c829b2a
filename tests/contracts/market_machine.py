"""Random walks through the whole protocol: everybody may try everything at any time, on a small and fast market.

Hypothesis draws the steps; a step that the rules forbid must revert with one of the contract's own errors. After every
step the contract's ether equals what it owes, and at the end everybody fetches everything and nothing is left over.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import plain_layout as layout
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from market_evm import Outcome, abi_of
from market_world import DEAD, ETH, INPUT, OPENING, OUTPUT, TILE_LEAVES, TILES, Data, Run, World, account, run_of

ACTORS = ["ann", "bob", "cat", "dan"]
SMALL = {"window": 600, "answerPeriod": 120, "maxSealAge": 30, "maxDisputes": 2}
RULING_PERIOD = 240
ERRORS = {entry["name"] for entry in abi_of("InferenceMarket").errors.values()}

actors = st.sampled_from(ACTORS)
picks = st.integers(0, 2**16 - 1)
fees = st.sampled_from([0, 1, 3, ETH // 3, ETH])


@dataclass
class TaskNote:
    id: bytes
    model: bytes
    given: Data
    result: Data
    salt: str = ""

    @property
    def run(self) -> Run:
        return run_of(self.given, self.result, self.salt)


@dataclass
class Live:
    """What may still change, as far as the invariant has looked."""

    tasks: list[TaskNote] = field(default_factory=list)
    jobs: list[tuple[bytes, TaskNote]] = field(default_factory=list)
    disputes: dict[int, Any] = field(default_factory=dict)
    demands: dict[int, Any] = field(default_factory=dict)
    version: int = -1
    seen: dict[str, int] = field(default_factory=dict)  # how many there were when last looked


#: How often the walks of this process came to each end.
SEEN: Counter[str] = Counter()


class Walk(RuleBasedStateMachine):
    """The walk itself. Notes hold what has ever been; what still lives is asked of the contract."""

    @initialize()
    def deploy(self) -> None:
        self.world = World(dict(SMALL), signers=1, k=1, ruling_period=RULING_PERIOD)
        self.models: list[tuple[bytes, str]] = []
        self.tasks: list[TaskNote] = []
        self.jobs: list[tuple[bytes, TaskNote]] = []
        self.disputes = 0
        self.demands = 0
        self.counter = 0
        self.live = Live()
        for actor in ACTORS:
            self.world.enter(actor)
        self.register("ann")
        self.begin()

    def begin(self) -> None:
        """What has happened before the walk sets out."""
        self.whole_job("bob", "cat", 0, True, True, ETH)

    # --- how a step is taken ---

    def attempt(self, who: str, function: str, *args: Any, value: int = 0) -> Outcome:
        outcome = self.world.send(who, function, *args, value=value)
        assert outcome.ok or outcome.error in ERRORS, f"{function}: {outcome.error}"
        return outcome

    def advance(self, blocks: int, seconds: int) -> None:
        self.before_time_passes(seconds)
        self.world.evm.mine(blocks, seconds)

    def before_time_passes(self, seconds: int) -> None:
        """Where a watchful party acts."""

    def pick(self, values: list[Any], index: int) -> Any:
        """Recent ones are likelier: that is where something is going on."""
        return values[-1 - (index * index * len(values) >> 32)]

    # --- steps ---

    @rule(
        who=actors,
        index=picks,
        amount=st.integers(0, 3 * ETH),
        what=st.sampled_from(["register", "retire", "stake", "unstake", "withdraw", "cancelTask", "lapseTask"]),
    )
    def keep_house(self, who: str, index: int, amount: int, what: str) -> None:
        if what == "register" and len(self.models) < 3:
            self.register(who)
        elif what == "retire":
            model, owner = self.pick(self.models, index)
            self.attempt(owner if index % 2 else who, "retireModel", model)
        elif what == "stake":
            self.attempt(who, what, value=amount)
        elif what == "unstake":
            self.attempt(who, what, amount)
        elif what == "withdraw":
            self.attempt(who, what)
        elif what.endswith("Task") and self.tasks:
            self.attempt(who, what, self.pick(self.tasks, index).id)

    def register(self, who: str) -> None:
        self.counter += 1
        outcome = self.attempt(who, "registerModel", self.world.spec(uri=f"file:{self.counter}"), value=2 * ETH)
        self.models.append((outcome.output, who))

    @rule(who=actors, taker=actors, index=picks, given=st.booleans(), result=st.booleans(), fee=fees)
    def whole_job(self, who: str, taker: str, index: int, given: bool, result: bool, fee: int) -> None:
        if len(self.live.jobs) < 4:
            self.open_task(who, index, given, fee)
        if self.live.tasks:
            self.take_and_perhaps_commit(taker, 0, result)

    @rule(who=actors, index=picks, uri=st.booleans(), fee=fees)
    def open_task(self, who: str, index: int, uri: bool, fee: int) -> None:
        model, _ = self.pick(self.models, index)
        self.counter += 1
        note = TaskNote(b"", model, Data(f"i{self.counter}"), Data(f"o{self.counter}"))
        data, place = (b"", "u") if uri else (note.given.data, "")
        args = (model, note.given.root, data, place, len(note.given.data), bytes(32), self.world.evm.time + 200)
        outcome = self.attempt(who, "openTask", *args, value=fee)
        if outcome.ok:
            note.id = outcome.output
            self.tasks.append(note)
            self.live.tasks.append(note)

    @rule(who=actors, index=picks, uri=st.booleans())
    @precondition(lambda self: self.tasks)
    def take_and_perhaps_commit(self, who: str, index: int, uri: bool) -> None:
        note = self.pick(self.tasks, index)
        self.advance(2, 24)
        self.attempt(who, "stake", value=ETH)
        if self.attempt(who, "take", note.id).ok and index % 5 != 1:
            self.commit(note, who, uri, salt="" if index % 2 else "cheat")

    def commit(self, note: TaskNote, who: str, uri: bool, salt: str = "") -> bytes:
        note.salt = salt
        outcome = self.attempt(who, "commit", *self.world.commit_args(note.id, note.result, note.run, uri=uri))
        if outcome.ok:
            self.jobs.append((outcome.output, note))
            self.live.jobs.append((outcome.output, note))
        return outcome.output

    @rule(who=actors, index=picks)
    @precondition(lambda self: self.jobs)
    def challenge(self, who: str, index: int) -> None:
        job, _ = self.pick(self.jobs, index)
        claim = self.world.claim(job)
        self.attempt(who, "seal", self.world.sealed(who, claim))
        self.advance(1, 3)
        self.disputes += self.attempt(who, "challenge", *claim, value=self.world.params["challengeBond"]).ok

    @rule(index=picks, fraud=st.booleans())
    @precondition(lambda self: self.disputes)
    def give_ruling(self, index: int, fraud: bool) -> None:
        dispute = self.pick(list(range(1, self.disputes + 1)), index)
        if not self.may_rule(dispute):
            return
        signatures = self.world.signatures(dispute, fraud)
        self.world.evm.send(account("x"), self.world.adjudicator, "rule", self.world.market, dispute, fraud, signatures)

    def may_rule(self, dispute: int) -> bool:
        """Whether the bench rules on this one as chance will have it."""
        return True

    @rule(who=actors, index=picks)
    @precondition(lambda self: self.disputes)
    def settle(self, who: str, index: int) -> None:
        self.attempt(who, "settle", self.pick(list(range(1, self.disputes + 1)), index))

    @rule(index=picks)
    @precondition(lambda self: self.disputes)
    def concede(self, index: int) -> None:
        dispute = self.pick(list(range(1, self.disputes + 1)), index)
        provider = self.world.view("job", self.world.view("dispute", dispute)["job"])["provider"]
        who = next(actor for actor in self.world.people if "0x" + account(actor).hex() == provider)
        if self.may_concede(who):
            self.attempt(who, "concede", dispute)

    def may_concede(self, who: str) -> bool:
        return True

    @rule(who=actors, index=picks, part=st.integers(0, 3), place=st.integers(0, 6))
    @precondition(lambda self: self.jobs)
    def demand(self, who: str, index: int, part: int, place: int) -> None:
        job, _ = self.pick(self.jobs, index)
        place = place if part in (1, OPENING) else 0
        self.demands += self.attempt(who, "demand", job, part, place, value=self.world.params["demandBond"]).ok

    @rule(who=actors, index=picks)
    @precondition(lambda self: self.demands)
    def answer(self, who: str, index: int) -> None:
        self.give_answer(who, self.pick(list(range(1, self.demands + 1)), index))

    def give_answer(self, who: str, demand: int) -> Outcome:
        asked = self.world.view("demand", demand)
        note = next(note for job, note in self.jobs if job == asked["job"])
        if asked["part"] in (INPUT, OUTPUT):
            return self.attempt(who, "answer", demand, (note.given if asked["part"] == INPUT else note.result).data)
        index = asked["index"]
        if asked["part"] == OPENING:
            return self.attempt(who, "answerTile", demand, note.run.leaves[index], note.run.path(index))
        return self.attempt(who, "answerTile", demand, TILES[index], layout.path(TILE_LEAVES, index))

    @rule(who=actors, index=picks)
    @precondition(lambda self: self.demands)
    def claim_demand(self, who: str, index: int) -> None:
        self.attempt(who, "claimDemand", self.pick(list(range(1, self.demands + 1)), index))

    @rule(who=actors, index=picks)
    @precondition(lambda self: self.jobs)
    def finalise(self, who: str, index: int) -> None:
        self.attempt(who, "finalise", self.pick(self.jobs, index)[0])

    @rule(seconds=st.sampled_from([1, 12, 60, 119, 120, 240, 600]), blocks=st.integers(1, 3))
    def let_time_pass(self, seconds: int, blocks: int) -> None:
        self.advance(blocks, seconds)

    # --- what must hold ---

    @invariant()
    def the_contract_holds_what_it_owes(self) -> None:
        """Σ balances + Σ stakes + Σ fees held + Σ open bonds + Σ model bonds; what is over is read no more."""
        world = self.world
        if world.evm.version == self.live.version:
            return
        self.live.version = world.evm.version
        total = int(world.view("balanceOf", DEAD))
        for actor in world.people:
            total += world.balance(actor) + world.free(actor)
            total += world.view("openWork", account(actor)) * world.params["jobCollateral"]
        total += sum(world.view("model", model)["bond"] for model, _ in self.models)
        tasks = [(note, world.view("task", note.id)) for note in self.live.tasks]
        total += sum(task["fee"] for _, task in tasks)
        self.live.tasks = [note for note, task in tasks if task["fee"]]
        disputes = self.still_open("dispute", self.live.disputes, self.disputes)
        demands = self.still_open("demand", self.live.demands, self.demands)
        total += len(disputes) * world.params["challengeBond"] + len(demands) * world.params["demandBond"]
        assert world.evm.balance(world.market) == total
        self.counters_agree(disputes, demands)

    def still_open(self, kind: str, known: dict[int, Any], count: int) -> dict[int, Any]:
        """The open ones by id. One that has closed never opens again."""
        done = self.live.seen.get(kind, 0)
        self.live.seen[kind] = count
        states = {i: self.world.view(kind, i) for i in [*known, *range(done + 1, count + 1)]}
        SEEN.update(f"{kind} {state['outcome']}" for state in states.values() if state["outcome"])
        known.clear()
        known.update({i: state for i, state in states.items() if state["outcome"] == 0})
        return known

    def counters_agree(self, disputes: dict[int, Any], demands: dict[int, Any]) -> None:
        for job, note in list(self.live.jobs):
            state = self.world.view("job", job)
            queue = sorted(i for i, dispute in disputes.items() if dispute["job"] == job)
            asked = [demand for demand in demands.values() if demand["job"] == job]
            assert state["openDisputes"] == len(queue) <= SMALL["maxDisputes"]
            assert state["queue"] == sum(dispute << 32 * place for place, dispute in enumerate(queue))
            assert state["openDemands"] == len(asked)
            assert state["openOwnDemands"] == sum(demand["part"] in (OUTPUT, OPENING) for demand in asked)
            if state["status"] and not queue and not asked:
                SEEN[f"job {state['status']}"] += 1
                self.live.jobs.remove((job, note))

    # --- the end ---

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.close_everything()
            self.everybody_leaves()
            self.judge()

    def judge(self) -> None:
        """What else must be true in the end."""

    def close_everything(self) -> None:
        """Anyone can bring everything to its end by waiting and calling; nothing can be stuck."""
        world = self.world
        self.advance(1, 2 * RULING_PERIOD)
        for dispute in range(1, self.disputes + 1):
            if world.view("dispute", dispute)["outcome"] == 0:
                world.do("ann", "settle", dispute)
        for demand in range(1, self.demands + 1):
            if world.view("demand", demand)["outcome"] == 0:
                world.do("ann", "claimDemand", demand)
        world.wait(SMALL["window"])
        for job, _ in self.jobs:
            if world.view("job", job)["status"] == 0:
                world.do("ann", "finalise", job)
        for note in self.tasks:
            task = world.view("task", note.id)
            if task["status"] == 1:
                who = next(a for a in world.people if "0x" + account(a).hex() == task["requester"])
                world.do(who, "cancelTask", note.id)
            elif task["status"] == 2:
                world.do("ann", "lapseTask", note.id)

    def everybody_leaves(self) -> None:
        world = self.world
        for model, owner in self.models:
            state = world.view("model", model)
            assert state["work"] == 0
            if state["bond"]:
                world.do(owner, "retireModel", model)
        for actor in world.people:
            if world.free(actor):
                world.do(actor, "unstake", world.free(actor))
            if world.balance(actor):
                world.do(actor, "withdraw")
        assert world.evm.balance(world.market) == 0
        everything = sum(world.evm.balance(account(actor)) for actor in world.people) + world.evm.balance(DEAD)
        assert everything == 1000 * ETH * len(world.people)
