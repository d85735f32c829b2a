"""Reading tables: embeddings, positions, rotary angles, decision trees."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from replay.kernels import spec
from replay.kernels.scalar.softfloat import F32
from replay.kernels.scalar.tensor import Call, Kind, Tensor, floats, wholes

#: A node's question by its mode: feature ∘ threshold.
_QUESTIONS: Sequence[Callable[[int, int], bool]] = (
    operator.le, operator.lt, operator.ge, operator.gt, operator.eq, operator.ne,
)  # fmt: skip


def embedding(call: Call) -> Tensor:
    (ids,), (table,) = call.values, call.weights
    rows = list(table.rows())
    return floats((*ids.shape, table.shape[1]), [bits for index in ids.data for bits in rows[index]])


def position_rows(call: Call) -> Tensor:
    (table,), tokens = call.weights, call.values[0].shape[0]
    rows = list(table.rows())[call.position : call.position + tokens]
    return floats((tokens, table.shape[1]), [bits for row in rows for bits in row])


def take(call: Call) -> Tensor:
    (index,), (table,) = call.values, call.weights
    return wholes(table.dtype, index.shape, [table.data[place] for place in index.data])


def rope_row(
    row: Sequence[int], cos: Sequence[int], sin: Sequence[int], heads: int, head_dim: int, *, interleaved: bool
) -> list[int]:
    """One token: ``row`` holds heads of ``head_dim``; ``cos`` and ``sin`` are the r/2 angles of its position."""
    turned, half = list(row), len(cos)
    for head in range(heads):
        for place, (c, s) in enumerate(zip(cos, sin, strict=True)):
            first = head * head_dim + (2 * place if interleaved else place)
            second = first + (1 if interleaved else half)
            a, b = row[first], row[second]
            turned[first] = F32.sub(F32.mul(a, c), F32.mul(b, s))
            turned[second] = F32.add(F32.mul(b, c), F32.mul(a, s))
    return turned


def rope(call: Call) -> Tensor:
    (x,), (cos, sin), op = call.values, call.weights, call.op
    heads, size, interleaved = op.integer("heads"), op.integer("head_dim"), op.integer("interleaved") == 1
    last = call.position + x.shape[0]
    angles = zip(cos[call.position : last].rows(), sin[call.position : last].rows(), strict=True)
    rows = zip(x.rows(), angles, strict=True)
    return floats(
        x.shape, [y for row, (c, s) in rows for y in rope_row(row, c, s, heads, size, interleaved=interleaved)]
    )


def tree_leaf(row: Sequence[int], tables: Sequence[Sequence[int]], node: int) -> int:
    """From a root to a leaf's ``yes``. ``tables``: feature, threshold (fp32 bits), mode, yes, no, each [n]."""
    feature, threshold, mode, yes, no = tables
    while mode[node] != spec.TREE_LEAF:
        answer = _QUESTIONS[mode[node]](F32.order(row[feature[node]]), F32.order(threshold[node]))
        node = yes[node] if answer else no[node]
    return yes[node]


def tree_leaves(call: Call) -> Tensor:
    (x,) = call.values
    *tables, roots = (weight.data for weight in call.weights)
    data = [tree_leaf(row, tables, root) for row in x.rows() for root in roots]
    return wholes("int32", (x.shape[0], len(roots)), data)


KINDS: Mapping[str, Kind] = {
    "embedding": embedding,
    "position_rows": position_rows,
    "take": take,
    "rope": rope,
    "tree_leaves": tree_leaves,
}
