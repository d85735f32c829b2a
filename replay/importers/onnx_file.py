"""An ONNX file as plain values: parsed, bounded, without external data, functions or subgraphs.

What comes out holds NumPy arrays and strings only; the protobuf objects stay here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from replay.errors import LimitExceeded, MalformedFile, UnsupportedModel, UnsupportedOperator
from replay.layout import BORDER_RANK, MAX_TENSORS, Array

FILE = "model.onnx"
MAX_NODES = 4096
MAX_CONSTANTS = 4096
MAX_DIM = 2**31
MAX_ATTRIBUTES = 64
#: Opsets that the rules were written against; each rule says from which opset on it holds.
OPSETS = {"": range(1, 29), "ai.onnx.ml": range(1, 6)}

_PROTO = onnx.TensorProto
_DTYPES: Mapping[int, tuple[np.dtype[Any], str]] = {
    _PROTO.FLOAT: (np.dtype("<f4"), "float_data"),
    _PROTO.INT32: (np.dtype("<i4"), "int32_data"),
    _PROTO.INT64: (np.dtype("<i8"), "int64_data"),
    _PROTO.BOOL: (np.dtype("u1"), "int32_data"),
}
#: Codes of node modes in a tree ensemble; nothing else may hold bytes.
_BYTES: Mapping[int, tuple[np.dtype[Any], str]] = {_PROTO.UINT8: (np.dtype("u1"), "int32_data")}

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | Array


@dataclass(frozen=True, slots=True)
class Node:
    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]

    def refuse(self, why: str) -> UnsupportedOperator:
        return UnsupportedOperator(why, operator=self.kind, node=self.name)


@dataclass(frozen=True, slots=True)
class GraphInput:
    """``code``: ONNX's name of the element type; ``shape``: a dimension that the file leaves open is None."""

    name: str
    code: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """``opsets``: the version of each domain that the file imports, ``""`` and ``"ai.onnx.ml"``."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    opsets: Mapping[str, int]


def read_graph(data: bytes) -> Graph:
    """Raises ``MalformedFile``, ``LimitExceeded``, ``UnsupportedModel``, ``UnsupportedOperator``."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RecursionError) as error:
        raise MalformedFile("not an ONNX model", file=FILE) from error
    graph = model.graph
    if not graph.node or not graph.output:
        raise MalformedFile("the graph has no nodes or no outputs", file=FILE)
    if len(graph.output) > MAX_TENSORS:
        raise LimitExceeded(f"more than {MAX_TENSORS} outputs", file=FILE)
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_CONSTANTS:
        raise LimitExceeded(f"more than {MAX_NODES} nodes or {MAX_CONSTANTS} constants", file=FILE)
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise UnsupportedModel("functions, training info, sparse or quantised tensors are not supported", file=FILE)
    opsets: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain == "ai.onnx" else _text(opset.domain)
        known = OPSETS.get(domain)
        if known is None or opset.version not in known or opsets.get(domain, opset.version) != opset.version:
            raise UnsupportedModel(f"opset {domain[:32] or 'ai.onnx'} {opset.version} is not supported", file=FILE)
        opsets[domain] = opset.version
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        name = _text(tensor.name)
        if not name or name in constants:
            raise MalformedFile("a constant without a name of its own", file=FILE, tensor=name[:64])
        constants[name] = _array(tensor)
    inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
    nodes = tuple(_node(node, index) for index, node in enumerate(graph.node))
    return Graph(nodes, constants, inputs, tuple(_text(value.name) for value in graph.output), opsets)


def _text(raw: Any) -> str:
    """A string of the file; protobuf hands out bytes where they are no UTF-8."""
    if not isinstance(raw, str):
        raise MalformedFile("a name that is no UTF-8", file=FILE)
    return raw


