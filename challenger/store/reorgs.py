"""What a reorg does to our decisions.

A commitment that vanishes is orphaned, its state kept aside. When it comes back under the same id it takes that
state up again, unless the facts the decisions rest on (block, window) changed: then it starts anew, provided that
nothing was spent on it; money once moving must be followed, whatever the draw says now. Likewise a draw whose block
was replaced by another is void. A move that rests on a chain event (``Work.move(on=…)``) is taken back with its block.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import delete, select, update

from challenger.domain import BlockNumber, CommitmentId, Committed, State, TxState
from challenger.store.bulk import rows_by
from challenger.store.journal import Entry, canonical
from challenger.store.rows import CommitmentRow, WorkRow
from challenger.store.schema import blocks, chain_moves, work
from challenger.store.subjects import subject_of
from challenger.store.unit import Unit

#: States in which money is on its way.
_SPENT = frozenset({State.FILING, State.FILED, State.DISPUTING, State.WON, State.LOST, State.WITHDRAWN})
_UNSPENT_TX = frozenset({TxState.INTENT, TxState.ABANDONED, TxState.REPLACED, TxState.REVERTED})
#: The columns of a row of ``work`` that starts, or starts anew.
ANEW: dict[str, Any] = {
    "state": State.OBSERVED.value,
    "before": None,
    "epoch": None,
    "p_millionths": None,
    "draw_block": None,
    "draw_hash": None,
    "drawn": None,
    "selected": None,
    "inputs": None,
    "verdict": None,
    "confirmation": None,
    "detail": "",
    "attempts": 0,
    "next_try": 0,
}
_ORPHANED = State.ORPHANED.value
#: Kinds of entries by which a draw is void, or stays in force although another would be made now.
REDRAWN = ("draw-orphaned", "restored")
_LATEST = 2**63 - 1
#: The columns of ``work`` that ``seen`` gives.
SEEN = ("seen_block", "seen_opens", "seen_closes")


def seen(event: Committed) -> tuple[int, int, int]:
    """The chain facts that decisions about a commitment rest on: block, opening and close of its window."""
    return event.at.block, min(event.committed_at, _LATEST), min(event.closes, _LATEST)


async def orphan(unit: Unit, vanished: Iterable[CommitmentRow]) -> None:
    """Marks the work on commitments that the chain no longer shows."""
    ids = [row.commitment for row in vanished]
    entries = []
    for row in await _work(unit, ids):
        if row.state != _ORPHANED:
            await _set(unit, row.commitment, {"state": _ORPHANED, "before": row.state})
            entries.append(_entry(unit, _ORPHANED, row.commitment, {"from": row.state}))
    await unit.journal.append(entries)


async def restore(unit: Unit, committed: Sequence[Committed]) -> frozenset[CommitmentId]:
    """Takes up orphaned work on commitments that are back; gives their ids."""
    query = select(work).where(work.c.state == _ORPHANED)
    orphans = {row.commitment: WorkRow(*row) for row in await unit.connection.execute(query)} if committed else {}
    # reversed: should a commitment come twice, its first event is the one that counts
    back = {event.commitment: event for event in reversed(committed) if event.commitment in orphans}
    for commitment, event in sorted(back.items()):
        row = orphans[commitment]
        before = State(row.before or State.OBSERVED)
        facts = dict(zip(SEEN, seen(event), strict=True))
        same = all(getattr(row, name) == value for name, value in facts.items())
        if same or await _is_spent(unit, commitment, before):
            await _set(unit, commitment, {**facts, "state": before.value, "before": None})
            told = {"from": _ORPHANED, "to": before.value, "same_facts": same}
        else:
            await _set(unit, commitment, {**facts, **ANEW})
            told = {"from": _ORPHANED, "to": ANEW["state"], "before": before.value, "same_facts": False}
        await unit.journal.append([_entry(unit, "restored", commitment, told)])
    return frozenset(back)


async def check_draws(unit: Unit, first: BlockNumber, last: BlockNumber) -> None:
    """Voids draws that were made with another block than the one the chain now has at that height."""
    joined = work.join(blocks, blocks.c.number == work.c.draw_block)
    query = select(work, blocks.c.hash).select_from(joined)
    query = query.where(work.c.draw_block >= first, work.c.draw_block <= last, work.c.draw_hash != blocks.c.hash)
    for *columns, digest in (await unit.connection.execute(query.where(work.c.state != _ORPHANED))).all():
        row = WorkRow(*columns)
        told: dict[str, Any] = {"from": row.state, "draw_block": row.draw_block, "was": row.draw_hash, "is": digest}
        spent = await _is_spent(unit, row.commitment, State(row.state))
        if not spent:
            await _set(unit, row.commitment, ANEW)
        await unit.journal.append([_entry(unit, "draw-orphaned", row.commitment, {**told, "kept": spent})])


async def take_back(unit: Unit, left: BlockNumber) -> None:
    """Takes back the moves that rest on blocks above ``left``: each row to where it stood before the first of them. Our
    transactions that were settled there are open again: the new branch may have them reverted, or not at all. Bonds that
    are only wished for, and not signed, are no more: the room that the caps had for them may be gone too."""
    await unit.transactions.reopen_above(left)
    await unit.transactions.give_up_unsigned("a reorganisation came first: what speaks against it is asked again")
    above = chain_moves.c.block > left
    moves = (await unit.connection.execute(select(chain_moves).where(above).order_by(chain_moves.c.id))).all()
    first: dict[CommitmentId, str] = {}
    for move in moves:
        first.setdefault(move.commitment, move.before)
    entries = []
    for row in await _work(unit, list(first)):
        state = first[row.commitment]
        column = "before" if row.state == _ORPHANED else "state"
        await _set(unit, row.commitment, {column: state})
        entries.append(_entry(unit, "taken-back", row.commitment, {"from": row.state, "to": state}))
    await unit.connection.execute(delete(chain_moves).where(above))
    await unit.journal.append(entries)


async def _is_spent(unit: Unit, commitment: CommitmentId, state: State) -> bool:
    if state in _SPENT:
        return True
    return any(row.state not in _UNSPENT_TX for row in await unit.transactions.about(commitment))


async def _work(unit: Unit, ids: Sequence[CommitmentId]) -> list[WorkRow]:
    rows = await rows_by(unit.connection, work, work.c.commitment, ids)
    return sorted(WorkRow(*row) for row in rows)


async def _set(unit: Unit, commitment: CommitmentId, changes: dict[str, Any]) -> None:
    values = {**changes, "updated": unit.now, "version": work.c.version + 1}
    await unit.connection.execute(update(work).where(work.c.commitment == commitment).values(**values))


def _entry(unit: Unit, kind: str, commitment: CommitmentId, told: dict[str, Any]) -> Entry:
    return Entry(unit.now, kind, subject_of(commitment), canonical(told))
