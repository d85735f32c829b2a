"""One policy played over a history, with one seed: what is drawn, replayed, accused, and what it costs and brings. Pure.

The rules are the watcher's own: rates and draws of ``sampling``, the order and the shedding of ``schedule``, the gates of
``gates``. What the history cannot tell is assumed (``World``), and everything takes as long as is predicted. Replays find
what is true; nobody's dispute is lost.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from challenger.backtest.choices import Choice
from challenger.backtest.past import History, Past, Truth
from challenger.domain import ONE, Address, Capability, CommitmentId, Hash32, ModelId, UnixTime, Wei, Window
from challenger.pipeline.bonds import DAY
from challenger.pipeline.gates import Situation, refusal
from challenger.pipeline.obstacles import DEMAND_GAS, DISPUTE_GAS, STRESS
from challenger.pipeline.schedule import Ahead, Item, arrange, due, soon
from challenger.protocols.reference import TRUST
from challenger.sampling.draw import draw, selects
from challenger.sampling.economics import Stakes
from challenger.sampling.policy import Inputs, rate

#: A seed is no secret from anybody, so the draw needs no later block's hash.
_NO_BLOCK = Hash32(bytes(32))
#: Seconds after which a plan that is not worked off yet is made anew.
_STALE = 60
_RICH = Wei(1 << 300)


@dataclass(frozen=True, slots=True)
class World:
    """What no history tells. ``gas_price``: wei; ``approval``: seconds until a person looks at a pause that correlated
    accusations open; ``ruling``: seconds from a challenge to its settlement."""

    gas_price: Wei = Wei(20 * 10**9)
    approval: int = 900
    ruling: int = 3_600


class Fate(StrEnum):
    """What became of a fraud. ``others``: somebody else ended it before we could; ``refused``: confirmed, and a gate kept
    it from being filed until its window closed."""

    CAUGHT = "caught"
    OTHERS = "others"
    REFUSED = "refused"
    LATE = "late"
    SHED = "shed"
    UNDRAWN = "undrawn"


@dataclass(slots=True)
class Play:
    """``fates`` of the frauds; ``unjudged``: drawn, right as far as known, and not replayed before their windows closed;
    ``unknown``: replayed, and nobody knows what they were; ``busy``: seconds of workers; ``gas``, ``won`` and ``peak`` (of
    bonds out at a time) in wei; ``slacks``: seconds left when a challenge or demand stood; ``refusals``: by first word."""

    drawn: int = 0
    replays: int = 0
    unjudged: int = 0
    unknown: int = 0
    busy: float = 0.0
    gas: int = 0
    won: int = 0
    peak: int = 0
    pauses: int = 0
    fates: Counter[Fate] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    slacks: list[float] = field(default_factory=list)

    @property
    def net(self) -> int:
        return self.won - self.gas

    @property
    def missed(self) -> int:
        """Whatever was drawn and not brought to its end before its window closed."""
        return self.unjudged + self.fates[Fate.LATE] + self.fates[Fate.SHED]


def play(history: History, choice: Choice, world: World, secret: bytes) -> Play:
    """``secret``: of all draws."""
    return _Player(history, choice, world, secret).play()


class _Event(IntEnum):
    """In the order in which events of one second happen."""

    SETTLED = 0
    LANDED = 1
    CONFIRMED = 2
    REPLAYED = 3
    DRAWN = 4
    CONSIDER = 5


class _Player:
    def __init__(self, history: History, choice: Choice, world: World, secret: bytes) -> None:
        self.pasts = history.pasts
        self.params = history.params
        self.predicted = history.predictions
        self.choice, self.world, self.secret = choice, world, secret
        self.told = Play()
        self.now = 0.0
        self.coming: list[tuple[float, int, int]] = []
        # workers
        self.free = choice.workers
        self.queue: dict[CommitmentId, int] = {}
        self.aside: dict[CommitmentId, int] = {}
        self.plan: deque[CommitmentId] = deque()
        self.planned = 0.0
        self.stale = False
        self.accused: list[tuple[float, int]] = []
        self.items: dict[int, Item] = {}
        self.ahead: dict[ModelId, Ahead] = {}
        # providers: replays that judged, confirmed frauds
        self.records: dict[Address, tuple[int, int]] = {}
        # money
        self.out = 0
        self.against: Counter[Address] = Counter()
        self.opened: deque[tuple[float, int]] = deque()
        self.obstacle: dict[int, str] = {}
        self.suspects: dict[ModelId, list[tuple[float, Address]]] = defaultdict(list)
        self.looked: dict[ModelId, float] = {}

    def play(self) -> Play:
        handlers = {
            _Event.SETTLED: self._settled,
            _Event.LANDED: self._landed,
            _Event.CONFIRMED: self._confirmed,
            _Event.REPLAYED: self._replayed,
            _Event.DRAWN: self._enqueue,
            _Event.CONSIDER: self._consider,
        }
        arrival, count = 0, len(self.pasts)
        while arrival < count or self.coming:
            arrives = self.pasts[arrival].committed_at if arrival < count else math.inf
            self.now = min(arrives, self.coming[0][0] if self.coming else math.inf)
            while arrival < count and self.pasts[arrival].committed_at <= self.now:
                self._arrive(arrival)
                arrival += 1
            while self.coming and self.coming[0][0] <= self.now:
                _, kind, index = heapq.heappop(self.coming)
                handlers[_Event(kind)](index)
            self._dispatch()
        for index in self.queue.values():
            self._end(index, Fate.LATE)
        for index in self.aside.values():
            self._end(index, Fate.SHED)
        return self.told

    def _later(self, seconds: float, event: _Event, index: int) -> None:
        heapq.heappush(self.coming, (self.now + seconds, event, index))

    # the draw

    def _arrive(self, index: int) -> None:
        past = self.pasts[index]
        judged, frauds = self.records.get(past.provider, (0, 0))
        p = rate(self.choice.policy, Inputs(judged, frauds, past.fee, self.params.burnt))
        if selects(draw(self.secret, past.commitment, _NO_BLOCK), p):
            self.told.drawn += 1
            self._later(self.choice.delay * self.predicted.block_time, _Event.DRAWN, index)
        else:
            self._end(index, Fate.UNDRAWN)

    def _enqueue(self, index: int) -> None:
        past = self.pasts[index]
        if past.truth is Truth.WITHHELD:
            # nothing to replay: it is fetched twice, and demanded then
            self._later(self.choice.retry, _Event.CONSIDER, index)
            return
        self.queue[past.commitment] = index
        self.stale = True

    # the workers

    def _dispatch(self) -> None:
        while self.free and self.accused:
            _, index = heapq.heappop(self.accused)
            past = self.pasts[index]
            self._work(self._ahead(past).confirm, _Event.CONFIRMED, index)
        while self.free and (self.queue or self.aside):
            if not self.plan or (self.stale and self.now - self.planned >= _STALE):
                self._arrange()
            if not self.plan:
                return
            commitment = self.plan.popleft()
            index = self.queue.pop(commitment)
            if self.pasts[index].closes <= self.now:
                self._end(index, Fate.LATE)
                continue
            self.told.replays += 1
            self._work(self._ahead(self.pasts[index]).replay, _Event.REPLAYED, index)

    def _work(self, seconds: float, event: _Event, index: int) -> None:
        self.free -= 1
        self.told.busy += seconds
        self._later(seconds, event, index)

    def _arrange(self) -> None:
        for waiting, fate in ((self.queue, Fate.LATE), (self.aside, Fate.SHED)):
            for commitment, index in list(waiting.items()):
                if self.pasts[index].closes <= self.now:
                    del waiting[commitment]
                    self._end(index, fate)
        queue = [self._item(index) for index in self.queue.values()]
        put_by = [self._item(index) for index in self.aside.values()]
        busy = sum(self._ahead(self.pasts[index]).confirm for _, index in self.accused)
        found = arrange(queue, put_by, UnixTime(int(self.now)), self.choice.workers, busy, idle=not self.accused)
        for item in found.shed:
            self.aside[item.commitment] = self.queue.pop(item.commitment)
        for item in found.back:
            self.queue[item.commitment] = self.aside.pop(item.commitment)
        self.plan = deque(item.commitment for item in (*found.replays, *found.back))
        self.planned, self.stale = self.now, False

    def _item(self, index: int) -> Item:
        if index not in self.items:
            past = self.pasts[index]
            value = self.params.reward + past.fee
            self.items[index] = Item(past.commitment, past.closes, value, self._ahead(past), past.provider)
        return self.items[index]

    def _ahead(self, past: Past) -> Ahead:
        if past.model not in self.ahead:
            self.ahead[past.model] = self.predicted.ahead(past.model)
        return self.ahead[past.model]

    def _replayed(self, index: int) -> None:
        self.free += 1
        past = self.pasts[index]
        judged, frauds = self.records.get(past.provider, (0, 0))
        self.records[past.provider] = (judged + 1, frauds)
        self.told.unknown += past.truth is Truth.UNKNOWN
        if past.truth is Truth.WRONG:
            heapq.heappush(self.accused, (due(self._item(index)), index))

    def _confirmed(self, index: int) -> None:
        self.free += 1
        past = self.pasts[index]
        judged, frauds = self.records[past.provider]
        self.records[past.provider] = (judged, frauds + 1)
        self.suspects[past.model].append((self.now, past.provider))
        self._consider(index)

    # the money

    def _consider(self, index: int) -> None:
        past = self.pasts[index]
        if past.rival is not None and past.rival <= min(self.now, past.closes):
            self._end(index, Fate.OTHERS)
            return
        if past.truth is Truth.WITHHELD and index not in self.obstacle:
            self.suspects[past.model].append((self.now, past.provider))
        reason = self._refusal(past)
        if reason.startswith("window:") or (reason and past.closes <= self.now):
            before = self.obstacle.get(index, "") or ("" if reason.startswith("window:") else reason)
            if before:
                self.told.refusals[before.partition(":")[0]] += 1
            self._end(index, Fate.REFUSED if before else Fate.LATE)
            return
        if reason:
            self.obstacle[index] = reason
            last = UnixTime(past.closes - self.choice.limits.safety_seconds)
            wait = soon(UnixTime(int(self.now)), last, self.choice.retry) - int(self.now)
            # no later than the end, so that it comes to one
            self._later(min(wait, max(1.0, past.closes - self.now)), _Event.CONSIDER, index)
            return
        bond, _, gas = self._terms(past)
        self.out += bond
        self.against[past.provider] += bond
        self.opened.append((self.now, bond))
        self.told.peak = max(self.told.peak, self.out)
        self.told.gas += gas * self.world.gas_price
        ahead = self._ahead(past) if past.truth is Truth.WRONG else self.predicted.demand(past.model)
        self._later(ahead.inclusion, _Event.LANDED, index)

    def _refusal(self, past: Past) -> str:
        if self.world.gas_price > self.choice.limits.max_fee:
            return "max_fee: no transaction is mined at less than the gas price"
        bond, reward, gas = self._terms(past)
        price = min(STRESS * self.world.gas_price, self.choice.limits.max_fee)
        while self.opened and self.opened[0][0] < self.now - DAY:
            self.opened.popleft()
        win = TRUST if past.truth is Truth.WRONG else ONE
        situation = Situation(
            now=UnixTime(int(self.now)),
            window=Window(past.committed_at, past.closes, frozen=True),
            capability=Capability.OPEN,
            stakes=Stakes(bond, reward, Wei(price * gas), win),
            spends=Wei(bond + price * gas),
            outstanding=Wei(self.out),
            balance=_RICH,
            accused=self._correlated(past.model),
            pinned=True,
            refused="",
            against=Wei(self.against[past.provider]),
            opened=Wei(sum(bond for _, bond in self.opened)),
        )
        return refusal(self.choice.limits, situation)

    def _terms(self, past: Past) -> tuple[Wei, Wei, int]:
        """Bond and reward in wei, gas."""
        if past.truth is Truth.WRONG:
            return self.params.challenge_bond, self.params.reward, DISPUTE_GAS
        return self.params.demand_bond, self.params.reward, DEMAND_GAS

    def _correlated(self, model: ModelId) -> int:
        """Providers accused within the hour that no person has looked at; enough of them open a pause, at the end of
        which one has."""
        limit, looked = self.choice.limits.correlated_providers, self.looked.get(model, 0.0)
        if looked > self.now:
            return limit
        hour = self.now - self.choice.correlated_seconds
        suspects = [one for one in self.suspects[model] if one[0] > hour]
        self.suspects[model] = suspects
        cleared = {provider for time, provider in suspects if time <= looked}
        count = len({provider for time, provider in suspects if time > looked} - cleared)
        if count >= limit:
            self.told.pauses += 1
            self.looked[model] = self.now + self.world.approval
        return count

    def _landed(self, index: int) -> None:
        past = self.pasts[index]
        if past.closes <= self.now:
            self._returned(past)
            self._end(index, Fate.LATE)
            return
        first = past.rival is None or past.rival > self.now
        self._end(index, Fate.CAUGHT if first else Fate.OTHERS)
        if first:
            self.told.slacks.append(past.closes - self.now)
            self.told.won += self._terms(past)[1]
        wait = self.world.ruling if past.truth is Truth.WRONG else self.params.answer_period
        self._later(wait, _Event.SETTLED, index)

    def _settled(self, index: int) -> None:
        self._returned(self.pasts[index])

    def _returned(self, past: Past) -> None:
        bond = self._terms(past)[0]
        self.out -= bond
        self.against[past.provider] -= bond

    def _end(self, index: int, fate: Fate) -> None:
        if self.pasts[index].truth in (Truth.WRONG, Truth.WITHHELD):
            self.told.fates[fate] += 1
        elif fate is not Fate.UNDRAWN:
            self.told.unjudged += 1
