"""What the campaign holds against the exposure cap: an excess shows, and what a reorganisation took back is none."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from challenger.chain.codec import Event
from challenger.sim.campaign.bonds import Bonds, signatures
from challenger.sim.deploy import MarketParams
from challenger.store.rows import JournalRow

ME, OTHER = "0x" + "11" * 20, "0x" + "22" * 20
BOND, DEMAND = MarketParams().challenge_bond, MarketParams().demand_bond


def job(number: int) -> bytes:
    return bytes([number]) * 32


def challenged(number: int, dispute: int | None = None, by: str = ME) -> Event:
    log: Any = None
    return Event("Challenged", {"dispute": dispute or number, "job": job(number), "challenger": by}, log)


def settled(number: int, dispute: int | None = None) -> Event:
    log: Any = None
    return Event("Settled", {"dispute": dispute or number, "job": job(number)}, log)


def demand(name: str, number: int) -> Event:
    log: Any = None
    return Event(name, {"demand": number, "job": job(number), "demander": ME}, log)


def seen(*branches: str, **blocks: list[Event]) -> Bonds:
    """``branches``: names of blocks in their order, as the chain stood one time after the other."""
    bonds = Bonds(ME, MarketParams())
    for branch in branches:
        names = branch.split()
        bonds.branch([name.encode() for name in names], lambda n, names=names: blocks[names[n]])
    return bonds


def test_bonds_out_are_those_of_this_account_that_have_not_come_back() -> None:
    a = [challenged(1), demand("Demanded", 2), challenged(3, by=OTHER)]
    bonds = seen("a", "a b", a=a, b=[settled(1), demand("DemandClosed", 2), challenged(4)])
    assert bonds.most == bonds.most_of_all == BOND + DEMAND
    assert seen("a b", a=[challenged(1)], b=[settled(1, dispute=9), challenged(2)]).most == 2 * BOND, "another's"


def test_what_a_reorganisation_takes_back_is_left_out_and_nothing_else() -> None:
    a, b, c = [challenged(1), challenged(2)], [settled(1)], [challenged(3)]
    bonds = seen("a b c", "a d", "a d e", a=a, b=b, c=c, d=[], e=[challenged(3)])
    assert (bonds.most, bonds.most_of_all) == (2 * BOND, 3 * BOND)
    bonds = seen("a b c", "a d", "a d e", a=a, b=b, c=c, d=[], e=[challenged(3), challenged(4)])
    assert bonds.most == 3 * BOND, "another beside the one that had its room"
    bonds = seen("a c", "a d", a=a, c=[challenged(3, dispute=3)], d=[challenged(4, dispute=3)])
    assert bonds.most == 3 * BOND, "an opening that was taken back gives no room"
    bonds = seen("a b", "a b c", a=a, b=[], c=c)
    assert bonds.most == 3 * BOND, "nothing was taken back"


@dataclass
class Written:
    """A journal as a watcher writes it."""

    rows: list[JournalRow] = field(default_factory=list)
    _seq: count = field(default_factory=lambda: count(1))

    def _add(self, kind: str, subject: str, **told: Any) -> None:
        digest: Any = bytes(32)
        now: Any = 0
        self.rows.append(JournalRow(next(self._seq), digest, digest, now, kind, subject, json.dumps(told)))

    def wish(self, number: int, action: str = "challenge", value: int = BOND) -> None:
        self._add("tx-intent", self._about(number), id=number, action=action, value=str(value))

    def move(self, kind: str, number: int, action: str = "challenge", **told: Any) -> None:
        self._add(f"tx-{kind}", self._about(number), id=number, action=action, **told)

    def fact(self, kind: str, number: int, block: int) -> None:
        self._add(f"chain-{kind}", self._about(number), block=block)

    def rewound(self, to: int) -> None:
        self._add("rewound", "chain", to=to)

    def sums(self) -> list[int]:
        return [bonds for _, bonds in signatures(self.rows)]

    def _about(self, number: int) -> str:
        return "0x" + job(number).hex()


def _disputed(journal: Written, number: int, block: int) -> None:
    journal.wish(number)
    journal.move("signed", number, nonce=number)
    journal.fact("dispute-opened", number, block)
    journal.move("final", number)


def test_a_signature_counts_what_is_open_and_what_is_asked_for_and_what_came_back_no_more() -> None:
    journal = Written()
    _disputed(journal, 1, 10)
    journal.wish(2)  # asked for, and not signed
    journal.wish(3, "demand", DEMAND)
    journal.move("signed", 3, "demand", nonce=3)
    journal.move("abandoned", 2)
    journal.fact("dispute-closed", 1, 12)
    _disputed(journal, 4, 13)
    assert journal.sums() == [BOND, 2 * BOND + DEMAND, DEMAND + BOND]


def test_a_replacement_with_the_same_nonce_is_no_other_bond_and_another_nonce_is() -> None:
    journal = Written()
    _disputed(journal, 1, 10)
    journal.wish(2)
    journal.move("signed", 2, nonce=2)
    journal.move("signed", 2, nonce=2)
    journal.move("reverted", 2)
    journal.wish(2)
    journal.move("signed", 2, nonce=5)
    assert journal.sums() == [BOND, 2 * BOND, 2 * BOND]


def test_after_a_settlement_was_taken_back_a_signature_counts_its_bond_again() -> None:
    """Seed 1301 before it was mended: two sealed cases were challenged anew beside a dispute that was open again."""
    journal = Written()
    _disputed(journal, 1, 28)
    journal.fact("dispute-closed", 1, 30)
    _disputed(journal, 2, 33)
    _disputed(journal, 3, 33)
    assert max(journal.sums()) == 2 * BOND
    journal.rewound(26)
    journal.move("sent", 1)
    journal.fact("dispute-opened", 1, 37)
    for number in (2, 3):
        journal.move("sent", number)
        journal.move("reverted", number)
    for number in (2, 3):
        journal.wish(number)
        journal.move("signed", number, nonce=10 + number)
    assert journal.sums()[-2:] == [2 * BOND, 3 * BOND]
