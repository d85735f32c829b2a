"""ONNX graphs of dense networks → Program. What is not listed here is refused by name, never guessed.

Committed are all outputs of the graph, in its order; int64 results (labels) become int32. Boundaries: every value that
a linear operator reads, the graph's inputs aside. A MatMul whose only reader adds a constant row is one ``linear``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from replay.errors import MalformedFile, ProgramError, UnsupportedModel
from replay.importers.build import Builder
from replay.importers.manifest import ModelFiles
from replay.importers.onnx_file import FILE, Graph, GraphInput, Node, read_graph
from replay.layout import Array
from replay.model import Model
from replay.operators import Dim, DType, TensorType
from replay.program import Port

#: Rows in one batch.
MAX_BATCH = 4096
MAX_BROADCAST = 1 << 20

_INPUT_TYPES: Mapping[int, DType] = {TensorProto.FLOAT: "float32", TensorProto.INT32: "int32"}


@dataclass(frozen=True, slots=True)
class Value:
    """An ONNX value: ours, and the shape that ONNX gives it (same elements, same order; reshaped only when needed)."""

    name: str
    shape: tuple[Dim, ...]


def import_onnx(source: ModelFiles) -> Model:
    """The model. Raises ``ModelRefused`` (its subclasses) or ``ProgramError``."""
    return _Importer(read_graph(bytes(source.files[FILE]))).model()


class _Importer:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes = _needed(graph)
        self._readers: dict[str, list[Node]] = {}
        for node in self._nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)
        ports = [_port(source) for source in graph.inputs]
        symbols = {"B": MAX_BATCH} if any("B" in port.type.shape for port in ports) else {}
        self._builder = Builder(ports, symbols)
        self._values = {port.name: Value(port.name, port.type.shape) for port in ports}
        self._fused: set[str] = set()
        self._rules: Mapping[str, Callable[[Node], Value]] = {
            "Identity": self._identity,
            "Cast": self._cast,
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Add": lambda node: self._binary(node, "add", swap=True),
            "Sub": lambda node: self._binary(node, "sub", swap=False),
            "Mul": lambda node: self._binary(node, "mul", swap=True),
            "Div": lambda node: self._binary(node, "div", swap=False),
            "Relu": lambda node: self._unary(node, "relu"),
            "Tanh": lambda node: self._unary(node, "tanh"),
            "Sigmoid": lambda node: self._unary(node, "sigmoid"),
            "Gelu": self._gelu,
            "Softmax": self._softmax,
            "LayerNormalization": self._layer_norm,
            "ArgMax": self._argmax,
            "ai.onnx.ml.ArrayFeatureExtractor": self._take,
            "Reshape": self._reshape,
            "Flatten": self._flatten,
            "Transpose": self._transpose,
        }

    def model(self) -> Model:
        for node in self._nodes:
            rule = self._rules.get(node.kind)
            if rule is None:
                raise node.refuse("")
            if len(node.outputs) != 1 or not node.outputs[0]:
                raise node.refuse("exactly one output is supported")
            if node.outputs[0] in self._fused:
                continue
            if node.outputs[0] in self._values or node.outputs[0] in self._graph.constants:
                raise MalformedFile("a value is written twice", file=FILE, node=node.name)
            try:
                self._values[node.outputs[0]] = rule(node)
            except ProgramError as error:
                raise node.refuse(error.detail) from error
        outputs = {}
        for name in self._graph.outputs:
            if name not in self._values:
                raise MalformedFile("an output that no node writes", file=FILE, output=name[:64])
            outputs[name] = self._shaped(self._values[name])
        operators = self._builder.operators
        read = {op.inputs[0] for op in operators if op.kind == "linear"}
        return self._builder.model(outputs, [op.output for op in operators if op.output in read])

    # ---- what nodes read ---------------------------------------------------------------------------------------------

    def _input(self, node: Node, place: int = 0) -> Value:
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name in self._graph.constants:
            raise node.refuse(f"input {place} is a constant, a computed value is supported")
        if name not in self._values:
            raise MalformedFile("a node reads what no earlier node writes", file=FILE, node=node.name, value=name[:64])
        return self._values[name]

    def _constant(self, node: Node, place: int) -> Array:
        name = node.inputs[place] if place < len(node.inputs) else ""
        if name not in self._graph.constants:
            raise node.refuse(f"input {place} must be a constant")
        return self._graph.constants[name]

    def _floats(self, node: Node, place: int, *ranks: int) -> Array:
        array = self._constant(node, place)
        if array.dtype != np.float32 or array.ndim not in ranks:
            raise node.refuse(f"input {place} must be a float32 constant of rank {' or '.join(map(str, ranks))}")
        return array

    def _shaped(self, value: Value) -> str:
        """Our value, in the shape that ONNX gives it."""
        if self._builder.types[value.name].shape == value.shape:
            return value.name
        return self._builder.add("reshape", [value.name], shape=value.shape)

    def _emit(self, kind: str, values: Sequence[Value], weights: Sequence[str] = ()) -> Value:
        name = self._builder.add(kind, [self._shaped(value) for value in values], weights)
        return Value(name, self._builder.types[name].shape)

    def _label(self) -> str:
        return f"w{len(self._builder.operators)}"

    def _only(self, node: Node, **allowed: float | str) -> None:
        """Attributes must be absent or have the one value that the rule implements."""
        for name, value in node.attributes.items():
            if name not in allowed or value != allowed[name]:
                raise node.refuse(f"attribute {name[:64]} = {str(value)[:64]} is not supported")

    def _last_axis(self, node: Node, value: Value, default: int) -> None:
        axis = node.attributes.get("axis", default)
        if axis not in (-1, len(value.shape) - 1):
            raise node.refuse(f"axis {axis}: only the last axis is supported")

    # ---- rules -------------------------------------------------------------------------------------------------------

    def _known(self, node: Node, *names: str) -> None:
        for name in node.attributes:
            if name not in names:
                raise node.refuse(f"attribute {name[:64]} is not supported")

    def _identity(self, node: Node) -> Value:
        return self._input(node)

    def _unary(self, node: Node, kind: str) -> Value:
        self._only(node)
        return self._emit(kind, [self._input(node)])

    def _gelu(self, node: Node) -> Value:
        self._known(node, "approximate")
        how = node.attributes.get("approximate", "none")
        if how not in ("none", "tanh"):
            raise node.refuse("approximate is none or tanh")
        return self._emit("gelu_tanh" if how == "tanh" else "gelu_erf", [self._input(node)])

    def _cast(self, node: Node) -> Value:
        value, to = self._input(node), node.attributes.get("to")
        held = self._builder.types[value.name].dtype
        same = (TensorProto.FLOAT,) if held == "float32" else (TensorProto.INT32, TensorProto.INT64)
        self._known(node, "to", "saturate")
        if to not in same and to != TensorProto.FLOAT:
            raise node.refuse(f"a cast from {held} to type {to}")
        return value if to in same else self._emit("to_float", [value])

    def _linear(self, node: Node, weight: Array, bias: Array | None) -> Value:
        """``weight``: [N, K]"""
        value = self._input(node)
        if len(value.shape) < 2:
            raise node.refuse("rank 1 is not supported")
        name = self._builder.linear(self._shaped(value), self._label(), np.ascontiguousarray(weight), bias)
        return Value(name, self._builder.types[name].shape)

    def _matmul(self, node: Node) -> Value:
        self._only(node)
        weight, bias = self._floats(node, 1, 2), None
        readers = self._readers.get(node.outputs[0], [])
        if len(readers) == 1 and readers[0].kind == "Add" and node.outputs[0] not in self._graph.outputs:
            bias = self._row(readers[0], node.outputs[0], weight.shape[1])
        value = self._linear(node, weight.T, bias)
        if bias is not None:
            self._fused.add(readers[0].outputs[0])
            self._values[readers[0].outputs[0]] = value
        return value

    def _row(self, add: Node, product: str, size: int) -> Array | None:
        """The constant row [size] that ``add`` adds to ``product``, if it is one."""
        others = [name for name in add.inputs if name != product]
        row = self._graph.constants.get(others[0]) if len(others) == 1 and len(add.outputs) == 1 else None
        if row is None or row.dtype != np.float32 or row.shape not in ((size,), (1, size)):
            return None
        return row.reshape(size)

    def _gemm(self, node: Node) -> Value:
        turned = node.attributes.get("transB", 0)
        self._only(node, alpha=1.0, beta=1.0, transA=0, transB=1 if turned else 0)
        weight, bias = self._floats(node, 1, 2), None
        weight = weight if turned else weight.T
        if len(node.inputs) > 2 and node.inputs[2]:
            given = self._floats(node, 2, 0, 1, 2)
            try:
                bias = np.ascontiguousarray(np.broadcast_to(given, (1, weight.shape[0]))[0])
            except ValueError as error:
                raise node.refuse("C must be one row") from error
        return self._linear(node, weight, bias)

    def _binary(self, node: Node, kind: str, *, swap: bool) -> Value:
        self._only(node)
        if len(node.inputs) != 2:
            raise MalformedFile("two inputs are wanted", file=FILE, node=node.name)
        fixed = [name in self._graph.constants for name in node.inputs]
        if not any(fixed):
            return self._emit(kind, [self._input(node, 0), self._input(node, 1)])
        place = fixed.index(True)
        if place == 0 and not swap:
            raise node.refuse("a constant on the left is not supported")
        value, given = self._input(node, 1 - place), self._constant(node, place)
        if given.dtype != np.float32:
            raise node.refuse("constants must be float32")
        given = given.reshape(given.shape[next((i for i, dim in enumerate(given.shape) if dim != 1), given.ndim) :])
        wanted = value.shape[len(value.shape) - max(given.ndim, 1) :]
        sizes = [dim for dim in wanted if isinstance(dim, int)]
        if len(sizes) != len(wanted) or given.ndim > len(value.shape) or math.prod(sizes) > MAX_BROADCAST:
            raise node.refuse("the constant does not broadcast to the last dimensions")
        try:
            row = np.ascontiguousarray(np.broadcast_to(given, sizes))
        except ValueError as error:
            raise node.refuse("the constant does not broadcast to the last dimensions") from error
        return self._emit(kind, [value], [self._builder.weight(f"{self._label()}.constant", row)])

    def _softmax(self, node: Node) -> Value:
        value = self._input(node)
        self._known(node, "axis")
        self._last_axis(node, value, -1)
        return self._emit("softmax", [value])

    def _layer_norm(self, node: Node) -> Value:
        value, gain = self._input(node), self._floats(node, 1, 1)
        self._last_axis(node, value, -1)
        eps = node.attributes.get("epsilon", 1e-5)
        self._known(node, "axis", "epsilon", "stash_type")
        if not isinstance(eps, float) or not eps > 0:
            raise node.refuse("epsilon must be positive")
        shift = self._floats(node, 2, 1) if len(node.inputs) > 2 and node.inputs[2] else np.zeros_like(gain)
        name = self._builder.layer_norm(self._shaped(value), self._label(), gain, shift, eps)
        return Value(name, value.shape)

    def _argmax(self, node: Node) -> Value:
        value = self._input(node)
        self._last_axis(node, value, 0)
        self._known(node, "axis", "keepdims", "select_last_index")
        keep = node.attributes.get("keepdims", 1)
        if node.attributes.get("select_last_index", 0) or keep not in (0, 1):
            raise node.refuse("only the first index of the maximum is supported")
        found = self._emit("argmax", [value])
        return Value(found.name, (*found.shape, 1)) if keep else found

    def _take(self, node: Node) -> Value:
        table = self._constant(node, 0)
        index = self._input(node, 1)
        flat = [dim for dim in index.shape if dim != 1]
        if table.dtype not in (np.int32, np.int64) or table.size != table.shape[-1] or len(flat) > 1:
            raise node.refuse("only one row of integers, chosen by one index per row, is supported")
        if table.min() < -(2**31) or table.max() >= 2**31:
            raise node.refuse("the table does not fit int32")
        weight = self._builder.weight(f"{self._label()}.table", table.reshape(-1).astype(np.int32))
        name = self._builder.add("take", [index.name], [weight])
        return Value(name, (1, *(flat or [1])))

    def _reshape(self, node: Node) -> Value:
        value, wanted = self._input(node), self._constant(node, 1)
        self._only(node, allowzero=0)
        if wanted.dtype != np.int64 or wanted.ndim != 1 or not 1 <= wanted.size <= 4:
            raise node.refuse("1 to 4 dimensions are supported")
        shape: list[Dim] = []
        for place, dim in enumerate(int(dim) for dim in wanted):
            if dim < -1 or (dim == 0 and place >= len(value.shape)):
                raise MalformedFile("unusable shape", file=FILE, node=node.name)
            shape.append(value.shape[place] if dim == 0 else dim)
        if shape.count(-1) > 1:
            raise MalformedFile("two open dimensions", file=FILE, node=node.name)
        return Value(value.name, _filled(value.shape, shape, node))

    def _flatten(self, node: Node) -> Value:
        value = self._input(node)
        self._only(node, axis=1)
        return Value(value.name, _filled(value.shape, [value.shape[0], -1], node))

    def _transpose(self, node: Node) -> Value:
        value = self._input(node)
        order = node.attributes.get("perm", tuple(reversed(range(len(value.shape)))))
        self._known(node, "perm")
        if not isinstance(order, tuple):
            raise node.refuse("perm is a list of axes")
        name = self._builder.add("transpose", [self._shaped(value)], perm=order)
        return Value(name, self._builder.types[name].shape)


def _filled(old: Sequence[Dim], new: Sequence[Dim], node: Node) -> tuple[Dim, ...]:
    """``new`` with its −1 worked out, so that it holds as many elements as ``old``."""
    have = math.prod(dim for dim in old if isinstance(dim, int))
    free = [dim for dim in old if isinstance(dim, str)]
    want = math.prod(dim for dim in new if isinstance(dim, int) and dim != -1)
    for dim in new:
        if isinstance(dim, str):
            if dim not in free:
                raise node.refuse("the shape does not hold the same elements")
            free.remove(dim)
    if -1 not in new:
        if free or want != have:
            raise node.refuse("the shape does not hold the same elements")
        return tuple(new)
    rest = have // want
    if have % want or len(free) > 1 or (free and rest != 1):
        raise node.refuse("the open dimension cannot be worked out")
    return tuple((free[0] if free else rest) if dim == -1 else dim for dim in new)


def _needed(graph: Graph) -> list[Node]:
    """The nodes that outputs depend on, in the file's order."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def _port(source: GraphInput) -> Port:
    dtype = _INPUT_TYPES.get(source.code)
    if dtype is None:
        raise UnsupportedModel(f"input type {source.code} is not supported", file=FILE, input=source.name[:64])
    if any(dim is None for dim in source.shape[1:]):
        raise UnsupportedModel("only the first dimension of an input may be open", file=FILE, input=source.name[:64])
    shape: tuple[Dim, ...] = tuple("B" if dim is None else dim for dim in source.shape)
    return Port(source.name, TensorType(dtype, shape))
