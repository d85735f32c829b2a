"""What is open now, in a few counts: for the first page a person looks at. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Address,
    Block,
    CommitmentId,
    DemandOutcome,
    DisputeOutcome,
    State,
    TxState,
    UnixTime,
    Wei,
)
from challenger.store.rows import PauseRow
from challenger.store.schema import (
    blocks,
    commitments,
    demands,
    disputes,
    fences,
    models,
    pauses,
    transactions,
    work,
)

#: What is to be done before its window closes.
PRESSING = (State.OBSERVED, State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING)
#: What the watcher has drawn and must answer for.
_DRAWN = PRESSING[1:]


@dataclass(frozen=True, slots=True)
class Nearest:
    """The work whose window closes first. ``slack``: seconds of chain time until then."""

    commitment: CommitmentId
    state: State
    closes: UnixTime
    slack: int


@dataclass(frozen=True, slots=True)
class Overview:
    """``head``: the last indexed block. ``open_windows``: commitments that may still be disputed. Amounts are wei:
    ``bonds`` ours in open disputes and demands, ``pending`` in filings under way; ``paid`` and ``burnt`` by all closed ones, ``ours_paid`` what came to us."""

    head: Block | None
    states: dict[State, int]
    transactions: dict[TxState, int]
    open_windows: int
    nearest: Nearest | None
    open_disputes: int
    open_demands: int
    our_open: int
    bonds: Wei
    pending: Wei
    paid: Wei
    burnt: Wei
    ours_paid: Wei
    models: int
    pauses: list[PauseRow]
    accounts: frozenset[Address]


class Overviews:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def now(self) -> Overview:
        """As of the last indexed block."""
        run = self._connection.execute
        row = (await run(select(blocks).order_by(blocks.c.number.desc()).limit(1))).one_or_none()
        head = None if row is None else Block(*row)
        now = 0 if head is None else head.time
        states = {State(state): n for state, n in await run(_counted(work.c.state))}
        moves = {TxState(state): n for state, n in await run(_counted(transactions.c.state))}
        windows = (await run(select(func.count()).where(commitments.c.closes > now))).scalar_one()
        accounts = frozenset((await run(select(transactions.c.account).distinct())).scalars())
        accounts |= frozenset((await run(select(fences.c.name))).scalars())
        found = await self._cases(accounts)
        unmined = [state.value for state in (TxState.INTENT, TxState.SIGNED, TxState.SENT)]
        waiting = (await run(select(transactions.c.value).where(transactions.c.state.in_(unmined)))).scalars()
        stopped = select(pauses).where(pauses.c.resumed_at.is_(None)).order_by(pauses.c.id)
        return Overview(
            head=head,
            states=states,
            transactions=moves,
            open_windows=windows,
            nearest=await self.nearest(UnixTime(now)),
            **found,
            pending=Wei(sum(waiting)),
            models=(await run(select(func.count()).select_from(models))).scalar_one(),
            pauses=[PauseRow(*one) for one in await run(stopped)],
            accounts=accounts,
        )

    async def nearest(self, now: UnixTime) -> Nearest | None:
        """What closes first of what was drawn and is still open at chain time ``now``."""
        query = select(work.c.commitment, work.c.state, commitments.c.closes).select_from(
            work.join(commitments, commitments.c.commitment == work.c.commitment)
        )
        query = query.where(work.c.state.in_([state.value for state in _DRAWN]), commitments.c.closes > now)
        row = (await self._connection.execute(query.order_by(commitments.c.closes).limit(1))).one_or_none()
        return None if row is None else Nearest(row.commitment, State(row.state), row.closes, row.closes - now)

    async def _cases(self, accounts: frozenset[Address]) -> dict[str, Any]:
        """Disputes and demands, ours and others'. Sums are made here: SQLite's own are not exact."""
        told = {"open_disputes": 0, "open_demands": 0, "our_open": 0, "bonds": 0, "paid": 0, "burnt": 0, "ours_paid": 0}
        open_ones = (DisputeOutcome.OPEN.value, DemandOutcome.OPEN.value)
        for table, who, count in (
            (disputes, disputes.c.challenger, "open_disputes"),
            (demands, demands.c.demander, "open_demands"),
        ):
            query = select(who.label("who"), table.c.bond, table.c.outcome, table.c.paid, table.c.burnt)
            async for row in await self._connection.stream(query):
                ours = row.who in accounts
                told["paid"] += row.paid
                told["burnt"] += row.burnt
                told["ours_paid"] += row.paid if ours else 0
                if row.outcome in open_ones:
                    told[count] += 1
                    told["our_open"] += ours
                    told["bonds"] += row.bond if ours else 0
        return told


def _counted(column: Any) -> Any:
    return select(column, func.count()).group_by(column)
