"""`challenger db`: the schema's way up and down."""

from __future__ import annotations

import argparse
import asyncio

from challenger.cli.common import print_json, settings_of


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", choices=["upgrade", "downgrade", "current"])
    sub.add_argument("revision", nargs="?", default="", help="for downgrade: the revision to go back to, or base")


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from challenger.errors import ConfigError
    from challenger.store import migrate

    url = settings_of(options).store.url
    if options.revision and options.what != "downgrade":
        raise ConfigError(f"db {options.what} takes no revision", got=options.revision)
    if options.what == "upgrade":
        await migrate.upgrade(url)
    elif options.what == "downgrade":
        if not options.revision:
            raise ConfigError("db downgrade needs a revision, or base; downgrading drops what newer tables hold")
        await migrate.downgrade(url, options.revision)
    revision = await migrate.current(url)
    if options.json:
        print_json({"revision": revision})
    else:
        print(f"schema revision: {revision or 'none'}")
    return 0
