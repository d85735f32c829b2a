"""An ONNX file as plain values: parsed, bounded, without external data, functions or subgraphs.

What comes out holds NumPy arrays and strings only; the protobuf objects stay here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from replay.errors import LimitExceeded, MalformedFile, UnsupportedModel, UnsupportedOperator
from replay.layout import Array

FILE = "model.onnx"
MAX_NODES = 4096
MAX_CONSTANTS = 4096
MAX_DIM = 2**31
#: Opsets whose operators mean what the importer takes them to mean.
OPSETS = {"": range(13, 27), "ai.onnx.ml": range(1, 6)}

_PROTO = onnx.TensorProto
_DTYPES: Mapping[int, tuple[np.dtype[Any], str]] = {
    _PROTO.FLOAT: (np.dtype("<f4"), "float_data"),
    _PROTO.INT32: (np.dtype("<i4"), "int32_data"),
    _PROTO.INT64: (np.dtype("<i8"), "int64_data"),
}

Attribute = int | float | str | tuple[int, ...]


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
    """``shape``: a dimension that the file leaves open is None."""

    name: str
    code: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]


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
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_CONSTANTS:
        raise LimitExceeded(f"more than {MAX_NODES} nodes or {MAX_CONSTANTS} constants", file=FILE)
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise UnsupportedModel("functions, training info, sparse or quantised tensors are not supported", file=FILE)
    for opset in model.opset_import:
        domain = _text(opset.domain)
        known = OPSETS.get("" if domain == "ai.onnx" else domain)
        if known is None or opset.version not in known:
            raise UnsupportedModel(f"opset {domain[:32] or 'ai.onnx'} {opset.version} is not supported", file=FILE)
    constants: dict[str, Array] = {}
    for tensor in graph.initializer:
        name = _text(tensor.name)
        if not name or name in constants:
            raise MalformedFile("a constant without a name of its own", file=FILE, tensor=name[:64])
        constants[name] = _array(tensor)
    inputs = tuple(_input(value) for value in graph.input if value.name not in constants)
    nodes = tuple(_node(node, index) for index, node in enumerate(graph.node))
    return Graph(nodes, constants, inputs, tuple(_text(value.name) for value in graph.output))


def _text(raw: Any) -> str:
    """A string of the file; protobuf hands out bytes where they are no UTF-8."""
    if not isinstance(raw, str):
        raise MalformedFile("a name that is no UTF-8", file=FILE)
    return raw


def _array(tensor: onnx.TensorProto) -> Array:
    """A constant; its size is checked against the bytes that are there before anything is allocated."""
    where = {"file": FILE, "tensor": _text(tensor.name)[:64]}
    if tensor.data_location != _PROTO.DEFAULT or tensor.external_data:
        raise UnsupportedModel("external data is refused", **where)
    if tensor.data_type not in _DTYPES or tensor.HasField("segment"):
        raise UnsupportedModel(f"tensor type {tensor.data_type} is not supported", **where)
    dtype, field = _DTYPES[tensor.data_type]
    dims = list(tensor.dims)
    if len(dims) > 8 or not all(0 < dim < MAX_DIM for dim in dims):
        raise MalformedFile(f"unusable shape {dims[:8]}", **where)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != math.prod(dims) * dtype.itemsize:
            raise MalformedFile("shape and data disagree", **where)
        array = np.frombuffer(tensor.raw_data, dtype).copy()
    else:
        values = getattr(tensor, field)
        if len(values) != math.prod(dims):
            raise MalformedFile("shape and data disagree", **where)
        array = np.array(values, dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise MalformedFile("holds NaN or infinity", **where)
    return array.reshape(dims)


def _input(value: onnx.ValueInfoProto) -> GraphInput:
    name = _text(value.name)
    if not value.type.HasField("tensor_type"):
        raise UnsupportedModel("an input is no tensor", file=FILE, input=name[:64])
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if not 1 <= len(dims) <= 4 or not all(dim is None or 0 <= dim < MAX_DIM for dim in dims):
        raise MalformedFile("an input has an unusable shape", file=FILE, input=name[:64])
    return GraphInput(name, kind.elem_type, tuple(dim or None for dim in dims))


def _node(node: onnx.NodeProto, index: int) -> Node:
    label, kind, domain = (_text(node.name) or f"#{index}")[:64], _text(node.op_type)[:64], _text(node.domain)
    if domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise UnsupportedOperator("unknown domain", operator=f"{domain}.{kind}"[:64], node=label)
    attributes: dict[str, Attribute] = {}
    for attribute in node.attribute:
        attributes[_text(attribute.name)] = _attribute(attribute, kind, label)
    prefix = "ai.onnx.ml." if domain == "ai.onnx.ml" else ""
    return Node(prefix + kind, label, tuple(map(_text, node.input)), tuple(map(_text, node.output)), attributes)


def _attribute(attribute: onnx.AttributeProto, kind: str, node: str) -> Attribute:
    if attribute.type == onnx.AttributeProto.INT:
        return int(attribute.i)
    if attribute.type == onnx.AttributeProto.FLOAT:
        return float(attribute.f)
    if attribute.type == onnx.AttributeProto.STRING:
        return bytes(attribute.s).decode("utf-8", "replace")
    if attribute.type == onnx.AttributeProto.INTS:
        items: Sequence[int] = attribute.ints
        return tuple(int(item) for item in items)
    raise UnsupportedOperator(f"attribute {attribute.name[:64]!r} has an unsupported type", operator=kind, node=node)
