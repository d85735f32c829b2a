"""The faster backends: the same bits as torch and NumPy at every shape, and a clear refusal where they cannot be had."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gpt import VOCABULARY, tiny_gpt

from replay.backends import BACKENDS
from replay.errors import BackendRefused
from replay.importers.build import Builder
from replay.kernels import native_build
from replay.kernels.known_cases import floats
from replay.kernels.selftest import known_answers
from replay.kernels.torch_int8 import exact_length, vnni
from replay.layout import encode_bundle
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port
from replay.run import Run, execute, load_backend, prepare_with
from replay.sandbox import Inconclusive, Limits, Reason, ReplayPool

FAST = ("torch-int8", "native", "native-int8")


def usable(grid: str) -> list[str]:
    """Without VNNI int8 products of grid hi are refused, and nothing else is: the tests need a C++ compiler."""
    return [name for name in FAST if vnni() or grid == "lo" or "int8" not in name]


def same(model: Model, inputs: dict[str, np.ndarray]) -> Run:
    """The run on NumPy, once every fast backend has given its bits."""
    wanted = execute(prepare_with(load_backend("numpy"), model), inputs)
    for name in usable(model.program.grid):
        run = execute(prepare_with(load_backend(name), model), inputs)
        assert run.nonfinite == wanted.nonfinite, name
        assert encode_bundle(run.outputs) == encode_bundle(wanted.outputs), name
        for mine, theirs in zip(run.boundaries, wanted.boundaries, strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or mine.tobytes() == theirs.tobytes()
    return wanted


@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 300), st.sampled_from(["hi", "lo"]),
    st.sampled_from([(100, 130), (127, 127), (1, 30), (120, 128)]), st.integers(0, 2**32), st.booleans(), st.booleans(),
)  # fmt: skip
@settings(max_examples=60)
def test_linear_at_any_shape(rows, outputs, length, grid, level, seed, biased, outlier):
    x = floats(f"{seed}/x", rows, length, low=level[0], high=level[1])
    weight = floats(f"{seed}/w", outputs, length, low=level[0], high=level[1])
    bias = floats(f"{seed}/b", outputs, low=level[0], high=level[1]) if biased else None
    if outlier:
        x[rows // 2, length // 2] = 2.0**60
    builder = Builder([Port("x", TensorType("float32", x.shape))], {}, grid)
    same(builder.model({"y": builder.linear("x", "l", weight, bias)}, []), {"x": x})


def test_rows_that_are_not_finite():
    x = floats("spoilt", 20, 40, low=120, high=130)
    x[7, 3] = 2.0**100
    ones = np.ones(40, np.float32)
    builds = {
        "linear": lambda b: b.linear("x", "l", floats("spoilt/w", 9, 40, low=120, high=130), None),
        "layer_norm": lambda b: b.layer_norm("x", "n", ones, ones, 1e-5),
        "rms_norm": lambda b: b.rms_norm("x", "n", ones, 1e-5),
        "attention": lambda b: b.attention("x", 2, 1, 10, causal=True),
        "gelu": lambda b: b.add("gelu_tanh", [b.add("mul", [b.add("mul", ["x", "x"]), "x"])]),
    }
    for build in builds.values():
        builder = Builder([Port("x", TensorType("float32", x.shape))], {})
        assert same(builder.model({"y": build(builder)}, []), {"x": x}).nonfinite is not None


@pytest.mark.parametrize("grid", ["hi", "lo"])
def test_a_language_model(grid):
    model = tiny_gpt(3, grid=grid)
    for tokens in (1, 2, 17, 40):
        ids = np.random.default_rng(tokens).integers(0, VOCABULARY, tokens).astype(np.int32)
        same(model, {"input_ids": ids})


@pytest.mark.parametrize("backend", FAST)
def test_known_answers_or_refused(backend):
    if backend in usable("hi"):
        assert [answer for answer in known_answers(backend) if not answer.ok] == []
    else:
        with pytest.raises(BackendRefused, match="VNNI"):
            known_answers(backend)


@pytest.mark.parametrize("count", [2, 3])
def test_sums_of_digits_fit_int32_and_longer_rows_go_by_dgemm(count):
    length = exact_length(count)
    assert length * count * 128 * 128 < 2**31 <= (length + 1) * count * 128 * 128
    assert length > 40_000


def test_a_row_too_long_for_int32_sums():
    length, grid = exact_length(2) + 1, "lo"
    x, weight = (floats(f"long/{part}", 2, length, low=127, high=127) for part in "xw")
    builder = Builder([Port("x", TensorType("float32", x.shape))], {}, grid)
    same(builder.model({"y": builder.linear("x", "l", np.abs(weight), None)}, []), {"x": np.abs(x)})


def test_weights_take_a_byte_a_digit():
    weight = floats("memory", 512, 512, low=120, high=130)
    builder = Builder([Port("x", TensorType("float32", (1, 512)))], {}, "lo")
    model = builder.model({"y": builder.linear("x", "l", weight, None)}, [])
    held = load_backend("torch-int8")(model.program, model.weights)._weights["l.weight"]
    assert held.values.dtype == torch.int8
    assert held.values.numel() == 2 * weight.size


def test_without_a_compiler_the_native_backends_are_refused(tmp_path):
    code = (
        "from replay.errors import BackendRefused\nfrom replay.run import prove\n"
        "try:\n    prove('native')\nexcept BackendRefused as error:\n    print(error)"
    )
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "no C++ compiler found" in done.stdout
    assert done.stdout.count("\n") == 1


async def test_a_confined_worker_loads_what_its_parent_built():
    async with ReplayPool(limits=Limits(memory_bytes=2 << 30)) as pool:
        assert await pool.warm("native") is None


async def test_a_library_of_another_digest_is_refused(tmp_path, monkeypatch):
    path, _ = native_build.build()
    native_build.build.cache_clear()
    try:
        monkeypatch.setenv(native_build.VARIABLE, f"{path}:{'0' * 64}")
        async with ReplayPool(limits=Limits(memory_bytes=2 << 30)) as pool:
            refusal = await pool.warm("native")
        assert isinstance(refusal, Inconclusive)
        assert refusal.reason is Reason.BACKEND_REFUSED
        assert "is not the library that was built" in refusal.detail
    finally:
        native_build.build.cache_clear()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_is_proved_for_grid_lo_on_any_processor(backend):
    model = tiny_gpt(grid="lo")
    kernels = prepare_with(load_backend(backend), model)
    assert execute(kernels, {"input_ids": np.array([1, 2], np.int32)}).nonfinite is None
