"""The known answers under other instruction sets, BLAS kernels and thread counts: one result on every machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = (
    "import sys; from replay.kernels.selftest import known_answers;"
    "print([answer for backend in ('torch', 'numpy') for answer in known_answers(backend) if not answer.ok])"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"},
        {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"},
    ],
    ids=lambda settings: " ".join(f"{name}={value}" for name, value in settings.items()),
)
def test_known_answers_in_every_configuration(settings):
    environment = {**os.environ, **settings}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
