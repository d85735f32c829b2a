"""The faster backends: the same bits as torch and NumPy at every shape, and a clear refusal where they cannot be had."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gpt import VOCABULARY, tiny_gpt

from challenger.sim.models import minilm_files
from replay.backends import BACKENDS
from replay.errors import BackendRefused, ReplayError
from replay.importers.bert import import_bert
from replay.importers.build import Builder
from replay.importers.manifest import FILES, ModelFiles
from replay.kernels import native_build, native_hash, spec
from replay.kernels.known_cases import cases, floats
from replay.kernels.native_library import at, library
from replay.kernels.selftest import compute, judge, known_answers
from replay.kernels.torch_int8 import Digits, Int8Kernels, digit_pairs, exact_length, vnni
from replay.layout import LayoutError, encode_bundle, tensor_root
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
    st.lists(st.integers(1, 5), max_size=3), st.sampled_from([1, 3, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1025]),
    st.sampled_from([np.float32, np.int32, np.int64, np.bool_]), st.integers(0, 2**32), st.booleans(),
)  # fmt: skip
def test_roots_are_those_of_the_layout(lead, width, dtype, seed, turned):
    random = np.random.default_rng(seed)
    array = random.integers(0, 2, (*lead, width)).astype(dtype)
    if dtype != np.bool_:
        array = np.frombuffer(random.bytes(array.nbytes), dtype).reshape(array.shape)
    array = array.T if turned else array
    assert native_hash.tensor_root(array) == tensor_root(array)


def test_roots_of_large_tensors_with_one_thread_and_with_two(threads):
    wide = np.random.default_rng(1).standard_normal((300, 1000)).astype(np.float32)
    for count in (1, 2):
        threads(count)
        assert native_hash.tensor_root(wide) == tensor_root(wide)
        assert native_hash.tensor_root(wide[:, :768]) == tensor_root(wide[:, :768])


def test_what_has_no_root_is_refused_alike():
    for array in (np.zeros(3), np.zeros((2, 0), np.float32), np.zeros((), np.float32), np.zeros((1,) * 9, np.float32)):
        with pytest.raises(LayoutError):
            native_hash.tensor_root(array)


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


#: Around the rows after which sums of digits would leave int32.
EDGES = (
    1,
    2,
    14,
    15,
    16,
    30,
    62,
    64,
    66,
    126,
    130,
    256,
    258,
    510,
    511,
    512,
    513,
    682,
    684,
    686,
    1024,
    1026,
    1366,
    2050,
    4096,
)


@pytest.mark.parametrize("length", EDGES)
@pytest.mark.parametrize("grid", ["hi", "lo"])
def test_sums_of_the_largest_digits(grid, length):
    """Numbers whose digits are extreme, of one sign and of both, in rows of every length near a limit."""
    a, w = spec.dot_bits(length, grid)
    random = np.random.default_rng(length)

    def rows(count: int, bits: int) -> np.ndarray:
        full, half = 1 << bits, min(1024, 1 << (bits - 1))
        q = random.choice([full - 1, full - half, full - half - 1, half, half - 1, 1], (count, length))
        q[:, 0], q[0], q[1] = full - 1, full - 1, full - half
        q[3::2] *= random.choice([1, -1], q[3::2].shape)
        x = np.ldexp(q.astype(np.float32), 1 - bits)
        x[2] = np.nextafter(np.float32(2), np.float32(0))  # rounds to q = 2^bits
        return x.astype(np.float32)

    x, weight = rows(27, a), rows(19, w)
    builder = Builder([Port("x", TensorType("float32", x.shape))], {}, grid)
    same(builder.model({"y": builder.linear("x", "l", weight, None)}, []), {"x": x})


@given(
    st.integers(1, 40), st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)]), st.integers(1, 9), st.sampled_from([0, 1, 3, 17]),
    st.booleans(), st.booleans(), st.sampled_from([(100, 130), (127, 127), (120, 128), (183, 193), (225, 227)]), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=60)
def test_attention_at_any_shape(tokens, heads, half, window, causal, masked, level, seed):
    heads, groups = heads
    size = 2 * half + seed % 2
    x = floats(f"{seed}/att", tokens, (heads + 2 * groups) * size, low=level[0], high=min(level[1], 226))
    if level[1] > 226:  # some tokens have no grid; masks and causality may leave them out
        x = np.ldexp(x, -100)
        x[tokens // 2, seed % x.shape[1]] = 2.0**100
    inputs = {"x": x}
    ports = [Port("x", TensorType("float32", x.shape))]
    if masked:
        inputs["mask"] = np.random.default_rng(seed).random(tokens) < 0.7
        ports.append(Port("mask", TensorType("bool", (tokens,))))
    builder = Builder(ports, {})
    window = window if causal else 0
    y = builder.attention("x", heads, groups, size, causal=causal, window=window, mask="mask" if masked else "")
    same(builder.model({"y": y}, []), inputs)


@pytest.mark.parametrize("pool", ["torch's threads", "own threads"])
def test_two_threads_give_the_bits_of_one(pool):
    model, ids = tiny_gpt(1), np.arange(40, dtype=np.int32) % VOCABULARY
    # large enough to be shared out, and some results are subnormal
    x, weight = floats("threads", 70, 300, low=60, high=88), floats("threads/w", 130, 300, low=1, high=30)
    before = torch.get_num_threads()
    if pool == "own threads":
        library().rpl_team(None)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            same(model, {"input_ids": ids})
            for grid in ("hi", "lo"):
                builder = Builder([Port("x", TensorType("float32", x.shape))], {}, grid)
                same(builder.model({"y": builder.linear("x", "l", weight, None)}, []), {"x": x})
    finally:
        torch.set_num_threads(before)
        library.cache_clear()  # loading it anew names torch's threads again


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


@pytest.mark.parametrize("grid", ["hi", "lo"])
def test_minilm_with_its_real_weights(grid):
    files = {name: bytearray((minilm_files() / name).read_bytes()) for name in FILES["bert"]}
    model = import_bert(ModelFiles("bert", files, dict.fromkeys(files, "0" * 64), grid))
    same(model, {"input_ids": np.array([101, 1996, 4248, 2829, 4419, *range(2000, 2020), 102], np.int32)})


@pytest.mark.parametrize("backend", FAST)
def test_known_answers_or_refused(backend):
    if backend in usable("hi"):
        assert [answer for answer in known_answers(backend) if not answer.ok] == []
    else:
        with pytest.raises(BackendRefused, match="VNNI"):
            known_answers(backend)


class Saturating(Int8Kernels):
    """What ``_int_mm`` does on a processor that sums pairs of products in 16 bits: unsigned times signed, saturating."""

    name = "saturating"

    def _products(self, a: torch.Tensor, weight: Digits) -> torch.Tensor:
        total = torch.zeros(a.shape[0], weight.values.shape[0], dtype=torch.float64)
        for power, left, right in digit_pairs(weight):
            x, w = a[:, left].to(torch.int32) + 128, weight.values[:, right].to(torch.int32)
            two = (x[:, None] * w).unflatten(-1, (-1, 2)).sum(-1).clamp(-(1 << 15), (1 << 15) - 1)
            total += (two.sum(-1) - 128 * w.sum(-1)).double() * float(1 << power)
        return total


@pytest.mark.skipif(not vnni(), reason="without VNNI digits of 128 are refused before any product")
def test_a_product_that_saturates_gives_a_wrong_known_answer():
    linear = [case for case in cases() if case.name.startswith("linear/")]
    wrong = [case.name for case in linear if not judge(case, compute(case, Saturating)).ok]
    assert {"linear/hi/digits", "linear/lo/digits"} <= set(wrong)


VARIANTS = {"x86-64-v2": "dgemm", "x86-64-v3": "dgemm", "skylake-avx512": "int16 digits, AVX-512 BW"}
PROVE = """
from replay.errors import BackendRefused, ReplayError
from replay.kernels.selftest import known_answers
from replay.run import load_backend
print(load_backend("native").environment()["sums"], [answer for answer in known_answers("native") if not answer.ok])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instruction sets are x86's")
@pytest.mark.parametrize("march", VARIANTS)
def test_known_answers_with_other_instruction_sets(march, tmp_path):
    if "avx512" in march and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    path = tmp_path / "other.so"
    flags = [flag.replace("native", march) if flag.startswith("-march") else flag for flag in native_build.FLAGS]
    sources = [str(source) for source in native_build.SOURCES if source.suffix == ".cpp"]
    subprocess.run(["c++", *flags, "-o", str(path), *sources], check=True)
    handed = {native_build.VARIABLE: f"{path}:{sha256(path.read_bytes()).hexdigest()}"}
    command = [sys.executable, "-c", PROVE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **handed})
    assert done.stdout.strip() == f"{VARIANTS[march]} []"


