"""The journal, and what of it are alerts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, select

from challenger.domain import (
    UnixTime,
)
from challenger.store.listed.terms import Where, is_
from challenger.store.listing import Listed, Timed
from challenger.store.rows import (
    JournalRow,
)
from challenger.store.schema import (
    BULK_KINDS,
    NOT_BULK,
    journal,
)


@dataclass(frozen=True, kw_only=True)
class JournalFilter(Timed):
    """``after``: entries with a greater number."""

    kind: str | None = None
    subject: str | None = None
    after: int | None = None


def _kind(value: str) -> ColumnElement[bool]:
    """Rare kinds have an index, which the database sees by these words."""
    same = journal.c.kind == value
    return same if value in BULK_KINDS else same & NOT_BULK


JOURNAL = Listed(
    "journal",
    JournalFilter,
    select(journal),
    (journal.c.seq,),
    JournalRow,
    {"kind": _kind, "subject": is_(journal.c.subject), "after": lambda seq: journal.c.seq > seq},
    journal.c.time,
)


class AlertListed(NamedTuple):
    """An alert as it was journalled; ``fields`` are plain values."""

    seq: int
    time: UnixTime
    name: str
    severity: str
    about: str
    fields: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class AlertFilter(Timed):
    name: str | None = None
    severity: str | None = None
    about: str | None = None


def _alert(seq: int, time: UnixTime, about: str, payload: str) -> AlertListed:
    told = json.loads(payload)
    return AlertListed(seq, time, told["alert"], told["severity"], about, told["fields"])


def _told(name: str) -> Where:
    """The payload is canonical JSON, so that a member stands in it in one way alone."""
    return lambda value: journal.c.payload.contains(f'"{name}":{json.dumps(value)}', autoescape=True)


ALERTS = Listed(
    "alerts",
    AlertFilter,
    select(journal.c.seq, journal.c.time, journal.c.subject, journal.c.payload).where(_kind("alert")),
    (journal.c.seq,),
    _alert,
    {"name": _told("alert"), "severity": _told("severity"), "about": is_(journal.c.subject)},
    journal.c.time,
)
