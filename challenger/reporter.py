"""A report that goes on: `challenger run` where the protocol has no dispute. Block after block, for as long as it runs.

Its parts, inferences and settlements, go on apart: what holds one of them up leaves the other alone. How far each came
stands in the record, and so does the secret that drew the inferences of a range, written with what was found: whoever has
the record draws the same ones. Nothing is due by any time here, so nothing is scheduled: a range that could not be read is
read again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from challenger.chain.rpc import Rpc
from challenger.chain.wakeup import pause
from challenger.domain import Address, UnixTime
from challenger.errors import ChallengerError, Expected, StoreError
from challenger.parts import artifact_store, replay_pool
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.audit import Checked
from challenger.protocols.opengradient.replaying import Models, Workers
from challenger.protocols.opengradient.settlement.audit import Known, UnnamedRegistry
from challenger.reach import reached
from challenger.reporting import OPENGRADIENT, Report, Wanted
from challenger.settings import Settings
from challenger.store.engine import Store, open_store
from challenger.telemetry.logs import LOGGER, say

#: Blocks of one range: what is lost when a range cannot be read to its end is so much work.
_RANGE = 2_000
#: Where in the record the next block of each part stands.
_INFERENCES = f"reported/{OPENGRADIENT}"
_SETTLEMENTS = f"reported/{OPENGRADIENT}/settlement"
_NOTHING = Address("")


async def keep_reporting(
    settings: Settings,
    stop: asyncio.Event,
    *,
    rpc: Rpc | None = None,
    models: Models | None = None,
    workers: Workers | None = None,
) -> None:
    """Reports from ``[chain] start_block`` to the newest confirmed block, and on, until ``stop`` is set. An inference is run
    again with the probability ``[sampling] base``. ``rpc``, ``models`` and ``workers`` stand in for the endpoints, the
    artefact store and the replay pool. Raises ConfigError and StoreError at the start; later trouble is said and survived."""
    Report(settings, Wanted(0))  # it says what the settings lack
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.url))
        if rpc is None:
            with suppress(Expected):  # an endpoint that is away may come back; one of another chain is a mistake
                async with reached(settings):
                    pass
        if models is None:
            files: Models = await stack.enter_async_context(artifact_store(settings))
            models = files
        if workers is None:
            pool: Workers = await stack.enter_async_context(replay_pool(settings))
            workers = pool
        known = stack.enter_context(closing(Known()))
        parts = await _parts(settings, store, rpc, models, workers, known)
        say("started", protocol=OPENGRADIENT, database=store.where, mode="report")
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.go_on(stop))
        say("stopped")


async def _parts(
    settings: Settings, store: Store, rpc: Rpc | None, models: Models, workers: Workers, known: Known
) -> list[_Part]:
    """Those that the settings name contracts for."""
    ours, parts = settings.opengradient, []
    if ours.hub:
        alone = replace(settings, opengradient=replace(ours, settlement=_NOTHING))
        parts.append(_Part(_INFERENCES, alone, store, rpc, models, workers, known))
    if ours.settlement:
        async with store.begin(UnixTime(0)) as unit:
            if await unit.settings.get(_SETTLEMENTS) is None:  # it begins where both were, when they went together
                before = await unit.settings.get(_INFERENCES)
                await unit.settings.put(_SETTLEMENTS, str(settings.chain.start_block) if before is None else before)
        alone = replace(settings, opengradient=replace(ours, hub=_NOTHING))
        parts.append(_Part(_SETTLEMENTS, alone, store, rpc, models, workers, known))
    return parts


@dataclass(frozen=True, slots=True)
class _Part:
    """``settings`` name its contracts alone; ``key``: of the next block in the record."""

    key: str
    settings: Settings
    store: Store
    rpc: Rpc | None
    models: Models
    workers: Workers
    known: Known

    async def go_on(self, stop: asyncio.Event) -> None:
        told = ""
        while not stop.is_set():
            try:
                more = await self._next_range()
                told = ""
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the other part
                more = False
                told = self._trouble(error, told)
            if not more:
                await pause(stop, None, self.settings.chain.poll)

    def _trouble(self, error: Exception, told: str) -> str:
        """What is to be put right by a person is an error; the same trouble is said once."""
        passes = isinstance(error, Expected | StoreError)
        text = str(error) if isinstance(error, ChallengerError) else repr(error)
        if text != told:
            say("trouble", level=logging.WARNING if passes else logging.ERROR, loop="report", part=self.key, error=text)
            LOGGER.debug("in a report", exc_info=error)
        return text

    async def _next_range(self) -> bool:
        """Reports on the next range, if there is one; whether there may be more."""
        async with AsyncExitStack() as stack:
            rpc = self.rpc or (await stack.enter_async_context(reached(self.settings)))[0]
            head = await rpc.block("latest")
            async with self.store.read() as view:
                kept = await view.settings.get(self.key)
            first = self.settings.chain.start_block if kept is None else int(kept)
            newest = head.number - self.settings.chain.confirmations + 1
            last = min(newest, first + _RANGE - 1)
            if last < first:
                return False
            try:
                entry = await self._reported(rpc, first, last)
            except UnnamedRegistry as error:
                if error.block == first:
                    raise
                last = error.block - 1
                entry = await self._reported(rpc, first, last)
            subject, payload = entry
            async with self.store.begin(UnixTime(head.time)) as unit:
                await unit.journal.write(unit.now, "reported", subject, payload)
                await unit.settings.put(self.key, str(last + 1))
            return last < newest

    async def _reported(self, rpc: Rpc, first: int, last: int) -> tuple[str, dict[str, Any]]:
        """Subject and payload of the entry in the journal."""
        wanted = Wanted(first, last, self.settings.sampling.base)
        report = Report(
            self.settings, wanted, rpc=rpc, models=self.models, workers=self.workers, kept=_say, known=self.known
        )
        seen = 0
        async for one in report.results():
            seen += isinstance(one, Checked)
        if self.key == _SETTLEMENTS:
            return f"{OPENGRADIENT}/settlement/{report.chain}/{last}", {"first": first, "last": last}
        drawn = {"first": first, "last": last, "seed": wanted.seed, "rate": wanted.rate, "inferences": seen}
        return f"{OPENGRADIENT}/{report.chain}/{last}", drawn


def _say(found: Finding) -> None:
    say(
        "finding",
        level=logging.WARNING,
        kind=found.kind,
        subject=found.subject,
        hop=found.hop,
        party=found.party,
        ground=str(found.ground),
    )
