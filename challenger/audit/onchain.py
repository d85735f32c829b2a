"""The events of the record held against the chain, as an endpoint serves it: none missing, none made up, none another."""

from __future__ import annotations

from sqlalchemy import not_, select

from challenger.audit.facts import cursor_of
from challenger.audit.finding import Finding
from challenger.audit.sampling import Chain, Decoding
from challenger.store import codec
from challenger.store.codec import EventRow
from challenger.store.schema import events
from challenger.store.unit import View

#: Blocks asked for at once; endpoints limit ranges.
_RANGE = 2_000


async def audit_chain(view: View, chain: Chain, decoder: Decoding, start: int) -> tuple[list[Finding], int]:
    """What does not hold, and how many events do; from block ``start`` up to the record's cursor. What the endpoint raises is
    raised."""
    last = await cursor_of(view)
    if last is None:
        return [], 0
    outside = select(events).where(not_(events.c.block.between(start, last)))
    span = f"lies outside the blocks that the record has read, {start} to {last}"
    found = [
        Finding("events", f"block {row.block}, log {row.log_index}", f"{row.kind} {span}")
        async for row in await view.connection.stream(outside.order_by(events.c.block, events.c.log_index))
    ]
    held = 0
    for first in range(start, last + 1, _RANGE):
        end = min(first + _RANGE - 1, last)
        theirs = await _served(chain, decoder, first, end)
        query = select(events).where(events.c.block.between(first, end))
        async for row in await view.connection.stream(query.order_by(events.c.block, events.c.log_index)):
            mine = EventRow(*row)
            about = f"block {mine.block}, log {mine.log_index}"
            said = theirs.pop((mine.block, mine.log_index), None)
            if said is None:
                found.append(Finding("events", about, f"{mine.kind} is not on the chain"))
            elif tuple(said) != tuple(mine):
                wrong = [name for name, one, other in zip(EventRow._fields, mine, said, strict=True) if one != other]
                found.append(Finding("events", about, f"the chain has another {', '.join(wrong)}"))
            else:
                held += 1
        for (block, log), event in theirs.items():
            found.append(
                Finding(
                    "events", f"block {block}, log {log}", f"the chain has a {event.kind} here, and the record lacks it"
                )
            )
    return found, held


async def _served(chain: Chain, decoder: Decoding, first: int, last: int) -> dict[tuple[int, int], EventRow]:
    logs = await chain.logs(decoder.emitters, first, last, [decoder.topics])
    told = await decoder.events(logs, lambda _: None)  # what is malformed the follower leaves out too, and says so
    return {(row[0], row[1]): EventRow(*row) for row in codec.encode(told)}
