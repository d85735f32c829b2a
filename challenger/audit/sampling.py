"""Gathers what ``sampling.audit`` judges: an epoch's rows from the database, and what the chain itself says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from challenger.audit.facts import cursor_of
from challenger.audit.unread import UNREADABLE
from challenger.chain.answers import RawLog
from challenger.chain.codec import encode_call
from challenger.chain.follower import LeftOut
from challenger.contracts import artifact
from challenger.domain import (
    Action,
    Address,
    Block,
    BlockNumber,
    ChainEvent,
    CommitmentId,
    Committed,
    Hash32,
    State,
    VerdictKind,
)
from challenger.errors import EndpointError, StoreError
from challenger.sampling.audit import Anchor, Drawn, Finding, Promise, Report, check_epoch, plain
from challenger.sampling.draw import Epoch
from challenger.sampling.past import past_draws
from challenger.sampling.policy import Inputs, Policy
from challenger.store.bulk import rows_by
from challenger.store.rows import EpochRow
from challenger.store.schema import verdicts
from challenger.store.unit import View
from challenger.store.work import Item

#: Blocks asked for at once; endpoints limit ranges.
_RANGE = 2_000


class Chain(Protocol):
    async def blocks(self, which: Sequence[int]) -> list[Block]: ...
    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Sequence[Sequence[bytes]]
    ) -> list[RawLog]: ...
    async def call(self, to: Address, data: bytes) -> bytes: ...
    async def block(self, which: str) -> Block: ...


class Decoding(Protocol):
    """The protocol's adapter."""

    @property
    def name(self) -> str: ...
    @property
    def emitters(self) -> tuple[Address, ...]: ...
    @property
    def topics(self) -> tuple[bytes, ...]: ...
    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]: ...


async def audit_epoch(
    view: View,
    row: EpochRow,
    anchor: Address,
    chain: Chain | None = None,
    decoder: Decoding | None = None,
    *,
    bound: int = 0,
) -> Report:
    """The report on one epoch; without ``chain``, and the ``decoder`` of its logs, it says what could not be compared.
    ``bound``: the last entry of the journal that a published head binds; nothing that lies behind it excuses a draw."""
    items = await view.work.between(row.opens_block, row.closes_block)
    judged = await _judged(view, items)
    rows, unread = [], []
    for item in items:
        try:
            rows.append(_drawn(item, judged))
        except UNREADABLE:
            unread.append(_unread(item.work.commitment))
    limits: list[str] = []
    if chain is None or decoder is None:
        on_chain = {CommitmentId(i.commitment.commitment): i.commitment.block for i in items}
        hashes = await view.chain.block_hashes(sorted({r.draw_block for r in rows if r.draw_block is not None}))
        found = None
    else:
        last, head, limits = await _common(view, chain, row, max((one.block for one in rows), default=None))
        if beyond := [one for one in rows if one.block > last]:
            limits.append(
                f"the endpoint's chain ends at block {last}, before the record: {len(beyond)} commitments are not looked at"
            )
            rows = [one for one in rows if one.block <= last]
        on_chain = await _on_chain(chain, decoder, row, last)
        drawn = {r.draw_block for r in rows if r.draw_block is not None and r.draw_hash is not None}
        wanted = sorted(number for number in drawn if number <= head)
        hashes = {block.number: block.hash for block in await chain.blocks(wanted)} if wanted else {}
        found = await _anchor(view, chain, decoder.name, anchor, row)
    promise = _promise(row)
    rows, more = await _with_past(view, rows, promise.epoch, on_chain, hashes)
    unread += more
    on_chain = {one: block for one, block in on_chain.items() if one not in {finding.commitment for finding in unread}}
    named = {one.epoch for drawn in rows for one in drawn.past}
    promises = {one.number: _promise(one) for one in await view.epochs.all() if one.number in named} if named else {}
    report = check_epoch(*promise, row.commitment, on_chain, rows, hashes, found, promises=promises, bound=bound)
    report.findings += unread
    report.notes += limits
    if row.revealed_at is None:
        report.notes.append("the secret is not revealed yet: only the watcher itself can run this audit now")
    if chain is None:
        report.notes = [note for note in report.notes if not note.startswith("unanchored")]
        report.notes.append("offline: the list of commitments, the draw blocks and the anchor are the database's word")
    return report


async def _judged(view: View, items: Sequence[Item]) -> dict[bytes, set[int]]:
    """The verdicts that say VALID or FRAUD, by commitment. Together: an epoch may hold tens of thousands."""
    rows = await rows_by(view.connection, verdicts, verdicts.c.commitment, [item.work.commitment for item in items])
    found: dict[bytes, set[int]] = {}
    for row in rows:
        if row.kind in (VerdictKind.VALID, VerdictKind.FRAUD):
            found.setdefault(row.commitment, set()).add(row.id)
    return found


