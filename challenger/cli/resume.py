"""`challenger resume`: a person has looked at correlated accusations and lets filing go on."""

from __future__ import annotations

import argparse
import asyncio
import getpass

from challenger.cli.common import print_json, settings_of
from challenger.errors import EndpointError, NotInRecord
from challenger.reach import indexed_time, reached
from challenger.settings import Settings, addresses


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("model", nargs="?", default="", help="model id (0x…); without one, every pause")
    sub.add_argument("--note", default="", help="what you looked at; kept in the journal")


def run(options: argparse.Namespace) -> int:
    lifted = asyncio.run(_resume(addresses(settings_of(options)), options.model, options.note))
    if not lifted:
        raise NotInRecord("no such pause is in force", asked=options.model or "any")
    if options.json:
        print_json({"lifted": lifted})
    else:
        print(f"Lifted {lifted} pause{'' if lifted == 1 else 's'}.")
    return 0


async def _resume(settings: Settings, model: str, note: str) -> int:
    from challenger.service import approve
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store:
        try:
            async with reached(settings) as (_, now):
                pass
        except EndpointError:
            now = await indexed_time(store)  # clears no more than what was found by then
        return await approve(store, now, model, getpass.getuser(), note)
