"""What each operator kind takes and gives: types, shapes, attributes. Static meaning only; the arithmetic is in
``kernels`` and in ``docs/numerics.md``.

A *value* is an activation (a program input or an operator's output), a *weight* a tensor of the artefact. A dimension
is an integer or a symbol (``"T"`` tokens, ``"B"`` batch) that an input binds at run time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from replay.errors import ProgramError
from replay.kernels import spec

Dim = int | str
DType = Literal["float32", "int32"]
Attribute = int | str | tuple[int | str, ...]


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


@dataclass(frozen=True, slots=True)
class Site:
    """An operator with the types of what it reads: what an inference rule sees."""

    op: Operator
    values: tuple[TensorType, ...]
    weights: tuple[WeightSpec, ...]
    symbols: Mapping[str, int]

    def fail(self, why: str) -> ProgramError:
        return ProgramError(why, operator=self.op.kind, output=self.op.output)

    def need(self, condition: bool, why: str) -> None:
        if not condition:
            raise self.fail(why)

    def floats(self, min_rank: int = 1) -> TensorType:
        value = self.values[0]
        self.need(value.dtype == "float32" and len(value.shape) >= min_rank, f"wants float32 of rank ≥ {min_rank}")
        return value

    def fixed(self, dim: Dim) -> int:
        if not isinstance(dim, int):
            raise self.fail(f"dimension {dim} must be fixed here")
        return dim

    def most(self, dim: Dim) -> int:
        """The largest value that a dimension may take."""
        return dim if isinstance(dim, int) else self.symbols[dim]

    def constant(self, name: str, wanted: int | str) -> None:
        self.need(self.op.attributes[name] == wanted, f"attribute {name} must be {wanted}")


Rule = Callable[[Site], TensorType]


@dataclass(frozen=True, slots=True)
class Signature:
    """How many values and weights a kind takes, which attributes it must have (no others), and its typing rule."""

    values: Sequence[int]
    weights: Sequence[int]
    attributes: frozenset[str]
    rule: Rule


def _embedding(site: Site) -> TensorType:
    ids, table = site.values[0], site.weights[0]
    site.need(ids.dtype == "int32" and len(ids.shape) <= 3, "wants int32 ids of rank ≤ 3")
    site.need(table.dtype == "float32" and len(table.shape) == 2, "wants a table float32 [V, d]")
    return TensorType("float32", (*ids.shape, table.shape[1]))


def _position_rows(site: Site) -> TensorType:
    table, tokens = site.weights[0], site.values[0].shape[0]
    site.need(table.dtype == "float32" and len(table.shape) == 2, "wants a table float32 [P, d]")
    site.need(site.most(tokens) <= table.shape[0], f"{tokens} may exceed the table's {table.shape[0]} rows")
    return TensorType("float32", (tokens, table.shape[1]))


def _binary(site: Site) -> TensorType:
    left = site.floats()
    site.need(len(site.values) + len(site.weights) == 2, "takes two operands")
    if site.weights:
        shape = site.weights[0].shape
        site.need(site.weights[0].dtype == "float32", "wants a float32 weight")
        site.need(left.shape[len(left.shape) - len(shape) :] == shape, f"{left} does not end in {list(shape)}")
    else:
        site.need(site.values[1] == left, f"operands differ: {left} and {site.values[1]}")
    return left


def _linear(site: Site) -> TensorType:
    value, weight = site.floats(), site.weights[0]
    site.need(weight.form == "grid" and len(weight.shape) == 2, "wants a gridded weight [N, K]")
    rows, length = weight.shape
    site.need(value.shape[-1] == length, f"{value} does not end in K = {length}")
    site.need(length <= spec.DOT_LENGTH_MAX, f"K = {length} is above {spec.DOT_LENGTH_MAX}")
    if len(site.weights) == 2:
        bias = site.weights[1]
        site.need(bias.form == "raw" and bias.dtype == "float32" and bias.shape == (rows,), f"wants a bias [{rows}]")
    a, w = spec.dot_bits(length)
    site.constant("a_bits", a)
    site.constant("w_bits", w)
    return TensorType("float32", (*value.shape[:-1], rows))


def _attention(site: Site) -> TensorType:
    value, op = site.floats(2), site.op
    heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
    site.need(len(value.shape) == 2, "wants float32 [T, (heads + 2·kv_heads)·head_dim]")
    site.need(min(heads, groups, size) >= 1 and heads % groups == 0, "wants heads a multiple of kv_heads")
    site.need(value.shape[1] == (heads + 2 * groups) * size, f"{value} does not hold q, k and v")
    site.need(op.integer("causal") in (0, 1), "causal is 0 or 1")
    site.need(site.most(value.shape[0]) <= spec.TOKENS_MAX, f"more than {spec.TOKENS_MAX} tokens")
    q, k = spec.dot_bits(size)
    site.constant("q_bits", q)
    site.constant("k_bits", k)
    site.constant("value_bits", spec.VALUE_BITS)
    _double(site, "scale")
    return TensorType("float32", (value.shape[0], heads * size))


def _layer_norm(site: Site) -> TensorType:
    value = site.floats()
    size = site.fixed(value.shape[-1])
    site.need(size <= spec.NORM_LENGTH_MAX, f"rows longer than {spec.NORM_LENGTH_MAX}")
    for weight in site.weights:
        site.need(weight.dtype == "float32" and weight.shape == (size,), f"wants weights float32 [{size}]")
    site.constant("bits", spec.sum_bits(size))
    site.constant("inv_d", spec.f64_hex(1.0 / size))
    site.constant("inv_d2", spec.f64_hex(1.0 / (size * size)))
    _single(site, "eps")
    return value


def _l2_normalise(site: Site) -> TensorType:
    value = site.floats()
    size = site.fixed(value.shape[-1])
    site.need(size <= spec.NORM_LENGTH_MAX, f"rows longer than {spec.NORM_LENGTH_MAX}")
    site.constant("bits", spec.sum_bits(size))
    _single(site, "floor")
    return value


def _softmax(site: Site) -> TensorType:
    value = site.floats()
    site.need(site.most(value.shape[-1]) <= spec.SOFTMAX_LENGTH_MAX, f"rows longer than {spec.SOFTMAX_LENGTH_MAX}")
    return value


def _mean_tokens(site: Site) -> TensorType:
    value = site.floats(2)
    site.need(len(value.shape) == 2, "wants float32 [T, d]")
    site.need(site.most(value.shape[0]) <= spec.POOL_TOKENS_MAX, "too many tokens for an exact sum")
    site.constant("bits", spec.GRID_BITS_MAX)
    return TensorType("float32", value.shape[1:])


def _argmax(site: Site) -> TensorType:
    value = site.floats(2)
    site.need(site.most(value.shape[-1]) < 2**31, "too many classes")
    return TensorType("int32", value.shape[:-1])


def _take(site: Site) -> TensorType:
    index, table = site.values[0], site.weights[0]
    site.need(index.dtype == "int32", "wants int32 indices")
    site.need(table.dtype == "int32" and len(table.shape) == 1, "wants a table int32 [n]")
    return TensorType("int32", index.shape)


def _reshape(site: Site) -> TensorType:
    value, shape = site.values[0], site.op.items("shape")
    site.need(1 <= len(shape) <= 4, "wants 1 to 4 dimensions")
    site.need(all(dim in site.symbols if isinstance(dim, str) else dim >= 1 for dim in shape), "wants known dimensions")
    site.need(_volume(shape) == _volume(value.shape), f"{value} does not reshape to {list(shape)}")
    return TensorType(value.dtype, shape)


def _transpose(site: Site) -> TensorType:
    value, order = site.values[0], site.op.items("perm")
    axes = [axis for axis in order if isinstance(axis, int)]
    site.need(sorted(axes) == list(range(len(value.shape))) and len(axes) == len(order), "perm must permute the axes")
    return TensorType(value.dtype, tuple(value.shape[axis] for axis in axes))


def _to_float(site: Site) -> TensorType:
    site.need(site.values[0].dtype == "int32", "wants int32")
    return TensorType("float32", site.values[0].shape)


def _unary(site: Site) -> TensorType:
    return site.floats()


def _volume(shape: Sequence[Dim]) -> tuple[int, list[str]]:
    return math.prod(dim for dim in shape if isinstance(dim, int)), sorted(d for d in shape if isinstance(d, str))


def _single(site: Site, name: str) -> None:
    """A float32 constant > 0 and finite, as 8 hex digits."""
    good = re.fullmatch(r"[0-7][0-9a-f]{7}", site.op.text(name)) is not None
    site.need(good and 0 < int(site.op.text(name), 16) < 0x7F800000, f"attribute {name} must be a positive float32")


def _double(site: Site, name: str) -> None:
    good = re.fullmatch(r"[0-7][0-9a-f]{15}", site.op.text(name)) is not None
    site.need(
        good and 0 < int(site.op.text(name), 16) < 0x4340 << 48, f"attribute {name} must be a float64 in (0, 2⁵³)"
    )


_ONE, _NONE = (1,), (0,)
_ELEMENTWISE = Signature(_ONE, _NONE, frozenset(), _unary)
_ARITHMETIC = Signature((1, 2), (0, 1), frozenset(), _binary)

#: Every kind that spec version 0 knows.
SIGNATURES: Mapping[str, Signature] = {
    "embedding": Signature(_ONE, _ONE, frozenset(), _embedding),
    "position_rows": Signature(_ONE, _ONE, frozenset(), _position_rows),
    "add": _ARITHMETIC,
    "sub": _ARITHMETIC,
    "mul": _ARITHMETIC,
    "div": _ARITHMETIC,
    "linear": Signature(_ONE, (1, 2), frozenset({"a_bits", "w_bits"}), _linear),
    "attention": Signature(
        _ONE,
        _NONE,
        frozenset({"heads", "kv_heads", "head_dim", "causal", "q_bits", "k_bits", "value_bits", "scale"}),
        _attention,
    ),
    "layer_norm": Signature(_ONE, (2,), frozenset({"bits", "inv_d", "inv_d2", "eps"}), _layer_norm),
    "l2_normalise": Signature(_ONE, _NONE, frozenset({"bits", "floor"}), _l2_normalise),
    "softmax": Signature(_ONE, _NONE, frozenset(), _softmax),
    "gelu_erf": _ELEMENTWISE,
    "gelu_tanh": _ELEMENTWISE,
    "relu": _ELEMENTWISE,
    "tanh": _ELEMENTWISE,
    "sigmoid": _ELEMENTWISE,
    "mean_tokens": Signature(_ONE, _NONE, frozenset({"bits"}), _mean_tokens),
    "argmax": Signature(_ONE, _NONE, frozenset(), _argmax),
    "take": Signature(_ONE, _ONE, frozenset(), _take),
    "reshape": Signature(_ONE, _NONE, frozenset({"shape"}), _reshape),
    "transpose": Signature(_ONE, _NONE, frozenset({"perm"}), _transpose),
    "to_float": Signature(_ONE, _NONE, frozenset(), _to_float),
}


def infer(site: Site) -> TensorType:
    """The type of what the operator gives. Raises ``ProgramError``."""
    op = site.op
    signature = SIGNATURES.get(op.kind)
    if signature is None:
        raise site.fail(f"unknown operator kind {op.kind!r}")
    site.need(len(site.values) in signature.values, f"takes {list(signature.values)} inputs, not {len(site.values)}")
    site.need(
        len(site.weights) in signature.weights, f"takes {list(signature.weights)} weights, not {len(site.weights)}"
    )
    site.need(
        set(op.attributes) == signature.attributes, f"has the attributes {sorted(signature.attributes)}, no others"
    )
    grid = [weight.name for weight in site.weights if weight.form == "grid"]
    site.need(op.kind == "linear" or not grid, f"cannot use the gridded weight {grid[:1]}")
    return signature.rule(site)
