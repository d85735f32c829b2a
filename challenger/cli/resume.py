"""`challenger resume`: a person has looked at why filing stands still, and lets it go on."""

from __future__ import annotations

import argparse
import asyncio
import getpass
from typing import TYPE_CHECKING

from challenger.cli.common import print_json, settings_of
from challenger.errors import EndpointError, NotInRecord
from challenger.reach import indexed_time, reached
from challenger.settings import Settings, addresses
from challenger.wording import utc

if TYPE_CHECKING:
    from challenger.store.rows import PauseRow


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "model",
        nargs="?",
        default="",
        help=(
            "model id (0x…), or `filing` for what `challenger pause` stopped; without one EVERY pause is lifted, those over "
            "correlated accusations and lost disputes too"
        ),
    )
    sub.add_argument("--note", default="", help="what you looked at; kept in the journal")


def run(options: argparse.Namespace) -> int:
    lifted, left = asyncio.run(_resume(addresses(settings_of(options)), options.model, options.note))
    if not lifted:
        raise NotInRecord("no such pause is in force", asked=options.model or "any")
    if options.json:
        told = {"pauses": [row._asdict() for row in lifted], "still_in_force": [row._asdict() for row in left]}
        print_json({"lifted": len(lifted), **told})
        return 0
    print(f"Lifted {len(lifted)} pause{'' if len(lifted) == 1 else 's'}.")
    for row in lifted:
        print(_line(row))
    if left:
        print("Still paused:")
    for row in left:
        print(_line(row))
    return 0


def _line(row: PauseRow) -> str:
    from challenger.store.keep import scope_of

    return f"  {row.reason}, {scope_of(row.subject)}: {row.detail} (since {utc(row.opened_at)})"


async def _resume(settings: Settings, model: str, note: str) -> tuple[list[PauseRow], list[PauseRow]]:
    """What was lifted, and what is in force still."""
    from challenger.service import approve
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store:
        try:
            async with reached(settings) as (_, now):
                pass
        except EndpointError:
            now = await indexed_time(store)  # clears no more than what was found by then
        lifted = await approve(store, now, model, getpass.getuser(), note)
        async with store.read() as view:
            return lifted, await view.approvals.active()
