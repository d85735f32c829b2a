"""The self-test in production: known frauds through our own workers, and an alert when one is not caught.

For a share of the valid verdicts, drawn at random, a false twin of the answer is planted and judged by the code that judges
commitments: fetch, known answer, replay, comparison, and a confirmation on the second backend. Its replays run in
processes of their own, on time that no real case needs, and end at once when one does. An item is a row before anything
judges it; what a dead process left open is broken off at the next start.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from challenger.domain import CommitmentId, Millionths, PlantId, UnixTime, Verdict, VerdictKind
from challenger.errors import Expected, StoreError
from challenger.pipeline.engine import Replays
from challenger.pipeline.idle import Idle
from challenger.pipeline.observe import Question, question_of, verdict_on
from challenger.pipeline.planted import Change, Ended, Planted, changes, falsified, outcome_of
from challenger.store.engine import Store
from challenger.store.selftests import Outcome
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import LOGGER, say
from challenger.telemetry.metrics import SELFTEST_SECONDS, SELFTESTS

Clock = Callable[[], Awaitable[UnixTime]]
#: Items in a row that came to no verdict before a person is told.
_PATIENCE = 3


class SelfTest:
    """``rate``: planted items per valid verdict, 0: none; ``seconds``: after which an item that has not ended counts as
    undecided; ``entropy``: secret bytes, so that no provider foresees what is planted and when."""

    def __init__(
        self,
        store: Store,
        engine: Replays,
        clock: Clock,
        idle: Idle,
        telemetry: Instruments,
        *,
        rate: Millionths,
        backend: str,
        confirm_backend: str,
        seconds: float,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._idle = idle
        self._telemetry = telemetry
        self._rate = rate
        self._backends = (backend, confirm_backend)
        self._seconds = seconds
        self._entropy = entropy
        self._draw = random.Random()  # noqa: S311 - seeded by a secret before its first use; nobody sees its numbers
        self._cursor: int | None = None
        self._seen = -1
        self._drawn: CommitmentId | None = None
        self._undecided = 0

    async def step(self) -> bool:
        """Plants and judges one item if one is due and nobody else wants the workers; True when one was."""
        if self._cursor is None:
            await self._take_up()
        if not self._rate:
            return False
        await self._look()
        if self._drawn is None or not self._idle.free:
            return False
        source, self._drawn = self._drawn, None
        planted = await self._planted(source)
        if planted is not None:
            await self._try(planted)
        return planted is not None

    async def _take_up(self) -> None:
        """Breaks off what another process left open, and begins behind the newest verdict."""
        async with self._store.read() as view:
            left = await view.selftests.open()
            newest = await view.selftests.last_verdict()
        for one in left:
            await self._end(one, Ended(Outcome.BROKEN_OFF, "the process ended"), 0.0)
        self._draw.seed(self._entropy(32))
        self._cursor = newest

    async def _look(self) -> None:
        """Draws over the valid verdicts that are new; of several that are drawn the last one counts."""
        if self._seen == self._store.changes:
            return
        self._seen = self._store.changes
        async with self._store.read() as view:
            fresh = await view.selftests.valid_after(self._cursor or 0)
        for one in fresh:
            self._cursor = one.verdict
            if self._draw.randrange(1_000_000) < self._rate:
                self._drawn = one.commitment

    async def _planted(self, source: CommitmentId) -> Planted | None:
        """None, too, when our own code failed on this answer: that must not stop the watch over all others."""
        try:
            return await self._plant(source)
        except (Expected, StoreError):
            raise  # the loop says so and comes back
        except Exception as error:  # noqa: BLE001 - told as a bug, as the investigator tells its own
            self._telemetry.alerts.alert("bug", about=subject_of(source), error=repr(error))
            LOGGER.debug("while planting", exc_info=error)
            return None

    async def _plant(self, source: CommitmentId) -> Planted | None:
        """None when a reorganisation took the honest answer away."""
        async with self._store.read() as view:
            row = await view.chain.commitment(source)
            honest = None if row is None else await question_of(view, row)
            if row is None or honest is None:
                return None
            alike = await self._other(view, source, honest, same=True)
            foreign = await self._other(view, source, honest, same=False)
        honest = await self._on_hand(honest)
        change = self._draw.choice(changes(alike, foreign))
        other = {Change.OTHER_TASK: alike, Change.OTHER_MODEL: foreign}.get(change, [])
        asked = falsified(honest, change, other[0] if other else None, self._draw)
        async with self._store.begin(await self._clock()) as unit:
            identity = await unit.selftests.plant(row.model, source, change.value, asked.output_root, asked.state_root)
        return Planted(identity, change, honest, asked)

    async def _other(self, view: View, source: CommitmentId, honest: Question, *, same: bool) -> list[Question]:
        """Another valid answer, if there is one whose roots are not the same."""
        there = [one for one in await view.selftests.others(honest.facts.model, same=same) if one != source]
        if not there:
            return []
        row = await view.chain.commitment(self._draw.choice(there))
        found = None if row is None else await question_of(view, row)
        differs = found is not None and (found.output_root, found.state_root) != (honest.output_root, honest.state_root)
        return [found] if found is not None and differs else []

    async def _on_hand(self, honest: Question) -> Question:
        """With its output, where that lies behind a URI and can still be had: there is more to falsify."""
        if honest.output or not honest.output_uri:
            return honest
        try:
            async with asyncio.timeout(self._seconds):
                there = await self._engine.bundle(*honest.behind)
        except (Expected, TimeoutError):
            there = None  # then only its root is falsified
        return replace(honest, output=there) if isinstance(there, bytes) else honest

    async def _try(self, planted: Planted) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._seconds):
                said = await self._idle.lend(self._judge(planted))
            ended = Ended(Outcome.BROKEN_OFF, "a real case came") if said is None else outcome_of(planted, *said)
        except TimeoutError:
            ended = Ended(Outcome.UNDECIDED, f"no verdict within {self._seconds:g} s")
        except Exception as error:  # noqa: BLE001 - what fails here is what the self-test is for: said, and no end of the watch
            LOGGER.debug("in the self-test", exc_info=error)
            ended = Ended(Outcome.UNDECIDED, f"{type(error).__name__}: {error}")
        await self._end(planted.id, ended, time.monotonic() - began)
        self._tell(planted, ended)

    async def _judge(self, planted: Planted) -> tuple[Verdict, Verdict | None]:
        """Both replays in processes of their own: one that is ended half way takes no warm worker with it."""
        backend, confirm_backend = self._backends
        first = await verdict_on(self._engine, planted.asked, backend, fresh=True)
        if first.kind is not VerdictKind.FRAUD:
            return first, None
        return first, await verdict_on(self._engine, planted.asked, confirm_backend, fresh=True)

    async def _end(self, planted: PlantId, ended: Ended, seconds: float) -> None:
        async with self._store.begin(await self._clock()) as unit:
            await unit.selftests.end(planted, ended.outcome, ended.detail, seconds)
        self._telemetry.metrics.count(SELFTESTS, outcome=ended.outcome.value)
        if ended.outcome in (Outcome.CAUGHT, Outcome.MISSED):
            self._telemetry.metrics.observe(SELFTEST_SECONDS, seconds)

    def _tell(self, planted: Planted, ended: Ended) -> None:
        alerts = self._telemetry.alerts
        about, model = planted.id.subject, planted.honest.facts.model
        level = logging.INFO if ended.outcome is Outcome.CAUGHT else logging.WARNING
        say(
            "selftest", level=level, planted=about, change=planted.change.value, outcome=ended.outcome, why=ended.detail
        )
        if ended.outcome is Outcome.MISSED:
            alerts.alert("selftest-missed", about=about, model=model, change=planted.change.value, why=ended.detail)
        elif ended.outcome is Outcome.UNDECIDED:
            self._undecided += 1
            if self._undecided >= _PATIENCE:
                alerts.alert("selftest-undecided", count=self._undecided, model=model, why=ended.detail)
        if ended.outcome in (Outcome.CAUGHT, Outcome.MISSED):
            self._undecided = 0
            alerts.clear("selftest-undecided")
