"""Why a contestation, or a vote, would be refused or be lost for nothing: pure, each reason a plain sentence."""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import Address, Hash32, UnixTime
from challenger.protocols.arbius.cid import foreign, output_root
from challenger.protocols.arbius.views import Contest, Rules, Solution, Stake

#: What the engine's ``validatorCanVote`` means by its codes.
VOTE_REFUSALS = {
    1: "nobody contests it",
    2: "the voting period is over",
    3: "the account has voted",
    4: "the account never reached a validator's stake",
    5: "the account's stake is older than the engine reckons with",
    6: "the account's stake is too young: it reached a validator's least too long after the contestation began",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the engine shows at one block, and ``own``: the stake of ``account``."""

    account: Address
    now: UnixTime
    rules: Rules
    solution: Solution
    own: Stake
    contest: Contest | None


NO_CONTESTER = (
    "the account is no master contester, and from V6 on only those contest: it can be suggested to them "
    "(suggestContestation)"
)


def against_contesting(facts: Facts, ours: Hash32, lead: int, *, may: bool) -> str:
    """``ours``: the digest that our own replay came to; ``lead``: predicted seconds until a contestation is mined; ``may``:
    whether the account has the right to contest (V6)."""
    rules, solution = facts.rules, facts.solution
    left = solution.blocktime + rules.claim_time - facts.now
    if rules.paused:
        return "the engine is paused"
    if facts.contest is not None:
        return _contested(facts.contest, solution)
    if solution.claimed:
        return "the solution is claimed already"
    if left <= lead:
        return f"too late: {left} s are left, and a contestation takes {lead}"
    if unsaid := foreign(solution.cid):
        return f"the solution's identifier is of a form that is not computed here: {unsaid}"
    if ours == output_root(solution.cid):
        return "the solution is the one that our replay came to: there is nothing to contest"
    if solution.validator == facts.account:
        return "the solution is the account's own"
    if not may:
        return NO_CONTESTER
    return _unstaked(facts, rules.slash)


def against_voting(facts: Facts, code: int, lead: int) -> str:
    """``code``: the engine's own word on whether the account may vote."""
    if facts.rules.paused:
        return "the engine is paused"
    if facts.contest is None:
        return VOTE_REFUSALS[1]
    if code:
        return VOTE_REFUSALS.get(code, f"the engine refuses the vote with code {code}")
    left = facts.contest.last_vote(facts.rules) - facts.now
    if left < lead:
        return f"too late: {left} s are left to vote, and a vote takes {lead}"
    if facts.account == facts.solution.validator:
        return "the solution is the account's own"
    return _unstaked(facts, facts.contest.slash)


def _unstaked(facts: Facts, slash: int) -> str:
    own, least = facts.own, facts.rules.least
    if own.staked - own.pending < least:
        waiting = f", of which {own.pending} wait for withdrawal" if own.pending else ""
        return f"the account is no validator: it has {own.staked} units staked{waiting}, the least is {least}"
    if own.staked < slash:
        return f"the account has {own.staked} units staked, and a vote costs {slash} until the count"
    return ""


def _contested(contest: Contest, solution: Solution) -> str:
    """There is one contestation of a task at most. One by the accused itself is no help: it keeps others from contesting, and
    a tie is the accused's; a yea beside it still counts."""
    if contest.challenger == solution.validator:
        return "the accused contests it itself, which keeps all others from contesting: only votes count now"
    return f"{contest.challenger} contests it already: only votes count now"
