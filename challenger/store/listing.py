"""Pages and streams over the record, for whoever reads it: the API, the dashboard, exports. Reads only.

A page follows the keys of a row, never an offset: the thousandth costs what the first does, and rows that come meanwhile
move none. A time range orders by time first, since the rows of a time are then beside each other in an index.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, and_, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.domain import UnixTime
from challenger.errors import ChallengerError

R = TypeVar("R")
F = TypeVar("F", bound="Filter")
#: Rows that a stream has in memory at once.
_CHUNK = 1_000
#: No key is longer.
_LONGEST = 400


class BadCursor(ChallengerError):
    """the cursor cannot be used: begin at the first page"""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which rows: those for which every field that is not None holds."""


@dataclass(frozen=True, kw_only=True)
class Timed(Filter):
    """Times ``since ≤ t < until``, UTC seconds of the chain."""

    since: UnixTime | None = None
    until: UnixTime | None = None


@dataclass(frozen=True, slots=True)
class PageCursor:
    """The row that a page follows; ``back``: that it precedes. ``order`` is what the keys are of."""

    order: str
    keys: tuple[int | str, ...]
    back: bool = False

    def encode(self) -> str:
        """As a client keeps it: text of letters, digits, ``-`` and ``_`` that means nothing to it."""
        told = json.dumps([self.order, int(self.back), *self.keys], separators=(",", ":"))
        return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> PageCursor:
        """Raises BadCursor for what ``encode`` did not make."""
        if len(text) > _LONGEST:
            raise BadCursor("it is too long")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            order, back, *keys = json.loads(raw)
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise BadCursor("it is not one of ours") from None
        fine = all(type(key) in (int, str) and not (type(key) is int and abs(key) >= 1 << 63) for key in keys)
        if not isinstance(order, str) or type(back) is not int or back not in (0, 1) or not keys or not fine:
            raise BadCursor("it is not one of ours")
        if any(isinstance(key, str) and "\0" in key for key in keys):
            raise BadCursor("it is not one of ours")
        made = cls(order, tuple(keys), bool(back))
        if made.encode() != text:
            raise BadCursor("it is not one of ours")
        return made


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """``next`` and ``prev`` are None where there are no more rows (now)."""

    rows: list[R]
    next: PageCursor | None
    prev: PageCursor | None


@dataclass(frozen=True, slots=True)
class Listed(Generic[F, R]):
    """What can be listed. ``keys`` order the rows wholly; ``where`` says what each field of the filter asks;
    ``attach`` adds to a page's rows what lies elsewhere."""

    name: str
    filter: type[F]
    query: Select[Any]
    keys: tuple[ColumnElement[Any], ...]
    make: Callable[..., R]
    where: Mapping[str, Callable[[Any], ColumnElement[bool]]] = field(default_factory=dict)
    time: ColumnElement[Any] | None = None
    attach: Callable[[AsyncConnection, list[R]], Awaitable[list[R]]] | None = None

    def conditions(self, wanted: F) -> list[ColumnElement[bool]]:
        found = []
        for one in fields(wanted):
            value = getattr(wanted, one.name)
            if value is None:
                continue
            if one.name in ("since", "until"):
                assert self.time is not None, "only what has a time is filtered by it"
                found.append(self.time >= value if one.name == "since" else self.time < value)
            else:
                found.append(self.where[one.name](value))
        return found

    def by_time(self, wanted: F) -> bool:
        return isinstance(wanted, Timed) and (wanted.since is not None or wanted.until is not None)

    def order(self, wanted: F) -> tuple[ColumnElement[Any], ...]:
        return (self.time, *self.keys) if self.time is not None and self.by_time(wanted) else self.keys


class Listing:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def page(
        self,
        what: Listed[F, R],
        wanted: F | None = None,
        *,
        at: PageCursor | None = None,
        limit: int = 50,
        oldest_first: bool = False,
    ) -> Page[R]:
        """Up to ``limit`` rows, the newest first unless ``oldest_first``; from the start, or where ``at`` stands.

        Raises BadCursor when ``at`` is of another listing or order."""
        wanted = what.filter() if wanted is None else wanted
        order = what.order(wanted)
        name = f"{what.name}{'+' if oldest_first else '-'}{'t' if what.by_time(wanted) else ''}"
        back = at is not None and at.back
        rising = oldest_first != back
        query = what.query.where(*what.conditions(wanted))
        if at is not None:
            query = query.where(_beyond(order, _keys(at, name, order), rising=rising))
        query = query.add_columns(*(key.label(f"key_{n}") for n, key in enumerate(order)))
        query = query.order_by(*(key.asc() if rising else key.desc() for key in order)).limit(limit + 1)
        found = (await self._connection.execute(query)).all()
        more, found = len(found) > limit, found[:limit]
        if back:
            found = found[::-1]
        width = len(order)
        rows = [what.make(*row[:-width]) for row in found]
        if what.attach is not None and rows:
            rows = await what.attach(self._connection, rows)
        if not found:  # it is over: back to where it came from
            turned = None if at is None else PageCursor(at.order, at.keys, not at.back)
            return Page([], turned if back else None, None if back else turned)
        later, earlier = (True, more) if back else (more, at is not None)
        first, last = (tuple(found[end][-width:]) for end in (0, -1))
        return Page(
            rows, PageCursor(name, last) if later else None, PageCursor(name, first, back=True) if earlier else None
        )

    async def stream(self, what: Listed[F, R], wanted: F | None = None) -> AsyncIterator[R]:
        """Every row in question, the oldest first, of this one snapshot and in constant memory."""
        wanted = what.filter() if wanted is None else wanted
        order = what.order(wanted)
        query = what.query.where(*what.conditions(wanted)).order_by(*(key.asc() for key in order))
        found = await self._connection.stream(query.execution_options(yield_per=_CHUNK))
        async for part in found.partitions(_CHUNK):
            rows = [what.make(*row) for row in part]
            for row in rows if what.attach is None else await what.attach(self._connection, rows):
                yield row


def _keys(at: PageCursor, name: str, order: tuple[ColumnElement[Any], ...]) -> tuple[int | str, ...]:
    kinds = [int if key.type.python_type is int else str for key in order]
    if at.order != name or [type(key) for key in at.keys] != kinds:
        raise BadCursor("it belongs to another list or order")
    return at.keys


def _beyond(order: tuple[ColumnElement[Any], ...], keys: tuple[int | str, ...], *, rising: bool) -> ColumnElement[bool]:
    """The rows after ``keys``. The first key by itself too: an index may have that one alone."""
    if len(order) == 1:
        return order[0] > keys[0] if rising else order[0] < keys[0]
    values = tuple_(*(literal(key, column.type) for key, column in zip(keys, order, strict=True)))
    ours = tuple_(*order)
    first = order[0] >= keys[0] if rising else order[0] <= keys[0]
    return and_(first, ours > values if rising else ours < values)
