"""`challenger db`: the schema's way up and down, and copies of the database."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from challenger.cli.common import print_json, settings_of

#: action → its argument (empty: none), what it is, and what the action does
_ACTIONS = {
    "upgrade": ("", "", "bring the schema to this program's, creating the database where there is none"),
    "downgrade": ("REVISION", "the revision to go back to, or base", "go back; what newer tables hold is dropped"),
    "current": ("", "", "print the schema's revision"),
    "backup": ("FILE", "the file to write", "copy a live database"),
    "restore": ("FILE", "the backup to read", "put a copy in the database's place"),
}


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    actions = sub.add_subparsers(dest="what", required=True, metavar="ACTION")
    for name, (argument, meaning, line) in _ACTIONS.items():
        action = actions.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        # before the action or after it; there is no default here, which would overwrite what came before
        action.add_argument(
            "-c", "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="settings file"
        )
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="machine-readable output")
        if argument:
            action.add_argument("argument", metavar=argument, help=meaning)
        if argument == "FILE":
            action.add_argument("--force", action="store_true", help="replace what is there")


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from challenger.store import migrate

    url = settings_of(options).store.url
    if options.what in ("backup", "restore"):
        return await asyncio.to_thread(_copies, options, url)
    if options.what == "upgrade":
        await migrate.upgrade(url)
    elif options.what == "downgrade":
        await migrate.downgrade(url, options.argument)
    revision = await migrate.current(url)
    if options.json:
        print_json({"revision": revision})
    else:
        print(f"schema revision: {revision or 'none'}")
    return 0


def _copies(options: argparse.Namespace, url: str) -> int:
    from challenger.store import backup

    act = backup.backup if options.what == "backup" else backup.restore
    found = act(url, Path(options.argument), force=options.force)
    if options.json:
        print_json({"file": options.argument, "bytes": found.size, "entries": found.tip.seq, "head": found.tip.hash})
    else:
        done = "written to" if options.what == "backup" else "restored from"
        print(f"{done} {options.argument}: {found.size} bytes, {found.tip.seq} journal entries, verified")
    return 0
