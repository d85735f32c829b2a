"""What was filed is followed to its end: settle, claim, collect. And what the chain closed is closed here too."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Protocol

from challenger.domain import (
    NEVER,
    Action,
    Address,
    Block,
    BlockNumber,
    CommitmentId,
    DemandId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Intent,
    JobStatus,
    State,
    TxState,
    UnixTime,
)
from challenger.errors import Expected, StaleRow, StoreError, TakenOver
from challenger.pipeline.closing import kept, late
from challenger.pipeline.turns import Sweep
from challenger.store.engine import Store
from challenger.store.rows import DemandRow, DisputeRow
from challenger.store.subjects import subject_of
from challenger.store.work import Item
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import say
from challenger.wording import numbered

_UNFINISHED = frozenset({TxState.INTENT, TxState.SIGNED, TxState.SENT, TxState.MINED})
_FAILED = frozenset({TxState.ABANDONED, TxState.REVERTED, TxState.REPLACED})
#: Where a job closed by others leaves a commitment that we did not dispute.
_ON_CLOSE = {
    JobStatus.FINAL: State.FINALISED,
    JobStatus.VOID: State.FINALISED,
    JobStatus.FRAUD: State.FILED_BY_OTHER,
}
#: What was not done yet about a job that the chain made final: a miss.
_UNDONE = {
    State.SAMPLED: "and it was not judged",
    State.REPLAYED: "and its fraud was not confirmed",
    State.UNAVAILABLE: "and what was withheld was not demanded",
    State.CONFIRMED: "although its fraud was confirmed here",
}
_NOT_OURS = (
    State.SKIPPED,
    State.SAMPLED,
    State.REPLAYED,
    State.SHED,
    State.UNAVAILABLE,
    State.INCONCLUSIVE,
    State.CONFIRMED,
)
#: How the end of a dispute or demand of ours is told.
_TOLD = {State.WON: "won", State.LOST: "lost", State.EXPIRED: "no-ruling"}
#: Chain seconds after which a step that failed is tried again: what made it fail may pass, and asking costs requests.
_PAUSE = 30
#: Blocks within which a job that was closed is looked for at every step; a reorganisation reaches less far.
_LATELY = 256


class Endgame(Protocol):
    """What pursuing needs of the protocol's adapter."""

    @property
    def name(self) -> str: ...
    async def advance(self, dispute: DisputeId) -> Intent | None: ...
    async def advance_demand(self, demand: DemandId) -> Intent | None: ...
    async def collect(self, occasion: str) -> Intent | None: ...


