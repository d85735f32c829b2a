"""Disputes and demands of ours that our own rows do not know: an old copy of the database was put back.

The chain says that we opened them, and no transaction that we ever signed, as far as the rows go, is theirs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import insert, literal, select, update

from challenger.domain import Action, Address, BlockNumber, CommitmentId, DemandOutcome, State, TxState
from challenger.errors import StaleRow
from challenger.store.journal import canonical
from challenger.store.schema import attempts, chain_moves, demands, disputes, work
from challenger.store.subjects import subject_of
from challenger.store.unit import Unit, View

#: Where a row stands that does not know of our filing.
_BEFORE = (
    State.OBSERVED,
    State.SKIPPED,
    State.SAMPLED,
    State.REPLAYED,
    State.CONFIRMED,
    State.FILING,
    State.SHED,
    State.UNAVAILABLE,
    State.INCONCLUSIVE,
)
_OPENINGS = (Action.CHALLENGE, Action.DEMAND)


class Stray(NamedTuple):
    """``block``: where it was opened; ``part``: what was demanded, empty for a dispute."""

    commitment: CommitmentId
    state: str
    block: BlockNumber
    part: str


async def strays(view: View, account: Address) -> list[Stray]:
    """One for each commitment, its dispute before its demand. A demand that was answered is over, and the replay went
    on: it needs no following."""
    known = select(attempts.c.hash)
    states = work.c.state.in_([state.value for state in _BEFORE])
    rows: list[Any] = []
    for table, owner, part in (
        (disputes, disputes.c.challenger, literal("").label("part")),
        (demands, demands.c.demander, demands.c.part),
    ):
        joined = table.join(work, work.c.commitment == table.c.commitment)
        query = select(work.c.commitment, work.c.state, table.c.block, part).select_from(joined)
        query = query.where(owner == account, table.c.tx_hash.not_in(known), states)
        if table is demands:
            query = query.where(demands.c.outcome != DemandOutcome.ANSWERED.value)
        rows += (await view.connection.execute(query.order_by(table.c.block.desc()))).all()
    found: dict[CommitmentId, Stray] = {}
    for row in rows:
        found.setdefault(row.commitment, Stray(*row))
    return list(found.values())


async def adopt(unit: Unit, stray: Stray, taken: int) -> None:
    """The row goes to FILED, beside the arrows, and back should ``stray.block`` leave the chain; its own openings that
    were not mined are given up (``taken``: nonces that the chain has used). Raises StaleRow when the row has moved."""
    where = (work.c.commitment == stray.commitment) & (work.c.state == stray.state)
    changes: dict[str, Any] = {"state": State.FILED.value, "next_try": 0, "updated": unit.now}
    if stray.part:
        changes["detail"] = stray.part
    done = await unit.connection.execute(update(work).where(where).values(**changes, version=work.c.version + 1))
    if done.rowcount != 1:
        raise StaleRow(commitment=subject_of(stray.commitment), expected=stray.state)
    moved = {"commitment": stray.commitment, "block": stray.block, "before": stray.state}
    await unit.connection.execute(insert(chain_moves).values(**moved))
    told = {"from": stray.state, "block": stray.block, "part": stray.part}
    await unit.journal.append([(unit.now, "adopted", subject_of(stray.commitment), canonical(told))])
    why = "the chain shows what it was to open already"
    for row in await unit.transactions.about(stray.commitment):
        if row.intent.action not in _OPENINGS:
            continue
        if row.state is TxState.INTENT:
            await unit.transactions.closed(row.id, TxState.ABANDONED, why)
        elif row.state in (TxState.SIGNED, TxState.SENT) and row.nonce is not None and row.nonce < taken:
            await unit.transactions.closed(row.id, TxState.REPLACED, why)
