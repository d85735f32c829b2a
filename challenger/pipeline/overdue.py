"""What was drawn, and whose window seems to be over before it was judged: given up, kept, or taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from challenger.domain import BlockNumber, State, UnixTime
from challenger.errors import Expected, StaleRow, StoreError, TakenOver
from challenger.pipeline.backlog import withheld
from challenger.pipeline.closing import UNJUDGED, Closing, kept, late
from challenger.pipeline.schedule import soon
from challenger.store.engine import Store
from challenger.store.subjects import subject_of
from challenger.store.work import Waiting
from challenger.telemetry.instruments import Instruments

#: Of so many the chain is asked in one turn, a request or two each; of fewer where other work waits meanwhile.
_LOOKS, _FEW = 16, 3


class Overdue:
    """``retry``: chain seconds between two looks at one that waits, at most."""

    def __init__(self, store: Store, closing: Closing, telemetry: Instruments, retry: int) -> None:
        self._store = store
        self._closing = closing
        self._telemetry = telemetry
        self._retry = retry

    async def look(self, rows: Sequence[Waiting], now: UnixTime, *, busy: bool) -> bool:
        """What nothing can open again is over; what something may waits and says so; what the chain has open by a close that
        the index does not know is in the next plan. ``busy``: something waits that can still be saved. True when there is
        more to do at once."""
        moved = False
        troubles: list[Exception] = []
        for row in rows[: _FEW if busy else _LOOKS]:
            try:
                at = await self._closing.look(row.commitment, now)
                if at.why:
                    await self._stays(row, f"window: it closed; {at.why}", now)
                    continue
                if not at.open:
                    await self._expired(row, at.on, now)
            except TakenOver:
                raise
            except StaleRow:
                continue  # the chain moved it meanwhile
            except Expected as error:
                await self._stays(row, f"window: it closed by the index; the chain does not say so: {error}", now)
                break  # of the others it would say no more
            except StoreError:
                raise  # everybody's trouble
            except Exception as error:  # noqa: BLE001 - a mistake of our own is one row's trouble: raised after the others
                troubles.append(error)
                await self._stays(row, f"window: it closed; internal: {type(error).__name__}", now)
                continue
            moved = True
        if troubles:
            raise troubles[0]
        return moved

    async def _expired(self, row: Waiting, on: BlockNumber, now: UnixTime) -> None:
        why = late(UNJUDGED, kept(row.detail))
        async with self._store.begin(now) as unit:
            await unit.work.move(row.commitment, State(row.state), State.EXPIRED, on=on, detail=why, next_try=0)
            # told before it is written: a death in between says it twice, and never not at all
            self._telemetry.missed(subject_of(row.commitment), row.state, why)

    async def _stays(self, row: Waiting, why: str, now: UnixTime) -> None:
        """Looked at again in a while. Where data is withheld the detail names it, and stays."""
        changes: dict[str, Any] = {"next_try": soon(now, row.closes, self._retry)}
        if not withheld(row):
            changes["detail"] = late(why, kept(row.detail))
        async with self._store.begin(now) as unit:
            with suppress(StaleRow):
                await unit.work.note(row.commitment, State(row.state), **changes)
