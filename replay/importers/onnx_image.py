"""ONNX's operators on images: resize, crop, sample at points. Where a size is fixed, weights are worked out at import in
double precision with + − × ÷ only; the program multiplies and adds in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from replay.importers.onnx_index import pick
from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_shapes import joined_fill
from replay.importers.onnx_value import Call, Rule, Value, fixed, volume
from replay.layout import Array

#: Elements that one output element is made of, along one axis.
MAX_TAPS = 64

Coefficients = Callable[[float, float], list[float]]


# ---- resize ------------------------------------------------------------------------------------------------------------


def _linear(ratio: float, _: float) -> list[float]:
    return [1 - ratio, ratio]


def _cubic_at(x: float, a: float) -> float:
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def _spread(reach: int, weight: Callable[[float], float]) -> Coefficients:
    """Antialiasing: a filter of ``reach`` elements to both sides, made wider where the image shrinks."""

    def coefficients(ratio: float, scale: float) -> list[float]:
        scale = min(scale, 1.0)
        start = math.floor(-reach / scale) + 1
        if 2 - 2 * start > MAX_TAPS:
            raise ValueError
        made = [weight(scale * (place - ratio)) for place in range(start, 2 - start)]
        total = sum(made)
        return [one / total for one in made]

    return coefficients


def _nearest(how: str) -> Coefficients:
    right: Mapping[str, Callable[[float], bool]] = {
        "round_prefer_floor": lambda ratio: ratio > 0.5,
        "round_prefer_ceil": lambda ratio: ratio >= 0.5,
        "floor": lambda ratio: ratio == 1,
        "ceil": lambda _: True,
    }
    return lambda ratio, _: [0.0, 1.0] if ratio == 1 or right[how](ratio) else [1.0, 0.0]


@dataclass(frozen=True)
class Axis:
    """One axis of a resize: sizes before and after, scale, and the part of the input (roi) that is looked at."""

    size: int
    target: int
    scale: float
    first: float
    last: float

    @property
    def width(self) -> float:
        """The size that the scale asks for, of which ``target`` is the whole part."""
        width = self.scale * self.size
        return float(self.target) if abs(width - self.target) < 1e-4 else width

    def source(self, x: int, mode: str) -> float:
        """Where output element x lies in the input."""
        width = self.width
        if mode == "align_corners":
            return 0.0 if width == 1 else x * (self.size - 1) / (width - 1)
        if mode == "asymmetric":
            return x / self.scale
        if mode == "tf_crop_and_resize":
            part = (self.last - self.first) * (self.size - 1)
            return (part / 2 if width == 1 else x * part / (width - 1)) + self.first * (self.size - 1)
        if mode == "pytorch_half_pixel" and width == 1:
            return -0.5
        shift = self.size / 2 * (1 - self.target / width) if mode == "half_pixel_symmetric" else 0.0
        return shift + (x + 0.5) / self.scale - 0.5


def _resized(low: Lowering, value: Value, at: int, index: Array, weights: Array) -> Value:
    """The sum over taps k of weights [target, k] times the elements index [target, k] along axis ``at``."""
    total: Value | None = None
    shape = (index.shape[0], *(1,) * (value.rank - at - 1))
    for place in range(index.shape[1]):
        share = weights[:, place]
        if not share.any():
            continue
        part = low.gather(value, low.constant(index[:, place].copy()), at)
        if (share != 1).any():
            part = low("mul", part, low.constant(share.astype(np.float32).reshape(shape)))
        total = part if total is None else low("add", total, part)
    if total is None:
        raise ValueError
    return total


def _axes(call: Call, value: Value) -> dict[int, Axis]:
    """The axes that change, from scales or sizes."""
    chosen = value.axes(call.ints("axes", range(value.rank)))
    policy = call.text("keep_aspect_ratio_policy", "stretch", "not_larger", "not_smaller")
    roi = call.optional(1)
    # roi counts in one mode only, and is ignored in the others
    parts = [] if roi is None or roi.array is None else [float(item) for item in roi.array.reshape(-1)]
    parts = parts if len(parts) == 2 * len(chosen) else [0.0] * len(chosen) + [1.0] * len(chosen)
    given = call.optional(2)
    sizes = call.optional(3)
    found: dict[int, Axis] = {}
    if given is not None and 0 not in given.shape:
        scales = [float(item) for item in call.constant(2, "the scales").reshape(-1)]
        call.need(len(scales) == len(chosen) and all(0 < s < 2**20 for s in scales), "one positive scale per axis")
        call.need(sizes is None or 0 in sizes.shape, "scales and sizes together")
        for axis, s in zip(chosen, scales, strict=True):
            same = s == 1 or math.floor(value.size(axis) * s) == math.floor(
                np.float32(value.size(axis)) * np.float32(s)
            )
            call.need(same, "a scale that gives one size in single and another in double precision")
        targets = [
            math.floor(value.size(axis) * s) if s != 1 else value.shape[axis]
            for axis, s in zip(chosen, scales, strict=True)
        ]
    else:
        wanted = call.integers(3, "the sizes")
        call.need(len(wanted) == len(chosen) and min(wanted) >= 1, "one size per axis")
        scales = [want / value.size(axis) for want, axis in zip(wanted, chosen, strict=True)]
        targets = list(wanted)
        if policy != "stretch":
            one = min(scales) if policy == "not_larger" else max(scales)
            scales = [one] * len(chosen)
            targets = [math.floor(one * value.size(axis) + 0.5) for axis in chosen]
    for place, axis in enumerate(chosen):
        if (
            scales[place] == 1
            and targets[place] == value.shape[axis]
            and (parts[place], parts[place + len(chosen)]) == (0, 1)
        ):
            continue
        target = fixed(targets[place])
        call.need(target >= 1, "a size of 0")
        found[axis] = Axis(value.size(axis), target, scales[place], parts[place], parts[place + len(chosen)])
    return found


def _resize(call: Call) -> Value:
    low, value = call.low, call.value()
    names = ("pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize", "half_pixel_symmetric")
    mode = call.text("coordinate_transformation_mode", "half_pixel", *names)
    kind = call.text("mode", "nearest", "linear", "cubic")
    wide, outside = call.flag("antialias"), call.flag("exclude_outside")
    nearest = call.text("nearest_mode", "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    a, beyond = call.decimal("cubic_coeff_a", -0.75), call.decimal("extrapolation_value", 0.0)
    call.need(value.rank >= 1 and (kind == "nearest" or value.dtype == "float32"), f"the type {value.dtype}")
    table: Mapping[str, Coefficients] = {
        "nearest": _nearest(nearest),
        "linear": _spread(1, lambda x: max(1 - abs(x), 0.0)) if wide else _linear,
        "cubic": _spread(2, lambda x: _cubic_at(x, a))
        if wide
        else lambda ratio, _: [_cubic_at(place - ratio, a) for place in range(-1, 3)],
    }
    call.need(not (wide and kind == "nearest"), "antialias without interpolation")
    lost: Value | None = None
    for at, axis in _axes(call, value).items():
        low.grow((axis.target, MAX_TAPS))
        rows, index, far = [], [], []
        for x in range(axis.target):
            source = axis.source(x, mode)
            call.need(abs(source) < 2**31, "a place far outside")
            start = math.ceil(source) - 1
            weights = table[kind](source - start, axis.scale)
            places = [start + 1 - len(weights) // 2 + step for step in range(len(weights))]
            if outside:
                weights = [w if 0 <= i < axis.size else 0.0 for w, i in zip(weights, places, strict=True)]
                total = sum(weights)
                weights = [w / total for w in weights]
            rows.append(weights)
            index.append([min(max(place, 0), axis.size - 1) for place in places])
            far.append(mode == "tf_crop_and_resize" and not 0 <= source <= axis.size - 1)
        value = _resized(low, value, at, np.array(index, np.int64), np.array(rows))
        if any(far):
            mask = low.constant(np.array(far).reshape(-1, *(1,) * (value.rank - at - 1)))
            lost = mask if lost is None else low("or", lost, mask)
    return value if lost is None else low.where(lost, low.number(beyond, value.dtype), value)


def _crop_pad(call: Call) -> Value:
    """Cut or padded with zeros on both sides; an odd element falls behind."""
    low, value, wanted = call.low, call.value(), call.integers(1, "the shape")
    axes = value.axes(call.ints("axes", range(value.rank)))
    call.need(len(wanted) == len(axes) and min(wanted) >= 1, "one size per axis")
    for axis, want in zip(axes, wanted, strict=True):
        have = value.size(axis)
        if want < have:
            value = low.slice(value, axis, (have - want) // 2, want)
        else:
            before = (want - have) // 2
            value = joined_fill(low, value, axis, before, want - have - before, None)
    return value


# ---- grids of points ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampler:
    """Reads value [N, C, *S] at points [N, P]; ``padding`` is zeros, border or reflection."""

    low: Lowering
    flat: Value  # [N, C, ΠS]
    sizes: tuple[int, ...]
    padding: str
    corners: bool

    def reflected(self, x: Value, size: int) -> Value:
        """X folded back at both ends until it lies between them."""
        low = self.low
        least, span = (0.0, size - 1.0) if self.corners else (-0.5, float(size))
        if span == 0:
            return low("mul", x, 0)
        away = low("abs", low("sub", x, least))
        turns = low("floor", low("div", away, span))
        rest = low("sub", away, low("mul", turns, span))
        half = low("mul", turns, 0.5)
        odd = low("less", low("floor", half), half)
        return low("add", low.where(odd, low("sub", low.number(span), rest), rest), least)

    def inside(self, x: Value, size: int) -> Value:
        """A coordinate beyond the borders (which lie half an element outside unless corners are aligned) moved by the
        padding: before neighbours are looked for, and each neighbour again."""
        low = self.low
        if self.padding == "zeros":
            return x
        least, most = (0.0, size - 1.0) if self.corners else (-0.5, size - 0.5)
        out = low("or", low("less", x, least), low("less", low.number(most), x))
        if self.padding == "border":
            return low.where(out, low("max", low("min", x, size - 1), 0), x)
        return low.where(out, self.reflected(x, size), x)

    def at(self, places: Sequence[Value]) -> Value:
        """The elements [N, C, P] at whole coordinates (floats), one per axis."""
        low, good = self.low, None
        total = low.number(0, "int64")
        for x, size in zip(places, self.sizes, strict=True):
            held = low("max", low("min", self.inside(x, size), size - 1), 0)
            if self.padding == "zeros":
                within = low("and", low("less_equal", low.number(0), x), low("less_equal", x, float(size - 1)))
                good = within if good is None else low("and", good, within)
            total = low("add", low("mul", total, size), low.cast(low("round", held), "int64"))
        batch, channels = self.flat.shape[:2]
        points = places[0].shape[1]
        index = low.expand(low.reshape(total, (batch, 1, points)), (batch, channels, points))
        found = pick(low, self.flat, index, 2)
        return found if good is None else low.where(low.reshape(good, (batch, 1, points)), found, 0.0)

    def linear(self, points: Sequence[Value]) -> Value:
        return self._blended(points, 0, lambda low, r: [low("sub", low.number(1), r), r])

    def cubic(self, points: Sequence[Value]) -> Value:
        def weights(low: Lowering, r: Value) -> list[Value]:
            """The cubic of a = −0.75 at distances 1 + r, r, 1 − r, 2 − r."""
            made = []
            for place in (-1, 0, 1, 2):
                x = low("sub", r, place) if place < 1 else low("sub", low.number(place), r)
                if place in (0, 1):
                    made.append(low("add", low("mul", low("mul", low("sub", low("mul", x, 1.25), 2.25), x), x), 1))
                else:
                    inner = low("mul", low("sub", low("mul", x, -0.75), -3.75), x)
                    made.append(low("sub", low("mul", low("add", inner, -6), x), -3))
            return made

        return self._blended(points, -1, weights)

    def _blended(self, points: Sequence[Value], first: int, weigh: Callable[[Lowering, Value], list[Value]]) -> Value:
        low = self.low
        base = [low("floor", x) for x in points]
        shares = [weigh(low, low("sub", x, whole)) for x, whole in zip(points, base, strict=True)]
        total: Value | None = None
        for steps in itertools.product(range(len(shares[0])), repeat=len(points)):
            part = self.at([low("add", whole, step + first) for whole, step in zip(base, steps, strict=True)])
            for axis, step in enumerate(steps):
                share = shares[axis][step]
                part = low("mul", part, low.reshape(share, (share.shape[0], 1, share.shape[1])))
            total = part if total is None else low("add", total, part)
        if total is None:
            raise ValueError
        return total


def _grid_sample(call: Call) -> Value:
    low, value, grid = call.low, call.value(0), call.value(1)
    mode = call.text("mode", "linear", "bilinear", "nearest", "cubic", "bicubic")
    padding = call.text("padding_mode", "zeros", "border", "reflection")
    corners, rank = call.flag("align_corners"), value.rank - 2
    call.need(rank >= 1 and value.dtype == grid.dtype == "float32", "wants float32 [N, C, …]")
    call.need(
        grid.rank == rank + 2 and grid.shape[-1] == rank and grid.shape[0] == value.shape[0], "the grid does not fit"
    )
    call.need(rank <= 3 and (rank == 2 or mode not in ("cubic", "bicubic")), f"{mode} on {rank} axes")
    sizes, spots = tuple(value.size(axis) for axis in range(2, value.rank)), grid.shape[1:-1]
    points: list[Value] = []
    for axis, size in enumerate(sizes):
        x = low.reshape(low.slice(grid, -1, rank - 1 - axis, 1), (grid.shape[0], volume(spots)))
        if corners:
            points.append(low("mul", low("div", low("add", x, 1), 2), float(size - 1)))
        else:
            points.append(low("div", low("sub", low("mul", low("add", x, 1), float(size)), 1), 2))
    flat = low.reshape(value, (*value.shape[:2], volume(sizes)))
    sampler = Sampler(low, flat, sizes, padding, corners)
    if mode == "nearest":
        points = [low("round", x) for x in points]
    points = [sampler.inside(x, n) for x, n in zip(points, sizes, strict=True)]
    made = {"nearest": sampler.at, "cubic": sampler.cubic, "bicubic": sampler.cubic}.get(mode, sampler.linear)(points)
    return low.reshape(made, (*value.shape[:2], *spots))


def _affine_grid(call: Call) -> Value:
    """Theta [N, d, d + 1] times the points of a regular grid: [N, *S, d]."""
    low, theta, shape = call.low, call.value(0), call.integers(1, "the size")
    corners, rank = call.flag("align_corners"), len(shape) - 2
    call.need(rank in (2, 3) and theta.shape == (shape[0], rank, rank + 1) and min(shape) >= 1, "sizes do not fit")
    sizes = shape[2:]
    low.grow((*sizes, rank + 1))
    steps = []
    for n in sizes:
        places = np.arange(n) * 2.0
        steps.append(places / max(n - 1, 1) - 1 if corners else (places + 1) / n - 1)
    planes = np.meshgrid(*steps, indexing="ij")[::-1]
    points = np.stack([*planes, np.ones(sizes)], axis=-1).astype(np.float32).reshape(-1, rank + 1)
    made = low.linear(theta, points)  # [N, d, P]
    return low.reshape(low.transpose(made, (0, 2, 1)), (shape[0], *sizes, rank))


RULES: Mapping[str, Rule] = {
    "AffineGrid": Rule(_affine_grid, 20),
    "CenterCropPad": Rule(_crop_pad, 18),
    "GridSample": Rule(_grid_sample, 16),
    "Resize": Rule(_resize, 11),
}
