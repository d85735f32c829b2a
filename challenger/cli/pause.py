"""`challenger pause`: a person stops all filing; open disputes are still followed to their end."""

from __future__ import annotations

import argparse
import asyncio
import getpass

from challenger.cli.common import print_json, settings_of
from challenger.reach import indexed_time
from challenger.settings import Settings, addresses


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--reason", default="", help="why; kept in the journal and shown by `challenger status`")


def run(options: argparse.Namespace) -> int:
    detail, already = asyncio.run(_pause(addresses(settings_of(options)), options.reason))
    if options.json:
        print_json({"paused": detail, "already": already})
    elif already:
        print(f"All filing was paused already ({detail}), and that reason stays; `challenger resume filing` lifts it.")
    else:
        print(f"All filing is paused ({detail}); `challenger resume filing` lifts it.")
    return 0


async def _pause(settings: Settings, reason: str) -> tuple[str, bool]:
    """(what stands in the record, whether it stood there before)."""
    from challenger.store.engine import open_store
    from challenger.store.keep import EVERYTHING

    # no endpoint is asked: it may be why somebody wants to pause
    async with open_store(settings.store.url) as store, store.begin(await indexed_time(store)) as unit:
        detail = f"by {getpass.getuser()}" + (f": {reason}" if reason else "")
        before = {row.id for row in await unit.approvals.active()}
        row = await unit.approvals.pause("person", EVERYTHING, detail)
        return row.detail, row.id in before
