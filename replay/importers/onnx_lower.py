"""The language in which rules are written: tensors in, tensors out, operators and constants behind them.

Operators on constants of integers or bools, and those that only move elements, are done at once, by the NumPy kernels,
exactly: that is how shapes computed in a graph become fixed. Float arithmetic is left to the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from replay.errors import LimitExceeded, MalformedFile, NonFinite, ProgramError
from replay.importers.build import Builder
from replay.importers.onnx_file import FILE
from replay.importers.onnx_value import Value, fixed, volume
from replay.kernels import numpy_arithmetic, numpy_shapes, spec
from replay.layout import Array
from replay.operators import Attribute, Dim, DType, Operator, Site, TensorType, WeightSpec, infer
from replay.program import MAX_OPERATORS, Port

#: Elements of one constant computed at import, and of all of them.
MAX_FOLDED, MAX_FOLDED_TOTAL = 1 << 24, 1 << 27
#: Operands may change places.
_COMMUTATIVE = frozenset(("add", "mul", "max", "min", "equal", "and", "or", "xor", "bit_and", "bit_or", "bit_xor"))
#: Exact on floats too.
_EXACT = frozenset(("cast", "where", "equal", "less", "less_equal", "neg", "abs", "max", "min"))
#: What entries of a shape that are symbols may go through.
_SYMBOLIC = frozenset(("slice", "concat", "gather", "expand"))
_FLOAT_MAX = "ff7fffff"


class TooLarge(Exception):
    """a value would hold too many elements at the largest batch, though not at a smaller one"""


class Lowering:
    """Collects a program. Every method takes and gives ``Value``; a mistake raises ``ProgramError``."""

    def __init__(self, ports: Sequence[Port], symbols: Mapping[str, int], grid: str) -> None:
        self.builder = Builder(ports, symbols, grid)
        self.weights: dict[str, Array] = {}
        self.specs: dict[str, WeightSpec] = {}
        self._made: dict[tuple[object, ...], str] = {}
        self._folded = 0

    # ---- constants -----------------------------------------------------------------------------------------------------

    def constant(self, array: Array) -> Value:
        names: Mapping[str, DType] = {"f4": "float32", "i4": "int32", "i8": "int64", "b1": "bool", "O": "int64"}
        dtype = names.get(array.dtype.str[1:])
        if dtype is None:
            raise ProgramError(f"a constant of type {array.dtype}")
        return Value(tuple(array.shape), dtype, array=array)

    def number(self, value: float, dtype: DType = "float32", rank: int = 0) -> Value:
        """One number (the float32 nearest to it), of shape [] or [1, 1, …]."""
        return self.constant(np.full((1,) * rank, value, np.dtype(dtype)))

    def integers(self, items: Sequence[int]) -> Value:
        return self.constant(np.array(items, np.int64))

    def grow(self, shape: Sequence[Dim]) -> None:
        """Account for a constant about to be made. Raises ``LimitExceeded``."""
        count = volume(shape)
        self._folded += count
        if count > MAX_FOLDED or self._folded > MAX_FOLDED_TOTAL:
            raise LimitExceeded(f"a computed constant of {count} elements", file=FILE, most=MAX_FOLDED)

    def weight(self, array: Array, form: str = "raw") -> str:
        """Declare a weight, each one once; a scalar becomes [1]."""
        array = np.ascontiguousarray(array).reshape(array.shape or (1,))
        if array.size == 0:
            raise ProgramError("a tensor without elements")
        if array.dtype == object:
            raise ProgramError("the open dimension is used as a number")
        if array.dtype == np.float32 and not np.isfinite(array).all():
            raise MalformedFile("a constant holds NaN or infinity", file=FILE)
        digest = sha256(array.tobytes()).hexdigest()
        key = ("weight", array.dtype.str, array.shape, form, digest)
        if key not in self._made:
            name = self.builder.weight(f"w{len(self.weights)}", array, form)
            dtype = self.constant(array).dtype
            self.weights[name] = array
            self.specs[name] = WeightSpec(name, dtype, tuple(array.shape), "grid" if form == "grid" else "raw")
            self._made[key] = name
        return self._made[key]

    # ---- operators -----------------------------------------------------------------------------------------------------

    def apply(self, kind: str, names: Sequence[str], weights: Sequence[str] = (), **attributes: Attribute) -> str:
        """An operator on values of the program as they are; the same one twice is one."""
        key = (kind, tuple(names), tuple(weights), tuple(sorted(attributes.items())))
        if key not in self._made:
            if len(self.builder.operators) >= MAX_OPERATORS:
                raise LimitExceeded(f"more than {MAX_OPERATORS} operators", file=FILE)
            try:
                self._made[key] = self.builder.add(kind, names, weights, name="", **attributes)
            except ProgramError as error:
                if self._fits_alone(kind, names, weights, attributes):
                    raise TooLarge from error
                raise
        return self._made[key]

    def _fits_alone(
        self, kind: str, names: Sequence[str], weights: Sequence[str], attributes: Mapping[str, Attribute]
    ) -> bool:
        """Whether only the largest batch is in the way."""
        builder = self.builder
        if not builder.symbols or "bits" in attributes:
            return False
        site = Site(
            Operator(kind, tuple(names), "", tuple(weights), attributes),
            tuple(builder.types[name] for name in names),
            tuple(self.specs[name] for name in weights),
            dict.fromkeys(builder.symbols, 1),
            builder.grid,
        )
        try:
            infer(site)
        except ProgramError:
            return False
        return True

    def type(self, value: Value) -> TensorType:
        """The program's type of a value that is no constant."""
        return self.builder.types[value.name]

    def held(self, name: str, shape: Sequence[Dim] | None = None) -> Value:
        """A value of the program; ``shape``: what ONNX calls it, if that differs."""
        kind = self.builder.types[name]
        return Value(kind.shape if shape is None else tuple(shape), kind.dtype, name)

    def chooses(self, value: Value, most: int) -> bool:
        """Whether a value is an argmax over at most ``most`` classes, which ``take`` may use as an index."""
        made = next((op for op in self.builder.operators if op.output == value.name), None)
        if made is None or made.kind != "argmax":
            return False
        classes = self.builder.types[made.inputs[0]].shape[-1]
        return isinstance(classes, int) and classes <= most

    def real(self, value: Value) -> str:
        """The program's value of just this shape ([1] for []) and dtype."""
        if value.array is not None:
            return self.apply("constant", [], [self.weight(value.array)])
        name, shape = value.name, value.shape or (1,)
        if self.builder.types[name].shape != shape:
            name = self.apply("reshape", [name], shape=shape)
        if self.builder.types[name].dtype != value.dtype:
            name = self.apply("cast", [name], to=value.dtype)
        return name

    def fold(
        self, kind: str, values: Sequence[Value], shape: Sequence[Dim] | None, **attributes: Attribute
    ) -> Value | None:
        """The result where all operands are constants and it is exact; ``shape``: the result's, where that is known."""
        arrays = [value.array for value in values if value.array is not None]
        if len(arrays) != len(values):
            return None
        symbolic = any(array.dtype == object for array in arrays)
        floats = any(array.dtype == np.float32 for array in arrays)
        if kind not in numpy_shapes.TABLE and ((floats and kind not in _EXACT) or symbolic):
            return _symbols(kind, arrays) if symbolic else None
        if symbolic and kind not in _SYMBOLIC:
            return None
        if shape is not None:
            self.grow(shape)
        if any(array.size == 0 for array in arrays):
            return None
        table = {**numpy_arithmetic.TABLE, **numpy_shapes.TABLE}
        op = Operator(kind, (), "", (), attributes)
        try:
            with np.errstate(all="ignore"):
                made = table[kind](op, *(array.reshape(array.shape or (1,)) for array in arrays))
        except NonFinite as found:
            raise ProgramError(f"a constant has no value at element {found.element}") from found
        return self.constant(made if shape is None else made.reshape([fixed(dim) for dim in shape]))

    def elementwise(self, kind: str, *values: Value, **attributes: Attribute) -> Value:
        """Operands broadcast as ONNX has it."""
        shape = broadcast(*(value.shape for value in values))
        folded = self.fold(kind, values, shape, **attributes)
        if folded is not None:
            return folded
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
        if _count(value.shape) != _count(shape):
            raise ProgramError(f"{list(value.shape)} does not reshape to {list(shape)}")
        if value.array is not None:
            return self.constant(value.array.reshape([fixed(dim) for dim in shape]))
        return Value(tuple(shape), value.dtype, value.name)

    def transpose(self, value: Value, perm: Sequence[int]) -> Value:
        if sorted(perm) != list(range(value.rank)):
            raise ProgramError(f"{list(perm)} does not permute {value.rank} axes")
        shape = tuple(value.shape[axis] for axis in perm)
        if value.array is not None:
            return self.constant(np.ascontiguousarray(value.array.transpose(perm)))
        wide = [axis for axis in perm if value.shape[axis] != 1]
        if wide == sorted(wide):
            return self.reshape(value, shape)
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
        if _count(value.shape) == _count(shape):
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
        folded = self.fold("gather", [value, index], shape, axis=axis)
        if folded is not None:
            return folded
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
        folded = self.fold(kind, [row], shape, **attributes)
        if folded is not None:
            return folded
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
        folded = self.fold(kind, [last], None, **attributes)
        made = folded or self.held(self.apply(kind, [self.real(last)], (), **attributes))
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


