"""The unit files and the operators' page name commands, options and settings that exist; the units take no privilege back
and wait long enough."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from challenger.cli import parser
from challenger.settings import PREFIX, Settings, every_setting

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


def test_the_watcher_is_waited_for_as_long_as_a_replay_and_an_alert_may_take() -> None:
    usual = Settings()
    longest = usual.replay.seconds + usual.telemetry.alert_seconds
    assert int(dict(directives(DOCS / "challenger.service"))["TimeoutStopSec"]) > longest


def commands() -> list[list[str]]:
    """Every call of ours in a block of shell on the page, as arguments."""
    page = (DOCS / "operators.md").read_text()
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line, comments=True) if line.startswith(("ch ", "challenger ")) else []
            if words:
                found.append(words[1:])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_what_the_page_has_people_type_is_understood(words: list[str]) -> None:
    parser().parse_args(words)


def test_the_page_is_read_for_its_commands() -> None:
    assert ["db", "upgrade"] in commands()
    assert len(commands()) >= 8


def test_links_within_the_page_lead_somewhere() -> None:
    page = (DOCS / "operators.md").read_text()
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }
    wanted = set(re.findall(r"\]\(#([a-z0-9-]+)\)", page))
    assert wanted <= headings
    for file in re.findall(r"\]\(([\w.-]+\.(?:md|yml|service))", page):
        assert (DOCS / file).is_file(), file
