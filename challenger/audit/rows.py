"""Rows held against the journal that tells of them: whoever edits a row by hand leaves the two apart.

Every verdict, audit, epoch and transaction has its entries, and where a commitment stands is what its entries come to, one after
the other; what the chain said is in the journal by digest, and its rows are folds over it. The journal itself is held by its hashes
and the published heads (``store/heads.py``); the HMAC of a draw is in no entry and follows from the epoch's secret (``sampling/audit.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, Table, select

from challenger.audit.facts import Facts
from challenger.audit.finding import ALIEN, GONE, Finding, differences
from challenger.audit.folds import OF_COMMITMENTS, Digests, audit_folds, digest_told, entries_about
from challenger.audit.sent import Sent, audit_sent
from challenger.audit.unread import UNREADABLE, unread, unreadable
from challenger.domain import AuditId, State, VerdictKind
from challenger.store.audits import AuditRow
from challenger.store.bulk import chunks
from challenger.store.findings import FindingRow
from challenger.store.reorgs import ANEW
from challenger.store.rows import JournalRow, VerdictRow
from challenger.store.schema import (
    attempts,
    audits,
    commitments,
    cursors,
    epochs,
    events,
    findings,
    transactions,
    verdicts,
    work,
)
from challenger.store.subjects import subject_of
from challenger.store.unit import View

_PAGE = 5_000
#: Rows that are in memory at once, each with its entries.
_ROWS = 500
_COMMITMENT = re.compile("0x[0-9a-f]{64}")
_STATES = frozenset(state.value for state in State)
_ORPHANED = State.ORPHANED.value
#: Columns of ``work`` that entries tell of, as a row starts.
_FRESH: Mapping[str, Any] = {name: value for name, value in ANEW.items() if name != "drawn"}


@dataclass(slots=True)
class _Told:
    """What the journal says there should be: by id or subject."""

    verdicts: dict[int, tuple[str, str]] = field(default_factory=dict)
    audits: dict[int, tuple[str, str]] = field(default_factory=dict)
    findings: dict[int, tuple[str, str]] = field(default_factory=dict)
    epochs: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: Digests = field(default_factory=dict)
    sent: Sent = field(default_factory=Sent)

    def take(self, entry: JournalRow) -> None:
        """What is told of single commitments is not kept: it is looked up again beside their rows."""
        told = json.loads(entry.payload)
        if entry.kind not in OF_COMMITMENTS:
            self.digests |= digest_told(entry)
        match entry.kind:
            case "verdict":
                self.verdicts[told["id"]] = (entry.subject, entry.payload)
            case "audit-verdict":
                self.audits[told["id"]] = (entry.subject, entry.payload)
            case "finding":
                self.findings[told["id"]] = (entry.subject, entry.payload)
            case kind if kind.startswith("tx-"):
                self.sent.take(kind, entry.subject, told)
            case "epoch-opened":
                self.epochs[entry.subject] = told


def _is_step(kind: str) -> bool:
    """Whether an entry of this kind is about a row of ``work``."""
    return kind in _STATES or kind in ("note", "restored", "draw-orphaned", "taken-back", "adopted")


def _step(row: dict[str, Any], kind: str, told: dict[str, Any]) -> None:
    """What one entry does to a row of ``work``."""
    match kind:
        case State.OBSERVED:
            pass  # the chain's word: a row begins so, and one that is there stands where it stood
        case "restored" if "before" not in told:
            row.update(state=told["to"], before=None)
        case "restored":
            row.update(_FRESH)
        case "draw-orphaned":
            row.update({} if told["kept"] else _FRESH)
        case "taken-back":
            row["before" if row["state"] == _ORPHANED else "state"] = told["to"]
        case "orphaned":
            row.update(state=_ORPHANED, before=told["from"])
        case "adopted":
            row.update(state=State.FILED.value, next_try=0, detail=told["part"] or row["detail"])
        case _:
            row.update({name: value for name, value in told.items() if name in _FRESH})
            if kind != "note":
                row["state"] = kind


async def audit_rows(view: View) -> list[Finding]:
    """Everything that does not hold, in one snapshot. In memory are a page of rows at a time and what the journal says of
    verdicts, audits, findings and transactions: less than a kilobyte of each."""
    told, facts, seq = _Told(), Facts(), 0
    found: list[Finding] = []
    gone: set[str] = set()
    while page := await view.journal.after(seq, _PAGE):
        for entry in page:
            try:
                told.take(entry)
            except UNREADABLE as error:
                found.append(Finding("journal", f"entry {entry.seq}", f"it cannot be read: {str(error)[:80]}"))
        await facts.take(view, page)
        gone |= await _without_work(view, {entry.subject for entry in page if _is_step(entry.kind)})
        seq = page[-1].seq
    found += [Finding("work", subject, GONE) for subject in sorted(gone)]

    async def folds() -> None:
        found.extend(await audit_folds(view, told.digests))

    async def told_by_chain() -> None:
        found.extend(await facts.findings(view))

    async def sent() -> None:
        found.extend(await audit_sent(view, told.sent))

    looks: tuple[tuple[tuple[Table, ...], Callable[[], Awaitable[None]]], ...] = (
        ((verdicts,), lambda: _verdicts(view, told, found)),
        ((audits,), lambda: _audits(view, told, found)),
        ((findings,), lambda: _findings(view, told, found)),
        ((epochs,), lambda: _epochs(view, told, found)),
        ((work,), lambda: _work(view, found)),
        ((verdicts,), lambda: _judged(view, found)),
        ((transactions, attempts), sent),
        ((cursors, events), told_by_chain),
        ((events,), folds),
    )
    for tables, look in looks:
        try:
            await look()
        except UNREADABLE as error:
            named = await unread(view, tables) or [unreadable(tables[0].name, "a row", error)]
            found += [one for one in named if one not in found]
    return found


async def _verdicts(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.verdicts)
    async for columns in await view.connection.stream(select(verdicts).order_by(verdicts.c.id)):
        row = VerdictRow(*columns)
        subject, said = left.pop(row.id, ("", "{}"))
        values = row._asdict()
        del values["id"], values["commitment"], values["time"], values["environment"]
        _compare("verdicts", row.id, subject_of(row.commitment), subject, values, json.loads(said), found)
    found += [Finding("verdicts", f"{key} on {left[key][0]}", GONE) for key in left]


async def _audits(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.audits)
    async for columns in await view.connection.stream(select(audits).order_by(audits.c.id)):
        row = AuditRow(*columns)
        values = row._asdict()
        subject = AuditId(values.pop("commitment")).subject
        where, said = left.pop(row.id, ("", "{}"))
        del values["id"], values["time"], values["environment"]
        _compare("audits", row.id, subject, where, values, json.loads(said), found)
    found += [Finding("audits", f"{key} on {left[key][0]}", GONE) for key in left]


async def _findings(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.findings)
    async for columns in await view.connection.stream(select(findings).order_by(findings.c.id)):
        row = FindingRow(*columns)
        values = {**row._asdict(), "facts": json.loads(row.facts)}
        where, said = left.pop(row.id, ("", "{}"))
        del values["id"], values["time"]
        _compare("findings", row.id, AuditId(row.subject).subject, where, values, json.loads(said), found)
    found += [Finding("findings", f"{key} on {left[key][0]}", GONE) for key in left]


async def _epochs(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.epochs)
    for row in await view.connection.execute(select(epochs).order_by(epochs.c.number)):
        name = f"epoch/{row.number}"
        values = {
            "opens": row.opens_block,
            "closes": row.closes_block,
            "policy_digest": row.policy_digest,
            "policy": row.policy,
            "commitment": row.commitment,
        }
        said = left.pop(name, {})
        _compare("epochs", row.number, name, name if said else "", values, said, found)
    found += [Finding("epochs", key, GONE) for key in left]


async def _work(view: View, found: list[Finding]) -> None:
    """Where each commitment stands, against what its entries come to, one after the other."""
    async for rows in _chunks(view, select(work).order_by(work.c.commitment)):
        said: dict[str, dict[str, Any]] = {}
        for entry in await entries_about(view, [subject_of(row.commitment) for row in rows]):
            if _is_step(entry.kind):
                with suppress(*UNREADABLE):  # named when the journal was read
                    _step(said.setdefault(entry.subject, dict(_FRESH)), entry.kind, json.loads(entry.payload))
        for row in rows:
            subject = subject_of(row.commitment)
            values = {name: getattr(row, name) for name in _FRESH}
            values["inputs"] = None if row.inputs is None else json.loads(row.inputs)
            there = said.get(subject, {})
            _compare("work", subject, subject, subject if there else "", values, there, found)


async def _without_work(view: View, subjects: set[str]) -> set[str]:
    """Those of ``subjects`` that no row of ``work`` is about."""
    keys = {subject: bytes.fromhex(subject[2:]) for subject in subjects if _COMMITMENT.fullmatch(subject)}
    there: set[bytes] = set()
    for part in chunks(sorted(keys.values())):
        query = select(work.c.commitment).where(work.c.commitment.in_(part))
        there |= set((await view.connection.execute(query)).scalars())
    return {subject for subject in subjects if keys.get(subject) not in there}


async def _chunks(view: View, query: Select[Any]) -> AsyncIterator[list[Any]]:
    waiting: list[Any] = []
    async for row in await view.connection.stream(query):
        waiting.append(row)
        if len(waiting) >= _ROWS:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


async def _judged(view: View, found: list[Finding]) -> None:
    """Verdicts that decisions rest on, against the roots that the commitment has on chain."""
    second = verdicts.alias("second")
    query = (
        select(work.c.commitment, verdicts, second, commitments.c.output_root, commitments.c.state_root)
        .select_from(work)
        .join(commitments, commitments.c.commitment == work.c.commitment)
        .join(verdicts, verdicts.c.id == work.c.verdict)
        .outerjoin(second, second.c.id == work.c.confirmation)
    )
    width = len(VerdictRow._fields)
    async for columns in await view.connection.stream(query.order_by(work.c.commitment)):
        about, (output, state) = subject_of(columns[0]), columns[-2:]
        first, confirming = VerdictRow(*columns[1 : 1 + width]), VerdictRow(*columns[1 + width : -2])
        differs = [
            name
            for name, ours, theirs in (("output", first.output_root, output), ("state", first.state_root, state))
            if ours != theirs
        ]
        if first.kind == VerdictKind.FRAUD and (not differs or first.detail != differs[0]):
            found.append(Finding("verdicts", f"{first.id} on {about}", "it says FRAUD, and by its roots it is none"))
        if first.kind == VerdictKind.VALID and differs:
            found.append(
                Finding("verdicts", f"{first.id} on {about}", f"it says VALID, and the {differs[0]} root differs")
            )
        if confirming.id is None:
            continue
        same = (confirming.kind, confirming.output_root, confirming.state_root) == (
            first.kind,
            first.output_root,
            first.state_root,
        )
        if not (same and confirming.fresh and confirming.backend != first.backend):
            what = f"it does not bear out {first.id}: another result, the same backend, or no fresh process"
            found.append(Finding("verdicts", f"{confirming.id} on {about}", what))


def _compare(
    table: str,
    key: object,
    subject: str,
    where: str,
    values: Mapping[str, Any],
    said: Mapping[str, Any],
    found: list[Finding],
) -> None:
    """``values`` of a row about ``subject`` against what the journal ``said`` of ``where``."""
    about = str(key) if str(key) == subject else f"{key} on {subject}"
    if not where:
        found.append(Finding(table, about, ALIEN))
        return
    if where != subject:
        found.append(Finding(table, about, f"the journal has it on {where}"))
    found += differences(table, about, values, said)
