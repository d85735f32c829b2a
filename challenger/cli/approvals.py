"""`challenger approvals | approve | refuse`: in mode confirm a person decides each filing."""

from __future__ import annotations

import argparse
import asyncio
import getpass
from typing import Any

from challenger.cli.common import ether, print_json, print_table, settings_of, short, utc, whole_of
from challenger.domain import CommitmentId
from challenger.errors import NotInRecord
from challenger.settings import Settings, addresses


def arguments(name: str, sub: argparse.ArgumentParser) -> None:
    if name != "approvals":
        sub.add_argument("commitment", help="its id (0x and 64 hex digits), as `challenger approvals` lists it")
        sub.add_argument("--note", default="", help="what you looked at; kept in the journal")


def run(options: argparse.Namespace) -> int:
    settings = addresses(settings_of(options))
    if options.command == "approvals":
        _show(*asyncio.run(_list(settings)), as_json=options.json)
        return 0
    decided = asyncio.run(_decide(settings, options))
    if options.json:
        print_json(decided)
    else:
        word = "Approved" if decided["approved"] else "Refused"
        print(
            f"{word}: {decided['action']} against 0x{decided['commitment'].hex()}, bond {ether(decided['bond'])} {decided['money']}."
        )
    return 0


async def _list(settings: Settings) -> tuple[list[dict[str, Any]], str]:
    from challenger.filings import waiting
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store:
        async with store.read() as view:
            whole = await whole_of(view)
        return [row._asdict() for row in await waiting(store, settings)], whole


async def _decide(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    from challenger.filings import decided
    from challenger.store.engine import open_store

    try:
        commitment = CommitmentId(bytes.fromhex(options.commitment.removeprefix("0x")))
    except ValueError:
        raise NotInRecord("a commitment is 0x and 64 hex digits", asked=options.commitment) from None
    approved = options.command == "approve"
    async with open_store(settings.store.url) as store:
        person, note = getpass.getuser(), options.note
        filing = await decided(store, settings, commitment, approved=approved, person=person, note=note)
        async with store.read() as view:
            whole = await whole_of(view)
    return filing._asdict() | {"approved": approved, "money": whole}


def _show(rows: list[dict[str, Any]], whole: str, *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif not rows:
        print("Nothing waits for a person.")
    else:
        columns = ["commitment", "action", "provider", "differs", "bond", "reward", "closes", "left", "decision"]
        cells = [
            (
                short(r["commitment"]),
                r["action"] + (f" of {r['part']}" if r["part"] else ""),
                r["provider"],
                r["differs"],
                ether(r["bond"]),
                ether(r["reward"]),
                utc(r["closes"]),
                f"{r['seconds_left']} s",
                r["decision"],
            )
            for r in rows
        ]
        print_table(f"Waiting for a person (amounts in {whole})", columns, cells)
        print("\nBy these ids `challenger approve ID` and `challenger refuse ID` know them:")
        for row in rows:  # whole, and not folded into a cell: they are copied from here
            print(f"0x{row['commitment'].hex()}")
