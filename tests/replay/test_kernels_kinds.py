"""Every operator kind has one result: torch's is NumPy's at random shapes and magnitudes, with one thread and with two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scalar_cases import CASES
from scalar_draws import Case, Wide, floats, integers, model_of

from replay.kernels import spec
from replay.kernels.state import STATEFUL
from replay.layout import encode_bundle
from replay.operators import SIGNATURES
from replay.operators.arithmetic import FUNCTIONS
from replay.run import execute, load_backend, prepare_with


def agreed(case: Case) -> bytes:
    """The output bundle, once torch and NumPy have given the same: all bits, or where it is not finite."""
    model = model_of(case)
    first, second = (
        encode_bundle(execute(prepare_with(load_backend(name), model), case.inputs).outputs)
        for name in ("torch", "numpy")
    )
    assert first == second, case
    return first


def test_every_kind_has_an_entry():
    assert set(CASES) == set(SIGNATURES)
    assert set(LARGE) == set(SIGNATURES)
    assert set(SIGNATURES) >= STATEFUL


@pytest.mark.parametrize("kind", sorted(SIGNATURES))
@given(st.integers(0, 2**40), st.booleans())
@settings(max_examples=40)
def test_every_kind_has_one_result(kind, seed, wide):
    agreed(CASES[kind](Wide(seed) if wide else np.random.default_rng(seed)))


# ---- large enough for several threads --------------------------------------------------------------------------------

RANDOM = np.random.default_rng(20261125)
ROW = floats(RANDOM, 1, 70_001, level=(110, 130))
ROWS = floats(RANDOM, 300, 257, level=(110, 130))
WHOLE = {dtype: integers(RANDOM, dtype, 300, 257) for dtype in ("int32", "int64")}
TRUTH = RANDOM.integers(0, 2, (300, 257)).astype(bool)
TIES = np.round(floats(RANDOM, 2, 40_000, level=(126, 133)))


def alone(kind: str, x: np.ndarray, **attributes) -> Case:
    return Case({"x": x}, lambda b: b.add(kind, ["x"], **attributes))


def pair(kind: str, x: np.ndarray, y: np.ndarray) -> Case:
    return Case({"x": x, "y": y}, lambda b: b.add(kind, ["x", "y"]))


def weighted(kind: str, x: np.ndarray, weights: list[np.ndarray], **attributes) -> Case:
    return Case(
        {"x": x},
        lambda b: b.add(kind, ["x"], [b.weight(f"w{place}", one) for place, one in enumerate(weights)], **attributes),
    )


def reduced(kind: str, x: np.ndarray, **attributes: int) -> Case:
    return Case({"x": x}, lambda b: b.reduce(kind, "x", **attributes))


def spread(low: int, high: int, *shape: int) -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(np.int32)


def forest() -> Case:
    """A chain of 30 comparisons, walked by 40,000 rows from two roots."""
    nodes = np.arange(61, dtype=np.int32)
    inner = nodes < 30
    tables = [
        nodes % 2,
        np.linspace(0.5, 2, 61, dtype=np.float32),
        np.where(inner, nodes % 6, spec.TREE_LEAF).astype(np.int32),
        np.where(inner, nodes + 1, nodes).astype(np.int32),
        np.where(inner, 60 - nodes, 0).astype(np.int32),
        np.array([0, 3], np.int32),
    ]
    return weighted("tree_leaves", np.abs(floats(RANDOM, 40_000, 2, level=(126, 127))), tables, features=2)


def taken(x: np.ndarray) -> Case:
    names = integers(RANDOM, "int64", x.shape[1])
    return Case({"x": x}, lambda b: b.add("take", [b.add("argmax", ["x"])], [b.weight("names", names)]))


IMAGE = floats(RANDOM, 3, 4, 90, 70, level=(120, 130))
TABLE = floats(RANDOM, 400, 257, level=(110, 130))
GAIN = floats(RANDOM, 257, level=(120, 128))
PLACES = spread(0, 257, 300, 257)
NORM = {"bits": spec.sum_bits(257), "inv_d": spec.f64_hex(1.0 / 257)}
SEEN = {
    "kernel": (3, 2),
    "strides": (2, 1),
    "dilations": (1, 3),
    "before": (1, 1),
    "after": (0, 2),
    "value": "bf800000",
}

LARGE: dict[str, Case] = {
    **{kind: alone(kind, ROW) for kind in FUNCTIONS},
    **{kind: alone(kind, np.abs(ROW)) for kind in ("sqrt", "log")},
    **{kind: alone(kind, np.clip(ROW, -80, 80)) for kind in ("exp", "sin", "cos", "tan")},
    **{kind: alone(kind, WHOLE["int64"]) for kind in ("neg", "abs", "sign", "bit_not")},
    **{kind: pair(kind, WHOLE["int32"], WHOLE["int32"][::-1].copy()) for kind in ("bit_and", "bit_or", "bit_xor")},
    **{kind: pair(kind, WHOLE["int64"], WHOLE["int64"][:1] | 1) for kind in ("mod", "fmod", "div")},
    **{kind: pair(kind, TRUTH, TRUTH[:1]) for kind in ("and", "or", "xor")},
    **{kind: pair(kind, ROWS, TABLE[:300, :1]) for kind in ("add", "sub", "mul", "max", "min", "less", "less_equal")},
    **{kind: alone(kind, ROWS) for kind in ("softmax", "log_softmax", "reduce_max", "reduce_min", "argmax", "argmin")},
    **{kind: alone(kind, TIES, k=20_000, largest=1) for kind in ("top_values", "top_indices")},
    "not": alone("not", TRUTH),
    "equal": pair("equal", WHOLE["int64"], WHOLE["int64"][:, ::-1].copy()),
    "pow": pair("pow", np.abs(ROWS) + np.float32(1), GAIN),
    "where": Case({"c": TRUTH, "x": ROWS, "y": GAIN}, lambda b: b.add("where", ["c", "x", "y"])),
    "cast": alone("cast", WHOLE["int64"], to="float32"),
    "reduce_sum": reduced("reduce_sum", ROW),
    "reduce_mean": reduced("reduce_mean", ROWS.T.copy()),
    "reduce_prod": alone("reduce_prod", WHOLE["int64"]),
    "cumsum": reduced("cumsum", ROW, exclusive=1, reverse=1),
    "sample_weights": alone("sample_weights", ROWS, scale=spec.f64_hex(1.4)),
    "embedding": weighted("embedding", spread(0, 400, 300), [TABLE]),
    "position_rows": weighted("position_rows", spread(0, 9, 300), [TABLE]),
    "take": taken(ROWS),
    "linear": Case({"x": ROWS}, lambda b: b.linear("x", "l", TABLE[:150], TABLE[0, :150])),
    "matmul": Case({"x": IMAGE, "y": IMAGE[:, :, ::-1].copy()}, lambda b: b.matmul("x", "y")),
    "attention": Case({"x": TABLE[:, :256].copy()}, lambda b: b.attention("x", 4, 2, 32, causal=True, window=50)),
    "rope": weighted(
        "rope", TABLE[:, :256].copy(), [ROWS[:1].repeat(400, 0)[:, :8]] * 2, heads=9, head_dim=16, interleaved=1
    ),
    "layer_norm": Case({"x": ROWS}, lambda b: b.layer_norm("x", "n", GAIN, GAIN, 1e-5)),
    "rms_norm": weighted("rms_norm", ROWS, [GAIN], eps=spec.f32_hex(1e-6), **NORM),
    "l2_normalise": Case({"x": ROWS}, lambda b: b.l2_normalise("x")),
    "mean_tokens": Case({"x": ROWS}, lambda b: b.mean_tokens("x")),
    "tree_leaves": forest(),
    "constant": Case({"x": ROWS}, lambda b: b.add("add", ["x", b.constant("w", TABLE[:300])])),
    "reshape": alone("reshape", ROWS, shape=(257, 300)),
    "transpose": alone("transpose", IMAGE, perm=(2, 0, 3, 1)),
    "expand": alone("expand", ROWS, shape=(4, 300, 257)),
    "slice": alone("slice", ROWS, axis=1, start=256, count=128, step=-2),
    "concat": Case({"x": ROWS, "y": TABLE}, lambda b: b.add("concat", ["x", "y"], axis=0)),
    "pad": alone("pad", ROWS, before=(1, 2), after=(3, 4), value="7f7fffff"),
    "windows": alone("windows", IMAGE, **SEEN),
    "gather": Case({"x": ROWS, "i": spread(0, 300, 500)}, lambda b: b.add("gather", ["x", "i"], axis=0)),
    "gather_elements": Case({"x": ROWS, "i": PLACES}, lambda b: b.add("gather_elements", ["x", "i"], axis=1)),
    "scatter_elements": Case(
        {"x": ROWS, "i": PLACES // 9, "u": TABLE[:300]}, lambda b: b.add("scatter_elements", ["x", "i", "u"], axis=1)
    ),
}


@pytest.mark.parametrize("kind", sorted(LARGE))
def test_two_threads_give_the_bits_of_one(kind, threads: Callable[[int], None]):
    told = set()
    for count in (1, 2):
        threads(count)
        told.add(agreed(LARGE[kind]))
    (output,) = told
    assert b"nonfinite" not in output[:11]
