"""Errors of disputes, demands and the end of a job."""

from __future__ import annotations

import plain_layout as layout
from market_world import (
    BOUNDARIES,
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
    word,
)
from provocations import provokes

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
    demand = world.demand(job, OUTPUT, who="other")  # in the same block
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
