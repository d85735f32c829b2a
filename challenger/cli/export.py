"""`challenger export`: rows of the record in a file, by time and filter, streamed."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from challenger.cli.common import moment, print_json, run_to_end, settings_of
from challenger.errors import ConfigError
from challenger.whole import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from challenger.settings import Settings

#: As `export.FORMATS` and `web.api.lists.ROWS` have them; a test holds them together.
FORMATS = ("csv", "jsonl", "parquet")
WHAT = (
    "models", "tasks", "commitments", "disputes", "demands", "providers", "verdicts", "audits", "findings",
    "transactions", "epochs", "selftests", "pauses", "approvals", "journal", "alerts",
)  # fmt: skip


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", choices=WHAT, metavar="WHAT", help=", ".join(WHAT))
    sub.add_argument(
        "--format", choices=FORMATS, default=None, help="default: by the file's ending, else jsonl; parquet is an extra"
    )
    sub.add_argument(
        "-o", "--output", type=Path, default=Path("-"), metavar="FILE", help="default: - is standard output"
    )
    sub.add_argument("--since", type=moment, default=None, metavar="TIME", help="UTC seconds, or 2026-11-27[T08:00]")
    sub.add_argument("--until", type=moment, default=None, metavar="TIME", help="before this time")
    sub.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="only these, as the API filters them (docs/api.md): provider=0x…, state=won, …; may be said several times",
    )


def run(options: argparse.Namespace) -> int:
    asked = {name: str(value) for name in ("since", "until") if (value := getattr(options, name)) is not None}
    for text in options.where:
        name, equals, value = text.partition("=")
        if not equals or name in asked:
            raise ConfigError("--where is NAME=VALUE, each name once", got=text)
        asked[name] = value
    ending = options.output.suffix.removeprefix(".")
    form = options.format or (ending if ending in FORMATS else "jsonl")
    if form == "parquet" and str(options.output) == "-" and sys.stdout.isatty():
        raise ConfigError("Parquet is no text: name a file with --output")
    return run_to_end(_export(settings_of(options), options, form, asked))


async def _export(settings: Settings, options: argparse.Namespace, form: str, asked: dict[str, str]) -> int:
    from challenger.export import writer
    from challenger.shapes import shape
    from challenger.store.engine import open_store
    from challenger.store.listed import LISTED
    from challenger.web.api.lists import ROWS

    what = LISTED[options.what]
    wanted = what.filter(**_filter(what.filter, asked))
    told, count = shape(ROWS[options.what][0]), 0
    async with open_store(settings.store.url) as store, store.read() as view:
        with _opened(options.output) as file:
            out = writer(form, file, told)
            async for row in view.listing.stream(what, wanted):
                out.row(told.encode(row))
                count += 1
            out.close()
    if str(options.output) != "-":
        if options.json:
            print_json({"file": str(options.output), "format": form, "rows": count})
        else:
            print(f"{options.output}: {count} {options.what}, {form}")
    return 0


def _filter(cls: Any, asked: dict[str, str]) -> dict[str, Any]:
    from challenger.web.kinds import of_filter
    from challenger.web.problems import Problem

    known = {one.name: one for one in of_filter(cls)}
    values = {}
    for name, text in asked.items():
        if name not in known:
            raise ConfigError(f"there is no filter {name} here; known are {', '.join(known) or 'none'}")
        try:
            values[name] = known[name].value(text)
        except Problem as problem:
            raise ConfigError(problem.detail) from None
    return values


@contextmanager
def _opened(target: Path) -> Iterator[IO[bytes]]:
    """Standard output; or a file beside ``target`` that gets its name when it is whole."""
    if str(target) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with whole_file(target) as file:
        yield file
