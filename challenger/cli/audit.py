"""`challenger audit`: does the record hold?"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenger.cli import audit_replay
from challenger.cli.common import print_json, print_table, settings_of
from challenger.errors import JournalBroken, NotInRecord, StoreError
from challenger.reach import reached
from challenger.settings import Settings, addresses, reference_only

#: What values raise that nothing of ours wrote into a row.
UNREADABLE = (StoreError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError)

if TYPE_CHECKING:
    from challenger.sampling.audit import Report


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    kinds = sub.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, line in (
        ("sampling", "was each draw as promised?"),
        ("journal", "does the hash chain hold, and do the published heads fit?"),
        (
            "verify",
            "does all of the record hold: journal, rows and events against it, draws? asks nobody but the database",
        ),
        ("replay", "run past commitments again, whatever their windows, and record what comes of it"),
    ):
        kind = kinds.add_parser(name, help=line, description=line[0].upper() + line[1:])
        # said before or after WHAT
        kind.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="machine-readable output")
        kind.add_argument("-c", "--config", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="settings file")
        if name == "sampling":
            kind.add_argument("--epoch", type=int, default=None, help="this epoch alone")
            kind.add_argument("--offline", action="store_true", help="do not ask the chain")
        elif name == "verify":
            kind.add_argument("--chain", action="store_true", help="hold every event against an endpoint too")
        elif name == "replay":
            audit_replay.arguments(kind)


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.what == "replay":
        reference_only(settings, "an audit's replay")
        return audit_replay.run(settings, options)
    if options.what == "verify":
        whole = addresses(settings) if options.chain else settings
        return asyncio.run(_verify(whole, as_json=options.json, asked=options.chain))
    if options.what == "journal":
        return asyncio.run(_journal(settings, as_json=options.json))
    return asyncio.run(_sampling(settings if options.offline else addresses(settings), options))


async def _sampling(settings: Settings, options: argparse.Namespace) -> int:
    from challenger.audit.journal import Recovered
    from challenger.audit.sampling import audit_epoch
    from challenger.parts import adapter_of
    from challenger.store.engine import open_store
    from challenger.store.heads import FilePublisher, verify

    chain = settings.chain
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(settings.store.url))
        journal = await verify(store, await FilePublisher(settings.store.heads).published(), Recovered())
        rpc: Any = None
        if not options.offline:
            rpc, _ = await stack.enter_async_context(reached(settings))
        view = await stack.enter_async_context(store.read())
        rows = [r for r in await view.epochs.all() if options.epoch is None or r.number == options.epoch]
        if options.epoch is not None and not rows:
            raise NotInRecord("no such epoch", asked=options.epoch)
        adapter = None if rpc is None else adapter_of(settings, rpc)
        reports = []
        for row in rows:
            try:
                reports.append(await audit_epoch(view, row, chain.anchor, rpc, adapter, bound=journal.vouched))
            except UNREADABLE as error:
                raise JournalBroken(f"the row of epoch {row.number} cannot be read: {str(error)[:120]}") from error
    holds = all(report.holds for report in reports)
    if options.json:
        print_json({"holds": holds, "epochs": [_as_json(report) for report in reports]})
    else:
        _print(reports, holds=holds, asked=not options.offline)
    return 0 if holds else 1


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "epoch": report.epoch,
        "holds": report.holds,
        "anchored": report.anchored,
        "commitments": report.commitments,
        "selected": report.selected,
        "pending": report.pending,
        "before_anchor": report.before_anchor,
        "findings": [{"commitment": f.commitment, "what": f.what} for f in report.findings],
        "notes": report.notes,
    }


def _print(reports: list[Report], *, holds: bool, asked: bool) -> None:
    told = [report for report in reports if report.commitments or report.findings]
    if not told:
        print("Nothing to audit: no commitment was indexed in any epoch yet.")
        return
    print_table(
        "Sampling, as promised and as drawn",
        ["epoch", "commitments", "drawn for replay", "not drawn yet", "anchored", "holds"],
        [
            (
                r.epoch,
                r.commitments,
                r.selected,
                r.pending,
                ("yes" if r.anchored else "no") if asked else "not asked",
                "yes" if r.holds else "NO",
            )
            for r in told
        ],
    )
    for report in told:
        for finding in report.findings:
            subject = "" if finding.commitment is None else f" 0x{finding.commitment.hex()}"
            print(f"epoch {report.epoch}:{subject} {finding.what}")
        for note in report.notes:
            print(f"epoch {report.epoch}: note: {note}")
    print("The sampling holds." if holds else "The sampling does NOT hold.")


async def _verify(settings: Settings, *, as_json: bool, asked: bool) -> int:
    """The journal first: what rows are held against is worth as much as it."""
    from challenger.audit.finding import Finding
    from challenger.audit.journal import Recovered
    from challenger.audit.onchain import audit_chain
    from challenger.audit.rows import audit_rows
    from challenger.audit.sampling import audit_epoch
    from challenger.parts import adapter_of
    from challenger.store.engine import open_store
    from challenger.store.heads import FilePublisher, verify

    chain, verifier = settings.chain, Recovered()
    async with open_store(settings.store.url) as store:
        journal = await verify(store, await FilePublisher(settings.store.heads).published(), verifier)
        async with store.read() as view:
            rows = await audit_rows(view)
            draws, unread = [], []
            for row in await view.epochs.all():
                try:
                    draws.append(await audit_epoch(view, row, chain.anchor, bound=journal.vouched))
                except UNREADABLE as error:
                    unread.append(f"sampling: epoch {row.number}: it cannot be read: {str(error)[:120]}")
            on_chain: list[Finding] = []
            held = 0
            if asked:
                async with reached(settings) as (rpc, _):
                    on_chain, held = await audit_chain(view, rpc, adapter_of(settings, rpc), chain.start_block)
    findings = [] if journal.broken is None else [f"journal: entry {journal.broken}: {journal.why}"]
    findings += [f"{one.table}: {one.about}: {one.what}" for one in (*rows, *on_chain)] + unread
    for report in draws:
        for one in report.findings:
            about = "" if one.commitment is None else f"0x{one.commitment.hex()}: "
            findings.append(f"sampling: epoch {report.epoch}: {about}{one.what}")
    if as_json:
        facts = {"entries": journal.entries, "bound": journal.bound, "signers": sorted(verifier.signers)}
        facts |= {"events_on_chain": held if asked else None}
        print_json({"holds": not findings, "findings": findings, **facts})
    else:
        for finding in findings:
            print(finding)
        by = ", ".join(sorted(verifier.signers)) or "nobody"
        bound = f"{journal.entries} entries, bound by published heads up to {journal.bound}, signed by {by}"
        if not journal.bound:
            bound = f"{journal.entries} entries, bound by NO published head: {settings.store.heads} has none"
        bound += f"; {held} events are on the chain" if asked else "; the chain was not asked (--chain)"
        print(f"The record does NOT hold ({bound})." if findings else f"The record holds: {bound}.")
    return 1 if findings else 0


async def _journal(settings: Settings, *, as_json: bool) -> int:
    from challenger.audit.journal import Recovered
    from challenger.store.engine import open_store
    from challenger.store.heads import FilePublisher, verify

    verifier = Recovered()
    async with open_store(settings.store.url) as store:
        published = await FilePublisher(settings.store.heads).published()
        report = await verify(store, published, verifier)
    holds = report.broken is None
    if as_json:
        facts = {"entries": report.entries, "bound": report.bound, "broken": report.broken, "why": report.why}
        print_json({"holds": holds, **facts, "signers": sorted(verifier.signers), "unsigned_heads": verifier.unsigned})
    elif holds:
        by = ", ".join(sorted(verifier.signers)) or "nobody"
        print(
            f"The journal holds: {report.entries} entries, bound by published heads up to {report.bound} (signed by {by})."
        )
    else:
        print(f"The journal does NOT hold at entry {report.broken}: {report.why}")
    return 0 if holds else 1
