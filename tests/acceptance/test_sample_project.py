"""The sample project of the docs, run with the wheel of this project in an environment of its own."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from replay.importers.manifest import write_manifest
from tests.acceptance.wheel import ROOT, clean, run

SAMPLE = ROOT / "docs" / "sample-project"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    return clean(tmp_path_factory.mktemp("wheel"))


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
