"""`challenger status`, `commitments`, `disputes`: what the database says, without touching the chain."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING, Any

from challenger.cli.audit_replay import told, why
from challenger.cli.common import address, ether, positive, print_json, print_table, settings_of, short, utc, whole_of
from challenger.domain import Address, AuditId, CommitmentId, DisputeOutcome, State
from challenger.errors import NotInRecord
from challenger.wording import numbered

if TYPE_CHECKING:
    from challenger.store.audits import AuditRow
    from challenger.store.unit import View


#: Outcomes in words, where the protocol's own say too little.
_OUTCOME = {"expired": "no ruling"}
_ANSWER = {"lost": "unanswered"}


def arguments(name: str, sub: argparse.ArgumentParser) -> None:
    if name == "status":
        return
    sub.add_argument("--limit", type=positive, default=50, help="how many of the newest (default: 50)")
    if name == "commitments":
        sub.add_argument("id", nargs="?", default=None, help="show one in full (0x…, a unique beginning is enough)")
        states = ", ".join(State)
        sub.add_argument(
            "--state", type=_state, default=None, metavar="STATE", help=f"only those in this state: {states}"
        )
        sub.add_argument("--provider", type=address, default=None, metavar="ADDRESS", help="only this provider's")


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"there is no state {text}; it is one of {', '.join(State)}") from None


def run(options: argparse.Namespace) -> int:
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    from challenger.store.engine import open_store

    settings = settings_of(options)
    async with open_store(settings.store.url) as store, store.read() as view:
        if options.command == "status":
            await _status(view, options, store.where, settings.mode.value)
        elif options.command == "disputes":
            await _disputes(view, options)
        elif options.id is not None:
            await _one(view, options)
        else:
            await _commitments(view, options)
    return 0


async def _status(view: View, options: argparse.Namespace, where: str, mode: str) -> None:
    from challenger.store.keep import scope_of

    head = await view.chain.head()
    counts = await view.work.counts()
    transactions = await view.transactions.counts()
    pauses = await view.approvals.active()
    money, whole = await view.chain.money(), await whole_of(view)
    nearest = await view.overview.nearest(head.time) if head else None
    slack = None if nearest is None else nearest.slack
    disputes = await view.chain.disputes(outcome=DisputeOutcome.OPEN, limit=10_000)
    leases = [
        {"account": f.name, "holder": f.holder if f.left > 0 else None, "seconds_left": max(0, f.left) / 1000}
        for f in await view.fences.all()
    ]
    selftest = await _selftest(view)
    facts: dict[str, Any] = {
        "leases": leases,
        "selftest": selftest,
        "mode": mode,
        "database": where,
        "block": head.number if head else None,
        "chain_time": head.time if head else None,
        "commitments": {state.value: count for state, count in sorted(counts.items())},
        "transactions": {state.value: count for state, count in sorted(transactions.items())},
        "open_disputes": len(disputes),
        "money": whole,
        "bonds_in_disputes": str(sum(d.bond for d in disputes)),
        "nearest_deadline_seconds": slack,
        "paid_by_losers": str(money.paid),
        "burnt": str(money.burnt),
        "pauses": [{"reason": p.reason, "subject": p.subject, "detail": p.detail} for p in pauses],
    }
    if options.json:
        print_json(facts)
        return
    rows = [
        ("mode in the settings", mode),
        ("database", where),
        ("indexed to block", f"{head.number} ({utc(head.time)})" if head else "nothing yet"),
        ("commitments", _counts(facts["commitments"])),
        ("transactions", _counts(facts["transactions"])),
        ("open disputes", f"{len(disputes)}, bonds {ether(int(facts['bonds_in_disputes']))} {whole}"),
        ("nearest deadline", "none" if slack is None else f"{slack} s"),
        ("money moved", f"{ether(money.paid)} {whole} paid by losers, {ether(money.burnt)} {whole} burnt"),
    ]
    rows.append(("self-test", _recall(selftest)))
    rows += [("watcher", _watcher(lease)) for lease in leases]
    rows += [
        ("paused", f"{scope_of(p.subject)}, {p.reason}: {p.detail}; see `challenger resume {p.subject}`")
        for p in pauses
    ]
    print_table("Status", ["what", "now"], rows)


def _watcher(lease: dict[str, Any]) -> str:
    """Who works for an account, by the lease; the name of the lease of those without a key is ``watch``."""
    account = "without a key" if lease["account"] == "watch" else f"for {lease['account']}"
    if lease["holder"] is None:
        return f"none runs {account}"
    return f"{lease['holder']} runs {account} (lease renewed, {lease['seconds_left']:.0f} s left)"


async def _selftest(view: View) -> dict[str, Any]:
    """What was planted and what came of it. ``recall``: caught of those that came to a verdict, in millionths."""
    from challenger.store.selftests import Outcome

    counts = await view.selftests.counts()
    newest = await view.selftests.newest()
    last = None
    if newest:
        row = newest[0]
        last = {
            "time": row.time,
            "model": row.model,
            "change": row.change,
            "outcome": row.outcome,
            "detail": row.detail,
        }
    caught, missed = counts.get(Outcome.CAUGHT, 0), counts.get(Outcome.MISSED, 0)
    return {
        "planted": sum(counts.values()),
        **{outcome.value: counts.get(outcome, 0) for outcome in Outcome},
        "recall": caught * 1_000_000 // (caught + missed) if caught + missed else None,
        "last": last,
    }


def _recall(told: dict[str, Any]) -> str:
    if not told["planted"]:
        return "nothing planted yet"
    ends = ("caught", "missed", "undecided", "broken-off", "open")
    counts = ", ".join(f"{told[name]} {name.replace('-', ' ')}" for name in ends if told[name] or name in ends[:2])
    last = told["last"]
    why = f": {last['detail']}" if last["detail"] else ""
    return f"{told['planted']} planted: {counts}; last {utc(last['time'])} ({last['change']}) {last['outcome']}{why}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


async def _commitments(view: View, options: argparse.Namespace) -> None:
    provider = None if options.provider is None else Address(options.provider)
    items = await view.work.listing(state=options.state, provider=provider, limit=options.limit)
    rows: list[dict[str, Any]] = []
    for item in items:
        verdict = None if item.work.verdict is None else await view.verdicts.get(item.work.verdict)
        rows.append(
            {
                "id": item.work.commitment,
                "block": item.commitment.block,
                "provider": item.commitment.provider,
                "state": item.work.state,
                "verdict": None if verdict is None else verdict.kind,
                "detail": item.work.detail,
                "on_chain": item.commitment.status,
                "closes": item.commitment.closes,
            }
        )
    if options.json:
        print_json(rows)
        return
    columns = ["id", "block", "provider", "state", "verdict", "detail"]
    body = [
        (
            short(r["id"]),
            r["block"],
            r["provider"][:8] + "…",
            r["state"],
            r["verdict"] or "",
            r["detail"],
        )
        for r in rows
    ]
    print_table(f"Commitments ({len(rows)} newest)", columns, body, whole=5)


async def _one(view: View, options: argparse.Namespace) -> None:
    found = await _find(view, options.id)
    item = await view.work.item(found)
    audits = await view.audits.of(AuditId(found))
    if item is None:
        _audited_alone(audits, as_json=options.json)
        return
    verdicts = await view.verdicts.of(found)
    journal = await view.journal.about("0x" + found.hex())
    facts = {
        "commitment": item.commitment._asdict(),
        "work": item.work._asdict(),
        "verdicts": [{**v._asdict(), "environment": json.loads(v.environment)} for v in verdicts],
        "audits": [told(row) for row in audits],
        "disputes": [_exact(d) for d in await view.chain.disputes(commitment=found)],
        "demands": [_exact(d) for d in await view.chain.demands(commitment=found)],
        "transactions": [
            {"action": t.intent.action, "state": t.state, "nonce": t.nonce, "hash": t.hash, "error": t.error}
            for t in await view.transactions.about(found)
        ],
        "journal": [{**j._asdict(), "payload": json.loads(j.payload)} for j in journal],
    }
    if options.json:
        print_json(facts)
        return
    row = item.commitment
    about = [(name.replace("_", " "), _value(name, value)) for name, value in row._asdict().items()]
    about = [("state with us", item.work.state), ("why", item.work.detail), *about]
    print_table("Commitment", ["field", "value"], about)
    print_table(
        "Verdicts",
        ["kind", "differs, or why", "backend", "output root", "state root"],
        [(v.kind, v.detail, v.backend, short(v.output_root), short(v.state_root)) for v in verdicts],
    )
    if audits:
        _print_audits(audits)
    print_table("Its life", ["chain time", "what", "payload"], [(utc(j.time), j.kind, j.payload) for j in journal])


def _value(name: str, value: Any) -> Any:
    """A field of a row as a person reads it."""
    if name in ("committed_at", "closes"):
        return utc(value)
    return "0x" + value.hex() if isinstance(value, bytes) else "" if value is None else value


async def _find(view: View, text: str) -> CommitmentId:
    """The commitment, indexed or audited, whose id begins with ``text``. NotInRecord when none or several do."""
    wanted = text.lower().removeprefix("0x")
    if not wanted or len(wanted) > 64 or any(c not in "0123456789abcdef" for c in wanted):
        raise NotInRecord("a commitment's id is hex, or a beginning of it", asked=text)
    audited = [audit.about for audit in await view.audits.beginning(wanted)]
    matches = sorted({*await view.chain.commitments_beginning(wanted), *audited})
    if not matches:
        raise NotInRecord("no commitment begins with this", asked=text)
    if len(matches) > 1:
        some = ", ".join("0x" + match.hex()[:16] for match in matches[:3])
        raise NotInRecord(f"several commitments begin with this: {some}, …", asked=text)
    return CommitmentId(matches[0])


def _audited_alone(audits: list[AuditRow], *, as_json: bool) -> None:
    """Of a commitment that is not in the index: it never was, or a reorganisation took it away."""
    if as_json:
        print_json({"commitment": None, "audits": [told(row) for row in audits]})
        return
    print("Not in the index (never indexed, or taken away by a reorganisation); audited all the same:")
    _print_audits(audits)


def _print_audits(audits: list[AuditRow]) -> None:
    rows = [(utc(a.time), a.kind, why(a), a.source, short(a.output_root), short(a.state_root)) for a in audits]
    columns = ["chain time", "verdict", "why", "from", "output root", "state root"]
    print_table("Audits, which file nothing", columns, rows)


def _exact(row: Any) -> dict[str, Any]:
    """A row with its amounts as text: wei are exact whatever reads the JSON."""
    return {k: str(v) if k in ("dispute", "demand", "bond", "paid", "burnt") else v for k, v in row._asdict().items()}


async def _disputes(view: View, options: argparse.Namespace) -> None:
    disputes = await view.chain.disputes(limit=options.limit)
    demands = await view.chain.demands(limit=options.limit)
    if options.json:
        print_json({"disputes": [_exact(d) for d in disputes], "demands": [_exact(d) for d in demands]})
        return
    whole = await whole_of(view)
    print_table(
        f"Disputes ({len(disputes)} newest; amounts in {whole})",
        ["id", "block", "commitment", "challenger", "bond", "ruled for", "paid", "burnt"],
        [
            (
                numbered(d.dispute)[:12],
                d.block,
                short(d.commitment),
                d.challenger[:10] + "…",
                ether(d.bond),
                _OUTCOME.get(d.outcome, d.outcome),
                ether(d.paid),
                ether(d.burnt),
            )
            for d in disputes
        ],
    )
    print_table(
        f"Demands for withheld data ({len(demands)} newest; amounts in {whole})",
        ["id", "block", "commitment", "demander", "part", "outcome", "paid", "burnt"],
        [
            (
                d.demand,
                d.block,
                short(d.commitment),
                d.demander[:8] + "…",
                f"{d.part}/{d.part_index}",
                _ANSWER.get(d.outcome, d.outcome),
                ether(d.paid),
                ether(d.burnt),
            )
            for d in demands
        ],
    )
