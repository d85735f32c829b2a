"""Contestations carried to their end on an embedded chain, by what the adapter wants done and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest
from arbius_stage import OWN_CONTRACTS, RIGHT, WRONG, Stage, accuse, stage

from challenger.domain import (
    Action,
    Capability,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    JobClosed,
    JobStatus,
    TaskId,
)
from challenger.errors import FilingRefused
from challenger.protocols.arbius.electorate import Electorate
from challenger.protocols.arbius.meaning import dispute_of
from challenger.protocols.arbius.odds import Habits, Law
from challenger.sim.arbius import STAKE, TOKEN, plain

Open = Callable[..., AbstractAsyncContextManager[Stage]]


#: On which engines: where the protocol's own contracts are not at hand there are no tests of them, and none is skipped.
ENGINES = {"double": False} | ({"own": True} if OWN_CONTRACTS else {})


@pytest.fixture(params=ENGINES.values(), ids=ENGINES)
def staged(request: pytest.FixtureRequest) -> Open:
    """The double, and the protocol's own contracts where they are at hand."""
    return partial(stage, own=request.param)


def known(*accounts: str) -> Electorate:
    """An electorate of these, of whom nearly all vote, and nearly always yea."""
    return Electorate(frozenset(accounts), (), Habits(Law(95.0, 5.0), Law(95.0, 5.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize("generation", [1, 2, 3, 4, 5])
async def test_won_with_a_second_vote(staged: Open, generation: int) -> None:
    async with staged(generation) as at:
        commitment = await at.commit()
        task, dispute = TaskId(commitment), dispute_of(TaskId(commitment))
        assert await at.adapter.eligibility(accuse(commitment), 30) == ""
        before = await at.rpc.block("latest")
        intent = await at.adapter.open_dispute(accuse(commitment))
        assert intent is not None
        assert (intent.action, intent.deadline) == (Action.CHALLENGE, (await at.adapter.window(commitment)).closes)
        await at.send(intent)
        assert await at.adapter.open_dispute(accuse(commitment)) is None
        slash = (await at.adapter._views.contest(task, (await at.rpc.block("latest")).hash)).slash
        assert slash > 0
        await at.act(4, at.calls.vote(task, True))
        standing = await at.adapter.status(dispute)
        assert (standing.outcome, standing.ruled) == (DisputeOutcome.OPEN, False)
        assert await at.adapter.advance(dispute) is None  # the vote is on
        await at.past_vote(commitment)
        assert (await at.adapter.status(dispute)).ruled
        assert await at.finish(commitment) == 1
        assert (await at.adapter.status(dispute)).outcome is DisputeOutcome.CHALLENGER
        assert (await at.adapter.hydrate(commitment)).status is JobStatus.FRAUD
        # what no event says: our slash is back with half of the accused's, and its solution's own stake
        after = await at.rpc.block("latest")
        people = [at.wallets[i].address for i in (2, 3, 4)]
        told = await at.adapter.settled_stakes(people, before.hash, after.hash)
        beside = await at.adapter._views.beside_solution(task, after.hash, await at.adapter._views.rules(after.hash))
        assert [told[one].gained for one in people] == [-slash, slash - slash // 2 + beside, slash // 2]
        closed = [event for event in await at.events(before.number + 1) if isinstance(event, DisputeClosed | JobClosed)]
        assert [(type(event), event.commitment) for event in closed] == [
            (DisputeClosed, commitment),
            (JobClosed, commitment),
        ]


@pytest.mark.parametrize("generation", [1, 3, 5])
async def test_a_tie_is_lost_to_the_accused(staged: Open, generation: int) -> None:
    async with staged(generation) as at:
        commitment = await at.commit()
        before = await at.rpc.block("latest")
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        await at.past_vote(commitment)
        assert await at.finish(commitment) == 1
        dispute = dispute_of(TaskId(commitment))
        assert (await at.adapter.status(dispute)).outcome is DisputeOutcome.PROVIDER
        assert (await at.adapter.hydrate(commitment)).status is JobStatus.FINAL
        after = await at.rpc.block("latest")
        told = await at.adapter.settled_stakes([at.wallets[3].address], before.hash, after.hash)
        contest = await at.adapter._views.contest(TaskId(commitment), after.hash)
        assert told[at.wallets[3].address].gained == -contest.slash
        closed = next(event for event in await at.events() if isinstance(event, DisputeClosed))
        assert (closed.outcome, closed.paid) == (DisputeOutcome.PROVIDER, contest.slash)


async def test_a_vote_too_late_does_not_count(staged: Open) -> None:
    async with staged() as at:
        commitment = await at.commit()
        task = TaskId(commitment)
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        await at.past_vote(commitment)
        assert await at.refusal(4, at.calls.vote(task, True)) == "not allowed"
        at.adapter._account = at.wallets[4].address
        assert await at.adapter.vote_eligibility(commitment, 0) == "the voting period is over"


@pytest.mark.parametrize(("generation", "window"), [(1, 2000), (2, 2000), (3, 3600), (5, 3600)])
async def test_too_late(staged: Open, generation: int, window: int) -> None:
    async with staged(generation) as at:
        commitment = await at.commit()
        open_until = await at.adapter.window(commitment)
        assert (open_until.closes - open_until.opens, open_until.frozen) == (window, False)
        await at.devnet.time_travel(to=open_until.closes - 31)
        assert await at.adapter.eligibility(accuse(commitment), 30) == ""
        assert (
            await at.adapter.eligibility(accuse(commitment), 31)
            == "too late: 31 s are left, and a contestation takes 31"
        )
        await at.devnet.time_travel(to=open_until.closes - 1)
        assert not await at.refusal(3, at.calls.contest(TaskId(commitment)))
        await at.devnet.time_travel(to=open_until.closes)
        assert await at.refusal(3, at.calls.contest(TaskId(commitment))) == "too late"
        assert "too late: 0 s are left" in await at.adapter.eligibility(accuse(commitment), 0)


async def test_the_window_is_live() -> None:
    async with stage() as at:
        commitment = await at.commit()
        closes = (await at.adapter.window(commitment)).closes
        times = (("uint256", 1800), ("uint256", 360), ("uint256", 10))
        await at.act(0, plain(at.there.engine, "tune", *times))
        assert (await at.adapter.window(commitment)).closes == closes - 1800
        intent = await at.adapter.open_dispute(accuse(commitment))
        assert intent is not None
        assert intent.deadline == closes - 1800


async def test_not_eligible(staged: Open) -> None:
    """Not staked, staked and on the way out, with nothing against the solution, or it is our own."""
    async with staged(validators=(2, 4, 5)) as at:
        commitment = await at.commit()
        assert "is no validator: it has 0 units staked, the least is" in await at.adapter.eligibility(
            accuse(commitment), 30
        )
        assert await at.refusal(3, at.calls.contest(TaskId(commitment))) == "min staked too low"
        await at.act(3, at.calls.deposit(at.wallets[3].address, STAKE))
        assert await at.adapter.eligibility(accuse(commitment), 30) == ""
        await at.act(3, at.calls.withdraw(STAKE))
        said = await at.adapter.eligibility(accuse(commitment), 30)
        assert f"of which {STAKE} wait for withdrawal" in said
        assert await at.refusal(3, at.calls.contest(TaskId(commitment))) == "min staked too low"
        right = await at.commit(RIGHT)
        assert "nothing to contest" in await at.adapter.eligibility(accuse(right), 30)
        at.adapter._account = at.wallets[2].address
        assert await at.adapter.eligibility(accuse(commitment), 30) == "the solution is the account's own"


async def test_accused_below_one_slash(staged: Open) -> None:
    """It has no nay to put against: a lone challenger wins, the requester has its fee back, and there is no reward."""
    async with staged(2) as at:
        commitment = await at.commit()
        task = TaskId(commitment)
        await at.act(0, plain(at.there.engine, "setSlashAmountPercentage", ("uint256", 10**16)))
        slash = await at.slash()
        assert await at.staked(2) < slash
        said = await at.adapter.eligibility(accuse(commitment), 0)
        assert said == f"the account has {STAKE} units staked, and a vote costs {slash} until the count"
        await at.act(3, at.calls.deposit(at.wallets[3].address, STAKE))
        assert await at.adapter.eligibility(accuse(commitment), 0) == ""
        prospect = await at.adapter.prospect(commitment)
        assert (prospect.win, prospect.bond, prospect.reward) == (1_000_000, await at.slash(), 0)
        before = await at.rpc.block("latest")
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        contest = await at.adapter._views.contest(task, (await at.rpc.block("latest")).hash)
        assert (len(contest.yeas), len(contest.nays)) == (1, 0)
        await at.past_vote(commitment)
        assert await at.finish(commitment) == 1
        assert (await at.adapter.status(dispute_of(task))).outcome is DisputeOutcome.CHALLENGER
        after = await at.rpc.block("latest")
        people = [at.wallets[i].address for i in (1, 2, 3)]
        told = await at.adapter.settled_stakes(people, before.hash, after.hash)
        assert [told[one].gained for one in people] == [TOKEN, 0, 0]


async def test_a_lone_challenger_is_known_to_lose() -> None:
    async with stage() as at:
        commitment = await at.commit()
        alone = await at.adapter.prospect(commitment)
        assert (alone.win, alone.reward) == (0, 0)
        at.adapter._electorate = known(*(at.wallets[i].address for i in (4, 5, 6)))
        backed = await at.adapter.prospect(commitment)
        assert backed.win > 900_000
        assert alone.bond == backed.bond == await at.slash()
        assert 0 < backed.reward < alone.bond
        # the accused and we ourselves are nobody's second vote
        at.adapter._electorate = known(at.wallets[2].address, at.wallets[3].address)
        assert (await at.adapter.prospect(commitment)).win == 0


async def test_a_count_in_pieces(staged: Open) -> None:
    """The job is decided by the first piece, the dispute closes with the last."""
    async with staged(1, piece=2) as at:
        commitment = await at.commit()
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        for who in (4, 5, 6, 7):
            await at.act(who, at.calls.vote(TaskId(commitment), True))
        await at.past_vote(commitment)
        first = (await at.rpc.block("latest")).number + 1
        subjects = []
        while (intent := await at.adapter.advance(dispute_of(TaskId(commitment)))) is not None:
            subjects.append(intent.subject)
            await at.send(intent)
            # decided, and not everybody is paid
            assert (await at.adapter.hydrate(commitment)).status is JobStatus.FRAUD
        assert subjects == [f"0x{commitment.hex()}/finish/{paid}" for paid in (0, 2, 4)]
        assert [type(event) for event in await at.events(first)] == [JobClosed, DisputeClosed]


async def test_v6_is_for_master_contesters(staged: Open) -> None:
    async with staged(6) as at:
        assert at.adapter.capability is Capability.SUGGEST
        commitment = await at.commit()
        task = TaskId(commitment)
        assert "no master contester" in await at.adapter.eligibility(accuse(commitment), 30)
        assert await at.refusal(3, at.calls.contest(task)) == "NotMasterContester()"
        assert await at.adapter.open_dispute(accuse(commitment)) is None
        assert await at.adapter.aid(accuse(commitment, WRONG), 30) is None, "a right answer is suggested to nobody"
        hint = await at.adapter.aid(accuse(commitment), 30)
        assert hint is not None
        assert (hint.intent.call, hint.intent.action) == (at.calls.suggest(task), Action.SUGGEST)
        assert hint.intent.subject == f"0x{commitment.hex()}/suggest"
        assert hint.prospect.bond == 0
        await at.send(hint.intent)
        # account 7 is one, and takes the hint: its fifty votes win alone against the accused's one
        at.adapter._account = at.wallets[7].address
        assert await at.adapter.eligibility(accuse(commitment), 30) == ""
        assert at.adapter.capability is Capability.OPEN
        assert (await at.adapter.prospect(commitment)).win == 1_000_000
        intent = await at.adapter.open_dispute(accuse(commitment))
        assert intent is not None
        await at.act(7, intent.call)
        before = await at.staked(7)
        await at.past_vote(commitment)
        await at.finish(commitment)
        assert (await at.adapter.status(dispute_of(task))).outcome is DisputeOutcome.CHALLENGER
        assert await at.staked(7) > before


async def test_voting_beside_another(staged: Open) -> None:
    """The accused contests itself, so that nobody else can: what is left is the vote, and it wins."""
    async with staged() as at:
        commitment = await at.commit()
        task = TaskId(commitment)
        assert await at.adapter.vote_eligibility(commitment, 0) == "nobody contests it"
        await at.act(2, at.calls.contest(task))
        assert "the accused contests it itself" in await at.adapter.eligibility(accuse(commitment), 0)
        assert await at.adapter.open_dispute(accuse(commitment)) is None
        assert await at.adapter.vote_eligibility(commitment, 30) == ""
        # two yeas to one, nobody else is known, and the accused may keep accounts back: even odds for half a slash a slash
        trap = await at.adapter.vote_prospect(commitment)
        assert (trap.win, trap.reward) == (500_000, trap.bond // 2)
        at.adapter._electorate = known(*(at.wallets[n].address for n in (5, 6, 7)))
        assert (await at.adapter.vote_prospect(commitment)).win > 900_000
        assert await at.adapter.aid(accuse(commitment, WRONG), 30) is None, "no yea against a right answer"
        aid = await at.adapter.aid(accuse(commitment), 30)
        assert aid is not None
        assert (aid.intent.action, aid.intent.call) == (Action.VOTE, at.calls.vote(task, True))
        assert aid.prospect == await at.adapter.vote_prospect(commitment)
        await at.send(aid.intent)
        assert await at.adapter.vote_eligibility(commitment, 0) == "the account has voted"
        assert await at.adapter.aid(accuse(commitment), 30) is None
        await at.past_vote(commitment)
        await at.finish(commitment)
        assert (await at.adapter.status(dispute_of(task))).outcome is DisputeOutcome.CHALLENGER


async def test_a_stake_too_young_may_contest_and_not_vote(staged: Open) -> None:
    async with staged(validators=(2, 3, 5)) as at:
        commitment = await at.commit()
        await at.send(await at.adapter.open_dispute(accuse(commitment)))
        at.adapter._account = at.wallets[4].address
        assert await at.adapter.vote_eligibility(commitment, 0) == "the account never reached a validator's stake"
        await at.devnet.time_travel(by=130)
        await at.act(4, at.calls.deposit(at.wallets[4].address, STAKE))
        assert "too young" in await at.adapter.vote_eligibility(commitment, 0)
        assert await at.refusal(4, at.calls.vote(TaskId(commitment), True)) == "not allowed"
        later = await at.commit()
        assert await at.adapter.eligibility(accuse(later), 0) == ""


async def test_votes_move_the_end_from_v3_on(staged: Open) -> None:
    for generation, period, more in ((1, 4000, 0), (3, 360, 10)):
        async with staged(generation) as at:
            commitment = await at.commit()
            await at.send(await at.adapter.open_dispute(accuse(commitment)))
            opened = (await at.rpc.block("latest")).time
            dispute = dispute_of(TaskId(commitment))
            assert (await at.adapter.status(dispute)).ruling_by == opened + period + 2 * more
            await at.act(4, at.calls.vote(TaskId(commitment), True))
            assert (await at.adapter.status(dispute)).ruling_by == opened + period + 3 * more
            told = next(event for event in await at.events() if isinstance(event, DisputeOpened))
            assert told.ruling_by == opened + period + 2 * more


async def test_electorate_from_the_chain() -> None:
    async with stage() as at:
        for _ in range(2):
            commitment = await at.commit()
            await at.act(5, at.calls.contest(TaskId(commitment)))
            await at.act(4, at.calls.vote(TaskId(commitment), True))
            await at.act(6, at.calls.vote(TaskId(commitment), False))
            await at.devnet.time_travel(by=400)
        there = await at.adapter.learn(0, (await at.rpc.block("latest")).number)
        assert there.known == {at.wallets[4].address, at.wallets[6].address}
        assert [(poll.voters, poll.yeas, poll.nays) for poll in there.polls] == [(2, 1, 1), (2, 1, 1)]
        commitment = await at.commit()
        assert 0 < (await at.adapter.prospect(commitment)).win < 900_000


async def test_without_a_key_nothing_is_contested() -> None:
    async with stage() as at:
        commitment = await at.commit()
        at.adapter._account = None
        with pytest.raises(FilingRefused, match="without a key"):
            await at.adapter.open_dispute(accuse(commitment))


async def test_claiming_our_own(staged: Open) -> None:
    async with staged() as at:
        commitment = await at.commit(RIGHT)
        assert await at.adapter.finalise(commitment) is None  # another's
        at.adapter._account = at.wallets[2].address
        assert await at.adapter.finalise(commitment) is None
        await at.devnet.time_travel(to=(await at.adapter.window(commitment)).closes + 1)
        intent = await at.adapter.finalise(commitment)
        assert intent is not None
        await at.act(2, intent.call)
        assert (await at.adapter.hydrate(commitment)).status is JobStatus.FINAL
        assert await at.adapter.finalise(commitment) is None
        assert await at.adapter.eligibility(accuse(commitment), 0) == "the solution is claimed already"
