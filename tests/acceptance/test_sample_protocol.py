"""The protocol that a third party brings (docs/sample-protocol), as wheels in an environment of their own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.acceptance.wheel import ROOT, add, clean, run

SAMPLE = ROOT / "docs" / "sample-protocol"
WATCHER = ROOT / "tests" / "protocols" / "board" / "test_board_watcher.py"
WHERE = "import board_protocol, challenger.plugins.registry as r; print(board_protocol.__file__, r.names()['board'])"
#: What stands in this suite for an installation is one there.
INSTALLED = "import pytest\n\n\n@pytest.fixture\ndef installed() -> None:\n    pass\n"


@pytest.mark.slow
def test_the_samples_tests_and_a_watcher_of_its_protocol_pass_with_two_wheels(tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    python = clean(tmp_path / "ours")
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache", "build", "*.egg-info")
    project = Path(shutil.copytree(SAMPLE, tmp_path / "project", ignore=ignored))
    add(python, project, tmp_path / "theirs")
    shutil.rmtree(project / "board_protocol")  # from here on it is the wheel's
    where, distribution = run(python, "-c", WHERE, cwd=project).split()
    assert Path(where).is_relative_to(tmp_path / "ours")
    assert distribution == "board-protocol"
    said = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=project)
    assert re.search(r"=+ \d{2} passed in ", said), said
    shutil.copy(WATCHER, project / "tests")
    (project / "tests" / "conftest.py").write_text(INSTALLED, encoding="utf-8")
    said = run(python, "-m", "pytest", "-p", "no:cacheprovider", f"tests/{WATCHER.name}", cwd=project)
    assert re.search(r"=+ \d passed in ", said), said
