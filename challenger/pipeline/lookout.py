"""The data of commitments, looked for before any of them is replayed: no replay waits for a server, and no look costs one."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from challenger.domain import BlockNumber, CommitmentId, Hash32, ModelId, Part, State, UnixTime, Verdict, VerdictKind
from challenger.errors import OurDoing
from challenger.pipeline.backlog import in_turn
from challenger.pipeline.closing import Closing
from challenger.pipeline.engine import OWN, Replays
from challenger.pipeline.observe import Away, Observer, missing
from challenger.pipeline.outcome import Clock, Outcomes, Pace, as_verdict
from challenger.store.engine import Store
from challenger.store.work import Item, Waiting
from replay.artifacts.routes import host_of

#: Commitments whose data is fetched in one turn.
_PAGE = 100
#: Chain seconds for which a model's files stay where they were found: the cache keeps them for longer after each use.
_KEPT = 240
#: … and for which files that could not be had are not asked for again.
_ABSENT = 30


class Lookout:
    """``clock``: the chain's time."""

    def __init__(
        self,
        store: Store,
        engine: Replays,
        observer: Observer,
        outcomes: Outcomes,
        clock: Clock,
        pace: Pace,
        closing: Closing,
    ) -> None:
        self._store = store
        self._engine = engine
        self._observer = observer
        self._outcomes = outcomes
        self._clock = clock
        self._pace = pace
        self._closing = closing
        #: Whose data is being looked for, or which are replayed.
        self._busy: set[CommitmentId] = set()
        #: Of those whose data was looked for and which are to be replayed: what of it is not to be had.
        self._at_hand: dict[CommitmentId, Away] = {}
        #: How often the data of one has come to hand.
        self.found = 0
        self._choosing = asyncio.Lock()
        self._looks: tuple[tuple[int, int, UnixTime] | None, list[Waiting]] = (None, [])
        #: When a model's files were last found here; for those where that is long ago, who is on the way for them now; and
        #: what was said, when, of those that could not be had.
        self._here: dict[ModelId, UnixTime] = {}
        self._bringing: dict[ModelId, CommitmentId] = {}
        self._absent: dict[ModelId, tuple[UnixTime, Verdict]] = {}
        self._gathered: tuple[BlockNumber, int] | None = None
        #: Changes of the store, and the time, at the end of the last turn that found nothing to fetch.
        self._seen: tuple[int, UnixTime] | None = None

    @property
    def at_hand(self) -> Collection[CommitmentId]:
        """Whose data was looked for, and which may be replayed."""
        return self._at_hand

    @property
    def busy(self) -> Collection[CommitmentId]:
        """Whose data is being looked for, or which are replayed."""
        return self._busy

    @contextmanager
    def replaying(self, commitment: CommitmentId) -> Iterator[Away | None]:
        """Gives what of its data is not to be had, as it was found. Until its row says that it was replayed, it seems to wait
        for its data: it is not looked for meanwhile."""
        away = self._at_hand.pop(commitment, None)
        self._busy.add(commitment)
        try:
            yield away
        finally:
            self._busy.discard(commitment)

    # of what was drawn

    async def look(self, now: UnixTime, *, near: bool = False) -> bool:
        """Looks for what the replay of one drawn commitment needs; True when there was one. Several may run at once: each
        waits for its server only. ``near``: only those that need none, which wait for nobody who does. ``now``: chain time as
        it was last seen, so that asking whether there is anything to do costs no endpoint a request."""
        row = await self._to_look_at(now, near=near)
        if row is None:
            return False
        chosen = row.commitment
        try:
            async with self._store.read() as view:
                items = await view.work.some([chosen])
            for item in items:
                # what waited in the queue may have been looked at since by another
                if item.work.state == State.SAMPLED and item.work.next_try <= now:
                    await self._outcomes.guarded(item, self._look_at(item, now))
        finally:
            self._busy.discard(chosen)
            self._brought(row.model, chosen)
        return True

    def _brought(self, model: ModelId, by: CommitmentId) -> None:
        """Others may look for that model's files, if it was ``by`` for whom they waited."""
        if self._bringing.get(model) == by:
            del self._bringing[model]

    def _is_here(self, model: ModelId, now: UnixTime) -> bool:
        return model in self._here and now - self._here[model] < _KEPT

    async def _to_look_at(self, now: UnixTime, *, near: bool) -> Waiting | None:
        """The next one, which is busy from now on."""
        async with self._choosing:
            key = self._store.changes, self._closing.news, now
            before, queue = self._looks
            # what is new meanwhile waits for the queue's end, or a block
            if before is None or before[1:] != key[1:] or (not queue and before != key):
                async with self._store.read() as view:
                    rows = self._closing.prolonged(await view.work.waiting([State.SAMPLED], ready=now))
                there = {row.commitment for row in rows}
                self._at_hand = {one: away for one, away in self._at_hand.items() if one in there}
                ready = [row for row in rows if now < row.closes and row.commitment not in self._at_hand]
                self._looks = key, in_turn(ready)
        queue = self._looks[1]
        found = next((number for number, row in enumerate(queue) if self._may_be_looked_at(row, now, near=near)), None)
        if found is None:
            return None
        row = queue.pop(found)
        self._busy.add(row.commitment)
        if not self._is_here(row.model, now):
            self._bringing.setdefault(row.model, row.commitment)
        return row

    def _may_be_looked_at(self, row: Waiting, now: UnixTime, *, near: bool) -> bool:
        if row.commitment in self._busy or row.commitment in self._at_hand:
            return False
        if self._is_here(row.model, now):
            return not (near and row.behind)
        # one at a time finds out whether a model's files can be had: the others hear of it
        return not near and row.model not in self._bringing

    async def _look_at(self, item: Item, began: UnixTime) -> None:
        commitment = CommitmentId(item.work.commitment)
        right = await self._replayed(item)
        absent = await self._weights(item, began) if right is None else None
        self._brought(item.commitment.model, commitment)  # what follows is this commitment's own affair
        # an input is demanded whether or not the model can be had; an output is compared with what a replay gave
        wanted = {Part.INPUT, Part.OUTPUT}
        if right is not None:
            wanted.remove(Part.INPUT)
        if absent is not None:
            wanted.remove(Part.OUTPUT)
        found = await self._observer.look(item.commitment, self._pace.backend, wanted)
        if isinstance(found, Verdict):
            await self._outcomes.record(item, found, None, began)
            return
        if Part.INPUT in found:
            await self._outcomes.record(item, missing(Part.INPUT, found[Part.INPUT]), None, began)
            return
        if absent is not None:
            await self._outcomes.record(item, absent, None, began)
        elif right is None:
            self._at_hand[commitment] = found
            self.found += 1
        elif Part.OUTPUT in found:
            await self._outcomes.record(item, missing(Part.OUTPUT, found[Part.OUTPUT], right), None, began)
        else:
            await self._outcomes.record(item, right, None, began)

    async def _weights(self, item: Item, now: UnixTime) -> Verdict | None:
        """Why the files of its model are not here; None when they are. What was heard a moment ago is heard again."""
        model = item.commitment.model
        heard = self._absent.get(model)
        if heard is not None and now - heard[0] < _ABSENT:
            return heard[1]
        found = await self._observer.weights(item.commitment)
        if found is None:
            self._here[model] = now
            self._absent.pop(model, None)
        else:
            self._here.pop(model, None)
            self._absent[model] = await self._clock(), found  # a server that is silent took its time
        return found

    async def _replayed(self, item: Item) -> Verdict | None:
        """What an earlier replay of this commitment said, if only the output was wanting: VALID."""
        if item.work.verdict is None:
            return None
        async with self._store.read() as view:
            found = await view.verdicts.get(item.work.verdict)
        if found is None or found.output_root is None:
            return None
        if found.kind != VerdictKind.UNAVAILABLE and not found.detail.startswith(OWN):
            return None
        return replace(as_verdict(found), kind=VerdictKind.VALID, detail="")

    # of all that is new

    async def prefetch(self) -> bool:
        """Fetches what was committed by URI for everything newly observed, drawn or not: a fetch betrays no draw. True when there
        was any."""
        now = await self._clock()
        seen = self._store.changes, now
        if self._seen == seen:
            return False
        wanted = await self._newly_observed(now)
        if not wanted:
            self._seen = seen
            return False
        async with self._store.read() as view:
            tasks = await view.chain.tasks_by_id([item.commitment.task for item in wanted])
        gate = asyncio.Semaphore(self._pace.fetches)

        async def fetch(uri: str, root: Hash32, length: int) -> None:
            async with gate:
                try:
                    await self._engine.bundle(uri, root, length)
                except OurDoing:
                    return  # the look at it says so, should it be drawn
                except Exception as error:  # noqa: BLE001 - one poisonous address keeps nobody else's data waiting
                    self._outcomes.mistake(host_of(uri), error)

        fetches = []
        for item in wanted:
            row, task = item.commitment, tasks.get(item.commitment.task)
            if task is not None and task.input_uri:
                fetches.append(fetch(task.input_uri, task.input_root, task.input_length))
            if row.output_uri:
                fetches.append(fetch(row.output_uri, row.output_root, row.output_length))
        await together(fetches)
        self._gathered = (wanted[-1].commitment.block, wanted[-1].commitment.log_index)
        return True

    async def _newly_observed(self, now: UnixTime) -> list[Item]:
        """The next page of commitments in chain order. A reorganisation may put one where we have been: then only
        the replay fetches it."""
        states = [State.OBSERVED, State.SKIPPED, State.SAMPLED]
        async with self._store.read() as view:
            if self._gathered is None:
                first = await view.work.first_open(now)
                if first is None:
                    return []
                self._gathered = (BlockNumber(first - 1), 0)
            return await view.work.following(states, self._gathered, closes_after=now, limit=_PAGE)


async def together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all to their end, then raises the first error of any: one failure cuts no other job short."""
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