def _array(tensor: onnx.TensorProto, more: Mapping[int, tuple[np.dtype[Any], str]] | None = None) -> Array:
    """A constant; its size is checked against the bytes that are there before anything is allocated. Nothing is opened:
    data outside the file is refused unseen."""
    where = {"file": FILE, "tensor": _text(tensor.name)[:64]}
    if tensor.data_location != _PROTO.DEFAULT or tensor.external_data:
        raise UnsupportedModel("external data is refused", **where)
    known = {**_DTYPES, **(more or {})}
    if tensor.data_type not in known or tensor.HasField("segment"):
        raise UnsupportedModel(f"tensor type {_type_name(tensor.data_type)} is not supported", **where)
    dtype, field = known[tensor.data_type]
    dims = list(tensor.dims)
    if len(dims) > 8 or not all(0 <= dim < MAX_DIM for dim in dims):
        raise MalformedFile(f"unusable shape {dims[:8]}", **where)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != math.prod(dims) * dtype.itemsize:
            raise MalformedFile("shape and data disagree", **where)
        array = np.frombuffer(tensor.raw_data, dtype).copy()
    else:
        values = getattr(tensor, field)
        if len(values) != math.prod(dims):
            raise MalformedFile("shape and data disagree", **where)
        wide = np.array(values, "<i8" if field == "int32_data" else dtype)
        array = wide.astype(dtype)
        if (array != wide).any() and dtype.kind != "f":
            raise MalformedFile("a number does not fit the tensor's type", **where)
    if tensor.data_type == _PROTO.BOOL:
        if (array > 1).any():
            raise MalformedFile("a bool is 0 or 1", **where)
        array = array.astype(np.bool_)
    return array.reshape(dims)


def _type_name(code: int) -> str:
    """``DOUBLE`` for 11, and so on; a code that ONNX does not know stays a number."""
    names = {number: name for name, number in _PROTO.DataType.items()}
    return str(names.get(code, code))


def _input(value: onnx.ValueInfoProto) -> GraphInput:
    name = _text(value.name)
    if not value.type.HasField("tensor_type"):
        raise UnsupportedModel("an input is no tensor", file=FILE, input=name[:64])
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        raise UnsupportedModel("an input of unknown rank", file=FILE, input=name[:64])
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if len(dims) > BORDER_RANK or not all(dim is None or 0 <= dim < MAX_DIM for dim in dims):
        raise MalformedFile("an input has an unusable shape", file=FILE, input=name[:64])
    if 0 in dims:
        raise UnsupportedModel("an input without elements", file=FILE, input=name[:64])
    return GraphInput(name, _type_name(kind.elem_type), tuple(dims))


def _node(node: onnx.NodeProto, index: int) -> Node:
    label, kind, domain = (_text(node.name) or f"#{index}")[:64], _text(node.op_type)[:64], _text(node.domain)
    if domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise UnsupportedOperator("unknown domain", operator=f"{domain}.{kind}"[:64], node=label)
    if len(node.attribute) > MAX_ATTRIBUTES:
        raise LimitExceeded(f"a node with more than {MAX_ATTRIBUTES} attributes", file=FILE, node=label)
    attributes: dict[str, Attribute] = {}
    for attribute in node.attribute:
        name = _text(attribute.name)
        if name in attributes:
            raise MalformedFile("an attribute stands twice", file=FILE, node=label, attribute=name[:64])
        attributes[name] = _attribute(attribute, kind, label)
    prefix = "ai.onnx.ml." if domain == "ai.onnx.ml" else ""
    return Node(prefix + kind, label, tuple(map(_text, node.input)), tuple(map(_text, node.output)), attributes)


def _attribute(attribute: onnx.AttributeProto, kind: str, node: str) -> Attribute:
    known = onnx.AttributeProto
    if attribute.type == known.INT:
        return int(attribute.i)
    if attribute.type == known.FLOAT:
        return float(attribute.f)
    if attribute.type == known.STRING:
        return bytes(attribute.s).decode("utf-8", "replace")
    if attribute.type == known.INTS:
        return tuple(int(item) for item in attribute.ints)
    if attribute.type == known.FLOATS:
        return tuple(float(item) for item in attribute.floats)
    if attribute.type == known.STRINGS:
        return tuple(bytes(item).decode("utf-8", "replace") for item in attribute.strings)
    if attribute.type == known.TENSOR:
        return _array(attribute.t, _BYTES)
    held = {known.GRAPH: "a graph", known.GRAPHS: "graphs", known.SPARSE_TENSOR: "a sparse tensor"}
    what = held.get(attribute.type, "an unsupported type")
    raise UnsupportedOperator(f"attribute {attribute.name[:64]!r} holds {what}", operator=kind, node=node)
