"""How long things take here: 99th percentiles from the store, and priors until there are enough samples.

With fewer than ``ENOUGH`` samples of an action the prediction is the larger of its prior and ``SAFETY`` times what was
measured; from then on the p99 alone. Replays are learned per model and backend, all else per action.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from sqlalchemy import select

from challenger.domain import ModelId
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
    ``confirmations`` after which a block counts as settled."""

    transactions: int
    blocks: int
    confirmations: int


def predict(prior: float, sample: tuple[int, float] | None) -> float:
    """Seconds: ``sample`` is (number of samples, their p99)."""
    if sample is None:
        return prior
    count, p99 = sample
    return p99 if count >= ENOUGH else max(prior, SAFETY * p99)


def action_of(stage: str, model: ModelId, backend: str) -> str:
    """The name under which a model's replays (``stage`` replay or confirm) are kept: at most 40 characters."""
    return f"{stage}/{model.hex()[:16]}/{backend}"[:40]


class Learned:
    """``ahead`` and the like answer from memory; ``refresh`` reads the store where something may be new."""

    def __init__(
        self, store: Store, course: Course, backends: tuple[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._course = course
        self._backend, self._confirm_backend = backends
        self._clock = clock
        self._samples: Mapping[str, tuple[int, float]] = {}
        self._loaded: float | None = None
        self.block_time = BLOCK_TIME

    async def refresh(self) -> None:
        now = self._clock()
        if self._loaded is not None and now - self._loaded < _REFRESH:
            return
        newest = select(blocks.c.number, blocks.c.time).order_by(blocks.c.number.desc()).limit(_NEWEST)
        async with self._store.read() as view:
            self._samples = await view.latencies.all()
            rows = (await view.connection.execute(newest)).all()
        gaps = [late.time - early.time for late, early in pairwise(rows) if late[0] == early[0] + 1]
        if gaps:
            self.block_time = max(0.1, float(statistics.median(gaps)))
        self._loaded = now

    async def add(self, unit: Unit, action: str, seconds: float) -> None:
        """Keeps a sample, in the transaction of what it measured."""
        await unit.latencies.add(action, seconds)
        self._loaded = None

    def replay(self, model: ModelId) -> float:
        return predict(REPLAY, self._samples.get(action_of("replay", model, self._backend)))

    def confirm(self, model: ModelId) -> float:
        return predict(CONFIRM, self._samples.get(action_of("confirm", model, self._confirm_backend)))

    def inclusion(self) -> float:
        """One transaction: from the wish to a block."""
        return predict(INCLUSION_BLOCKS * self.block_time, self._samples.get("inclusion"))

    def depth(self) -> float:
        """How long a block may still be taken back."""
        return predict(self._course.confirmations * self.block_time, self._samples.get("depth"))

    def ahead(self, model: ModelId) -> Ahead:
        """All that is before a commitment of ``model`` whose replay has not begun."""
        filing = self._course.transactions * self.inclusion() + self._course.blocks * self.block_time
        return Ahead(self.replay(model), self.confirm(model), filing, self.depth())

    def demand(self, model: ModelId) -> Ahead:
        """What is before a demand for data: one transaction."""
        return Ahead(self.replay(model), 0.0, self.inclusion(), self.depth())
