"""How long things take here: 99th percentiles from the store, and priors until there are enough samples.

With fewer than ``ENOUGH`` samples of an action the prediction is the larger of its prior and ``SAFETY`` times what was
measured; from then on the p99 alone. Replays are learned per model and backend, all else per action.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sqlalchemy import select

from challenger.domain import ModelId, UnixTime
from challenger.pipeline.schedule import Ahead
from challenger.store.engine import Store
from challenger.store.schema import blocks
from challenger.store.unit import Unit

ENOUGH = 20
SAFETY = 2.0
#: Seconds of a first replay, and of its reproduction on the slow backend, before one was measured.
REPLAY, CONFIRM = 5.0, 30.0
#: Seconds between two blocks before any are known (Ethereum's slots).
BLOCK_TIME = 12.0
#: Blocks in which a transaction is predicted to be mined before one was.
INCLUSION_BLOCKS = 3
#: Seconds after which samples of others (the sender's) are looked at again.
_REFRESH = 30.0
_NEWEST = 65


@dataclass(frozen=True, slots=True)
class Course:
    """How a protocol opens a dispute: ``transactions`` one after the other, ``blocks`` to wait between them;
    ``confirmations`` after which a block counts as settled. ``demands``: seconds from a commitment on in which its data may
    be demanded; 0: as long as its window is open."""

    transactions: int
    blocks: int
    confirmations: int
    demands: int = 0


def predict(prior: float, sample: tuple[int, float] | None) -> float:
    """Seconds: ``sample`` is (number of samples, their p99)."""
    if sample is None:
        return prior
    count, p99 = sample
    return p99 if count >= ENOUGH else max(prior, SAFETY * p99)


def action_of(stage: str, model: ModelId, backend: str) -> str:
    """The name under which a model's replays (``stage`` replay or confirm) are kept: at most 40 characters."""
    return f"{stage}/{model.hex()[:16]}/{backend}"[:40]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Seconds that things take, as far as ``samples`` (by action: their number and p99) tell; ``block_time``: seconds
    between two blocks; ``backends``: of the replay and of its confirmation. Pure."""

    course: Course
    backends: tuple[str, str]
    samples: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    block_time: float = BLOCK_TIME

    def replay(self, model: ModelId) -> float:
        return predict(REPLAY, self.samples.get(action_of("replay", model, self.backends[0])))

    def confirm(self, model: ModelId) -> float:
        return predict(CONFIRM, self.samples.get(action_of("confirm", model, self.backends[1])))

    def inclusion(self) -> float:
        """One transaction: from the wish to a block."""
        return predict(INCLUSION_BLOCKS * self.block_time, self.samples.get("inclusion"))

    def depth(self) -> float:
        """How long a block may still be taken back."""
        return predict(self.course.confirmations * self.block_time, self.samples.get("depth"))

    def ahead(self, model: ModelId) -> Ahead:
        """All that is before a commitment of ``model`` whose replay has not begun."""
        filing = self.course.transactions * self.inclusion() + self.course.blocks * self.block_time
        return Ahead(self.replay(model), self.confirm(model), filing, self.depth())

    def demanded_by(self, committed: UnixTime, closes: UnixTime) -> UnixTime:
        """When a demand must stand: what extends a window leaves the time for demands as it is."""
        return min(closes, UnixTime(committed + self.course.demands)) if self.course.demands else closes

    def demand(self, model: ModelId) -> Ahead:
        """What is before a demand for data: one transaction."""
        return Ahead(self.replay(model), 0.0, self.inclusion(), self.depth())


def gap(times: Sequence[tuple[int, int]]) -> float | None:
    """Seconds between two blocks, the median of what (number, time) of blocks in order show; None where they show none."""
    gaps = [abs(late[1] - early[1]) for early, late in pairwise(times) if abs(late[0] - early[0]) == 1]
    return max(0.1, float(statistics.median(gaps))) if gaps else None


class Learned:
    """The predictions that hold ``now``, from memory; ``refresh`` reads the store where something may be new."""

    def __init__(
        self, store: Store, course: Course, backends: tuple[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._loaded: float | None = None
        self.now = Predictions(course, backends)

    async def refresh(self) -> None:
        now = self._clock()
        if self._loaded is not None and now - self._loaded < _REFRESH:
            return
        newest = select(blocks.c.number, blocks.c.time).order_by(blocks.c.number.desc()).limit(_NEWEST)
        async with self._store.read() as view:
            samples = await view.latencies.all()
            rows = [(row.number, row.time) for row in await view.connection.execute(newest)]
        self.now = replace(self.now, samples=samples, block_time=gap(rows) or self.now.block_time)
        self._loaded = now

    async def add(self, unit: Unit, action: str, seconds: float) -> None:
        """Keeps a sample, in the transaction of what it measured."""
        await unit.latencies.add(action, seconds)
        self._loaded = None
