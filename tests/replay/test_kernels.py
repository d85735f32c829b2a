"""Each operator: both backends give the same bits at every magnitude, and what they give is close to the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import on_both, one, result

from replay.errors import BackendRefused
from replay.kernels import selftest, spec, torch_backend
from replay.kernels.gridding import grid_rows
from replay.kernels.known_cases import cases
from replay.kernels.numpy_backend import NumpyKernels
from replay.kernels.selftest import compute, known_answers
from replay.kernels.torch_backend import TorchKernels
from replay.run import execute, prepare, prepare_with

SPECIAL = np.array([0, 0x80000000, 1, 0x80000001, 0x7FFFFF, 0x800000, 0x3F800000, 0xBF800000], np.uint32).view(
    np.float32
)
ELEMENTWISE = ("gelu_erf", "gelu_tanh", "relu", "tanh", "sigmoid")


def draw_floats(random, shape, low, high, wild):
    """float32 with biased exponents in [low, high]; ``wild`` sprinkles zeros, subnormals, outliers, limits."""
    bits = random.integers(0, 2**23, shape, dtype=np.uint32)
    bits |= random.integers(low, high + 1, shape, dtype=np.uint32) << 23
    x = (bits | random.integers(0, 2, shape, dtype=np.uint32) << 31).view(np.float32)
    if wild:
        places = random.random(shape)
        x = np.where(places < 0.1, random.choice(SPECIAL, shape), x)
        if high <= 240:
            x = np.where(places > 0.97, x * np.float32(1000), x)
        x = np.asarray(x, np.float32)
    return x


FEW, SOME = st.integers(1, 9), st.integers(1, 70)


@st.composite
def arrays(draw, rows=FEW, columns=SOME, top=140):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    low = draw(st.integers(0, top))
    high = draw(st.integers(low, min(top, low + draw(st.sampled_from([0, 4, 60])))))
    return draw_floats(random, (draw(rows), draw(columns)), low, high, draw(st.booleans()))


@given(arrays(top=230), st.integers(1, 20), st.booleans(), st.integers(0, 2**32), st.integers(0, 225))
def test_linear_has_one_result(x, rows, biased, seed, level):
    random = np.random.default_rng(seed)
    weight = draw_floats(random, (rows, x.shape[1]), max(level - 20, 0), min(level, 216), True)
    bias = draw_floats(random, (rows,), max(level - 20, 0), level, True) if biased else None
    on_both(x, lambda b: b.linear("x", "l", weight, bias))


@given(st.integers(1, 300), st.integers(0, 2**32))
@settings(max_examples=20)
def test_linear_is_close_to_the_truth(length, seed):
    random = np.random.default_rng(seed)
    x, weight, bias = (random.standard_normal(shape).astype(np.float32) for shape in ((4, length), (7, length), (7,)))
    y = result(x, lambda b: b.linear("x", "l", weight, bias))
    a, w = spec.dot_bits(length)
    truth = x.astype(float) @ weight.astype(float).T + bias
    xmax, wmax = np.abs(x).max(1)[:, None], np.abs(weight).max(1)[None]
    bound = 2.0**-a * xmax * np.abs(weight).sum(1) + 2.0**-w * wmax * np.abs(x).sum(1)[:, None]
    bound = bound + length * 2.0 ** -(a + w) * xmax * wmax + 2.0**-24 * np.abs(truth) + 1e-30
    assert (np.abs(y - truth) <= bound).all()


@given(
    arrays(rows=st.integers(1, 12), columns=st.just(1), top=228),
    st.sampled_from([(1, 1), (2, 1), (3, 3), (4, 2)]),
    st.sampled_from([1, 3, 8, 32]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_attention_has_one_result(x, heads, size, causal, seed):
    random = np.random.default_rng(seed)
    top = int(np.abs(x).max().view(np.uint32)) >> 23
    wide = draw_floats(random, (len(x), (heads[0] + 2 * heads[1]) * size), max(0, top - 8), top, bool(seed % 2))
    on_both(wide, lambda b: b.attention("x", *heads, size, causal=causal))


@given(st.integers(2, 12), st.data())
@settings(max_examples=20)
def test_causal_attention_never_sees_the_future(tokens, data):
    """Prefill of a prefix equals the prefix of the prefill, bit for bit."""
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    level = data.draw(st.integers(100, 200))
    x = draw_floats(random, (tokens, 3 * 2 * 4), level - 10, level, True)
    whole = on_both(x, lambda b: b.attention("x", 2, 2, 4, causal=True))
    cut = data.draw(st.integers(1, tokens - 1))
    part = on_both(x[:cut], lambda b: b.attention("x", 2, 2, 4, causal=True))
    if whole.nonfinite is None:
        assert part.outputs["y"].tobytes() == whole.outputs["y"][:cut].tobytes()
    else:
        width = 8
        before = whole.nonfinite[1] < cut * width
        assert (part.nonfinite == whole.nonfinite) if before else part.nonfinite is None


def test_attention_is_close_to_the_truth():
    random = np.random.default_rng(3)
    tokens, heads, size = 40, 3, 16
    x = (random.standard_normal((tokens, 3 * heads * size)) * 2).astype(np.float32)
    for causal in (False, True):
        y = result(x, lambda b: b.attention("x", heads, heads, size, causal=causal))  # noqa: B023
        q, k, v = x.astype(float).reshape(tokens, 3, heads, size).transpose(1, 2, 0, 3)
        t = q @ k.transpose(0, 2, 1) / math.sqrt(size)
        t = np.where(np.tri(tokens, dtype=bool), t, -np.inf) if causal else t
        p = np.exp(t - t.max(-1, keepdims=True))
        truth = (p / p.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(tokens, -1)
        assert np.abs(y - truth).max() < 2e-5


@given(arrays(columns=st.integers(1, 300), top=227), st.integers(0, 2**32))
def test_norms_have_one_result(x, seed):
    random = np.random.default_rng(seed)
    gain, shift = random.standard_normal((2, x.shape[1])).astype(np.float32)
    on_both(x, lambda b: b.layer_norm("x", "n", gain, shift, 1e-12))
    on_both(x, lambda b: b.l2_normalise("x"))
    on_both(x, lambda b: b.mean_tokens("x"))


def test_norms_are_close_to_the_truth():
    random = np.random.default_rng(4)
    x = random.standard_normal((6, 384)).astype(np.float32)
    wide = x.astype(float)
    one_, none = np.ones(384, np.float32), np.zeros(384, np.float32)
    truth = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-12)
    assert np.abs(result(x, lambda b: b.layer_norm("x", "n", one_, none, 1e-12)) - truth).max() < 2e-6
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    assert np.abs(result(x, lambda b: b.l2_normalise("x")) - unit).max() < 1e-7
    assert np.abs(result(x, lambda b: b.mean_tokens("x")) - wide.mean(0)).max() < 1e-6
    zero = np.zeros((2, 384), np.float32)
    assert not result(zero, lambda b: b.l2_normalise("x")).any()


@given(arrays(top=254), st.sampled_from([*ELEMENTWISE, "softmax", "argmax"]))
def test_functions_have_one_result(x, kind):
    on_both(x, lambda b: b.add(kind, ["x"]))


@given(arrays(top=254), st.sampled_from(["add", "sub", "mul", "div"]), st.integers(0, 2**32), st.booleans())
def test_arithmetic_has_one_result(x, kind, seed, whole):
    weight = draw_floats(np.random.default_rng(seed), x.shape if whole else x.shape[1:], 1, 200, True)
    on_both(x, lambda b: b.add(kind, ["x"], [b.weight("w", weight)]))
    on_both(x, lambda b: b.add(kind, ["x", "x"]))


@pytest.mark.parametrize(
    ("kind", "truth", "bound"),
    [
        ("gelu_erf", lambda v: v * (1 + math.erf(v / math.sqrt(2))) / 2, 6e-7),
        ("gelu_tanh", lambda v: v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) / 2, 2e-6),
        ("tanh", math.tanh, 3e-7),
        ("sigmoid", lambda v: 1 / (1 + math.exp(-v)), 2e-7),
        ("relu", lambda v: max(v, 0.0), 0.0),
    ],
)
def test_functions_are_close_to_the_truth(kind, truth, bound):
    x = np.linspace(-12, 12, 4001, dtype=np.float32).reshape(1, -1)
    y = result(x, lambda b: b.add(kind, ["x"]))
    wanted = np.array([truth(float(v)) for v in x[0]])
    assert np.abs(y[0] - wanted).max() <= bound


def test_softmax_is_close_to_the_truth():
    x = np.random.default_rng(5).standard_normal((9, 50)).astype(np.float32) * 4
    p = np.exp(x.astype(float) - x.max(1, keepdims=True))
    y = result(x, lambda b: b.add("softmax", ["x"]))
    assert np.abs(y / (p / p.sum(1, keepdims=True)) - 1).max() < 3e-6


def test_moves_only_move():
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    assert (result(x, lambda b: b.add("transpose", ["x"], perm=(2, 0, 1))) == x.transpose(2, 0, 1)).all()
    assert (result(x, lambda b: b.add("reshape", ["x"], shape=(6, 4))) == x.reshape(6, 4)).all()
    odd = np.array([[16777217, -16777219, 2**31 - 1]], np.int32)
    assert (result(odd, lambda b: b.add("cast", ["x"], to="float32")) == odd.astype(np.float32)).all()


def test_argmax_takes_the_lowest_index():
    x = np.array([[1, 3, 3, 2], [0, -0.0, 0, 0], [-5, -5, -7, -5]], np.float32)
    assert result(x, lambda b: b.add("argmax", ["x"])).tolist() == [1, 0, 0]


def test_minus_zero_is_never_written():
    x = np.array([[-0.0, -1e-45, 1e-45]], np.float32)
    half = np.full(3, 0.25, np.float32)
    for build in (
        lambda b: b.add("mul", ["x"], [b.weight("w", half)]),
        lambda b: b.add("relu", ["x"]),
        lambda b: b.add("tanh", ["x"]),
        lambda b: b.linear("x", "l", np.array([[1e-30, 0, 0], [0, -0.0, 0]], np.float32), np.full(2, -0.0, np.float32)),
    ):
        y = result(x, build)
        assert not (y.view(np.uint32) == 0x80000000).any()


@pytest.mark.parametrize("value", [2.0**100, -(2.0**120), 3.4e38])
def test_a_row_without_grid_is_nonfinite_where_it_stands(value):
    x = np.ones((4, 6), np.float32)
    x[2, 5] = value
    weight = np.ones((3, 6), np.float32)
    assert on_both(x, lambda b: b.linear("x", "l", weight, None)).nonfinite == (0, 6)
    assert on_both(x, lambda b: b.layer_norm("x", "n", weight[0], weight[1], 1e-12)).nonfinite == (0, 12)
    assert on_both(x, lambda b: b.add("softmax", ["x"])).nonfinite is None  # every finite row has a softmax
    assert on_both(x, lambda b: b.mean_tokens("x")).nonfinite == (0, 5)
    # the value of token 2 reaches every row; under a causal mask the rows from 2 on
    assert on_both(x, lambda b: b.attention("x", 1, 1, 2, causal=False)).nonfinite == (0, 0)
    assert on_both(x, lambda b: b.attention("x", 1, 1, 2, causal=True)).nonfinite == (0, 4)


def test_a_minus_infinite_logit_is_nonfinite_too():
    """Its weight would be 2^−60: the result would look finite, and differ from one that keeps the row."""
    x = np.zeros((2, 6), np.float32)
    x[0, :2], x[1, 2:4] = -(2.0**90), 2.0**90
    assert on_both(x, lambda b: b.attention("x", 1, 1, 2, causal=False)).nonfinite == (0, 0)


@given(arrays(top=226))
def test_three_ways_to_grid_a_weight_agree(weight):
    weight = np.where(np.abs(weight) < 2.0**99, weight, np.float32(1))
    bits = spec.dot_bits(weight.shape[1])[1]
    q, e = grid_rows(weight, bits)
    mine = NumpyKernels.grid(weight, bits)
    assert (q == mine.q.T).all()
    assert (mine.exponent == e).all()
    theirs = TorchKernels(one(weight[:1], lambda b: b.add("relu", ["x"])).program, {}).grid(
        torch.from_numpy(weight), bits
    )
    assert (theirs.values.t().numpy() == q * 2.0 ** e.astype(float)[:, None]).all()


@pytest.mark.parametrize("wide", [0, 1 << 40])
def test_weights_kept_in_half_the_memory_give_the_same_bits(monkeypatch, wide):
    """Every known answer, and a layer of more than one block whose last is not full."""
    monkeypatch.setattr(torch_backend, "_WIDE", wide)
    assert [answer for answer in known_answers("torch") if not answer.ok] == []
    rng = np.random.default_rng(7)
    weight, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 70), (300,)))
    for rows in (1, 5, 64):
        x = rng.standard_normal((rows, 70)).astype(np.float32)
        network = one(x, lambda b: b.linear("x", "l", weight, bias))
        ours, numpys = (execute(prepare_with(kind, network), {"x": x}) for kind in (TorchKernels, NumpyKernels))
        assert ours.outputs["y"].tobytes() == numpys.outputs["y"].tobytes()
    kernels = TorchKernels(network.program, network.weights)
    assert kernels._weights["l.weight"].values.dtype is (torch.float64 if wide else torch.float32)
    (q, exponent), (other, same) = (
        kind(network.program, network.weights).gridded("l.weight") for kind in (TorchKernels, NumpyKernels)
    )
    assert (q == other).all()
    assert (exponent == same).all()


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_known_answers(backend):
    assert [answer for answer in known_answers(backend) if not answer.ok] == []


def test_known_answers_with_two_threads(threads):
    threads(2)
    assert all(answer.ok for answer in known_answers("torch"))
    threads(1)
    assert all(answer.ok for answer in known_answers("torch"))


class Sloppy(NumpyKernels):
    """A backend whose sums are rounded on the way, as an fp32 product would."""

    @staticmethod
    def grid(weight, bits):
        made = NumpyKernels.grid(weight, bits)
        return type(made)((made.q.astype(np.float32) * np.float32(1 + 2**-23)).astype(np.float64), made.exponent)


def test_a_backend_with_other_bits_shows():
    answers = [selftest.judge(case, compute(case, Sloppy)) for case in cases()]
    assert {answer.name.split("/")[0] for answer in answers if not answer.ok} == {"linear"}


TINY = np.array([[1, 71362]], np.uint32).view(np.float32)


def test_preparing_for_torch_turns_flush_to_zero_off():
    torch.set_flush_denormal(True)
    try:
        prepared = prepare_with(TorchKernels, one(TINY, lambda b: b.add("add", ["x", "x"])))
        assert execute(prepared, {"x": TINY}).outputs["y"].view(np.uint32).tolist() == [[2, 142724]]
    finally:
        torch.set_flush_denormal(False)


def test_a_refused_backend_judges_nothing(monkeypatch):
    from replay import run

    run._proved.cache_clear()
    monkeypatch.setattr(selftest, "KNOWN", dict.fromkeys(selftest.KNOWN, "0" * 32))
    x = np.ones((1, 2), np.float32)
    try:
        with pytest.raises(BackendRefused, match="linear"):
            prepare(one(x, lambda b: b.add("relu", ["x"])), "numpy")
    finally:
        run._proved.cache_clear()
