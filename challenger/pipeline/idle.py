"""Worker time that nobody needs: lent to the self-test, taken back the moment a real case wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Idle:
    """Owned by the stage that replays: ``rest`` says that it found nothing to do, ``take`` that it begins."""

    def __init__(self) -> None:
        self._guest: asyncio.Task[Any] | None = None
        self.free = False

    def rest(self) -> None:
        self.free = True

    async def take(self) -> None:
        """Ends what runs on lent time and waits until its worker is gone; its own troubles are its borrower's."""
        self.free = False
        if self._guest is not None and self._guest.cancel():
            await asyncio.wait([self._guest])

    async def lend(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Runs ``work`` until it ends (what it raises is raised) or the time is taken back: then None."""
        if not self.free or self._guest is not None:
            work.close()
            return None
        guest = self._guest = asyncio.ensure_future(work)
        try:
            await asyncio.wait([guest])
        finally:
            self._guest = None
            if not guest.done():  # we are cancelled ourselves
                guest.cancel()
                await asyncio.wait([guest])
        return None if guest.cancelled() else guest.result()
