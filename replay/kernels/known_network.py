"""Known-answer programs of the network operators: dot products, attention, norms, tables, and decoding token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from replay.importers.build import Builder
from replay.kernels import spec
from replay.kernels.known_inputs import Case, floats, words
from replay.layout import Array

#: Just below 2: on the grid it is 2^b, the largest integer that there is.
TOP = np.uint32(0x3FFFFFFF).view(np.float32)


def _linear(
    rows: int, length: int, low: int, high: int, *, bias: bool, positive: bool = False, grid: str = "hi"
) -> Case:
    label = f"linear/{grid}/{rows}x{length}/{low}-{high}/{int(bias)}{int(positive)}"
    x = floats(label, rows, length, low=low, high=high)
    weight = floats(f"{label}/w", 24, length, low=low, high=high)
    if positive:
        x, weight = np.abs(x), np.abs(weight)
    shift = floats(f"{label}/b", 24, low=low, high=high) if bias else None
    return Case(label, x, lambda b: b.linear("x", "l", weight, shift), grid=grid)


def _corner(grid: str, length: int, rows: int) -> Case:
    """|q| = 2^b everywhere on both sides, signs in stripes: every digit, and every sum of digits, at its extreme."""
    weight = np.full((24, length), TOP)
    weight[8:16] = -TOP
    weight[16:, ::2] = -TOP
    x = np.full((rows, length), TOP)
    x[1:] *= np.float32(-1)
    bias = np.full(24, -1.0, np.float32)
    return Case(f"linear/{grid}/corner/{length}", x, lambda b: b.linear("x", "l", weight, bias), grid=grid)


def _digits(grid: str) -> Case:
    """Integers whose balanced digits, of several bases, are the largest that there are; like meets like and unlike."""
    a, w = spec.dot_bits(256, grid)

    def rows(count: int, bits: int) -> Array:
        """The row's kind is its number modulo 7: three bases, both signs, and one of signs that alternate."""
        full = []
        for shift in (7, 8, 11):
            places, half = range(0, bits - 1, shift), 1 << (shift - 1)
            low, high = (sum(digit << place for place in places[:-1]) for digit in (half, half - 1))
            top = ((1 << bits) - low) >> places[-1] << places[-1]
            full += [-(top + low), top + high]
        kinds = np.repeat(np.array([*full, full[2]], np.float64)[:, None], 256, 1)
        kinds[6, 1::2] *= -1
        return (np.resize(kinds, (count, 256)) * 2.0 ** (1 - bits)).astype(np.float32)

    return Case(f"linear/{grid}/digits", rows(18, a), lambda b: b.linear("x", "l", rows(24, w), None), grid=grid)


def _twice(grid: str) -> Case:
    """Sums that lie half-way between two fp32 numbers, and biases too small for fp64: rounded twice, as it must be, they
    go to the even neighbour; rounded once, half of them to the other."""
    x = np.array([[1, 2.0**-12], [1, 3 * 2.0**-12], [-1, -(2.0**-12)], [-1, -3 * 2.0**-12]], np.float32)
    weight = np.array([[1, 2.0**-12]] * 3, np.float32)
    bias = np.array([2.0**-70, -(2.0**-70), 0.0], np.float32)
    return Case(f"linear/{grid}/twice", x, lambda b: b.linear("x", "l", weight, bias), grid=grid)


def _attention(
    tokens: int, heads: int, groups: int, size: int, *, causal: bool, spread: int, window: int = 0, masked: bool = False
) -> Case:
    label = f"attention/{tokens}/{heads}.{groups}x{size}/{'causal' if causal else 'both'}/{spread}"
    label += (f"/window{window}" if window else "") + ("/mask" if masked else "")
    x = floats(label, tokens, (heads + 2 * groups) * size, low=127 - spread, high=128)
    more = {"m": np.arange(tokens) % 3 != 1} if masked else {}
    mask = "m" if masked else ""
    return Case(
        label, x, lambda b: b.attention("x", heads, groups, size, causal=causal, window=window, mask=mask), more
    )


def _masked() -> Case:
    """Logits near −1e33 on the only allowed position: a mask value of −1e30 would let the future through."""
    x = np.zeros((2, 24), np.float32)
    x[0, :8], x[:, 8:16] = -1e17, 1e17
    x[0, 16:], x[1, 16:] = 1.0, 2.0
    return Case("attention/masked", x, lambda b: b.attention("x", 1, 1, 8, causal=True))


