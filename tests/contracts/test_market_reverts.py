"""Every custom error of the market, provoked; a table that must name all that the ABI knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import plain_layout as layout
import pytest
from market_evm import CallReverted, abi_of
from market_world import (
    BOUNDARIES,
    DEFAULTS,
    ETH,
    INPUT,
    OPENING,
    OUTPUT,
    TILE_LEAVES,
    TILES,
    WEIGHTS,
    WINDOW,
    Data,
    World,
    account,
    run_of,
    word,
)

Provocation = Callable[[World], None]
CASES: list[tuple[str, Provocation]] = []


def provokes(error: str) -> Callable[[Provocation], Provocation]:
    def note(case: Provocation) -> Provocation:
        CASES.append((error, case))
        return case

    return note


@pytest.mark.parametrize(("error", "case"), CASES, ids=[f"{error}-{case.__name__}" for error, case in CASES])
def test_reverts(world: World, error: str, case: Provocation) -> None:
    case(world)
    assert error in {entry["name"] for entry in abi_of("InferenceMarket").errors.values()}


def test_every_error_of_the_abi_is_provoked() -> None:
    assert {error for error, _ in CASES} == {entry["name"] for entry in abi_of("InferenceMarket").errors.values()}


def task_args(world: World, model: bytes, **changes: Any) -> tuple[Any, ...]:
    given = Data("in")
    fields = {
        "model": model,
        "root": given.root,
        "data": given.data,
        "uri": "",
        "length": len(given.data),
        "entropy": word("e"),
        "deadline": world.evm.time + 100,
    }
    return tuple({**fields, **changes}.values())


def taken(world: World) -> bytes:
    task = world.open_task(world.register(), Data("in"))
    world.take(task)
    return task


# --- parameters and money ------------------------------------------------------------------------------------------

BAD_PARAMS = [
    ("window", 0),
    ("window", 91 * 86400),
    ("answerPeriod", 0),
    ("answerPeriod", 91 * 86400),
    ("sealAge", 0),
    ("maxSealAge", 0),
    ("maxDisputes", 0),
    ("maxDisputes", 9),
    ("jobCollateral", 0),
    ("modelBond", ETH - 1),
    ("challengeBond", 0),
    ("demandBond", 0),
    ("bountyMillionths", 500_001),
    ("maxInline", 45_057),
    ("adjudicator", account("nobody")),
]


@provokes("BadParams")
def absurd_parameters(world: World) -> None:
    for field, value in BAD_PARAMS:
        values = {**DEFAULTS, "adjudicator": world.adjudicator, field: value}
        with pytest.raises(CallReverted, match="BadParams") as caught:
            world.evm.deploy("InferenceMarket", tuple(values.values()))
        assert field in str(caught.value)


@provokes("WrongValue")
def not_the_exact_money(world: World) -> None:
    assert world.fails("WrongValue", "provider", "stake") == (1,)
    assert world.fails("WrongValue", "registrar", "registerModel", world.spec(), value=ETH) == (2 * ETH,)
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.evm.mine()
    bond = world.params["challengeBond"]
    for value in (0, bond - 1, bond + 1):
        assert world.fails("WrongValue", "challenger", "challenge", *claim, value=value) == (bond,)
    assert world.fails("WrongValue", "challenger", "demand", job, WEIGHTS, 0) == (world.params["demandBond"],)


@provokes("NothingToWithdraw")
def no_credit(world: World) -> None:
    world.fails("NothingToWithdraw", "other", "withdraw")


@provokes("PaymentFailed")
def a_receiver_that_refuses(world: World) -> None:
    world.do("provider", "stake", value=ETH)
    world.do("provider", "unstake", ETH)
    world.evm.place(account("provider"), bytes.fromhex("5f5ffd"))  # revert
    world.fails("PaymentFailed", "provider", "withdraw")
    assert world.balance("provider") == ETH


@provokes("InsufficientStake")
def too_little_stake(world: World) -> None:
    world.do("provider", "stake", value=ETH - 1)
    assert world.fails("InsufficientStake", "provider", "unstake", ETH) == (ETH - 1, ETH)
    assert world.fails("InsufficientStake", "provider", "unstake", 0) == (ETH - 1, 0)
    task = world.open_task(world.register(), Data("in"))
    world.evm.mine(2)
    assert world.fails("InsufficientStake", "provider", "take", task) == (ETH - 1, ETH)


@provokes("WorkOpen")
def stake_while_work_is_open(world: World) -> None:
    world.do("provider", "stake", value=3 * ETH)
    taken(world)
    assert world.fails("WorkOpen", "provider", "unstake", 1) == (1,)


# --- models --------------------------------------------------------------------------------------------------------


@provokes("BadSpec")
def absurd_specs(world: World) -> None:
    for field, value in [("mode", 3), ("boundaries", 1), ("artefactTiles", 0), ("uri", "")]:
        (named,) = world.fails("BadSpec", "registrar", "registerModel", world.spec(**{field: value}), value=2 * ETH)
        assert named.rstrip(b"\0").decode() == field


@provokes("ModelExists")
def the_same_model_again(world: World) -> None:
    world.register()
    world.fails("ModelExists", "registrar", "registerModel", world.spec(), value=2 * ETH)
    world.register("other")  # another registrar, another id


@provokes("UnknownModel")
def no_such_model(world: World) -> None:
    world.fails("UnknownModel", "requester", "openTask", *task_args(world, word("none")), value=1)
    world.fails("UnknownModel", "registrar", "retireModel", word("none"))


@provokes("ModelInactive")
def a_retired_model(world: World) -> None:
    model = world.register()
    task = world.open_task(model, Data("in"))
    world.do("registrar", "retireModel", model)
    world.fails("ModelInactive", "requester", "openTask", *task_args(world, model), value=1)
    world.do("provider", "stake", value=ETH)
    world.evm.mine(2)
    world.fails("ModelInactive", "provider", "take", task)
    world.fails("ModelInactive", "registrar", "retireModel", model)


@provokes("NotRegistrar")
def retired_by_another(world: World) -> None:
    world.fails("NotRegistrar", "other", "retireModel", world.register())


# --- data ----------------------------------------------------------------------------------------------------------


@provokes("InlineOrUri")
def both_or_neither(world: World) -> None:
    model = world.register()
    world.fails("InlineOrUri", "requester", "openTask", *task_args(world, model, uri="file:x"))
    world.fails("InlineOrUri", "requester", "openTask", *task_args(world, model, data=b""))


@provokes("UriTooLong")
def a_uri_without_end(world: World) -> None:
    model = world.register(uri="x" * 2048)
    world.fails("UriTooLong", "registrar", "registerModel", world.spec(uri="x" * 2049), value=2 * ETH)
    world.fails("UriTooLong", "requester", "openTask", *task_args(world, model, data=b"", uri="x" * 2049))


@provokes("TooLong")
def more_data_than_can_be_posted(world: World) -> None:
    model = world.register()
    args = task_args(world, model, data=b"", uri="file:x", length=45_057)
    assert world.fails("TooLong", "requester", "openTask", *args) == (45_057, 45_056)
    big = layout.bundle({b"x": (1, (1100,), bytes(4400))})
    args = task_args(world, model, data=big, length=len(big))
    assert world.fails("TooLong", "requester", "openTask", *args) == (len(big), 4096)
    spec = world.spec(knownInput=big)
    assert world.fails("TooLong", "registrar", "registerModel", spec, value=2 * ETH) == (len(big), 4096)


@provokes("LengthMismatch")
def a_length_that_is_not(world: World) -> None:
    model = world.register()
    length = len(Data("in").data)
    args = task_args(world, model, length=length + 1)
    assert world.fails("LengthMismatch", "requester", "openTask", *args) == (length + 1, length)
    world.fails("LengthMismatch", "requester", "openTask", *task_args(world, model, data=b"", uri="u", length=0))


@provokes("RootMismatch")
def data_under_another_root(world: World) -> None:
    model = world.register()
    args = task_args(world, model, root=word("other"))
    assert world.fails("RootMismatch", "requester", "openTask", *args) == (Data("in").root,)
    task = taken_of(world, model)
    run = run_of(Data("in"), Data("out"))
    committed = list(world.commit_args(task, Data("out"), run))
    committed[3] = Data("not").data
    world.fails("RootMismatch", "provider", "commit", *committed)
    job = world.job(model=model, input_uri=True, output_uri=True, tag="u")
    for part, name in [(INPUT, "outu"), (OUTPUT, "inu")]:
        world.fails("RootMismatch", "other", "answer", world.demand(job, part), Data(name).data)


def taken_of(world: World, model: bytes) -> bytes:
    task = world.open_task(model, Data("in"))
    world.take(task)
    return task


@provokes("MalformedBundle")
def data_that_is_no_bundle(world: World) -> None:
    model = world.register()
    args = task_args(world, model, data=Data("in").data + b"\0", length=len(Data("in").data) + 1)
    assert world.fails("MalformedBundle", "requester", "openTask", *args) == (len(Data("in").data),)
    assert world.fails("MalformedBundle", "registrar", "registerModel", world.spec(knownInput=b""), value=2 * ETH)
    world.fails("MalformedBundle", "registrar", "registerModel", world.spec(knownInput=b"\x09"), value=2 * ETH)


@provokes("BadPath")
def leaves_that_are_not_there(world: World) -> None:
    task = taken(world)
    run = run_of(Data("in"), Data("out"))
    good = list(world.commit_args(task, Data("out"), run))
    for position, path in [
        (6, run.path(1)),
        (6, run.path(0)[:-1]),
        (6, [*run.path(0), bytes(32)]),
        (7, run.path(BOUNDARIES - 2)),
        (7, []),
    ]:
        bad = list(good)
        bad[position] = path
        world.fails("BadPath", "provider", "commit", *bad)
    # another input's run; another output's root
    other = run_of(Data("another"), Data("out"))
    world.fails("BadPath", "provider", "commit", *world.commit_args(task, Data("out"), other))
    good[1] = word("not the last leaf")
    world.fails("BadPath", "provider", "commit", *good)
    job = world.commit(task, Data("out"), run)
    demand = world.demand(job, WEIGHTS, 2)
    world.fails("BadPath", "registrar", "answerTile", demand, TILES[3], layout.path(TILE_LEAVES, 3))
    world.fails("BadPath", "registrar", "answerTile", demand, TILES[3], layout.path(TILE_LEAVES, 2))


# --- tasks ---------------------------------------------------------------------------------------------------------


@provokes("UnknownTask")
def no_such_task(world: World) -> None:
    for function in ("take", "cancelTask", "lapseTask"):
        world.fails("UnknownTask", "provider", function, word("none"))


@provokes("TaskNotOpen")
def a_task_that_is_taken(world: World) -> None:
    task = taken(world)
    world.do("other", "stake", value=ETH)
    world.fails("TaskNotOpen", "other", "take", task)
    world.fails("TaskNotOpen", "requester", "cancelTask", task)


@provokes("TaskNotTaken")
def a_task_that_is_not_taken(world: World) -> None:
    task = world.open_task(world.register(), Data("in"))
    world.fails("TaskNotTaken", "other", "lapseTask", task)
    args = world.commit_args(task, Data("out"), run_of(Data("in"), Data("out")))
    world.fails("TaskNotTaken", "provider", "commit", *args)
    world.take(task)
    world.commit(task, Data("out"), run_of(Data("in"), Data("out")))
    world.fails("TaskNotTaken", "provider", "commit", *args)


@provokes("NotRequester")
def cancelled_by_another(world: World) -> None:
    world.fails("NotRequester", "provider", "cancelTask", world.open_task(world.register(), Data("in")))


@provokes("NotProvider")
def committed_by_another(world: World) -> None:
    args = world.commit_args(taken(world), Data("out"), run_of(Data("in"), Data("out")))
    world.fails("NotProvider", "other", "commit", *args)
    dispute = world.challenge(world.job(tag="x"))
    world.fails("NotProvider", "other", "concede", dispute)


@provokes("BadDeadline")
def a_deadline_in_the_past(world: World) -> None:
    model = world.register()
    world.fails("BadDeadline", "requester", "openTask", *task_args(world, model, deadline=world.evm.time))


@provokes("DeadlinePassed")
def after_the_deadline(world: World) -> None:
    late = world.open_task(world.register(), Data("in"), lifetime=24)
    world.do("provider", "stake", value=2 * ETH)
    world.evm.mine(2)
    world.fails("DeadlinePassed", "provider", "take", late)
    task = world.open_task(world.register("other"), Data("in"))
    world.take(task)
    args = world.commit_args(task, Data("out"), run_of(Data("in"), Data("out")))
    world.wait_until(world.view("task", task)["deadline"])
    world.fails("DeadlinePassed", "provider", "commit", *args)


@provokes("DeadlineNotPassed")
def lapsed_too_soon(world: World) -> None:
    task = taken(world)
    world.wait_until(world.view("task", task)["deadline"] - 1)
    world.fails("DeadlineNotPassed", "other", "lapseTask", task)
    args = world.commit_args(task, Data("out"), run_of(Data("in"), Data("out")))
    world.do("provider", "commit", *args)  # the last second is in


@provokes("BeaconNotReady")
def taken_in_the_next_block(world: World) -> None:
    world.do("provider", "stake", value=ETH)
    task = world.open_task(world.register(), Data("in"))
    world.fails("BeaconNotReady", "provider", "take", task)
    world.evm.mine()
    world.fails("BeaconNotReady", "provider", "take", task)


@provokes("BeaconGone")
def taken_when_the_beacon_is_forgotten(world: World) -> None:
    world.do("provider", "stake", value=ETH)
    task = world.open_task(world.register(), Data("in"), lifetime=10_000)
    world.evm.mine(257)
    world.fails("BeaconGone", "provider", "take", task)


# --- disputes ------------------------------------------------------------------------------------------------------


@provokes("UnknownJob")
def no_such_job(world: World) -> None:
    claim = world.claim(word("none"))
    world.fails("UnknownJob", "challenger", "challenge", *claim, value=ETH // 10)
    world.fails("UnknownJob", "challenger", "demand", word("none"), WEIGHTS, 0, value=ETH // 100)
    world.fails("UnknownJob", "challenger", "finalise", word("none"))


@provokes("JobNotOpen")
def a_job_that_is_over(world: World) -> None:
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.wait(WINDOW)
    world.do("other", "finalise", job)
    world.fails("JobNotOpen", "other", "finalise", job)
    world.fails("JobNotOpen", "challenger", "challenge", *claim, value=ETH // 10)
    world.fails("JobNotOpen", "challenger", "demand", job, WEIGHTS, 0, value=ETH // 100)


@provokes("WindowClosed")
def at_the_windows_end(world: World) -> None:
    job = world.job(input_uri=True)
    claims = [world.claim(job), world.claim(job)]
    for claim in claims:
        world.seal("challenger", claim)
    end = world.view("windowEnd", job)
    world.wait_until(end - 1)
    world.do("challenger", "challenge", *claims[0], value=ETH // 10)  # t = windowEnd − 1 is in
    world.wait(1)
    world.fails("WindowClosed", "challenger", "challenge", *claims[1], value=ETH // 10)  # t = windowEnd is out


@provokes("WindowClosed")
def demands_at_the_first_windows_end(world: World) -> None:
    job = world.job(input_uri=True)
    world.wait_until(world.view("windowEnd", job) - 1)
    demand = world.demand(job, INPUT)
    world.wait(1)
    world.do("other", "answer", demand, Data("in").data)
    assert world.view("windowEnd", job) == world.evm.time + WINDOW
    world.fails("WindowClosed", "challenger", "demand", job, WEIGHTS, 0, value=ETH // 100)
    world.challenge(job)
    world.demand(job, WEIGHTS)  # whoever judges may need the data


@provokes("WindowOpen")
def finalised_too_soon(world: World) -> None:
    job = world.job()
    world.wait_until(world.view("windowEnd", job) - 1)
    world.fails("WindowOpen", "provider", "finalise", job)
    world.wait(1)
    world.do("other", "finalise", job)


@provokes("DisputesFull")
def one_dispute_too_many(world: World) -> None:
    job = world.job()
    disputes = [world.challenge(job) for _ in range(3)]
    claim = world.claim(job)
    world.seal("other", claim)
    world.evm.mine()
    world.fails("DisputesFull", "other", "challenge", *claim, value=ETH // 10)
    world.rule(disputes[1], fraud=False)
    world.settle(disputes[1])
    world.do("other", "challenge", *claim, value=ETH // 10)


@provokes("NotSealed")
def what_was_never_sealed(world: World) -> None:
    job = world.job()
    claim = world.claim(job)
    world.fails("NotSealed", "challenger", "challenge", *claim, value=ETH // 10)
    world.seal("challenger", claim)
    world.evm.mine()
    world.do("challenger", "challenge", *claim, value=ETH // 10)
    world.fails("NotSealed", "challenger", "challenge", *claim, value=ETH // 10)  # a seal opens once


@provokes("NotSealed")
def a_copied_seal(world: World) -> None:
    """Neither copying a seal nor copying an opened claim lets anyone else file it."""
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.do("other", "seal", world.sealed("challenger", claim))
    world.evm.mine()
    world.fails("NotSealed", "other", "challenge", *claim, value=ETH // 10)
    world.do("challenger", "challenge", *claim, value=ETH // 10)


@provokes("SealTooYoung")
def sealed_in_the_same_block(world: World) -> None:
    """Who sees a challenge in the pool and seals its own in front of it has to wait for the next block."""
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.fails("SealTooYoung", "challenger", "challenge", *claim, value=ETH // 10)


@provokes("SealTooOld")
def a_late_reveal(world: World) -> None:
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.evm.mine(50)
    late = world.claim(job)
    world.seal("other", late)
    world.do("challenger", "challenge", *claim, value=ETH // 10)
    world.evm.mine(51)
    world.fails("SealTooOld", "other", "challenge", *late, value=ETH // 10)
    world.seal("other", late)  # sealing again makes it young again
    world.evm.mine()
    world.do("other", "challenge", *late, value=ETH // 10)


@provokes("SameRoots")
def nothing_to_dispute(world: World) -> None:
    job = world.job()
    committed = world.view("job", job)
    same = (job, committed["outputRoot"], committed["stateRoot"], word("e"), word("s"))
    world.seal("challenger", same)
    world.evm.mine()
    world.fails("SameRoots", "challenger", "challenge", *same, value=ETH // 10)
    state_only = (job, committed["outputRoot"], word("another state"), word("e"), word("s"))
    world.seal("challenger", state_only)
    world.evm.mine()
    world.do("challenger", "challenge", *state_only, value=ETH // 10)


def constant(value: int) -> bytes:
    """Runtime code that answers every call with one word."""
    return bytes.fromhex("7f") + value.to_bytes(32, "big") + bytes.fromhex("5f5260205ff3")


@provokes("BadRulingPeriod")
def an_adjudicator_with_absurd_clocks(world: World) -> None:
    bench = account("absurd adjudicator")
    world.evm.place(bench, constant(0))
    world.market = world.evm.deploy("InferenceMarket", tuple({**world.params, "adjudicator": bench}.values()))
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.evm.mine()
    now = world.evm.time
    for ruling_by in (0, now, now + 90 * 86400 + 1):
        world.evm.place(bench, constant(ruling_by))
        world.fails("BadRulingPeriod", "challenger", "challenge", *claim, value=ETH // 10)
    world.evm.place(bench, constant(now + 1))
    dispute = int.from_bytes(world.do("challenger", "challenge", *claim, value=ETH // 10).output, "big")
    world.wait(1)
    world.evm.place(bench, constant(3))  # a ruling that is neither 1 nor 2 is none
    assert world.settle(dispute)["outcome"] == 3


@provokes("UnknownDispute")
def no_such_dispute(world: World) -> None:
    for function in ("settle", "concede"):
        world.fails("UnknownDispute", "provider", function, 7)


@provokes("DisputeNotOpen")
def a_dispute_that_is_over(world: World) -> None:
    dispute = world.challenge(world.job())
    world.rule(dispute, fraud=False)
    world.settle(dispute)
    for function in ("settle", "concede"):
        world.fails("DisputeNotOpen", "provider", function, dispute)


@provokes("EarlierDisputeOpen")
def a_later_accuser_is_preferred(world: World) -> None:
    """Neither by conceding nor by a quicker ruling does a later dispute overtake an earlier one."""
    job = world.job()
    first, friend = world.challenge(job), world.challenge(job, "provider")
    assert world.fails("EarlierDisputeOpen", "provider", "concede", friend) == (first,)
    world.rule(friend, fraud=True)
    assert world.fails("EarlierDisputeOpen", "provider", "settle", friend) == (first,)
    world.rule(first, fraud=True)
    assert world.settle(first)["outcome"] == 1
    assert world.settle(friend)["outcome"] == 4


@provokes("EarlierDisputeOpen")
def a_friends_demand_is_preferred(world: World) -> None:
    job = world.job(output_uri=True)
    first = world.challenge(job)
    world.evm.mine()
    demand = world.demand(job, OUTPUT, who="other")
    world.wait(600)
    assert world.fails("EarlierDisputeOpen", "other", "claimDemand", demand) == (first,)
    world.wait(1800)
    assert world.settle(first)["outcome"] == 3
    world.do("other", "claimDemand", demand)


@provokes("Undecided")
def settled_too_soon(world: World) -> None:
    dispute = world.challenge(world.job())
    assert world.fails("Undecided", "other", "settle", dispute) == (world.view("dispute", dispute)["rulingBy"],)


@provokes("StillOpen")
def finalised_over_open_matters(world: World) -> None:
    job = world.job()
    world.wait_until(world.view("windowEnd", job) - 12)
    dispute = world.challenge(job, blocks=1, seconds=1)
    demand = world.demand(job, WEIGHTS)
    world.wait_until(world.view("windowEnd", job))
    assert world.fails("StillOpen", "other", "finalise", job) == (1, 1)
    world.rule(dispute, fraud=False)
    world.settle(dispute)
    assert world.fails("StillOpen", "other", "finalise", job) == (0, 1)
    world.do("other", "answerTile", demand, TILES[0], layout.path(TILE_LEAVES, 0))
    world.fails("WindowOpen", "other", "finalise", job)


# --- demands -------------------------------------------------------------------------------------------------------


@provokes("BadPart")
def a_part_that_does_not_exist(world: World) -> None:
    world.fails("BadPart", "challenger", "demand", world.job(), 4, 0, value=ETH // 100)


@provokes("GivenInline")
def data_that_is_on_chain(world: World) -> None:
    job = world.job()
    for part in (INPUT, OUTPUT):
        world.fails("GivenInline", "challenger", "demand", job, part, 0, value=ETH // 100)


@provokes("BadIndex")
def places_that_do_not_exist(world: World) -> None:
    job = world.job(input_uri=True, output_uri=True)
    for part, count in [(INPUT, 1), (OUTPUT, 1), (WEIGHTS, len(TILES)), (OPENING, BOUNDARIES)]:
        world.fails("BadIndex", "challenger", "demand", job, part, count, value=ETH // 100)
        world.demand(job, part, count - 1)


@provokes("AlreadyDemanded")
def demanded_twice(world: World) -> None:
    """Once per (job, part, index), whatever came of it: nobody has to answer for the same thing twice."""
    job = world.job(input_uri=True)
    demand = world.demand(job, INPUT)
    assert world.fails("AlreadyDemanded", "other", "demand", job, INPUT, 0, value=ETH // 100) == (demand,)
    world.do("other", "answer", demand, Data("in").data)
    assert world.fails("AlreadyDemanded", "other", "demand", job, INPUT, 0, value=ETH // 100) == (demand,)
    assert world.view("demandOf", job, INPUT, 0) == demand


@provokes("UnknownDemand")
def no_such_demand(world: World) -> None:
    world.fails("UnknownDemand", "other", "answer", 9, b"")
    world.fails("UnknownDemand", "other", "answerTile", 9, b"", [])
    world.fails("UnknownDemand", "other", "claimDemand", 9)


@provokes("DemandNotOpen")
def a_demand_that_is_over(world: World) -> None:
    demand = world.demand(world.job(input_uri=True), INPUT)
    world.do("other", "answer", demand, Data("in").data)
    world.fails("DemandNotOpen", "other", "answer", demand, Data("in").data)
    world.fails("DemandNotOpen", "other", "claimDemand", demand)


@provokes("WrongAnswer")
def an_answer_of_another_kind(world: World) -> None:
    job = world.job(input_uri=True)
    given, weights = world.demand(job, INPUT), world.demand(job, WEIGHTS)
    opening = world.demand(job, OPENING, 1)
    world.fails("WrongAnswer", "other", "answer", weights, Data("in").data)
    world.fails("WrongAnswer", "other", "answerTile", given, TILES[0], [])
    world.fails("WrongAnswer", "other", "answerTile", weights, TILES[0][:-1], layout.path(TILE_LEAVES, 0))
    world.fails("WrongAnswer", "other", "answerTile", opening, bytes(33), [])


@provokes("TooLate")
def answered_too_late(world: World) -> None:
    job = world.job(input_uri=True)
    demand, second = world.demand(job, INPUT), world.demand(job, WEIGHTS)
    world.wait(599)
    world.do("other", "answer", demand, Data("in").data)
    world.wait(1)
    world.fails("TooLate", "other", "answerTile", second, TILES[0], layout.path(TILE_LEAVES, 0))


@provokes("TooEarly")
def claimed_too_early(world: World) -> None:
    demand = world.demand(world.job(input_uri=True), INPUT)
    world.wait(599)
    world.fails("TooEarly", "challenger", "claimDemand", demand)
    world.wait(1)
    world.do("challenger", "claimDemand", demand)


@provokes("ProviderDemandOpen")
def conceding_past_a_demand(world: World) -> None:
    """A provider that withholds cannot hand the bounty to a friend while somebody waits for its data."""
    job = world.job(output_uri=True)
    demand = world.demand(job, OUTPUT)
    friend = world.challenge(job, "provider")
    world.fails("ProviderDemandOpen", "provider", "concede", friend)
    world.do("provider", "answer", demand, Data("out").data)
    world.do("provider", "concede", friend)
