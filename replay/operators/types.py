"""The vocabulary of programs: tensor types, weights, operators, and the site that an inference rule sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from replay.errors import ProgramError
from replay.kernels import spec

Dim = int | str
DType = Literal["float32", "int32", "int64", "bool"]
Attribute = int | str | tuple[int | str, ...]

#: Dimensions of a value inside a program. At its border (inputs, outputs) the layout's own limit holds.
MAX_RANK = 8
INTEGERS = ("int32", "int64")
NUMBERS = ("float32", "int32", "int64")


@dataclass(frozen=True, slots=True)
class TensorType:
    dtype: DType
    shape: tuple[Dim, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, slots=True)
class WeightSpec:
    """A weight by name. ``form``: ``raw`` (bits as they are) or ``grid`` ([N, K], gridded per row, ``linear`` only)."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    form: Literal["raw", "grid"] = "raw"


@dataclass(frozen=True, slots=True)
class Operator:
    """One step: ``output`` = ``kind``(``inputs``; ``weights``; ``attributes``). Exactly one output."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    weights: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def integer(self, name: str) -> int:
        value = self.attributes[name]
        if not isinstance(value, int):
            raise ProgramError(f"attribute {name} of {self.output} is an integer")
        return value

    def text(self, name: str) -> str:
        value = self.attributes[name]
        if not isinstance(value, str):
            raise ProgramError(f"attribute {name} of {self.output} is a string")
        return value

    def items(self, name: str) -> tuple[int | str, ...]:
        value = self.attributes[name]
        if not isinstance(value, tuple):
            raise ProgramError(f"attribute {name} of {self.output} is a list")
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        items = self.items(name)
        if not all(isinstance(item, int) for item in items):
            raise ProgramError(f"attribute {name} of {self.output} is a list of integers")
        return tuple(item for item in items if isinstance(item, int))


@dataclass(frozen=True, slots=True)
class Site:
    """An operator with the types of what it reads: what an inference rule sees."""

    op: Operator
    values: tuple[TensorType, ...]
    weights: tuple[WeightSpec, ...]
    symbols: Mapping[str, int]
    grid: str = spec.GRIDS[0]

    def fail(self, why: str) -> ProgramError:
        return ProgramError(why, operator=self.op.kind, output=self.op.output)

    def need(self, condition: bool, why: str) -> None:
        if not condition:
            raise self.fail(why)

    def typed(self, place: int, dtypes: Sequence[str], min_rank: int = 1) -> TensorType:
        """The type of value ``place``, once it has one of these dtypes and enough dimensions."""
        value = self.values[place]
        wanted = f"wants {' or '.join(dtypes)} of rank ≥ {min_rank}, not {value}"
        self.need(value.dtype in dtypes and len(value.shape) >= min_rank, wanted)
        return value

    def floats(self, min_rank: int = 1, place: int = 0) -> TensorType:
        return self.typed(place, ("float32",), min_rank)

    def fixed(self, dim: Dim) -> int:
        if not isinstance(dim, int):
            raise self.fail(f"dimension {dim} must be fixed here")
        return dim

    def most(self, dim: Dim) -> int:
        """The largest value that a dimension may take."""
        return dim if isinstance(dim, int) else self.symbols[dim]

    def constant(self, name: str, wanted: int | str) -> None:
        self.need(self.op.attributes[name] == wanted, f"attribute {name} must be {wanted}")

    def within(self, name: str, low: int, high: int) -> int:
        """The integer attribute ``name``, between ``low`` and ``high``."""
        value = self.op.integer(name)
        self.need(low <= value <= high, f"attribute {name} must be {low} to {high}, not {value}")
        return value

    def axis(self, value: TensorType) -> int:
        return self.within("axis", 0, len(value.shape) - 1)

    def single(self, name: str) -> None:
        """Attribute ``name`` is a float32 > 0 and finite, as 8 hex digits."""
        good = re.fullmatch(r"[0-7][0-9a-f]{7}", self.op.text(name)) is not None
        self.need(good and 0 < int(self.op.text(name), 16) < 0x7F800000, f"attribute {name} must be a positive float32")

    def double(self, name: str) -> None:
        """Attribute ``name`` is a float64 in (0, 2⁵³), as 16 hex digits."""
        good = re.fullmatch(r"[0-7][0-9a-f]{15}", self.op.text(name)) is not None
        good = good and 0 < int(self.op.text(name), 16) < 0x4340 << 48
        self.need(good, f"attribute {name} must be a float64 in (0, 2⁵³)")

    def row(self, place: int, size: int) -> None:
        """Weight ``place`` is float32 [size]."""
        weight = self.weights[place]
        good = weight.dtype == "float32" and weight.shape == (size,)
        self.need(good, f"wants the weight {weight.name} to be float32 [{size}]")


Rule = Callable[[Site], TensorType]


@dataclass(frozen=True, slots=True)
class Signature:
    """How many values and weights a kind takes, which attributes it must have (no others), and its typing rule."""

    values: Sequence[int]
    weights: Sequence[int]
    attributes: frozenset[str]
    rule: Rule


def signature(
    rule: Rule, attributes: str = "", *, values: Sequence[int] = (1,), weights: Sequence[int] = (0,)
) -> Signature:
    """``attributes``: names, separated by blanks."""
    return Signature(values, weights, frozenset(attributes.split()), rule)


def broadcast(site: Site, *shapes: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape to which all broadcast: aligned at the last dimension, a 1 or nothing stretches. A symbol meets itself
    or a 1 only, so that the meaning does not depend on its value."""
    rank = max(map(len, shapes))
    result: list[Dim] = []
    for place in range(rank):
        dims = {shape[place - rank + len(shape)] for shape in shapes if place - rank + len(shape) >= 0} - {1}
        site.need(len(dims) <= 1, f"shapes {', '.join(str(list(shape)) for shape in shapes)} do not broadcast")
        result.append(dims.pop() if dims else 1)
    return tuple(result)
