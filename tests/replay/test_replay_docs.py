"""The page is run: its example commits to what the engine commits to."""

from __future__ import annotations

import contextlib
import io
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from challenger.sim.models import gpt_model
from replay.backends import BACKENDS
from replay.layout import decode_bundle
from replay.model import load_model
from replay.sampling import Sampling
from replay.trace import commit

PAGE = Path("docs/replay.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpt_model(tmp_path_factory.mktemp("gpt"))


def test_the_providers_example_runs_as_it_stands(manifest):
    code = re.search(r"## For providers.*?```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    assert len([line for line in code[1].splitlines() if line.strip()]) == 10
    given = {
        "manifest": manifest,
        "file_digest": sha256(manifest.read_bytes()).digest(),
        "prompt": [5, 6, 7],
        "task_seed": bytes(range(32)),
    }
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code[1], given)
    inputs = {"input_ids": np.array([5, 6, 7], np.int32)}
    inputs["sampling"] = Sampling(16, 800_000, 20).tensor()
    again = commit(load_model(manifest), inputs, "numpy", seed=bytes(range(32)))
    assert out.getvalue().startswith(f"{again.output_root.hex()} {again.state_root.hex()}\n")
    assert given["receipt"].leaves == again.leaves
    assert len(decode_bundle(again.output)["tokens"]) == 16


def test_every_backend_has_a_row():
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.split("## Backends")[1].split("## For providers")[0], re.MULTILINE)
    assert tuple(rows) == BACKENDS
