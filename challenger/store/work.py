"""Where each commitment stands with us: one row each, moved along the arrows of ``domain.TRANSITIONS`` only.

A move names the state it starts from; when the row is no longer there it raises ``StaleRow`` and writes nothing.
Every move is journalled in its own transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Join, Select, Update, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    NEVER,
    Address,
    BlockNumber,
    CommitmentId,
    JobStatus,
    ModelId,
    State,
    UnixTime,
    VerdictKind,
    Wei,
    may_move,
)
from challenger.errors import IllegalMove, StaleRow
from challenger.store.bulk import chunks
from challenger.store.journal import Entry, Journal, canonical
from challenger.store.rows import CommitmentRow, WorkRow
from challenger.store.schema import chain_moves, commitments, demands, disputes, tasks, verdicts, work
from challenger.store.subjects import subject_of

#: Columns that a move may set besides the state.
_FIELDS = frozenset(
    [
        "epoch",
        "p_millionths",
        "draw_block",
        "draw_hash",
        "drawn",
        "selected",
        "inputs",
        "verdict",
        "confirmation",
        "detail",
        "attempts",
        "next_try",
    ]
)
#: Where the chain's closing of a job changes nothing any more, or is followed by way of our own dispute.
_DONE = tuple(
    state.value
    for state in (
        State.FINALISED,
        State.WITHDRAWN,
        State.LOST,
        State.WON,
        State.EXPIRED,
        State.FILED_BY_OTHER,
        State.FILED,
        State.DISPUTING,
    )
)
#: Where work is whose data was, or is being, demanded.
_DEMANDED = State.FILING, State.FILED, State.DISPUTING, State.WON, State.LOST, State.EXPIRED, State.WITHDRAWN

_FIRST = BlockNumber(0)


class Item(NamedTuple):
    """A piece of work with the commitment as the chain has it."""

    work: WorkRow
    commitment: CommitmentRow


class Waiting(NamedTuple):
    """What a schedule needs of a piece of work. ``fee``: the task's; None where the index has no task; ``behind``: its data, or
    its task's, lies behind a URI."""

    commitment: CommitmentId
    state: str
    committed_at: UnixTime
    closes: UnixTime
    model: ModelId
    provider: Address
    fee: Wei | None
    detail: str
    attempts: int
    next_try: UnixTime
    behind: bool = False


