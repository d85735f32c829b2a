"""The known-answer programs: one operator each, or a few, at worst-case magnitudes.

Inputs come from a SHA-256 counter stream, so that no random number generator stands between two machines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import numpy as np

from replay.importers.build import Builder
from replay.kernels import spec
from replay.layout import Array
from replay.operators.arithmetic import FUNCTIONS


@dataclass(frozen=True, slots=True)
class Case:
    """``x``: the input of that name; ``build``: adds operators and returns the output's value; ``more``: further inputs."""

    name: str
    x: Array
    build: Callable[[Builder], str]
    more: Mapping[str, Array] = field(default_factory=dict)
    grid: str = spec.GRIDS[0]

    @property
    def inputs(self) -> dict[str, Array]:
        return {"x": self.x, **self.more}


def words(label: str, *shape: int) -> Array:
    """uint32 numbers of this shape from the SHA-256 counter stream of ``label``."""
    count = int(np.prod(shape))
    blocks = [sha256(f"known/1/{label}/{block}".encode()).digest() for block in range(-(-count // 8))]
    return np.frombuffer(b"".join(blocks), "<u4")[:count].reshape(shape)


def floats(label: str, *shape: int, low: int, high: int) -> Array:
    """float32 of both signs, biased exponents uniform in [low, high], mantissas uniform."""
    raw = words(label, *shape)
    exponent = low + (words(f"{label}/exponent", *shape) >> np.uint32(8)) % np.uint32(high - low + 1)
    bits = (raw & np.uint32(0x807FFFFF)) | (exponent.astype(np.uint32) << np.uint32(23))
    return bits.astype(np.uint32).view(np.float32)


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
    top = np.uint32(0x3FFFFFFF).view(np.float32)
    weight = np.full((24, length), top)
    weight[8:16] = -top
    weight[16:, ::2] = -top
    x = np.full((rows, length), top)
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


def _plain(kind: str, label: str, x: Array) -> Case:
    return Case(f"{kind}/{label}", x, lambda b: b.add(kind, ["x"]))


def special() -> Array:
    """Every awkward finite float32: zeros of both signs, subnormals, powers of two, limits, halves."""
    bits = [0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0x7F7FFFFF, 0x71800000, 0x717FFFFF]
    bits += [exponent << 23 | mantissa for exponent in range(100, 140) for mantissa in (0, 1, 0x400000, 0x7FFFFF)]
    both = np.array([*bits, *(value | 0x80000000 for value in bits)], np.uint32)
    return both.view(np.float32).reshape(-1, 2)


def _functions() -> list[Case]:
    x = np.concatenate([floats("functions", 999, 2, low=100, high=135), special()])
    tame = np.clip(x, np.float32(-1e25), np.float32(1e25))
    small = np.clip(x, np.float32(-80), np.float32(80))
    above = np.abs(x) + np.float32(1e-30)
    special_inputs = {"exp": small, "sqrt": above, "log": above, "sin": small, "cos": small, "tan": small}
    return [
        *(_plain(kind, "special", special_inputs.get(kind, tame)) for kind in FUNCTIONS),
        *(_plain(kind, "refused", tame) for kind in ("exp", "sqrt", "log", "sin", "tan")),
        *(_plain(kind, "special", x) for kind in ("neg", "abs", "sign")),
        *(_plain(kind, "wide", floats(kind, 33, 77, low=110, high=131)) for kind in ("softmax", "log_softmax")),
        _plain("softmax", "masked", np.where(words("softmax/m", 5, 40) % 3 == 0, np.float32(-3.4e38), np.float32(1))),
        _plain("argmax", "ties", np.round(floats("argmax", 64, 9, low=126, high=128))),
        _plain("argmin", "ties", np.round(floats("argmax", 64, 9, low=126, high=128))),
        Case(
            "sample_weights/wide",
            floats("sample", 9, 300, low=110, high=131),
            lambda b: b.add("sample_weights", ["x"], scale=spec.f64_hex(1.8033688011112043)),
        ),
    ]


def _pair(kind: str, label: str, x: Array, y: Array) -> Case:
    return Case(f"{kind}/{label}", x, lambda b: b.add(kind, ["x", "y"]), {"y": y})


def _integers(label: str, dtype: str) -> Array:
    raw = words(label, 60, 2 if dtype == "int64" else 1).view(dtype).reshape(-1)
    limits = np.iinfo(dtype)
    return np.concatenate([raw, np.array([0, 1, -1, 2, -2, 7, -7, limits.min, limits.max], dtype)]).reshape(-1, 3)


def _pairs() -> list[Case]:
    x, y = floats("pairs/x", 40, 5, low=100, high=150), floats("pairs/y", 5, low=120, high=135)
    found = [_pair(kind, "float32", x, y) for kind in ("add", "sub", "mul", "div", "max", "min", "less", "equal")]
    found += [_pair("less_equal", "float32", x, x[::-1].copy()), _pair("pow", "float32", np.abs(x) + np.float32(1), y)]
    found.append(_pair("pow", "whole", -np.abs(np.clip(x, -9, 9)), np.round(np.clip(y, -5, 5))))
    for dtype in ("int32", "int64"):
        a, b = _integers(f"integers/{dtype}/a", dtype), _integers(f"integers/{dtype}/b", dtype)[::-1].copy()
        b_safe = np.where(b == 0, np.array(3, dtype), b)
        kinds = ("add", "sub", "mul", "max", "min", "less", "equal", "bit_and", "bit_or", "bit_xor")
        found += [_pair(kind, dtype, a, b) for kind in kinds]
        found += [_pair(kind, dtype, a, b_safe) for kind in ("div", "mod", "fmod")]
        found += [_pair("div", f"{dtype}/zero", a, b), _pair("pow", dtype, a, np.abs(b % 9))]
    truth = words("truth", 24).reshape(4, 6) % 2 == 0
    found += [_pair(kind, "bool", truth, truth[:, ::-1].copy()) for kind in ("and", "or", "xor")]
    where = Case("where/float32", truth, lambda b: b.add("where", ["x", "y", "z"]), {"y": x[:4, :1], "z": x[0, :1]})
    return [*found, where]


def _casts() -> list[Case]:
    inside = np.array([[0.5, -0.5, 1.5, -2147483648.0, 2147483520.0, 3e-45, -0.0]], np.float32)
    outside = np.array([[0.0, 2147483648.0, 1.0]], np.float32)
    wide = _integers("casts", "int64")
    return [
        Case("cast/inside", inside, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/outside", outside, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/outside64", outside * np.float32(2.0**40), lambda b: b.add("cast", ["x"], to="int64")),
        Case("cast/wraps", wide, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/rounds", wide, lambda b: b.add("cast", ["x"], to="float32")),
        Case("cast/bool", inside, lambda b: b.add("cast", ["x"], to="bool")),
    ]


def _top(kind: str, largest: int, b: Builder) -> str:
    return b.add(kind, ["x"], k=6, largest=largest)


def _reduced(kind: str, b: Builder) -> str:
    return b.reduce(kind, "x")


def _reductions() -> list[Case]:
    x = floats("reductions", 7, 1000, low=90, high=140)
    small = floats("reductions/prod", 7, 30, low=125, high=128)
    whole = _integers("reductions/int64", "int64")
    found = [Case(f"{kind}/wide", x, partial(_reduced, kind)) for kind in ("reduce_sum", "reduce_mean")]
    found += [_plain(kind, "wide", x) for kind in ("reduce_max", "reduce_min")]
    found.append(_plain("reduce_prod", "short", small))
    found.append(Case("cumsum/0", x, lambda b: b.reduce("cumsum", "x", exclusive=1, reverse=0)))
    found.append(Case("cumsum/1", x, lambda b: b.reduce("cumsum", "x", exclusive=0, reverse=1)))
    found.append(Case("reduce_sum/int64", whole, lambda b: b.reduce("reduce_sum", "x")))
    ties = np.round(floats("top", 20, 15, low=126, high=129))
    for largest in (0, 1):
        for kind in ("top_values", "top_indices"):
            found.append(Case(f"{kind}/{largest}", ties, partial(_top, kind, largest)))
    return found


def _moves() -> list[Case]:
    x = floats("moves", 2, 3, 7, 8, low=100, high=130)
    index = np.array([[6, 0], [3, 3]], np.int64)
    lanes = (words("moves/lanes", 2, 3, 4, 8) % 7).astype(np.int32)

    def seen(b: Builder) -> str:
        return b.add(
            "windows",
            ["x"],
            kernel=(3, 2),
            strides=(2, 1),
            dilations=(1, 2),
            before=(1, 0),
            after=(2, 3),
            value="ff7fffff",
        )

    return [
        Case("slice/back", x, lambda b: b.add("slice", ["x"], axis=2, start=6, count=3, step=-2)),
        Case("concat/2", x, lambda b: b.add("concat", ["x", "x"], axis=1)),
        Case("pad/1", x, lambda b: b.add("pad", ["x"], before=(0, 1, 0, 2), after=(1, 0, 0, 3), value="c0000000")),
        Case("windows/2d", x, seen),
        Case("gather/2", x, lambda b: b.add("gather", ["x", "i"], axis=2), {"i": index}),
        Case("gather/outside", x, lambda b: b.add("gather", ["x", "i"], axis=2), {"i": index + 1}),
        Case("gather_elements/2", x, lambda b: b.add("gather_elements", ["x", "i"], axis=2), {"i": lanes}),
        Case(
            "scatter_elements/2",
            x,
            lambda b: b.add("scatter_elements", ["x", "i", "u"], axis=2),
            {"i": lanes, "u": x[:, :, :4].copy()},
        ),
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


def _norms() -> list[Case]:
    x = floats("rms", 9, 384, low=100, high=130)
    gain = floats("rms/g", 384, low=120, high=128)
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
        Case("l2_normalise/wide", floats("l2", 5, 384, low=90, high=128), lambda b: b.l2_normalise("x")),
        Case("mean_tokens/wide", floats("mean", 129, 50, low=90, high=128), lambda b: b.mean_tokens("x")),
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
        Case("linear/no-grid", huge, lambda b: b.linear("x", "l", np.ones((3, 40), np.float32), None)),
        Case("matmul/2x9x11", left, lambda b: b.matmul("x", "y"), {"y": right}),
        _attention(33, 4, 2, 32, causal=False, spread=9),
        _attention(33, 4, 4, 16, causal=True, spread=9),
        _attention(64, 2, 2, 32, causal=False, spread=0),
        _attention(33, 4, 1, 16, causal=True, spread=9, window=5),
        _attention(33, 2, 2, 16, causal=False, spread=9, masked=True),
        _masked(),
    ]


def cases() -> list[Case]:
    """All known-answer programs."""
    tiny = np.array([[1, 0x80000001, 0x7FFFFF, 0x807FFFFF, 0x80000000, 0]], np.uint32).view(np.float32)
    return [
        *_products(),
        *_norms(),
        _turned(0),
        _turned(1),
        _tree(),
        *_functions(),
        *_pairs(),
        *_casts(),
        *_reductions(),
        *_moves(),
        Case("subnormal/add", tiny, lambda b: b.add("add", ["x", "x"])),
        Case(
            "subnormal/mul",
            tiny * np.float32(2.0**24),
            lambda b: b.add("mul", ["x"], [b.weight("w", np.full(6, 2.0**-20, np.float32))]),
        ),
        Case("overflow/mul", special(), lambda b: b.add("mul", ["x", "x"])),
        Case("div/zero", tiny, lambda b: b.add("div", ["x", "x"])),
    ]
