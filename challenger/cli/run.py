"""`challenger run`: the watcher, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from challenger.cli.common import settings_of
from challenger.domain import Mode
from challenger.errors import Expected, HeldElsewhere, StoreError, TakenOver
from challenger.settings import Settings, check
from challenger.telemetry.logs import say

if TYPE_CHECKING:
    from challenger.store.crossing import Hook


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--mode", type=Mode, choices=list(Mode), default=None, help="overrides [filing] mode")


def run(options: argparse.Namespace) -> int:
    from challenger.telemetry.logs import configure

    settings = settings_of(options)
    if options.mode is not None:
        settings = check(replace(settings, filing=replace(settings.filing, mode=options.mode)))
    configure(as_json=options.json)
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    from challenger.store.crossing import killer

    crossing = killer(os.environ, embedded=settings.chain.embedded)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    again = False
    while not stop.is_set():
        try:
            again = await _watch(settings, stop, crossing, again=again)
        except (Expected, StoreError) as error:
            if stop.is_set() and isinstance(error, HeldElsewhere):
                return
            if not again:
                raise
            say("trouble", level=logging.WARNING, loop="start", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.chain.poll):
                    await stop.wait()


async def _watch(settings: Settings, stop: asyncio.Event, crossing: Hook | None, *, again: bool) -> bool:
    """One life of the watcher: opened, standing by where it must, and run. True when it lost its lease: all that it
    knew is forgotten then, and it stands by like one that has just started."""
    from challenger.app import opened

    try:
        async with opened(settings, crossing=crossing, stop=stop) as app:
            await app.run(stop)
    except TakenOver as error:
        lost: BaseException = error
    except ExceptionGroup as group:
        taken = group.subgroup(TakenOver)
        if taken is None:
            # the first failure is the one that ended the service; the rest is its wake
            raise group.exceptions[0] from group
        lost = taken.exceptions[0]
    else:
        return again
    say("lease-lost", level=logging.WARNING, why=str(lost))
    return True