class Work:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    async def get(self, commitment: CommitmentId) -> WorkRow | None:
        row = (await self._connection.execute(select(work).where(work.c.commitment == commitment))).one_or_none()
        return None if row is None else WorkRow(*row)

    async def move(
        self, commitment: CommitmentId, old: State, new: State, *, on: BlockNumber | None = None, **changes: Any
    ) -> None:
        """``old → new`` and the columns in ``changes``; ``inputs`` may be a mapping. ``on``: the block that holds the
        chain event this move rests on (a dispute, a finalisation); a reorg that takes it away takes the move back.

        Raises IllegalMove for an arrow that does not exist, StaleRow when the row is not in ``old``.
        """
        if new is State.ORPHANED or old is State.ORPHANED or not may_move(old, new):
            raise IllegalMove(commitment=subject_of(commitment), old=old, new=new)
        await self._write(commitment, old, {**changes, "state": new.value}, new.value)
        if on is not None:
            resting = {"commitment": commitment, "block": on, "before": old.value}
            await self._connection.execute(insert(chain_moves).values(**resting))

    async def note(self, commitment: CommitmentId, state: State, **changes: Any) -> None:
        """Changes columns of a row that stays in ``state``: an attempt, the time of the next one, a draw.

        Raises StaleRow when the row is not in ``state``.
        """
        await self._write(commitment, state, changes, "note")

    async def many(
        self,
        old: State,
        rows: Sequence[tuple[CommitmentId, State, Mapping[str, Any]]],
        *,
        on: Mapping[CommitmentId, BlockNumber] | None = None,
    ) -> set[CommitmentId]:
        """Many rows of state ``old`` at once, each to its state (``old`` again: as ``note``) with its changes; all change
        the same columns. ``on`` as in ``move``, for all of them or none. Rows that are not in ``old`` are passed over.
        Gives those that were changed.

        Raises IllegalMove."""
        for commitment, new, _ in rows:
            if new is not old and (new is State.ORPHANED or not may_move(old, new)):
                raise IllegalMove(commitment=subject_of(commitment), old=old, new=new)
        there: set[CommitmentId] = set()
        for chunk in chunks([commitment for commitment, _, _ in rows]):
            query = select(work.c.commitment).where(work.c.commitment.in_(chunk), work.c.state == old.value)
            there |= set((await self._connection.execute(query)).scalars())
        fresh = [(one, {**changes, "state": new.value}, new) for one, new, changes in rows if one in there]
        if fresh:
            # nothing comes between the look and the change: there is one writer
            values = [self._values(commitment, old, changes) for commitment, changes, _ in fresh]
            await self._connection.execute(_update_of(tuple(fresh[0][1])), values)
        entries = [self._entry(one, old, changes, "note" if new is old else new.value) for one, changes, new in fresh]
        await self._journal.append(entries)
        if on is not None and fresh:
            resting = [{"commitment": one, "block": on[one], "before": old.value} for one, _, _ in fresh]
            await self._connection.execute(insert(chain_moves), resting)
        return {one for one, _, _ in fresh}

    async def _write(self, commitment: CommitmentId, old: State, changes: dict[str, Any], kind: str) -> None:
        values = self._values(commitment, old, changes)
        if (await self._connection.execute(_update_of(tuple(changes)), values)).rowcount != 1:
            raise StaleRow(commitment=subject_of(commitment), expected=old)
        await self._journal.append([self._entry(commitment, old, changes, kind)])

    def _values(self, commitment: CommitmentId, old: State, changes: Mapping[str, Any]) -> dict[str, Any]:
        unknown = changes.keys() - _FIELDS - {"state"}
        if unknown:
            raise TypeError(f"work has no columns {sorted(unknown)}")
        values = {f"new_{name}": canonical(v) if isinstance(v, Mapping) else v for name, v in changes.items()}
        return values | {"which": commitment, "old": old.value, "now": self._now}

    def _entry(self, commitment: CommitmentId, old: State, changes: Mapping[str, Any], kind: str) -> Entry:
        # the HMAC would help nobody before the reveal and follows from the secret after it
        told = {name: value for name, value in changes.items() if name not in ("state", "drawn")}
        return Entry(self._now, kind, subject_of(commitment), canonical({"from": old.value, **told}))

    async def items(
        self,
        states: Collection[State],
        *,
        limit: int = 1000,
        ready: UnixTime | None = None,
        closes_after: UnixTime | None = None,
    ) -> list[Item]:
        """Work in ``states``, the window that closes first coming first. ``ready``: only what may be tried at that
        time (``next_try``); ``closes_after``: only windows still open then."""
        query = _items().where(work.c.state.in_([state.value for state in states]))
        if ready is not None:
            query = query.where(work.c.next_try <= ready)
        if closes_after is not None:
            query = query.where(commitments.c.closes > closes_after)
        query = query.order_by(commitments.c.closes, commitments.c.block, commitments.c.log_index).limit(limit)
        return await self._items(query)

    async def waiting(
        self, states: Collection[State], limit: int = 50_000, *, ready: UnixTime | None = None
    ) -> list[Waiting]:
        """Work in ``states`` with something to be done now or later, the window that closes first coming first. ``ready``:
        only what may be tried at that time."""
        joined = work.join(commitments, commitments.c.commitment == work.c.commitment)
        joined = joined.outerjoin(tasks, tasks.c.task == commitments.c.task)
        of = commitments.c
        behind = (of.output_uri != "") | (func.coalesce(tasks.c.input_uri, "") != "")
        chain = of.committed_at, of.closes, of.model, of.provider, tasks.c.fee
        query = select(work.c.commitment, work.c.state, *chain, work.c.detail, work.c.attempts, work.c.next_try, behind)
        query = query.select_from(joined).where(
            work.c.state.in_([state.value for state in states]), work.c.next_try < NEVER
        )
        if ready is not None:
            query = query.where(work.c.next_try <= ready)
        rows = await self._connection.execute(query.order_by(commitments.c.closes).limit(limit))
        return [Waiting._make(one) for one in rows]

    async def withholding(self, model: ModelId, since: UnixTime, unheard: Collection[str] = ()) -> frozenset[Address]:
        """Providers of ``model`` whose data was found away after ``since``, and is, or has been demanded since: what goes on
        to be filed one by one counts together all the same. What was said like ``unheard`` counts once it is demanded."""
        heard = [verdicts.c.detail.not_like(one) for one in unheard]
        away = work.c.state == State.UNAVAILABLE.value, work.c.updated > since, *heard
        asked = (
            work.c.state.in_([state.value for state in _DEMANDED]),
            verdicts.c.kind == VerdictKind.UNAVAILABLE.value,
            verdicts.c.time > since,
        )
        query = select(commitments.c.provider).distinct().select_from(_judged())
        query = query.where(commitments.c.model == model, or_(and_(*away), and_(*asked)))
        return frozenset((await self._connection.execute(query)).scalars())

    async def silent(self, since: UnixTime, unheard: Collection[str]) -> list[str]:
        """What the last verdicts after ``since`` say that is like ``unheard``, of work whatever its model."""
        query = select(verdicts.c.detail).distinct().select_from(_judged())
        query = query.where(
            work.c.state.in_([State.SAMPLED.value, State.UNAVAILABLE.value, *(state.value for state in _DEMANDED)]),
            verdicts.c.kind == VerdictKind.UNAVAILABLE.value,
            verdicts.c.time > since,
            or_(*(verdicts.c.detail.like(one) for one in unheard)),
        )
        return list((await self._connection.execute(query)).scalars())

    async def some(self, ids: Sequence[CommitmentId]) -> list[Item]:
        """The work on these commitments, in their order; those that the chain does not show (now) are left out."""
        found: dict[CommitmentId, Item] = {}
        for chunk in chunks(ids):
            rows = await self._items(_items().where(work.c.commitment.in_(chunk)))
            found |= {item.work.commitment: item for item in rows}
        return [found[one] for one in ids if one in found]

    async def following(
        self, states: Collection[State], after: tuple[BlockNumber, int], *, closes_after: UnixTime, limit: int
    ) -> list[Item]:
        """Work in ``states`` that was committed after (block, log index) ``after``, in chain order."""
        block, log = after
        query = _items().where(
            commitments.c.block >= block,
            or_(commitments.c.block > block, commitments.c.log_index > log),
            commitments.c.closes > closes_after,
            work.c.state.in_([state.value for state in states]),
        )
        return await self._items(query.order_by(commitments.c.block, commitments.c.log_index).limit(limit))

    async def first_open(self, now: UnixTime) -> BlockNumber | None:
        """The block of the oldest commitment whose window is open at ``now``."""
        query = select(func.min(commitments.c.block)).where(commitments.c.closes > now)
        first: BlockNumber | None = (await self._connection.execute(query)).scalar_one()
        return first

    async def ended(self, account: Address) -> list[Item]:
        """Won or expired work over which ``account`` opened a dispute or a demand."""
        disputed = select(disputes.c.commitment).where(disputes.c.challenger == account)
        mine = disputed.union(select(demands.c.commitment).where(demands.c.demander == account))
        states = [State.WON.value, State.EXPIRED.value]
        return await self._items(_items().where(work.c.commitment.in_(mine), work.c.state.in_(states)))

    async def item(self, commitment: CommitmentId) -> Item | None:
        """The work on one commitment, None when the chain does not show it (now)."""
        found = await self._items(_items().where(work.c.commitment == commitment))
        return found[0] if found else None

    async def closed_on_chain(self, limit: int = 1000, *, since: BlockNumber = _FIRST) -> list[Item]:
        """Work not at its end although the chain has closed the job, in block ``since`` or later: for finalisations and
        fraud by others."""
        query = _items().where(commitments.c.status != JobStatus.COMMITTED.value, work.c.state.not_in(_DONE))
        query = query.where(commitments.c.closed_block >= since)
        return await self._items(query.order_by(commitments.c.closed_block).limit(limit))

    async def between(self, opens: BlockNumber, closes: BlockNumber) -> list[Item]:
        """Everything committed in blocks ``opens ≤ b < closes``, in chain order: an epoch, for its audit."""
        query = _items().where(commitments.c.block >= opens, commitments.c.block < closes)
        return await self._items(query.order_by(commitments.c.block, commitments.c.log_index))

    async def listing(
        self,
        *,
        state: State | None = None,
        provider: Address | None = None,
        before: tuple[BlockNumber, int] | None = None,
        limit: int = 100,
    ) -> list[Item]:
        """The newest first, ``limit`` a page; ``before`` is the (block, log index) of the last one seen."""
        query = _items()
        if state is not None:
            query = query.where(work.c.state == state.value)
        if provider is not None:
            query = query.where(commitments.c.provider == provider)
        if before is not None:
            block, log = before
            query = query.where(
                (commitments.c.block < block) | and_(commitments.c.block == block, commitments.c.log_index < log)
            )
        newest = (commitments.c.block.desc(), commitments.c.log_index.desc())
        return await self._items(query.order_by(*newest).limit(limit))

    async def counts(self) -> dict[State, int]:
        """How many rows stand in each state; states without rows are absent."""
        query = select(work.c.state, func.count()).group_by(work.c.state)
        return {State(state): count for state, count in await self._connection.execute(query)}

    async def provider_records(self, providers: Collection[Address]) -> dict[Address, tuple[int, int]]:
        """Of each provider: (commitments that a replay has judged, those with a confirmed fraud): what a policy looks at.
        What was drawn and never judged earns no trust."""
        judged = [VerdictKind.VALID.value, VerdictKind.FRAUD.value]
        sampled = await self._per_provider(
            providers,
            verdicts.c.id == work.c.verdict,
            work.c.selected.is_(True),
            verdicts.c.kind.in_(judged),
        )
        frauds = await self._per_provider(
            providers, verdicts.c.id == work.c.confirmation, verdicts.c.kind == VerdictKind.FRAUD.value
        )
        return {one: (sampled.get(one, 0), frauds.get(one, 0)) for one in providers}

    async def _per_provider(self, providers: Collection[Address], *where: ColumnElement[bool]) -> dict[Address, int]:
        joined = verdicts.join(work, work.c.commitment == verdicts.c.commitment)
        joined = joined.join(commitments, commitments.c.commitment == verdicts.c.commitment)
        found: dict[Address, int] = {}
        for chunk in chunks(list(providers)):
            query = select(commitments.c.provider, func.count()).select_from(joined)
            query = query.where(commitments.c.provider.in_(chunk), *where).group_by(commitments.c.provider)
            found |= {row[0]: row[1] for row in await self._connection.execute(query)}
        return found

    async def _items(self, query: Select[Any]) -> list[Item]:
        cut = len(WorkRow._fields)
        rows = await self._connection.execute(query)
        return [Item(WorkRow(*row[:cut]), CommitmentRow(*row[cut:])) for row in rows]


def _judged() -> Join:
    """Work with its commitment and its last verdict."""
    joined = work.join(commitments, commitments.c.commitment == work.c.commitment)
    return joined.join(verdicts, verdicts.c.id == work.c.verdict)


@cache
def _update_of(names: tuple[str, ...]) -> Update:
    """The statement that changes these columns: built once, since building one costs more than running it."""
    values = {name: bindparam(f"new_{name}", type_=work.c[name].type) for name in names}
    return (
        update(work)
        .where(work.c.commitment == bindparam("which"), work.c.state == bindparam("old"))
        .values(**values, updated=bindparam("now"), version=work.c.version + 1)
    )


@cache
def _items() -> Select[Any]:
    joined = work.join(commitments, commitments.c.commitment == work.c.commitment)
    return select(work, commitments).select_from(joined)
