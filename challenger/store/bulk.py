"""Many rows at once: tuples straight to the driver, past the compiler's work for each row.

Identifiers come from ``schema.py`` alone; values are always bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Column, Dialect, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from challenger.errors import StoreError
from challenger.store.schema import Uint256

#: Values in one IN list; SQLite before 3.32 allowed 999.
_CHUNK = 900


def key_of(table: Table) -> Column[Any]:
    """The only primary key column of ``table``."""
    (column,) = table.primary_key.columns
    return column


async def insert_rows(
    connection: AsyncConnection, table: Table, rows: Sequence[tuple[Any, ...]], *, first_stays: bool = False
) -> int:
    """Inserts ``rows``, which hold every column of ``table`` in its order, and gives their number. ``first_stays``:
    a row whose key is there already is passed over, and not counted, instead of being an error."""
    if not rows:
        return 0
    sql = _insert_sql(table, connection.dialect) + (" ON CONFLICT DO NOTHING" if first_stays else "")
    return await _many(connection, sql, _bindable(table, connection.dialect, rows))


async def delete_keys(connection: AsyncConnection, table: Table, keys: Sequence[Any]) -> None:
    """Deletes the rows of ``table`` with these primary keys; absent ones are no matter."""
    if keys:
        key = key_of(table)
        quote, mark = _spelling(connection.dialect)
        sql = f"DELETE FROM {quote(table.name)} WHERE {quote(key.name)} = {mark}"  # noqa: S608
        exact = _as_text(key, connection.dialect)
        await _many(connection, sql, [(str(value) if exact else value,) for value in keys])


async def rows_by(connection: AsyncConnection, table: Table, column: Column[Any], keys: Sequence[Any]) -> list[Any]:
    """The rows of ``table`` whose ``column`` is one of ``keys``, in no order."""
    found: list[Any] = []
    for chunk in chunks(keys):
        found.extend(await connection.execute(select(table).where(column.in_(chunk))))
    return found


def chunks(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """``keys`` in pieces that fit one IN list."""
    for start in range(0, len(keys), _CHUNK):
        yield keys[start : start + _CHUNK]


async def _many(connection: AsyncConnection, sql: str, rows: Iterable[tuple[Any, ...]]) -> int:
    try:
        return (await connection.exec_driver_sql(sql, list(rows))).rowcount
    except OverflowError as error:
        raise StoreError("a number from the chain does not fit its column", statement=sql[:40]) from error


def _insert_sql(table: Table, dialect: Dialect) -> str:
    quote, mark = _spelling(dialect)
    names = ", ".join(quote(column.name) for column in table.columns)
    marks = ", ".join(mark for _ in table.columns)
    return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({marks})"  # noqa: S608


def _spelling(dialect: Dialect) -> tuple[Any, str]:
    return dialect.identifier_preparer.quote, "?" if dialect.paramstyle == "qmark" else "%s"


def _as_text(column: Column[Any], dialect: Dialect) -> bool:
    return dialect.name == "sqlite" and isinstance(column.type, Uint256)


def _bindable(table: Table, dialect: Dialect, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """``rows`` with exact numbers as text where the database keeps them so."""
    exact = [index for index, column in enumerate(table.columns) if _as_text(column, dialect)]
    if not exact:
        return rows
    changed = []
    for row in rows:
        values = list(row)
        for index in exact:
            if values[index] is not None:
                values[index] = str(values[index])
        changed.append(tuple(values))
    return changed
