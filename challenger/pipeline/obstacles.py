"""What speaks against filing a case now: the protocol, the limits, rivals, pauses, other endpoints. And in which order
cases come when the caps have no room for all. Reads only, but for the pause that correlated accusations open.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from challenger.domain import (
    Address,
    Block,
    Capability,
    CommitmentId,
    DisputeOutcome,
    Part,
    State,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import Expected
from challenger.pipeline import views
from challenger.pipeline.bonds import Bonds
from challenger.pipeline.gates import Limits, Purse, Situation, overdrawn, refusal, shut, worthless
from challenger.protocols.base import ETHER, Accusation, Aid, Money, Prospect
from challenger.sampling.economics import Stakes
from challenger.silence import UNHEARD, host_of_silence, looks, patient, unheard
from challenger.store.engine import Store
from challenger.store.keep import EVERYTHING
from challenger.store.rows import CommitmentRow, TaskRow
from challenger.store.subjects import subject_of
from challenger.store.work import Item
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say
from challenger.wording import numbered

#: Gas of a whole dispute from our side (seal, challenge, settle, withdraw), as the protocol's gas table has it, rounded up.
DISPUTE_GAS = 700_000
#: … and of a demand (demand, claim, withdraw), should it be lost by whoever had to answer.
DEMAND_GAS = 300_000
#: … and of a vote beside another's dispute, or a word to those who may open one.
AID_GAS = 250_000
#: Why a model is paused that no person has stopped: several providers accused, a dispute lost.
_OWN_PAUSES = frozenset({"correlated", "lost"})
#: What is away by no provider's doing, or may be: one source serves the weights to all of them, and silence may be our line's.
_NOT_THEIRS = (*UNHEARD, f"{Part.WEIGHTS.value}%")
#: Hosts that are silent together, and may all be well.
_SEVERAL = 2
#: The value of a filing is reckoned at so many times the present gas price (never above the sender's cap): what six full
#: blocks make of it (EIP-1559, + 12.5 % each), about as many as pass between this look and the challenge in its block.
STRESS = 2


class Rules(Protocol):
    """What the protocol's adapter says about a case."""

    @property
    def name(self) -> str: ...
    @property
    def capability(self) -> Capability: ...
    async def window(self, commitment: CommitmentId) -> Window: ...
    async def eligibility(self, accusation: Accusation, lead: int) -> str: ...
    async def prospect(self, commitment: CommitmentId) -> Prospect: ...
    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str: ...
    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect: ...


class Quorum(Protocol):
    """Whether enough independent endpoints show the same case, window and code; why not, else empty."""

    async def refusal(self, row: CommitmentRow, head: Block) -> str: ...


class Account(Protocol):
    async def balance(self, address: Address) -> Wei: ...
    async def gas_price(self) -> Wei: ...


class Chain(Account, views.Chain, Protocol):
    """The account, and what other endpoints have."""


@dataclass(frozen=True, slots=True)
class Patience:
    """``lead``: predicted seconds from now until an opening transaction is mined; ``retry``: seconds between two looks
    at a refused case; ``correlated_seconds``: how long accusations of one model count together."""

    lead: int
    retry: int
    correlated_seconds: int


