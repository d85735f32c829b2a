"""`challenger db`: the schema's way up and down, and copies of the database."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from challenger.cli.common import print_json, settings_of

#: What the second word is, for the actions that take one.
_NEEDS = {
    "downgrade": "db downgrade needs a revision, or base; downgrading drops what newer tables hold",
    "backup": "db backup needs the file to write",
    "restore": "db restore needs the backup to read",
}


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", choices=["upgrade", "downgrade", "current", "backup", "restore"])
    sub.add_argument(
        "argument", nargs="?", default="", help="downgrade: the revision to go back to, or base; backup, restore: FILE"
    )
    sub.add_argument("--force", action="store_true", help="backup, restore: replace what is there")


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from challenger.errors import ConfigError
    from challenger.store import migrate

    url = settings_of(options).store.url
    if options.argument and options.what not in _NEEDS:
        raise ConfigError(f"db {options.what} takes no revision", got=options.argument)
    if not options.argument and options.what in _NEEDS:
        raise ConfigError(_NEEDS[options.what])
    if options.what in ("backup", "restore"):
        return await asyncio.to_thread(_copies, options, url)
    if options.force:
        raise ConfigError(f"db {options.what} takes no --force")
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
