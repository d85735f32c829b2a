"""Signatures of the operators that neural networks are made of: dot products, attention, norms, tables."""

from __future__ import annotations

from collections.abc import Mapping

from replay.kernels import spec
from replay.operators.types import INTEGERS, Signature, Site, TensorType, signature


def _ids(site: Site) -> TensorType:
    ids = site.typed(0, ("int32",))
    site.need(len(ids.shape) <= 3, "wants ids of rank ≤ 3")
    return ids


def _embedding(site: Site) -> TensorType:
    ids, table = _ids(site), site.weights[0]
    site.need(table.dtype == "float32" and len(table.shape) == 2, "wants a table float32 [V, d]")
    return TensorType("float32", (*ids.shape, table.shape[1]))


def _position_rows(site: Site) -> TensorType:
    table, tokens = site.weights[0], site.values[0].shape[0]
    site.need(table.dtype == "float32" and len(table.shape) == 2, "wants a table float32 [P, d]")
    site.need(site.most(tokens) <= table.shape[0], f"{tokens} may exceed the table's {table.shape[0]} rows")
    return TensorType("float32", (tokens, table.shape[1]))


def _linear(site: Site) -> TensorType:
    value, weight = site.floats(), site.weights[0]
    site.need(weight.form == "grid" and len(weight.shape) == 2, "wants a gridded weight [N, K]")
    rows, length = weight.shape
    site.need(value.shape[-1] == length, f"{value} does not end in K = {length}")
    site.need(length <= spec.dot_length_max(site.grid), f"K = {length} is above {spec.dot_length_max(site.grid)}")
    if len(site.weights) == 2:
        bias = site.weights[1]
        site.need(bias.form == "raw" and bias.dtype == "float32" and bias.shape == (rows,), f"wants a bias [{rows}]")
    a, w = spec.dot_bits(length, site.grid)
    site.constant("a_bits", a)
    site.constant("w_bits", w)
    return TensorType("float32", (*value.shape[:-1], rows))


def _matmul(site: Site) -> TensorType:
    left, right = site.floats(2), site.floats(2, place=1)
    good = len(left.shape) == len(right.shape) and left.shape[:-2] == right.shape[:-2]
    site.need(good and left.shape[-1] == right.shape[-1], f"wants [..., M, K] and [..., N, K], not {left} and {right}")
    length = site.fixed(left.shape[-1])
    site.need(length <= spec.DOT_LENGTH_MAX, f"K = {length} is above {spec.DOT_LENGTH_MAX}")
    a, b = spec.dot_bits(length)
    site.constant("a_bits", a)
    site.constant("b_bits", b)
    return TensorType("float32", (*left.shape[:-1], right.shape[-2]))


def _attention(site: Site) -> TensorType:
    value, op = site.floats(2), site.op
    heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
    site.need(len(value.shape) == 2, "wants float32 [T, (heads + 2·kv_heads)·head_dim]")
    site.need(min(heads, groups, size) >= 1 and heads % groups == 0, "wants heads a multiple of kv_heads")
    site.need(value.shape[1] == (heads + 2 * groups) * size, f"{value} does not hold q, k and v")
    causal = site.within("causal", 0, 1)
    window = site.within("window", 0, spec.TOKENS_MAX)
    site.need(window == 0 or causal == 1, "a window needs causal = 1")
    site.need(site.most(value.shape[0]) <= spec.TOKENS_MAX, f"more than {spec.TOKENS_MAX} tokens")
    if len(site.values) == 2:
        mask = site.values[1]
        good = mask == TensorType("bool", value.shape[:1])
        site.need(good, f"wants a mask bool [{value.shape[0]}], not {mask}")
    q, k = spec.dot_bits(size)
    site.constant("q_bits", q)
    site.constant("k_bits", k)
    site.constant("value_bits", spec.VALUE_BITS)
    site.double("scale")
    return TensorType("float32", (value.shape[0], heads * size))


