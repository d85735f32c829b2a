"""What is out in bonds, and what is promised: what the caps are held against, in one reading for all of them.

A case that is being filed will need its bond, sealed or not: it counts from the moment it was let through. Whatever is
in doubt (a transaction that may still be mined, a commitment that the chain does not show just now) counts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.domain import Action, Address, CommitmentId, State, TxState, UnixTime, Wei
from challenger.pipeline.approval import withheld
from challenger.protocols.base import ETHER, Money, Prospect
from challenger.store.engine import Store
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.store.work import Item

#: Seconds over which bonds of a day count.
DAY = 86_400
_FAILED = frozenset({TxState.ABANDONED, TxState.REVERTED, TxState.REPLACED})


class Prospects(Protocol):
    """What is asked of the protocol's adapter."""

    @property
    def name(self) -> str: ...
    async def prospect(self, commitment: CommitmentId) -> Prospect: ...


@dataclass(frozen=True, slots=True)
class Out:
    """In the protocol's money: ``everywhere``, ``against`` the provider that was asked about, and ``opened`` within the last
    day (those that came back included); ``unpaid`` of the first: what the account's balance still holds, in wei."""

    everywhere: Wei
    against: Wei
    opened: Wei
    unpaid: Wei


class Bonds:
    """Those of ``account``, as rows and index show them."""

    def __init__(self, store: Store, adapter: Prospects, account: Address, money: Money = ETHER) -> None:
        self._money = money
        self._store = store
        self._adapter = adapter
        self._account = account

    async def out(self, provider: Address, now: UnixTime) -> Out:
        async with self._store.read() as view:
            promised = await self._promised(view)
            pending = await view.transactions.pending(self._account)
            everywhere = await view.transactions.outstanding(self._account)
            against = await view.transactions.against(self._account, provider)
            opened, cases = await view.transactions.opened(self._account, UnixTime(max(0, now - DAY)))
            votes = [] if self._money.paid else await view.transactions.votes(self._account)
            if not self._money.paid:
                # no transaction has the bond as its value: each counts as much as a new one would
                pending = [(subject, Wei(1)) for subject, _ in pending]
                pending += [(vote.subject, Wei(1)) for vote in votes if vote.bound]
            toward = await _toward(view, pending, provider)
        unpaid = Wei(sum(bond for _, bond in pending)) if self._money.paid else Wei(0)
        if not self._money.paid:
            known = [*(subject for subject, _ in pending), *sorted(cases), *(vote.subject for vote in votes)]
            bond = await self._bond(promised, known)
            lately = len(cases) + sum(vote.updated >= now - DAY for vote in votes)
            everywhere, toward, opened = Wei(everywhere + len(pending) * bond), toward * bond, Wei(lately * bond)
        against = Wei(against + toward)
        if promised:
            bond = await self._bond(promised, ())
            same = sum(item.commitment.provider == provider for item in promised)
            whole = len(promised) * bond
            everywhere, against = Wei(everywhere + whole), Wei(against + same * bond)
            opened, unpaid = Wei(opened + whole), Wei(unpaid + whole if self._money.paid else 0)
        return Out(everywhere, against, opened, unpaid)

    async def _bond(self, promised: Sequence[Item], subjects: Sequence[str]) -> Wei:
        """What a dispute over one of these takes; 0 without any."""
        about = [CommitmentId(item.work.commitment) for item in promised] + [_about(subject) for subject in subjects]
        return (await self._adapter.prospect(about[0])).bond if about else Wei(0)

    async def _promised(self, view: View) -> list[Item]:
        """Accusations being filed of which no challenge is under way yet. A demand's transaction is there from the start."""
        found = []
        for item in await view.work.items([State.FILING], limit=10_000):
            if withheld(item) is None:
                about = subject_of(item.work.commitment)
                opening = await view.transactions.find(self._adapter.name, about, Action.CHALLENGE)
                if opening is None or opening.state in _FAILED:
                    found.append(item)
        return found


async def _toward(view: View, pending: Sequence[tuple[str, Wei]], provider: Address) -> int:
    """Of bonds that the index does not show yet those against ``provider``, as far as anybody knows."""
    cases = [(_about(subject), bond) for subject, bond in pending]
    items = await view.work.some(sorted({commitment for commitment, _ in cases}))
    whose = {CommitmentId(item.work.commitment): item.commitment.provider for item in items}
    return sum(bond for commitment, bond in cases if whose.get(commitment, provider) == provider)


def _about(subject: str) -> CommitmentId:
    return CommitmentId(bytes.fromhex(subject[2:66]))
