"""A model as data: a typed graph of operators with a canonical form and a root. It holds no code.

``program_root = sha256(0x04 ‖ sha256(header JSON) ‖ merkle(sha256(0x05 ‖ operator JSON) …))``, JSON with sorted keys,
no spaces, UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, get_args

from replay.errors import InputRejected, ProgramError
from replay.kernels import spec
from replay.layout import BORDER_RANK, MAX_TENSORS, TAG_OPERATOR, TAG_PROGRAM, merkle_root
from replay.operators import MAX_RANK, SIGNATURES, Dim, DType, Operator, Site, TensorType, WeightSpec, infer

MAX_OPERATORS = 1 << 16
MAX_WEIGHTS = 1 << 16
MAX_BOUNDARIES = 1 << 12
MAX_SYMBOL = 1 << 20

_PORT = re.compile(r"[!-~]{1,32}")
_NAME = re.compile(r"[A-Za-z0-9_.]{1,128}")
_SYMBOL = re.compile(r"[A-Z][A-Z0-9]{0,7}")
_DIGEST = re.compile(r"([0-9a-f]{64})?")


@dataclass(frozen=True, slots=True)
class Port:
    """A named tensor at the program's border; its name is the one in the input bundle."""

    name: str
    type: TensorType


@dataclass(frozen=True, slots=True)
class Result:
    """An output of the program: the name in the output bundle, and the value that it carries."""

    name: str
    value: str


