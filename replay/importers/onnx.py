"""ONNX graphs → Program. What is not listed in ``docs/onnx.md`` is refused by name, never guessed.

Committed are all outputs of the graph, in its order. Boundaries: every value that a ``linear``, ``matmul`` or
``tree_leaves`` reads, the graph's inputs and constants aside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from replay.errors import MalformedFile, ProgramError, UnsupportedModel
from replay.importers import (
    onnx_attention,
    onnx_convolution,
    onnx_image,
    onnx_index,
    onnx_loss,
    onnx_math,
    onnx_ml,
    onnx_network,
    onnx_norm,
    onnx_pool,
    onnx_recurrent,
    onnx_reduce,
    onnx_shapes,
    onnx_trees,
)
from replay.importers.manifest import ModelFiles
from replay.importers.onnx_collect import TooLarge
from replay.importers.onnx_file import FILE, Graph, GraphInput, Node, read_graph
from replay.importers.onnx_finish import finish
from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_value import Call, Rule, Value
from replay.layout import Array
from replay.model import Model
from replay.operators import Dim, DType, TensorType
from replay.program import Port

#: Rows in one batch; a model whose values would grow too large is given fewer, by halves.
MAX_BATCH = 4096

RULES: Mapping[str, Rule] = {
    **onnx_math.RULES,
    **onnx_reduce.RULES,
    **onnx_shapes.RULES,
    **onnx_index.RULES,
    **onnx_network.RULES,
    **onnx_convolution.RULES,
    **onnx_pool.RULES,
    **onnx_norm.RULES,
    **onnx_loss.RULES,
    **onnx_attention.RULES,
    **onnx_recurrent.RULES,
    **onnx_image.RULES,
    **onnx_ml.RULES,
    **onnx_trees.RULES,
}

_INPUT_TYPES: Mapping[str, DType] = {"FLOAT": "float32", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
_NAME = re.compile(r"[!-~]{1,32}")
#: Names that the program gives itself.
_OWN = re.compile(r"v[0-9]+\..*|(input|output)[0-9]+|nonfinite")


def import_onnx(source: ModelFiles, bound: Mapping[str, Array] | None = None) -> Model:
    """The model. ``bound``: inputs that are made constants, by name: a shape, axes, a count that a graph leaves open.

    Raises ``ModelRefused`` (its subclasses) or ``ProgramError``.
    """
    graph = read_graph(bytes(source.files[FILE]))
    batch = MAX_BATCH
    while batch:
        try:
            return _Importer(graph, source.grid, bound or {}, batch).model()
        except TooLarge:
            batch //= 2
    raise UnsupportedModel("a value holds too many elements for a batch of one", file=FILE)


class _Importer:
    def __init__(self, graph: Graph, grid: str, bound: Mapping[str, Array], batch: int) -> None:
        self._graph, self._nodes = graph, _needed(graph)
        unknown = set(bound) - {source.name for source in graph.inputs}
        if unknown:
            raise UnsupportedModel("only an input can be bound", file=FILE, input=min(unknown)[:64])
        free = [source for source in graph.inputs if source.name not in bound]
        names = _names([source.name for source in free], "input")
        ports = [_port(source, name) for source, name in zip(free, names, strict=True)]
        symbols = {"B": batch} if any("B" in port.type.shape for port in ports) else {}
        self._low = Lowering(ports, symbols, grid)
        self._values: dict[str, Value] = {}
        for name, array in {**graph.constants, **bound}.items():
            self._values[name] = self._low.constant(array)
        for source, port in zip(free, ports, strict=True):
            if source.name in self._values:
                raise MalformedFile("an input is declared twice", file=FILE, input=source.name[:64])
            shape = port.type.shape if source.shape else ()
            self._values[source.name] = Value(shape, port.type.dtype, port.name)

    def model(self) -> Model:
        for node in self._nodes:
            self._run(node)
        outputs = {}
        given = self._graph.outputs
        for name, output in zip(given, _names(given, "output"), strict=True):
            if name not in self._values:
                raise MalformedFile("an output that no node writes", file=FILE, output=name[:64])
            value = self._low.real(self._values[name])
            if value in {port.name for port in self._low.builder.inputs}:
                value = self._low.apply("reshape", [value], shape=self._low.builder.types[value].shape)
            outputs[output] = value
        return finish(self._low, outputs)

    def _run(self, node: Node) -> None:
        rule = RULES.get(node.kind)
        if rule is None:
            raise node.refuse(_REASONS.get(node.kind, ""))
        domain = "ai.onnx.ml" if node.kind.startswith("ai.onnx.ml.") else ""
        opset = self._graph.opsets.get(domain, 0)
        if opset < rule.since:
            raise node.refuse(f"opset {opset}: supported from {rule.since} on")
        call = Call(self._low, node, tuple(self._read(node, name) for name in node.inputs), opset)
        try:
            made = rule.run(call)
        except ProgramError as error:
            raise node.refuse(error.detail) from error
        except (ValueError, ArithmeticError, IndexError) as error:
            raise node.refuse(f"its attributes and shapes do not fit ({type(error).__name__})") from error
        if why := call.unread():
            raise node.refuse(why)
        results: Sequence[Value] = [made] if isinstance(made, Value) else made
        for place, name in enumerate(node.outputs):
            if not name:
                continue
            if place >= len(results):
                raise node.refuse(f"output {place} is not supported")
            if name in self._values:
                raise MalformedFile("a value is written twice", file=FILE, node=node.name, value=name[:64])
            self._values[name] = results[place]

    def _read(self, node: Node, name: str) -> Value | None:
        if not name:
            return None
        if name not in self._values:
            raise MalformedFile("a node reads what no earlier node writes", file=FILE, node=node.name, value=name[:64])
        return self._values[name]


#: Why an operator has no rule.
_REASONS: Mapping[str, str] = {
    "ai.onnx.ml.ZipMap": "it makes maps; export with the option zipmap=False",
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), "control flow"),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
        "it is random",
    ),
    **dict.fromkeys(
        ("NonZero", "Unique", "NonMaxSuppression", "Compress"), "its result's shape depends on its input's values"
    ),
}


def _needed(graph: Graph) -> list[Node]:
    """The nodes that outputs depend on, in the file's order."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return kept[::-1]


def _names(given: Sequence[str], stem: str) -> list[str]:
    """Names for the bundle: as they are if they are short printable ASCII, else ``input0``, ``output1``, …"""
    plain = [_NAME.fullmatch(name) is not None and _OWN.fullmatch(name) is None for name in given]
    return [name if good else f"{stem}{place}" for place, (name, good) in enumerate(zip(given, plain, strict=True))]


def _port(source: GraphInput, name: str) -> Port:
    dtype = _INPUT_TYPES.get(source.code)
    if dtype is None:
        raise UnsupportedModel(f"input type {source.code} is not supported", file=FILE, input=source.name[:64])
    if any(dim is None for dim in source.shape[1:]):
        raise UnsupportedModel("only the first dimension of an input may be open", file=FILE, input=source.name[:64])
    shape: tuple[Dim, ...] = tuple("B" if dim is None else dim for dim in source.shape)
    return Port(name, TensorType(dtype, shape or (1,)))
