"""Rows held against the journal that tells of them: whoever edits a row by hand leaves the two apart.

Every verdict and audit has its entry, every epoch too, and where a commitment stands is what its entries come to, one after
the other. The journal itself is held by its hashes and the published heads (``store/heads.py``); the HMAC of a draw is in no
entry and follows from the epoch's secret (``sampling/audit.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from challenger.domain import AuditId, State
from challenger.store.audits import AuditRow
from challenger.store.journal import canonical
from challenger.store.reorgs import ANEW
from challenger.store.rows import JournalRow, VerdictRow
from challenger.store.schema import audits, epochs, verdicts, work
from challenger.store.subjects import subject_of
from challenger.store.unit import View

_PAGE = 5_000
_STATES = frozenset(state.value for state in State)
_ORPHANED = State.ORPHANED.value
#: Columns of ``work`` that entries tell of, as a row starts.
_FRESH: Mapping[str, Any] = {name: value for name, value in ANEW.items() if name != "drawn"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not hold of the row ``about`` of ``table``."""

    table: str
    about: str
    what: str


@dataclass(slots=True)
class _Told:
    """What the journal says there should be: by id or subject."""

    verdicts: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    audits: dict[int, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    epochs: dict[str, dict[str, Any]] = field(default_factory=dict)
    work: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, entry: JournalRow) -> None:
        told = json.loads(entry.payload)
        match entry.kind:
            case "verdict":
                self.verdicts[told.pop("id")] = (entry.subject, told)
            case "audit-verdict":
                self.audits[told.pop("id")] = (entry.subject, told)
            case "epoch-opened":
                self.epochs[entry.subject] = told
            case kind if kind in _STATES or kind in ("note", "restored", "draw-orphaned", "taken-back"):
                row = self.work.setdefault(entry.subject, dict(_FRESH))
                _step(row, kind, told)


def _step(row: dict[str, Any], kind: str, told: dict[str, Any]) -> None:
    """What one entry does to a row of ``work``."""
    match kind:
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
        case _:
            row.update({name: value for name, value in told.items() if name in _FRESH})
            if kind != "note":
                row["state"] = kind


async def audit_rows(view: View) -> list[Finding]:
    """Everything that does not hold, in one snapshot. What the journal says is held in memory: some hundred bytes a
    commitment."""
    told, seq = _Told(), 0
    while page := await view.journal.after(seq, _PAGE):
        for entry in page:
            told.take(entry)
        seq = page[-1].seq
    found: list[Finding] = []
    await _verdicts(view, told, found)
    await _audits(view, told, found)
    await _epochs(view, told, found)
    await _work(view, told, found)
    return found


async def _verdicts(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.verdicts)
    async for columns in await view.connection.stream(select(verdicts).order_by(verdicts.c.id)):
        row = VerdictRow(*columns)
        subject, said = left.pop(row.id, ("", {}))
        values = row._asdict()
        del values["id"], values["commitment"], values["time"], values["environment"]
        _compare("verdicts", row.id, subject_of(row.commitment), subject, values, said, found)
    found += [Finding("verdicts", f"{key} on {left[key][0]}", _GONE) for key in left]


async def _audits(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.audits)
    async for columns in await view.connection.stream(select(audits).order_by(audits.c.id)):
        row = AuditRow(*columns)
        values = row._asdict()
        subject = AuditId(values.pop("commitment")).subject
        where, said = left.pop(row.id, ("", {}))
        del values["id"], values["time"], values["environment"]
        _compare("audits", row.id, subject, where, values, said, found)
    found += [Finding("audits", f"{key} on {left[key][0]}", _GONE) for key in left]


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
    found += [Finding("epochs", key, _GONE) for key in left]


async def _work(view: View, told: _Told, found: list[Finding]) -> None:
    left = dict(told.work)
    async for row in await view.connection.stream(select(work).order_by(work.c.commitment)):
        subject = subject_of(row.commitment)
        values = {name: getattr(row, name) for name in _FRESH}
        values["inputs"] = None if row.inputs is None else json.loads(row.inputs)
        said = left.pop(subject, {})
        _compare("work", subject, subject, subject if said else "", values, said, found)
    found += [Finding("work", key, _GONE) for key in left]


_GONE = "the journal tells of it, and the row is not there"


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
        found.append(Finding(table, about, "the journal tells nothing of it"))
        return
    if where != subject:
        found.append(Finding(table, about, f"the journal has it on {where}"))
    plain = json.loads(canonical(values))
    for name, value in plain.items():
        if value != said.get(name):
            found.append(Finding(table, about, f"{name} is {_short(value)}, the journal says {_short(said.get(name))}"))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
