"""The way of an honest job, and who gets what at each of its other ends."""

from __future__ import annotations

import hashlib

import pytest
from eth_abi import encode
from market_world import (
    CHALLENGER,
    DEAD,
    ETH,
    EXPIRED,
    FINAL,
    FRAUD,
    JOB_OPEN,
    MOOT,
    PROVIDER,
    RULING,
    VOID,
    WEIGHTS,
    WINDOW,
    Data,
    World,
    account,
    run_of,
    word,
)

from challenger.chain.hashing import keccak

FEE = ETH // 2


def status(world: World, job: bytes) -> int:
    return int(world.view("job", job)["status"])


def test_an_unchallenged_commitment_finalises_and_everybody_gets_their_own(world: World) -> None:
    job = world.job()
    world.wait(WINDOW)
    outcome = world.do("other", "finalise", job)
    assert outcome.log("JobClosed") == {"job": job, "status": FINAL}
    assert world.balance("provider") == FEE
    assert world.free("provider") == ETH
    world.do("provider", "unstake", ETH)
    before = world.evm.balance(account("provider"))
    assert world.do("provider", "withdraw").log("Withdrawn")["amount"] == FEE + ETH
    assert world.evm.balance(account("provider")) == before + FEE + ETH


def test_identifiers_and_seed_are_what_anyone_computes(world: World) -> None:
    given, result = Data("in"), Data("out")
    run = run_of(given, result)
    model = world.register()
    flat = ["bytes32", "bytes32", "bytes32", "uint32", "uint8", "uint32", "uint32", "string", "bytes", "bytes32"]
    here = [world.chain_id, world.market]
    expected = encode(
        ["string", "uint256", "address", "address", *flat], ["model/1", *here, account("registrar"), *world.spec()]
    )
    assert model == keccak(expected)
    task = world.open_task(model, given)
    seed = world.take(task)
    beacon = world.evm.hash_of(world.view("task", task)["openedBlock"] + 1)
    packed = b"seed/1" + world.chain_id.to_bytes(32, "big") + world.market + task + word("entropy") + beacon
    assert seed == hashlib.sha256(packed).digest() == world.view("task", task)["seed"]
    job = world.commit(task, result, run)
    fields = [task, account("provider"), model, result.root, run.state_root]
    types = ["string", "uint256", "address", "bytes32", "address", "bytes32", "bytes32", "bytes32"]
    assert job == keccak(encode(types, ["job/1", *here, *fields]))


