"""From a confirmed fraud to an open challenge, and from data withheld to a demand: the only stages that spend.

A row is moved to FILING and its first transaction is a row in the same SQL transaction; everything after that is asked
of the chain again. So a restart at any point goes on where the chain is, and the key (protocol, subject, action) of
each transaction keeps two of them from ever being sent for one purpose.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from challenger.domain import (
    Action,
    Address,
    Block,
    BlockNumber,
    CommitmentId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Intent,
    JobStatus,
    Mode,
    Part,
    State,
    TxState,
    UnixTime,
)
from challenger.errors import Expected, NeverFiled, StaleRow, StoreError, TakenOver
from challenger.pipeline import views
from challenger.pipeline.approval import UNDECIDED, accusation_of, terms_of, unapproved, withheld
from challenger.pipeline.closing import Closing, Outlook, besides, kept, late
from challenger.pipeline.gates import Limits
from challenger.pipeline.learned import Learned
from challenger.pipeline.obstacles import Chain, Obstacles, Patience, Quorum, Rules
from challenger.pipeline.schedule import demand_by, look_again, soon
from challenger.pipeline.turns import Sweep
from challenger.protocols.base import ETHER, Accusation, Aid, Money, Standing
from challenger.store.engine import Store
from challenger.store.rows import TransactionRow
from challenger.store.subjects import subject_of
from challenger.store.transactions import AIDS
from challenger.store.unit import Unit, View
from challenger.store.work import Item
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import LEAST_SLACK, SLACK_AT_FILING

_FAILED = frozenset({TxState.ABANDONED, TxState.REVERTED, TxState.REPLACED})
_LANDED = frozenset({TxState.MINED, TxState.FINAL})
#: Another's dispute is settled by us when no more than so many times the predicted way into a final block is left.
_HASTE = 3
#: Data that is away is fetched again as after so many tries.
_REFETCH = 3
#: Pauses between two tries, and seconds at most, after which a look at data is not of now any more; seconds that one more takes
#: at most, with what follows.
_RECENT, _RECENT_SECONDS, _A_LOOK = 5, 300, 300
#: Beginnings of reasons under which others may still do what we cannot.
_OTHERS = ("eligibility:", "capability:", "window:")


class Disputes(Rules, Protocol):
    """What filing needs of the protocol's adapter: its rules, and the calls that act."""

    async def pinned(self) -> bool: ...
    async def hydrate(self, commitment: CommitmentId) -> Standing: ...
    async def open_dispute(self, accusation: Accusation) -> Intent | None: ...
    async def advance(self, dispute: DisputeId) -> Intent | None: ...
    async def aid(self, accusation: Accusation, lead: int) -> Aid | None: ...
    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent: ...


class Look(Protocol):
    """At one case; True when something moved."""

    async def __call__(self, item: Item, head: Block, *, pinned: bool) -> bool: ...


