"""Errors of parameters, money, models, data and tasks."""

from __future__ import annotations

import plain_layout as layout
import pytest
from market_evm import CallReverted
from market_world import (
    BOUNDARIES,
    DEFAULTS,
    ETH,
    INPUT,
    OUTPUT,
    TILE_LEAVES,
    TILES,
    WEIGHTS,
    Data,
    World,
    account,
    run_of,
    word,
)
from provocations import provokes, taken, task_args

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