def _drawn(item: Item, judged: Mapping[bytes, set[int]]) -> Drawn:
    work = item.work
    return Drawn(
        CommitmentId(work.commitment),
        item.commitment.block,
        None if work.inputs is None else Inputs.from_json(json.loads(work.inputs)),
        work.p_millionths,
        work.draw_block,
        work.draw_hash,
        work.selected,
        State(work.state),
        frozenset(judged.get(work.commitment, ())),
        work.drawn,
    )


async def _with_past(
    view: View,
    rows: Sequence[Drawn],
    epoch: Epoch,
    on_chain: Mapping[CommitmentId, BlockNumber],
    hashes: Mapping[BlockNumber, Hash32],
) -> tuple[list[Drawn], list[Finding]]:
    """``rows``, those that do not hold by themselves with what the journal tells of their draws; and of which it cannot be
    read."""
    found, unread = [], []
    for row in rows:
        canonical = None if row.draw_block is None else hashes.get(row.draw_block)
        if plain(row, epoch, on_chain.get(row.commitment, row.block), canonical):
            found.append(row)
            continue
        try:
            found.append(replace(row, past=tuple(past_draws(await view.journal.life(row.commitment)))))
        except UNREADABLE:
            unread.append(_unread(row.commitment))
    return found, unread


def _unread(commitment: bytes) -> Finding:
    what = "its row in the record cannot be read: a state, inputs or entries that there are not"
    return Finding(CommitmentId(commitment), what)


async def _common(
    view: View, chain: Chain, row: EpochRow, recorded: BlockNumber | None
) -> tuple[BlockNumber, BlockNumber, list[str]]:
    """The last block that record and endpoint have both read, the endpoint's head, and what that leaves out of the epoch.
    ``recorded``: of the last commitment in the epoch's rows, below which no cursor hides anything."""
    head = (await chain.block("latest")).number
    cursor = await cursor_of(view)
    read = BlockNumber(max(-1 if cursor is None else cursor, -1 if recorded is None else recorded))
    limits = []
    if max(read + 1, row.opens_block) <= min(head, row.closes_block - 1):
        limits.append(
            f"the record ends at block {read} and the chain at {head}: what was committed between is not looked at"
        )
    mine = None if cursor is None or cursor > head else await view.chain.block(BlockNumber(cursor))
    if mine is not None and (await chain.blocks([mine.number]))[0].hash != mine.hash:
        limits.append(
            f"block {mine.number}, the record's last, is not the chain's: the watcher has not followed that reorganisation yet"
        )
    return min(read, head), head, limits


async def _on_chain(
    chain: Chain, decoder: Decoding, row: EpochRow, last: BlockNumber
) -> dict[CommitmentId, BlockNumber]:
    """Every commitment that the endpoint shows in the epoch's blocks up to ``last``."""
    found: dict[CommitmentId, BlockNumber] = {}
    first, end = row.opens_block, min(row.closes_block, last + 1)
    while first < end:
        until = min(first + _RANGE, end) - 1
        logs = await chain.logs(decoder.emitters, first, until, [decoder.topics])
        for event in await decoder.events(logs, lambda _: None):
            if isinstance(event, Committed):
                found[event.commitment] = event.at.block
        first = BlockNumber(until + 1)
    return found


async def _anchor(view: View, chain: Chain, protocol: str, contract: Address, row: EpochRow) -> Anchor | None:
    """What the anchor contract holds for the account that anchored this epoch; None where nothing stands."""
    sent = await view.transactions.find(protocol, f"epoch/{row.number}", Action.ANCHOR)
    if sent is None or not contract:
        return None
    answer = await chain.call(contract, encode_call(artifact("EpochAnchor").abi, "entryOf", [sent.account, row.number]))
    if len(answer) != 128:
        raise EndpointError("the anchor contract's answer is malformed", address=contract)
    commitment, block = answer[:32], int.from_bytes(answer[64:96], "big")
    return Anchor(Hash32(commitment), BlockNumber(block)) if any(commitment) else None


def _promise(row: EpochRow) -> Promise:
    epoch = Epoch(row.number, row.opens_block, row.closes_block, row.delay, row.secret, Hash32(row.policy_digest))
    return Promise(epoch, _policy(row))


def _policy(row: EpochRow) -> Policy:
    try:
        return Policy(**json.loads(row.policy))
    except (TypeError, ValueError) as error:
        raise StoreError(f"the recorded policy of epoch {row.number} cannot be read: {error}") from error
