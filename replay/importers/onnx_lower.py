"""The language in which rules are written: tensors in, tensors out, operators and constants behind them.

Operators on constants of integers or bools, and those that only move elements, are done at once, by the NumPy kernels,
exactly: that is how shapes computed in a graph become fixed. Float arithmetic is left to the program.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from replay.errors import MalformedFile, ProgramError
from replay.importers.onnx_collect import MAX_FOLDED_TOTAL, Collector
from replay.importers.onnx_file import FILE
from replay.importers.onnx_value import Value, broadcast, count, fixed, volume
from replay.kernels import spec
from replay.layout import Array
from replay.operators import Attribute, Dim, DType

#: Operands may change places.
_COMMUTATIVE = frozenset(("add", "mul", "max", "min", "equal", "and", "or", "xor", "bit_and", "bit_or", "bit_xor"))


class Lowering(Collector):
    """Tensors in, tensors out: every method takes and gives ``Value``; a mistake raises ``ProgramError``."""

    def elementwise(self, kind: str, *values: Value, **attributes: Attribute) -> Value:
        """Operands broadcast as ONNX has it."""
        shape = broadcast(*(value.shape for value in values))
        known = self.fold(kind, values, shape, **attributes)
        if known is not None:
            return known
        if len(values) == 1 and values[0].array is None and self.type(values[0]).dtype == values[0].dtype:
            return self.held(self.apply(kind, [values[0].name], (), **attributes), shape)
        first, *rest = values
        if len(values) == 2 and first.array is not None and rest[0].array is None and kind in _COMMUTATIVE:
            first, rest = rest[0], [first]
        if len(rest) == 1 and rest[0].array is not None:
            name = self.apply(kind, [self.real(first)], [self.weight(rest[0].array)], **attributes)
        else:
            name = self.apply(kind, [self.real(value) for value in (first, *rest)], (), **attributes)
        return self.held(name, shape)

    def __call__(self, kind: str, *values: Value | float, **attributes: Attribute) -> Value:
        """``elementwise``; plain numbers take the dtype of the first tensor."""
        first = next(value for value in values if isinstance(value, Value))
        return self.elementwise(
            kind, *(v if isinstance(v, Value) else self.number(v, first.dtype) for v in values), **attributes
        )

    def cast(self, value: Value, dtype: DType) -> Value:
        if value.dtype == dtype:
            return value
        if value.array is None and (value.dtype, dtype) == ("int32", "int64"):
            return Value(value.shape, dtype, value.name)
        if value.array is None and (value.dtype, dtype) == ("int64", "int32") and self.type(value).dtype == "int32":
            return Value(value.shape, dtype, value.name)
        return self.elementwise("cast", value, to=dtype)

    def where(self, condition: Value, yes: Value | float, no: Value | float) -> Value:
        given = next((value for value in (yes, no) if isinstance(value, Value)), None)
        dtype: DType = "float32" if given is None else given.dtype
        parts = [v if isinstance(v, Value) else self.number(v, dtype) for v in (yes, no)]
        return self.elementwise("where", condition, *parts)

    # ---- shapes --------------------------------------------------------------------------------------------------------

    def reshape(self, value: Value, shape: Sequence[Dim]) -> Value:
        """The same elements in the same order."""
        if count(value.shape) != count(shape):
            raise ProgramError(f"{list(value.shape)} does not reshape to {list(shape)}")
        if value.array is not None:
            return self.constant(value.array.reshape([fixed(dim) for dim in shape]))
        return Value(tuple(shape), value.dtype, value.name)

    def transpose(self, value: Value, perm: Sequence[int]) -> Value:
        if sorted(perm) != list(range(value.rank)):
            raise ProgramError(f"{list(perm)} does not permute {value.rank} axes")
        shape = tuple(value.shape[axis] for axis in perm)
        wide = [axis for axis in perm if value.shape[axis] != 1]
        if wide == sorted(wide):
            return self.reshape(value, shape)
        if value.array is not None:
            self.grow(value.shape, MAX_FOLDED_TOTAL)
            return self.constant(np.ascontiguousarray(value.array.transpose(perm)))
        return self.held(self.apply("transpose", [self.real(value)], perm=tuple(perm)))

    def moved(self, value: Value, source: int, target: int) -> Value:
        """One axis taken out and put in elsewhere."""
        order = [axis for axis in range(value.rank) if axis != source]
        order.insert(target, source)
        return self.transpose(value, order)

    def expand(self, value: Value, shape: Sequence[Dim]) -> Value:
        shape = tuple(shape)
        if value.shape == shape:
            return value
        if broadcast(value.shape, shape) != shape:
            raise ProgramError(f"{list(value.shape)} does not expand to {list(shape)}")
        if count(value.shape) == count(shape):
            return self.reshape(value, shape)
        if value.array is not None and all(isinstance(dim, int) for dim in shape):
            self.grow(shape)
            return self.constant(np.broadcast_to(value.array, [fixed(dim) for dim in shape]).copy())
        return self.held(self.apply("expand", [self.real(value)], shape=shape), shape)

    def slice(self, value: Value, axis: int, start: int, count: int, step: int = 1) -> Value:
        axis = value.axis(axis)
        if (start, step) == (0, 1) and count == value.shape[axis]:
            return value
        shape = (*value.shape[:axis], count, *value.shape[axis + 1 :])
        attributes: dict[str, Attribute] = {"axis": axis, "start": start, "count": count, "step": step}
        if value.array is not None:
            index = start + step * np.arange(count)
            if count and not (index.min() >= 0 and index.max() < value.size(axis)):
                raise ProgramError(f"leaves axis {axis} of {list(value.shape)}")
            self.grow(shape, MAX_FOLDED_TOTAL)
            return self.constant(np.take(value.array, index, axis=axis))
        return self.held(self.apply("slice", [self.real(value)], (), **attributes), shape)

    def flip(self, value: Value, axis: int) -> Value:
        size = value.size(axis)
        return self.slice(value, axis, size - 1, size, -1)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        kept = [value for value in values if 0 not in value.shape] or list(values[:1])
        if len(kept) == 1:
            return kept[0]
        if len({value.dtype for value in kept}) > 1 or any(value.rank != kept[0].rank for value in kept):
            raise ProgramError("only tensors of one type and rank can be joined")
        axis = kept[0].axis(axis)
        constants = [value.array for value in kept if value.array is not None]
        if len(constants) == len(kept):
            self.grow((sum(array.size for array in constants),))
            try:
                return self.constant(np.concatenate(constants, axis=axis))
            except ValueError as error:
                raise ProgramError("the shapes do not join") from error
        while len(kept) > 1:  # an operator joins at most 256
            groups = [kept[at : at + 256] for at in range(0, len(kept), 256)]
            kept = [
                self.held(self.apply("concat", [self.real(value) for value in group], axis=axis))
                if len(group) > 1
                else group[0]
                for group in groups
            ]
        return kept[0]

    def pad(self, value: Value, before: Sequence[int], after: Sequence[int], bits: str = "") -> Value:
        """``bits``: hex of the element that is added, zero without it."""
        if not any((*before, *after)):
            return value
        digits = {"int64": 16, "bool": 2}.get(value.dtype, 8)
        name = self.apply(
            "pad", [self.real(value)], before=tuple(before), after=tuple(after), value=bits or "0" * digits
        )
        return self.held(name)

    def gather(self, value: Value, index: Value, axis: int) -> Value:
        """Indices from 0 on; others are not finite at run time."""
        axis = value.axis(axis)
        shape = (*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])
        known = self.fold("gather", [value, index], shape, axis=axis)
        if known is not None:
            return known
        if index.array is not None and index.array.size == 1:
            return self.reshape(self.slice(value, axis, int(index.array.reshape(())), 1), shape)
        chosen = index.name if index.array is None and index.shape == self.type(index).shape else self.real(index)
        return self.held(self.apply("gather", [self.real(value), chosen], axis=axis), shape)

    def windows(
        self,
        value: Value,
        kernel: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        before: Sequence[int],
        after: Sequence[int],
        bits: str = "",
    ) -> Value:
        """[N, C, *S] → [N, C, *O, k]."""
        name = self.apply(
            "windows",
            [self.real(value)],
            kernel=tuple(kernel),
            strides=tuple(strides),
            dilations=tuple(dilations),
            before=tuple(before),
            after=tuple(after),
            value=bits or ("0" * (16 if value.dtype == "int64" else 8)),
        )
        return self.held(name)

    # ---- along an axis -------------------------------------------------------------------------------------------------

    def rows(self, value: Value, axes: Sequence[int]) -> Value:
        """[kept…, n]: the axes named become one row at the end."""
        axes = value.axes(axes)
        kept = [axis for axis in range(value.rank) if axis not in axes]
        turned = self.transpose(value, (*kept, *axes))
        named = [value.shape[axis] for axis in axes]
        free = [dim for dim in named if isinstance(dim, str)]
        if free and any(dim != 1 for dim in named if isinstance(dim, int)):
            raise ProgramError("the open dimension cannot be joined with others")
        row: Dim = free[0] if free else volume(named)
        return self.reshape(turned, (*turned.shape[: len(kept)], row))

    def kept(self, value: Value, axes: Sequence[int], keep: bool) -> tuple[Dim, ...]:
        """The shape that a reduction of ``value`` over ``axes`` has."""
        axes = value.axes(axes)
        dims = [(1 if axis in axes else dim) for axis, dim in enumerate(value.shape)]
        return tuple(dim for axis, dim in enumerate(dims) if keep or axis not in axes)

    def reduce(self, kind: str, value: Value, axes: Sequence[int], keep: bool = True) -> Value:
        """``reduce_sum``, ``reduce_mean``, ``reduce_max``, ``reduce_min``, ``reduce_prod``, ``argmax``, ``argmin``."""
        shape, row = self.kept(value, axes, keep), self.rows(value, axes)
        if kind in ("reduce_max", "reduce_min", "reduce_prod") and row.shape[-1] == 1:
            return self.reshape(row, shape)
        attributes = self.total_bits(row) if kind in ("reduce_sum", "reduce_mean") else {}
        known = self.fold(kind, [row], shape, **attributes)
        if known is not None:
            return known
        return self.held(self.apply(kind, [self.real(row)], (), **attributes), shape)

    def total_bits(self, row: Value) -> dict[str, Attribute]:
        """The attribute ``bits`` of an operator that sums rows."""
        last = row.shape[-1] if row.shape else 1
        most = last if isinstance(last, int) else self.builder.symbols[last]
        return {"bits": spec.total_bits(max(most, 1)) if row.dtype == "float32" else 0}

    def along(self, kind: str, value: Value, axis: int, **attributes: Attribute) -> Value:
        """An operator on rows, applied along any one axis; the row's length may change."""
        axis = value.axis(axis)
        last = self.moved(value, axis, value.rank - 1)
        known = self.fold(kind, [last], None, **attributes)
        made = known or self.held(self.apply(kind, [self.real(last)], (), **attributes))
        return self.moved(made, value.rank - 1, axis)

    # ---- dot products --------------------------------------------------------------------------------------------------

    def linear(self, value: Value, weight: Array, bias: Array | None = None) -> Value:
        """[..., K] times the rows of a constant [N, K], plus a constant [N]."""
        a, w = spec.dot_bits(weight.shape[1], self.builder.grid)
        if not np.isfinite(weight).all() or np.abs(weight).max() >= np.float32(2.0**100):
            raise MalformedFile("a constant holds NaN, infinity or 2¹⁰⁰", file=FILE)
        weights = [self.weight(weight, "grid")]
        if bias is not None:
            weights.append(self.weight(bias))
        return self.held(self.apply("linear", [self.real(value)], weights, a_bits=a, w_bits=w))

    def matmul(self, left: Value, right: Value) -> Value:
        """[..., M, K] times the rows of [..., N, K], the leading dimensions broadcast."""
        lead = broadcast(left.shape[:-2], right.shape[:-2])
        length = left.size(-1)
        a, b = spec.dot_bits(length)
        names = [self.real(self.expand(side, (*lead, *side.shape[-2:]))) for side in (left, right)]
        return self.held(self.apply("matmul", names, a_bits=a, b_bits=b))

    def rows_dot(self, value: Value, weight: Value, bias: Value | None = None) -> Value:
        """[..., K] times the rows of [N, K], plus [N]: one ``linear`` where weight and bias are constants."""
        fitting = bias is None or (bias.array is not None and bias.array.size == weight.shape[0])
        if weight.array is not None and fitting:
            return self.linear(
                value, weight.array, None if bias is None or bias.array is None else bias.array.reshape(-1)
            )
        if weight.array is not None:
            made = self.linear(value, weight.array)
        elif value.rank == 1:
            made = self.matmul(self.reshape(value, (1, *value.shape)), weight)
            made = self.reshape(made, made.shape[1:])
        elif value.rank == 2:
            made = self.matmul(value, weight)
        else:
            made = self._merged_dot(value, weight)
        return made if bias is None else self("add", made, bias)

    def _merged_dot(self, value: Value, weight: Value) -> Value:
        """A computed weight: leading dimensions become one where they are fixed, else the weight is repeated."""
        lead = value.shape[:-1]
        if all(isinstance(dim, int) for dim in lead):
            made = self.matmul(self.reshape(value, (volume(lead), value.shape[-1])), weight)
            return self.reshape(made, (*lead, weight.shape[0]))
        return self.matmul(value, weight)
