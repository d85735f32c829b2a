"""`challenger audit replay`: past commitments run again, without a key; recorded as audits, never filed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from challenger.cli.common import natural, positive, print_json, print_table, short
from challenger.domain import Source, VerdictKind
from challenger.settings import Settings

if TYPE_CHECKING:
    from challenger.auditing import Audit
    from challenger.pipeline.audits import Audited, Missing
    from challenger.store.audits import AuditRow

_JUDGED = (VerdictKind.VALID, VerdictKind.FRAUD)


def arguments(sub: argparse.ArgumentParser) -> None:
    sub.set_defaults(refuse=sub.error)
    sub.epilog = "Exit codes: 0 all were judged VALID or FRAUD, 1 something was not, or was not found, 2 usage."
    sub.add_argument("ids", nargs="*", type=identity, metavar="ID", help="0x…; of an indexed one a beginning is enough")
    sub.add_argument("--from", dest="first", type=natural, default=None, metavar="BLOCK", help="all from this block on")
    sub.add_argument("--to", dest="last", type=natural, default=None, metavar="BLOCK", help="… up to this one")
    sub.add_argument("--all-unjudged", action="store_true", help="all in the index that nobody here has judged")
    sub.add_argument("--limit", type=positive, default=100, metavar="N", help="of these at most N (default: 100)")
    sub.add_argument("--confirm", action="store_true", help="have the second backend reproduce each FRAUD, afresh")


def identity(text: str) -> str:
    """For argparse: the hex digits of a commitment's id, or of its beginning."""
    digits = text.lower().removeprefix("0x")
    if not 1 <= len(digits) <= 64 or any(c not in "0123456789abcdef" for c in digits):
        raise argparse.ArgumentTypeError("a commitment's id is 0x and 64 hex digits, or a beginning of it")
    return digits


def run(settings: Settings, options: argparse.Namespace) -> int:
    from challenger.auditing import Audit, Wanted

    bounds = (options.first, options.last)
    if not (options.ids or options.all_unjudged or bounds != (None, None)):
        options.refuse("nothing was asked for: name commitments, --from with --to, or --all-unjudged")
    if bounds != (None, None) and (None in bounds or options.first > options.last):
        options.refuse("--from and --to go together, in order")
    blocks = None if options.first is None else (options.first, options.last)
    wanted = Wanted(tuple(options.ids), blocks, options.all_unjudged, options.limit)
    audit = Audit(settings, wanted, confirm=options.confirm)
    results = asyncio.run(_collected(audit))
    return report(results, more=audit.more, as_json=options.json)


async def _collected(audit: Audit) -> list[Audited | Missing]:
    found = []
    async for result in audit.results():
        found.append(result)
        if sys.stderr.isatty():
            print(f"\r{len(found)} of {audit.total}", end="" if len(found) < audit.total else "\n", file=sys.stderr)
    return found


def report(results: list[Audited | Missing], *, more: bool, as_json: bool) -> int:
    """Prints them, and gives the exit code."""
    from challenger.pipeline.audits import Missing

    missing = [one for one in results if isinstance(one, Missing)]
    audited = [one for one in results if not isinstance(one, Missing)]
    fine = not missing and all(one.row.kind in _JUDGED for one in audited)
    if as_json:
        lost = [{"asked": one.asked, "why": one.why} for one in missing]
        print_json({"judged": fine, "audits": [_as_json(one) for one in audited], "missing": lost, "more": more})
    else:
        _print(audited, missing, more=more)
    return 0 if fine else 1


def told(row: AuditRow) -> dict[str, Any]:
    """One audit, as JSON has it here and in `challenger commitments ID`."""
    return {**row._asdict(), "environment": json.loads(row.environment), "differs": row.differs}


def _as_json(one: Audited) -> dict[str, Any]:
    return {
        **told(one.row),
        "earlier": None if one.earlier is None else told(one.earlier),
        "differs_from_earlier": one.differs,
        "watcher": None if one.watched is None else {"kind": one.watched[0], "detail": one.watched[1]},
    }


def _print(audited: list[Audited], missing: list[Missing], *, more: bool) -> None:
    if not audited and not missing:
        print("Nothing to audit: no commitment is there, or all have been judged.")
    if audited:
        columns = ["commitment", "block", "provider", "verdict", "why", "before"]
        rows = [
            (
                short(one.row.commitment),
                one.row.block,
                short(bytes.fromhex(one.row.provider[2:]), 6),
                one.row.kind,
                why(one.row),
                "" if one.earlier is None else "DIFFERS" if one.differs else "same",
            )
            for one in audited
        ]
        print_table("Past commitments, run again", columns, rows)
    for one in audited:
        _print_roots(one.row)
    for one in audited:
        if one.earlier is not None and one.differs:
            print(f"{_name(one.row)}: {_said(one.row)} now; {_said(one.earlier)} in audit {one.earlier.id} before")
        if one.watched is not None and one.watched[0] != one.row.kind:
            print(f"{_name(one.row)}: {one.row.kind}; the watcher said {' '.join(filter(None, one.watched))}")
    unproved = sum(one.row.source == Source.SERVED and one.row.kind in _JUDGED for one in audited)
    if unproved:
        print(f"{unproved} from logs as the endpoint served them: nothing proved them against their blocks' hashes.")
    for lost in missing:
        print(f"{lost.asked}: not found: {lost.why}")
    if audited:
        counts = Counter(one.row.kind for one in audited)
        print(f"Recorded, and never filed: {', '.join(f'{count} {kind}' for kind, count in counts.items())}.")
    if more:
        print("There are more than --limit lets through: raise it, or ask for the rest.")


def _print_roots(row: AuditRow) -> None:
    if row.kind != VerdictKind.FRAUD:
        return
    pairs = {"output": (row.committed_output, row.output_root), "state": (row.committed_state, row.state_root)}
    for name in row.differs:
        committed, computed = pairs[name]
        head = f"{_name(row)} {name} root: "
        print(f"{head}committed 0x{committed.hex()}")
        print(f"{' ' * len(head)}computed  0x{(computed or b'').hex()}")


def why(row: AuditRow) -> str:
    """Of a FRAUD which roots differ and who found it, of another verdict its detail."""
    if row.kind != VerdictKind.FRAUD:
        return row.detail
    found = f"{row.backend} and {row.confirmed}" if row.confirmed else f"{row.backend} alone"
    return f"{' and '.join(row.differs)}, by {found}"


def _said(row: AuditRow) -> str:
    return f"{row.kind} ({text})" if (text := why(row)) else row.kind


def _name(row: AuditRow) -> str:
    return "0x" + row.commitment.hex()[:16]
