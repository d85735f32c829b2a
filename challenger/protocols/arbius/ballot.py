"""Beside another's contestation, and beside our own solutions: what an account does at the engine that contests nothing."""

from __future__ import annotations

from challenger.domain import Action, CommitmentId, Intent, TaskId, UnixTime
from challenger.protocols.arbius.calls import commitment_of
from challenger.protocols.arbius.eligible import against_voting
from challenger.protocols.arbius.odds import beside
from challenger.protocols.arbius.seat import Seat
from challenger.protocols.base import NO_DEADLINE, Prospect, subject


class Ballot(Seat):
    """Votes and claims of one account."""

    async def vote_eligibility(self, commitment: CommitmentId, lead: int) -> str:
        """Why we may not vote on the contestation of ``commitment`` now; empty when we may."""
        head = await self._chain.block("latest")
        task = TaskId(commitment)
        facts = await self._facts(task, head)
        if facts.contest is None:
            return "nobody contests it"
        code = await self._views.can_vote(self._own_account(), task, head.hash)
        return against_voting(facts, code, lead)

    async def vote_prospect(self, commitment: CommitmentId) -> Prospect:
        """Of a yea beside those that stand."""
        head = await self._chain.block("latest")
        task, rules = TaskId(commitment), await self._views.rules(head.hash)
        contest = await self._views.contest(task, head.hash)
        but = self._others(*contest.yeas, *contest.nays)
        voters = await self._electorate.eligible(self._views, rules, head.hash, task, but)
        strangers = len(set(contest.yeas) - self._electorate.seen)
        habits, slash = self._electorate.habits, contest.slash
        seen = beside(len(contest.yeas), len(contest.nays), rules.adder, voters, slash, habits, strangers)
        return self._prospect(slash, seen, seen.later)

    async def vote(self, commitment: CommitmentId) -> Intent:
        """A yea on the contestation of a commitment that we have confirmed to be wrong ourselves."""
        head = await self._chain.block("latest")
        task = TaskId(commitment)
        contest, rules = await self._views.contest(task, head.hash), await self._views.rules(head.hash)
        self._own_account()
        # a vote counts in the last second too, and a deadline is the first in which it is too late
        until = UnixTime(contest.last_vote(rules) + 1)
        return self._intent(subject(task, "vote"), self.calls.vote(task, True), until, Action.VOTE)

    async def finalise(self, commitment: CommitmentId) -> Intent | None:
        """Claims a solution of our own, None while that cannot be."""
        head = await self._chain.block("latest")
        facts = await self._facts(TaskId(commitment), head)
        solution, rules = facts.solution, facts.rules
        if solution.validator != self._own_account() or solution.claimed or facts.contest is not None or rules.paused:
            return None
        loss = await self._views.last_loss(solution.validator, head.hash, rules)
        cooled = rules.generation < 2 or solution.blocktime > loss + rules.claim_time + rules.vote_period
        staked = rules.generation < 2 or facts.own.staked - facts.own.pending >= rules.least
        if head.time <= solution.blocktime + rules.claim_time or not cooled or not staked:
            return None
        task = TaskId(commitment)
        return self._intent(subject(task), self.calls.claim(task), NO_DEADLINE, Action.FINALISE)

    async def revealed(self, commitment: CommitmentId) -> int:
        """In which block the solver had signalled the solution that it submitted later; on Arbitrum by that chain's own
        count. The engine takes none whose signal is not of an earlier block."""
        head = await self._chain.block("latest")
        solution = await self._views.solution(TaskId(commitment), head.hash)
        signal = commitment_of(solution.validator, TaskId(commitment), solution.cid)
        return await self._views.signalled(signal, head.hash)
