"""`challenger approvals | approve | refuse`: in mode confirm a person decides each filing."""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from challenger.cli.common import ether, print_json, print_table, settings_of, utc
from challenger.cli.reach import reached
from challenger.domain import ChainId, CommitmentId, Part, State
from challenger.errors import NotInRecord
from challenger.settings import Settings, addresses

if TYPE_CHECKING:
    from challenger.pipeline.approval import Terms
    from challenger.protocols.reference import ReferenceAdapter
    from challenger.store.engine import Store
    from challenger.store.unit import View
    from challenger.store.work import Item

_ASKED = (State.CONFIRMED, State.UNAVAILABLE)


def arguments(name: str, sub: argparse.ArgumentParser) -> None:
    if name != "approvals":
        sub.add_argument("commitment", help="its id (0x and 64 hex digits), as `challenger approvals` lists it")
        sub.add_argument("--note", default="", help="what you looked at; kept in the journal")


def run(options: argparse.Namespace) -> int:
    settings = addresses(settings_of(options))
    if options.command == "approvals":
        _show(asyncio.run(_list(settings)), as_json=options.json)
        return 0
    decided = asyncio.run(_decide(settings, options))
    if options.json:
        print_json(decided)
    else:
        word = "Approved" if decided["approved"] else "Refused"
        print(f"{word}: {decided['action']} against {decided['commitment']}, bond {ether(decided['bond'])} ETH.")
    return 0


async def _list(settings: Settings) -> list[dict[str, Any]]:
    from challenger.pipeline.approval import WAITING, terms_of, unapproved, withheld

    async with _opened(settings) as (store, adapter, now), store.read() as view:
        rows = []
        for item in await view.work.items(list(_ASKED), closes_after=now, limit=1_000):
            if withheld(item) is Part.WEIGHTS:
                continue
            terms = await terms_of(view, adapter, item)
            wanting = await unapproved(view, terms)
            rows.append(_facts(item, terms) | {"decision": wanting.removeprefix(WAITING).strip() or "approved"})
            rows[-1]["seconds_left"] = item.commitment.closes - now
        return rows


async def _decide(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    from challenger.pipeline.approval import decide, terms_of

    approved = options.command == "approve"
    async with _opened(settings) as (store, adapter, now):
        # the chain is asked before anything is locked: the watcher writes meanwhile, for its lease too
        async with store.read() as view:
            item = await _item(view, options.commitment)
            terms = await terms_of(view, adapter, item)
        async with store.begin(now) as unit:
            await decide(unit, item, terms, approved=approved, person=getpass.getuser(), note=options.note)
        return _facts(item, terms) | {"approved": approved}


async def _item(view: View, text: str) -> Item:
    try:
        identity = CommitmentId(bytes.fromhex(text.removeprefix("0x")))
    except ValueError:
        raise NotInRecord("a commitment is 0x and 64 hex digits", asked=text) from None
    item = await view.work.item(identity)
    if item is None:
        raise NotInRecord("no such commitment", asked=text)
    if item.work.state not in _ASKED:
        raise NotInRecord("nothing is asked about this commitment", asked=text, state=item.work.state)
    return item


def _facts(item: Item, terms: Terms) -> dict[str, Any]:
    accusation = terms.accusation
    differs = ""
    if accusation is not None:
        differs = "output" if accusation.output_root != item.commitment.output_root else "state"
    return {
        "commitment": terms.commitment,
        "action": terms.action.value,
        "part": "" if terms.part is None else terms.part.value,
        "provider": item.commitment.provider,
        "model": item.commitment.model,
        "differs": differs,
        "committed_output": item.commitment.output_root,
        "our_output": None if accusation is None else accusation.output_root,
        "committed_state": item.commitment.state_root,
        "our_state": None if accusation is None else accusation.state_root,
        "bond": terms.prospect.bond,
        "reward": terms.prospect.reward,
        "closes": item.commitment.closes,
        "gate": item.work.detail,
    }


def _show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
    elif not rows:
        print("Nothing waits for a person.")
    else:
        columns = ["commitment", "action", "provider", "differs", "bond", "reward", "closes", "left", "decision"]
        cells = [
            (
                "0x" + r["commitment"].hex(),
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
        print_table("Waiting for a person", columns, cells)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[tuple[Store, ReferenceAdapter, Any]]:
    """The record, the protocol read through the first endpoint that answers, and chain time."""
    from challenger.protocols.reference import ReferenceAdapter
    from challenger.store.engine import open_store

    chain = settings.chain
    async with reached(settings) as (rpc, now), open_store(settings.store.url) as store:
        adapter = ReferenceAdapter(rpc, ChainId(chain.chain_id), chain.market, anchor=chain.anchor or None)
        await adapter.check()
        yield store, adapter, now
