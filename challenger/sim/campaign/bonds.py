"""Bonds of one account against its cap: those out at each block of every branch, and those it knew of as it signed.

A reorganisation that takes a settlement back puts a bond out again that was in hand, and what was signed for its room is
in the world: that much may be out beyond the cap, and no more. So what was taken back is left out of the sum of a block,
and every signature must fit the cap by all that the watcher knew when it made it, what was taken back included.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from challenger.chain.answers import parse_logs
from challenger.chain.codec import Event, EventDecoder
from challenger.chain.devnet.node import Node
from challenger.contracts import artifact
from challenger.domain import Action, Address, TxState, Wei
from challenger.sampling import past
from challenger.sim.deploy import MarketParams

#: A challenge or a demand, and the commitment that it is about, of which ours is one of each at most.
Key = tuple[Action, bytes]
_LIVE = frozenset(f"tx-{state}" for state in TxState) - {"tx-abandoned", "tx-reverted", "tx-replaced"}
_FACTS = {
    "chain-dispute-opened": (Action.CHALLENGE, 1),
    "chain-dispute-closed": (Action.CHALLENGE, -1),
    "chain-demand-opened": (Action.DEMAND, 1),
    "chain-demand-closed": (Action.DEMAND, -1),
}


@dataclass(frozen=True, slots=True)
class _Seen:
    """A block: what is out after it, by its number on chain, and what came back in it."""

    hash: bytes
    out: Mapping[tuple[Action, int], Key]
    back: frozenset[Key]


class Bonds:
    """``most``: the highest sum that ever stood in a block, also in blocks that left the chain, without the bonds that had
    come back in a block which left it before; ``most_of_all``: with them."""

    def __init__(self, account: Address, params: MarketParams) -> None:
        self.most = self.most_of_all = Wei(0)
        self._account = account
        self._each = {Action.CHALLENGE: params.challenge_bond, Action.DEMAND: params.demand_bond}
        self._decoder = EventDecoder(artifact("InferenceMarket").abi)
        self._known: list[_Seen] = []
        self._taken_back: set[Key] = set()

    def look(self, node: Node) -> None:
        self.branch([block.hash for block in node.chain.blocks], partial(self._events, node))

    def branch(self, hashes: Sequence[bytes], events: Callable[[int], Iterable[Event]]) -> None:
        """The chain as it stands now, from its first block on; ``events`` of the n-th."""
        known = self._known
        while known and (len(known) > len(hashes) or known[-1].hash != hashes[len(known) - 1]):
            self._taken_back |= known.pop().back
        for number in range(len(known), len(hashes)):
            known.append(self._after(known[-1].out if known else {}, hashes[number], events(number)))
            out = frozenset(known[-1].out.values())
            self.most_of_all = max(self.most_of_all, self._sum(out))
            self.most = max(self.most, self._sum(out - self._taken_back))

    def _events(self, node: Node, number: int) -> Iterable[Event]:
        height = node.chain.blocks[number].header.block_number
        found = map(self._decoder.decode, parse_logs(node.logs.get(height, [])))
        return (event for event in found if event is not None)

    def _after(self, before: Mapping[tuple[Action, int], Key], digest: bytes, events: Iterable[Event]) -> _Seen:
        out, back = dict(before), set()
        for name, args, _ in events:
            if name == "Challenged" and args["challenger"] == self._account:
                out[Action.CHALLENGE, args["dispute"]] = Action.CHALLENGE, args["job"]
            elif name == "Demanded" and args["demander"] == self._account:
                out[Action.DEMAND, args["demand"]] = Action.DEMAND, args["job"]
            elif name == "Settled":
                back.add(out.pop((Action.CHALLENGE, args["dispute"]), None))
            elif name == "DemandClosed":
                back.add(out.pop((Action.DEMAND, args["demand"]), None))
        return _Seen(digest, out, frozenset(key for key in back if key is not None))

    def _sum(self, out: Iterable[Key]) -> Wei:
        return Wei(sum(self._each[action] for action, _ in out))


# what the watcher knew


class Entry(past.Entry, Protocol):
    @property
    def subject(self) -> str: ...


def signatures(entries: Iterable[Entry]) -> list[tuple[int, Wei]]:
    """(number of the journal's entry, wei) for each signature that gave a nonce to a challenge or a demand: all bonds that
    its signer knew to be out or asked for then, this one included. Another signature with the same nonce is no other bond.
    Of a market in which nobody else disputes: the journal's facts do not say who did."""
    found = []
    facts: list[tuple[int, Key, int]] = []
    wishes: dict[int, _Wish] = {}
    given: set[tuple[int, int]] = set()
    for entry in entries:
        told: dict[str, Any] = json.loads(entry.payload)
        if entry.kind == "rewound":
            facts = [fact for fact in facts if fact[0] <= told["to"]]
        elif entry.kind in _FACTS:
            action, sign = _FACTS[entry.kind]
            facts.append((told["block"], (action, _about(entry.subject)), sign))
        elif entry.kind.startswith("tx-") and told["action"] in (Action.CHALLENGE, Action.DEMAND):
            key = Action(told["action"]), _about(entry.subject)
            value = int(told["value"]) if "value" in told else wishes[told["id"]].value
            wishes[told["id"]] = _Wish(key, value, entry.kind in _LIVE)
            if entry.kind == "tx-signed" and (told["id"], told["nonce"]) not in given:
                given.add((told["id"], told["nonce"]))
                found.append((entry.seq, _known(facts, wishes.values())))
    return found


@dataclass(frozen=True, slots=True)
class _Wish:
    key: Key
    value: int
    live: bool


def _known(facts: Iterable[tuple[int, Key, int]], wishes: Iterable[_Wish]) -> Wei:
    """Bonds of open disputes and demands, and of live wishes that the chain does not show."""
    facts = list(facts)
    shown = {key for _, key, _ in facts}
    still: Counter[Key] = Counter()
    for _, key, sign in facts:
        still[key] += sign
    return Wei(sum(wish.value for wish in wishes if (still[wish.key] > 0 if wish.key in shown else wish.live)))


def _about(subject: str) -> bytes:
    return bytes.fromhex(subject.partition("/")[0][2:])
