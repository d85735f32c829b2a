"""The page about the store names every table, and no other."""

from __future__ import annotations

from pathlib import Path

from challenger.store.crossing import KINDS
from challenger.store.schema import metadata

_PAGE = Path(__file__).parents[2] / "docs" / "store.md"


def test_every_table_has_its_heading() -> None:
    headings = {line[4:] for line in _PAGE.read_text().splitlines() if line.startswith("### ")}
    assert headings == set(metadata.tables)


def test_every_kind_of_journal_entry_is_named() -> None:
    page = _PAGE.read_text()
    assert {kind for kind in KINDS if f"`{kind}`" not in page} == set()
