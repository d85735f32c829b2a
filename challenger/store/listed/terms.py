"""How a filter's fields become conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import ColumnElement, Table, bindparam

Where = Callable[[Any], ColumnElement[bool]]


def is_(column: ColumnElement[Any]) -> Where:
    return lambda value: column == value


def word(column: ColumnElement[Any]) -> Where:
    """The value stands in the SQL: a partial index is used only where it does."""
    return lambda value: column == bindparam(None, str(value.value), column.type, literal_execute=True)


def blocks(table: Table) -> dict[str, Where]:
    return {
        "from_block": lambda block: table.c.block >= block,
        "to_block": lambda block: table.c.block <= block,
    }


def place(table: Table) -> tuple[ColumnElement[Any], ...]:
    return table.c.block, table.c.log_index
