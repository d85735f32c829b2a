"""The sample's own tests in this suite, and its plugin found as an installed one is."""

from __future__ import annotations

import re
from pathlib import Path

from test_board import (  # noqa: F401  collected here
    TestBoard,
    stage,
    test_a_window_that_the_owner_shortens_counts_at_once,
    test_errors_are_told_by_name,
    test_without_a_ruling_the_bond_comes_back,
)

from challenger.plugins.registry import names, plugin

ROOT = Path(__file__).parents[3]


def test_it_is_found_by_its_entry_point(installed):
    import board_protocol

    assert names()["board"] == "board-protocol"
    assert plugin("board") is board_protocol.PLUGIN


def test_the_page_shows_what_the_adapter_really_says():
    page = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8").partition("## A worked example")[2]
    source = (ROOT / "docs" / "sample-protocol" / "board_protocol" / "adapter.py").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(shown) == 3
    assert all(snippet in source for snippet in shown)
    mutants = (Path(__file__).parent / "test_kit_mutants.py").read_text(encoding="utf-8")
    counted = len(re.findall(r"^@mutant\(", mutants, re.MULTILINE))
    assert f"{counted} mutants" in page
