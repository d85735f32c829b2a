"""`challenger report` and `challenger findings`: audits of protocols that have no dispute on chain, and what they left."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from challenger.cli.common import natural, positive, print_json, print_table, settings_of, utc
from challenger.domain import Millionths
from challenger.settings import REPORTED as PROTOCOLS
from challenger.settings import Settings

if TYPE_CHECKING:
    from challenger.protocols.findings import Finding
    from challenger.protocols.opengradient.audit import Checked
    from challenger.protocols.opengradient.join import Unjoined
    from challenger.reporting import Report
    from challenger.store.findings import FindingRow


def arguments(name: str, sub: argparse.ArgumentParser) -> None:
    if name == "findings":
        sub.add_argument("--protocol", choices=PROTOCOLS, default=None, help="of this protocol alone")
        sub.add_argument("--limit", type=positive, default=100, metavar="N", help="the latest N (default: 100)")
        return
    sub.epilog = "Exit codes: 0 nothing was found, 1 something was, or could not be settled, 2 usage."
    sub.set_defaults(refuse=sub.error)
    sub.add_argument("--protocol", choices=PROTOCOLS, required=True, help="what to audit")
    sub.add_argument("--from", dest="first", type=natural, required=True, metavar="BLOCK", help="from this block on")
    sub.add_argument(
        "--to",
        dest="last",
        type=natural,
        default=None,
        metavar="BLOCK",
        help="… up to this one (default: the newest that is confirmed)",
    )
    sub.add_argument("--rpc", default=None, metavar="URL", help="this endpoint in place of those in [chain] rpc")
    rates = sub.add_mutually_exclusive_group()
    rates.add_argument("--all", action="store_true", help="run every inference again (the default)")
    rates.add_argument("--rate", type=_rate, default=None, metavar="P", help="run a part of them again, 0 to 1")
    sub.add_argument(
        "--seed",
        type=_seed,
        default=None,
        metavar="HEX",
        help="draw with this secret, 64 hex digits (default: a new one, which is shown)",
    )
    sub.add_argument("--no-record", action="store_true", help="keep nothing: no database is needed")


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    if options.command == "findings":
        return asyncio.run(_findings(settings, options))
    if options.last is not None and options.last < options.first:
        options.refuse("--from and --to go in order")
    if options.rpc is not None:
        settings = replace(settings, chain=replace(settings.chain, rpc=(options.rpc,)))
    return asyncio.run(_report(settings, options))


async def _report(settings: Settings, options: argparse.Namespace) -> int:
    from challenger.protocols.findings import Finding
    from challenger.protocols.opengradient.audit import Checked
    from challenger.reporting import REPORTS, Wanted

    wanted = Wanted(options.first, options.last)
    if options.rate is not None:
        wanted = replace(wanted, rate=options.rate)
    if options.seed is not None:
        wanted = replace(wanted, seed=options.seed)
    report = REPORTS[options.protocol](settings, wanted, record=not options.no_record)
    checked: list[Checked] = []
    unjoined: list[Unjoined] = []
    found: list[Finding] = []
    async for one in report.results():
        if isinstance(one, Checked):
            checked.append(one)
            found += one.findings
        elif isinstance(one, Finding):
            found.append(one)
        else:
            unjoined.append(one)
    fine = not found and not unjoined and all(one.standing != "open" for one in checked)
    if options.json:
        facts = {
            "fine": fine,
            "protocol": options.protocol,
            "capability": report.capability,
            "chain": report.chain,
            "from": wanted.first,
            "to": report.last,
        }
        facts |= {"seed": wanted.seed, "rate": wanted.rate, "new": None if options.no_record else report.new}
        told = {
            "inferences": [inference_as_json(one) for one in checked],
            "unjoined": [{**asdict(one.at), "why": one.why} for one in unjoined],
            "findings": [finding_as_json(one) for one in found],
        }
        print_json(facts | told)
    else:
        print_report(checked, unjoined, found)
        print(_ending(report, wanted.first, found, recorded=not options.no_record))
        if options.rate is not None:
            print(f"Drawn with the seed {wanted.seed.hex()}: with it anybody draws the same ones.")
    return 0 if fine else 1


def print_report(checked: list[Checked], unjoined: list[Unjoined], found: list[Finding]) -> None:
    """As the demonstration shows it too."""
    if checked:
        columns = ["inference", "block", "model", "stands", "how far, or why"]
        rows = [
            (
                one.inference.inference or "(none)",
                one.inference.at.block,
                _cid(one.inference.model),
                str(one.standing),
                one.said,
            )
            for one in checked
        ]
        print_table("Inferences, beside our own runs of them", columns, rows, whole=2)
    if found:
        columns = ["finding", "ground", "hand-off, party", "what"]
        print_table(
            "Findings", columns, [(f.kind, f.ground, f"{f.hop}, {_party(f.party)}", f.said) for f in found], whole=2
        )
    for one in unjoined:
        print(f"block {one.at.block}, log {one.at.log_index}: not joined: {one.why}")
    counts = Counter(str(one.standing) for one in checked)
    if counts:
        print(f"{len(checked)} inferences: {', '.join(f'{count} {name}' for name, count in counts.items())}.")


def _ending(report: Report, first: int, found: list[Finding], *, recorded: bool) -> str:
    head = (
        f"Blocks {first} to {report.last} of chain {report.chain}: {len(found)} finding{'' if len(found) == 1 else 's'}"
    )
    if not recorded:
        return f"{head}, nothing recorded."
    return f"{head}, {report.new} of them new to the record; nothing is filed over any of it."


def inference_as_json(one: Checked) -> dict[str, Any]:
    inference = one.inference
    return {
        "inference": inference.inference,
        "subject": inference.subject,
        "model": inference.model,
        "mode": inference.mode.name,
        "sender": inference.sender,
        "at": asdict(inference.at),
        "standing": one.standing.value,
        "said": one.said,
        "findings": [found.kind for found in one.findings],
    }


def finding_as_json(one: Finding) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "subject": one.subject,
        "hop": one.hop,
        "party": one.party,
        "ground": one.ground.value,
        "said": one.said,
        "at": asdict(one.at),
        "facts": one.facts,
    }


async def _findings(settings: Settings, options: argparse.Namespace) -> int:
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store, store.read() as view:
        rows = await view.findings.all(options.protocol, options.limit)
    if options.json:
        print_json({"findings": [{**row._asdict(), "facts": json.loads(row.facts)} for row in rows]})
    elif not rows:
        print("No findings: `challenger report` makes them.")
    else:
        columns = ["finding", "ground", "block", "hand-off, party", "what"]
        print_table("Findings, the latest last", columns, [_row(row) for row in rows], whole=3)
        print(f"{len(rows)}, the last found at {utc(rows[-1].time)} of chain time; --json has every fact.")
    return 0


def _row(row: FindingRow) -> tuple[Any, ...]:
    return row.kind, row.ground, row.block, f"{row.hop}, {_party(row.party)}", row.said


def _party(party: str) -> str:
    return party if len(party) <= 12 else party[:10] + "…"


def _cid(cid: str) -> str:
    return cid if len(cid) <= 16 else f"{cid[:8]}…{cid[-6:]}"


def _rate(text: str) -> Millionths:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError("a rate is a number from 0 to 1")
    return Millionths(round(rate * 1_000_000))


def _seed(text: str) -> bytes:
    digits = text.lower().removeprefix("0x")
    if len(digits) != 64 or any(c not in "0123456789abcdef" for c in digits):
        raise argparse.ArgumentTypeError("a seed is 64 hex digits")
    return bytes.fromhex(digits)
