"""A report that goes on: `challenger run` where the protocol has no dispute. Block after block, for as long as it runs.

How far it came stands in the record, and so does the secret that drew each range, written with what was found: whoever has
the record draws the same inferences. Nothing is due by any time here, so nothing is scheduled: a range that could not be
read is read again.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from challenger.chain.rpc import Rpc
from challenger.chain.wakeup import pause
from challenger.domain import UnixTime
from challenger.errors import Expected, StoreError
from challenger.parts import artifact_store, replay_pool
from challenger.protocols.findings import Finding
from challenger.protocols.opengradient.audit import Checked
from challenger.protocols.opengradient.replaying import Models, Workers
from challenger.reach import reached
from challenger.reporting import OPENGRADIENT, Report, Wanted
from challenger.settings import Settings
from challenger.store.engine import Store, open_store
from challenger.telemetry.logs import say

#: Blocks of one range: what is lost when a range cannot be read to its end is so much work.
_RANGE = 2_000
_NEXT = f"reported/{OPENGRADIENT}"


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
        if models is None:
            files: Models = await stack.enter_async_context(artifact_store(settings))
            models = files
        if workers is None:
            pool: Workers = await stack.enter_async_context(replay_pool(settings))
            workers = pool
        shared = models, workers
        say("started", protocol=OPENGRADIENT, database=store.where, mode="report")
        told = ""
        while not stop.is_set():
            try:
                more = await _range(settings, store, shared, rpc)
                told = ""
            except (Expected, StoreError) as error:
                more = False
                if str(error) != told:  # the same trouble is said once
                    told = str(error)
                    say("trouble", level=logging.WARNING, loop="report", error=told)
            if not more:
                await pause(stop, None, settings.chain.poll)
        say("stopped")


async def _range(settings: Settings, store: Store, shared: tuple[Models, Workers], given: Rpc | None) -> bool:
    """Reports on the next range, if there is one; whether there may be more."""
    async with AsyncExitStack() as stack:
        rpc = given or (await stack.enter_async_context(reached(settings)))[0]
        head = await rpc.block("latest")
        async with store.read() as view:
            kept = await view.settings.get(_NEXT)
        first = settings.chain.start_block if kept is None else int(kept)
        newest = head.number - settings.chain.confirmations + 1
        last = min(newest, first + _RANGE - 1)
        if last < first:
            return False
        models, workers = shared
        wanted = Wanted(first, last, settings.sampling.base)
        report = Report(settings, wanted, rpc=rpc, models=models, workers=workers)
        seen = 0
        async for one in report.results():
            seen += isinstance(one, Checked)
            for found in one.findings if isinstance(one, Checked) else (one,) if isinstance(one, Finding) else ():
                say(
                    "finding",
                    level=logging.WARNING,
                    kind=found.kind,
                    subject=found.subject,
                    hop=found.hop,
                    party=found.party,
                    ground=str(found.ground),
                )
        async with store.begin(UnixTime(head.time)) as unit:
            drawn = {"first": first, "last": last, "seed": wanted.seed, "rate": wanted.rate, "inferences": seen}
            await unit.journal.write(unit.now, "reported", f"{OPENGRADIENT}/{report.chain}/{last}", drawn)
            await unit.settings.put(_NEXT, str(last + 1))
        return last < newest