class Filer:
    def __init__(
        self,
        store: Store,
        adapter: Disputes,
        chain: Chain,
        account: Address,
        limits: Limits,
        patience: Patience,
        learned: Learned,
        telemetry: Instruments,
        quorum: Quorum,
        money: Money = ETHER,
    ) -> None:
        self._learned = learned
        self._telemetry = telemetry
        self._least: float | None = None
        self._store = store
        self._adapter = adapter
        self._chain = chain
        self._account = account
        self._limits = limits
        self._patience = patience
        self._closing = Closing(store, adapter)
        self._obstacles = Obstacles(store, adapter, chain, account, limits, patience, telemetry, quorum, money)
        # apart, so that however many wait, what is under way has its turn
        self._under_way, self._waiting = Sweep(), Sweep()
        #: Whether the last step left something to be signed and sent.
        self.wished = False

    async def step(self, head: Block) -> bool:
        """One look at everything confirmed, withheld or being filed, or at a piece of it; True when something moved, or the
        next piece has its turn."""
        await self._obstacles.tell(head.time)
        self.wished = False
        async with self._store.read() as view:
            filing = await view.work.items([State.FILING], ready=head.time, limit=10_000)
            others = await view.work.items([State.CONFIRMED, State.UNAVAILABLE], ready=head.time, limit=10_000)
        if not filing and not others:
            return False
        pinned = await views.holds(self._chain, self._adapter.pinned)
        # what closes last comes first: should a reorganisation have taken room back, it gives way to the others
        ours = reversed(self._under_way.waiting(filing))
        troubles: list[Exception] = []
        moved = await self._look_at(self._under_way, ours, self._carry_on, head, troubles, pinned=pinned)
        rest = await self._obstacles.in_order(self._waiting.waiting(others), head.time)
        moved |= await self._look_at(self._waiting, rest, self._consider, head, troubles, pinned=pinned)
        if troubles:
            raise troubles[0]
        return moved

    async def _look_at(
        self,
        sweep: Sweep,
        items: Iterable[Item],
        look: Look,
        head: Block,
        troubles: list[Exception],
        *,
        pinned: bool,
    ) -> bool:
        """``troubles``: where a mistake of our own goes, which is one case's trouble until all others had their looks."""
        moved = False
        for item in sweep.turns(items):
            before = self._obstacles.asked
            try:
                moved |= await look(item, head, pinned=pinned)
            except TakenOver:
                raise
            except NeverFiled as error:
                # nothing was written and nothing sent; told here, so that no other mistake hides it
                self._telemetry.alerts.alert("planted-filing", why=str(error))
            except StaleRow:
                pass  # the chain moved the row meanwhile
            except Expected as error:
                with suppress(StaleRow):
                    await self._wait(item, head.time, str(error))
            except StoreError:
                raise  # everybody's trouble
            except Exception as error:  # noqa: BLE001 - raised when all have had their looks
                troubles.append(error)
            sweep.looked(asked=self._obstacles.asked > before, wished=self.wished)
        return moved or not sweep.over

    # may it be filed?

    async def _consider(self, item: Item, head: Block, *, pinned: bool) -> bool:
        """Moves to FILING when every gate is open, to EXPIRED when it is too late for good; else waits and says why."""
        if item.commitment.status != JobStatus.COMMITTED:
            return False  # the chain has decided: whoever pursues says how it ended
        commitment = CommitmentId(item.work.commitment)
        part = withheld(item)
        if part is not None and await self._answered(commitment, part, head):
            return True
        if (await self._opening(item))[1]:
            # a fork said that it had failed, and the chain has it after all: followed, whatever the gates say
            await self._move(item, head.time, State.FILING, "")
            return True
        accusation = None if part is not None else await self._accusation(item)
        reason = await self._obstacles.to_filing(item, head, part, accusation, pinned=pinned)
        if "rival:" in reason and self._limits.mode is Mode.LIVE:
            await self._make_way(item, head)
        if accusation is not None and reason.startswith(_OTHERS):
            reason = await self._aid(item, head, accusation, reason, pinned=pinned)
        elif accusation is not None:
            await self._no_aid(item, head, reason or "a dispute of our own is opened")
        too_late = reason.startswith("window:")
        if too_late or (reason and item.commitment.closes <= head.time):
            before = kept(item.work.detail) if part is None else ""  # there the detail names the part
            gate = before if too_late else reason
            at = await self._outlook(item, head)
            if not at.open:
                return await self._closed(item, head, at, reason if too_late else "window: it closed", gate)
            if too_late:
                # others may still do something about it, and so may we beside them; and it may be longer yet
                await self._wait(item, head.time, late(reason, gate))
                return False
        if reason and part is not None and not reason.startswith("paused:"):
            # nothing may be demanded now: what was away may be back, so it is fetched again in a while
            until = self._demand_by(item)
            if until <= head.time:
                until = item.commitment.closes  # it is demanded by nobody any more, and looked for all the same
            again: dict[str, Any] = {
                "attempts": 1,
                "detail": besides(item.work.detail, reason),
                "next_try": look_again(head.time, until, _REFETCH, self._patience.retry),
            }
            async with self._store.begin(head.time) as unit:
                await unit.work.move(commitment, State.UNAVAILABLE, State.SAMPLED, **again)
            return True
        if not reason and self._limits.mode is Mode.CONFIRM:
            reason = await self._unapproved(item)
        if reason:
            await self._wait(item, head.time, reason)
            return False
        if part is not None and await self._may_be_back(item, head):
            back: dict[str, Any] = {"attempts": max(1, item.work.attempts), "next_try": 0}
            async with self._store.begin(head.time) as unit:
                await unit.work.move(commitment, State.UNAVAILABLE, State.SAMPLED, **back)
            return True
        ask: Callable[[], Awaitable[Intent | None]] = (
            partial(self._adapter.open_dispute, accusation)
            if accusation is not None
            else partial(self._adapter.open_demand, commitment, part or Part.OUTPUT, 0)
        )
        intent = await views.wanted(self._chain, ask)
        async with self._store.begin(head.time) as unit:
            await unit.work.move(commitment, State(item.work.state), State.FILING, next_try=0)
            await self._note_slack(unit, item, part)
            if intent is not None:
                await self._wish(unit, intent)
        return True

    def _demand_by(self, item: Item) -> UnixTime:
        """When a demand must be on its way at the latest."""
        ahead = self._learned.now.demand(item.commitment.model)
        return demand_by(self._closes(item), ahead, self._limits.safety_seconds)

    async def _may_be_back(self, item: Item, head: Block) -> bool:
        """Whether data is to be looked for once more before it is demanded: it waited for a person, a cap or the end of a pause
        since the last look, and there is time."""
        async with self._store.read() as view:
            last = None if item.work.verdict is None else await view.verdicts.get(item.work.verdict)
        recent = min(_RECENT * self._patience.retry, _RECENT_SECONDS)
        return last is not None and head.time - last.time > recent and self._demand_by(item) - head.time > _A_LOOK

    async def _aid(self, item: Item, head: Block, accusation: Accusation, reason: str, *, pinned: bool) -> str:
        """Where only others can dispute, or do: what can be done beside them, once. The case itself goes on waiting;
        gives ``reason`` with what became of that."""
        aid = await self._adapter.aid(accusation, self._patience.lead)
        if aid is None:
            return reason
        intent = aid.intent
        async with self._store.read() as view:
            there = await view.transactions.find(intent.protocol, intent.subject, intent.action)
        wished = there is not None and there.state is TxState.INTENT
        if there is not None and not wished and (there.state not in _FAILED or self._limits.mode is Mode.DRY_RUN):
            return f"{reason}; our {intent.action}: {there.state}"
        if self._limits.mode is Mode.CONFIRM:
            return f"{reason}; no {intent.action}: in mode confirm we only dispute"
        if there is not None and not wished and head.time < there.updated + self._pause(item, head.time):
            return f"{reason}; our {intent.action} failed: {there.error}"
        if why := await self._obstacles.to_aid(item, head, aid, pinned=pinned, wished=wished):
            await self._no_aid(item, head, why)
            return f"{reason}; no {intent.action}: {why}"
        async with self._store.begin(head.time) as unit:
            await self._wish(unit, intent)
        return f"{reason}; our {intent.action}: {TxState.INTENT}"

    async def _no_aid(self, item: Item, head: Block, why: str) -> None:
        """Gives up what was to be done beside others, unless it is signed by now."""
        async with self._store.read() as view:
            there = await view.transactions.about(CommitmentId(item.work.commitment))
        wished = [row for row in there if row.state is TxState.INTENT and row.intent.action in AIDS]
        if wished:
            async with self._store.begin(head.time) as unit:
                for row in wished:
                    await unit.transactions.give_up(row.id, why)

    async def _outlook(self, item: Item, head: Block) -> Outlook:
        self._obstacles.asked += 1
        look = partial(self._closing.look, CommitmentId(item.work.commitment), head.time)
        # given up for good on one endpoint's word nothing is
        return await views.kept_open(self._chain, look)

    async def _closed(
        self, item: Item, head: Block, at: Outlook, said: str, gate: str = "", wish: TransactionRow | None = None
    ) -> bool:
        """Its window is. While something over the job may open it again the case waits for that, and what can be settled is;
        then it is over. ``gate``: what kept it from being filed, told with the miss; ``wish``: for a bond, given up."""
        if not at.why:
            await self._move(item, head.time, State.EXPIRED, late(said, gate), without=wish, on=at.on)
            return True
        if self._limits.mode is Mode.LIVE:
            await self._make_way(item, head)
        why = late(f"{said}; {at.why}", gate)
        if item.work.state == State.FILING:
            back = State.CONFIRMED if withheld(item) is None else State.UNAVAILABLE
            await self._move(item, head.time, back, why, self._pause(item, head.time), without=wish)
            return True
        await self._wait(item, head.time, why)
        return False

    async def _make_way(self, item: Item, head: Block) -> None:
        """Settles the disputes of others that keep ours waiting, where they can be settled and nobody does: a rival in
        league with the provider has no haste. Left to them while there is time, since whoever won it will."""
        commitment = CommitmentId(item.work.commitment)
        ahead = self._learned.now.ahead(item.commitment.model)
        urgent = self._closes(item) - head.time <= _HASTE * (ahead.inclusion + ahead.depth) + self._patience.lead
        async with self._store.read() as view:
            found = await view.chain.disputes(commitment=commitment, outcome=DisputeOutcome.OPEN)
        for dispute in reversed(found):  # the oldest first: a later one waits for it
            if dispute.challenger == self._account or not (urgent or head.time >= dispute.ruling_by):
                continue
            intent = await self._adapter.advance(dispute.dispute)
            if intent is None:
                continue
            async with self._store.begin(head.time) as unit:
                there = await unit.transactions.find(intent.protocol, intent.subject, intent.action)
                if there is None or there.state in _FAILED:
                    await self._wish(unit, intent)

    async def _unapproved(self, item: Item) -> str:
        """Why no person's word lets it go ahead; while that is wanting an alarm stands, for the window runs."""
        async with self._store.read() as view:
            terms = await terms_of(view, self._adapter, item)
            reason = await unapproved(view, terms)
        about, alerts = subject_of(terms.commitment), self._telemetry.alerts
        if reason.startswith(UNDECIDED):
            alerts.alert("approval", about=about, action=terms.action.value, closes=self._closes(item))
        else:
            alerts.clear("approval", about)
        return reason

    async def _note_slack(self, unit: Unit, item: Item, part: Part | None) -> None:
        """Seconds to spare as the filing begins, measured and in the journal: kind ``slack``."""
        model, action = item.commitment.model, Action.CHALLENGE if part is None else Action.DEMAND
        ahead = self._learned.now.ahead(model) if part is None else self._learned.now.demand(model)
        closes = self._closes(item)
        spare = int(closes - unit.now - ahead.inclusion - ahead.depth)
        told = {
            "action": action.value,
            "seconds": spare,
            "closes": closes,
            "inclusion": int(ahead.inclusion),
            "depth": int(ahead.depth),
        }
        await unit.journal.write(unit.now, "slack", subject_of(item.work.commitment), told)
        self._telemetry.metrics.observe(SLACK_AT_FILING, spare, action=action.value)
        self._least = spare if self._least is None else min(spare, self._least)
        self._telemetry.metrics.set(LEAST_SLACK, self._least)

    async def _answered(self, commitment: CommitmentId, part: Part, head: Block) -> bool:
        """Whoever demanded it: once the data stands on chain, the replay goes on with it."""
        async with self._store.read() as view:
            rows = await view.chain.demands(commitment=commitment, outcome=DemandOutcome.ANSWERED)
        found = next((row for row in rows if row.part == part), None)
        if found is None:
            return False
        async with self._store.begin(head.time) as unit:
            await unit.work.move(
                commitment,
                State.UNAVAILABLE,
                State.SAMPLED,
                on=found.closed_block,
                detail="",
                attempts=0,
                next_try=0,
            )
        return True

    # it is being filed

    async def _carry_on(self, item: Item, head: Block, *, pinned: bool) -> bool:
        part = withheld(item)
        opening, shown = await self._opening(item)
        if shown:
            assert opening is not None, "what the chain shows was opened"
            await self._move(item, head.time, State.FILED, "", opened=opening.intent.action.value)
            return True
        state = None if opening is None else opening.state
        if opening is not None and state in _LANDED:
            return await self._doubted(item, opening, head)  # mined, and not in the index yet
        if item.commitment.closes <= head.time and (state is None or state in _FAILED or state is TxState.INTENT):
            at = await self._outlook(item, head)
            if not at.open:
                wish = opening if state is TxState.INTENT else None
                return await self._closed(item, head, at, "window: it closed before the filing landed", wish=wish)
        if state in _FAILED and self._limits.mode is Mode.DRY_RUN:
            return False  # simulated once, as far as the chain's state lets it
        if part is None and (state is None or state in _FAILED):
            return await self._next_step(item, head, pinned=pinned)
        if opening is not None and state is TxState.INTENT:
            return await self._ask_again(item, head, opening, pinned=pinned)
        if state in _FAILED:
            await self._move(item, head.time, State.UNAVAILABLE, "", self._pause(item, head.time))
            return True
        return False

    def _pause(self, item: Item, now: UnixTime) -> int:
        """Chain seconds between two looks, and two tries of a step that failed: fewer when the window closes soon."""
        return soon(now, UnixTime(self._closes(item) - self._limits.safety_seconds), self._patience.retry) - now

    def _closes(self, item: Item) -> UnixTime:
        """By when it must be filed: what is away can be demanded in the first window only."""
        row = item.commitment
        return row.closes if withheld(item) is None else self._learned.now.demanded_by(row.committed_at, row.closes)

    async def _opening(self, item: Item) -> tuple[TransactionRow | None, bool]:
        """The transaction that is to open a challenge or demand over this item, and whether the chain shows what it
        opened."""
        commitment, part = CommitmentId(item.work.commitment), withheld(item)
        if part is not None:
            action, about = Action.DEMAND, subject_of(commitment, part.value, 0)
        else:
            action, about = Action.CHALLENGE, subject_of(commitment)
        async with self._store.read() as view:
            opening = await view.transactions.find(self._adapter.name, about, action)
            return opening, opening is not None and await self._shown(view, commitment, opening)

    async def _doubted(self, item: Item, opening: TransactionRow, head: Block) -> bool:
        """What counts as final and yet is not among the events of a block that the index has read: an endpoint on a fork
        may have said so. It is looked for again, and whatever the chain says then counts."""
        if opening.state is not TxState.FINAL or opening.block is None or opening.block > head.number:
            return False
        if head.time < opening.updated + self._pause(item, head.time):
            return False
        async with self._store.begin(head.time) as unit:
            await unit.transactions.reopened(opening.id)
        return True

    async def _shown(self, view: View, commitment: CommitmentId, opening: TransactionRow) -> bool:
        """Whether the chain shows the dispute or demand that ``opening`` opened, whatever became of it since."""
        hashes = {attempt.hash for attempt in opening.attempts}
        disputes = await view.chain.disputes(commitment=commitment, challenger=self._account)
        demands = await view.chain.demands(commitment=commitment, demander=self._account)
        return any(row.tx_hash in hashes for row in disputes) or any(row.tx_hash in hashes for row in demands)

    async def _next_step(self, item: Item, head: Block, *, pinned: bool) -> bool:
        """Seal, then challenge, as the chain stands now; back to CONFIRMED when it may no longer be filed. The bond goes
        with the challenge: what may stop a filing is asked again before it."""
        accusation = await self._accusation(item)
        refused = await self._against(item, head, None, accusation, pinned=pinned)
        if refused:
            await self._move(item, head.time, State.CONFIRMED, refused, self._pause(item, head.time))
            return True
        intent = await views.wanted(self._chain, partial(self._adapter.open_dispute, accusation))
        if intent is None:
            return False
        async with self._store.read() as view:
            there = await view.transactions.find(intent.protocol, intent.subject, intent.action)
        if there is not None and (there.state not in _FAILED or self._limits.mode is Mode.DRY_RUN):
            return False  # under way; or a dry run, which tries each step once
        if there is not None and head.time < there.updated + self._pause(item, head.time):
            return False  # it has just failed: what made it fail may pass, and asking at once would only ask again
        async with self._store.begin(head.time) as unit:
            await self._wish(unit, intent)
        return True

    async def _ask_again(self, item: Item, head: Block, opening: TransactionRow, *, pinned: bool) -> bool:
        """A bond is wished for and not signed yet: it is given up, and its case goes back, once anything speaks against it.
        What is signed meanwhile goes its way."""
        part = withheld(item)
        accusation = None if part is not None else await self._accusation(item)
        refused = await self._against(item, head, part, accusation, pinned=pinned)
        if not refused:
            return False
        back = State.CONFIRMED if part is None else State.UNAVAILABLE
        await self._move(item, head.time, back, refused, self._pause(item, head.time), without=opening)
        return True

    async def _against(
        self, item: Item, head: Block, part: Part | None, accusation: Accusation | None, *, pinned: bool
    ) -> str:
        """What speaks by now against the bond of a case that was let through."""
        refused = await self._obstacles.to_next_step(item, head, part, accusation, pinned=pinned)
        if not refused and self._limits.mode is Mode.CONFIRM:
            refused = await self._unapproved(item)
        return refused

    # the accusation and small things

    async def _accusation(self, item: Item) -> Accusation:
        async with self._store.read() as view:
            return await accusation_of(view, item)

    async def _wish(self, unit: Unit, intent: Intent) -> None:
        self.wished = True
        await unit.transactions.propose(intent, self._account, again=True)

    async def _wait(self, item: Item, now: UnixTime, why: str) -> None:
        """Says why in the row (and the journal) when that is news, and looks again later."""
        changes: dict[str, Any] = {"next_try": now + self._pause(item, now)}
        if why != item.work.detail:
            changes["detail"] = why
        if item.work.confirmation is None and item.work.state == State.UNAVAILABLE:
            changes.pop("detail", None)  # there the detail names the part that is withheld
        async with self._store.begin(now) as unit:
            await unit.work.note(CommitmentId(item.work.commitment), State(item.work.state), **changes)

    async def _move(
        self,
        item: Item,
        now: UnixTime,
        new: State,
        why: str,
        wait: int = 0,
        *,
        opened: str = "",
        without: TransactionRow | None = None,
        on: BlockNumber | None = None,
    ) -> None:
        """``opened``: by which action it was filed; ``without``: the wish that is given up with it; ``on``: the block that
        the move rests on."""
        if new is State.EXPIRED:
            self._telemetry.missed(subject_of(item.work.commitment), item.work.state, why)
        changes: dict[str, Any] = {"next_try": now + wait if wait else 0}
        if withheld(item) is None:
            changes["detail"] = why
        elif new is State.EXPIRED:  # the part goes first: there the detail names it
            changes["detail"] = besides(item.work.detail, why)
        async with self._store.begin(now) as unit:
            await unit.work.move(CommitmentId(item.work.commitment), State(item.work.state), new, on=on, **changes)
            if without is not None:
                await unit.transactions.give_up(without.id, why)
            if opened:  # told before it is written: a death in between says it twice, and never not at all
                self._telemetry.case("filed", item.commitment, action=opened)
