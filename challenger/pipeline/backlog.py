"""What is to be done next, of everything that waits: read in one light query, ordered and admitted by ``schedule``.

A plan is only advice, made anew whenever the rows or the chain's time have changed: a row that moved meanwhile refuses
the move it no longer fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from challenger.domain import CommitmentId, Part, State, UnixTime, Wei
from challenger.pipeline.closing import Closing
from challenger.pipeline.learned import Learned
from challenger.pipeline.schedule import Ahead, Item, arrange, due
from challenger.store.engine import Store
from challenger.store.subjects import subject_of
from challenger.store.work import Waiting
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import NEAREST_DEADLINE, PREDICTED_MISSES

_HANDLED = (State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.UNAVAILABLE)
_PARTS = frozenset(Part)
#: Alerts about a commitment that tell nothing any more once nothing is to be done about it here.
_OF_CASES = frozenset({"approval", "disagreement"})
#: Predicted misses that are alerted one by one; of more there is one alert that counts them.
_ONE_BY_ONE = 20
#: Shed commitments looked at for readmission, the most urgent first.
_BACK = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """``accused``: frauds in hand, to be confirmed; ``replays``: in order;
    ``late``: their window seems to be over, and the chain is to be asked; ``shed`` and ``back``: put aside now, taken up again
    now; ``aside``: how many stay put aside, before or now, whose windows are open."""

    accused: Sequence[CommitmentId] = ()
    replays: Sequence[CommitmentId] = ()
    late: Sequence[Waiting] = ()
    shed: Sequence[CommitmentId] = ()
    back: Sequence[CommitmentId] = ()
    aside: int = 0


class Backlog:
    """``reward``: wei that a won dispute brings beside the fee; ``files``: whether confirmed frauds are filed at all;
    ``margin``: seconds before the close after which nothing is filed; ``low``: seconds to spare below which it is said."""

    def __init__(
        self,
        store: Store,
        learned: Learned,
        telemetry: Instruments,
        *,
        reward: Wei,
        workers: int,
        files: bool,
        margin: int,
        closing: Closing,
        low: int = 0,
    ) -> None:
        self._store = store
        self._learned = learned
        self._telemetry = telemetry
        self._reward = reward
        self._workers = workers
        self._files = files
        self._margin = margin
        self._closing = closing
        self._low = low

    async def plan(self, now: UnixTime, at_hand: Collection[CommitmentId]) -> Plan:
        """``at_hand``: whose data was looked for; nothing is replayed before that."""
        await self._learned.refresh()
        async with self._store.read() as view:
            rows = self._closing.prolonged(await view.work.waiting(_HANDLED))
            aside = await view.work.waiting([State.SHED], limit=_BACK)
        open_rows = [row for row in rows if row.closes > now]
        self._foretell(open_rows, now)
        self._forget(rows)
        ready = [row for row in open_rows if row.next_try <= now]
        ours = (State.SAMPLED, State.REPLAYED)
        late = [row for row in rows if row.closes <= now and row.next_try <= now and row.state in ours]
        accused = sorted((row for row in ready if row.state == State.REPLAYED), key=self._due)
        sampled = [row for row in ready if row.state == State.SAMPLED]
        # what is still looked for takes part as well, so that there is room when it comes; what was away does not
        queue = [self._item(row) for row in sampled if row.commitment in at_hand or not withheld(row)]
        put_by = [self._item(row) for row in aside if row.closes > now]
        busy = sum(self._learned.now.confirm(row.model) for row in accused)
        found = arrange(queue, put_by, now, self._workers, busy, idle=not accused)
        return Plan(
            accused=[row.commitment for row in accused],
            replays=[item.commitment for item in found.replays if item.commitment in at_hand],
            late=late,
            shed=[item.commitment for item in found.shed],
            back=[item.commitment for item in found.back],
            aside=len(found.shed) + len(put_by) - len(found.back),
        )

    def _item(self, row: Waiting) -> Item:
        value = self._reward + (row.fee or 0)
        return Item(row.commitment, row.closes, value, self._learned.now.ahead(row.model), row.provider)

    def _closes(self, row: Waiting) -> UnixTime:
        """By when it must be filed: what is away can be demanded in its first window only."""
        return self._learned.now.demanded_by(row.committed_at, row.closes) if _away(row) else row.closes

    def _due(self, row: Waiting) -> tuple[float, bytes]:
        return due(self._item(row)), row.commitment

    def _ahead(self, row: Waiting) -> Ahead:
        """What is still before this row, by its state."""
        ahead = self._learned.now.ahead(row.model)
        if _away(row):
            return self._learned.now.demand(row.model)
        replay = ahead.replay if row.state == State.SAMPLED else 0.0
        confirm = ahead.confirm if row.state in (State.SAMPLED, State.REPLAYED) else 0.0
        return Ahead(replay, confirm, ahead.inclusion, ahead.depth)

    def _foretell(self, rows: Sequence[Waiting], now: UnixTime) -> None:
        """Predicted misses and the nearest deadline, told."""
        watched = [row for row in rows if self._files or row.state in (State.SAMPLED, State.REPLAYED)]
        short: list[tuple[float, Waiting]] = []
        low: list[tuple[float, Waiting]] = []
        for row in watched:
            spare = self._closes(row) - now - self._ahead(row).total() - self._margin
            if spare < 0:
                short.append((spare, row))
            elif spare < self._low:
                low.append((spare, row))
        self._telemetry.alerts.standing("predicted-miss", _conditions(short, now))
        self._telemetry.alerts.standing("slack-low", _conditions(low, now))
        self._telemetry.metrics.set(PREDICTED_MISSES, len(short))
        self._telemetry.metrics.set(NEAREST_DEADLINE, min((self._closes(row) - now for row in watched), default=None))

    def _forget(self, rows: Sequence[Waiting]) -> None:
        """Ends what stands about cases that are none of ``rows``: filed, decided by others, or too late."""
        alerts, there = self._telemetry.alerts, {subject_of(row.commitment) for row in rows}
        for name, about in alerts.active():
            if name in _OF_CASES and about not in there:
                alerts.clear(name, about)


def _conditions(found: Sequence[tuple[float, Waiting]], now: UnixTime) -> dict[str, dict[str, Any]]:
    """One by one, or where there are too many all at once as well."""
    conditions: dict[str, dict[str, Any]] = {
        subject_of(row.commitment): {
            "state": row.state,
            "slack": int(spare),
            "closes": row.closes,
            "left": row.closes - now,
        }
        for spare, row in found[:_ONE_BY_ONE]
    }
    if len(found) > _ONE_BY_ONE:
        conditions[""] = {"count": len(found)}
    return conditions


def in_turn(rows: Sequence[Waiting]) -> list[Waiting]:
    """Whose data is asked for first: the k-th of one provider after the k-1-th of every other, so that one who has much to
    be asked for, and answers slowly, keeps nobody waiting but himself; then whoever has waited longest."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in sorted(rows, key=lambda row: (row.next_try, row.closes, row.commitment)):
        ranked.append((seen[row.provider], row))
        seen[row.provider] += 1
    return [row for _, row in sorted(ranked, key=lambda one: one[0])]


def withheld(row: Waiting) -> bool:
    """Whether the last look at it found data missing."""
    return row.attempts > 0 and row.detail.partition(":")[0] in _PARTS


def _away(row: Waiting) -> bool:
    """Whether a demand is what comes next, should it stay so."""
    return row.state == State.UNAVAILABLE or (row.state == State.SAMPLED and withheld(row))
