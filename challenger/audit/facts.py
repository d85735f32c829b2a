"""What the journal tells of the chain, against the events that are there: none that it told is missing, but for those that a
later reorganisation undid, and the cursor and the events lie where such a record has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, select

from challenger.audit.finding import Finding
from challenger.audit.unread import UNREADABLE
from challenger.store.bulk import chunks
from challenger.store.index import FACTS
from challenger.store.rows import JournalRow
from challenger.store.schema import cursors, events
from challenger.store.unit import View

#: How the journal calls a fact → the kind of its event.
_KINDS = {name: kind for kind, name in FACTS.items()}
LOST = "the journal tells of it, and the event is not there"


#: (Block, its hash, number of the log).
_Place = tuple[int, bytes, int]


class Facts:
    """Takes the journal a page at a time. In memory is only what is missing so far."""

    def __init__(self) -> None:
        self._missing: set[_Place] = set()
        self._last: int | None = None

    async def take(self, view: View, page: Sequence[JournalRow]) -> None:
        """The next entries. What of them cannot be read is passed over: it is named where the journal is read."""
        told = [(entry.kind, place) for entry in page if (place := _place(entry)) is not None]
        numbers = sorted({block for kind, (block, _, _) in told if kind in _KINDS})
        there = await _events(view, numbers)
        for kind, place in told:
            if kind in _KINDS:
                self._last = max(place[0], self._last or 0)
                if (*place, _KINDS[kind]) not in there:
                    self._missing.add(place)
                continue
            left = place[0]  # whatever lay above it is undone
            self._missing = {one for one in self._missing if one[0] <= left}
            self._last = None if self._last is None else min(self._last, left)

    async def findings(self, view: View) -> list[Finding]:
        """Once the journal is at its end."""
        found = [Finding("events", f"block {block}, log {log}", LOST) for block, _, log in sorted(self._missing)]
        cursor = await cursor_of(view)
        if self._last is not None and (cursor is None or cursor < self._last):
            stands = "it is not there" if cursor is None else f"it stands at block {cursor}"
            found.append(Finding("cursors", "the index", f"{stands}, and the journal tells of block {self._last}"))
        above = select(events.c.block, events.c.log_index).where(events.c.block > (-1 if cursor is None else cursor))
        async for row in await view.connection.stream(above.order_by(events.c.block, events.c.log_index)):
            what = (
                "there is no cursor" if cursor is None else f"it lies above the cursor, which stands at block {cursor}"
            )
            found.append(Finding("events", f"block {row.block}, log {row.log_index}", what))
        return found


async def cursor_of(view: View) -> int | None:
    """The last block that the record has read; None where it has read none."""
    block: int | None = (await view.connection.execute(select(func.max(cursors.c.block)))).scalar_one()
    return block


async def _events(view: View, numbers: Sequence[int]) -> set[tuple[Any, ...]]:
    """Place and kind of every event in these blocks, as the driver gives them: one that cannot be read is no other's."""
    columns: list[ColumnElement[Any]] = [
        literal_column(f'"{name}"') for name in ("block", "block_hash", "log_index", "kind")
    ]
    found: set[tuple[Any, ...]] = set()
    for part in chunks(numbers):
        query = select(*columns).select_from(events).where(events.c.block.in_(part))
        found |= {tuple(row) for row in await view.connection.execute(query)}
    return found


def _place(entry: JournalRow) -> _Place | None:
    """Where a fact stands, and the block that a ``rewound`` went back to; None for any other entry."""
    if entry.kind not in _KINDS and entry.kind != "rewound":
        return None
    try:
        told = json.loads(entry.payload)
        if entry.kind == "rewound":
            return int(told["to"]), b"", 0
        return int(told["block"]), bytes.fromhex(told["block_hash"][2:]), int(told["log"])
    except UNREADABLE:
        return None
