"""What an adversary tries: each case shows that it gains nothing, or names what it costs."""

from __future__ import annotations

import plain_layout as layout
import pytest
from market_evm import abi_of
from market_world import (
    DEAD,
    DEFAULTS,
    ETH,
    FINAL,
    FRAUD,
    INPUT,
    PROVIDER,
    RULING,
    TILE_LEAVES,
    TILES,
    VOID,
    WEIGHTS,
    WINDOW,
    Data,
    World,
    account,
    run_of,
)

from challenger.chain.hashing import keccak

BOND = ETH // 10
WITHDRAW = keccak(b"withdraw()")[:4]


def calling_back(data: bytes) -> bytes:
    """Runtime code that calls its caller back with 4 bytes of calldata and keeps 1 + success in slot 0."""
    # PUSH4 data; PUSH0; MSTORE; outsize outoffset insize inoffset value; CALLER; GAS; CALL; PUSH1 1; ADD; PUSH0; SSTORE
    return bytes.fromhex("63") + data + bytes.fromhex("5f525f5f6004601c5f335af16001015f5500")


@pytest.mark.parametrize("function", ["withdraw()", "stake()"])
def test_a_receiver_that_calls_back_gets_its_money_once(world: World, function: str) -> None:
    world.job(who="other")  # somebody else's stake lies in the contract
    world.do("provider", "stake", value=ETH)
    world.do("provider", "unstake", ETH)
    world.evm.place(account("provider"), calling_back(keccak(function.encode())[:4]))
    held, before = world.evm.balance(world.market), world.evm.balance(account("provider"))
    world.do("provider", "withdraw")
    assert world.evm.state.get_storage(account("provider"), 0) == 1  # it did call back, and was refused
    assert world.evm.balance(account("provider")) == before + ETH
    assert world.evm.balance(world.market) == held - ETH
    assert world.balance("provider") == 0