class Pursuer:
    """``account`` None: a watcher without a key, which only takes note of what others close.
    ``depth``: blocks after which an endpoint that answers cannot be behind."""

    def __init__(
        self, store: Store, adapter: Endgame, account: Address | None, *, depth: int, telemetry: Instruments
    ) -> None:
        self._telemetry = telemetry
        self._store = store
        self._depth = depth
        self._adapter = adapter
        self._account = account
        self._withdrawals = 0
        self._open = Sweep()
        self._closed = _Watermark(depth)

    async def step(self, head: Block) -> bool:
        moved = await self._closed_by_others(head)
        if self._account is None:
            return moved
        async with self._store.read() as view:
            filed = await view.work.items([State.FILED, State.DISPUTING], limit=10_000)
        troubles: list[Exception] = []
        for item in self._open.turns(self._open.waiting(filed)):
            try:
                moved |= await self._follow(item, head, self._account)
            except TakenOver:
                raise
            except (StaleRow, Expected):
                pass  # looked at again; the sender's troubles are reported by the sender
            except StoreError:
                raise  # everybody's trouble
            except Exception as error:  # noqa: BLE001 - a mistake of our own is one case's trouble: raised after the others
                troubles.append(error)
            self._open.looked(asked=item.work.state == State.DISPUTING, wished=False)
        moved |= not self._open.over
        moved |= await self._beside(head, self._account)
        moved |= await self._collect(head, self._account)
        if troubles:
            raise troubles[0]
        return moved

    async def _closed_by_others(self, head: Block) -> bool:
        async with self._store.read() as view:
            items = await view.work.closed_on_chain(since=self._closed.since(head.number))
        ended: dict[State, list[Item]] = {}
        for item in items:
            if (state := State(item.work.state)) in _NOT_OURS:
                ended.setdefault(state, []).append(item)
        if not ended:
            return False
        moved: set[CommitmentId] = set()
        async with self._store.begin(head.time) as unit:
            for state, some in ended.items():
                # rows that the chain has closed say in which block
                on = {CommitmentId(i.work.commitment): BlockNumber(i.commitment.closed_block or 0) for i in some}
                moved |= await unit.work.many(state, [self._end_of(item) for item in some], on=on)
            # told before it is written: a death in between says it twice, and never not at all
            for item in items:
                commitment, new, told = self._end_of(item)
                if new is State.EXPIRED and commitment in moved:
                    self._telemetry.missed(subject_of(commitment), item.work.state, told["detail"])
        return bool(moved)

    def _end_of(self, item: Item) -> tuple[CommitmentId, State, dict[str, Any]]:
        """Where one ends that the chain has closed, as ``Work.many`` takes it."""
        commitment, status = CommitmentId(item.work.commitment), JobStatus(item.commitment.status)
        why = f"the job is {status}"
        if not self._missed(item, status):
            # why nothing was claimed stays to be read; of what was found right or is another's there is nothing to say
            given_up = item.work.state in (State.SHED, State.INCONCLUSIVE)
            return commitment, _ON_CLOSE[status], {"detail": late(why, item.work.detail) if given_up else why}
        # without a key nothing is filed, and nothing was filed too late
        window = "window: " if self._account is not None and status is JobStatus.FINAL else ""
        said = f"{window}{why} {_UNDONE[State(item.work.state)]}"
        return commitment, State.EXPIRED, {"detail": late(said, kept(item.work.detail))}

    def _missed(self, item: Item, status: JobStatus) -> bool:
        """Whether something was still to be done about it. Whatever ends void pays nobody, unless it was in our hands."""
        state = State(item.work.state)
        if status is JobStatus.FRAUD or state not in _UNDONE:
            return False
        if state is State.UNAVAILABLE and self._account is None:
            return False  # whoever has a key might have demanded it
        found_right = state is State.REPLAYED and item.work.next_try >= NEVER
        return state is State.CONFIRMED or (status is JobStatus.FINAL and not found_right)

    async def _follow(self, item: Item, head: Block, account: Address) -> bool:
        commitment = CommitmentId(item.work.commitment)
        async with self._store.read() as view:
            disputes = await view.chain.disputes(commitment=commitment, challenger=account)
            demands = await view.chain.demands(commitment=commitment, demander=account)
        ours: list[DisputeRow] | list[DemandRow] = disputes or demands
        if item.work.state == State.FILED:
            if item.work.confirmation is not None:  # it was not a demand that we saw mined
                ours = disputes
            if not ours:
                # what we saw mined left the chain: filed again as the chain stands now
                return await self._move(item, head.time, State.FILING, item.work.detail)
            return await self._move(item, head.time, State.DISPUTING, item.work.detail, on=ours[0].block)
        if not ours:
            return False
        latest = ours[0]  # the newest first
        if isinstance(latest, DisputeRow):
            return await self._dispute(item, head.time, latest)
        return await self._demand(item, head.time, latest)

    async def _beside(self, head: Block, account: Address) -> bool:
        """Others' disputes on which our votes stand are taken to their end too: our stake comes back with it alone, and
        whoever opened one may leave it half settled, the job decided."""
        async with self._store.read() as view:
            cases = {vote.subject.partition("/")[0] for vote in await view.transactions.votes(account) if vote.bound}
            found = [
                dispute
                for case in sorted(cases)
                for dispute in await view.chain.disputes(
                    commitment=CommitmentId(bytes.fromhex(case[2:])), outcome=DisputeOutcome.OPEN
                )
            ]
        moved = False
        for dispute in found:
            with suppress(Expected):  # asked again in the next step
                moved |= await self._propose(await self._adapter.advance(dispute.dispute), head.time)
        return moved

    async def _dispute(self, item: Item, now: UnixTime, row: DisputeRow) -> bool:
        outcome = DisputeOutcome(row.outcome)
        if outcome is DisputeOutcome.OPEN:
            return await self._propose(await self._adapter.advance(row.dispute), now)
        if outcome is DisputeOutcome.MOOT:
            return await self._move(item, now, *_moot(item), on=row.closed_block)
        ends = {
            DisputeOutcome.CHALLENGER: State.WON,
            DisputeOutcome.PROVIDER: State.LOST,
            DisputeOutcome.EXPIRED: State.EXPIRED,
        }
        if outcome is DisputeOutcome.PROVIDER:
            await self._alarm(item, now, f"dispute {numbered(row.dispute)} was lost")
        return await self._move(
            item, now, ends[outcome], f"dispute {numbered(row.dispute)}: {outcome}", on=row.closed_block
        )

    async def _demand(self, item: Item, now: UnixTime, row: DemandRow) -> bool:
        outcome = DemandOutcome(row.outcome)
        if outcome is DemandOutcome.OPEN:
            return await self._propose(await self._adapter.advance_demand(row.demand), now)
        if outcome is DemandOutcome.ANSWERED:
            async with self._store.begin(now) as unit:
                await unit.work.move(
                    CommitmentId(item.work.commitment),
                    State.DISPUTING,
                    State.SAMPLED,
                    on=row.closed_block,
                    detail="",
                    attempts=0,
                    next_try=0,
                )
            return True
        if outcome is DemandOutcome.MOOT:
            return await self._move(item, now, *_moot(item), on=row.closed_block)
        why = f"demand {row.demand}: {row.part} was never posted"
        return await self._move(item, now, State.WON, why, on=row.closed_block)

    async def _collect(self, head: Block, account: Address) -> bool:
        """Withdraws what is credited; when nothing is, everything that ended is closed."""
        async with self._store.read() as view:
            ours = await view.work.ended(account)
            while (there := await view.transactions.find(self._adapter.name, self._occasion(), Action.WITHDRAW)) and (
                TxState(there.state) is TxState.FINAL
            ):
                self._withdrawals += 1
        if not ours or (there is not None and TxState(there.state) in _UNFINISHED):
            return False
        try:
            intent = await self._adapter.collect(self._occasion())
        except Expected:
            return False
        if intent is not None:
            return await self._propose(intent, head.time)
        # nothing is credited; an endpoint that lags would say so too, so only what ended a while ago is closed
        old = [i for i in ours if (i.commitment.closed_block or head.number) + self._depth <= head.number]
        for item in old:
            await self._move(item, head.time, State.WITHDRAWN, item.work.detail)
        return bool(old)

    async def _alarm(self, item: Item, now: UnixTime, why: str) -> None:
        """A lost dispute says that we may be wrong about this model: filing waits for a person."""
        async with self._store.begin(now) as unit:
            await unit.approvals.pause("lost", subject_of(item.commitment.model), why)
        say("paused", level=logging.ERROR, model=item.commitment.model, why=why)

    def _occasion(self) -> str:
        return f"withdraw/{self._withdrawals}"

    async def _propose(self, intent: Intent | None, now: UnixTime) -> bool:
        if intent is None or self._account is None:
            return False
        async with self._store.begin(now) as unit:
            there = await unit.transactions.find(intent.protocol, intent.subject, intent.action)
            if there is not None and (TxState(there.state) not in _FAILED or now < there.updated + _PAUSE):
                return False
            await unit.transactions.propose(intent, self._account, again=True)
        return True

    async def _move(self, item: Item, now: UnixTime, new: State, why: str, *, on: BlockNumber | None = None) -> bool:
        """``on``: the block whose event this move rests on; should it leave the chain, so does the move."""
        commitment, old = CommitmentId(item.work.commitment), State(item.work.state)
        try:
            async with self._store.begin(now) as unit:
                await unit.work.move(commitment, old, new, on=on, detail=why)
                # told before it is written: a death in between says it twice, and never not at all
                if old is State.DISPUTING and new in _TOLD:
                    self._telemetry.case(_TOLD[new], item.commitment, why=why)
        except StaleRow:
            return False
        return True


class _Watermark:
    """From which block on closed jobs are looked at: the last ``_LATELY`` blocks, and everything once in so many, since
    a row may come to a state in which it matters long after its job was closed."""

    def __init__(self, depth: int) -> None:
        self._margin = max(_LATELY, 2 * depth)
        self._swept: int | None = None

    def since(self, head: BlockNumber) -> BlockNumber:
        if self._swept is None or not 0 <= head - self._swept < self._margin // 2:
            self._swept = head
            return BlockNumber(0)
        return BlockNumber(max(0, head - self._margin))


def _moot(item: Item) -> tuple[State, str]:
    """Our bond came back since the job was decided without us."""
    fraud = item.commitment.status == JobStatus.FRAUD
    return (State.WON if fraud else State.EXPIRED), f"moot: the job is {item.commitment.status}"
