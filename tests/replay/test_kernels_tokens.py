"""How a text is read does not matter: whole, in chunks, token by token, or only its beginning. Nor do batch and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import on_both
from scalar_draws import LEVELS, floats

from replay.errors import BackendRefused
from replay.importers.build import Builder
from replay.kernels import spec
from replay.kernels.state import State
from replay.model import Model
from replay.operators import TensorType
from replay.program import Port
from replay.run import BACKENDS, Prepared, evaluate, execute, load_backend, prepare_with

Build = Callable[[Builder], str]
#: Where a run became not finite (flat element of the output), and the bytes of what was written before.
Told = tuple[int | None, bytes]


def on(backend: str, model: Model) -> Prepared:
    try:
        return prepare_with(load_backend(backend), model)
    except BackendRefused:
        if "int8" in backend:
            pytest.skip("this processor has no VNNI")
        raise


def language(width: int, build: Build) -> Model:
    """A program on float32 [T, width]."""
    builder = Builder([Port("x", TensorType("float32", ("T", width)))], {"T": 1024})
    return builder.model({"y": build(builder)}, [])


def read(prepared: Prepared, x: np.ndarray, cuts: Sequence[int]) -> Told:
    """All of ``x`` by one decoder, so many tokens at a time."""
    program, kernels, state, rows = prepared.model.program, prepared.kernels, State(), []
    for size in cuts:
        piece = x[state.position : state.position + size]
        values, lost = evaluate(program, kernels, {"x": piece}, {"T": len(piece)}, state=state)
        if lost is not None:
            shape = program.types[program.operators[lost[0]].output].shape
            return lost[1] + state.position * int(np.prod([dim for dim in shape[1:] if isinstance(dim, int)])), b""
        rows.append(kernels.unload(values[program.outputs[0].value]).tobytes())
        state.position += size
    assert state.position == len(x)
    return None, b"".join(rows)


def whole(prepared: Prepared, x: np.ndarray) -> Told:
    run = execute(prepared, {"x": x})
    return (None, run.outputs["y"].tobytes()) if run.nonfinite is None else (run.nonfinite[1], b"")


@st.composite
def readings(draw):
    """(tokens, cuts that add up to them, the length of a beginning, a seed)"""
    cuts = draw(st.lists(st.integers(1, 9), min_size=2, max_size=12))
    return sum(cuts), cuts, draw(st.integers(1, sum(cuts))), draw(st.integers(0, 2**32))


def tables(b: Builder, random, half: int) -> list[str]:
    return [b.weight(name, floats(random, 1024, half, level=(110, 127))) for name in ("cos", "sin")]


#: kind → (random numbers → (width of a token, width of its result, the operator))
STATEFUL = {
    "attention": lambda random: attention(random, window=0),
    "window": lambda random: attention(random, window=int(random.integers(1, 12))),
    "rope": lambda random: rope(random, 0),
    "rope interleaved": lambda random: rope(random, 1),
    "position_rows": lambda random: positions(floats(random, 1024, 5, level=(100, 130))),
}


def attention(random, window: int) -> tuple[int, int, Build]:
    groups, share, size = (int(random.integers(1, 4)) for _ in range(3))
    heads = groups * share
    return (
        (heads + 2 * groups) * size,
        heads * size,
        lambda b: b.attention("x", heads, groups, size, causal=True, window=window),
    )


def rope(random, interleaved: int) -> tuple[int, int, Build]:
    half, heads = (int(random.integers(1, 4)) for _ in range(2))
    size = 2 * half + int(random.integers(0, 3))
    width = size * (heads + int(random.integers(0, 3)))
    settings_ = {"heads": heads, "head_dim": size, "interleaved": interleaved}
    return width, width, lambda b: b.add("rope", ["x"], tables(b, random, half), **settings_)


def positions(table: np.ndarray) -> tuple[int, int, Build]:
    return 3, 5, lambda b: b.add("position_rows", ["x"], [b.weight("w", table)])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", STATEFUL)
@given(readings())
@settings(max_examples=15)
def test_every_reading_gives_the_same_rows(kind, backend, reading):
    tokens, cuts, beginning, seed = reading
    random = np.random.default_rng(seed)
    width, result, build = STATEFUL[kind](random)
    level = LEVELS[seed % len(LEVELS)]
    x = floats(random, tokens, width, level=level)
    if seed % 5 == 0:  # fp32's limit among others: whoever leaves the token out must not feel it
        x[random.integers(tokens), random.integers(width)] = np.finfo(np.float32).max
    prepared = on(backend, language(width, build))
    lost, rows = whole(prepared, x)
    assert read(prepared, x, cuts) == (lost, rows)
    assert read(prepared, x, [1] * tokens) == (lost, rows)
    if lost is None:
        assert whole(prepared, x[:beginning]) == (None, rows[: 4 * result * beginning])
    elif lost < result * beginning:
        assert whole(prepared, x[:beginning]) == (lost, b"")
    else:
        assert whole(prepared, x[:beginning])[0] is None


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [0, 100])
def test_a_long_text(window, backend):
    """Longer than what is worked on at once, and than what a decoder has memory for at first."""
    random = np.random.default_rng(7)
    x = floats(random, 600, 7 * 6, level=(118, 128))
    cos, sin = (floats(random, 1024, 3, level=(118, 126)) for _ in range(2))

    def build(b: Builder) -> str:
        made = [b.weight("cos", cos), b.weight("sin", sin)]
        turned = b.add("rope", ["x"], made, heads=6, head_dim=6, interleaved=0)
        return b.attention(turned, 5, 1, 6, causal=True, window=window)

    model = language(7 * 6, build)
    wanted = whole(on("numpy", model), x)
    assert wanted[0] is None
    prepared = on(backend, model)
    assert whole(prepared, x) == wanted
    assert read(prepared, x, [300, 1, 1, 50, 1, 247]) == wanted


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("causal", "window"), [(False, 0), (True, 0), (True, 1), (True, 90)])
@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 1), (6, 2)])
def test_long_attention_has_one_result(heads, groups, causal, window, masked):
    random = np.random.default_rng([heads, window])
    for tokens in (256, 257, 530):
        inputs = {"x": floats(random, tokens, (heads + 2 * groups) * 3, level=(110, 128))}
        ports = [Port("x", TensorType("float32", inputs["x"].shape))]
        if masked:
            inputs["m"] = random.random(tokens) < 0.9
            inputs["m"][0] = True  # the first token sees itself at least
            inputs["m"] |= window == 1
            ports.append(Port("m", TensorType("bool", (tokens,))))
        builder = Builder(ports, {})
        y = builder.attention("x", heads, groups, 3, causal=causal, window=window, mask="m" if masked else "")
        model = builder.model({"y": y}, [])
        runs = [execute(on(backend, model), inputs) for backend in ("numpy", "torch", "native")]
        assert [run.nonfinite for run in runs] == [None] * 3
        assert len({run.outputs["y"].tobytes() for run in runs}) == 1


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("above", [35, 36, 37, 38, 39, 70])
def test_a_key_left_out_weighs_nothing_however_large(causal, above):
    """The last token's value is 2^above times the others' and its logits are beyond fp32; no row but its own sees it, and
    its own is not finite."""
    tokens, heads, size = 70, 2, 4
    x = np.random.default_rng(above).uniform(0.5, 1.0, (tokens, 3, heads, size)).astype(np.float32)
    x[:, 0] *= np.float32(2.0**60)
    x[:-1, 1] *= np.float32(2.0**-60)
    x[-1, 1] *= np.float32(2.0**90)
    x[-1, 2] *= np.float32(2.0**above)
    inputs = {"x": x.reshape(tokens, -1)}
    ports = [Port("x", TensorType("float32", inputs["x"].shape))]
    if not causal:
        inputs["m"] = np.arange(tokens) < tokens - 1
        ports.append(Port("m", TensorType("bool", (tokens,))))
    builder = Builder(ports, {})
    y = builder.attention("x", heads, heads, size, causal=causal, mask="" if causal else "m")
    model = builder.model({"y": y}, [])
    runs = [execute(on(backend, model), inputs) for backend in ("numpy", "torch", "native")]
    if causal:
        assert [run.nonfinite for run in runs] == [(0, (tokens - 1) * heads * size)] * 3
    else:
        assert [run.nonfinite for run in runs] == [None] * 3
        assert len({run.outputs["y"].tobytes() for run in runs}) == 1
        assert np.abs(runs[0].outputs["y"]).max() <= 1.0


@pytest.mark.parametrize("above", [35, 36, 37, 38, 39, 70])
def test_a_later_value_weighs_nothing_however_large(above):
    """As above with logits that are finite: every row has a result, and those before the last token stay below 1."""
    tokens, heads, size = 70, 2, 4
    x = np.random.default_rng(above).uniform(0.5, 1.0, (tokens, 3, heads, size)).astype(np.float32)
    x[-1, 2] *= np.float32(2.0**above)
    builder = Builder([Port("x", TensorType("float32", (tokens, 3 * heads * size)))], {})
    model = builder.model({"y": builder.attention("x", heads, heads, size, causal=True)}, [])
    runs = [execute(on(backend, model), {"x": x.reshape(tokens, -1)}) for backend in ("numpy", "torch", "native")]
    assert [run.nonfinite for run in runs] == [None] * 3
    assert len({run.outputs["y"].tobytes() for run in runs}) == 1
    assert np.abs(runs[0].outputs["y"][:-1]).max() <= 1.0


#: On rows of float32: each row's result is its own.
ROWWISE: dict[str, Build] = {
    "linear": lambda b: b.linear("x", "l", np.random.default_rng(1).standard_normal((9, 33)).astype(np.float32), None),
    "layer_norm": lambda b: b.layer_norm("x", "n", *np.ones((2, 33), np.float32), 1e-5),
    "rms_norm": lambda b: b.rms_norm("x", "n", np.ones(33, np.float32), 1e-6),
    "l2_normalise": lambda b: b.l2_normalise("x"),
    "softmax": lambda b: b.add("softmax", ["x"]),
    "log_softmax": lambda b: b.add("log_softmax", ["x"]),
    "sample_weights": lambda b: b.add("sample_weights", ["x"], scale=spec.f64_hex(1.25)),
    "gelu_erf": lambda b: b.add("gelu_erf", ["x"]),
    "silu": lambda b: b.add("silu", ["x"]),
    "sin": lambda b: b.add("sin", ["x"]),
    "reduce_sum": lambda b: b.reduce("reduce_sum", "x"),
    "cumsum": lambda b: b.reduce("cumsum", "x", exclusive=0, reverse=1),
    "top_values": lambda b: b.add("top_values", ["x"], k=7, largest=1),
    "argmin": lambda b: b.add("argmin", ["x"]),
}


@pytest.mark.parametrize("kind", ROWWISE)
def test_a_row_does_not_know_its_batch(kind):
    for rows in (2, 17, 40):
        x = floats(np.random.default_rng(rows), rows, 33, level=(100, 129))
        alone = [on_both(row[None], ROWWISE[kind]).outputs["y"].tobytes() for row in x]
        together = on_both(x, ROWWISE[kind])
        assert together.nonfinite is None
        assert together.outputs["y"].tobytes() == b"".join(alone)