@dataclass(frozen=True)
class Program:
    """``symbols`` maps each symbolic dimension to the largest value it may take. ``boundaries`` names the values whose
    roots stand in the state root between input and output, in topological order. ``tokenizer`` is the SHA-256 (hex) of
    the tokenizer file that belongs to the model, or empty. ``weights`` stand in artefact order."""

    symbols: Mapping[str, int]
    inputs: tuple[Port, ...]
    weights: tuple[WeightSpec, ...]
    operators: tuple[Operator, ...]
    outputs: tuple[Result, ...]
    boundaries: tuple[str, ...]
    tokenizer: str = ""
    spec_version: int = spec.SPEC_VERSION
    grid: str = spec.GRIDS[0]

    @cached_property
    def types(self) -> Mapping[str, TensorType]:
        """The type of every value. Raises ``ProgramError`` when the program is not well-formed."""
        return _check(self)

    def validate(self) -> Program:
        """The program itself, once it is known to be well-formed. Raises ``ProgramError``; total."""
        _ = self.types
        return self

    def header(self) -> bytes:
        """Canonical JSON of all but the operators."""
        return _json(
            {
                "spec": self.spec_version,
                "grid": self.grid,
                "symbols": dict(self.symbols),
                "inputs": [{"name": p.name, "dtype": p.type.dtype, "shape": list(p.type.shape)} for p in self.inputs],
                "weights": [
                    {"name": w.name, "dtype": w.dtype, "shape": list(w.shape), "form": w.form} for w in self.weights
                ],
                "outputs": [{"name": r.name, "value": r.value} for r in self.outputs],
                "boundaries": list(self.boundaries),
                "tokenizer": self.tokenizer,
            }
        )

    @cached_property
    def root(self) -> bytes:
        self.validate()
        leaves = [sha256(TAG_OPERATOR + operator_json(op)).digest() for op in self.operators]
        return sha256(TAG_PROGRAM + sha256(self.header()).digest() + merkle_root(leaves)).digest()

    @cached_property
    def grid_bits(self) -> Mapping[str, int]:
        """Bits per gridded weight."""
        return {w.name: spec.dot_bits(w.shape[1], self.grid)[1] for w in self.weights if w.form == "grid"}

    def weight(self, name: str) -> WeightSpec:
        return self._weights[name]

    @cached_property
    def _weights(self) -> Mapping[str, WeightSpec]:
        return {weight.name: weight for weight in self.weights}

    @cached_property
    def last_use(self) -> Mapping[str, int]:
        """Value → index of the last operator that reads it; values read at the end are left out."""
        kept = {result.value for result in self.outputs} | set(self.boundaries)
        uses = {name: index for index, op in enumerate(self.operators) for name in op.inputs}
        return {name: index for name, index in uses.items() if name not in kept}

    def bind(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
        """The symbols' values, from the shapes of the inputs. Raises ``InputRejected``."""
        bound: dict[str, int] = {}
        for port in self.inputs:
            shape = shapes[port.name]
            if len(shape) != len(port.type.shape):
                raise InputRejected(f"{port.name} has {len(shape)} dimensions, the model wants {port.type}")
            for dim, got in zip(port.type.shape, shape, strict=True):
                want = bound.setdefault(dim, got) if isinstance(dim, str) else dim
                most = self.symbols[dim] if isinstance(dim, str) else dim
                if got != want or not 1 <= got <= most:
                    raise InputRejected(f"{port.name} is {list(shape)}, the model wants {port.type}", limit=most)
        return bound


def operator_json(op: Operator) -> bytes:
    """Canonical JSON of one operator: the leaf preimage (after the tag 0x05) of the program's tree."""
    attributes = {name: list(value) if isinstance(value, tuple) else value for name, value in op.attributes.items()}
    return _json(
        {
            "kind": op.kind,
            "inputs": list(op.inputs),
            "weights": list(op.weights),
            "output": op.output,
            "attributes": attributes,
        }
    )


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _check(program: Program) -> Mapping[str, TensorType]:
    _check_header(program)
    weights = {weight.name: weight for weight in program.weights}
    types: dict[str, TensorType] = {port.name: port.type for port in program.inputs}
    used: set[str] = set()
    classes: dict[str, Dim] = {}  # values that are indices, with how many classes they choose from
    for op in program.operators:
        where = {"operator": op.kind, "output": op.output}
        _need(op.kind in SIGNATURES, f"unknown operator kind {op.kind!r}", **where)
        _need(_NAME.fullmatch(op.output) is not None, f"{op.output[:64]!r} is not a value's name", **where)
        _need(op.output not in types, "a value is written twice", **where)
        for name in op.inputs:
            _need(name in types, f"reads {name!r}, which no earlier operator writes", **where)
        for name in op.weights:
            _need(name in weights, f"uses the weight {name!r}, which is not declared", **where)
        if op.kind == "take":
            count, table = classes.get((*op.inputs, "")[0]), weights.get((*op.weights, "")[0])
            good = isinstance(count, int) and table is not None and count <= table.shape[0]
            _need(
                good, "the index of a take comes from an argmax over at most as many classes as the table has", **where
            )
        if op.kind == "embedding":
            ports = {port.name for port in program.inputs}
            _need(op.inputs[:1] != () and op.inputs[0] in ports, "ids of an embedding must be an input", **where)
        values = tuple(types[name] for name in op.inputs)
        site = Site(op, values, tuple(weights[name] for name in op.weights), program.symbols, program.grid)
        types[op.output] = infer(site)
        if op.kind == "argmax":
            classes[op.output] = values[0].shape[-1]
        used |= set(op.weights)
    unused = [name for name in weights if name not in used]
    _need(not unused, f"the weight {unused[:1]} is never used")
    _check_ends(program, types)
    return types


def _check_header(program: Program) -> None:
    _need(program.spec_version == spec.SPEC_VERSION, f"spec version {program.spec_version} is not {spec.SPEC_VERSION}")
    _need(program.grid in spec.GRIDS, f"grid {program.grid!r} is none of {', '.join(spec.GRIDS)}")
    _need(_DIGEST.fullmatch(program.tokenizer) is not None, "the tokenizer digest is 64 hex digits or empty")
    _need(1 <= len(program.inputs) <= MAX_TENSORS, f"a program has 1 to {MAX_TENSORS} inputs")
    _need(1 <= len(program.operators) <= MAX_OPERATORS, f"a program has 1 to {MAX_OPERATORS} operators")
    _need(len(program.weights) <= MAX_WEIGHTS, f"a program has at most {MAX_WEIGHTS} weights")
    for name, most in program.symbols.items():
        _need(_SYMBOL.fullmatch(name) is not None, f"{name[:16]!r} is not a symbol")
        _need(1 <= most <= MAX_SYMBOL, f"symbol {name} may be 1 to {MAX_SYMBOL}")
    for port in program.inputs:
        _need(_PORT.fullmatch(port.name) is not None, f"{port.name[:48]!r} is not an input's name")
        _check_shape(port.name, port.type.dtype, port.type.shape, program.symbols, BORDER_RANK)
    bound = {dim for port in program.inputs for dim in port.type.shape if isinstance(dim, str)}
    _need(bound == set(program.symbols), "each symbol is bound by an input, and each is declared")
    for weight in program.weights:
        _need(_NAME.fullmatch(weight.name) is not None, f"{weight.name[:64]!r} is not a weight's name")
        _check_shape(weight.name, weight.dtype, weight.shape, {})
        good = weight.form == "raw" or (weight.dtype == "float32" and len(weight.shape) == 2)
        _need(weight.form in {"raw", "grid"} and good, f"weight {weight.name} has an unusable form {weight.form!r}")
    _need(len({w.name for w in program.weights}) == len(program.weights), "a weight is declared twice")
    _need(len({p.name for p in program.inputs}) == len(program.inputs), "an input is declared twice")


def _check_shape(
    name: str, dtype: DType, shape: Sequence[Dim], symbols: Mapping[str, int], most: int = MAX_RANK
) -> None:
    _need(dtype in get_args(DType), f"{name} has the dtype {dtype!r}")
    _need(1 <= len(shape) <= most, f"{name} has {len(shape)} dimensions, 1 to {most} are allowed")
    _need(all(d in symbols if isinstance(d, str) else 1 <= d < 2**32 for d in shape), f"{name} has the shape {shape}")


def _check_ends(program: Program, types: Mapping[str, TensorType]) -> None:
    _need(1 <= len(program.outputs) <= MAX_TENSORS, f"a program has 1 to {MAX_TENSORS} outputs")
    _need(len({r.name for r in program.outputs}) == len(program.outputs), "an output is declared twice")
    order = {op.output: index for index, op in enumerate(program.operators)}
    for result in program.outputs:
        _need(_PORT.fullmatch(result.name) is not None, f"{result.name[:48]!r} is not an output's name")
        _need(
            result.name != "nonfinite", "an output cannot be called nonfinite: that name is taken by the verdict on NaN"
        )
        _need(result.value in order, f"the output {result.name} carries {result.value!r}, which no operator writes")
        rank = len(types[result.value].shape)
        _need(rank <= BORDER_RANK, f"the output {result.name} has {rank} dimensions, at most {BORDER_RANK} are allowed")
    _need(len(program.boundaries) <= MAX_BOUNDARIES, f"a program has at most {MAX_BOUNDARIES} boundaries")
    _need(all(name in order for name in program.boundaries), "a boundary is a value that an operator writes")
    places = [order[name] for name in program.boundaries]
    _need(places == sorted(set(places)), "boundaries stand once each, in topological order")
    read = {name for op in program.operators for name in op.inputs} | {r.value for r in program.outputs}
    dead = [name for name in types if name not in read]
    _need(not dead, f"nothing reads {dead[:1]}")


def _need(condition: bool, why: str, **context: Any) -> None:
    if not condition:
        raise ProgramError(why, **context)
