"""The scalar reference against NumPy: every operator kind, whole models, decoding; and what explains one scalar."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from replay_programs import write_bert
from scalar_cases import CASES
from scalar_draws import TAME, Case, floats, run_both

from replay.errors import UnknownBackend
from replay.generate import fed, generate, read_job
from replay.importers.build import Builder
from replay.kernels import known_cases, selftest, spec
from replay.kernels.scalar import (
    ScalarKernels,
    attention_row,
    grid_row,
    layer_norm_row,
    linear_element,
    linear_epilogue,
    softmax_row,
    unit_power,
)
from replay.kernels.scalar.arithmetic import FLOAT_PAIRS
from replay.kernels.scalar.functions import FUNCTIONS
from replay.kernels.scalar.softfloat import F32
from replay.layout import encode_bundle
from replay.model import load_model
from replay.operators import SIGNATURES, TensorType
from replay.program import Port
from replay.run import BACKENDS, execute, load_backend, prepare_with
from replay.sampling import Sampling

#: Kinds of which some case below must be not finite; the others have a result for every finite input, or nearly.
FAIL = {
    "linear", "matmul", "attention", "layer_norm", "rms_norm", "l2_normalise", "mean_tokens", "sqrt", "exp", "log",
    "sin", "cos", "tan", "mul", "div", "pow", "mod", "fmod", "cast", "reduce_sum", "reduce_mean", "reduce_prod",
    "cumsum", "gather", "gather_elements", "scatter_elements",
}  # fmt: skip


def test_every_kind_has_a_case():
    assert set(CASES) == set(SIGNATURES)
    assert set(CASES) >= FAIL


@pytest.mark.parametrize("kind", sorted(SIGNATURES))
def test_kind(kind):
    runs = [run_both(CASES[kind](np.random.default_rng([seed, len(kind)]))) for seed in range(100)]
    assert any(run.nonfinite is None for run in runs)
    assert kind not in FAIL or any(run.nonfinite is not None for run in runs)


@pytest.mark.parametrize("kind", [*FUNCTIONS, "pow"])
def test_each_element_of_a_function(kind):
    """Elements are not finite one by one where NumPy says so; the finite ones have its bits, all in one run."""
    random = np.random.default_rng(len(kind))
    x = np.concatenate([floats(random, 700, level=(100, 140)), floats(random, 300, level=(0, 254)), np.arange(-99, 99)])
    x = np.concatenate([x, known_cases.special().reshape(-1)]).astype(np.float32)
    y = np.where(random.random(len(x)) < 0.5, floats(random, len(x), level=(120, 132)), np.round(x) % 7)
    inputs = {"x": x, "y": y.astype(np.float32)} if kind == "pow" else {"x": x}
    columns = [array.view(np.uint32).tolist() for array in inputs.values()]
    mine = list(map(FLOAT_PAIRS["pow"] if kind == "pow" else FUNCTIONS[kind], *columns))
    good = np.array([F32.finite(bits) for bits in mine])

    def run(chosen: np.ndarray):
        return run_both(Case({n: a[chosen] for n, a in inputs.items()}, lambda b: b.add(kind, list(inputs))))

    assert np.count_nonzero(good) > 300
    assert run(good).nonfinite is None
    for place in np.flatnonzero(~good)[:: max(1, np.count_nonzero(~good) // 20)]:
        assert run(np.array([place])).nonfinite == (0, 0)


HUGE = np.float32(3e38)


def test_results_that_are_not_finite_stand_where_the_page_says():
    def at(inputs: dict, build: Callable) -> int | None:
        found = run_both(Case({name: np.asarray(array) for name, array in inputs.items()}, build)).nonfinite
        return None if found is None else found[1]

    row = np.ones((3, 6), np.float32)
    far = row.copy()
    far[1, :2] = HUGE, -HUGE
    assert at({"x": far}, lambda b: b.add("log_softmax", ["x"])) == 7
    assert at({"x": far}, lambda b: b.add("softmax", ["x"])) is None
    assert at({"x": far}, lambda b: b.reduce("cumsum", "x", exclusive=1, reverse=0)) == 6
    assert at({"x": far}, lambda b: b.add("add", ["x", "x"])) == 6
    assert at({"x": far[:, :2]}, lambda b: b.mean_tokens("x")) == 0
    # 2⁹⁹ has a grid, but its square has no fp32: the root of the mean square is infinite
    wide = np.full((2, 4), 2.0**99, np.float32)
    assert at({"x": wide}, lambda b: b.rms_norm("x", "n", np.ones(4, np.float32), 1e-6)) == 0
    mask = {"x": row, "m": np.zeros(3, bool)}
    assert at(mask, lambda b: b.attention("x", 1, 1, 2, causal=False, mask="m")) == 0
    mask["m"] = np.array([False, True, True])
    assert at(mask, lambda b: b.attention("x", 1, 1, 2, causal=True, mask="m")) == 0
    assert at(mask, lambda b: b.attention("x", 1, 1, 2, causal=False, mask="m")) is None
    angles = np.array([[1.0, 2.0]] * 3, np.float32)
    assert at(
        {"x": far},
        lambda b: b.add(
            "rope", ["x"], [b.weight("c", angles), b.weight("s", angles)], heads=1, head_dim=6, interleaved=1
        ),
    ) == 6  # fmt: skip
    index = {"x": row, "i": np.array([0, 2, 3], np.int32)}
    assert at(index, lambda b: b.add("gather", ["x", "i"], axis=0)) == 12
    ones = {"x": row, "i": np.array([[0, 1], [2, -1]], np.int64), "u": np.zeros((2, 2), np.float32)}
    assert at(ones, lambda b: b.add("scatter_elements", ["x", "i", "u"], axis=1)) == 0
    assert at({"x": ones["x"], "i": ones["i"]}, lambda b: b.add("gather_elements", ["x", "i"], axis=1)) == 3


def test_minus_zero_is_written_as_plus_zero_and_moved_as_it_is():
    zeros = np.array([[-0.0, 0.0, -0.0]], np.float32)
    writes = {
        "cast": lambda b: b.add("cast", ["x"], to="float32"),
        "top_values": lambda b: b.add("top_values", ["x"], k=2, largest=1),
        "where": lambda b: b.add("where", [b.add("equal", ["x", "x"]), "x", "x"]),
        "neg": lambda b: b.add("neg", [b.add("abs", ["x"])]),
        "embedding": lambda b: b.add("position_rows", ["x"], [b.weight("w", zeros)]),
        "max": lambda b: b.add("reduce_max", ["x"]),
        "rope": lambda b: b.add(
            "rope",
            ["x"],
            [b.weight("c", np.ones((1, 1), np.float32)), b.weight("s", zeros[:, :1])],
            heads=1,
            head_dim=3,
            interleaved=0,
        ),
    }
    for name, build in writes.items():
        assert not run_both(Case({"x": zeros}, build)).outputs["y"].view(np.uint32).any(), name
    moved = run_both(Case({"x": zeros}, lambda b: b.add("transpose", ["x"], perm=(1, 0))))
    assert moved.outputs["y"].view(np.uint32).reshape(-1).tolist() == [0x80000000, 0, 0x80000000]


# ---- known answers, whole models, decoding ---------------------------------------------------------------------------

#: Inputs with more elements than this are left to the fast backends.
LARGE = 20_000


def test_known_answers():
    small = [case for case in known_cases.cases() if case.x.size <= LARGE]
    failed = [selftest.judge(case, selftest.compute(case, ScalarKernels)) for case in small]
    assert [answer for answer in failed if not answer.ok] == []
    skipped = {case.name for case in known_cases.cases()} - {case.name for case in small}
    assert len(skipped) <= len(small) // 10, skipped


def test_a_whole_bert(tmp_path):
    model = load_model(write_bert(tmp_path))
    ids = np.array([3, 17, 39, 0, 5, 5, 22], np.int32)
    runs = [execute(prepare_with(load_backend(name), model), {"input_ids": ids}) for name in ("numpy", "scalar")]
    assert runs[0].nonfinite is None
    assert encode_bundle(runs[0].outputs) == encode_bundle(runs[1].outputs)
    assert len(runs[0].boundaries) == 3
    assert [b.tobytes() for b in runs[0].boundaries] == [b.tobytes() for b in runs[1].boundaries]


def language_model():
    """Two heads over one group, a window of three tokens, rotary and learned positions: int32[T] → logits [T, 11]."""
    random = np.random.default_rng(8)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    b = Builder([Port("input_ids", TensorType("int32", ("T",)))], {"T": 16})
    words = b.add("embedding", ["input_ids"], [b.weight("words", draw(11, 8))])
    x = b.add("add", [words, b.add("position_rows", ["input_ids"], [b.weight("positions", draw(16, 8))])], name="sum")
    qkv = b.linear(x, "qkv", draw(16, 8), draw(16))
    tables = [b.weight("cos", draw(16, 2)), b.weight("sin", draw(16, 2))]
    turned = b.add("rope", [qkv], tables, heads=3, head_dim=4, interleaved=0)
    seen = b.attention(turned, 2, 1, 4, causal=True, window=3)
    x = b.rms_norm(b.add("add", [x, seen]), "norm", draw(8), 1e-5, name="norm")
    return b.model({"logits": b.linear(x, "head", draw(11, 8), None)}, ["sum", "norm"])


def test_a_text_is_generated_alike_and_decoding_equals_prefill():
    model, prompt = language_model(), np.array([4, 1, 9], np.int32)
    sampling = Sampling(max_tokens=6, temperature=2_000_000, top_k=0).tensor()
    mine = prepare_with(load_backend("scalar"), model)
    theirs = prepare_with(load_backend("numpy"), model)
    jobs = [read_job(model.program, {"input_ids": prompt, "sampling": sampling}, bytes([s] * 32)) for s in range(3)]
    for job in jobs:
        runs = [generate(prepared, job) for prepared in (mine, theirs)]
        assert encode_bundle(runs[0].outputs) == encode_bundle(runs[1].outputs)
        assert [one.tobytes() for one in runs[0].boundaries] == [one.tobytes() for one in runs[1].boundaries]
        claimed = generate(mine, job, runs[0].outputs["tokens"].tolist())
        assert encode_bundle(claimed.outputs) == encode_bundle(runs[0].outputs)
    whole = execute(mine, {"input_ids": fed(jobs[0], generate(mine, jobs[0]).outputs["tokens"].tolist())})
    assert [one.tobytes() for one in whole.boundaries] == [one.tobytes() for one in generate(mine, jobs[0]).boundaries]


def test_no_user_is_offered_the_reference():
    assert load_backend("scalar") is ScalarKernels
    assert "scalar" not in BACKENDS
    with pytest.raises(UnknownBackend, match="torch"):
        load_backend("abacus")


# ---- what explains one scalar ----------------------------------------------------------------------------------------


def value(bits: int) -> Fraction:
    """The exact value of fp32 bits."""
    return Fraction(float(np.uint32(bits).view(np.float32)))


def test_a_grid_has_an_exponent_a_witness_and_the_nearest_integers():
    random = np.random.default_rng(9)
    for level in ((100, 130), (0, 20), (225, 226)):
        row = floats(random, 40, level=level).view(np.uint32).tolist()
        grid = grid_row(row, 14)
        unit = Fraction(2) ** unit_power(grid.exponent, 14)
        assert grid.integers == [round(value(bits) / unit) for bits in row]
        sizes = [bits & 0x7FFFFFFF for bits in row]
        assert sizes[grid.witness] == max(sizes)
        assert sizes.index(max(sizes)) == grid.witness
        assert grid.exponent == max(27, max(sizes) >> 23)
    assert grid_row([0, 227 << 23], 14) is None
    assert grid_row([0, (226 << 23) + 5], 14) is not None


def test_an_element_of_linear_is_explained_by_its_tiles():
    random = np.random.default_rng(10)
    x, w = (floats(random, 600, level=(100, 130)).view(np.uint32).tolist() for _ in range(2))
    a, b = spec.dot_bits(600)
    left, right = grid_row(x, a), grid_row(w, b)
    found = linear_element(left, right, 0x3F800000, a, b)
    products = [p * q for p, q in zip(left.integers, right.integers, strict=True)]
    assert found.sums == [sum(products[:256]), sum(products[256:512]), sum(products[512:])]
    exact = sum(products) * Fraction(2) ** (unit_power(left.exponent, a) + unit_power(right.exponent, b)) + 1
    assert found.bits == np.float32(float(exact)).view(np.uint32)
    assert not F32.finite(linear_element(None, right, 0, a, b).bits)


def test_a_linear_element_is_rounded_twice():
    """1 + 2⁻²⁴ + 2⁻⁸⁰ lies above the middle of two fp32 numbers, and its fp64 lies on it."""
    small = spec.f32_hex(2.0**-80)
    assert linear_epilogue(2**24 + 1, -24, int(small, 16)) == F32.one
    x = np.array([[1.0, 2.0**-12]], np.float32)
    bias = np.array([2.0**-80], np.float32)
    assert run_both(Case({"x": x}, lambda b: b.linear("x", "l", x, bias))).outputs["y"].tolist() == [[1.0]]


def test_a_row_of_attention_is_explained_by_its_parts():
    random = np.random.default_rng(11)
    x = floats(random, 5, 3 * 4, level=(126, 129))
    q, k = spec.dot_bits(4)
    bits = x.view(np.uint32).reshape(5, 3, 4).tolist()
    keys, values = [grid_row(row[1], k) for row in bits], [grid_row(row[2], 18) for row in bits]
    wanted = run_both(Case({"x": x}, lambda b: b.attention("x", 1, 1, 4, causal=False))).outputs["y"]
    for token in range(5):
        scale = int(spec.attention_scale(4), 16)
        row = attention_row(grid_row(bits[token][0], q), keys, values, q, k, 18, scale)
        assert row.bits == wanted[token].view(np.uint32).tolist()
        assert row.total == sum(row.rounded)
        assert row.rounded[row.top] == 1 << 22
        assert F32.order(row.logits[row.top]) == max(map(F32.order, row.logits))
        assert row.exponent == max(one.exponent for one in values)
        assert row.sums == [sum(w * v.integers[c] for w, v in zip(row.weights, values, strict=True)) for c in range(4)]
    assert attention_row(keys[0], [], [], q, k, 18, scale) is None
    assert attention_row(keys[0], keys, [None, *values[1:]], q, k, 18, scale) is None


def test_rows_by_themselves():
    random = np.random.default_rng(12)
    x, gain, shift = floats(random, 1, 9, level=TAME), *floats(random, 2, 9, level=TAME)
    row, g, b = (array.view(np.uint32).reshape(-1).tolist() for array in (x, gain, shift))
    constants = [int(one, 16) for one in (spec.f64_hex(1 / 9), spec.f64_hex(1 / 81), spec.f32_hex(1e-5))]
    wanted = run_both(Case({"x": x}, lambda b: b.layer_norm("x", "n", gain, shift, 1e-5))).outputs["y"]
    assert layer_norm_row(row, spec.sum_bits(9), *constants, g, b) == wanted.view(np.uint32).reshape(-1).tolist()
    found = softmax_row(row)
    assert found.total == sum(round(value(u)) for u in found.weights)
    assert max(value(u) for u in found.weights) == 2**22
