"""Transactions that wait for a block, by the rules and in the words of geth, which senders are written against."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any

Tx = Any  # a signed transaction of py-evm: nonce, gas, value, max_fee_per_gas, max_priority_fee_per_gas, sender, hash
#: A replacement raises both fees by this many percent at least.
BUMP = 10


class Refused(Exception):
    """the transaction does not enter the pool"""


class Pool:
    """Waiting transactions by sender and nonce. Pure: state of accounts is handed in."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, dict[int, Tx]] = {}
        self._arrivals: dict[bytes, int] = {}  # hash → order of arrival
        self._arrived = 0

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._arrivals

    def __iter__(self) -> Iterator[Tx]:
        for by_nonce in self._waiting.values():
            yield from by_nonce.values()

    def copy(self) -> Pool:
        twin = Pool()
        twin._waiting = {sender: dict(by_nonce) for sender, by_nonce in self._waiting.items()}
        twin._arrivals = dict(self._arrivals)
        twin._arrived = self._arrived
        return twin

    def find(self, tx_hash: bytes) -> Tx | None:
        return next((tx for tx in self if tx.hash == tx_hash), None) if tx_hash in self else None

    def add(self, tx: Tx, *, nonce: int, balance: int) -> None:
        """``nonce`` and ``balance`` are the sender's on chain. ``Refused`` says why not."""
        if tx.hash in self:
            raise Refused("already known")
        if tx.nonce < nonce:
            raise Refused(f"nonce too low: next nonce {nonce}, tx nonce {tx.nonce}")
        by_nonce = self._waiting.get(tx.sender, {})
        cost = tx.gas * tx.max_fee_per_gas + tx.value
        if cost > balance:
            raise Refused(
                f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {cost - balance}"
            )
        if (old := by_nonce.get(tx.nonce)) is not None:
            fees = _bumped(old.max_fee_per_gas, tx.max_fee_per_gas)
            if not (fees and _bumped(old.max_priority_fee_per_gas, tx.max_priority_fee_per_gas)):
                raise Refused("replacement transaction underpriced")
            del self._arrivals[old.hash]
        self._waiting.setdefault(tx.sender, {})[tx.nonce] = tx
        self._arrived += 1
        self._arrivals[tx.hash] = self._arrived

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The first nonce that neither chain nor pool has used, gaps not skipped."""
        by_nonce = self._waiting.get(sender, {})
        while nonce in by_nonce:
            nonce += 1
        return nonce

    def remove(self, tx: Tx) -> None:
        by_nonce = self._waiting.get(tx.sender, {})
        if (found := by_nonce.get(tx.nonce)) is not None and found.hash == tx.hash:
            del by_nonce[tx.nonce]
            del self._arrivals[tx.hash]
            if not by_nonce:  # who waits for nothing is not asked for a nonce at every block
                del self._waiting[tx.sender]

    def drop_stale(self, nonce_of: Callable[[bytes], int]) -> None:
        """Forgets what the chain's nonces have overtaken."""
        for sender, by_nonce in list(self._waiting.items()):
            nonce = nonce_of(sender)
            for tx in [tx for tx in by_nonce.values() if tx.nonce < nonce]:
                self.remove(tx)

    def best_first(self, base_fee: int, nonce_of: Callable[[bytes], int], mine: Callable[[Tx], bool]) -> None:
        """Offers to ``mine`` what may be mined now: nonces without gaps, fees that cover ``base_fee``, the higher tip
        first, then the earlier arrival. A sender's next transaction is offered only when ``mine`` took the one before.
        """
        heap: list[tuple[int, int, Tx]] = []

        def offer(sender: bytes, nonce: int) -> None:
            tx = self._waiting.get(sender, {}).get(nonce)
            if tx is not None and tx.max_fee_per_gas >= base_fee:
                tip = min(tx.max_priority_fee_per_gas, tx.max_fee_per_gas - base_fee)
                heapq.heappush(heap, (-tip, self._arrivals[tx.hash], tx))

        for sender in self._waiting:
            offer(sender, nonce_of(sender))
        while heap:
            tx = heapq.heappop(heap)[2]
            if mine(tx):
                offer(tx.sender, tx.nonce + 1)


def _bumped(old: int, new: int) -> bool:
    return new * 100 >= old * (100 + BUMP) and new > old
