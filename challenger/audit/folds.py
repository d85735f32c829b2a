"""The chain as indexed: every row held against the events that it is folded from, and the events of commitments against the
journal's digests of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, cast

from sqlalchemy import select

from challenger.audit.finding import Finding, differences
from challenger.audit.unread import UNREADABLE, readable, unread, unreadable
from challenger.domain import Committed, State
from challenger.store import codec
from challenger.store.bulk import chunks, key_of, rows_by
from challenger.store.codec import EventRow, subject_bytes
from challenger.store.journal import canonical
from challenger.store.projection import FOLDS, Fold
from challenger.store.reorgs import SEEN, seen
from challenger.store.rows import JournalRow
from challenger.store.schema import events, journal, work
from challenger.store.unit import View

#: Aggregates that are in memory at once.
_MANY = 500
_EVENTS = "its events say"
#: Kinds of entries about facts of the chain: what they say of an event is its place and digest.
FACTS = frozenset({State.OBSERVED.value})
_FACT_KINDS = (
    "Committed",
    "WindowExtended",
    "DisputeOpened",
    "DisputeClosed",
    "DemandOpened",
    "DemandClosed",
    "JobClosed",
)


#: Of these, the kinds that are about a commitment itself and not about a dispute or demand over it.
OF_COMMITMENTS = FACTS | {"chain-job-closed", "chain-window-extended"}
#: (Hash of the block, number of the log) → what the journal says of the event there.
Digests = dict[tuple[str, int], str]


def digest_told(entry: JournalRow) -> Digests:
    """What ``entry`` tells of an event; empty for an entry that tells of none, or that cannot be read."""
    if entry.kind not in FACTS and not entry.kind.startswith("chain-"):
        return {}
    try:
        told = json.loads(entry.payload)
        return {(told["block_hash"], told["log"]): told["digest"]} if "digest" in told else {}
    except UNREADABLE:
        return {}


async def entries_about(view: View, subjects: Sequence[str]) -> list[JournalRow]:
    """The journal's entries about these subjects, the oldest first."""
    return sorted(JournalRow(*row) for row in await rows_by(view.connection, journal, journal.c.subject, subjects))


async def audit_folds(view: View, digests: Digests) -> list[Finding]:
    """``digests``: of events about disputes and demands; those of commitments are looked up page by page."""
    found: list[Finding] = []
    for aggregate, fold in FOLDS.items():
        async for stories in _stories(view, aggregate):
            there = digests
            if aggregate == "commitment":
                entries = await entries_about(view, ["0x" + subject.hex() for subject in stories])
                there = {place: digest for entry in entries for place, digest in digest_told(entry).items()}
            found += await _held(view, aggregate, fold, stories, there)
            if aggregate == "commitment":
                found += await _seen(view, stories)
        try:
            found += await _made_up(view, aggregate, fold)
        except UNREADABLE as error:  # a key, which the rows' events cannot be looked for by
            found += await unread(view, [fold.table]) or [unreadable(fold.table.name, "a row", error)]
    return found


async def _stories(view: View, aggregate: str) -> AsyncIterator[dict[bytes, list[EventRow]]]:
    """The events of some aggregates at a time, each whole and in chain order."""
    query = select(events).where(events.c.kind.in_(codec.KINDS[aggregate]))
    order = (events.c.subject, events.c.block, events.c.log_index)
    waiting: dict[bytes, list[EventRow]] = {}
    async for row in await view.connection.stream(query.order_by(*order)):
        event = EventRow(*row)
        if event.subject not in waiting and len(waiting) >= _MANY:
            yield waiting
            waiting = {}
        waiting.setdefault(event.subject, []).append(event)
    if waiting:
        yield waiting


async def _held(
    view: View,
    aggregate: str,
    fold: Fold,
    stories: dict[bytes, list[EventRow]],
    digests: Digests,
) -> list[Finding]:
    name = fold.table.name
    found: list[Finding] = []
    rows, bad = await readable(view, fold.table, [codec.key(aggregate, subject) for subject in stories])
    found += bad.values()
    there = {subject_bytes(row[0]): fold.row(*row) for row in rows}
    for subject, story in stories.items():
        about = _name(codec.key(aggregate, subject))
        for event in story:
            found += _digest(event, digests)
        try:
            wanted = fold.over([codec.decode(event) for event in story])
        except (ValueError, KeyError, TypeError):
            found.append(Finding("events", about, "an event cannot be read"))
            continue
        row = there.get(subject)
        if wanted is None:
            found.append(Finding(name, about, "the event of its beginning is not there"))
        elif codec.key(aggregate, subject) in bad:
            continue
        elif row is None:
            found.append(Finding(name, about, "its events are there, and the row is not"))
        elif row != wanted:
            said = json.loads(canonical(_plain(wanted)))
            try:
                found += differences(name, about, _plain(row), said, _EVENTS)
            except UNREADABLE as error:
                found.append(unreadable(name, about, error))
    return found


async def _seen(view: View, stories: dict[bytes, list[EventRow]]) -> list[Finding]:
    """The facts that a row of ``work`` rests on are those of the event of its commitment. What of either cannot be read is
    named where the row is held against the journal, and the event against its fold."""
    rows, _ = await readable(view, work, list(stories))
    found: list[Finding] = []
    for row in rows:
        born = next((event for event in stories[row.commitment] if event.kind == Committed.__name__), None)
        if born is None or row.state == State.ORPHANED:
            continue
        with suppress(ValueError, KeyError, TypeError):
            event = cast("Committed", codec.decode(born))
            said = dict(zip(SEEN, map(str, seen(event)), strict=True))
            facts = {name: str(getattr(row, name)) for name in SEEN}
            found += differences("work", _name(row.commitment), facts, said, _EVENTS)
    return found


def _digest(event: EventRow, digests: Digests) -> list[Finding]:
    """Of events that the journal tells of: their digest is the one that it told."""
    if event.kind not in _FACT_KINDS:
        return []
    about = f"block {event.block}, log {event.log_index}"
    said = digests.get(("0x" + event.block_hash.hex(), event.log_index))
    if said is None:
        return [Finding("events", about, "the journal tells nothing of it")]
    digest = "0x" + sha256(event.tx_hash + event.payload.encode() + event.data).hexdigest()
    return [] if said == digest else [Finding("events", about, "it is another event than the journal tells of")]


def _plain(row: Any) -> dict[str, Any]:
    """Numbers of 256 bits as text, as JSON has them."""
    return {
        name: str(value) if type(value) is int and value >= 1 << 63 else value for name, value in row._asdict().items()
    }


async def _made_up(view: View, aggregate: str, fold: Fold) -> list[Finding]:
    """Rows without any event."""
    key, found = key_of(fold.table), []
    waiting: list[Any] = []

    async def without(keys: Sequence[Any]) -> list[Finding]:
        told: set[bytes] = set()
        for part in chunks([subject_bytes(one) for one in keys]):
            query = select(events.c.subject).where(
                events.c.subject.in_(part), events.c.kind.in_(codec.KINDS[aggregate])
            )
            told |= {bytes(one) for one in (await view.connection.execute(query.distinct())).scalars()}
        gone = [one for one in keys if subject_bytes(one) not in told]
        return [Finding(fold.table.name, _name(one), "no event tells of it") for one in gone]

    async for row in await view.connection.stream(select(key).order_by(key)):
        waiting.append(row[0])
        if len(waiting) >= _MANY:
            found += await without(waiting)
            waiting = []
    return found + await without(waiting)


def _name(identity: bytes | int) -> str:
    return str(identity) if isinstance(identity, int) else "0x" + identity.hex()
