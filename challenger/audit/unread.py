"""Which row it is that holds a value that nothing of ours wrote, and that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, literal_column, select

from challenger.audit.finding import Finding
from challenger.store.bulk import key_of, rows_by
from challenger.store.unit import View

#: What such values raise, in the driver and in what is made of them.
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError)


def unreadable(table: str, about: str, error: Exception) -> Finding:
    return Finding(table, about, f"a value in it cannot be read: {str(error)[:120]}")


async def readable(view: View, table: Table, keys: Sequence[Any]) -> tuple[list[Any], dict[Any, Finding]]:
    """The rows of ``table`` with these primary keys, and of those that cannot be read why, by key."""
    try:
        return await rows_by(view.connection, table, key_of(table), keys), {}
    except UNREADABLE:
        rows: list[Any] = []
        bad: dict[Any, Finding] = {}
        for key in keys:  # one in a page is wrong: each by itself
            try:
                rows += await rows_by(view.connection, table, key_of(table), [key])
            except UNREADABLE as error:
                bad[key] = unreadable(table.name, shown((key,)), error)
        return rows, bad


async def unread(view: View, tables: Iterable[Table]) -> list[Finding]:
    """Every row of ``tables`` that cannot be read. Reads them one by one: for when one is known to be there."""
    found = []
    for table in tables:
        # as the driver gives them: a key may be what cannot be read
        raw: list[ColumnElement[Any]] = [literal_column(f'"{column.name}"') for column in table.primary_key.columns]
        keys = (await view.connection.execute(select(*raw).select_from(table))).all()
        for key in keys:
            query = select(table)
            for column, value in zip(raw, key, strict=True):
                query = query.where(column == value)
            try:
                (await view.connection.execute(query)).all()
            except UNREADABLE as error:
                found.append(unreadable(table.name, shown(key), error))
    return found


def shown(key: Iterable[Any]) -> str:
    """A key as findings name it: digests as ``0x`` hex, the parts of a pair with a stroke between."""
    return "/".join("0x" + one.hex() if isinstance(one, bytes) else str(one) for one in key)
