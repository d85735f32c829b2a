"""Why one scalar is what it is, step by step in plain integers: what a party shows when a single element is disputed.

Everything is recomputed by the scalar reference from what the operator read; nothing is taken from the backend that ran.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.errors import LayoutError
from replay.kernels.scalar import network
from replay.kernels.scalar.attention import AttentionRow, allowed, attention_row
from replay.kernels.scalar.backend import ScalarKernels, to_tensor
from replay.kernels.scalar.grid import GridRow, grid_row, unit_power
from replay.layout import Array
from replay.operators import Operator
from replay.witness import Witness


@dataclass(frozen=True, slots=True)
class RowExponent:
    """The biased exponent of a row's grid, and the place of an element that attains it (or of the largest, where the
    exponent is the floor of 27). Too low an exponent falls to one opening, too high a one has no witness."""

    exponent: int
    witness: int


@dataclass(frozen=True, slots=True)
class DotProduct:
    """One element of ``linear`` or ``matmul``. ``sums``: the integer sum of each tile of 256 terms; their total times
    2^``power``, plus ``bias`` (fp32 bits), rounded to fp64 and then to fp32, is ``bits``."""

    row: int
    column: int
    left: RowExponent
    right: RowExponent
    sums: tuple[int, ...]
    power: int
    bias: int
    bits: int


@dataclass(frozen=True, slots=True)
class Attention:
    """One token and head of ``attention``: the query's exponent, those of the keys and values it may see, and the row."""

    token: int
    head: int
    query: RowExponent
    keys: tuple[RowExponent, ...]
    values: tuple[RowExponent, ...]
    row: AttentionRow


@dataclass(frozen=True, slots=True)
class Element:
    """An element of any other kind, recomputed from the whole of what its operator read."""

    bits: int


Explanation = DotProduct | Attention | Element


def explain(run: Witness, operator: int, element: int) -> Explanation:
    """Element ``element`` (flat) of operator ``operator``'s output. Raises ``LayoutError`` where there is none."""
    tensor = run.tensor(operator)
    if tensor is None or not 0 <= element < tensor.size:
        raise LayoutError(f"operator {operator} has no element {element}")
    op = run.program.operators[operator]
    reads = run.reads(operator)
    if op.kind in ("linear", "matmul"):
        return _dot_product(run, op, reads, element, tensor)
    if op.kind == "attention":
        return attention(op, reads, *divmod(element // op.integer("head_dim"), op.integer("heads")))
    kernels = ScalarKernels(run.program, {name: run.weights[name] for name in op.weights})
    result = kernels.apply(op, [kernels.load(value) for value in reads], run.dims)
    return Element(result.data[element])


def attention(op: Operator, reads: list[Array], token: int, head: int) -> Attention:
    """One row of an attention, from what it read. Raises ``LayoutError`` for a row that is not finite."""
    heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
    x, mask = reads[0], reads[1].tolist() if len(reads) > 1 else ()
    group = head * groups // heads
    causal, window = op.integer("causal") == 1, op.integer("window")

    def gridded(token: int, place: int, bits: int) -> GridRow | None:
        return grid_row(to_tensor(x[token, place * size : (place + 1) * size]).data, bits)

    q_bits, k_bits, value_bits = op.integer("q_bits"), op.integer("k_bits"), op.integer("value_bits")
    seen = allowed(token, len(x), causal=causal, window=window, mask=mask)
    query = gridded(token, head, q_bits)
    keys = [gridded(one, heads + group, k_bits) for one in seen]
    values = [gridded(one, heads + groups + group, value_bits) for one in seen]
    row = attention_row(query, keys, values, q_bits, k_bits, value_bits, int(op.text("scale"), 16))
    if row is None or query is None:
        raise LayoutError(f"token {token}, head {head} is not finite")
    return Attention(token, head, _attested(query), tuple(map(_attested, keys)), tuple(map(_attested, values)), row)


def _attested(row: GridRow | None) -> RowExponent:
    if row is None:
        raise LayoutError("a row has no grid")
    return RowExponent(row.exponent, row.witness)


def _dot_product(run: Witness, op: Operator, reads: list[Array], element: int, tensor: Array) -> DotProduct:
    row, column = divmod(element, tensor.shape[-1])
    x = reads[0].reshape(-1, reads[0].shape[-1])[row]
    bias, x_bits = 0, op.integer("a_bits")
    if op.kind == "linear":
        other, w_bits = run.weights[op.weights[0]][column], op.integer("w_bits")
        bias = to_tensor(run.weights[op.weights[1]]).data[column] if len(op.weights) == 2 else 0
    else:
        rows = reads[1].reshape(-1, *reads[1].shape[-2:])
        other, w_bits = rows[row // tensor.shape[-2]][column], op.integer("b_bits")
    left, right = (grid_row(to_tensor(np.asarray(one)).data, bits) for one, bits in ((x, x_bits), (other, w_bits)))
    if left is None or right is None:
        raise LayoutError(f"element {element} is not finite: a row has no grid")
    found = network.linear_element(left, right, bias, x_bits, w_bits)
    power = unit_power(left.exponent, x_bits) + unit_power(right.exponent, w_bits)
    return DotProduct(row, column, _attested(left), _attested(right), tuple(found.sums), power, bias, found.bits)
