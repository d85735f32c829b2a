"""Our transactions: each wish once, every signed form of it before it is sent, and its way to finality.

The key (protocol, subject, action) makes a wish unique, so a restart or a second worker finds the first one's row.
Each move names the states it may start from and raises ``StaleRow`` when the row stands elsewhere. ``outbox.py`` is
the same, one SQL transaction a call, for the one writer that owns the nonces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple, Protocol

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import (
    Action,
    Address,
    BlockNumber,
    Call,
    CommitmentId,
    DemandOutcome,
    DisputeOutcome,
    Hash32,
    Intent,
    TxState,
    UnixTime,
    Wei,
    is_audit,
    is_planted,
)
from challenger.errors import AuditRefused, IllegalMove, PlantedRefused, StaleRow
from challenger.store.bulk import rows_by
from challenger.store.journal import Journal
from challenger.store.rows import AttemptRow, TransactionRow
from challenger.store.schema import attempts, commitments, demands, disputes, transactions
from challenger.store.subjects import prefix_range

_T = TxState
UNFINISHED = frozenset({_T.INTENT, _T.SIGNED, _T.SENT, _T.MINED})
#: What came to nothing and may be taken up again under its key.
_BARREN = frozenset({_T.REVERTED, _T.REPLACED, _T.ABANDONED})
_CLOSED = frozenset({_T.FINAL}) | _BARREN
#: Wishes with which a bond or a stake goes.
_BONDED = frozenset({Action.CHALLENGE, Action.DEMAND, Action.VOTE})
#: What is done beside others' disputes.
AIDS = frozenset({Action.VOTE, Action.SUGGEST})
#: Wishes that begin something, which a pause keeps back; what follows from a filing goes on.
FILINGS = AIDS | {Action.SEAL, Action.CHALLENGE, Action.DEMAND}
#: What the chain has decided.
_SETTLED = frozenset({_T.FINAL, _T.REVERTED})
_UNMINED: dict[str, Any] = {"block": None, "block_hash": None, "gas_used": None}
#: States in which the wish may still cost its value.
_MAY_SPEND = UNFINISHED | {_T.FINAL}


class SignedVersion(Protocol):
    """A signed form, as the signer hands it over; ``signed_at`` is chain time."""

    @property
    def nonce(self) -> int: ...
    @property
    def gas(self) -> int: ...
    @property
    def max_fee(self) -> Wei: ...
    @property
    def tip(self) -> Wei: ...
    @property
    def hash(self) -> Hash32: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def signed_at(self) -> UnixTime: ...


class Vote(NamedTuple):
    """``subject``: the transaction's; ``bound``: the stake that went with it is not back yet, as far as the index shows."""

    subject: str
    updated: UnixTime
    bound: bool


