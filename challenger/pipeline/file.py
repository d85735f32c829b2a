"""From a confirmed fraud to an open challenge, and from data withheld to a demand: the only stages that spend.

A row is moved to FILING and its first transaction is a row in the same SQL transaction; everything after that is asked
of the chain again. So a restart at any point goes on where the chain is, and the key (protocol, subject, action) of
each transaction keeps two of them from ever being sent for one purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.domain import (
    Action,
    Address,
    Block,
    Capability,
    CommitmentId,
    DisputeOutcome,
    Hash32,
    Intent,
    Mode,
    Part,
    State,
    TxState,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import Expected, StaleRow
from challenger.pipeline.gates import Limits, Situation, refusal
from challenger.protocols.base import Accusation, Prospect
from challenger.sampling.economics import Stakes
from challenger.store.engine import Store
from challenger.store.journal import canonical
from challenger.store.subjects import subject_of
from challenger.store.work import Item

#: Gas of a whole dispute from our side (seal, challenge, settle, withdraw), as the protocol's gas table has it, rounded up.
DISPUTE_GAS = 700_000
_FAILED = frozenset({TxState.ABANDONED, TxState.REVERTED, TxState.REPLACED})
_LANDED = frozenset({TxState.MINED, TxState.FINAL})


class Disputes(Protocol):
    """What filing needs of the protocol's adapter."""

    @property
    def name(self) -> str: ...
    @property
    def capability(self) -> Capability: ...
    async def pinned(self) -> bool: ...
    async def window(self, commitment: CommitmentId) -> Window: ...
    async def eligibility(self, accusation: Accusation, lead: int) -> str: ...
    async def prospect(self, commitment: CommitmentId) -> Prospect: ...
    async def open_dispute(self, accusation: Accusation) -> Intent | None: ...
    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str: ...
    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect: ...
    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent: ...


class Account(Protocol):
    async def balance(self, address: Address) -> Wei: ...
    async def gas_price(self) -> Wei: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """``lead``: predicted seconds from now until an opening transaction is mined; ``retry``: seconds between two looks
    at a refused case; ``correlated_seconds``: how long accusations of one model count together."""

    lead: int
    retry: int
    correlated_seconds: int


