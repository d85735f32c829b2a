"""What several commands share: the settings file, and output as a table or as JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from challenger.settings import Settings, load
from challenger.wording import ether, utc

if TYPE_CHECKING:
    from challenger.store.unit import View

#: Beyond it no block, time or count lies.
MOST = 1 << 53
T = TypeVar("T")
__all__ = [
    "address",
    "ether",
    "moment",
    "natural",
    "plain",
    "positive",
    "print_json",
    "print_table",
    "run_to_end",
    "settings_of",
    "short",
    "utc",
    "whole_of",
]
DEFAULT_FILE = Path("challenger.toml")


def settings_of(options: argparse.Namespace) -> Settings:
    """The named file, else ``challenger.toml`` in the working directory, else defaults; environment on top."""
    path: Path | None = options.config
    if path is None and DEFAULT_FILE.exists():
        path = DEFAULT_FILE
    return load(path)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run``, ended by SIGTERM as by Ctrl-C: what was begun is tidied away, KeyboardInterrupt is raised."""

    async def stoppable() -> T:
        task = asyncio.current_task()
        assert task is not None, "it runs in one"
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(stoppable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def plain(value: Any) -> Any:
    """``value`` as JSON can say it: bytes as 0x hex, integers beyond 2⁵³ as text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 53 else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def print_json(value: Any) -> None:
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, whole: int = 0) -> None:
    """``whole``: so many columns are never broken, however narrow the screen: the last ones are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < whole)
    for row in rows:
        table.add_row(*[Text(str(cell)) for cell in row])  # Text: what the chain says is never markup
    Console().print(table)


def short(value: bytes | None, digits: int = 8) -> str:
    return "" if value is None else "0x" + value.hex()[:digits] + "…"


async def whole_of(view: View) -> str:
    """What 10¹⁸ units of the bonds in this record are called."""
    from challenger.protocols.base import ETHER, MONEY

    return await view.settings.get(MONEY) or ETHER.whole


def positive(text: str) -> int:
    """For argparse: an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def natural(text: str) -> int:
    """For argparse: an integer of at least 0."""
    value = int(text)
    if not 0 <= value <= MOST:
        raise argparse.ArgumentTypeError(f"must be 0 to {MOST}")
    return value


def moment(text: str) -> int:
    """For argparse: a time in UTC seconds, from a date, a date and time, or seconds."""
    if text.isascii() and text.isdecimal():
        return natural(text)
    try:
        told = datetime.fromisoformat(text)
        return int((told if told.tzinfo else told.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("a time is 2026-01-31, 2026-01-31T12:00 or seconds, in UTC") from None


def address(text: str) -> str:
    """For argparse: an address, lower case."""
    lowered = text.lower()
    if len(lowered) != 42 or not lowered.startswith("0x") or any(c not in "0123456789abcdef" for c in lowered[2:]):
        raise argparse.ArgumentTypeError("an address is 0x and 40 hex digits")
    return lowered