def test_the_case_digest_binds_commitment_claim_and_evidence(world: World) -> None:
    job = world.job()
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.evm.mine()
    dispute = int.from_bytes(world.do("challenger", "challenge", *claim, value=ETH // 10).output, "big")
    committed = world.view("job", job)
    parts = [job, committed["outputRoot"], committed["stateRoot"], claim[1], claim[2], claim[3]]
    docket = world.evm.view(world.adjudicator, "docketOf", world.market, dispute)
    assert docket["digest"] == keccak(encode(["string", *["bytes32"] * 6], ["case/1", *parts]))
    assert docket["rulingBy"] == world.view("dispute", dispute)["rulingBy"] == world.evm.time + RULING


def test_a_proven_fraud_pays_the_challenger_and_burns_the_rest(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.rule(dispute, fraud=True)
    paid, burnt = world.split(ETH)
    settled = world.settle(dispute)
    assert settled == {"dispute": dispute, "job": job, "outcome": CHALLENGER, "paid": paid, "burnt": burnt}
    assert world.balance("challenger") == paid + ETH // 10
    assert world.balance("requester") == FEE
    assert world.free("provider") == world.balance("provider") == 0
    assert world.evm.balance(DEAD) == burnt
    assert status(world, job) == FRAUD


def test_a_wrong_accusation_pays_the_provider_and_the_job_goes_on(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.rule(dispute, fraud=False)
    paid, burnt = world.split(ETH // 10)
    assert world.settle(dispute)["outcome"] == PROVIDER
    assert world.balance("provider") == paid
    assert world.evm.balance(DEAD) == burnt
    assert world.balance("challenger") == 0
    assert status(world, job) == JOB_OPEN
    world.wait(WINDOW)
    world.do("other", "finalise", job)
    assert status(world, job) == FINAL


def test_a_dispute_without_a_ruling_gives_the_bond_back_and_nothing_finalises(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.fails("Undecided", "other", "settle", dispute)
    world.wait(RULING - 1)
    world.fails("Undecided", "other", "settle", dispute)
    world.wait(1)
    assert world.settle(dispute)["outcome"] == EXPIRED
    assert world.balance("challenger") == ETH // 10
    world.wait_until(world.view("windowEnd", job))
    world.do("other", "finalise", job)
    assert status(world, job) == VOID
    assert world.balance("requester") == FEE
    assert (world.balance("provider"), world.free("provider")) == (0, ETH)


def test_after_an_expired_dispute_another_one_can_still_prove_the_fraud(world: World) -> None:
    job = world.job()
    first = world.challenge(job)
    world.wait(RULING)
    world.settle(first)
    second = world.challenge(job, "other")
    world.rule(second, fraud=True)
    world.settle(second)
    assert status(world, job) == FRAUD
    assert world.balance("other") == world.split(ETH)[0] + ETH // 10


def test_a_ruling_in_time_counts_however_late_it_is_settled(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.rule(dispute, fraud=True)
    world.wait(10 * RULING)
    assert world.settle(dispute)["outcome"] == CHALLENGER


def test_a_conceded_fraud_is_paid_like_a_ruled_one(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.fails("NotProvider", "challenger", "concede", dispute)
    paid, burnt = world.split(ETH)
    settled = world.do("provider", "concede", dispute).log("Settled")
    assert settled == {"dispute": dispute, "job": job, "outcome": CHALLENGER, "paid": paid, "burnt": burnt}


def test_the_other_disputes_of_a_fraud_are_moot_and_get_their_bond(world: World) -> None:
    job = world.job()
    first, second = world.challenge(job, "challenger"), world.challenge(job, "other")
    world.do("provider", "concede", first)
    assert world.settle(second)["outcome"] == MOOT
    assert world.balance("other") == ETH // 10


def test_losing_a_dispute_against_oneself_finalises_nothing_and_costs_the_burnt_part(world: World) -> None:
    before = world.wealth("provider")
    job = world.job()
    dispute = world.challenge(job, "provider")
    world.rule(dispute, fraud=False)
    world.settle(dispute)
    assert world.wealth("provider") == before - world.split(ETH // 10)[1]
    world.fails("WindowOpen", "provider", "finalise", job)
    real = world.challenge(job)
    world.rule(real, fraud=True)
    world.settle(real)
    assert status(world, job) == FRAUD


def test_conceding_to_oneself_costs_the_burnt_part_and_the_fee(world: World) -> None:
    before = world.wealth("provider")
    job = world.job()
    world.do("provider", "concede", world.challenge(job, "provider"))
    assert world.wealth("provider") == before - world.split(ETH)[1]


# --- tasks ---------------------------------------------------------------------------------------------------------


def test_a_requester_takes_an_untaken_task_back(world: World) -> None:
    task = world.open_task(world.register(), Data("in"))
    world.fails("NotRequester", "other", "cancelTask", task)
    world.do("requester", "cancelTask", task)
    assert world.balance("requester") == FEE
    world.fails("TaskNotOpen", "requester", "cancelTask", task)


def test_a_taker_that_misses_the_deadline_is_slashed(world: World) -> None:
    task = world.open_task(world.register(), Data("in"))
    world.take(task)
    world.fails("DeadlineNotPassed", "other", "lapseTask", task)
    world.wait_until(world.view("task", task)["deadline"])
    paid, burnt = world.split(ETH)
    lapsed = world.do("other", "lapseTask", task).log("TaskLapsed")
    assert (lapsed["paid"], lapsed["burnt"]) == (paid, burnt)
    assert world.balance("requester") == FEE + paid
    assert world.free("provider") == 0
    assert world.view("openWork", account("provider")) == 0


def test_a_taker_of_a_model_whose_weights_were_withheld_keeps_its_collateral(world: World) -> None:
    model = world.register()
    job = world.job(model=model)
    task = world.open_task(model, Data("second"), lifetime=5000)
    world.take(task, "other")
    demand = world.demand(job, WEIGHTS)
    world.wait(600)
    world.do("challenger", "claimDemand", demand)
    world.wait_until(world.view("task", task)["deadline"])
    lapsed = world.do("other", "lapseTask", task).log("TaskLapsed")
    assert (lapsed["paid"], lapsed["burnt"]) == (0, 0)
    assert world.free("other") == ETH


def test_a_model_that_is_merely_retired_excuses_nobody(world: World) -> None:
    model = world.register()
    task = world.open_task(model, Data("in"))
    world.take(task)
    world.do("registrar", "retireModel", model)
    world.wait_until(world.view("task", task)["deadline"])
    assert world.do("other", "lapseTask", task).log("TaskLapsed")["burnt"] == world.split(ETH)[1]


def test_an_answer_to_a_task_on_a_disabled_model_is_still_taken(world: World) -> None:
    model = world.register()
    given, result = Data("in"), Data("out")
    task = world.open_task(model, given)
    world.take(task)
    world.do("registrar", "retireModel", model)
    world.commit(task, result, run_of(given, result))
    assert world.balance("registrar") == 0


@pytest.mark.parametrize(("block", "error"), [(1, "BeaconNotReady"), (2, ""), (256, ""), (257, "BeaconGone")])
def test_a_task_is_taken_two_to_256_blocks_after_it_was_opened(world: World, block: int, error: str) -> None:
    task = world.open_task(world.register(), Data("in"), lifetime=100_000)
    world.do("provider", "stake", value=ETH)
    world.evm.mine(block)
    if error:
        world.fails(error, "provider", "take", task)
        world.do("requester", "cancelTask", task)
    else:
        world.do("provider", "take", task)


# --- models --------------------------------------------------------------------------------------------------------


def test_a_registrar_gets_its_bond_back_once_no_work_is_open(world: World) -> None:
    model = world.register()
    job = world.job(model=model)
    world.fails("NotRegistrar", "other", "retireModel", model)
    assert world.do("registrar", "retireModel", model).log("ModelDisabled")["model"] == model
    assert world.fails("WorkOpen", "registrar", "retireModel", model) == (1,)
    world.wait(WINDOW)
    world.do("other", "finalise", job)
    world.do("registrar", "retireModel", model)
    assert world.balance("registrar") == 2 * ETH
    world.fails("ModelInactive", "registrar", "retireModel", model)


def test_a_retired_model_still_answers_for_its_weights(world: World) -> None:
    model = world.register()
    job = world.job(model=model)
    world.do("registrar", "retireModel", model)
    demand = world.demand(job, WEIGHTS)
    world.wait(600)
    outcome = world.do("other", "claimDemand", demand)
    assert outcome.log("DemandClosed")["paid"] == world.split(2 * ETH)[0]
    assert not [log for log in outcome.logs if log.name == "ModelDisabled"]
    assert world.view("model", model)["status"] == 3
