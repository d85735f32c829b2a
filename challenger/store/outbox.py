"""``Transactions``, one SQL transaction a call, for the sender: the one writer that owns an account's nonces.

Ownership is a fence with a lease (``fences.py``): every write of an older owner raises ``TakenOver``, and one whose
lease has run out ``LeaseExpired``. So a process that was thought dead and wakes up cannot sign beside its successor.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from challenger.domain import Address, BlockNumber, CommitmentId, Hash32, Intent, TxState, UnixTime
from challenger.errors import GivenUp
from challenger.store.rows import AttemptRow, TransactionRow
from challenger.store.subjects import subject_of
from challenger.store.transactions import FILINGS, SignedVersion, Transactions
from challenger.store.unit import Unit, View


class Opens(Protocol):
    """The store, as far as the outbox needs it."""

    def begin(self, now: UnixTime) -> AbstractAsyncContextManager[Unit]: ...
    def read(self) -> AbstractAsyncContextManager[View]: ...


class Outbox:
    """Made with a lease's token, or by ``claim``. Every method but the mere look-ups raises TakenOver once another
    process owns the account, and LeaseExpired while nobody renews it."""

    def __init__(self, store: Opens, account: Address, token: int) -> None:
        self._store = store
        self._account = account
        self._token = token

    @classmethod
    async def claim(cls, store: Opens, account: Address, holder: str, now: UnixTime) -> Outbox:
        """The outbox of ``account`` in the hands of ``holder`` (a name for the record), whoever had it before, for an
        hour: for a program that does one thing and ends. The watcher has a ``Lease``."""
        async with store.begin(now) as unit:
            return cls(store, account, await unit.fences.claim(account, holder))

    async def propose(self, intent: Intent, account: Address, now: UnixTime, *, again: bool = False) -> TransactionRow:
        async with self._owned(now) as transactions:
            return await transactions.propose(intent, account, again=again)

    async def unfinished(self, account: Address) -> list[TransactionRow]:
        async with self._store.read() as view:
            # every step of the sender begins here: one that woke up late is not even to send again
            await view.fences.hold(self._account, self._token)
            return await view.transactions.unfinished(account)

    async def next_nonce(self, account: Address) -> int | None:
        async with self._store.read() as view:
            return await view.transactions.next_nonce(account)

    async def settled(self, account: Address, nonce: int) -> TransactionRow | None:
        async with self._store.read() as view:
            return await view.transactions.settled(account, nonce)

    async def signed(self, row: int, made: SignedVersion) -> AttemptRow:
        async with self._store.begin(made.signed_at) as unit:
            await unit.fences.hold(self._account, self._token)
            why = await _given_up(unit, row)
            if not why:
                return await unit.transactions.signed(row, made)
        raise GivenUp(why)  # after the commit: a pause that came first has its way for good

    async def sent(self, row: int, number: int, now: UnixTime) -> None:
        async with self._owned(now) as transactions:
            await transactions.sent(row, number)

    async def mined(
        self,
        row: int,
        tx_hash: Hash32,
        block: BlockNumber,
        block_hash: Hash32,
        gas_used: int,
        now: UnixTime,
        *,
        mined_at: UnixTime,
    ) -> None:
        async with self._store.begin(now) as unit:
            await unit.fences.hold(self._account, self._token)
            await unit.transactions.mined(row, tx_hash, block, block_hash, gas_used)
            versions = await _of_one_try(unit, row, tx_hash)
            sent = [version.sent_at for version in versions if version.sent_at is not None]
            if sent:
                # how long a transaction of ours takes to be in a block, with its replacements: what the slack is reckoned
                # with. By the block's time: one that was mined while we were away took no longer for that
                await unit.latencies.add("inclusion", max(0, mined_at - min(sent)))

    async def unmined(self, row: int, now: UnixTime) -> None:
        async with self._owned(now) as transactions:
            await transactions.unmined(row)

    async def reopened(self, row: int, now: UnixTime) -> TransactionRow:
        async with self._owned(now) as transactions:
            await transactions.reopened(row)
            return await transactions.get(row)

    async def requeued(self, row: int, detail: str, now: UnixTime) -> None:
        async with self._owned(now) as transactions:
            await transactions.requeued(row, detail)

    async def closed(self, row: int, state: TxState, detail: str, now: UnixTime) -> None:
        async with self._owned(now) as transactions:
            await transactions.closed(row, state, detail)

    @asynccontextmanager
    async def _owned(self, now: UnixTime) -> AsyncIterator[Transactions]:
        async with self._store.begin(now) as unit:
            await unit.fences.hold(self._account, self._token)
            yield unit.transactions


async def _of_one_try(unit: Unit, identity: int, tx_hash: Hash32) -> list[AttemptRow]:
    """The versions of the try in which ``tx_hash`` was signed. Where a try begins the journal says: the nonce does not, since
    an empty transaction that gives one up has the same at each try. None where the journal's latest do not reach so far."""
    row = await unit.transactions.get(identity)
    number = next(attempt.number for attempt in row.attempts if attempt.hash == tx_hash)
    tried: set[int] = set()
    for entry in await unit.journal.about(row.intent.subject):
        told = json.loads(entry.payload) if entry.kind.startswith("tx-") else {}
        if told.get("id") != identity:
            continue
        if entry.kind == "tx-intent" and number in tried:
            break
        if entry.kind == "tx-intent":
            tried.clear()
        elif "signed_hash" in told:
            tried.add(told["attempt"])
    return [attempt for attempt in row.attempts if attempt.number in tried] if number in tried else []


async def _given_up(unit: Unit, identity: int) -> str:
    """Why a wish is not to be signed any more: it was given up, or a pause stands over it by now and it is given up here;
    else empty. What is signed already goes its way."""
    row = await unit.transactions.get(identity)
    if row.state is TxState.ABANDONED:
        return row.error or row.state
    if row.state is not TxState.INTENT or row.intent.action not in FILINGS:
        return ""
    item = await unit.work.item(CommitmentId(bytes.fromhex(row.intent.subject[2:66])))
    why = await unit.approvals.against(*([] if item is None else [subject_of(item.commitment.model)]))
    if why:
        await unit.transactions.give_up(identity, why)
    return why
