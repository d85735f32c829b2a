"""Demands for withheld data: who answers, who is paid, who loses, and how a job ends for it."""

from __future__ import annotations

import plain_layout as layout
import pytest
from market_world import (
    ANSWERED,
    BOUNDARIES,
    DEMAND_MOOT,
    ETH,
    EXPIRED,
    FINAL,
    FRAUD,
    INPUT,
    JOB_OPEN,
    LOST,
    OPENING,
    OUTPUT,
    PROVIDER,
    RULING,
    TILE_LEAVES,
    TILES,
    VOID,
    WEIGHTS,
    WINDOW,
    Data,
    World,
    run_of,
    word,
)

FEE = ETH // 2


def status(world: World, job: bytes) -> int:
    return int(world.view("job", job)["status"])


def test_an_answered_input_pays_the_requester_and_extends_the_window(world: World) -> None:
    job = world.job(input_uri=True)
    world.wait(100)
    demand = world.demand(job, INPUT)
    world.wait(500)
    outcome = world.do("other", "answer", demand, Data("in").data)
    closed = outcome.log("DemandClosed")
    assert (closed["outcome"], closed["data"], closed["paid"]) == (ANSWERED, Data("in").data, ETH // 100)
    assert world.balance("requester") == ETH // 100
    assert outcome.log("WindowExtended")["windowEnd"] == world.evm.time + WINDOW == world.view("windowEnd", job)


def test_a_withheld_input_costs_the_requester_its_fee_and_the_provider_nothing(world: World) -> None:
    job = world.job(input_uri=True)
    demand = world.demand(job, INPUT)
    world.wait(600)
    paid, burnt = world.split(FEE)
    closed = world.do("other", "claimDemand", demand).log("DemandClosed")
    assert (closed["outcome"], closed["paid"], closed["burnt"]) == (LOST, paid, burnt)
    assert world.balance("challenger") == paid + ETH // 100
    assert (world.balance("requester"), world.free("provider")) == (0, ETH)
    assert status(world, job) == VOID


def test_an_answered_weight_tile_pays_the_registrar(world: World) -> None:
    job = world.job()
    demand = world.demand(job, WEIGHTS, 4)
    world.do("other", "answerTile", demand, TILES[4], layout.path(TILE_LEAVES, 4))
    assert world.balance("registrar") == ETH // 100


def test_withheld_weights_cost_the_registrar_its_bond_and_disable_the_model(world: World) -> None:
    model = world.register()
    job = world.job(model=model)
    demand = world.demand(job, WEIGHTS, 1)
    world.wait(600)
    paid, burnt = world.split(2 * ETH)
    outcome = world.do("other", "claimDemand", demand)
    closed = outcome.log("DemandClosed")
    assert (closed["outcome"], closed["paid"], closed["burnt"]) == (LOST, paid, burnt)
    assert outcome.log("ModelDisabled")["model"] == model
    assert world.balance("requester") == FEE
    assert world.free("provider") == ETH
    assert status(world, job) == VOID
    given = Data("later")
    args = (model, given.root, given.data, "", len(given.data), word("e"), world.evm.time + 10)
    world.fails("ModelInactive", "requester", "openTask", *args, value=1)
    world.fails("ModelInactive", "registrar", "retireModel", model)


def test_a_model_pays_its_bond_once_however_many_jobs_lack_its_weights(world: World) -> None:
    model = world.register()
    first, second = world.job(model=model, tag="a"), world.job(model=model, tag="b", who="other")
    demands = [world.demand(first, WEIGHTS), world.demand(second, WEIGHTS)]
    world.wait(600)
    world.do("other", "claimDemand", demands[0])
    closed = world.do("other", "claimDemand", demands[1]).log("DemandClosed")
    assert (closed["outcome"], closed["paid"], closed["burnt"]) == (LOST, 0, 0)
    assert status(world, second) == VOID


@pytest.mark.parametrize(("part", "index"), [(OUTPUT, 0), (OPENING, 2)])
def test_withheld_output_or_opening_is_a_fraud(world: World, part: int, index: int) -> None:
    job = world.job(output_uri=True)
    demand = world.demand(job, part, index)
    world.wait(600)
    paid, burnt = world.split(ETH)
    closed = world.do("other", "claimDemand", demand).log("DemandClosed")
    assert (closed["outcome"], closed["paid"], closed["burnt"]) == (LOST, paid, burnt)
    assert world.balance("challenger") == paid + ETH // 100
    assert world.balance("requester") == FEE
    assert world.free("provider") == 0
    assert status(world, job) == FRAUD


def test_answered_output_and_opening_pay_the_provider(world: World) -> None:
    job = world.job(output_uri=True)
    run = run_of(Data("in"), Data("out"))
    output, opening = world.demand(job, OUTPUT), world.demand(job, OPENING, 3)
    answered = world.do("other", "answer", output, Data("out").data)
    assert not [log for log in answered.logs if log.name == "WindowExtended"]  # in the second of the commitment
    world.do("provider", "answerTile", opening, run.leaves[3], run.path(3))
    assert world.balance("provider") == 2 * ETH // 100
    world.wait(WINDOW)
    world.do("other", "finalise", job)
    assert status(world, job) == FINAL


def test_a_provider_that_answers_in_anothers_stead_is_paid_for_it(world: World) -> None:
    job = world.job(input_uri=True)
    given, weights = world.demand(job, INPUT), world.demand(job, WEIGHTS, 2)
    world.do("provider", "answer", given, Data("in").data)
    world.do("provider", "answerTile", weights, TILES[2], layout.path(TILE_LEAVES, 2))
    assert world.balance("provider") == 2 * ETH // 100
    assert (world.balance("requester"), world.balance("registrar")) == (0, 0)


def test_demands_of_a_closed_job_are_moot(world: World) -> None:
    job = world.job(output_uri=True)
    demand, dispute = world.demand(job, WEIGHTS), world.challenge(job, "other")
    world.do("provider", "concede", dispute)
    world.fails("JobNotOpen", "other", "answerTile", demand, TILES[0], layout.path(TILE_LEAVES, 0))
    closed = world.do("other", "claimDemand", demand).log("DemandClosed")
    assert closed["outcome"] == DEMAND_MOOT
    assert world.balance("challenger") == ETH // 100


def test_an_open_accusation_outlives_withheld_input(world: World) -> None:
    """A cheater's friend cannot end the job by withholding the input: whoever accused the provider gets a ruling."""
    job = world.job(input_uri=True)
    dispute, demand = world.challenge(job), world.demand(job, INPUT, who="other")
    world.wait(600)
    world.do("other", "claimDemand", demand)
    assert status(world, job) == JOB_OPEN
    claim = world.claim(job)
    world.seal("other", claim)
    world.wait(12)
    world.fails("WindowClosed", "other", "challenge", *claim, value=ETH // 10)
    world.rule(dispute, fraud=True)
    world.settle(dispute)
    assert status(world, job) == FRAUD
    assert world.balance("requester") == 0


@pytest.mark.parametrize("outcome", [PROVIDER, EXPIRED])
def test_a_job_without_input_is_void_when_its_last_accusation_ends(world: World, outcome: int) -> None:
    job = world.job(input_uri=True)
    dispute, demand = world.challenge(job), world.demand(job, INPUT, who="other")
    world.wait(600)
    world.do("other", "claimDemand", demand)
    if outcome == PROVIDER:
        world.rule(dispute, fraud=False)
    else:
        world.wait(RULING)
    closed = world.do("other", "settle", dispute)
    assert closed.log("JobClosed")["status"] == VOID
    assert world.free("provider") == ETH


def test_a_job_without_input_waits_for_the_demands_to_its_provider(world: World) -> None:
    job = world.job(input_uri=True, output_uri=True)
    given, output = world.demand(job, INPUT), world.demand(job, OUTPUT)
    world.wait(599)
    later = world.demand(job, OPENING, 1)
    world.wait(1)
    world.do("other", "claimDemand", given)
    assert status(world, job) == JOB_OPEN
    run = run_of(Data("in"), Data("out"))
    outcome = world.do("provider", "answerTile", later, run.leaves[1], run.path(1))
    assert not [log for log in outcome.logs if log.name == "WindowExtended"]
    assert status(world, job) == JOB_OPEN
    world.do("other", "claimDemand", output)
    assert status(world, job) == FRAUD


def test_the_last_answer_of_a_job_without_input_ends_it(world: World) -> None:
    job = world.job(input_uri=True)
    given = world.demand(job, INPUT)
    world.wait(10)
    opening = world.demand(job, OPENING, BOUNDARIES - 1)
    world.wait(590)
    world.do("other", "claimDemand", given)
    run = run_of(Data("in"), Data("out"))
    outcome = world.do("provider", "answerTile", opening, run.leaves[-1], run.path(BOUNDARIES - 1))
    assert outcome.log("JobClosed")["status"] == VOID
    assert world.balance("provider") == ETH // 100
