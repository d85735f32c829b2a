"""The unit files in docs/ name commands, options and settings that exist, and take no privilege back."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from challenger.cli import parser
from challenger.settings import PREFIX, every_setting

DOCS = Path(__file__).parents[2] / "docs"
UNITS = sorted(DOCS.glob("*.service"))


def directives(unit: Path) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if line and not line.startswith(("#", "["))]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_a_unit_runs_is_there(unit: Path) -> None:
    told = directives(unit)
    (line,) = [value for name, value in told if name == "ExecStart"]
    program, *words = shlex.split(line)
    assert Path(program).name == "challenger"
    parser().parse_args(words)
    known = {f"{PREFIX}_{section}_{field}".upper() for section, field, _ in every_setting()}
    for value in (value for name, value in told if name == "Environment"):
        assert value.partition("=")[0] in known
    assert dict(told)["RestartPreventExitStatus"] == "2"
    assert dict(told)["NoNewPrivileges"] == "yes"
    page = (DOCS / "operators.md").read_text()
    assert f"[{unit.name}]({unit.name})" in page


def test_the_web_process_is_given_no_key() -> None:
    told = directives(DOCS / "challenger-serve.service")
    assert not [value for name, value in told if name in ("LoadCredential", "Environment")]
    assert "passphrase" in dict(told)["InaccessiblePaths"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here: its own check is left out")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_reads_every_line(unit: Path, tmp_path: Path) -> None:
    """Its verdict on this machine's users and programs is no matter; what it does not know is."""
    there = tmp_path / unit.name
    shutil.copy(unit, there)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(there)], capture_output=True, text=True, check=False
    )
    assert "Unknown" not in done.stderr, done.stderr
    assert "Failed to parse" not in done.stderr, done.stderr
