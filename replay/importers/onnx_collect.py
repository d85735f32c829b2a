"""Where a program collects while an ONNX graph is read: constants known at import, weights each once, operators each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from replay.errors import LimitExceeded, MalformedFile, ProgramError
from replay.importers.build import Builder
from replay.importers.onnx_file import FILE
from replay.importers.onnx_fold import folded
from replay.importers.onnx_value import Value, fixed, volume
from replay.layout import Array
from replay.operators import Attribute, Dim, DType, Operator, Site, TensorType, WeightSpec, infer
from replay.program import MAX_OPERATORS, Port

#: Elements of one constant computed at import, and of all of them, those moved out of given ones included.
MAX_FOLDED, MAX_FOLDED_TOTAL = 1 << 24, 1 << 27


class TooLarge(Exception):
    """a value would hold too many elements at the largest batch, though not at a smaller one"""


class Collector:
    """Constants, weights and operators of a program that is being written. A mistake raises ``ProgramError``."""

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

    def steps(self, count: int, dtype: DType = "int64") -> Value:
        """0, 1, … count − 1."""
        self.grow((count,))
        return self.constant(np.arange(count, dtype=np.dtype(dtype)))

    def grow(self, shape: Sequence[Dim], most: int = MAX_FOLDED) -> None:
        """Account for a constant about to be made. Raises ``LimitExceeded``."""
        size = volume(shape)
        self._folded += size
        if size > most or self._folded > MAX_FOLDED_TOTAL:
            raise LimitExceeded(f"a computed constant of {size} elements", file=FILE, most=most)

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
        if shape is not None:
            self.grow(shape)
        made = folded(kind, arrays, **attributes)
        if made is None:
            return None
        return self.constant(made if shape is None else made.reshape([fixed(dim) for dim in shape]))
