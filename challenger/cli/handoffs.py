"""`challenger handoffs`: hop by hop, what crossed and who held it; or all of them, counted by party and fault."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from challenger.cli.common import moment, print_json, print_table, settings_of, short, utc
from challenger.domain import CommitmentId, TaskId, UnixTime
from challenger.errors import ConfigError, NotInRecord
from challenger.settings import reference_only

if TYPE_CHECKING:
    from challenger.audit.handoffs import Ledger, Summary
    from challenger.audit.hops import Hop
    from challenger.settings import Settings
    from challenger.store.handoffs import Handoffs, Story

#: Chain time is kept in 64 bits.
_END = UnixTime(2**63 - 1)


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="a commitment, or a task (0x…, a unique beginning is enough)")
    which.add_argument("--all", action="store_true", help="count over all commitments who let which hop down, and how")
    times = "UTC, as 2026-01-31, 2026-01-31T12:00 or seconds"
    sub.add_argument(
        "--since", type=moment, default=None, metavar="TIME", help=f"with --all: committed then or later ({times})"
    )
    sub.add_argument("--until", type=moment, default=None, metavar="TIME", help="with --all: committed before that")


def run(options: argparse.Namespace) -> int:
    since, until = options.since, options.until
    if options.id is not None and (since, until) != (None, None):
        raise ConfigError("--since and --until go with --all")
    if since is not None and until is not None and since >= until:
        raise ConfigError("--since must be before --until")
    settings = settings_of(options)
    reference_only(settings, "the hand-off ledger")
    if options.all:
        _print_all(asyncio.run(_all(settings, since, until)), as_json=options.json)
        return 0
    ledger = asyncio.run(_one(settings, options.id))
    if options.json:
        print_json(ledger.as_json())
    else:
        _print_one(ledger)
    return 0


async def _one(settings: Settings, text: str) -> Ledger:
    from challenger.audit.handoffs import ledger_of
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store, store.read() as view:
        return ledger_of(await _found(view.handoffs, text))


async def _found(handoffs: Handoffs, text: str) -> Story:
    """Raises NotInRecord where no commitment and no task begins with ``text``, or several do."""
    wanted = text.lower().removeprefix("0x")
    if not wanted or len(wanted) > 64 or any(c not in "0123456789abcdef" for c in wanted):
        raise NotInRecord("the id of a commitment or task is hex, or a beginning of it", asked=text)
    matches = await handoffs.beginning(wanted)
    if not matches:
        raise NotInRecord("no commitment and no task begins with this", asked=text)
    if len(matches) > 1:
        some = ", ".join("0x" + one.hex()[:16] for one in matches[:3])
        raise NotInRecord(f"several begin with this: {some}, …", asked=text)
    story = await handoffs.story(CommitmentId(matches[0])) or await handoffs.task_story(TaskId(matches[0]))
    if story is None:
        raise NotInRecord("the record has neither events nor work of it", asked=text)
    return story


async def _all(settings: Settings, since: int | None, until: int | None) -> Summary:
    from challenger.audit.handoffs import Summary, ledger_of
    from challenger.store.engine import open_store

    summary = Summary()
    async with open_store(settings.store.url) as store, store.read() as view:
        begin, end = UnixTime(since or 0), _END if until is None else UnixTime(until)
        async for story in view.handoffs.between(begin, end):
            summary.add(ledger_of(story))
    return summary


def _print_one(ledger: Ledger) -> None:
    rows = [(hop.step, hop.status, hop.holder.role, _time(hop), _said(hop)) for hop in ledger.hops]
    print(f"{'Commitment' if ledger.answered else 'Task'} 0x{ledger.identity.hex()}")
    print_table("Hand-offs", ["hop", "", "held by", "chain time", "what can be said"], rows, whole=3)
    print(ledger.sentence())


def _time(hop: Hop) -> str:
    if hop.when.time is not None:
        return utc(hop.when.time).removesuffix(" UTC")
    return "" if hop.when.block is None else f"block {hop.when.block}"


def _said(hop: Hop) -> str:
    said = hop.said.replace(hop.holder.address, hop.holder.address[:10] + "…") if hop.holder.address else hop.said
    parts = [said if hop.fault is None else f"{hop.fault}: {said}"]
    for name, due in hop.should.items():
        did = hop.did.get(name)
        if did is not None and did != due:
            parts.append(f"{name} is {short(did)}, due was {short(due)}")
    return "; ".join(parts) + ("" if hop.certainty is None else f" ({hop.certainty})")


def _print_all(summary: Summary, *, as_json: bool) -> None:
    from challenger.audit.hops import Status

    if as_json:
        print_json(summary.as_json())
        return
    if not summary.ledgers:
        print("No commitment of that time is in the index.")
        return
    steps = [
        (step, *(counts[status] or "" for status in Status)) for step, counts in summary.steps.items() if counts.total()
    ]
    print_table(f"Hops of {summary.ledgers} commitments and lapsed tasks", ["hop", *Status], steps, whole=5)
    if summary.faults:
        rows = [
            (let.party.role, let.step, let.fault, count, summary.first[let], let.certainty, let.party.address)
            for let, count in summary.ranked()
        ]
        columns = ["party", "hop", "fault", "times", "first", "how certain", "address"]
        print_table("Who let a hop down", columns, rows, whole=5)
    print(f"{summary.broken} of {summary.ledgers} have a hop that diverged.")
