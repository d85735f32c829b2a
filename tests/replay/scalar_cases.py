"""A random small program for every operator kind: shapes, dtypes, attributes, magnitudes and what is not finite vary.

``CASES`` maps a kind to what draws a case.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scalar_draws import TAME, WEIGHT, Case, any_type, floats, integers, sizes, some

from replay.kernels import spec
from replay.operators.arithmetic import FUNCTIONS


def linear(random) -> Case:
    rows, n, k = sizes(random, 3)
    k = int(random.choice([k, 40, 300]))
    x, weight = floats(random, 2, rows, k), floats(random, n, k, level=WEIGHT)
    bias = floats(random, n) if random.integers(2) else None
    return Case({"x": x}, lambda b: b.linear("x", "l", weight, bias), grid=str(random.choice(["hi", "lo"])))


def matmul(random) -> Case:
    batch, m, n, k = sizes(random, 4)
    return Case({"x": floats(random, batch, m, k), "y": floats(random, batch, n, k)}, lambda b: b.matmul("x", "y"))


def attention(random) -> Case:
    tokens, groups, size = sizes(random, 3)
    heads, causal = groups * int(random.integers(1, 4)), bool(random.integers(2))
    window = int(random.integers(0, 4)) if causal else 0
    level = [None, (127, 130), (150, 170), (190, 226)][random.integers(4)]
    inputs = {"x": floats(random, tokens, (heads + 2 * groups) * size, level=level)}
    mask = ""
    if random.integers(2):
        inputs["m"], mask = random.random(tokens) < 0.8, "m"
    scale = spec.f64_hex(float(random.random()) + 0.01) if random.integers(2) else ""
    return Case(
        inputs, lambda b: b.attention("x", heads, groups, size, causal=causal, window=window, scale=scale, mask=mask)
    )


def layer_norm(random) -> Case:
    rows, d = int(random.integers(1, 5)), int(random.choice([1, 2, 7, 64, 700]))
    x, gain, shift = floats(random, rows, d), floats(random, d, level=TAME), floats(random, d, level=TAME)
    if random.integers(3):
        return Case({"x": x}, lambda b: b.layer_norm("x", "n", gain, shift, 1e-5))
    constants = {"inv_d": spec.f64_hex(1.0 / d), "inv_d2": spec.f64_hex(1.0 / (d * d)), "eps": spec.f32_hex(1e-12)}
    return Case({"x": x}, lambda b: b.add("layer_norm", ["x"], bits=spec.sum_bits(d), **constants))


def rms_norm(random) -> Case:
    rows, d = int(random.integers(1, 5)), int(random.choice([1, 2, 7, 64, 700]))
    x, gain = floats(random, rows, d), floats(random, d, level=TAME)
    if random.integers(3):
        return Case({"x": x}, lambda b: b.rms_norm("x", "n", gain, 1e-6))
    constants = {"inv_d": spec.f64_hex(1.0 / d), "eps": spec.f32_hex(1e-30)}
    return Case({"x": x}, lambda b: b.add("rms_norm", ["x"], bits=spec.sum_bits(d), **constants))


def l2_normalise(random) -> Case:
    x = floats(random, int(random.integers(1, 5)), int(random.choice([1, 2, 7, 64, 700])))
    return Case({"x": x}, lambda b: b.l2_normalise("x"))


def mean_tokens(random) -> Case:
    return Case({"x": floats(random, *sizes(random, 2))}, lambda b: b.mean_tokens("x"))


def last_axis(kind: str) -> Callable:
    def make(random) -> Case:
        x = floats(random, *sizes(random, int(random.integers(1, 4)), 9))
        scale = {"scale": spec.f64_hex(float(random.random()) + 0.1)} if kind == "sample_weights" else {}
        return Case({"x": x}, lambda b: b.add(kind, ["x"], **scale))

    return make


def embedding(random) -> Case:
    v, d = sizes(random, 2)
    ids, table = random.integers(0, v, sizes(random, 2)).astype(np.int32), floats(random, v, d, level=(0, 200))
    return Case({"x": ids}, lambda b: b.add("embedding", ["x"], [b.weight("w", table)]))


def position_rows(random) -> Case:
    tokens, d = sizes(random, 2)
    table = floats(random, 64, d, level=(0, 200))
    x = random.integers(0, 9, tokens).astype(np.int32)
    return Case({"x": x}, lambda b: b.add("position_rows", ["x"], [b.weight("w", table)]), symbols=("T",))


def take(random) -> Case:
    rows, classes = sizes(random, 2)
    table = integers(random, any_type(random, reals=False), classes)
    x = floats(random, rows, classes)
    return Case({"x": x}, lambda b: b.add("take", [b.add("argmax", ["x"])], [b.weight("w", table)]))


def rope(random) -> Case:
    heads, tokens, half = sizes(random, 3)
    size, count = 2 * half + int(random.integers(0, 3)), heads + int(random.integers(0, 3))
    tables = [floats(random, tokens + 3, half, level=TAME) for _ in range(2)]
    interleaved = int(random.integers(2))
    x = floats(random, tokens, count * size)
    return Case(
        {"x": x},
        lambda b: b.add(
            "rope",
            ["x"],
            [b.weight(name, table) for name, table in zip(("cos", "sin"), tables, strict=True)],
            heads=heads,
            head_dim=size,
            interleaved=interleaved,
        ),
    )


def tree_leaves(random) -> Case:
    """Inner nodes 0 … n − 2 lead to a node behind them; the rest are leaves."""
    inner, features, rows = int(random.integers(1, 9)), *sizes(random, 2)
    nodes = 2 * inner + 1
    x = floats(random, rows, features, level=(126, 128)) * np.float32(random.integers(0, 2))
    feature, mode = random.integers(0, features, nodes), random.integers(0, 6, nodes)
    mode[inner:] = spec.TREE_LEAF
    yes, no = random.integers(0, 9, nodes), random.integers(0, 9, nodes)
    for node in range(inner):
        yes[node], no[node] = random.integers(node + 1, nodes, 2)
    threshold = np.where(random.random(nodes) < 0.5, x.reshape(-1)[0], floats(random, nodes, level=(126, 128)))
    roots = random.integers(0, inner, 3)
    tables = [feature, threshold, mode, yes, no, roots]
    tables = [np.asarray(one, np.float32 if one is threshold else np.int32) for one in tables]
    return Case(
        {"x": x},
        lambda b: b.add(
            "tree_leaves", ["x"], [b.weight(f"w{place}", one) for place, one in enumerate(tables)], features=features
        ),
    )


def function(kind: str) -> Callable:
    def make(random) -> Case:
        x = floats(random, 3, 40, level=[None, (100, 134), (122, 130)][random.integers(3)])
        if kind in {"log", "sqrt"} and random.integers(4):
            x = np.abs(x)
        return Case({"x": x}, lambda b: b.add(kind, ["x"]))

    return make


def unary(kind: str, **types: bool) -> Callable:
    def make(random) -> Case:
        return Case({"x": some(random, any_type(random, **types), 3, 7)}, lambda b: b.add(kind, ["x"]))

    return make


def binary(kind: str, **types: bool) -> Callable:
    def make(random) -> Case:
        dtype = any_type(random, **types)
        shape = sizes(random, 3, 4)
        parts = [[dim if random.integers(3) else 1 for dim in shape] for _ in range(2)]
        if random.integers(2):
            parts[1] = parts[1][1:]
        x, y = (some(random, dtype, *part) for part in parts)
        if kind in {"div", "mod", "fmod"} and random.integers(2):
            y = np.where(y == 0, np.asarray(1, y.dtype), y)
        if kind == "pow" and random.integers(2):
            tame = dtype == "float32"
            y = np.abs(some(random, dtype, *parts[1])) if tame else random.integers(0, 9, parts[1]).astype(dtype)
            y = np.round(np.minimum(y, 5)) if tame and random.integers(2) else y
        if random.integers(2):
            return Case({"x": x}, lambda b: b.add(kind, ["x"], [b.weight("w", y)]))
        return Case({"x": x, "y": y}, lambda b: b.add(kind, ["x", "y"]))

    return make


def where(random) -> Case:
    dtype, shape = any_type(random, truths=True), sizes(random, 2)
    x, y = some(random, dtype, *shape), some(random, dtype, *shape[1:])
    return Case({"c": some(random, "bool", shape[0], 1), "x": x, "y": y}, lambda b: b.add("where", ["c", "x", "y"]))


def cast(random) -> Case:
    dtype, to = any_type(random, truths=True), any_type(random, truths=True)
    x = some(random, dtype, 2, 5)
    if dtype == "float32" and random.integers(2):
        x = floats(random, 2, 5, level=(120, 157))
    return Case({"x": x}, lambda b: b.add("cast", ["x"], to=to))


def reduction(kind: str, *, ints: bool = True) -> Callable:
    def make(random) -> Case:
        shape = sizes(random, int(random.integers(1, 4)), 7)
        shape[-1] = int(random.choice([shape[-1], 40]))
        x = some(random, any_type(random, ints=ints), *shape)
        if kind in {"reduce_sum", "reduce_mean"}:
            return Case({"x": x}, lambda b: b.reduce(kind, "x"))
        if kind == "cumsum":
            exclusive, reverse = random.integers(0, 2, 2).tolist()
            return Case({"x": x}, lambda b: b.reduce("cumsum", "x", exclusive=exclusive, reverse=reverse))
        if kind.startswith("top"):
            k, largest = int(random.integers(1, shape[-1] + 1)), int(random.integers(2))
            return Case({"x": x}, lambda b: b.add(kind, ["x"], k=k, largest=largest))
        return Case({"x": x}, lambda b: b.add(kind, ["x"]))

    return make


def anything(random, *shape, truths: bool = True) -> np.ndarray:
    return some(random, any_type(random, truths=truths), *shape)


def constant(random) -> Case:
    weight = anything(random, 2, 3)
    x = some(random, str(weight.dtype), 1, 1)
    kind = "or" if weight.dtype == bool else "max"
    return Case({"x": x}, lambda b: b.add(kind, [b.constant("w", weight), "x"]))


def reshape(random) -> Case:
    x = anything(random, 4, 6)
    return Case({"x": x}, lambda b: b.add("reshape", ["x"], shape=("T", 2, 3)), symbols=("T",))


def transpose(random) -> Case:
    rank = int(random.integers(1, 6))
    perm = tuple(random.permutation(rank).tolist())
    return Case({"x": anything(random, *sizes(random, rank, 4))}, lambda b: b.add("transpose", ["x"], perm=perm))


def expand(random) -> Case:
    shape = sizes(random, 3)
    x = anything(random, *(dim if random.integers(2) else 1 for dim in shape[random.integers(3) :]))
    return Case({"x": x}, lambda b: b.add("expand", ["x"], shape=tuple(shape)))


def slice_(random) -> Case:
    shape, axis = sizes(random, 3), int(random.integers(3))
    size = shape[axis]
    start, step = int(random.integers(size)), int(random.choice([-2, -1, 1, 2]))
    room = (size - 1 - start) // step if step > 0 else start // -step
    count = int(random.integers(1, room + 2))
    x = anything(random, *shape)
    return Case({"x": x}, lambda b: b.add("slice", ["x"], axis=axis, start=start, count=count, step=step))


def concat(random) -> Case:
    shape, axis, dtype = sizes(random, 3), int(random.integers(3)), any_type(random, truths=True)
    parts = {}
    for name in "xyz"[: random.integers(1, 4)]:
        shape[axis] = int(random.integers(1, 5))
        parts[name] = some(random, dtype, *shape)
    return Case(parts, lambda b: b.add("concat", list(parts), axis=axis))


def filler(random, dtype) -> str:
    """Bits of an element, in hex."""
    if dtype == np.bool_:
        return f"0{random.integers(2)}"
    if dtype == np.float32:
        return str(random.choice(["00000000", "bf800000", "7f7fffff", "00000001"]))
    digits = 2 * np.dtype(dtype).itemsize
    return str(random.choice(["0" * digits, "f" * digits, "8" + "0" * (digits - 1), "7" + "f" * (digits - 1)]))


def pad(random) -> Case:
    x = anything(random, *sizes(random, 3, 3))
    before, after = (tuple(random.integers(0, 3, 3).tolist()) for _ in range(2))
    value = filler(random, x.dtype)
    return Case({"x": x}, lambda b: b.add("pad", ["x"], before=before, after=after, value=value))


def windows(random) -> Case:
    axes = int(random.integers(1, 3))
    n, c, *spatial = sizes(random, 2 + axes, 4)
    strides, dilations, kernel = (tuple(random.integers(1, 4, axes).tolist()) for _ in range(3))
    before = tuple(random.integers(0, 3, axes).tolist())
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    need = [max(r - s - low, 0) for r, s, low in zip(reach, spatial, before, strict=True)]
    after = tuple(low + int(random.integers(0, 3)) for low in need)
    x = anything(random, n, c, *spatial, truths=False)
    lists = {"kernel": kernel, "strides": strides, "dilations": dilations, "before": before, "after": after}
    value = filler(random, x.dtype)
    return Case({"x": x}, lambda b: b.add("windows", ["x"], **lists, value=value))


def indices(random, size: int, *shape) -> np.ndarray:
    """Mostly within the source; sometimes one before or behind it."""
    low, high = (0, size) if random.integers(3) else (-1, size + 1)
    return random.integers(low, high, shape).astype(any_type(random, reals=False))


def gather(random) -> Case:
    shape, axis = sizes(random, 3), int(random.integers(3))
    inputs = {"x": anything(random, *shape), "i": indices(random, shape[axis], *sizes(random, 2))}
    return Case(inputs, lambda b: b.add("gather", ["x", "i"], axis=axis))


def _within(random, shape: list[int], axis: int) -> list[int]:
    inside = [int(random.integers(1, dim + 1)) for dim in shape]
    inside[axis] = int(random.integers(1, shape[axis] + 1))
    return inside


def gather_elements(random) -> Case:
    shape, axis = sizes(random, 3), int(random.integers(3))
    inputs = {"x": anything(random, *shape), "i": indices(random, shape[axis], *_within(random, shape, axis))}
    return Case(inputs, lambda b: b.add("gather_elements", ["x", "i"], axis=axis))


def scatter_elements(random) -> Case:
    shape, axis = sizes(random, 3), int(random.integers(3))
    x, inside = anything(random, *shape), _within(random, shape, axis)
    inputs = {"x": x, "i": indices(random, shape[axis], *inside), "u": some(random, str(x.dtype), *inside)}
    return Case(inputs, lambda b: b.add("scatter_elements", ["x", "i", "u"], axis=axis))


CASES: dict[str, Callable[[np.random.Generator], Case]] = {
    "embedding": embedding, "position_rows": position_rows, "take": take, "linear": linear, "matmul": matmul,
    "attention": attention, "rope": rope, "layer_norm": layer_norm, "rms_norm": rms_norm,
    "l2_normalise": l2_normalise, "mean_tokens": mean_tokens, "tree_leaves": tree_leaves,
    **{kind: last_axis(kind) for kind in ("softmax", "log_softmax", "sample_weights")},
    **{kind: function(kind) for kind in FUNCTIONS},
    **{kind: unary(kind) for kind in ("neg", "abs", "sign")},
    "not": unary("not", ints=False, reals=False, truths=True), "bit_not": unary("bit_not", reals=False),
    **{kind: binary(kind) for kind in ("add", "sub", "mul", "div", "max", "min", "pow", "less", "less_equal")},
    **{kind: binary(kind, reals=False) for kind in ("mod", "fmod", "bit_and", "bit_or", "bit_xor")},
    **{kind: binary(kind, ints=False, reals=False, truths=True) for kind in ("and", "or", "xor")},
    "equal": binary("equal", truths=True), "where": where, "cast": cast,
    **{kind: reduction(kind) for kind in ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum")},
    **{kind: reduction(kind) for kind in ("argmax", "argmin", "top_values", "top_indices")},
    "reduce_mean": reduction("reduce_mean", ints=False),
    "constant": constant, "reshape": reshape, "transpose": transpose, "expand": expand, "slice": slice_,
    "concat": concat, "pad": pad, "windows": windows, "gather": gather, "gather_elements": gather_elements,
    "scatter_elements": scatter_elements,
}  # fmt: skip
