"""Arbius as one account sees it: the engine on one chain, V1 to V6.

A window is live: ``t < blocktime + minClaimSolutionTime``, seconds, the time read anew before each action. A contestation costs
no ether: a slash of the account's stake goes with its yea and comes back if it wins, so that the stake itself is the bond.
Nothing on chain says who lost; the outcome is the count of heads, and ``settled_stakes`` shows it in stakes before and after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from challenger.chain.answers import RawLog
from challenger.chain.codec import decode_revert
from challenger.chain.follower import LeftOut
from challenger.domain import (
    Action,
    Address,
    Block,
    Capability,
    ChainEvent,
    ChainId,
    CommitmentId,
    DisputeId,
    DisputeOutcome,
    Hash32,
    Intent,
    JobStatus,
    Millionths,
    TaskId,
    Wei,
    Window,
)
from challenger.errors import ConfigError, Reverted, WrongChain, WrongContract
from challenger.protocols.absent import NoCredits, NoDemands
from challenger.protocols.anchored import Anchored
from challenger.protocols.arbius.abi import ERRORS
from challenger.protocols.arbius.ballot import Ballot
from challenger.protocols.arbius.cid import output_root
from challenger.protocols.arbius.electorate import NOBODY_KNOWN, Electorate
from challenger.protocols.arbius.eligible import NO_CONTESTER, against_contesting
from challenger.protocols.arbius.logs import EngineLogs
from challenger.protocols.arbius.meaning import ZERO, Meanings, outcome_of, task_of
from challenger.protocols.arbius.odds import forecast, shares
from challenger.protocols.arbius.seat import Reader, window_of
from challenger.protocols.arbius.views import NOBODY, EngineViews, NoGeneration, Rules
from challenger.protocols.base import (
    NO_DEADLINE,
    Accusation,
    Aid,
    DisputeStanding,
    Prospect,
    Standing,
    Terms,
    subject,
)
from challenger.protocols.pins import Pins

#: Voters that are paid by one transaction: two writes of storage and a transfer each, some 2,500,000 gas.
PIECE = 50
#: The newest generation that is known here.
NEWEST = 6


def explain(data: bytes) -> str:
    """Revert data of the engine in words: a sentence up to V5.2, an error's name from V6 on."""
    return decode_revert(data, ERRORS)


