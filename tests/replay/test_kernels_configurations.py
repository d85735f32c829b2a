"""The known answers and three whole models under other instruction sets, BLAS kernels and thread counts: one result on
every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from challenger.sim.models import digits_model, gpt_model, minilm_model
from replay.kernels.torch_int8 import vnni

CODE = """
import json, sys
import numpy as np
from pathlib import Path
from replay.backends import BACKENDS
from replay.errors import BackendRefused
from replay.kernels.selftest import known_answers
from replay.model import load_model
from replay.run import prepare
from replay.sampling import Sampling
from replay.trace import commit

folder = Path(sys.argv[1])
ids = np.array([101, 1996, 4248, 2829, 4419, 102], np.int32)
prompt = {"input_ids": np.array([53, 72, 69, 1, 73, 77], np.int32), "sampling": Sampling(12, 800_000, 20).tensor()}
pixels = {"X": np.linspace(0, 1, 192, dtype=np.float32).reshape(3, 64)}
jobs = {"minilm": {"input_ids": ids}, "gpt": prompt, "digits": pixels}
said = {}
for backend in BACKENDS:
    try:
        wrong = [answer.name for answer in known_answers(backend) if not answer.ok]
        roots = {
            name: commit(prepare(load_model(folder / name / "manifest.json"), backend), inputs, seed=bytes(32)).state_root.hex()
            for name, inputs in jobs.items()
        }
        said[backend] = {"wrong": wrong, **roots}
    except BackendRefused as error:
        said[backend] = {"refused": str(error)}
print(json.dumps(said))
"""
SETTINGS = [
    {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2"},
    {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
    {"ATEN_CPU_CAPABILITY": "avx512", "OMP_NUM_THREADS": "1"},
    {"ATEN_CPU_CAPABILITY": "avx512", "OMP_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"},
]
#: The state roots of MiniLM on a sentence and of the character model on a prompt, on every machine. The digit classifier
#: is trained anew, so its root is one per training.
ROOTS = {
    "minilm": "405c7802f4b069f087d59ab43ce96f025e214c94df41777a4b3749f2cc2daa4c",
    "gpt": "eb8b39c0dd49a580d5adaac0383494922a0bd329a3bafcf59e5bca327abc58f7",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    digits_model(made / "digits", iterations=3)
    gpt_model(made / "gpt")
    minilm_model(made / "minilm")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(f"{name}={value}" for name, value in s.items()))
def test_one_result_in_every_configuration(settings, folder):
    if settings.get("ATEN_CPU_CAPABILITY") == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512, and torch, told to use it, would not ask")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **settings},
    )
    said = json.loads(done.stdout)
    for backend, answers in said.items():
        if "refused" in answers:
            assert "int8" in backend
            assert not vnni()
            continue
        assert answers["wrong"] == [], backend
        assert {name: answers[name] for name in ROOTS} == ROOTS, backend
    assert len({answers["digits"] for answers in said.values() if "digits" in answers}) == 1
    assert {"torch", "native", "numpy"} <= {name for name, answers in said.items() if "refused" not in answers}
