"""Attention, row by row: one query of one head against the keys and values that it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from replay.kernels import spec
from replay.kernels.scalar import functions
from replay.kernels.scalar.functions import NOT_FINITE
from replay.kernels.scalar.grid import GridRow, dot, grid_row, unit_power
from replay.kernels.scalar.softfloat import F32, F64, half_even, narrow
from replay.kernels.scalar.tensor import Call, Kind, Tensor, floats


class AttentionRow(NamedTuple):
    """One (token, head). Lists of one item per allowed token: ``logits`` t (fp32 bits), ``rounded`` round(u), ``weights`` w.
    ``top``: the first place of the largest logit; ``total``: D = Σ round(u); ``exponent``: E, the largest among the
    values' exponents. Per channel: ``sums`` Σ w·q_v and ``bits``, the result."""

    logits: list[int]
    top: int
    rounded: list[int]
    total: int
    exponent: int
    weights: list[int]
    sums: list[int]
    bits: list[int]


def attention_row(
    query: GridRow | None,
    keys: Sequence[GridRow | None],
    values: Sequence[GridRow | None],
    q_bits: int,
    k_bits: int,
    value_bits: int,
    scale: int,
) -> AttentionRow | None:
    """``keys``, ``values``: those of the allowed tokens and no others, in order. ``scale``: fp64 bits. None where the row is
    not finite: nothing is allowed, a grid is missing, a logit is infinite."""
    seen = [key for key in keys if key is not None]
    held = [value for value in values if value is not None]
    if query is None or not keys or len(seen) < len(keys) or len(held) < len(values):
        return None
    logits = []
    for key in seen:
        power = unit_power(query.exponent, q_bits) + unit_power(key.exponent, k_bits)
        logits.append(narrow(F64.mul(F64.nearest(dot(query.integers, key.integers), power), scale)))
    if not all(map(F32.finite, logits)):
        return None
    top = max(range(len(logits)), key=lambda place: F32.order(logits[place]))
    powers = [functions.exp2_from(F32.sub(t, logits[top]), spec.WEIGHT_BITS) for t in logits]
    rounded = [F32.whole(u) for u in powers]
    total = sum(rounded)
    exponent = max(value.exponent for value in held)
    weights = [_scaled(u, value.exponent - exponent) for u, value in zip(powers, held, strict=True)]
    sums = [dot(weights, channel) for channel in zip(*(value.integers for value in held), strict=True)]
    unit, divisor = unit_power(exponent, value_bits), F64.nearest(total)
    bits = [narrow(F64.div(F64.nearest(number, unit), divisor)) for number in sums]
    return AttentionRow(logits, top, rounded, total, exponent, weights, sums, bits)


def _scaled(u: int, power: int) -> int:
    """u·2^power rounded half to even, u as fp32 bits."""
    m, e = F32.split(u)
    return half_even(m, e + power)


def allowed(query: int, tokens: int, *, causal: bool, window: int, mask: Sequence[int] = ()) -> list[int]:
    """The tokens that token ``query`` may see, of ``tokens`` in all."""
    first = max(query - window + 1, 0) if window > 0 else 0
    last = query + 1 if causal else tokens
    return [token for token in range(first, last) if not mask or mask[token]]


def attention(call: Call) -> Tensor:
    """With a state, queries are the tokens of this call, keys and values those of all calls so far."""
    op, x = call.op, call.values[0]
    heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
    budget = op.integer("q_bits"), op.integer("k_bits"), op.integer("value_bits")
    causal, window, scale = op.integer("causal") == 1, op.integer("window"), call.bits("scale")
    mask = call.values[1].data if len(call.values) == 2 else []
    queries: list[list[GridRow | None]] = []  # per token, then per head or group
    keys: list[list[GridRow | None]] = []
    values: list[list[GridRow | None]] = []
    for row in x.rows():
        parts = [row[at : at + size] for at in range(0, len(row), size)]
        queries.append([grid_row(part, budget[0]) for part in parts[:heads]])
        keys.append([grid_row(part, budget[1]) for part in parts[heads : heads + groups]])
        values.append([grid_row(part, budget[2]) for part in parts[heads + groups :]])
    if call.state is not None:
        before = call.state.kept.get(op.output, ([], []))
        keys, values = before[0] + keys, before[1] + values
        call.state.kept[op.output] = keys, values
    data: list[int] = []
    for place, token in enumerate(queries):
        seen = allowed(call.position + place, len(keys), causal=causal, window=window, mask=mask)
        for head, query in enumerate(token):
            group = head * groups // heads
            row_keys, row_values = [keys[j][group] for j in seen], [values[j][group] for j in seen]
            found = attention_row(query, row_keys, row_values, *budget, scale)
            data += [NOT_FINITE] * size if found is None else found.bits
    return floats((x.shape[0], heads * size), data)


KINDS: Mapping[str, Kind] = {"attention": attention}