class Filer:
    def __init__(
        self, store: Store, adapter: Disputes, chain: Account, account: Address, limits: Limits, patience: Patience
    ) -> None:
        self._store = store
        self._adapter = adapter
        self._chain = chain
        self._account = account
        self._limits = limits
        self._patience = patience

    async def step(self, head: Block) -> bool:
        """One look at everything confirmed, withheld or being filed; True when something moved."""
        async with self._store.read() as view:
            states = [State.CONFIRMED, State.UNAVAILABLE, State.FILING]
            items = await view.work.items(states, ready=head.time, limit=1_000)
        if not items:
            return False
        pinned = await self._adapter.pinned()
        moved = False
        for item in items:
            try:
                if item.work.state == State.FILING:
                    moved |= await self._carry_on(item, head)
                else:
                    moved |= await self._consider(item, head, pinned=pinned)
            except StaleRow:
                continue  # the chain moved the row meanwhile
            except Expected as error:
                await self._wait(item, head.time, str(error))
        return moved

    # may it be filed?

    async def _consider(self, item: Item, head: Block, *, pinned: bool) -> bool:
        """Moves to FILING when every gate is open, to EXPIRED when it is too late; else waits and says why."""
        commitment = CommitmentId(item.work.commitment)
        part = _withheld(item)
        accusation = None if part is not None else await self._accusation(item)
        reason = await self._refusal(item, head, part, accusation, pinned=pinned)
        if reason.startswith("window:"):
            await self._move(item, head.time, State.EXPIRED, reason)
            return True
        if reason:
            await self._wait(item, head.time, reason)
            return False
        intent = (
            await self._adapter.open_dispute(accusation)
            if accusation is not None
            else await self._adapter.open_demand(commitment, part or Part.OUTPUT, await self._place(item, part))
        )
        async with self._store.begin(head.time) as unit:
            await unit.work.move(commitment, State(item.work.state), State.FILING, next_try=0)
            if intent is not None:
                await unit.transactions.propose(intent, self._account, again=True)
        return True

    async def _refusal(
        self, item: Item, head: Block, part: Part | None, accusation: Accusation | None, *, pinned: bool
    ) -> str:
        row, lead = item.commitment, self._patience.lead
        commitment = CommitmentId(row.commitment)
        if accusation is not None:
            prospect = await self._adapter.prospect(commitment)
            refused = await self._adapter.eligibility(accusation, lead) or await self._rival(commitment)
        else:
            withheld = part or Part.OUTPUT
            prospect = await self._adapter.demand_prospect(commitment, withheld)
            place = await self._place(item, withheld)
            refused = await self._adapter.demand_eligibility(commitment, withheld, place, lead)
        accused, cleared = (0, True) if accusation is None else await self._correlated(item, head.time)
        outstanding = await self._outstanding(prospect.bond)
        price = await self._chain.gas_price()
        return refusal(
            self._limits,
            Situation(
                now=head.time,
                window=await self._adapter.window(commitment),
                capability=self._adapter.capability,
                stakes=Stakes(prospect.bond, prospect.reward, Wei(price * DISPUTE_GAS), prospect.win),
                outstanding=outstanding,
                balance=await self._chain.balance(self._account),
                accused=accused,
                cleared=cleared,
                pinned=pinned,
                refused=refused,
            ),
        )

    async def _place(self, item: Item, part: Part | None) -> int:
        """Which piece is demanded. Of weights one tile that the registrar could not foresee when it published them, and
        the same one after a restart; inputs and outputs are demanded whole."""
        if part is not Part.WEIGHTS:
            return 0
        async with self._store.read() as view:
            model = await view.chain.model(item.commitment.model)
        tiles = 1 if model is None else max(1, model.artefact_tiles)
        return int.from_bytes(hashlib.sha256(b"tile/1" + item.work.commitment).digest(), "big") % tiles

    async def _outstanding(self, bond: Wei) -> Wei:
        """All bonds that are out, and those promised: a case being filed will need its bond, sealed or not."""
        async with self._store.read() as view:
            out = await view.transactions.outstanding(self._account)
            promised = 0
            for item in await view.work.items([State.FILING], limit=10_000):
                if _withheld(item) is None:
                    about = subject_of(item.work.commitment)
                    opening = await view.transactions.find(self._adapter.name, about, Action.CHALLENGE)
                    promised += opening is None or opening.state in _FAILED
        return Wei(out + promised * bond)

    async def _rival(self, commitment: CommitmentId) -> str:
        """Another's open dispute over the same job decides it as ours would; ours waits for how it ends."""
        async with self._store.read() as view:
            found = await view.chain.disputes(commitment=commitment, outcome=DisputeOutcome.OPEN)
        others = [dispute for dispute in found if dispute.challenger != self._account]
        return f"rival: {others[0].challenger} disputes this job already ({others[0].dispute})" if others else ""

    async def _correlated(self, item: Item, now: UnixTime) -> tuple[int, bool]:
        """How many providers of this model are accused within the hour, and whether a person has approved since."""
        since = UnixTime(now - self._patience.correlated_seconds)
        model = subject_of(item.commitment.model)
        async with self._store.read() as view:
            accused = len(await view.verdicts.accused(item.commitment.model, since))
            pauses = await view.approvals.since("correlated", model, since)
        if accused < self._limits.correlated_providers:
            return accused, False
        if not pauses:
            async with self._store.begin(now) as unit:
                await unit.approvals.pause("correlated", model, f"{accused} providers accused within the hour")
        return accused, bool(pauses) and all(pause.resumed_at is not None for pause in pauses)

    # it is being filed

    async def _carry_on(self, item: Item, head: Block) -> bool:
        commitment = CommitmentId(item.work.commitment)
        part = _withheld(item)
        if part is not None:
            action, about = Action.DEMAND, subject_of(commitment, part.value, await self._place(item, part))
        else:
            action, about = Action.CHALLENGE, subject_of(commitment)
        async with self._store.read() as view:
            opening = await view.transactions.find(self._adapter.name, about, action)
        state = None if opening is None else TxState(opening.state)
        if state in _LANDED:
            await self._move(item, head.time, State.FILED, "")
            return True
        if item.commitment.closes <= head.time and (state is None or state in _FAILED or state is TxState.INTENT):
            await self._move(item, head.time, State.EXPIRED, "window: it closed before the filing landed")
            return True
        if state in _FAILED and self._limits.mode is Mode.DRY_RUN:
            return False  # simulated once, as far as the chain's state lets it
        if part is None and (state is None or state in _FAILED):
            return await self._next_step(item, head, failed=state in _FAILED)
        if state in _FAILED:
            await self._move(
                item, head.time, State.UNAVAILABLE, f"the demand failed: {opening.error}" if opening else ""
            )
            return True
        return False

    async def _next_step(self, item: Item, head: Block, *, failed: bool) -> bool:
        """Seal, then challenge, as the chain stands now; back to CONFIRMED when it may no longer be filed."""
        accusation = await self._accusation(item)
        if failed:
            refused = await self._adapter.eligibility(accusation, self._patience.lead)
            if refused:
                await self._move(item, head.time, State.CONFIRMED, f"eligibility: {refused}", self._patience.retry)
                return True
        intent = await self._adapter.open_dispute(accusation)
        if intent is None:
            return False
        async with self._store.read() as view:
            there = await view.transactions.find(intent.protocol, intent.subject, intent.action)
        if there is not None and (TxState(there.state) not in _FAILED or self._limits.mode is Mode.DRY_RUN):
            return False  # under way; or a dry run, which tries each step once
        async with self._store.begin(head.time) as unit:
            await unit.transactions.propose(intent, self._account, again=True)
        return True

    # the accusation and small things

    async def _accusation(self, item: Item) -> Accusation:
        """Our roots, and the digest of both verdicts: the same after every restart, since the rows are."""
        async with self._store.read() as view:
            pair = [
                None if identity is None else await view.verdicts.get(identity)
                for identity in (item.work.verdict, item.work.confirmation)
            ]
        first, second = pair
        if first is None or second is None or second.output_root is None or second.state_root is None:
            raise StaleRow("a confirmed fraud without its two verdicts", commitment=subject_of(item.work.commitment))
        told: list[Mapping[str, Any]] = [
            {"backend": v.backend, "kind": v.kind, "output": v.output_root or b"", "state": v.state_root or b""}
            for v in (first, second)
        ]
        body = canonical({"commitment": item.work.commitment, "verdicts": told})
        evidence = Hash32(hashlib.sha256(b"evidence/1" + body.encode()).digest())
        return Accusation(CommitmentId(item.work.commitment), second.output_root, second.state_root, evidence)

    async def _wait(self, item: Item, now: UnixTime, why: str) -> None:
        """Says why in the row (and the journal) when that is news, and looks again later."""
        changes: dict[str, Any] = {"next_try": now + self._patience.retry}
        if why != item.work.detail:
            changes["detail"] = why
        if item.work.confirmation is None and item.work.state == State.UNAVAILABLE:
            changes.pop("detail", None)  # there the detail names the part that is withheld
        async with self._store.begin(now) as unit:
            await unit.work.note(CommitmentId(item.work.commitment), State(item.work.state), **changes)

    async def _move(self, item: Item, now: UnixTime, new: State, why: str, wait: int = 0) -> None:
        changes: dict[str, Any] = {"next_try": now + wait if wait else 0}
        if _withheld(item) is None:
            changes["detail"] = why
        async with self._store.begin(now) as unit:
            await unit.work.move(CommitmentId(item.work.commitment), State(item.work.state), new, **changes)


def _withheld(item: Item) -> Part | None:
    """The part that a demand is for; None for a case of fraud."""
    if item.work.confirmation is not None:
        return None
    name = item.work.detail.partition(":")[0]
    return Part(name) if name in tuple(Part) else Part.OUTPUT
