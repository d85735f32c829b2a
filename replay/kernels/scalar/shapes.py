"""Moving elements: for each element of the result, the place in the source that it comes from.

A *map* is a list of flat places; None stands for what the source does not hold (padding, or an index out of range).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from replay.errors import NonFinite
from replay.kernels.scalar.tensor import Call, Kind, Tensor, signed

Shape = Sequence[int]


def strides(shape: Shape) -> list[int]:
    """How far apart neighbours along each axis lie in a row-major tensor."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def places(shape: Shape) -> Iterator[tuple[int, ...]]:
    """Every index of a shape, row-major."""
    return itertools.product(*map(range, shape))


def flat(place: Iterable[int], steps: Iterable[int]) -> int:
    return sum(index * step for index, step in zip(place, steps, strict=True))


def broadcast_shape(*shapes: Shape) -> tuple[int, ...]:
    """The shape to which all stretch."""
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    return tuple(max(dims) for dims in zip(*padded, strict=True))


def broadcast_map(shape: Shape, to: Shape) -> list[int]:
    """Aligned at the last dimension; a 1 or an absent dimension stretches."""
    steps = [0 if dim == 1 else step for dim, step in zip(shape, strides(shape), strict=True)]
    steps = [0] * (len(to) - len(shape)) + steps
    return [flat(place, steps) for place in places(to)]


def transpose_map(shape: Shape, perm: Sequence[int]) -> list[int]:
    steps = strides(shape)
    return [flat(place, [steps[axis] for axis in perm]) for place in places([shape[axis] for axis in perm])]


def slice_map(shape: Shape, axis: int, start: int, count: int, step: int) -> list[int]:
    steps, taken = strides(shape), (*shape[:axis], count, *shape[axis + 1 :])
    first, steps[axis] = start * steps[axis], step * steps[axis]
    return [first + flat(place, steps) for place in places(taken)]


def pad_map(shape: Shape, before: Sequence[int], after: Sequence[int]) -> list[int | None]:
    steps = strides(shape)
    padded = [low + dim + high for dim, low, high in zip(shape, before, after, strict=True)]
    moved = ([index - low for index, low in zip(place, before, strict=True)] for place in places(padded))
    return [flat(place, steps) if _inside(place, shape) else None for place in moved]


def _inside(place: Iterable[int], shape: Shape) -> bool:
    return all(0 <= index < dim for index, dim in zip(place, shape, strict=True))