class Obstacles:
    def __init__(
        self,
        store: Store,
        adapter: Rules,
        chain: Chain,
        account: Address,
        limits: Limits,
        patience: Patience,
        telemetry: Instruments,
        quorum: Quorum,
        money: Money = ETHER,
    ) -> None:
        self._money = money
        self._store = store
        self._adapter = adapter
        self._chain = chain
        self._account = account
        self._limits = replace(limits, unit=money.unit)
        self._patience = patience
        self._telemetry = telemetry
        self._quorum = quorum
        self._bonds = Bonds(store, adapter, account, money)
        #: Looks so far for which the record was not enough, and the chain was asked.
        self.asked = 0
        self._cut_off = False

    async def tell(self, now: UnixTime) -> None:
        """An alarm stands for each model that the watcher itself has paused, until a person lifts that, and one for a demand
        held back by silence that may be ours, until it is over."""
        async with self._store.read() as view:
            pauses = [pause for pause in await view.approvals.active() if pause.reason in _OWN_PAUSES]
        self._telemetry.alerts.standing("paused", {pause.subject: {"why": pause.detail} for pause in pauses})
        if self._cut_off:
            await self._silent(now)

    async def in_order(self, rest: list[Item], now: UnixTime) -> list[Item]:
        """Of what may be filed what closes first, as ``rest`` has it, as long as the caps have room for all of it; where
        they have not, what is worth most: the k-th of one provider, those that are out counted, a k-th."""
        if len(rest) < 2:
            return rest
        try:
            prospect = await self._adapter.prospect(CommitmentId(rest[0].work.commitment))
            room = await self._room(now)
        except Expected:
            return rest  # an order is no reason to keep the others waiting; what is wrong is said of the item
        if len(rest) * prospect.bond <= room:
            return rest
        async with self._store.read() as view:
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in rest])
            out = await view.work.items([State.FILING, State.FILED, State.DISPUTING], limit=10_000)
        fees = {item.work.commitment: _fee(tasks.get(item.commitment.task)) for item in rest}
        crowd = Counter(item.commitment.provider for item in out)
        worth: dict[bytes, int] = {}
        for item in sorted(rest, key=lambda item: -fees[item.work.commitment]):
            crowd[item.commitment.provider] += 1
            value = prospect.reward + fees[item.work.commitment]
            worth[item.work.commitment] = value // crowd[item.commitment.provider]
        return sorted(rest, key=lambda item: -worth[item.work.commitment])

    async def _room(self, now: UnixTime) -> int:
        """What may still go into bonds, by whatever is shortest: the cap, the day's, the balance."""
        out = await self._bonds.out(Address(""), now)
        room = [self._limits.exposure - out.everywhere]
        if self._limits.per_day:
            room.append(self._limits.per_day - out.opened)
        if self._money.paid:
            room.append(await self._chain.balance(self._account) - out.unpaid - self._limits.keep_balance)
        return min(room)

    async def to_filing(
        self, item: Item, head: Block, part: Part | None, accusation: Accusation | None, *, pinned: bool
    ) -> str:
        if part is not None and (why := await self._unreached(item, head.time)):
            return why
        # whether we may dispute at all is as of the last look, which was one endpoint's: asked again below
        if why := await self._shut(item, head.time, pinned=pinned):
            return why
        look = partial(self._as_the_chain_is, item, head, part, accusation)
        return await views.against(self._chain, look) or await self._agreed(item, head)

    async def _as_the_chain_is(self, item: Item, head: Block, part: Part | None, accusation: Accusation | None) -> str:
        """What speaks against it by what one endpoint shows."""
        commitment, lead = CommitmentId(item.work.commitment), self._patience.lead
        if accusation is not None:
            prospect = await self._adapter.prospect(commitment)
            refused = await self._adapter.eligibility(accusation, lead) or await self.rival(commitment)
        else:
            withheld = part or Part.OUTPUT
            if withheld is Part.WEIGHTS:
                return "weights: a demand fetches one tile and forces no file to be served; a person must look"
            prospect = await self._adapter.demand_prospect(commitment, withheld)
            refused = await self._adapter.demand_eligibility(commitment, withheld, 0, lead)
        out = await self._bonds.out(item.commitment.provider, head.time)
        gas = await self._gas(DISPUTE_GAS if accusation is not None else DEMAND_GAS)
        return refusal(
            self._limits,
            Situation(
                now=head.time,
                window=await self._adapter.window(commitment),
                capability=self._adapter.capability,
                stakes=self._stakes(prospect, gas),
                spends=self._spends(prospect, gas),
                outstanding=out.everywhere,
                balance=Wei(await self._chain.balance(self._account) - out.unpaid),
                accused=0,  # asked above, with what else is known without the chain
                pinned=True,
                refused=refused,
                against=out.against,
                opened=out.opened,
            ),
        )

    async def to_next_step(
        self, item: Item, head: Block, part: Part | None, accusation: Accusation | None, *, pinned: bool
    ) -> str:
        """What speaks against a bond that was let through and is not signed yet, so that what may have changed since is
        asked again. The caps too: the room that they had may have been made by a settlement that a reorganisation has
        taken back."""
        if part is not None and (why := await self._unreached(item, head.time)):
            return why
        if why := await self._shut(item, head.time, pinned=pinned):
            return why
        look = partial(self._by_now, item, head, part, accusation)
        return await views.against(self._chain, look) or await self._agreed(item, head)

    async def _by_now(self, item: Item, head: Block, part: Part | None, accusation: Accusation | None) -> str:
        commitment = CommitmentId(item.work.commitment)
        if accusation is not None:
            refused = await self._adapter.eligibility(accusation, 0)
            rival = await self.rival(commitment)
            if not refused and rival.startswith("rival:"):
                refused = f"eligibility: {rival}"
        else:
            refused = await self._adapter.demand_eligibility(commitment, part or Part.OUTPUT, 0, 0)
        if refused:
            return refused
        if accusation is not None:
            prospect, gas = await self._adapter.prospect(commitment), await self._gas(DISPUTE_GAS)
        else:
            prospect = await self._adapter.demand_prospect(commitment, part or Part.OUTPUT)
            gas = await self._gas(DEMAND_GAS)
        # of the others all count, those that are only promised too, so that the first who asks gives way and the rest go on
        purse = await self._purse(item, head.time, prospect.bond)
        # at the present gas price: what it was reckoned at beyond that was for the time until now, and for the seal
        refused = overdrawn(self._limits, purse, prospect.bond, self._spends(prospect, Wei(gas // STRESS)))
        return refused or worthless(self._limits, self._stakes(prospect, gas))

    async def to_aid(self, item: Item, head: Block, aid: Aid, *, pinned: bool, wished: bool) -> str:
        """What speaks against aiding others: whatever would speak against a dispute, the window and its conditions aside, of
        which the adapter knows. A word to others, which costs its gas alone, need not pay. ``wished``: it was let through
        before, and is not signed yet."""
        if why := await self._shut(item, head.time, pinned=pinned):
            return why
        gas, bond = await self._gas(AID_GAS), aid.prospect.bond
        own = bond if wished and not self._money.paid else Wei(0)  # paid ones count once they are out
        purse = await self._purse(item, head.time, own)
        refused = overdrawn(self._limits, purse, bond, self._spends(aid.prospect, gas))
        if not refused and bond:
            refused = worthless(self._limits, self._stakes(aid.prospect, gas))
        return refused or await self._agreed(item, head)

    async def _agreed(self, item: Item, head: Block) -> str:
        """What other endpoints say against it; the window that it begins with is of whoever can show one."""
        return await views.answered(self._chain, partial(self._quorum.refusal, item.commitment, head))

    async def _unreached(self, item: Item, now: UnixTime) -> str:
        """Of silence that may be ours: that other hosts are silent too. One alone is believed to be away in the end."""
        if not patient(item.work.detail):
            return ""
        async with self._store.read() as view:
            run = looks(await view.verdicts.said(CommitmentId(item.work.commitment)))
        hosts = await self._silent(now) if unheard(run) else 0
        if hosts < _SEVERAL:
            return ""
        return f"route: {hosts} hosts are silent and none answered meanwhile: our own line may be down"

    async def _silent(self, now: UnixTime) -> int:
        """Hosts that are silent while no other answers. Of all models: one line of ours leads to all."""
        since = UnixTime(max(0, now - self._patience.correlated_seconds))
        async with self._store.read() as view:
            told = await view.work.silent(since, UNHEARD)
        hosts = {host_of_silence(detail) for detail in told}
        self._cut_off = len(hosts) >= _SEVERAL
        self._telemetry.alerts.standing("cut-off", {"": {"hosts": len(hosts)}} if self._cut_off else {})
        return len(hosts)

    async def _shut(self, item: Item, now: UnixTime, capability: Capability = Capability.OPEN, *, pinned: bool) -> str:
        """What keeps everything back that concerns this model, of whatever it is a filing: asked first, for no endpoint
        need be."""
        accused = await self._correlated(item, now)
        why = shut(self._limits, capability, await self._halted(), accused, pinned=pinned)
        self.asked += not why
        return why

    async def _purse(self, item: Item, now: UnixTime, own: Wei) -> Purse:
        """What the caps are held against, without ``own``: the bond that this case was promised before."""
        out = await self._bonds.out(item.commitment.provider, now)
        balance = await self._chain.balance(self._account) - out.unpaid + (own if self._money.paid else 0)
        return Purse(Wei(out.everywhere - own), Wei(out.against - own), Wei(out.opened - own), Wei(balance))

    async def rival(self, commitment: CommitmentId) -> str:
        """Another's open dispute over the same job decides it as ours would; ours waits for how it ends. One of our own
        is followed, not opened again."""
        async with self._store.read() as view:
            found = await view.chain.disputes(commitment=commitment, outcome=DisputeOutcome.OPEN)
        others = [dispute for dispute in found if dispute.challenger != self._account]
        if len(others) < len(found):
            return "ours: this account disputes this job already"
        return (
            f"rival: {others[0].challenger} disputes this job already ({numbered(others[0].dispute)})" if others else ""
        )

    async def _correlated(self, item: Item, now: UnixTime) -> int:
        """Providers of this model accused within the hour, less those that a person has looked at.

        A pause of any age and for any reason holds until a person lifts it; whoever was accused before that is cleared, and
        two others pause it again.
        """
        model = subject_of(item.commitment.model)
        async with self._store.read() as view:
            pauses = [pause for pause in await view.approvals.all() if pause.subject == model]
            looked = max((p.resumed_at for p in pauses if p.resumed_at is not None), default=0)
            hour = UnixTime(max(0, now - self._patience.correlated_seconds))
            since = UnixTime(max(hour, looked))
            before = UnixTime(looked + 1)  # what was found in the very second of the look was looked at
            cleared = await view.verdicts.accused(item.commitment.model, hour, before) if looked else frozenset()
            accused = await view.verdicts.accused(item.commitment.model, since) - cleared
            # what is fetched again after the look, and found away again, was looked at too
            known = await view.verdicts.withheld(item.commitment.model, hour, before) if looked else frozenset()
            withheld = await view.work.withholding(item.commitment.model, since, _NOT_THEIRS)
        count = len(accused | (withheld - known))
        if any(pause.resumed_at is None for pause in pauses):
            return max(count, self._limits.correlated_providers)
        if count >= self._limits.correlated_providers:
            detail = f"{count} providers accused or unavailable within the hour"
            async with self._store.begin(now) as unit:
                await unit.approvals.pause("correlated", model, detail)
            say("paused", level=logging.WARNING, model=item.commitment.model, why=detail)
            self._telemetry.alerts.alert("paused", about=model, why=detail)
        return count

    async def _gas(self, gas: int) -> Wei:
        """What so much gas may cost until it is used."""
        return Wei(min(STRESS * await self._chain.gas_price(), self._limits.max_fee) * gas)

    def _stakes(self, prospect: Prospect, gas: Wei) -> Stakes:
        return Stakes(prospect.bond, prospect.reward, self._money.of_gas(gas), prospect.win)

    def _spends(self, prospect: Prospect, gas: Wei) -> Wei:
        return Wei(gas + (prospect.bond if self._money.paid else 0))

    async def _halted(self) -> str:
        """Who stopped all filing, and why; empty while nobody did."""
        async with self._store.read() as view:
            stops = [pause for pause in await view.approvals.active() if pause.subject == EVERYTHING]
        return stops[0].detail if stops else ""


def _fee(task: TaskRow | None) -> int:
    """What the task pays, in wei; 0 where it is not known."""
    return (task.fee or 0) if task is not None else 0
