"""From collected operators to a model: what no output needs is left out, a bias joins its product, names are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from replay.errors import UnsupportedModel
from replay.importers.build import Builder
from replay.importers.onnx_file import FILE
from replay.importers.onnx_lower import Lowering
from replay.model import Model
from replay.operators import Operator
from replay.program import MAX_BOUNDARIES

#: What these kinds read is committed between input and output.
_BOUNDARY_READERS = frozenset(("linear", "matmul", "tree_leaves"))
_ROLES: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("linear", "layer_norm", "rms_norm"), ("weight", "bias")),
    "tree_leaves": ("feature", "threshold", "mode", "yes", "no", "roots"),
    "take": ("table",),
}


def finish(low: Lowering, outputs: Mapping[str, str]) -> Model:
    """``outputs``: name in the bundle → value. Raises ``UnsupportedModel``, ``ProgramError``."""
    operators = _fused(low, _live(low.builder.operators, outputs.values()), outputs)
    read = {name for op in operators for name in op.inputs}
    ports = [port for port in low.builder.inputs if port.name in read]
    if not ports:
        raise UnsupportedModel("no output depends on an input", file=FILE)
    symbols = {name: most for name, most in low.builder.symbols.items() if any(name in p.type.shape for p in ports)}
    builder = Builder(ports, symbols, low.builder.grid)
    names = {port.name: port.name for port in ports}
    weights: dict[str, str] = {}
    for index, op in enumerate(operators):
        for place, weight in enumerate(op.weights):
            if weight not in weights:
                role = _ROLES.get(op.kind, ("constant",))[place]
                weights[weight] = builder.weight(f"w{index}.{role}", low.weights[weight], low.specs[weight].form)
        names[op.output] = builder.add(
            op.kind,
            [names[name] for name in op.inputs],
            [weights[name] for name in op.weights],
            name="",
            **op.attributes,
        )
    return builder.model({name: names[value] for name, value in outputs.items()}, _boundaries(builder))


def _live(operators: Sequence[Operator], wanted: Iterable[str]) -> list[Operator]:
    needed, kept = set(wanted), []
    for op in reversed(operators):
        if op.output in needed:
            needed.update(op.inputs)
            kept.append(op)
    return kept[::-1]


def _fused(low: Lowering, operators: Sequence[Operator], outputs: Mapping[str, str]) -> list[Operator]:
    """A ``linear`` without bias, read by nothing but an ``add`` of one constant row, takes that row as its bias."""
    reads = Counter([name for op in operators for name in op.inputs] + list(outputs.values()))
    made = {op.output: op for op in operators}
    fused: dict[str, Operator] = {}
    for op in operators:
        product = made.get(op.inputs[0]) if op.kind == "add" and len(op.weights) == 1 else None
        if product is None or product.kind != "linear" or len(product.weights) != 1 or reads[product.output] != 1:
            continue
        row, kind = low.weights[op.weights[0]], low.builder.types[product.output]
        if row.size == kind.shape[-1] == row.shape[-1] and low.builder.types[op.output] == kind:
            bias = low.weight(row.reshape(-1))
            fused[op.output] = replace(product, weights=(*product.weights, bias), output=op.output)
    dropped = {op.inputs[0] for op in operators if op.output in fused}
    return [fused.get(op.output, op) for op in operators if op.output not in dropped]


def _boundaries(builder: Builder) -> list[str]:
    """What the operators above read, inputs and constants aside; of more than 4,096 every second, third, … one."""
    read = {name for op in builder.operators if op.kind in _BOUNDARY_READERS for name in op.inputs}
    found = [op.output for op in builder.operators if op.output in read and op.kind != "constant"]
    return found[:: -(-len(found) // MAX_BOUNDARIES) or 1]