def windows_shape(
    shape: Shape, kernel: Shape, stride: Shape, dilation: Shape, before: Shape, after: Shape
) -> tuple[int, ...]:
    """[N, C, *S] → [N, C, *O, k]."""
    sizes = zip(shape[2:], kernel, stride, dilation, before, after, strict=True)
    out = [(dim + low + high - (k - 1) * d - 1) // s + 1 for dim, k, s, d, low, high in sizes]
    return (*shape[:2], *out, math.prod(kernel))


def windows_map(
    shape: Shape, kernel: Shape, stride: Shape, dilation: Shape, before: Shape, after: Shape
) -> list[int | None]:
    """Element (n, c, o, i) reads o·stride + i·dilation − before."""
    *outer, _ = windows_shape(shape, kernel, stride, dilation, before, after)
    steps, found = strides(shape), list[int | None]()
    for n, c, *o in places(outer):
        for i in places(kernel):
            at = [a * s + b * d - low for a, s, b, d, low in zip(o, stride, i, dilation, before, strict=True)]
            place = (n, c, *at)
            found.append(flat(place, steps) if _inside(place, shape) else None)
    return found


def gather_map(shape: Shape, axis: int, index: Sequence[int]) -> list[int | None]:
    """Whole slices along ``axis``, chosen by the flat ``index``."""
    inner, size = math.prod(shape[axis + 1 :]), shape[axis]
    return [
        (outer * size + chosen) * inner + place if 0 <= chosen < size else None
        for outer in range(math.prod(shape[:axis]))
        for chosen in index
        for place in range(inner)
    ]


def elements_map(shape: Shape, axis: int, index_shape: Shape, index: Sequence[int]) -> list[int | None]:
    """Single elements: where each entry of ``index`` lies in the source, its own axis replaced by what it says."""
    steps, found = strides(shape), list[int | None]()
    for place, chosen in zip(places(index_shape), index, strict=True):
        at = (*place[:axis], chosen, *place[axis + 1 :])
        found.append(flat(at, steps) if 0 <= chosen < shape[axis] else None)
    return found


def moved(source: Tensor, shape: Shape, sources: Sequence[int | None], value: int | None = None) -> Tensor:
    """The elements at ``sources``. ``value`` stands where there is none; without one that is not finite."""
    data: list[int] = []
    for place in sources:
        item = value if place is None else source.data[place]
        if item is None:
            raise NonFinite(len(data))
        data.append(item)
    return Tensor(source.dtype, tuple(shape), data)


# ---- the operators ---------------------------------------------------------------------------------------------------


def constant(call: Call) -> Tensor:
    return call.weights[0]


def reshape(call: Call) -> Tensor:
    (x,) = call.values
    return Tensor(x.dtype, call.shape(), x.data)


def transpose(call: Call) -> Tensor:
    (x,), perm = call.values, call.op.integers("perm")
    return moved(x, [x.shape[axis] for axis in perm], transpose_map(x.shape, perm))


def expand(call: Call) -> Tensor:
    (x,), shape = call.values, call.shape()
    return moved(x, shape, broadcast_map(x.shape, shape))


def slice_(call: Call) -> Tensor:
    (x,), op = call.values, call.op
    axis, count = op.integer("axis"), op.integer("count")
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return moved(x, shape, slice_map(x.shape, axis, op.integer("start"), count, op.integer("step")))


def concat(call: Call) -> Tensor:
    axis, first = call.op.integer("axis"), call.values[0]
    data: list[int] = []
    for outer in range(math.prod(first.shape[:axis])):
        for x in call.values:
            run = math.prod(x.shape[axis:])
            data += x.data[outer * run : (outer + 1) * run]
    total = sum(x.shape[axis] for x in call.values)
    return Tensor(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]), data)


def _filler(call: Call) -> int:
    return signed(call.bits("value"), call.values[0].dtype)


def pad(call: Call) -> Tensor:
    (x,), before, after = call.values, call.op.integers("before"), call.op.integers("after")
    shape = [low + dim + high for dim, low, high in zip(x.shape, before, after, strict=True)]
    return moved(x, shape, pad_map(x.shape, before, after), _filler(call))


def windows(call: Call) -> Tensor:
    (x,) = call.values
    lists = [call.op.integers(name) for name in ("kernel", "strides", "dilations", "before", "after")]
    return moved(x, windows_shape(x.shape, *lists), windows_map(x.shape, *lists), _filler(call))


def gather(call: Call) -> Tensor:
    (x, index), axis = call.values, call.op.integer("axis")
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return moved(x, shape, gather_map(x.shape, axis, index.data))


def gather_elements(call: Call) -> Tensor:
    (x, index), axis = call.values, call.op.integer("axis")
    return moved(x, index.shape, elements_map(x.shape, axis, index.shape, index.data))


def scatter_elements(call: Call) -> Tensor:
    """Updates in row-major order; the last one stays."""
    (x, index, updates), axis = call.values, call.op.integer("axis")
    data = list(x.data)
    for place, item in zip(elements_map(x.shape, axis, index.shape, index.data), updates.data, strict=True):
        if place is None:
            raise NonFinite(0)
        data[place] = item
    return Tensor(x.dtype, x.shape, data)


KINDS: Mapping[str, Kind] = {
    "constant": constant,
    "reshape": reshape,
    "transpose": transpose,
    "expand": expand,
    "slice": slice_,
    "concat": concat,
    "pad": pad,
    "windows": windows,
    "gather": gather,
    "gather_elements": gather_elements,
    "scatter_elements": scatter_elements,
}