def test_a_winner_that_refuses_ether_stops_nobody(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.evm.place(account("challenger"), bytes.fromhex("5f5ffd"))
    world.rule(dispute, fraud=True)
    world.settle(dispute)
    world.do("requester", "withdraw")
    world.fails("PaymentFailed", "challenger", "withdraw")


def test_should_the_burn_address_ever_refuse_nothing_hangs(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.evm.place(DEAD, bytes.fromhex("5f5ffd"))
    world.do("provider", "concede", dispute)
    assert int(world.view("balanceOf", DEAD)) == world.split(ETH)[1]


def test_plain_transfers_and_unknown_calls_are_refused(world: World) -> None:
    for data, value in [(b"", 1), (b"\xde\xad\xbe\xef", 0), (b"", 0)]:
        ok, output, _, _ = world.evm.message(world.enter("other"), world.market, data, value)
        assert (ok, output) == (False, b"")


def test_full_slots_stop_the_clock(world: World) -> None:
    """A cheater that fills the slots with shams loses their bonds and hands everybody a whole new window."""
    job = world.job()
    world.wait_until(world.view("windowEnd", job) - 40)
    shams = [world.challenge(job, "provider", seconds=1) for _ in range(3)]
    claim = world.claim(job)
    world.seal("challenger", claim)
    world.wait_until(world.view("windowEnd", job) + 100)
    world.fails("StillOpen", "provider", "finalise", job)
    world.rule(shams[0], fraud=False)
    settled = world.do("other", "settle", shams[0])
    assert settled.log("WindowExtended")["windowEnd"] == world.evm.time + WINDOW
    world.do("challenger", "challenge", *claim, value=BOND)
    for sham in shams[1:]:
        world.rule(sham, fraud=False)
        world.settle(sham)
    real = 4
    world.rule(real, fraud=True)
    world.settle(real)
    assert world.balance("challenger") == BOND + world.split(ETH)[0]


def test_slots_that_fall_free_before_they_were_full_extend_nothing(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.rule(dispute, fraud=False)
    assert not [log for log in world.do("other", "settle", dispute).logs if log.name == "WindowExtended"]


def test_full_slots_without_rulings_cannot_lock_a_provider_up(world: World) -> None:
    """Where the adjudicator is silent, shams cost nothing; so they must not extend anything either."""
    job = world.job()
    end = world.view("windowEnd", job)
    world.wait_until(end - 40)
    shams = [world.challenge(job, "other", seconds=1) for _ in range(3)]
    world.wait(RULING)
    for sham in shams:
        world.settle(sham)
    assert world.view("windowEnd", job) == end
    world.do("provider", "finalise", job)
    assert (world.view("job", job)["status"], world.free("provider")) == (VOID, ETH)


def test_a_job_that_can_no_longer_finalise_is_not_extended(world: World) -> None:
    """With a silent bench disputes are free; nothing done over such a job may keep the collateral locked for longer."""
    job = world.job()
    end = world.view("windowEnd", job)
    dispute = world.challenge(job, "other")
    world.wait(RULING)
    world.settle(dispute)
    demand = world.demand(job, WEIGHTS, who="registrar")
    world.do("registrar", "answerTile", demand, TILES[0], layout.path(TILE_LEAVES, 0))
    full = [world.challenge(job, "other") for _ in range(3)]
    world.rule(full[0], fraud=False)
    world.settle(full[0])
    assert world.view("windowEnd", job) == end


def test_answering_ones_own_demands_cannot_postpone_for_ever(world: World) -> None:
    """A registrar may demand and answer tiles of its own weights: the end moves to 2 W + D at most."""
    model = world.register()
    job = world.job(model=model)
    committed = world.view("job", job)["committedAt"]
    for index in range(len(TILES)):
        world.wait_until(committed + WINDOW - 1 - 10 * (len(TILES) - index))
        world.demand(job, WEIGHTS, index, who="registrar")
    world.wait_until(committed + WINDOW - 10 + 500)
    for index in range(len(TILES)):
        world.do("registrar", "answerTile", index + 1, TILES[index], layout.path(TILE_LEAVES, index))
    world.wait(WINDOW)
    assert world.evm.time <= committed + 2 * WINDOW + 600
    world.do("provider", "finalise", job)
    assert world.view("job", job)["status"] == FINAL


def test_postponing_by_disputes_costs_a_bond_each_time_and_pays_the_provider(world: World) -> None:
    job = world.job()
    gained = 0
    for index in range(3):
        world.wait_until(world.view("windowEnd", job) - 40)
        dispute = world.challenge(job, "other", seconds=1)
        demand = world.demand(job, WEIGHTS, index, who="other")
        world.do("registrar", "answerTile", demand, TILES[index], layout.path(TILE_LEAVES, index))
        world.rule(dispute, fraud=False)
        assert world.settle(dispute)["outcome"] == PROVIDER
        gained += world.split(BOND)[0]
    assert world.balance("provider") == gained
    world.wait(WINDOW)
    world.do("provider", "finalise", job)


def test_a_requester_cannot_cheat_its_provider_out_of_the_fee(world: World) -> None:
    """It demands its own input and stays silent; the provider, who has it, answers and is paid for it."""
    job = world.job(input_uri=True)
    demand = world.demand(job, INPUT, who="requester")
    world.do("provider", "answer", demand, Data("in").data)
    world.wait(WINDOW)
    world.do("provider", "finalise", job)
    assert world.balance("provider") == ETH // 2 + ETH // 100


def test_a_registrar_cannot_take_the_providers_collateral(world: World) -> None:
    job = world.job()
    demand = world.demand(job, WEIGHTS, who="registrar")
    before = world.wealth("registrar")
    world.wait(600)
    world.do("registrar", "claimDemand", demand)
    assert world.free("provider") == ETH
    paid, burnt = world.split(2 * ETH)
    assert world.wealth("registrar") == before + DEFAULTS["demandBond"] + paid  # its bond of 2 ETH is gone
    assert world.evm.balance(DEAD) == burnt


def test_an_earlier_accuser_is_paid_though_the_adjudicator_rules_in_another_order(world: World) -> None:
    job = world.job()
    first, second = world.challenge(job, "challenger"), world.challenge(job, "other")
    world.rule(second, fraud=True)
    world.fails("EarlierDisputeOpen", "other", "settle", second)
    world.rule(first, fraud=False)  # of the two only the second was right, say
    world.settle(first)
    world.settle(second)
    assert world.balance("other") == BOND + world.split(ETH)[0]


def test_every_order_of_closing_keeps_the_queue_straight() -> None:
    from itertools import permutations

    for order in permutations(range(4)):
        world = World({"maxDisputes": 4}, signers=1, k=1)
        job = world.job()
        disputes = [world.challenge(job) for _ in range(4)]
        alive = list(disputes)
        for position in order:
            dispute = disputes[position]
            world.rule(dispute, fraud=False)
            world.settle(dispute)
            alive.remove(dispute)
            state = world.view("job", job)
            queue = state["queue"]
            assert [queue >> 32 * i & 0xFFFFFFFF for i in range(4)] == alive + [0] * (4 - len(alive))
            assert state["openDisputes"] == len(alive)


def test_eight_disputes_fit_the_queue() -> None:
    world = World({"maxDisputes": 8}, signers=1, k=1)
    job = world.job()
    disputes = [world.challenge(job) for _ in range(8)]
    for dispute in (disputes[7], disputes[0], disputes[3]):
        world.rule(dispute, fraud=False)
        world.settle(dispute)
    ninth = world.challenge(job)
    world.do("provider", "concede", disputes[1])
    assert world.settle(ninth)["outcome"] == 4


def test_withdrawing_early_leaves_the_collateral(world: World) -> None:
    world.do("provider", "stake", value=5 * ETH)
    job = world.job()
    world.fails("WorkOpen", "provider", "unstake", ETH)
    world.wait(WINDOW)
    world.fails("WorkOpen", "provider", "unstake", ETH)
    world.do("other", "finalise", job)
    world.do("provider", "unstake", 5 * ETH)


def test_one_stake_backs_one_job(world: World) -> None:
    model = world.register()
    world.do("provider", "stake", value=ETH)
    tasks = [world.open_task(model, Data("in"), entropy=str(i)) for i in range(2)]
    assert tasks[0] != tasks[1]
    world.evm.mine(2)
    world.do("provider", "take", tasks[0])
    world.fails("InsufficientStake", "provider", "take", tasks[1])


def test_a_trace_of_another_task_does_not_fit(world: World) -> None:
    """The first leaf is this task's input: a receipt copied from a task with another input cannot be committed."""
    model = world.register()
    mine, theirs = Data("mine"), Data("theirs")
    task = world.open_task(model, mine)
    world.take(task)
    copied = run_of(theirs, Data("out"))
    world.fails("BadPath", "provider", "commit", *world.commit_args(task, Data("out"), copied))


def test_nonfinite_runs_can_be_committed(world: World) -> None:
    """Boundaries that a run did not reach are pad leaves."""
    given, result = Data("in"), Data("nonfinite")
    run = run_of(given, result)
    run.leaves[2:-1] = [bytes(32)] * (len(run.leaves) - 3)
    task = world.open_task(world.register(), given)
    world.take(task)
    job = world.commit(task, result, run)
    demand = world.demand(job, 3, 3)
    world.do("provider", "answerTile", demand, bytes(32), run.path(3))


def test_the_same_task_on_another_market_is_another_task(world: World) -> None:
    twin = World()
    twin.market = twin.evm.deploy("InferenceMarket", tuple(twin.params.values()))
    assert twin.market != world.market
    assert world.register() != twin.register()
    elsewhere = World(chain_id=5)
    assert elsewhere.market == world.market
    assert elsewhere.register() != world.register("other")


def test_with_too_little_gas_nothing_happens_at_all(world: World) -> None:
    job = world.job()
    dispute = world.challenge(job)
    world.rule(dispute, fraud=True)
    evm = world.evm
    data, _ = abi_of("InferenceMarket").encode("settle", (dispute,))
    needed = 0
    for gas in range(2_000, 200_000, 2_000):
        snapshot = evm.state.snapshot()
        ok, _, _, _ = evm.message(account("other"), world.market, data, gas=gas)
        if ok:
            needed = gas
            assert evm.balance(DEAD) == world.split(ETH)[1]
            break
        assert world.view("dispute", dispute)["outcome"] == 0
        assert (evm.balance(DEAD), world.balance("challenger")) == (0, 0)
        evm.state.revert(snapshot)
    assert needed > 50_000
    assert world.view("job", job)["status"] == FRAUD
