"""The reference protocol: ``InferenceMarket`` and its adjudicator, as one account sees them.

Every parameter is read from the contract; the code of the market and of all it runs through is pinned at start. The
window is frozen per commitment, in seconds, ``t < closes``; an answered demand may move its close further away.

A dispute is opened in two steps, seal and challenge. The salt that hides the claim in between is an HMAC of the
commitment under a secret bound to the account's key: whoever restarts between the two steps, even from an empty
database, makes the same salt again, and nobody without the key can.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from challenger.chain.answers import RawLog
from challenger.chain.codec import decode_revert
from challenger.contracts import artifact
from challenger.domain import (
    ONE,
    Action,
    Address,
    Block,
    Call,
    Capability,
    ChainEvent,
    ChainId,
    CommitmentId,
    DemandId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Hash32,
    Intent,
    JobStatus,
    Millionths,
    Part,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import ConfigError, FilingRefused, WrongChain
from challenger.protocols.anchored import Anchored, stands
from challenger.protocols.base import (
    NO_DEADLINE,
    Accusation,
    Aid,
    CodeReader,
    DemandStanding,
    DisputeStanding,
    Prospect,
    Standing,
    Terms,
    subject,
)
from challenger.protocols.pins import Pins
from challenger.protocols.reference_calls import Claim, MarketCalls, seal_digest
from challenger.protocols.reference_logs import MarketLogs
from challenger.protocols.reference_views import MarketViews, Params

#: A seal with fewer blocks left than this (or half its life, if that is less) is not worth opening: it may land too late.
_SEAL_RESERVE = 10

#: How far k-of-n signers who replay for themselves are trusted to rule right and in time, unless settings say otherwise.
TRUST = Millionths(990_000)


class Reader(CodeReader, Protocol):
    """What the adapter needs of the chain."""

    async def chain_id(self) -> ChainId: ...

    async def block(self, which: int | bytes | str) -> Block: ...

    async def balance(self, address: Address, block: int | bytes | str = "latest") -> Wei: ...


def explain(data: bytes) -> str:
    """Revert data of the market or its adjudicators in words."""
    return decode_revert(data, _ERRORS)


_ERRORS = [
    entry
    for name in ("InferenceMarket", "SignerAdjudicator", "EpochAnchor")
    for entry in artifact(name).abi
    if entry.get("type") == "error"
]


class ReferenceAdapter(Anchored):
    """One market on one chain. ``account`` is whose disputes these are, None for a watcher without a key; ``secret`` is
    32 bytes bound to that account's key; ``win`` is P(win | fraud): how far the k-of-n signers are trusted to rule right
    and in time; ``anchor`` is the ``EpochAnchor``, if there is one; ``pins`` are code hashes to insist on, besides."""

    name = "reference"
    capability = Capability.OPEN

    def __init__(
        self,
        chain: Reader,
        chain_id: ChainId,
        market: Address,
        *,
        account: Address | None = None,
        secret: bytes = b"",
        win: Millionths = TRUST,
        anchor: Address | None = None,
        pins: Mapping[Address, Hash32] | None = None,
    ) -> None:
        if account is not None and len(secret) < 32:
            raise ConfigError("reference protocol: the salt's secret is shorter than 32 bytes")
        self.calls = MarketCalls(market)
        self.emitters = (market,)
        self._logs = MarketLogs(market)
        self.topics = self._logs.topics
        self.decode = self._logs.decode
        self.events = self._logs.events
        self._chain = chain
        self._views = MarketViews(chain, market)
        self._chain_id = chain_id
        self._market = market
        self._account = account
        self._secret = secret
        self._win = win
        self._anchor = anchor
        self._pins = Pins(chain, pins)
        self._params: Params | None = None

    # the contract itself

    async def check(self) -> None:
        """Chain id, the market's code (immutables aside), its parameters; then pins the code of all that takes part."""
        served = await self._chain.chain_id()
        if served != self._chain_id:
            raise WrongChain("point the watcher at the right endpoint", wanted=self._chain_id, served=served)
        head = await self._chain.block("latest")
        await stands(self._chain, self._market, "InferenceMarket", head)
        anchor = await self.anchor_checked(self._chain, head)
        params = await self._views.params(head.hash)
        await self._pins.take([self._market, *anchor, params.adjudicator], head.hash)
        self._params = params

    async def pinned(self) -> bool:
        return await self._pins.hold()

    @property
    def pins(self) -> Mapping[Address, Hash32]:
        """Code hashes of all that takes part, as ``check`` found them."""
        return self._pins.found

    async def shown(self, reader: Reader, log: RawLog) -> ChainEvent | None:  # noqa: ARG002
        """``log`` alone says all: nothing is asked of ``reader``."""
        return self._logs.decode(log)

    async def window_at(self, reader: Reader, commitment: CommitmentId, block: Hash32) -> Window:
        """The window as another reader has it in the state after ``block``."""
        job = await MarketViews(reader, self._market).job(commitment, block)
        return Window(job.committed_at, job.closes, frozen=True)

    @property
    def params(self) -> Params:
        """As ``check`` has read them; immutable in the contract."""
        if self._params is None:
            raise ConfigError("reference protocol: used before its contract was checked")
        return self._params

    @property
    def terms(self) -> Terms:
        terms = self.params.terms
        return replace(terms, said=f"{terms.said}; {'anchored' if self._anchor else 'no epoch anchor'}")

    # a commitment

    async def hydrate(self, commitment: CommitmentId) -> Standing:
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        window = Window(job.committed_at, job.closes, frozen=True)
        roots, still_open = (job.output_root, job.state_root), (job.open_disputes, job.open_demands)
        return Standing(head, commitment, job.status, job.provider, *roots, window, *still_open)

    async def window(self, commitment: CommitmentId) -> Window:
        return (await self.hydrate(commitment)).window

    async def eligibility(self, accusation: Accusation, lead: int) -> str:
        head = await self._chain.block("latest")
        job = await self._views.job(accusation.commitment, head.hash)
        if job.status is not JobStatus.COMMITTED:
            return f"the job is {job.status} already"
        if job.withheld:
            return "the job ends by a demand: nothing new may be opened over it"
        if head.time + lead >= job.closes:
            return f"{job.closes - head.time} s are left, and seal and challenge take {lead}"
        if job.open_disputes >= self.params.max_disputes:
            return f"{job.open_disputes} disputes are open, which is the most"
        if (accusation.output_root, accusation.state_root) == (job.output_root, job.state_root):
            return "the roots are the committed ones: there is nothing to dispute"
        balance = await self._chain.balance(self._own_account(), head.hash)
        if balance < self.params.challenge_bond:
            return f"the account holds {balance} wei, the bond is {self.params.challenge_bond}"
        return ""

    async def prospect(self, commitment: CommitmentId) -> Prospect:
        """The bounty goes to the oldest open dispute that is proven: behind another one nothing is expected but the
        bond back."""
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        reward = 0 if job.open_disputes else self.params.bounty_of(self.params.job_collateral)
        return Prospect(self.params.challenge_bond, Wei(reward), self._win)

    # a dispute

    def claim(self, accusation: Accusation, attempt: int = 0) -> Claim:
        """The accusation with the salt of its ``attempt``-th seal."""
        place = self._chain_id.to_bytes(32, "big") + bytes.fromhex(self._market[2:])
        message = b"salt/1" + place + accusation.commitment + attempt.to_bytes(4, "big")
        salt = Hash32(hmac.new(self._secret, message, hashlib.sha256).digest())
        return Claim(accusation.commitment, accusation.output_root, accusation.state_root, accusation.evidence, salt)

    async def open_dispute(self, accusation: Accusation) -> Intent | None:
        """A seal; once it is old enough, the challenge that opens it; a fresh seal in place of one grown too old."""
        account, head = self._own_account(), await self._chain.block("latest")
        closes = (await self._views.job(accusation.commitment, head.hash)).closes
        life = self.params.max_seal_age - self.params.seal_age
        attempt = 0
        while True:
            claim = self.claim(accusation, attempt)
            sealed = seal_digest(account, claim)
            since = await self._views.sealed_in(account, sealed, head.hash)
            if since is None:
                again = ("seal", attempt) if attempt else ()
                about = subject(claim.commitment, *again)
                return self._intent(Action.SEAL, about, self.calls.seal(sealed), closes)
            if head.number < since + self.params.seal_age:
                return None
            if head.number + min(_SEAL_RESERVE, life // 2) < since + self.params.max_seal_age:
                call = self.calls.challenge(claim, self.params.challenge_bond)
                return self._intent(Action.CHALLENGE, subject(claim.commitment), call, closes)
            attempt += 1

    async def status(self, dispute: DisputeId) -> DisputeStanding:
        head = await self._chain.block("latest")
        found = await self._views.dispute(dispute, head.hash)
        ruling = await self._views.ruling(self.params.adjudicator, dispute, head.hash)
        return DisputeStanding(head, dispute, found.commitment, found.outcome, ruling != 0, found.ruling_by)

    async def advance(self, dispute: DisputeId) -> Intent | None:
        """Settles as soon as that does something: the job is over, a ruling is there (one for us waits for any older
        dispute over the same job), or the time for one has passed."""
        head = await self._chain.block("latest")
        found = await self._views.dispute(dispute, head.hash)
        if found.outcome is not DisputeOutcome.OPEN:
            return None
        job = await self._views.job(found.commitment, head.hash)
        ruling = await self._views.ruling(self.params.adjudicator, dispute, head.hash)
        over = job.status is not JobStatus.COMMITTED
        ruled = ruling == 2 or (ruling == 1 and job.oldest == dispute)
        if over or ruled or (ruling == 0 and head.time >= found.ruling_by):
            about = subject(found.commitment, "dispute", dispute)
            return self._intent(Action.SETTLE, about, self.calls.settle(dispute), NO_DEADLINE)
        return None

    async def aid(self, accusation: Accusation, lead: int) -> Aid | None:  # noqa: ARG002
        """Signers rule, not those who stand by; and anybody may dispute."""
        return None

    # a demand for withheld data

    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str:
        """Why the demand may not be made now; empty when it may. ``lead``: predicted seconds until it is mined."""
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        earlier = await self._views.demand_of(commitment, part, index, head.hash)
        boundaries, tiles, _ = await self._views.model_places(job.model, head.hash)
        places = {Part.WEIGHTS: tiles, Part.OPENING: boundaries}.get(part, 1)
        inline = job.output_inline if part is Part.OUTPUT else await self._views.input_inline(job.task, head.hash)
        closes = job.committed_at + self.params.window
        if job.status is not JobStatus.COMMITTED or job.withheld:
            return f"the job is {'ending' if job.withheld else job.status} already"
        if head.time + lead >= closes and not job.open_disputes:
            return f"demands are made in a job's first window, of which {closes - head.time} s are left"
        if part in (Part.INPUT, Part.OUTPUT) and inline:
            return f"the {part} was given inline: it is on the chain"
        if index >= places:
            return f"index {index} of {part} does not exist, there are {places}"
        if earlier is not None:
            return f"demand {earlier} asked for the same before"
        balance = await self._chain.balance(self._own_account(), head.hash)
        if balance < self.params.demand_bond:
            return f"the account holds {balance} wei, the bond is {self.params.demand_bond}"
        return ""

    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect:
        """What is won when nobody answers; when somebody does, the bond is lost. No adjudicator has a say."""
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        at_stake = self.params.job_collateral
        if part is Part.INPUT:
            at_stake = await self._views.fee_held(job.task, head.hash)
        elif part is Part.WEIGHTS:
            at_stake = (await self._views.model_places(job.model, head.hash))[2]
        return Prospect(self.params.demand_bond, self.params.bounty_of(at_stake), ONE)

    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent:
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        closes = job.closes if job.open_disputes else UnixTime(job.committed_at + self.params.window)
        call = self.calls.demand(commitment, part, index, self.params.demand_bond)
        return self._intent(Action.DEMAND, subject(commitment, part, index), call, closes)

    async def demand_status(self, demand: DemandId) -> DemandStanding:
        head = await self._chain.block("latest")
        found = await self._views.demand(demand, head.hash)
        return DemandStanding(head, demand, found.commitment, found.outcome, found.answer_by)

    async def advance_demand(self, demand: DemandId) -> Intent | None:
        """Claims once the time for an answer has passed or the job is over; one for the provider's data waits for a
        dispute over the same job that is older than the demand."""
        head = await self._chain.block("latest")
        found = await self._views.demand(demand, head.hash)
        if found.outcome is not DemandOutcome.OPEN:
            return None
        job = await self._views.job(found.commitment, head.hash)
        if job.status is JobStatus.COMMITTED:
            if head.time < found.answer_by:
                return None
            if found.part in (Part.OUTPUT, Part.OPENING) and job.oldest is not None:
                first = await self._views.dispute(job.oldest, head.hash)
                if first.opened_at <= found.opened_at:  # a tie is the dispute's
                    return None
        about = subject(found.commitment, "demand", demand)
        return self._intent(Action.CLAIM_DEMAND, about, self.calls.claim_demand(demand), NO_DEADLINE)

    # the rest

    async def finalise(self, commitment: CommitmentId) -> Intent | None:
        """Closes a job whose window is over, None while it is not or when it is closed."""
        head = await self._chain.block("latest")
        job = await self._views.job(commitment, head.hash)
        if job.status is not JobStatus.COMMITTED or head.time < job.closes or job.open_disputes:
            return None
        return self._intent(Action.FINALISE, subject(commitment), self.calls.finalise(commitment), NO_DEADLINE)

    async def collect(self, occasion: str) -> Intent | None:
        head = await self._chain.block("latest")
        if not await self._views.balance_of(self._own_account(), head.hash):
            return None
        return self._intent(Action.WITHDRAW, occasion, self.calls.withdraw(), NO_DEADLINE)

    def _intent(self, action: Action, about: str, call: Call, deadline: UnixTime) -> Intent:
        return Intent(self.name, about, action, call, deadline)

    def _own_account(self) -> Address:
        if self._account is None:
            raise FilingRefused("there is no account: a watcher without a key opens nothing")
        return self._account
