"""A lease on an account, kept for as long as the process works: who holds it works, everyone else stands by.

A holder that dies stops renewing, and whoever stands by takes over when the lease has run out. A holder that was
stopped and wakes up late finds its token outdated at the first write, and writes nothing. On SQLite, where all
processes are on one machine, an operating system's lock beside the database tells at once that the holder is dead: a
restart after ``kill -9`` waits for nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from challenger.domain import UnixTime
from challenger.errors import HeldElsewhere, StoreError, TakenOver
from challenger.store.engine import Store
from challenger.store.unit import View
from challenger.telemetry.logs import say


class DeathLock:
    """A file's lock, which the kernel takes back when the process that holds it ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """True when it is ours, now or already."""
        if self._file is not None:
            return True
        with suppress(OSError):  # a directory without room or right: the lease alone decides
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                return False
            self._file = file
            return True
        return False

    def drop(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Lease:
    """``seconds``: within this time of a holder's death somebody who stands by has taken over."""

    def __init__(self, store: Store, name: str, holder: str, seconds: float) -> None:
        self._store = store
        self._name = name
        self._holder = holder
        # the rest of the time is for those who stand by to notice
        self._term = max(1, int(seconds * 750))
        self._pause = seconds / 16
        self._lock = None if store.file is None else DeathLock(store.file.with_name(f"{store.file.name}.{name}.lock"))
        self.token = 0

    async def take(self) -> str:
        """Takes the lease where it is free; empty when it is ours now, else who holds it."""
        # whoever gets the lock knows that the process which had it is gone
        dead = self._lock is not None and await asyncio.to_thread(self._lock.take)
        async with self._store.read() as view:
            there = await view.fences.of(self._name)
            head = await view.chain.head()
        # the index's time: taking over must not depend on an endpoint
        now = UnixTime(0) if head is None else head.time
        if not dead and there is not None and there.left > 0:
            return there.holder
        async with self._store.begin(now, guarded=False) as unit:
            if dead:
                self.token = await unit.fences.claim(self._name, self._holder, self._term)
            else:
                token = await unit.fences.acquire(self._name, self._holder, self._term)
                if token is None:
                    return "another process"
                self.token = token
        self._store.guard(self._check, self._term / 1_000)
        return ""

    async def wait(self, stop: asyncio.Event) -> bool:
        """Stands by until the lease is ours; False when ``stop`` is set before."""
        said = ""
        while not stop.is_set():
            try:
                holder = await self.take()
                if not holder:
                    return True
                news = f"{holder} works for this account; this process takes over when it ends"
            except StoreError as error:
                news = str(error)
            if news != said:
                said = news
                say("standby", level=logging.WARNING, account=self._name, why=news)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await stop.wait()
        return False

    async def take_or_refuse(self) -> None:
        """Raises HeldElsewhere."""
        holder = await self.take()
        if holder:
            raise HeldElsewhere(account=self._name, holder=holder)

    async def wait_or_refuse(self, stop: asyncio.Event) -> None:
        """Raises HeldElsewhere when ``stop`` is set first."""
        if not await self.wait(stop):
            raise HeldElsewhere("stopped while it stood by", account=self._name)

    async def keep(self) -> None:
        """Renews, well before the lease runs out, until another process has it: raises TakenOver then."""
        while True:
            await asyncio.sleep(self._term / 4_000)
            try:
                async with self._store.begin(UnixTime(0), guarded=False) as unit:
                    await unit.fences.renew(self._name, self.token, self._term)
            except TakenOver:
                raise
            except StoreError as error:
                say("lease-not-renewed", level=logging.WARNING, account=self._name, error=str(error))
            if self._lock is not None:
                await asyncio.to_thread(self._lock.take)

    async def release(self) -> None:
        """An orderly end: the next one need not wait."""
        try:
            async with self._store.begin(UnixTime(0), guarded=False) as unit:
                await unit.fences.release(self._name, self.token)
        except StoreError as error:
            say("lease-not-released", level=logging.WARNING, account=self._name, error=str(error))
        finally:
            self.drop()

    def drop(self) -> None:
        """Lets go of the lock: who never got the lease must not look like its holder."""
        if self._lock is not None:
            self._lock.drop()

    async def _check(self, unit: View) -> None:
        await unit.fences.hold(self._name, self.token)


@asynccontextmanager
async def leased(
    store: Store, name: str, seconds: float, stop: asyncio.Event | None, holder: str = ""
) -> AsyncIterator[tuple[Lease, asyncio.Future[None]]]:
    """A lease of this process, renewed within the block by a task of its own, which ends with TakenOver when it is lost.

    ``holder`` names it to others (empty: this host and process). Stands by while another process has it. Raises HeldElsewhere without ``stop``, or when that is set before.
    """
    lease = Lease(store, name, holder or f"{socket.gethostname()}/{os.getpid()}", seconds)
    try:
        if stop is None:
            await lease.take_or_refuse()
        else:
            await lease.wait_or_refuse(stop)
    except BaseException:
        lease.drop()
        raise
    keeper = asyncio.ensure_future(lease.keep())
    # whoever waits for it hears of the loss; where nobody does, the next write says the same
    keeper.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        yield lease, keeper
    finally:
        keeper.cancel()
        await lease.release()


async def until_lost(keeper: asyncio.Future[None], stop: asyncio.Event) -> None:
    """Returns when ``stop`` is set; raises TakenOver when the lease is lost before."""
    stopping = asyncio.ensure_future(stop.wait())
    both: list[asyncio.Future[Any]] = [keeper, stopping]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if keeper.done():
        await keeper
