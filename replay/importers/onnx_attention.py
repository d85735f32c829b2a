"""ONNX's Attention and RotaryEmbedding as products, softmax and masks.

What a mask leaves out gets the least number before the softmax and weight 0 behind it, so a row with nothing allowed is 0,
as ONNX has it. (The kind ``attention`` fixes one sentence, one layout and one mask; these graphs have others.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_network import swapped
from replay.importers.onnx_value import Call, Rule, Value, broadcast, fixed

_LEAST = -float(np.finfo(np.float32).max)


def _heads(call: Call, value: Value, name: str) -> Value:
    """[B, T, heads·h] → [B, heads, T, h]."""
    if value.rank == 4:
        return value
    heads = call.whole(name, 0)
    call.need(value.rank == 3 and heads >= 1 and value.size(2) % heads == 0, f"{name} does not divide the rows")
    batch, tokens, size = value.shape[0], value.shape[1], value.size(2) // heads
    return call.low.transpose(call.low.reshape(value, (batch, tokens, heads, size)), (0, 2, 1, 3))


def _repeated(low: Lowering, value: Value, times: int) -> Value:
    """Each head of keys or values, ``times`` times in a row."""
    if times == 1:
        return value
    batch, heads, tokens, size = value.shape
    made = low.expand(low.reshape(value, (batch, heads, 1, tokens, size)), (batch, heads, times, tokens, size))
    return low.reshape(made, (batch, fixed(heads) * times, tokens, size))


def _both(low: Lowering, left: Value | None, right: Value) -> Value:
    return right if left is None else low("and", left, right)


def _mask(call: Call, keys: int) -> tuple[Value | None, Value | None]:
    """(bool mask, numbers to add), either of them None; dimensions aligned at the last."""
    low, mask = call.low, call.optional(3)
    if mask is None:
        return None, None
    short = keys - mask.size(-1)
    low.grow((*(dim for dim in mask.shape[:-1] if mask.array is not None), keys))
    call.need(short >= 0 and mask.rank <= 4, "the mask does not fit")
    allowed: Value | None = None
    if short:
        allowed = low("less", low.steps(keys), keys - short)
    widths: tuple[Sequence[int], Sequence[int]] = ((0,) * mask.rank, (*(0,) * (mask.rank - 1), short))
    if mask.dtype == "bool":
        if mask.array is not None:
            mask = low.constant(np.pad(mask.array, list(zip(*widths, strict=True))))
            return mask, None
        return low.pad(mask, *widths), None
    if mask.array is not None:
        array = np.pad(mask.array, list(zip(*widths, strict=True)))
        gone = np.isneginf(array)
        if gone.any():
            allowed = _both(low, allowed, low.constant(~gone))
        return allowed, low.constant(np.where(gone, np.float32(0), array))
    return allowed, low.pad(mask, *widths)


def _places(call: Call, queries: int, keys: int, first: Value | int) -> Value | None:
    """Which keys each query may see by its place: causal, and the windows to both sides; query i stands at first + i."""
    low = call.low
    causal, left, right = (
        call.flag("is_causal"),
        call.whole("left_window_size", -1),
        call.whole("right_window_size", -1),
    )
    call.need(min(left, right) >= -1, "a window below −1")
    right = 0 if causal else right
    if left < 0 and right < 0:
        return None
    low.grow((queries, keys))
    distance = low.constant(np.arange(queries, dtype=np.int64)[:, None] - np.arange(keys, dtype=np.int64))
    distance = low("add", distance, first)
    allowed: Value | None = None
    if right >= 0:
        allowed = low("less_equal", low.number(-right, "int64"), distance)
    return allowed if left < 0 else _both(low, allowed, low("less_equal", distance, left))


def _attention(call: Call) -> Sequence[Value]:
    low = call.low
    flat = call.value(0).rank == 3
    query, key = _heads(call, call.value(0), "q_num_heads"), _heads(call, call.value(1), "kv_num_heads")
    value, past_key, past_value = _heads(call, call.value(2), "kv_num_heads"), call.optional(4), call.optional(5)
    call.need(query.rank == key.rank == value.rank == 4 and query.dtype == "float32", "wants float32 of rank 3 or 4")
    call.need((past_key is None) == (past_value is None), "past keys and values belong together")
    lengths, before = call.optional(6), 0
    if past_key is not None and past_value is not None:
        call.need(lengths is None and past_key.rank == past_value.rank == 4, "past tensors do not fit")
        before = past_key.size(2)
        key, value = low.concat([past_key, key], 2), low.concat([past_value, value], 2)
    queries, keys, size = query.size(2), key.size(2), query.size(3)
    times, rest = divmod(query.size(1), key.size(1))
    call.need(rest == 0 and value.shape[1:3] == key.shape[1:3], "heads do not fit")
    allowed, added = _mask(call, keys)
    first: Value | int = before
    if lengths is not None:
        count = low.reshape(low.cast(lengths, "int64"), (*lengths.shape, 1, 1, 1))
        first = low("sub", count, queries)
        seen = low("less", low.steps(keys), count)
        allowed = _both(low, allowed, seen)
    placed = _places(call, queries, keys, first)
    allowed = allowed if placed is None else _both(low, allowed, placed)
    scale = call.decimal("scale", 1 / math.sqrt(size))
    call.need(scale > 0 and call.whole("softmax_precision", 1) in (1, 11), "the scale or softmax_precision")
    scores = low("mul", low.matmul(query, _repeated(low, key, times)), scale)
    cap = call.decimal("softcap", 0.0)
    stages = [scores]
    if cap > 0:
        scores = low("mul", low("tanh", low("div", scores, cap)), cap)
    stages.append(scores)
    scores = scores if added is None else low("add", scores, added)
    stages.append(scores)
    if allowed is not None:
        allowed = low.expand(allowed, broadcast(allowed.shape, scores.shape))
        scores = low.where(allowed, scores, low.number(_LEAST))
    weights = low.along("softmax", scores, -1)
    weights = weights if allowed is None else low.where(allowed, weights, low.number(0))
    stages.append(weights)
    made = low.matmul(weights, swapped(low, _repeated(low, value, times)))
    if flat:
        batch, heads, tokens, depth = made.shape
        made = low.reshape(low.transpose(made, (0, 2, 1, 3)), (batch, tokens, fixed(heads) * fixed(depth)))
    mode = call.whole("qk_matmul_output_mode", 0)
    if len(call.node.outputs) < 4 or not call.node.outputs[3]:
        return made, key, value
    call.need(0 <= mode <= 3, f"qk_matmul_output_mode {mode}")
    call.need(mode != 2 or allowed is None, "masked scores, which are not finite")
    call.need(mode != 0 or cap <= 0, "scores before the cap")
    return made, key, value, stages[mode]


def _rotary(call: Call) -> Value:
    """[B, heads, T, h] or [B, T, heads·h]: the first r elements of each head are turned."""
    low, value, cos, sin, places = call.low, call.value(0), call.value(1), call.value(2), call.optional(3)
    heads, flat = call.whole("num_heads", 0), value.rank == 3
    if flat:
        call.need(heads >= 1 and value.size(2) % heads == 0, "num_heads does not divide the rows")
        parts = low.reshape(value, (*value.shape[:2], heads, value.size(2) // heads))
    else:
        call.need(value.rank == 4, "wants rank 3 or 4")
        parts = low.transpose(value, (0, 2, 1, 3))
    size = parts.size(3)
    width = call.whole("rotary_embedding_dim", 0) or size
    call.need(0 < width <= size and width % 2 == 0 and cos.shape == sin.shape, "the rotated part does not fit")
    if places is not None:
        call.need(cos.rank == 2 and places.shape == parts.shape[:2], "position_ids do not fit")
        cos, sin = low.gather(cos, places, 0), low.gather(sin, places, 0)
    call.need(cos.rank == 3 and cos.shape[2] == width // 2, "the caches do not fit")
    cos, sin = (low.reshape(table, (*table.shape[:2], 1, width // 2)) for table in (cos, sin))
    step = 2 if call.flag("interleaved") else 1
    a = low.slice(parts, 3, 0, width // 2, step)
    b = low.slice(parts, 3, 1 if step == 2 else width // 2, width // 2, step)
    turned = [
        low("sub", low("mul", a, cos), low("mul", b, sin)),
        low("add", low("mul", a, sin), low("mul", b, cos)),
    ]
    if step == 2:
        pairs = low.concat([low.reshape(part, (*part.shape, 1)) for part in turned], -1)
        made = low.reshape(pairs, (*a.shape[:3], width))
    else:
        made = low.concat(turned, 3)
    if width < size:
        made = low.concat([made, low.slice(parts, 3, width, size - width)], 3)
    return low.reshape(made, value.shape) if flat else low.transpose(made, (0, 2, 1, 3))


RULES: Mapping[str, Rule] = {
    "Attention": Rule(_attention, 23),
    "RotaryEmbedding": Rule(_rotary, 23),
}
