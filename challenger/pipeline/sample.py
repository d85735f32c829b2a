"""Epochs are opened ahead of time, rates are fixed from journalled inputs, and the draw decides. In that order.

Every step reads rows, and what it writes it writes with compare-and-set: two samplers do no harm, a killed one leaves
nothing half done.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from challenger.domain import (
    Action,
    Address,
    Block,
    BlockNumber,
    CommitmentId,
    Hash32,
    Intent,
    State,
    TxState,
    UnixTime,
    Wei,
)
from challenger.protocols.base import NO_DEADLINE
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.policy import Inputs, Policy, rate
from challenger.store.engine import Store
from challenger.store.rows import EpochRow
from challenger.store.work import Item

#: Commitments rated or drawn in one SQL transaction.
BATCH = 5_000
#: An epoch opens no sooner than this many blocks after the head at which it was made: time for its anchor to land.
LEAD = 10


class Headers(Protocol):
    async def blocks(self, which: Sequence[int]) -> list[Block]: ...


class Anchoring(Protocol):
    """Builds the transactions that publish an epoch; None of them where there is no contract or no key. ``protocol``: which
    they belong to."""

    @property
    def protocol(self) -> str: ...

    def anchor(self, epoch: int, commitment: Hash32, deadline: UnixTime) -> Intent | None: ...

    def reveal(self, epoch: int, secret: Hash32) -> Intent | None: ...


class Sampler:
    """``burnt``: wei of a slash that reach nobody; what deters a provider who would challenge itself. ``depth``: blocks
    after which a block counts as settled."""

    def __init__(
        self,
        store: Store,
        headers: Headers,
        policy: Policy,
        anchoring: Anchoring,
        *,
        account: Address | None,
        burnt: Wei,
        start: BlockNumber,
        length: int,
        delay: int,
        depth: int,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._headers = headers
        self._policy = policy
        self._anchoring = anchoring
        self._account = account
        self._burnt = burnt
        self._start = start
        self._length = length
        self._delay = delay
        self._depth = depth
        self._entropy = entropy

    async def step(self, head: Block) -> bool:
        """One look; True when something moved."""
        opened = await self._open_epochs(head)
        rated = await self._rate(head)
        drawn = await self._draw(head)
        anchored = await self._note_anchors(head)
        revealed = await self._reveal(head)
        return opened or rated or drawn or anchored or revealed

    async def _open_epochs(self, head: Block) -> bool:
        """Keeps one epoch ahead of the head. After a gap (first start, downtime) one late epoch covers it all; the
        audit tells by the anchor's block which draws it came too late for."""
        async with self._store.read() as view:
            last = await view.epochs.latest()
        if last is not None and last.opens_block > head.number:
            return False
        number = 0 if last is None else last.number + 1
        opens = self._start if last is None else last.closes_block
        # boundaries are multiples of the length, so that anyone can name the epoch of a block
        end = max(opens + 1, head.number + LEAD)
        closes = BlockNumber(-(-end // self._length) * self._length)
        secret = self._entropy(32)
        epoch = Epoch(number, opens, closes, self._delay, secret, self._policy.digest())
        policy = json.dumps(asdict(self._policy), sort_keys=True, separators=(",", ":"))
        commitment = epoch.commitment()
        row = EpochRow(number, opens, closes, self._delay, secret, epoch.policy_digest, policy, commitment)
        async with self._store.begin(head.time) as unit:
            await unit.epochs.open(row)
            intent = self._anchoring.anchor(number, commitment, NO_DEADLINE)
            if intent is not None and self._account is not None:
                await unit.transactions.propose(intent, self._account)
        return True

    async def _rate(self, head: Block) -> bool:
        async with self._store.read() as view:
            items = [i for i in await view.work.items([State.OBSERVED], limit=BATCH) if i.work.p_millionths is None]
            epochs = {e.number: e for e in await view.epochs.all()} if items else {}
            records = await view.work.provider_records({i.commitment.provider for i in items})
            fees = {}
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in items])
            for item in items:
                task = tasks.get(item.commitment.task)
                fees[item.work.commitment] = Wei(0) if task is None else task.fee
        ready = [(item, epoch) for item in items if (epoch := _epoch_of(epochs, item)) is not None]
        if not ready:
            return False
        policies = {epoch.number: _policy_of(epoch) for _, epoch in ready}
        notes: list[tuple[CommitmentId, State, dict[str, Any]]] = []
        for item, epoch in ready:
            sampled, frauds = records[item.commitment.provider]
            inputs = Inputs(sampled, frauds, fees[item.work.commitment], self._burnt)
            changes = {
                "epoch": epoch.number,
                "inputs": inputs.as_json(),
                "p_millionths": rate(policies[epoch.number], inputs),
                "draw_block": item.commitment.block + epoch.delay,
            }
            notes.append((CommitmentId(item.work.commitment), State.OBSERVED, changes))
        async with self._store.begin(head.time) as unit:
            return bool(await unit.work.many(State.OBSERVED, notes))

    async def _draw(self, head: Block) -> bool:
        async with self._store.read() as view:
            rated = [
                item
                for item in await view.work.items([State.OBSERVED], limit=BATCH)
                if item.work.draw_block is not None and item.work.draw_block <= head.number
            ]
            secrets_by_epoch = {e.number: e.secret for e in await view.epochs.all()} if rated else {}
            numbers = sorted({i.work.draw_block for i in rated if i.work.draw_block is not None})
            ledger = await view.chain.block_hashes(numbers)
        if not rated:
            return False
        missing = [number for number in numbers if number not in ledger]
        below = await self._headers.blocks(missing) if missing else []
        hashes = ledger | {block.number: block.hash for block in below}
        draws: list[tuple[CommitmentId, State, dict[str, Any]]] = []
        for item in rated:
            row = item.work
            found = hashes.get(row.draw_block) if row.draw_block is not None else None
            if found is None or row.epoch is None or row.p_millionths is None:
                continue
            value = draw(secrets_by_epoch[row.epoch], CommitmentId(row.commitment), found)
            chosen = selects(value, row.p_millionths)
            told = {"draw_hash": found, "drawn": value.to_bytes(32, "big"), "selected": chosen}
            draws.append((CommitmentId(row.commitment), State.SAMPLED if chosen else State.SKIPPED, told))
        async with self._store.begin(head.time) as unit:
            return bool(await unit.work.many(State.OBSERVED, draws))  # those that a reorg took away meanwhile stay

    async def _note_anchors(self, head: Block) -> bool:
        """Takes down in which block an epoch's anchor was mined, once that is final."""
        async with self._store.read() as view:
            open_ones = [e for e in await view.epochs.all() if e.anchor_block is None]
            sent = {
                e.number: await view.transactions.find(self._anchoring.protocol, f"epoch/{e.number}", Action.ANCHOR)
                for e in open_ones
            }
        final = [
            (number, tx.hash, tx.block)
            for number, tx in sent.items()
            if tx is not None and tx.state is TxState.FINAL and tx.hash is not None
        ]
        if not final:
            return False
        async with self._store.begin(head.time) as unit:
            for number, digest, block in final:
                await unit.epochs.anchored(number, digest, block)
        return True

    async def _reveal(self, head: Block) -> bool:
        """Publishes the secret of each epoch whose commitments are all drawn and whose windows have all closed, once
        its blocks are too deep for a reorganisation to bring another commitment into it."""
        async with self._store.read() as view:
            settled = head.number - self._delay - self._depth
            waiting = [e for e in await view.epochs.all() if e.revealed_at is None and e.closes_block < settled]
            done = []
            for epoch in waiting:
                last = await view.chain.last_close(epoch.opens_block, epoch.closes_block)
                if last is not None and last > head.time:
                    continue
                items = await view.work.between(epoch.opens_block, epoch.closes_block)
                if all(item.work.selected is not None for item in items):
                    done.append(epoch)
        for epoch in done:
            async with self._store.begin(head.time) as unit:
                await unit.epochs.revealed(epoch.number, None)
                intent = self._anchoring.reveal(epoch.number, Hash32(epoch.secret))
                if intent is not None and self._account is not None:
                    await unit.transactions.propose(intent, self._account)
        return bool(done)


def _epoch_of(epochs: dict[int, EpochRow], item: Item) -> EpochRow | None:
    block = item.commitment.block
    return next((e for e in epochs.values() if e.opens_block <= block < e.closes_block), None)


def _policy_of(epoch: EpochRow) -> Policy:
    return Policy(**json.loads(epoch.policy))
