"""The threat model is a page of claims, each with the test that shows it: no claim without, and no test that is gone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/threat-model.md").read_text()
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| attack", "| what happened"))
]
WHO = ("A provider", "An endpoint", "A rival watcher", "A local user", "A dependency")


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_attacker_has_its_section() -> None:
    titles = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert all(any(title.startswith(who) for title in titles) for who in WHO)


def test_every_row_names_a_test_that_exists() -> None:
    assert len(ROWS) > 50
    missing = []
    for row in ROWS:
        named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.rsplit("|", 2)[1])
        missing += [row] if not named else []
        missing += [f"{file}::{name}" for file, name in named if name not in functions(TESTS / file)]
    assert missing == []
