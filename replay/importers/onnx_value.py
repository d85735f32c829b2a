"""What a node reads and writes while an ONNX graph becomes a program, and the node itself as its rule sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from replay.errors import ProgramError, UnsupportedOperator
from replay.importers.onnx_file import Attribute, Node
from replay.layout import Array
from replay.operators import Dim, DType

if TYPE_CHECKING:
    from replay.importers.onnx_lower import Lowering


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """An ONNX tensor: shape and dtype as ONNX has them.

    A constant has its ``array`` (of dtype object where an entry is a symbol: the shape of a value with an open
    dimension). Anything else has the ``name`` of a value of the program that holds the same elements in the same order,
    perhaps in another shape, or as int32 where ONNX says int64: ``Lowering.real`` mends that when it matters.
    """

    shape: tuple[Dim, ...]
    dtype: DType
    name: str = ""
    array: Array | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def axis(self, axis: int) -> int:
        """``axis`` counted from the front. Raises ``ProgramError``."""
        if not -self.rank <= axis < self.rank:
            raise ProgramError(f"axis {axis} of {list(self.shape)}")
        return axis % self.rank

    def axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        found = tuple(self.axis(axis) for axis in axes)
        if len(set(found)) != len(found):
            raise ProgramError(f"an axis stands twice in {list(axes)}")
        return found

    def size(self, axis: int) -> int:
        """A dimension that must be fixed. Raises ``ProgramError``."""
        return fixed(self.shape[self.axis(axis)])


def fixed(dim: Dim) -> int:
    if not isinstance(dim, int):
        raise ProgramError(f"dimension {dim} must be fixed here")
    return dim


def volume(shape: Sequence[Dim]) -> int:
    """How many elements, all dimensions fixed. Raises ``ProgramError``."""
    return math.prod(fixed(dim) for dim in shape)


def count(shape: Sequence[Dim]) -> tuple[int, list[str]]:
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


@dataclass(slots=True)
class Call:
    """One node with what it reads. What a rule never looks at, it does not support: ``unread`` names it."""

    low: Lowering
    node: Node
    inputs: tuple[Value | None, ...]
    opset: int
    _seen: set[str] = field(default_factory=set)
    _used: set[int] = field(default_factory=set)

    def refuse(self, why: str) -> UnsupportedOperator:
        return self.node.refuse(why)

    def need(self, condition: bool, why: str) -> None:
        if not condition:
            raise self.refuse(why)

    def unread(self) -> str:
        """An attribute or an input that the rule did not look at, in words, or nothing."""
        for name in self.node.attributes:
            if name not in self._seen:
                return f"attribute {name[:64]} is not supported"
        for place, value in enumerate(self.inputs):
            if value is not None and place not in self._used:
                return f"input {place} is not supported"
        return ""

    # ---- inputs --------------------------------------------------------------------------------------------------------

    def value(self, place: int = 0) -> Value:
        value = self.optional(place)
        if value is None:
            raise self.refuse(f"input {place} is missing")
        return value

    def optional(self, place: int) -> Value | None:
        self._used.add(place)
        return self.inputs[place] if place < len(self.inputs) else None

    def values(self) -> list[Value]:
        """All inputs, at least one."""
        self.need(bool(self.inputs), "no inputs")
        return [self.value(place) for place in range(len(self.inputs))]

    def constant(self, place: int, what: str = "") -> Array:
        array = self.value(place).array
        if array is None:
            raise self.refuse(f"input {place}{f' ({what})' if what else ''} must be a constant")
        return array

    def integers(self, place: int, what: str = "") -> list[int]:
        """A constant of integers, flat, every entry fixed."""
        array = self.constant(place, what)
        self.need(array.dtype in (np.int32, np.int64), f"input {place} must hold fixed integers")
        return [int(item) for item in array.reshape(-1)]

    def integer(self, place: int, what: str = "") -> int:
        items = self.integers(place, what)
        self.need(len(items) == 1, f"input {place} must be one integer")
        return items[0]

    # ---- attributes ----------------------------------------------------------------------------------------------------

    def _attribute(self, name: str) -> Attribute | None:
        self._seen.add(name)
        return self.node.attributes.get(name)

    def has(self, name: str) -> bool:
        return name in self.node.attributes

    def whole(self, name: str, default: int) -> int:
        value = self._attribute(name)
        value = default if value is None else value
        if not isinstance(value, int):
            raise self.refuse(f"attribute {name} must be an integer")
        return value

    def flag(self, name: str, default: int = 0) -> bool:
        value = self.whole(name, default)
        self.need(value in (0, 1), f"attribute {name} must be 0 or 1")
        return value == 1

    def decimal(self, name: str, default: float) -> float:
        value = self._attribute(name)
        value = default if value is None else value
        if not isinstance(value, float) or not math.isfinite(value):
            raise self.refuse(f"attribute {name} must be a finite number")
        return value

    def text(self, name: str, default: str, *allowed: str) -> str:
        """One of a few words."""
        value = self.free_text(name) if self.has(name) else default
        self.need(value in {default, *allowed}, f"attribute {name} = {value[:64]}")
        return value

    def free_text(self, name: str) -> str:
        value = self._attribute(name)
        if not isinstance(value, str):
            raise self.refuse(f"attribute {name} must be a string")
        return value

    def ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        value = self._attribute(name)
        if value is None and default is not None:
            return tuple(default)
        if isinstance(value, tuple):
            items = tuple(item for item in value if isinstance(item, int))
            if len(items) == len(value):
                return items
        raise self.refuse(f"attribute {name} must be a list of integers")

    def floats(self, name: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
        value = self._attribute(name)
        if value is None and default is not None:
            return tuple(default)
        if isinstance(value, tuple):
            items = tuple(item for item in value if isinstance(item, float))
            if len(items) == len(value):
                return items
        raise self.refuse(f"attribute {name} must be a list of numbers")

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._attribute(name)
        if isinstance(value, tuple):
            items = tuple(item for item in value if isinstance(item, str))
            if len(items) == len(value):
                return items
        raise self.refuse(f"attribute {name} must be a list of strings")

    def tensor(self, name: str) -> Array | None:
        value = self._attribute(name)
        if value is not None and not isinstance(value, np.ndarray):
            raise self.refuse(f"attribute {name} must be a tensor")
        return value

    def ignore(self, *names: str) -> None:
        """Attributes that cannot change the result here."""
        self._seen.update(names)


Result = Value | Sequence[Value]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a node becomes operators; it holds from opset ``since`` on."""

    run: Callable[[Call], Result]
    since: int = 13
