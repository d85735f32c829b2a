"""The sample project of the docs, run with the wheel of this project in an environment of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from replay.importers.manifest import write_manifest

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "docs" / "sample-project"
SOURCES = ("challenger", "replay", "migrations", "pyproject.toml", "README.md", "LICENSE")
#: From which files the plugins and the packages behind them come.
WHERE = """
import importlib.metadata as m, challenger.pytest_plugin as c, replay.pytest_plugin as r, challenger, replay, migrations
print(*(x.__file__ for x in (c, r, challenger, replay, migrations)), sep="\\n")
print(*sorted(e.value for e in m.distribution("inference-challenger").entry_points if e.group == "pytest11"), sep="\\n")
"""


def run(python: Path, *argv: str, cwd: Path, code: int = 0) -> str:
    """Of this process's environment nothing reaches Python but where the machine keeps its things."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    done = subprocess.run([python, *argv], cwd=cwd, env=kept, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """A clean environment with the wheel; what it depends on is that of this one, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("wheel")
    source, wheels, venv = folder / "source", folder / "wheels", folder / "venv"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    here, offline = Path(sys.executable), ("--no-deps", "--no-index", "--no-cache-dir", "-q")
    run(here, "-m", "pip", "wheel", *offline, "--no-build-isolation", "-w", str(wheels), str(source), cwd=folder)
    run(here, "-m", "venv", "--without-pip", str(venv), cwd=folder)
    made = venv / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    run(here, "-m", "pip", "--python", str(made), "install", *offline, "--no-compile", str(wheel), cwd=folder)
    site = next(venv.glob("lib/python*/site-packages"))
    # a plain path, behind the environment's own: whatever installed this checkout there is not looked at
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    said = run(made, "-c", WHERE, cwd=folder).splitlines()
    assert said[5:] == ["challenger.pytest_plugin", "replay.pytest_plugin"]
    assert all(Path(one).is_relative_to(site) for one in said[:5]), said
    return made


@pytest.fixture
def project(tmp_path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
    return Path(shutil.copytree(SAMPLE, tmp_path / "project", ignore=ignored))


@pytest.mark.slow
def test_the_sample_project_passes_with_the_wheel(python, project):
    said = run(python, "-m", "pytest", "-p", "no:cacheprovider", cwd=project)
    assert re.search(r"=+ 5 passed in ", said), said
    assert "plugins: " in said
    assert "inference-challenger-" in said


@pytest.mark.slow
def test_it_fails_readably_when_one_bit_of_one_weight_is_flipped(python, project):
    flip(project / "model")
    said = run(python, "-m", "pytest", "-p", "no:cacheprovider", "test_model.py", cwd=project, code=1)
    assert re.search(r"=+ 1 failed, 2 passed in ", said), said
    shown = [line.removeprefix("E").strip() for line in said.splitlines() if line.startswith("E ")]
    assert shown[0] == "AssertionError: runs.tar does not replay: 2 of 2 runs differ"
    assert shown[1] == "run 0 differs in model, output, state"
    assert [line.split()[0] for line in shown[2:7]] == ["operator", "tile", "element", "recorded", "here"]
    assert shown[2] == "operator  0: linear, value v0.linear"
    assert all(re.fullmatch(r"\w+ +[0-9a-f]{8} \(-?\d+\.\d+\)", line) for line in shown[5:7])
    assert "Traceback" not in said
    # README.md shows what is really seen
    page = (SAMPLE / "README.md").read_text(encoding="utf-8")
    told = [line.removeprefix("E").strip() for line in page.splitlines() if line.startswith("E ")]
    assert shown[: len(told)] == told
    # after a wanted change
    again = ("-m", "pytest", "-p", "no:cacheprovider", "test_model.py")
    assert "runs.tar: recorded anew, 2 runs, digest " in run(python, *again, "--record-traces", cwd=project)
    assert re.search(r"=+ 3 passed in ", run(python, *again, cwd=project))


def flip(folder: Path) -> None:
    """One bit of one weight, exported again: the manifest names the file as it is now."""
    model = onnx.load(folder / "model.onnx")
    weight = next(one for one in model.graph.initializer if one.name == "W1")
    array = numpy_helper.to_array(weight).copy()
    array.view(np.uint32)[0, 5] ^= 1 << 22
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    write_manifest(folder, "onnx", ["model.onnx"])