def _norm(rows: int, size: int, eps: float, outlier: float) -> Case:
    label = f"layer_norm/{rows}x{size}/{outlier}"
    x = floats(label, rows, size, low=110, high=130)
    x = x * np.where(np.arange(size) == size // 3, np.float32(outlier), np.float32(1))
    gain, shift = (floats(f"{label}/{part}", size, low=120, high=128) for part in "gb")
    return Case(label, x, lambda b: b.layer_norm("x", "n", gain, shift, eps))


def _lost() -> list[Case]:
    """Rows of attention that see nothing, and a logit of −Inf, whose weight would look finite: no results."""
    x = np.zeros((3, 6), np.float32)
    x[0, :2], x[1, 2:4] = -(2.0**90), 2.0**90
    seen = {"m": np.array([False, True, True])}
    return [
        Case("attention/infinite", x, lambda b: b.attention("x", 1, 1, 2, causal=False)),
        Case("attention/infinite/unseen", x, lambda b: b.attention("x", 1, 1, 2, causal=True)),
        Case(
            "attention/nothing", x[1:2].repeat(3, 0), lambda b: b.attention("x", 1, 1, 2, causal=True, mask="m"), seen
        ),
    ]


def _left_out(*, causal: bool) -> Case:
    """A token whose value has no grid, at fp32's limit: the rows that leave it out are finite. By the mask all are, by
    causality those before it."""
    label = f"attention/left-out/{'causal' if causal else 'mask'}"
    x = floats(label, 5, 24, low=120, high=128)
    spoilt = 4 if causal else 2
    x[spoilt, 8:] = np.float32(3.4028235e38)
    more = {} if causal else {"m": np.arange(5) != spoilt}
    return Case(label, x, lambda b: b.attention("x", 1, 1, 8, causal=causal, mask="" if causal else "m"), more)


def _growing(*, causal: bool) -> Case:
    """Values that grow by 2^12 a token: a row that took its unit from a token which it leaves out would lose all bits, and
    the smallest weight of such a token would count."""
    label = f"attention/growing/{'causal' if causal else 'mask'}"
    x = floats(label, 9, 24, low=122, high=128)
    x[:, 16:] *= np.exp2(np.arange(9, dtype=np.float32) * np.float32(12) - np.float32(20))[:, None]
    more = {} if causal else {"m": np.arange(9) % 3 == 1}
    return Case(label, x, lambda b: b.attention("x", 1, 1, 8, causal=causal, mask="" if causal else "m"), more)


def _decoded(window: int) -> Case:
    """Positions, turned by their angles, and attention over what was read before."""
    x = floats(f"decoded/{window}", 40, 64, low=118, high=128)
    cos, sin, table = (
        floats(f"decoded/{name}", 50, size, low=110, high=126) for name, size in (("cos", 4), ("sin", 4), ("rows", 32))
    )

    def build(b: Builder) -> str:
        turned = b.add("rope", ["x"], [b.weight("cos", cos), b.weight("sin", sin)], heads=6, head_dim=8, interleaved=0)
        mixed = b.attention(turned, 4, 2, 8, causal=True, window=window)
        return b.add("add", [mixed, b.add("position_rows", ["x"], [b.weight("rows", table)])])

    return Case(f"decoded/{window}", x, build, pieces=(1, 1, 6, 1, 23, 8))


def _norms() -> list[Case]:
    x = floats("rms", 9, 384, low=100, high=130)
    gain = floats("rms/g", 384, low=120, high=128)
    spoilt = floats("norms/no-grid", 4, 384, low=120, high=130)
    spoilt[2, 7] = 2.0**100
    without: dict[str, Callable[[Builder], str]] = {
        "layer_norm": lambda b: b.layer_norm("x", "n", gain, gain, 1e-5),
        "rms_norm": lambda b: b.rms_norm("x", "n", gain, 1e-6),
        "l2_normalise": lambda b: b.l2_normalise("x"),
        "mean_tokens": lambda b: b.mean_tokens("x"),
        "matmul": lambda b: b.matmul("x", "x"),
        "reduce_sum": lambda b: b.reduce("reduce_sum", "x"),
        "reduce_mean": lambda b: b.reduce("reduce_mean", "x"),
        "cumsum": lambda b: b.reduce("cumsum", "x", exclusive=0, reverse=1),
    }
    # three of Newton's steps would not do
    steps = np.array([0x41A25684, 0x389D66FC, 0x3CFA0DE8, 0x494D5000], np.uint32).view(np.float32)[:, None]
    bare = {"inv_d": spec.f64_hex(1.0 / 384), "eps": spec.f32_hex(1e-5)}
    return [
        _norm(9, 384, 1e-12, 1.0),
        _norm(9, 384, 1e-12, 1000.0),
        _norm(3, 4000, 1e-5, 30.0),
        Case("rms_norm/9x384", x, lambda b: b.rms_norm("x", "n", gain, 1e-6)),
        Case("rms_norm/bare", x, lambda b: b.add("rms_norm", ["x"], bits=spec.sum_bits(384), **bare)),
        Case(
            "layer_norm/bare",
            x,
            lambda b: b.add("layer_norm", ["x"], bits=spec.sum_bits(384), inv_d2=spec.f64_hex(1.0 / 384**2), **bare),
        ),
        Case("l2_normalise/floor", floats("l2/floor", 9, 24, low=0, high=90), lambda b: b.l2_normalise("x")),
        Case("l2_normalise/steps", steps, lambda b: b.l2_normalise("x")),
        Case("l2_normalise/wide", floats("l2", 5, 384, low=90, high=128), lambda b: b.l2_normalise("x")),
        *(Case(f"{kind}/no-grid", spoilt, build) for kind, build in without.items()),
        Case("mean_tokens/wide", floats("mean", 129, 50, low=90, high=128), lambda b: b.mean_tokens("x")),
    ]


def _turned(interleaved: int) -> Case:
    x = floats(f"rope/{interleaved}", 9, 60, low=110, high=130)
    tables = {name: floats(f"rope/{name}", 16, 5, low=110, high=126) for name in ("cos", "sin")}

    def build(b: Builder) -> str:
        weights = [b.weight(name, table) for name, table in tables.items()]
        return b.add("rope", ["x"], weights, heads=3, head_dim=12, interleaved=interleaved)

    return Case(f"rope/{interleaved}", x, build)


def _tree() -> Case:
    """Two trees of all six comparisons."""
    x = np.round(floats("tree", 40, 3, low=124, high=128) * np.float32(2)) / np.float32(2)
    tables: Mapping[str, Sequence[int]] = {
        "mode": [0, 1, 2, 6, 6, 6, 6, 3, 4, 5, 6, 6, 6, 6],
        "feature": [0, 1, 2, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0],
        "yes": [1, 3, 5, 0, 1, 2, 3, 8, 10, 12, 4, 5, 6, 7],
        "no": [2, 4, 6, 0, 0, 0, 0, 9, 11, 13, 0, 0, 0, 0],
    }

    def build(b: Builder) -> str:
        made = {name: b.weight(name, np.array(table, np.int32)) for name, table in tables.items()}
        threshold = b.weight("threshold", np.array([0.5, -0.5, 1] * 4 + [0, 0], np.float32))
        roots = b.weight("roots", np.array([0, 7], np.int32))
        weights = [made["feature"], threshold, made["mode"], made["yes"], made["no"], roots]
        return b.add("tree_leaves", ["x"], weights, features=3)

    return Case("tree_leaves/all", x, build)


def _tables() -> list[Case]:
    x = floats("tables", 7, 5, low=120, high=130)
    table = np.concatenate([x, np.full((1, 5), -0.0, np.float32)])
    ids = (np.arange(12).reshape(4, 3) % 8).astype(np.int32)
    names = words("tables/names", 10).view(np.int64)

    def named(b: Builder) -> str:
        return b.add("take", [b.add("argmax", ["x"])], [b.weight("names", names)])

    return [
        Case("embedding/ids", ids, lambda b: b.add("embedding", ["x"], [b.weight("table", table)])),
        Case("position_rows/4", ids, lambda b: b.add("position_rows", ["x"], [b.weight("table", table)])),
        Case("take/names", x, named),
    ]


def _products() -> list[Case]:
    huge = np.abs(floats("huge", 5, 40, low=225, high=226))
    huge[3, 7] = 2.0**100
    left, right = floats("matmul/x", 2, 9, 300, low=110, high=130), floats("matmul/y", 2, 11, 300, low=110, high=130)
    return [
        _linear(17, 384, 120, 130, bias=True),
        _linear(5, 1536, 127, 127, bias=True, positive=True),
        _linear(3, 4096, 127, 127, bias=False, positive=True),
        _linear(4, 40, 1, 30, bias=True),
        _linear(4, 40, 189, 189, bias=False),
        _linear(19, 384, 120, 130, bias=True, grid="lo"),
        _linear(3, 4096, 127, 127, bias=True, positive=True, grid="lo"),
        _linear(1, 33, 100, 140, bias=False, grid="lo"),
        _corner("hi", 512, 3),
        _corner("hi", 2048, 20),
        _corner("lo", 4096, 20),
        _digits("hi"),
        _digits("lo"),
        _twice("hi"),
        _twice("lo"),
        Case("linear/no-grid", huge, lambda b: b.linear("x", "l", np.ones((3, 40), np.float32), None)),
        Case("matmul/2x9x11", left, lambda b: b.matmul("x", "y"), {"y": right}),
        _attention(33, 4, 2, 32, causal=False, spread=9),
        _attention(33, 4, 4, 16, causal=True, spread=9),
        _attention(64, 2, 2, 32, causal=False, spread=0),
        _attention(33, 4, 1, 16, causal=True, spread=9, window=5),
        _attention(33, 2, 2, 16, causal=False, spread=9, masked=True),
        _attention(300, 2, 1, 18, causal=True, spread=9),
        _attention(300, 2, 1, 18, causal=True, spread=9, window=70),
        _masked(),
        _growing(causal=True),
        _growing(causal=False),
        *_lost(),
        _left_out(causal=True),
        _left_out(causal=False),
        _decoded(0),
        _decoded(5),
    ]


def network() -> list[Case]:
    return [*_products(), *_norms(), _turned(0), _turned(1), _tree(), *_tables()]
