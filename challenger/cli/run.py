"""`challenger run`: the watcher, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from challenger.cli.common import DEFAULT_FILE, settings_of
from challenger.domain import Address, Mode
from challenger.errors import ChallengerError, ConfigError, Expected, HeldElsewhere, RecordOlder, StoreError, TakenOver
from challenger.settings import REPORTED, Settings, check, load
from challenger.telemetry.logs import say, speaking_as

if TYPE_CHECKING:
    from challenger.store.crossing import Hook


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--mode", type=Mode, choices=list(Mode), default=None, help="overrides [filing] mode")
    sub.add_argument(
        "--also",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="settings of one more watcher in this process, for another chain or protocol; once for each",
    )


def run(options: argparse.Namespace) -> int:
    from challenger.parts import protocol_of
    from challenger.telemetry.logs import configure

    several = [settings_of(options), *map(load, options.also)]
    if options.mode is not None:
        several = [check(replace(one, filing=replace(one.filing, mode=options.mode))) for one in several]
    apart(several)
    for one in several:
        if one.protocol.name not in REPORTED:
            protocol_of(one)  # a mistake in the settings is told before any endpoint is asked
    configure(as_json=options.json)
    return asyncio.run(_serve_all(several, [options.config or DEFAULT_FILE, *options.also]))


#: Seconds after which one of several watchers that failed starts again, as docs/challenger.service has it for one alone.
_RESTART = 5.0
#: What no two watchers share. A metrics port of 0 is any free one.
_OWN: Mapping[str, Callable[[Settings], str]] = {
    "[store] url": lambda one: one.store.url,
    "[store] heads": lambda one: str(one.store.heads.absolute()),
    "[telemetry] metrics": lambda one: "" if one.telemetry.metrics.endswith(":0") else one.telemetry.metrics,
}


def apart(several: Sequence[Settings]) -> None:
    """Refuses watchers of one process that would write to one place. Raises ConfigError that names it."""
    for what, of in _OWN.items():
        taken: set[str] = set()
        for mine in filter(None, map(of, several)):
            if mine in taken:
                raise ConfigError(f"two watchers in one process have the same {what}: give each its own", got=mine)
            taken.add(mine)


async def _serve_all(several: Sequence[Settings], files: Sequence[Path]) -> int:
    """Runs each until it is told to stop. One alone ends with its error, and whoever started it starts it again. Of several,
    one that fails starts again by itself and takes no other with it; one whose settings cannot be used ends, and the exit
    code tells."""
    from challenger.chain.wakeup import pause

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    accounts: set[tuple[int, Address]] = set()
    if len(several) == 1:
        await _serve(several[0], stop, accounts, asyncio.Event())
        return 0

    async def one(settings: Settings, file: Path) -> bool:
        """Whether its last life ended because it was told to."""
        ran = asyncio.Event()
        with speaking_as(f"{file.stem}/{settings.protocol.name}/{settings.chain.chain_id}"):
            while not stop.is_set():
                try:
                    await _serve(settings, stop, accounts, ran)
                except ConfigError as error:
                    say("watcher-ended", level=logging.ERROR, error=str(error))
                    return False
                except Exception as error:  # noqa: BLE001 - a bug in one watch must not end the watch over another chain
                    why = str(error) if isinstance(error, ChallengerError) else repr(error)
                    trace = "".join(traceback.format_tb(error.__traceback__))
                    say("watcher-restarts", level=logging.ERROR, seconds=_RESTART, error=why, traceback=trace)
                    await pause(stop, None, _RESTART)
                else:
                    return True
        return False

    ended = await asyncio.gather(*(one(settings, file) for settings, file in zip(several, files, strict=True)))
    return 0 if all(ended) else 1


async def _serve(
    settings: Settings, stop: asyncio.Event, accounts: set[tuple[int, Address]], ran: asyncio.Event
) -> None:
    """``ran`` is set once it was open: what an endpoint says against its settings after that is the endpoint's mistake."""
    from challenger.chain.wakeup import pause
    from challenger.store.crossing import killer

    crossing = killer(os.environ, embedded=settings.chain.embedded)
    if settings.protocol.name in REPORTED:
        from challenger.reporter import keep_reporting

        await keep_reporting(settings, stop)
        return
    doubt = ""
    while not stop.is_set():
        try:
            doubt = await _watch(settings, stop, crossing, accounts, ran, doubt)
        except (Expected, StoreError, ConfigError) as error:
            if stop.is_set() and isinstance(error, HeldElsewhere):
                return
            if not ran.is_set():
                raise
            say("trouble", level=logging.WARNING, loop="start", error=str(error))
            await pause(stop, None, settings.chain.poll)


async def _watch(
    settings: Settings,
    stop: asyncio.Event,
    crossing: Hook | None,
    accounts: set[tuple[int, Address]],
    ran: asyncio.Event,
    doubt: str,
) -> str:
    """One life of the watcher: opened, standing by where it must, and run until it is told to stop or loses its lease: all
    that it knew is forgotten then, and it stands by like one that has just started; but that its record has become an older
    one, which is the next one's ``doubt``."""
    from challenger.app import opened

    try:
        async with opened(settings, crossing=crossing, stop=stop, doubt=doubt) as app:
            with _signing(accounts, settings.chain.chain_id, app.account):
                ran.set()
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
        return ""
    say("lease-lost", level=logging.WARNING, why=str(lost))
    return str(lost) if isinstance(lost, RecordOlder) else ""


@contextmanager
def _signing(accounts: set[tuple[int, Address]], chain: int, account: Address | None) -> Iterator[None]:
    """Two watchers with records of their own and one account would take each other's nonces. Raises ConfigError."""
    if account is None:
        yield
        return
    if (chain, account) in accounts:
        raise ConfigError("another watcher in this process signs for this account on this chain", account=account)
    accounts.add((chain, account))
    try:
        yield
    finally:
        accounts.discard((chain, account))
