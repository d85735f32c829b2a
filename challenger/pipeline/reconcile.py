"""An old copy of the database never files twice.

Whoever puts back a copy has rows that know nothing of what was filed since. The chain does: before anything is spent,
the index must have reached its head and nothing of ours may wait in the mempool, and each dispute and demand of ours
that the rows do not know is taken over by its row, to be followed to its end like any other. Only the waiting needs a
reason to suspect an old copy; what is found is taken over at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from challenger.chain.answers import Count
from challenger.domain import Address, Block
from challenger.errors import JournalBroken
from challenger.store.adopt import adopt, strays
from challenger.store.engine import Store
from challenger.store.heads import Publisher
from challenger.store.rows import HeadRow
from challenger.store.subjects import subject_of
from challenger.telemetry.logs import say

#: Seconds of chain time for which one endpoint's word is enough that something waits; then most endpoints must say so.
_WAITS = 120


class Nonces(Protocol):
    async def nonce(self, address: Address, block: str = "latest") -> int: ...

    async def count(self, address: Address, block: str = "latest") -> Count: ...


class Reconciler:
    """``holding``: why nothing may be spent yet, empty once it may. ``account`` None: a watcher that spends nothing.
    ``newest``: the chain's head as the follower saw it last."""

    def __init__(
        self, store: Store, chain: Nonces, account: Address | None, newest: Callable[[], Block | None], holding: str
    ) -> None:
        self._store = store
        self._chain = chain
        self._account = account
        self._newest = newest
        self.holding = holding
        self._since: int | None = None

    @classmethod
    async def started(
        cls,
        store: Store,
        chain: Nonces,
        account: Address | None,
        newest: Callable[[], Block | None],
        publisher: Publisher,
        doubt: str = "",
    ) -> Reconciler:
        """Looks for signs that the database is an old copy: published heads that its journal does not have, nonces that
        it does not know. ``doubt``: why it is known to be one."""
        holding = ""
        if account is not None:
            try:
                heads: Sequence[HeadRow] = await publisher.published()
            except JournalBroken as error:
                heads = ()
                say("heads-unreadable", level=logging.WARNING, error=str(error))
            holding = doubt or await _other_journal(store, heads) or await _unknown(store, chain, account)
        if holding:
            say("old-copy", level=logging.WARNING, why=holding, until="the index is at the head")
        return cls(store, chain, account, newest, holding)

    async def step(self, head: Block) -> bool:
        """Takes over what is found; lifts the hold when nothing more can come. ``head``: the index's. Raises StaleRow
        when a row moved meanwhile: looked at again in the next step, before anything is filed."""
        if self._account is None:
            return False
        async with self._store.read() as view:
            found = await strays(view, self._account)
        taken = await self._chain.nonce(self._account, "latest") if found or self.holding else 0
        if found:
            async with self._store.begin(head.time) as unit:
                for stray in found:
                    await adopt(unit, stray, taken)
        for stray in found:
            say("adopted", level=logging.WARNING, commitment=subject_of(stray.commitment), block=stray.block)
        newest = self._newest()
        if not self.holding or newest is None or head.number < newest.number:
            return bool(found)
        if await self._waiting(self._account, head, taken):
            return bool(found)
        say("reconciled", block=head.number, was=self.holding)
        self.holding = ""
        return True

    async def _waiting(self, account: Address, head: Block, taken: int) -> bool:
        """Whether a transaction that nobody here knows may still be mined. The sender outbids it meanwhile."""
        if await self._chain.nonce(account, "pending") <= taken:
            return False
        self._since = head.time if self._since is None else self._since
        return head.time - self._since < _WAITS or (await self._chain.count(account, "pending")).agreed > taken


async def _other_journal(store: Store, heads: Sequence[HeadRow]) -> str:
    newest = max(heads, key=lambda head: head.seq, default=None)
    if newest is None:
        return ""
    async with store.read() as view:
        tip = await view.journal.tip()
        rows = await view.journal.after(newest.seq - 1, 1)
    if newest.seq > tip.seq:
        return f"a head was published for entry {newest.seq}, and the journal ends at {tip.seq}"
    if not rows or rows[0].hash != newest.hash:
        return f"the head published for entry {newest.seq} is of another journal"
    return ""


async def _unknown(store: Store, chain: Nonces, account: Address) -> str:
    sent = await chain.nonce(account, "pending")
    async with store.read() as view:
        known = await view.transactions.next_nonce(account) or 0
    return f"the account has sent {sent} transactions, and the record knows {known}" if sent > known else ""