class Transactions:
    def __init__(self, connection: AsyncConnection, journal: Journal, now: UnixTime) -> None:
        self._connection = connection
        self._journal = journal
        self._now = now

    # --- wishes ---------------------------------------------------------------------------------------------------

    async def propose(self, intent: Intent, account: Address, *, again: bool = False) -> TransactionRow:
        """The row with this intent's key, made in state INTENT if there is none. With ``again`` a row that is
        abandoned, reverted or replaced goes back to INTENT with this call and deadline; its attempts stay.

        Raises PlantedRefused for a planted item of the self-test, AuditRefused for what an audit found."""
        if is_planted(intent):
            raise PlantedRefused(subject=intent.subject, action=intent.action)
        if is_audit(intent):
            raise AuditRefused(subject=intent.subject, action=intent.action)
        there = await self.find(intent.protocol, intent.subject, intent.action)
        wish = {
            "account": account,
            "deadline": intent.deadline,
            "to": intent.call.to,
            "data": intent.call.data,
            "value": intent.call.value,
        }
        if there is not None:
            if not (again and there.state in _BARREN):
                return there
            clean = {"nonce": None, "hash": None, "block": None, "block_hash": None, "gas_used": None, "error": ""}
            await self._write(there.id, _BARREN, TxState.INTENT, {**wish, **clean})
            return await self.get(there.id)
        values = {
            **wish,
            "protocol": intent.protocol,
            "subject": intent.subject,
            "action": intent.action.value,
            "state": TxState.INTENT.value,
            "error": "",
            "created": self._now,
            "updated": self._now,
            "version": 1,
        }
        new = insert(transactions).values(**values).returning(transactions.c.id)
        identity: int = (await self._connection.execute(new)).scalar_one()
        told = {**_told(wish), "id": identity, "action": intent.action.value, "protocol": intent.protocol}
        await self._journal.write(self._now, "tx-intent", intent.subject, told)
        return await self.get(identity)

    async def find(self, protocol: str, subject: str, action: Action) -> TransactionRow | None:
        """The row under this key."""
        table = transactions.c
        found = await self._where(table.protocol == protocol, table.subject == subject, table.action == action.value)
        return found[0] if found else None

    async def get(self, identity: int) -> TransactionRow:
        """Raises StaleRow when there is no such row."""
        found = await self._where(transactions.c.id == identity)
        if not found:
            raise StaleRow("no such transaction", transaction=identity)
        return found[0]

    async def by_hash(self, digest: Hash32) -> TransactionRow | None:
        """The transaction one of whose signed forms has this hash."""
        owner = select(attempts.c.transaction).where(attempts.c.hash == digest)
        found = await self._where(transactions.c.id.in_(owner))
        return found[0] if found else None

    async def in_states(self, states: Collection[TxState], limit: int = 1000) -> list[TransactionRow]:
        """Transactions in ``states``, the earliest deadline first."""
        return await self._where(transactions.c.state.in_([state.value for state in states]), limit=limit)

    async def unfinished(self, account: Address) -> list[TransactionRow]:
        """All rows of ``account`` that are intent, signed, sent or mined, the earliest deadline first."""
        open_states = [state.value for state in UNFINISHED]
        return await self._where(transactions.c.account == account, transactions.c.state.in_(open_states))

    async def about(self, commitment: CommitmentId) -> list[TransactionRow]:
        """Every transaction whose subject is ``commitment`` or a part of it (see ``subject_of``)."""
        low, high = prefix_range(commitment)
        return await self._where(transactions.c.subject >= low, transactions.c.subject < high)

    async def counts(self) -> dict[TxState, int]:
        query = select(transactions.c.state, func.count()).group_by(transactions.c.state)
        return {TxState(state): count for state, count in await self._connection.execute(query)}

    # --- moves ----------------------------------------------------------------------------------------------------

    async def next_nonce(self, account: Address) -> int | None:
        """One above the highest nonce that was ever signed for ``account``; None when there is none."""
        signed = attempts.join(transactions, transactions.c.id == attempts.c.transaction)
        query = select(func.max(attempts.c.nonce)).select_from(signed).where(transactions.c.account == account)
        highest: int | None = (await self._connection.execute(query)).scalar()
        return None if highest is None else highest + 1

    async def settled(self, account: Address, nonce: int) -> TransactionRow | None:
        """The row that took this nonce on chain and is FINAL or REVERTED by now."""
        ended = transactions.c.state.in_([state.value for state in _SETTLED])
        found = await self._where(transactions.c.account == account, transactions.c.nonce == nonce, ended)
        return found[0] if found else None

    async def signed(self, identity: int, made: SignedVersion) -> AttemptRow:
        """Keeps a signed form before it is sent. INTENT → SIGNED; a row further on keeps its state."""
        row = await self.get(identity)
        if row.state not in UNFINISHED:
            raise StaleRow("nothing to sign", transaction=identity, state=row.state)
        attempt = AttemptRow(
            identity,
            len(row.attempts),
            made.nonce,
            made.gas,
            made.max_fee,
            made.tip,
            made.hash,
            made.raw,
            made.signed_at,
            None,
        )
        await self._connection.execute(insert(attempts).values(**attempt._asdict()))
        state = TxState.SIGNED if row.state is TxState.INTENT else row.state
        told = {"nonce": made.nonce}, {"attempt": attempt.number, "signed_hash": made.hash}
        await self._write(identity, {row.state}, state, *told)
        return attempt

    async def sent(self, identity: int, number: int) -> None:
        """Attempt ``number`` was handed to a node. SIGNED → SENT; a row further on keeps its state."""
        row = await self.get(identity)
        which = (attempts.c.transaction == identity) & (attempts.c.number == number)
        marked = await self._connection.execute(update(attempts).where(which).values(sent_at=self._now))
        if marked.rowcount != 1:
            raise StaleRow("no such attempt", transaction=identity, attempt=number)
        state = TxState.SENT if row.state is TxState.SIGNED else row.state
        await self._write(identity, {row.state}, state, {}, {"attempt": number})

    async def mined(
        self, identity: int, tx_hash: Hash32, block: BlockNumber, block_hash: Hash32, gas_used: int
    ) -> None:
        """Any unfinished state → MINED; again when the block changed. The row takes the nonce of what was mined."""
        mine = (attempts.c.transaction == identity) & (attempts.c.hash == tx_hash)
        nonce = (await self._connection.execute(select(attempts.c.nonce).where(mine))).scalar_one_or_none()
        if nonce is None:
            raise StaleRow("this hash was never signed for it", transaction=identity, hash="0x" + tx_hash.hex())
        where = {"nonce": nonce, "hash": tx_hash, "block": block, "block_hash": block_hash, "gas_used": gas_used}
        await self._write(identity, UNFINISHED, TxState.MINED, where)

    async def unmined(self, identity: int) -> None:
        """MINED → SENT: a reorg took it out; the hash stays, the block goes."""
        await self._write(identity, {TxState.MINED}, TxState.SENT, _UNMINED)

    async def reopened(self, identity: int) -> None:
        """FINAL or REVERTED → SENT: a reorg deeper than what counted as final took it out; the hash stays."""
        await self._write(identity, _SETTLED, TxState.SENT, {**_UNMINED, "error": ""})

    async def reopen_above(self, left: BlockNumber) -> None:
        """Reopens whatever was settled in a block above ``left``: what the new branch says of it counts."""
        ended = transactions.c.state.in_([state.value for state in _SETTLED])
        for row in await self._where(transactions.c.block > left, ended):
            await self.reopened(row.id)

    async def give_up(self, identity: int, why: str) -> None:
        """INTENT → ABANDONED: nobody wants it any more. Raises StaleRow when it is signed by now."""
        await self._write(identity, {TxState.INTENT}, TxState.ABANDONED, {"error": why})

    async def give_up_unsigned(self, why: str) -> None:
        """Gives up each wish with which a bond or a stake goes: a challenge, a demand, a vote."""
        bonded = transactions.c.action.in_([action.value for action in _BONDED])
        for row in await self._where(transactions.c.state == TxState.INTENT.value, bonded):
            await self.give_up(row.id, why)

    async def requeued(self, identity: int, detail: str) -> None:
        """SIGNED or SENT → INTENT, without a nonce; its attempts stay."""
        await self._write(identity, {TxState.SIGNED, TxState.SENT}, TxState.INTENT, {"nonce": None, "error": detail})

    async def closed(self, identity: int, state: TxState, detail: str) -> None:
        """Any unfinished state → FINAL, REVERTED, REPLACED or ABANDONED. Raises IllegalMove for another one."""
        if state not in _CLOSED:
            raise IllegalMove("not an end", transaction=identity, new=state)
        await self._write(identity, UNFINISHED, state, {"error": detail})

    # --- money ----------------------------------------------------------------------------------------------------

    async def outstanding(self, account: Address) -> Wei:
        """All bonds of ``account`` that are not back: those of open disputes and demands as the chain has them, and
        the value of wishes that may still be mined and do not show there yet. Errs on the high side only."""
        total = 0
        for table, owner, still in (
            (disputes, disputes.c.challenger, DisputeOutcome.OPEN.value),
            (demands, demands.c.demander, DemandOutcome.OPEN.value),
        ):
            query = select(table.c.bond).where(owner == account, table.c.outcome == still)
            total += sum((await self._connection.execute(query)).scalars())
        return Wei(total + sum(bond for _, bond in await self.pending(account)))

    async def pending(self, account: Address) -> list[tuple[str, Wei]]:
        """(subject, bond) of each wish for a challenge or a demand that may still be mined, or was, and does not show in
        the index."""
        shown = select(disputes.c.tx_hash).union_all(select(demands.c.tx_hash))
        counted = select(attempts.c.transaction).where(attempts.c.hash.in_(shown))
        query = select(transactions.c.subject, transactions.c.value).where(
            transactions.c.account == account,
            transactions.c.state.in_([state.value for state in _MAY_SPEND]),
            transactions.c.action.in_([Action.CHALLENGE.value, Action.DEMAND.value]),
            transactions.c.id.not_in(counted),
        )
        return [(row.subject, row.value) for row in await self._connection.execute(query)]

    async def votes(self, account: Address) -> list[Vote]:
        """All votes beside others' disputes that did not come to nothing."""
        query = select(transactions.c.subject, transactions.c.state, transactions.c.updated).where(
            transactions.c.account == account,
            transactions.c.action == Action.VOTE.value,
            transactions.c.state.not_in([state.value for state in _BARREN]),
        )
        rows = (await self._connection.execute(query)).all()
        about = [bytes.fromhex(row.subject[2:66]) for row in rows]
        found = await rows_by(self._connection, disputes, disputes.c.commitment, about)
        still = {row.commitment for row in found if row.outcome == DisputeOutcome.OPEN.value}
        return [
            Vote(row.subject, row.updated, row.state != TxState.FINAL or commitment in still)
            for row, commitment in zip(rows, about, strict=True)
        ]

    async def against(self, account: Address, provider: Address) -> Wei:
        """Bonds of ``account`` in open disputes and demands about commitments of ``provider``, as the index has them."""
        total = 0
        for table, owner, still in (
            (disputes, disputes.c.challenger, DisputeOutcome.OPEN.value),
            (demands, demands.c.demander, DemandOutcome.OPEN.value),
        ):
            joined = table.join(commitments, commitments.c.commitment == table.c.commitment)
            query = select(table.c.bond).select_from(joined)
            query = query.where(owner == account, table.c.outcome == still, commitments.c.provider == provider)
            total += sum((await self._connection.execute(query)).scalars())
        return Wei(total)

    async def opened(self, account: Address, since: UnixTime) -> tuple[Wei, frozenset[str]]:
        """(bonds of all challenges and demands that were wished for or moved at ``since`` or later and did not come to
        nothing, the subjects they are about). Errs on the high side only."""
        query = select(transactions.c.value, transactions.c.subject).where(
            transactions.c.account == account,
            transactions.c.action.in_([Action.CHALLENGE.value, Action.DEMAND.value]),
            transactions.c.state.not_in([state.value for state in _BARREN]),
            transactions.c.updated >= since,
        )
        rows = (await self._connection.execute(query)).all()
        return Wei(sum(row.value for row in rows)), frozenset(row.subject.partition("/")[0] for row in rows)

    # --- within ---------------------------------------------------------------------------------------------------

    async def _write(
        self,
        identity: int,
        olds: Iterable[TxState],
        new: TxState,
        changes: dict[str, Any],
        also: dict[str, Any] | None = None,
    ) -> None:
        expected = [state.value for state in olds]
        statement = (
            update(transactions)
            .where(transactions.c.id == identity, transactions.c.state.in_(expected))
            .values(**changes, state=new.value, updated=self._now, version=transactions.c.version + 1)
            .returning(transactions.c.protocol, transactions.c.subject, transactions.c.action)
        )
        row = (await self._connection.execute(statement)).one_or_none()
        if row is None:
            raise StaleRow(transaction=identity, expected="|".join(sorted(expected)))
        told = {**_told(changes), **(also or {}), "id": identity, "action": row.action, "protocol": row.protocol}
        await self._journal.write(self._now, f"tx-{new.value}", row.subject, told)

    async def _where(self, *conditions: Any, limit: int = 10_000) -> list[TransactionRow]:
        query = select(transactions).where(*conditions).order_by(transactions.c.deadline, transactions.c.id)
        rows = (await self._connection.execute(query.limit(limit))).all()
        versions: dict[int, list[AttemptRow]] = {row.id: [] for row in rows}
        for attempt in await rows_by(self._connection, attempts, attempts.c.transaction, list(versions)):
            versions[attempt.transaction].append(AttemptRow(*attempt))
        return [_row(row, sorted(versions[row.id], key=lambda attempt: attempt.number)) for row in rows]


def _told(changes: dict[str, Any]) -> dict[str, Any]:
    """What the journal is told: amounts as text, and of None nothing."""
    return {name: str(v) if name == "value" else v for name, v in changes.items() if v is not None}


def _row(row: Any, versions: list[AttemptRow]) -> TransactionRow:
    call = Call(row.to, row.data, Wei(row.value))
    return TransactionRow(
        id=row.id,
        account=row.account,
        intent=Intent(row.protocol, row.subject, Action(row.action), call, row.deadline),
        state=TxState(row.state),
        nonce=row.nonce,
        hash=row.hash,
        block=row.block,
        block_hash=row.block_hash,
        gas_used=row.gas_used,
        error=row.error,
        created=row.created,
        updated=row.updated,
        version=row.version,
        attempts=tuple(versions),
    )
