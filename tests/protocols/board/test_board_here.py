"""The sample's own tests in this suite, and its plugin found as an installed one is."""

from __future__ import annotations

from test_board import (  # noqa: F401  collected here
    TestBoard,
    stage,
    test_a_window_that_the_owner_shortens_counts_at_once,
    test_errors_are_told_by_name,
    test_without_a_ruling_the_bond_comes_back,
)

from challenger.plugins.registry import names, plugin


def test_it_is_found_by_its_entry_point(installed):
    import board_protocol

    assert names()["board"] == "board-protocol"
    assert plugin("board") is board_protocol.PLUGIN
