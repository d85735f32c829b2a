"""The known-answer programs: one operator each, or a few, at worst-case magnitudes.

Those of the network operators stand in ``known_network``; here are functions, operands, reductions and moves.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from replay.importers.build import Builder
from replay.kernels import spec
from replay.kernels.known_inputs import Case, floats, special, words
from replay.kernels.known_network import TOP, network
from replay.layout import Array
from replay.operators.arithmetic import FUNCTIONS

__all__ = ["Case", "cases", "floats", "special", "words"]


def _plain(kind: str, label: str, x: Array) -> Case:
    return Case(f"{kind}/{label}", x, lambda b: b.add(kind, ["x"]))


def _functions() -> list[Case]:
    x = np.concatenate([floats("functions", 999, 2, low=100, high=135), special()])
    tame = np.clip(x, np.float32(-1e25), np.float32(1e25))
    small = np.clip(x, np.float32(-80), np.float32(80))
    above = np.abs(x) + np.float32(1e-30)
    limit = np.finfo(np.float32).max
    # three of Newton's steps would not do
    steps = np.array([[0x35257D67, 0x4E7DB347, 0x4477174F, 0x456D8520]], np.uint32).view(np.float32)
    special_inputs = {"exp": small, "sqrt": above, "log": above, "sin": small, "cos": small, "tan": small}
    return [
        *(_plain(kind, "special", special_inputs.get(kind, tame)) for kind in FUNCTIONS),
        _plain("sqrt", "steps", steps),
        _plain(
            "log", "order", np.array([0x6F31A8EC], np.uint32).view(np.float32)
        ),  # of the three sums, to the last bit
        _plain("log", "zero", np.array([1, 0], np.float32)),
        _plain("sin", "last", np.array([2.0**18, -(2.0**18)], np.float32)),
        *(_plain(kind, "refused", tame) for kind in ("exp", "sqrt", "log", "sin", "tan")),
        *(_plain(kind, "special", x) for kind in ("neg", "abs", "sign")),
        *(_plain(kind, "wide", floats(kind, 33, 77, low=110, high=131)) for kind in ("softmax", "log_softmax")),
        _plain("softmax", "masked", np.where(words("softmax/m", 5, 40) % 3 == 0, np.float32(-3.4e38), np.float32(1))),
        # the difference of the two is −Inf: its weight is the smallest that there is, its logarithm has no value
        *(_plain(kind, "apart", np.array([[limit, -limit, 1.0]], np.float32)) for kind in ("softmax", "log_softmax")),
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


def _powers() -> list[Case]:
    """Whatever a rule of its own says of a power."""
    base = np.array([0, -0.0, 1, -1, -2, 2, 1.5, -1.5], np.float32)[:, None]
    exponent = np.array([0, -0.0, 1, 2, 3, 2.0**24 - 1, 2.0**24, 1e30], np.float32)
    signs, tame = np.array([[-1.0], [1.0]], np.float32), base[2:]
    return [
        _pair("pow", "corners", base, exponent[:5]),
        _pair("pow", "signs", signs, np.concatenate([exponent, -exponent])),
        _pair("pow", "inverse", tame, -exponent[:5]),
        _pair("pow", "roots", np.abs(base), np.array([0.5, 1 / 3, 1.25], np.float32)),
        _pair("pow", "pole", base, np.array([1, -1], np.float32)),
        _pair("pow", "complex", tame, np.array([2, 0.5], np.float32)),
        _pair("pow", "overflow", tame, np.array([1, 1e30], np.float32)),
        _pair("pow", "int32/inverse", np.array([1, 2], np.int32), np.array([[0], [-1]], np.int32)),
    ]


def _pairs() -> list[Case]:
    x, y = floats("pairs/x", 40, 5, low=100, high=150), floats("pairs/y", 5, low=120, high=135)
    found = [_pair(kind, "float32", x, y) for kind in ("add", "sub", "mul", "div", "max", "min", "less", "equal")]
    found += [_pair("less_equal", "float32", x, x[::-1].copy()), _pair("pow", "float32", np.abs(x) + np.float32(1), y)]
    found.append(_pair("pow", "whole", -np.abs(np.clip(x, -9, 9)), np.round(np.clip(y, -5, 5))))
    found += _powers()
    for dtype in ("int32", "int64"):
        a, b = _integers(f"integers/{dtype}/a", dtype), _integers(f"integers/{dtype}/b", dtype)[::-1].copy()
        b_safe = np.where(b == 0, np.array(3, dtype), b)
        kinds = ("add", "sub", "mul", "max", "min", "less", "equal", "bit_and", "bit_or", "bit_xor")
        found += [_pair(kind, dtype, a, b) for kind in kinds]
        found += [_pair(kind, dtype, a, b_safe) for kind in ("div", "mod", "fmod")]
        found += [_pair("div", f"{dtype}/zero", a, b), _pair("pow", dtype, a, np.abs(b % 9))]
    truth = words("truth", 24).reshape(4, 6) % 2 == 0
    found += [_pair(kind, "bool", truth, truth[:, ::-1].copy()) for kind in ("and", "or", "xor")]
    found += [_plain("not", "bool", truth), _plain("bit_not", "int64", _integers("integers/not", "int64"))]
    zeros = minus_zero()
    found.append(Case("where/minus", zeros, lambda b: b.add("where", [b.add("less", ["x", "x"]), "x", "x"])))
    where = Case("where/float32", truth, lambda b: b.add("where", ["x", "y", "z"]), {"y": x[:4, :1], "z": x[0, :1]})
    return [*found, where]


def _casts() -> list[Case]:
    inside = np.array([[0.5, -0.5, 1.5, -2147483648.0, 2147483520.0, 3e-45, -0.0]], np.float32)
    outside = np.array([[0.0, 2147483648.0, 1.0]], np.float32)
    wide = _integers("casts", "int64")
    # by way of fp64 the last bit is lost, and then the tie falls the other way
    once = (np.int64(1) << np.arange(54, 63)).reshape(3, 3)
    once = once + (once >> 24) + 1
    return [
        Case("cast/inside", inside, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/outside", outside, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/outside64", outside * np.float32(2.0**40), lambda b: b.add("cast", ["x"], to="int64")),
        Case("cast/wraps", wide, lambda b: b.add("cast", ["x"], to="int32")),
        Case("cast/rounds", wide, lambda b: b.add("cast", ["x"], to="float32")),
        Case("cast/rounds once", once, lambda b: b.add("cast", ["x"], to="float32")),
        Case("cast/widens", wide.view(np.int32), lambda b: b.add("cast", ["x"], to="int64")),
        Case("cast/minus", minus_zero(), lambda b: b.add("cast", ["x"], to="float32")),
        Case("cast/bool", inside, lambda b: b.add("cast", ["x"], to="bool")),
    ]


def minus_zero() -> Array:
    return np.array([[0.0, -0.0, 1.0]], np.float32)


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
    full = np.where(np.arange(2)[:, None] == 0, TOP, -TOP) * np.ones((2, 1024), np.float32)
    found += [Case(f"{kind}/full", full, partial(_reduced, kind)) for kind in ("reduce_sum", "reduce_mean")]
    found.append(Case("reduce_sum/int32", _integers("reductions/int32", "int32"), partial(_reduced, "reduce_sum")))
    found += [_plain(kind, "int64", whole) for kind in ("argmax", "argmin", "reduce_max", "reduce_prod")]
    found.append(_plain("reduce_prod", "short", small))
    found.append(Case("cumsum/0", x, lambda b: b.reduce("cumsum", "x", exclusive=1, reverse=0)))
    found.append(Case("cumsum/1", x, lambda b: b.reduce("cumsum", "x", exclusive=0, reverse=1)))
    found.append(Case("reduce_sum/int64", whole, lambda b: b.reduce("reduce_sum", "x")))
    ties = np.round(floats("top", 20, 15, low=126, high=129))
    many = np.round(floats("top/many", 5, 200, low=125, high=127))  # long enough for a sort that is not stable to show
    found.append(Case("top_values/minus", minus_zero(), lambda b: b.add("top_values", ["x"], k=2, largest=0)))
    for largest in (0, 1):
        for kind in ("top_values", "top_indices"):
            found.append(Case(f"{kind}/{largest}", ties, partial(_top, kind, largest)))
        found.append(Case(f"top_indices/{largest}/many", many, partial(_top, "top_indices", largest)))
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

    minus = minus_zero()  # moved as it is
    return [
        Case("transpose/minus", minus, lambda b: b.add("transpose", ["x"], perm=(1, 0))),
        Case("transpose/4", x, lambda b: b.add("transpose", ["x"], perm=(2, 0, 3, 1))),
        Case("reshape/minus", minus, lambda b: b.add("reshape", ["x"], shape=(3, 1))),
        Case("expand/minus", minus, lambda b: b.add("expand", ["x"], shape=(2, 2, 3))),
        Case("constant/minus", minus, lambda b: b.add("concat", ["x", b.constant("w", minus)], axis=0)),
        Case("slice/back", x, lambda b: b.add("slice", ["x"], axis=2, start=6, count=3, step=-2)),
        Case("concat/2", x, lambda b: b.add("concat", ["x", "x"], axis=1)),
        Case("pad/1", x, lambda b: b.add("pad", ["x"], before=(0, 1, 0, 2), after=(1, 0, 0, 3), value="c0000000")),
        Case("windows/2d", x, seen),
        Case("gather/2", x, lambda b: b.add("gather", ["x", "i"], axis=2), {"i": index}),
        Case("gather/outside", x, lambda b: b.add("gather", ["x", "i"], axis=2), {"i": index + 1}),
        Case("gather/below", x, lambda b: b.add("gather", ["x", "i"], axis=2), {"i": index - 1}),
        Case("gather_elements/2", x, lambda b: b.add("gather_elements", ["x", "i"], axis=2), {"i": lanes}),
        Case(
            "scatter_elements/2",
            x,
            lambda b: b.add("scatter_elements", ["x", "i", "u"], axis=2),
            {"i": lanes, "u": x[:, :, :4].copy()},
        ),
    ]


def cases() -> list[Case]:
    """All known-answer programs."""
    tiny = np.array([[1, 0x80000001, 0x7FFFFF, 0x807FFFFF, 0x80000000, 0]], np.uint32).view(np.float32)
    return [
        *network(),
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
