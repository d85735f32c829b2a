"""Events survive their row, and projections survive any event."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import Address, At, ChainEvent
from challenger.store import codec, rows, schema
from challenger.store.audits import AuditRow
from challenger.store.findings import FindingRow
from challenger.store.projection import FOLDS, storable

_HASH = st.binary(min_size=32, max_size=32)
_ANY_TEXT = st.text(st.characters())  # lone surrogates and NUL included
_ROWS = {
    "models": rows.ModelRow,
    "tasks": rows.TaskRow,
    "commitments": rows.CommitmentRow,
    "disputes": rows.DisputeRow,
    "demands": rows.DemandRow,
    "work": rows.WorkRow,
    "verdicts": rows.VerdictRow,
    "epochs": rows.EpochRow,
    "attempts": rows.AttemptRow,
    "pauses": rows.PauseRow,
    "approvals": rows.ApprovalRow,
    "journal": rows.JournalRow,
    "journal_heads": rows.HeadRow,
    "events": codec.EventRow,
    "audits": AuditRow,
    "findings": FindingRow,
}


def _values(hint: Any) -> st.SearchStrategy[Any]:
    base = getattr(hint, "__supertype__", hint)
    if hint is Address:
        return _HASH.map(lambda value: "0x" + value[:20].hex())
    if hint is bytes:
        return st.binary(max_size=40)
    if base is bytes:
        return _HASH
    if base is int:
        return st.integers(0, 2**256 - 1)
    if issubclass(base, StrEnum):
        return st.sampled_from(base)
    return _ANY_TEXT


@st.composite
def chain_events(draw: st.DrawFn) -> Any:
    cls = draw(st.sampled_from(get_args(ChainEvent)))
    where = At(draw(st.integers(0, 2**40)), draw(_HASH), draw(st.integers(0, 2**31)), draw(_HASH))
    hints = get_type_hints(cls)
    return cls(at=where, **{name: draw(_values(hint)) for name, hint in hints.items() if name != "at"})


@given(st.lists(chain_events(), max_size=5))
def test_an_event_comes_back_from_its_row_as_it_was(events: list[Any]) -> None:
    encoded = [codec.EventRow(*row) for row in codec.encode(events)]
    assert [codec.decode(row) for row in encoded] == events
    for event, row in zip(events, encoded, strict=True):
        assert row.payload.isascii()
        assert len(row.subject) == 32
        assert codec.key(codec.aggregate_of(row.kind), row.subject) == getattr(event, codec.AGGREGATE[type(event)])


@given(st.lists(chain_events(), max_size=12))
def test_no_event_breaks_a_fold_and_what_it_makes_can_be_stored(events: list[Any]) -> None:
    for fold in FOLDS.values():
        row = fold.over(events)
        for value in row or ():
            if isinstance(value, str):
                value.encode()
                assert "\0" not in value


@given(_ANY_TEXT)
def test_storable_text_changes_only_what_sql_refuses(text: str) -> None:
    clean = storable(text)
    assert len(clean) == len(text)
    assert all(old in (new, "\0") or "\ud800" <= old <= "\udfff" for new, old in zip(clean, text, strict=True))


@pytest.mark.parametrize("name", sorted(_ROWS))
def test_a_row_has_its_tables_columns_in_order(name: str) -> None:
    assert _ROWS[name]._fields == tuple(column.name for column in schema.metadata.tables[name].columns)
