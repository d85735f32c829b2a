"""`challenger run`: the watcher, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from dataclasses import replace

from challenger.cli.common import settings_of
from challenger.domain import Mode
from challenger.settings import Settings, check


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
    from challenger.app import opened
    from challenger.store.crossing import killer

    crossing = killer(os.environ, embedded=settings.chain.embedded)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    try:
        async with opened(settings, crossing=crossing) as app:
            await app.run(stop)
    except ExceptionGroup as group:
        # the first failure is the one that ended the service; the rest is its wake
        raise group.exceptions[0] from group