def _symbols(kind: str, arrays: Sequence[Array]) -> Value | None:
    """Arithmetic on shapes with a symbol in them: nothing but what leaves the symbol as it is."""
    neutral = {"mul": 1, "div": 1, "add": 0, "sub": 0}
    if kind in neutral and len(arrays) == 2:
        left, right = np.broadcast_arrays(*arrays)
        if (right == neutral[kind]).all():
            made = left
        elif kind in ("mul", "add") and (left == neutral[kind]).all():
            made = right
        else:
            return None
        made = made.astype(object)
        return Value(tuple(made.shape), "int64", array=made)
    if kind == "equal" and len(arrays) == 2:
        left, right = np.broadcast_arrays(*arrays)
        numbers = right if left.dtype == object else left
        if right.dtype != left.dtype and (numbers <= 0).all():  # a dimension is at least 1
            return Value(tuple(left.shape), "bool", array=np.asarray(left == right, np.bool_))
    if kind == "where" and arrays[0].dtype == np.bool_:
        made = np.where(arrays[0], *(array.astype(object) for array in arrays[1:]))
        return Value(tuple(made.shape), "int64", array=made)
    if kind == "cast":
        return Value(tuple(arrays[0].shape), "int64", array=arrays[0])
    return None


def _count(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    fixed_part = 1
    for dim in shape:
        fixed_part *= dim if isinstance(dim, int) else 1
    return fixed_part, sorted(dim for dim in shape if isinstance(dim, str))


def broadcast(*shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """ONNX's broadcasting; [] stays []. A symbol meets itself or 1."""
    rank = max(map(len, shapes))
    result: list[Dim] = []
    for place in range(rank):
        dims = {shape[place - rank + len(shape)] for shape in shapes if place - rank + len(shape) >= 0} - {1}
        if len(dims) > 1:
            raise ProgramError(f"shapes {', '.join(str(list(shape)) for shape in shapes)} do not broadcast")
        result.append(dims.pop() if dims else 1)
    return tuple(result)