class ArbiusAdapter(Ballot, NoDemands, NoCredits, Anchored):
    """One engine on one chain. ``account`` is whose contestations these are, None for a watcher without a key; ``start`` the first
    indexed block; ``token_price`` what a whole token (10¹⁸ units) is worth in wei of ether, by which gas is
    weighed against stakes; ``electorate`` who votes and how, as ``learn`` reads it from the chain; ``pins``: code hashes to insist on;
    ``piece``: how many voters one transaction of a count pays; ``votes_from``: from which block ``check`` learns, −1 for none."""

    def __init__(
        self,
        chain: Reader,
        chain_id: ChainId,
        engine: Address,
        *,
        token_price: Wei,
        account: Address | None = None,
        start: int = 0,
        electorate: Electorate = NOBODY_KNOWN,
        pins: Mapping[Address, Hash32] | None = None,
        piece: int = PIECE,
        votes_from: int = -1,
        anchor: Address | None = None,
    ) -> None:
        self._anchor = anchor
        super().__init__(chain, engine, token_price, account, electorate)
        self.emitters = (engine,)
        self._logs = EngineLogs(engine)
        self.topics = self._logs.topics
        self._meanings = Meanings(engine, start)
        self._chain_id = chain_id
        self._pins = Pins(chain, pins)
        self._capability = Capability.OPEN
        self._piece = piece
        self._votes_from = votes_from
        self._terms: Terms | None = None

    # what the chain says

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        return await self._meanings.events(self._chain, logs, left_out)

    async def shown(self, reader: Reader, log: RawLog) -> ChainEvent | None:
        return await self._meanings.shown(reader, log)

    async def learn(self, first: int, last: int) -> Electorate:
        """Reads who voted in these blocks, and reckons with it from now on."""
        ours = () if self._account is None else (self._account,)
        self._electorate = await Electorate.read(self._chain, self._logs, first, last, ours)
        return self._electorate

    # the contract itself

    @property
    def capability(self) -> Capability:
        """On V6 contesting is for master contesters, elected anew each week: as of the last look."""
        return self._capability

    async def check(self) -> None:
        """Chain id, code, a generation that is known, parameters that can be read; then pins the code of engine, proxies
        and registry."""
        served = await self._chain.chain_id()
        if served != self._chain_id:
            raise WrongChain("point the watcher at the right endpoint", wanted=self._chain_id, served=served)
        head = await self._chain.block("latest")
        if not await self._chain.code(self._engine, head.hash):
            raise WrongContract(
                "there is no contract; is this the chain where the engine stands?", address=self._engine
            )
        try:
            rules = await self._views.rules(head.hash)
            await self._views.token(head.hash)
        except (Reverted, NoGeneration) as error:
            raise WrongContract(f"it does not answer as an Arbius engine does: {error}", address=self._engine) from None
        if rules.version > NEWEST or (rules.version >= 4 and rules.version != rules.generation):
            raise WrongContract(
                f"it calls itself version {rules.version} and answers as generation {rules.generation}; "
                f"known are 1 to {NEWEST}",
                address=self._engine,
            )
        watched = [self._engine, *await self.anchor_checked(self._chain, head)] + (
            [rules.registry] if rules.registry not in (None, NOBODY) else []
        )
        await self._pins.take(watched, head.hash)
        if self._votes_from >= 0:
            await self.learn(self._votes_from, head.number)
        await self._may_contest(rules, head)
        self._terms = self._terms_of(rules)

    @property
    def terms(self) -> Terms:
        """As ``check`` has read them; the slash follows the token's supply, and times an upgrade."""
        if self._terms is None:
            raise ConfigError("Arbius: used before its engine was checked")
        return self._terms

    def _terms_of(self, rules: Rules) -> Terms:
        """A reward as of one other yea against the accused's nay. Of an accused that contests itself half the slash is lost,
        to whoever votes yea beside it; without anybody who does, nothing is."""
        reward, _ = shares(2, 1, rules.adder, rules.slash)
        more = f" and {rules.extension} s a vote" if rules.extension else ""
        said = (
            f"engine V{rules.generation}, window {rules.claim_time} s (live), vote {rules.vote_period} s{more}, "
            f"slash {rules.slash} units of the token"
        )
        text = json.dumps(asdict(rules), sort_keys=True, separators=(",", ":"))
        burnt = Wei(rules.slash - reward)
        return Terms(Wei(rules.slash), Wei(reward), burnt, 1, 0, said, text, self._money)

    async def pinned(self) -> bool:
        return await self._pins.hold()

    @property
    def pins(self) -> Mapping[Address, Hash32]:
        """Code hashes of all that takes part, as ``check`` found them."""
        return self._pins.found

    async def _may_contest(self, rules: Rules, head: Block) -> bool:
        """Whether the account has the right to contest, its stake aside."""
        may = True
        if rules.registry is not None:
            may = self._account is not None and await self._views.is_contester(rules.registry, self._account, head.hash)
        self._capability = Capability.OPEN if may else Capability.SUGGEST
        return may

    # a commitment

    async def hydrate(self, commitment: CommitmentId) -> Standing:
        head = await self._chain.block("latest")
        task = TaskId(commitment)
        solution, rules = await self._views.solution(task, head.hash), await self._views.rules(head.hash)
        status, disputes = JobStatus.FINAL if solution.claimed else JobStatus.COMMITTED, 0
        if await self._views.contested_by(task, head.hash) is not None:
            contest = await self._views.contest(task, head.hash)
            if contest.paid:  # the first piece of the count decides the job
                status = JobStatus.FRAUD if contest.upheld(rules) else JobStatus.FINAL
            disputes = 0 if contest.settled(rules) else 1
        window = window_of(solution, rules.claim_time)
        return Standing(head, commitment, status, solution.validator, output_root(solution.cid), ZERO, window, disputes)

    async def window(self, commitment: CommitmentId) -> Window:
        head = await self._chain.block("latest")
        return await self.window_at(self._chain, commitment, head.hash)

    async def window_at(self, reader: Reader, commitment: CommitmentId, block: Hash32) -> Window:
        """The window as another reader has it in the state after ``block``."""
        views = EngineViews(reader, self._engine)
        return window_of(await views.solution(TaskId(commitment), block), await views.claim_time(block))

    # a contestation

    async def eligibility(self, accusation: Accusation, lead: int) -> str:
        head = await self._chain.block("latest")
        facts = await self._facts(TaskId(accusation.commitment), head)
        may = await self._may_contest(facts.rules, head)
        return against_contesting(facts, accusation.output_root, lead, may=may)

    async def prospect(self, commitment: CommitmentId) -> Prospect:
        """The bond is the slash that goes with the yea. With nobody known to vote a lone challenger has no chance, and one whose
        accused holds less than a slash wins for certain, and next to nothing."""
        head = await self._chain.block("latest")
        task, rules = TaskId(commitment), await self._views.rules(head.hash)
        solution = await self._views.solution(task, head.hash)
        accused = await self._views.stake(solution.validator, head.hash)
        nays = 1 if accused.staked >= rules.slash else 0
        but = self._others(solution.validator)
        voters = await self._electorate.eligible(self._views, rules, head.hash, None, but)
        beside = await self._views.beside_solution(task, head.hash, rules)
        seen = forecast(1, nays, rules.adder, voters, rules.slash, self._electorate.habits)
        return self._prospect(rules.slash, seen, seen.reward + beside)

    async def open_dispute(self, accusation: Accusation) -> Intent | None:
        """The contestation. None while somebody's stands, and on V6 without the right to one."""
        head = await self._chain.block("latest")
        task, rules = TaskId(accusation.commitment), await self._views.rules(head.hash)
        self._own_account()
        if await self._views.contested_by(task, head.hash) is not None:
            return None
        if not await self._may_contest(rules, head):
            return None
        closes = window_of(await self._views.solution(task, head.hash), rules.claim_time).closes
        return self._intent(subject(task), self.calls.contest(task), closes, Action.CHALLENGE)

    async def aid(self, accusation: Accusation, lead: int) -> Aid | None:
        """A yea beside another's contestation; on V6, without the right to contest, a suggestion to those who have it."""
        head = await self._chain.block("latest")
        task = TaskId(accusation.commitment)
        facts = await self._facts(task, head)
        if facts.contest is not None:
            if accusation.output_root == output_root(facts.solution.cid):
                return None
            if await self.vote_eligibility(accusation.commitment, lead):
                return None
            return Aid(await self.vote(accusation.commitment), await self.vote_prospect(accusation.commitment))
        if (
            await self._may_contest(facts.rules, head)
            or against_contesting(facts, accusation.output_root, lead, may=False) != NO_CONTESTER
        ):
            return None
        closes = window_of(facts.solution, facts.rules.claim_time).closes
        intent = self._intent(subject(task, "suggest"), self.calls.suggest(task), closes, Action.SUGGEST)
        return Aid(intent, Prospect(Wei(0), Wei(0), Millionths(0)))

    async def status(self, dispute: DisputeId) -> DisputeStanding:
        """``ruled`` once no vote counts any more: the count then only has to be asked for."""
        head = await self._chain.block("latest")
        task = task_of(dispute)
        contest, rules = await self._views.contest(task, head.hash), await self._views.rules(head.hash)
        last = contest.last_vote(rules)
        outcome = outcome_of(contest, rules) if contest.settled(rules) else DisputeOutcome.OPEN
        return DisputeStanding(head, dispute, CommitmentId(task), outcome, head.time > last, last)

    async def advance(self, dispute: DisputeId) -> Intent | None:
        """The next piece of the count, until all who won are paid. A contested solution is never claimed: the count pays
        its solver too."""
        head = await self._chain.block("latest")
        task = task_of(dispute)
        contest, rules = await self._views.contest(task, head.hash), await self._views.rules(head.hash)
        if rules.paused or contest.settled(rules) or head.time <= contest.last_vote(rules):
            return None
        left = len(contest.winners(rules)) - contest.paid
        about = subject(task, "finish", contest.paid)
        return self._intent(about, self.calls.finish(task, min(left, self._piece)), NO_DEADLINE, Action.SETTLE)