@pytest.mark.slow
def test_a_library_is_built_once_and_a_folder_that_cannot_be_written_does_not_matter(tmp_path):
    code = "from replay.kernels.native_build import build\nprint(build()[0])\nassert build()[0].exists()"
    cache, blocked = tmp_path / "cache", tmp_path / "file"
    blocked.touch()
    found = {}
    for name, home in (("first", cache), ("again", cache), ("blocked", blocked)):
        environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found[name] = Path(done.stdout.strip())
    assert found["first"] == found["again"]
    kept = {path.name for path in (cache / "inference-challenger").iterdir()}
    assert kept == {found["first"].name, found["first"].with_suffix(".sha256").name}
    assert found["blocked"].name == found["first"].name
    assert not found["blocked"].parent.exists()


@pytest.mark.slow
def test_a_library_that_is_not_whole_is_built_again(tmp_path):
    code = (
        "from hashlib import sha256\nfrom replay.kernels.native_build import build\nfrom replay.kernels.native_library "
        "import library\npath, digest = build()\nassert sha256(path.read_bytes()).hexdigest() == digest\n"
        "print(path)\nlibrary()"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def built() -> Path:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return Path(done.stdout.strip())

    path = built()
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damage)
        assert built() == path
        assert len(path.read_bytes()) == len(whole)
    path.with_suffix(".sha256").unlink()
    assert built() == path
    assert path.with_suffix(".sha256").exists()


def test_a_compiler_that_fails_is_a_refusal_of_one_line(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo broken 1; exit 0; fi\necho no header >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    code = (
        "from replay.errors import BackendRefused\nfrom replay.kernels.native_build import build\n"
        "try:\n    build()\nexcept BackendRefused as error:\n    print(error)"
    )
    environment = {"PATH": f"{tmp_path}:/bin:/usr/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.count("\n") == 1
    assert "failed: no header" in done.stdout


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


@pytest.mark.parametrize("tensor", [torch.empty(4, device="meta"), torch.zeros(4, 4).T])
def test_tensors_that_cpp_cannot_read_are_refused(tensor):
    with pytest.raises(BackendRefused, match="whole tensors of the CPU"):
        at(tensor)


def test_a_default_device_of_the_caller_does_not_reach_cpp():
    weight = floats("meta", 4, 4, low=120, high=130)
    builder = Builder([Port("x", TensorType("float32", (1, 4)))], {}, "hi")
    prepared = prepare_with(load_backend("native"), builder.model({"y": builder.linear("x", "l", weight, None)}, []))
    torch.set_default_device("meta")
    try:
        with pytest.raises(ReplayError):
            execute(prepared, {"x": weight[:1]})
    finally:
        torch.set_default_device(None)
