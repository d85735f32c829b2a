"""`challenger check` with the replays: real workers, whose known answers hold, or do not, and what confines them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from challenger.cli.check import isolation
from challenger.parts import replay_pool
from challenger.settings import load

ROOT = Path(__file__).parents[2]
#: Python reads it at its start, a worker's as well: NumPy as it might come with another release, which rounds halves up.
ANOTHER_NUMPY = """
import numpy
numpy.rint = lambda x, *more, **named: numpy.floor(numpy.add(x, 0.5), *more, **named)
"""


def config(folder: Path, backend: str = "torch") -> Path:
    file = folder / "challenger.toml"
    file.write_text(
        f'[chain]\nrpc = ["http://127.0.0.1:9"]\nchain_id = 1\nmarket = "0x{"cd" * 20}"\n'
        f'[store]\nurl = "sqlite:///{folder}/x.sqlite"\nheads = "{folder}/heads.jsonl"\n'
        f'[replay]\ncache = "{folder}/cache"\nbackend = "{backend}"\nconfirm_backend = "numpy"\n'
    )
    return file


def kernels(file: Path, *path: Path, **environment: str) -> dict[str, tuple[bool, str]]:
    """The rows on kernels, in a process of their own that finds ``path`` first."""
    found = os.pathsep.join(map(str, [*path, ROOT]))
    done = subprocess.run(
        [sys.executable, "-m", "challenger", "check", "--json", "-c", str(file)],
        env=os.environ | {"PYTHONPATH": found} | environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr  # there is no chain, and no database
    rows = json.loads(done.stdout)["checks"]
    return {
        row["name"].removeprefix("kernels: "): (row["ok"], row["detail"]) for row in rows if "kernels" in row["name"]
    }


@pytest.mark.slow
async def test_the_known_answers_of_both_backends_hold_and_their_walls_are_told(tmp_path: Path) -> None:
    file = config(tmp_path)
    rows = kernels(file)
    assert list(rows) == ["torch", "numpy"]
    async with replay_pool(load(file, {})) as pool:
        assert await pool.warm("numpy") is None
        walls = pool.isolation()
    assert set(walls) >= {"network", "files", "memory", "signals"}
    assert rows["numpy"] == (True, f"known answers hold; {isolation(walls)}")
    assert rows["torch"][0] is True
    assert "isolation" in rows["torch"][1]


@pytest.mark.slow
def test_a_backend_with_other_bits_is_found_out_and_named(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "sitecustomize.py").write_text(ANOTHER_NUMPY)
    rows = kernels(config(tmp_path), other)
    assert rows["torch"][0] is True
    ok, why = rows["numpy"]
    assert not ok
    assert "linear" in why, "the cases that fail are named"
    assert "wanted" in why or "known answer" in why
    assert why.endswith("run `replay selftest`")
    assert "\n" not in why


@pytest.mark.slow
def test_a_backend_that_cannot_be_had_here_says_what_is_missing(tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    rows = kernels(config(tmp_path, "native"), PATH=str(nothing))
    ok, why = rows["native"]
    assert not ok
    assert "no C++ compiler found" in why
    assert rows["numpy"][0] is True