def _rope(site: Site) -> TensorType:
    """Weights cos, sin [P, r / 2]: the first r elements of each of the first ``heads`` heads are turned."""
    value = site.floats(2)
    site.need(len(value.shape) == 2, "wants float32 [T, n·head_dim]")
    size, heads = site.within("head_dim", 2, 1 << 16), site.within("heads", 1, 1 << 16)
    site.within("interleaved", 0, 1)
    width = site.fixed(value.shape[1])
    site.need(width % size == 0 and heads <= width // size, f"{value} does not hold {heads} heads of {size}")
    for table in site.weights:
        good = table.dtype == "float32" and len(table.shape) == 2 and 2 * table.shape[1] <= size
        site.need(good and table.shape == site.weights[0].shape, "wants two tables float32 [P, r / 2]")
        site.need(site.most(value.shape[0]) <= table.shape[0], f"{value.shape[0]} may exceed the tables' rows")
    return value


def _norm_rows(site: Site) -> tuple[TensorType, int]:
    value = site.floats()
    size = site.fixed(value.shape[-1])
    site.need(size <= spec.NORM_LENGTH_MAX, f"rows longer than {spec.NORM_LENGTH_MAX}")
    site.constant("bits", spec.sum_bits(size))
    return value, size


def _layer_norm(site: Site) -> TensorType:
    value, size = _norm_rows(site)
    for place in range(len(site.weights)):
        site.row(place, size)
    site.constant("inv_d", spec.f64_hex(1.0 / size))
    site.constant("inv_d2", spec.f64_hex(1.0 / (size * size)))
    site.single("eps")
    return value


def _rms_norm(site: Site) -> TensorType:
    value, size = _norm_rows(site)
    for place in range(len(site.weights)):
        site.row(place, size)
    site.constant("inv_d", spec.f64_hex(1.0 / size))
    site.single("eps")
    return value


def _l2_normalise(site: Site) -> TensorType:
    value, _ = _norm_rows(site)
    site.single("floor")
    return value


def _softmax(site: Site) -> TensorType:
    value = site.floats()
    site.need(site.most(value.shape[-1]) <= spec.SOFTMAX_LENGTH_MAX, f"rows longer than {spec.SOFTMAX_LENGTH_MAX}")
    return value


def _sample_weights(site: Site) -> TensorType:
    """Integers proportional to the probabilities of the next token."""
    value = _softmax(site)
    site.double("scale")
    return TensorType("int64", value.shape)


def _mean_tokens(site: Site) -> TensorType:
    value = site.floats(2)
    site.need(len(value.shape) == 2, "wants float32 [T, d]")
    site.need(site.most(value.shape[0]) <= spec.POOL_TOKENS_MAX, "too many tokens for an exact sum")
    site.constant("bits", spec.GRID_BITS_MAX)
    return TensorType("float32", value.shape[1:])


def _take(site: Site) -> TensorType:
    """A table row chosen by an argmax: the program's check makes sure that the table is long enough."""
    index, table = site.typed(0, INTEGERS), site.weights[0]
    site.need(table.dtype in INTEGERS and len(table.shape) == 1, "wants a table of integers [n]")
    return TensorType(table.dtype, index.shape)


def _tree_leaves(site: Site) -> TensorType:
    """Weights feature int32 [n], threshold float32 [n], mode, yes, no int32 [n], roots int32 [trees]."""
    value = site.floats(2)
    site.need(len(value.shape) == 2, "wants float32 [B, features]")
    features, nodes = site.fixed(value.shape[1]), site.weights[0].shape[0]
    site.constant("features", features)
    wanted = ("int32", "float32", "int32", "int32", "int32")
    for weight, dtype in zip(site.weights[:5], wanted, strict=True):
        site.need(weight.dtype == dtype and weight.shape == (nodes,), f"wants {weight.name} to be {dtype} [{nodes}]")
    roots = site.weights[5]
    site.need(roots.dtype == "int32" and len(roots.shape) == 1, "wants the roots to be int32 [trees]")
    return TensorType("int32", (value.shape[0], roots.shape[0]))


SIGNATURES: Mapping[str, Signature] = {
    "embedding": signature(_embedding, weights=(1,)),
    "position_rows": signature(_position_rows, weights=(1,)),
    "linear": signature(_linear, "a_bits w_bits", weights=(1, 2)),
    "matmul": signature(_matmul, "a_bits b_bits", values=(2,)),
    "attention": signature(
        _attention, "heads kv_heads head_dim causal window q_bits k_bits value_bits scale", values=(1, 2)
    ),
    "rope": signature(_rope, "heads head_dim interleaved", weights=(2,)),
    "layer_norm": signature(_layer_norm, "bits inv_d inv_d2 eps", weights=(0, 2)),
    "rms_norm": signature(_rms_norm, "bits inv_d eps", weights=(0, 1)),
    "l2_normalise": signature(_l2_normalise, "bits floor"),
    "softmax": signature(_softmax),
    "log_softmax": signature(_softmax),
    "sample_weights": signature(_sample_weights, "scale"),
    "mean_tokens": signature(_mean_tokens, "bits"),
    "take": signature(_take, weights=(1,)),
    "tree_leaves": signature(_tree_leaves, "features", weights=(6,)),
}
