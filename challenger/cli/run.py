"""`challenger run`: the watcher, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from challenger.cli.common import DEFAULT_FILE, settings_of
from challenger.domain import Address, Mode
from challenger.errors import ChallengerError, ConfigError, Expected, HeldElsewhere, StoreError, TakenOver
from challenger.settings import REPORTED, Settings, check, load
from challenger.telemetry.logs import LOGGER, say, speaking_as

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
    """Runs each until it is told to stop. Of several, one that fails says so and takes no other with it; the exit code
    tells."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    accounts: set[tuple[int, Address]] = set()
    if len(several) == 1:
        await _serve(several[0], stop, accounts)
        return 0

    async def one(settings: Settings, file: Path) -> bool:
        with speaking_as(f"{file.stem}/{settings.protocol.name}/{settings.chain.chain_id}"):
            try:
                await _serve(settings, stop, accounts)
            except ChallengerError as error:
                say("watcher-ended", level=logging.ERROR, error=str(error))
                return False
            except Exception as error:  # noqa: BLE001 - a bug in one watch must not end the watch over another chain
                say("watcher-ended", level=logging.ERROR, error=repr(error))
                LOGGER.debug("in a watcher", exc_info=error)
                return False
        return True

    ended = await asyncio.gather(*(one(settings, file) for settings, file in zip(several, files, strict=True)))
    return 0 if all(ended) else 1


async def _serve(settings: Settings, stop: asyncio.Event, accounts: set[tuple[int, Address]]) -> None:
    from challenger.store.crossing import killer

    crossing = killer(os.environ, embedded=settings.chain.embedded)
    if settings.protocol.name in REPORTED:
        from challenger.reporter import keep_reporting

        await keep_reporting(settings, stop)
        return
    again = False
    while not stop.is_set():
        try:
            again = await _watch(settings, stop, crossing, accounts, again=again)
        except (Expected, StoreError) as error:
            if stop.is_set() and isinstance(error, HeldElsewhere):
                return
            if not again:
                raise
            say("trouble", level=logging.WARNING, loop="start", error=str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.chain.poll):
                    await stop.wait()


async def _watch(
    settings: Settings, stop: asyncio.Event, crossing: Hook | None, accounts: set[tuple[int, Address]], *, again: bool
) -> bool:
    """One life of the watcher: opened, standing by where it must, and run. True when it lost its lease: all that it
    knew is forgotten then, and it stands by like one that has just started."""
    from challenger.app import opened

    try:
        async with opened(settings, crossing=crossing, stop=stop) as app:
            with _signing(accounts, settings.chain.chain_id, app.account):
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
