"""Another library may change how floating point rounds, in any thread and at any time: no run goes on regardless."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from replay_programs import one
from tiny_gpt import tiny_gpt

from replay.errors import BackendRefused
from replay.run import execute, load_backend, prepare_with
from replay.sampling import Sampling
from replay.trace import commit

BACKENDS = ["torch", "native", "numpy"]
TINY = np.array([[1, 71362]], np.uint32).view(np.float32)
#: fenv.h on x86: FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO.
ROUNDING = {"down": 0x400, "up": 0x800, "towards zero": 0xC00}
x86 = pytest.mark.skipif(
    not hasattr(torch, "set_flush_denormal") or not torch.set_flush_denormal(False), reason="no MXCSR"
)


@contextmanager
def flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def rounding(how: str) -> Iterator[None]:
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    assert libm.fesetround(ROUNDING[how]) == 0
    try:
        yield
    finally:
        libm.fesetround(0)


def added(backend: str):
    return prepare_with(load_backend(backend), one(TINY, lambda b: b.add("add", ["x", "x"])))


@x86
@pytest.mark.parametrize("backend", BACKENDS)
def test_flush_to_zero_is_refused(backend):
    prepared = added(backend)
    with flushing(), pytest.raises(BackendRefused, match="flush"):
        execute(prepared, {"x": TINY})
    assert execute(prepared, {"x": TINY}).outputs["y"].view(np.uint32).tolist() == [[2, 142724]]


@x86
@pytest.mark.parametrize("how", ROUNDING)
@pytest.mark.parametrize("backend", BACKENDS)
def test_another_rounding_mode_is_refused(backend, how):
    prepared = added(backend)
    with rounding(how), pytest.raises(BackendRefused, match="round"):
        execute(prepared, {"x": TINY})
    assert execute(prepared, {"x": TINY}).outputs["y"].view(np.uint32).tolist() == [[2, 142724]]


@x86
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_generation_is_refused_too(backend):
    prepared = prepare_with(load_backend(backend), tiny_gpt())
    asked = {"input_ids": np.array([3, 1, 4], np.int32), "sampling": Sampling(max_tokens=4).tensor()}
    honest = commit(prepared, asked, seed=bytes(32))
    with flushing(), pytest.raises(BackendRefused, match="flush"):
        commit(prepared, asked, seed=bytes(32))
    with rounding("up"), pytest.raises(BackendRefused, match="rounded up"):
        commit(prepared, asked, seed=bytes(32))
    assert commit(prepared, asked, seed=bytes(32)).state_root == honest.state_root


#: torch's second thread is born while the first one flushes, and keeps its mode when the first one is mended.
_SPOILT_POOL = """
import numpy as np, torch
from replay.run import execute, load_backend, prepare_with
from replay_programs import one
from replay.errors import BackendRefused
x = np.full((64, 4096), 1e-39, np.float32)
torch.set_num_threads(1)
prepared = prepare_with(load_backend("{backend}"), one(x, lambda b: b.add("add", ["x", "x"])))
torch.set_flush_denormal(True)
torch.set_num_threads(2)
(torch.ones(1 << 20) * 2).sum()
torch.set_flush_denormal(False)
try:
    execute(prepared, {{"x": x}})
except BackendRefused as refused:
    print("refused:", refused)
else:
    print("ran")
"""


@x86
@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_thread_of_the_pool_that_flushes_is_found(backend):
    command = [sys.executable, "-c", _SPOILT_POOL.format(backend=backend)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    assert "a thread of torch flushes subnormal numbers" in done.stdout, done.stdout + done.stderr


def _environment() -> dict[str, str]:
    here = Path(__file__)
    return os.environ | {"PYTHONPATH": f"{here.parent}:{here.parents[2]}", "OMP_NUM_THREADS": "2"}
