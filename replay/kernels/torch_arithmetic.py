"""Two operands element by element, casts, and reductions along the last dimension, in torch (docs/numerics.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from replay.kernels import spec
from replay.kernels.torch_core import F32, F64, I32, I64, Top, exp64, finish, log64, refuse, written
from replay.operators import Operator

_DTYPES = {"float32": F32, "int32": I32, "int64": I64, "bool": torch.bool}
_FIELDS = (spec.EXPONENT_MIN << 23, spec.EXPONENT_MAX << 23)


# ---- two operands ----------------------------------------------------------------------------------------------------


def _spread(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both at their common shape: an element marked as not finite is counted in the result."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    return x.expand(shape), y.expand(shape)


def _integers(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x, y without −1, where y is −1), broadcast; a zero divisor has no result. The machine's division traps on zero
    and on the least integer over −1."""
    x, y = _spread(x, y)
    refuse(y == 0)
    turned = y == -1
    return x, y.masked_fill(turned, 1), turned


def _divide(_: Operator, x: Tensor, y: Tensor) -> Tensor:
    """fp32 division, or integer division towards zero (the quotient of the least integer and −1 wraps)."""
    if x.dtype == F32:
        return finish(x / y)
    x, safe, turned = _integers(x, y)
    return torch.where(turned, -x, torch.div(x, safe, rounding_mode="trunc"))


def _mod(_: Operator, x: Tensor, y: Tensor) -> Tensor:
    """The remainder that has the divisor's sign."""
    x, safe, _turned = _integers(x, y)
    return torch.remainder(x, safe)


def _fmod(_: Operator, x: Tensor, y: Tensor) -> Tensor:
    """The remainder that has the dividend's sign."""
    x, safe, _turned = _integers(x, y)
    return torch.fmod(x, safe)


def _pow(_: Operator, x: Tensor, y: Tensor) -> Tensor:
    x, y = _spread(x, y)
    if x.dtype != F32:
        return _integer_power(x, y)
    size, nothing = x.abs(), x == 0
    magnitude = exp64(log64(size.masked_fill(nothing, 1.0).to(F64)).mul_(y.to(F64))).to(F32)
    whole = y == y.floor()
    odd = whole & (y.abs() < 2.0**24) & ((y.clamp(-(2.0**24), 2.0**24).to(I32) & 1) == 1)
    result = torch.where((x < 0) & odd, -magnitude, magnitude)
    result = result.masked_fill_(nothing, 0.0).masked_fill_(y == 0, 1.0)
    return finish(result, ((x < 0) & ~whole) | (nothing & (y < 0)))


def _integer_power(x: Tensor, y: Tensor) -> Tensor:
    """Squaring and multiplying, which wrap; a negative exponent has no result."""
    refuse(y < 0)
    result, base, left = torch.ones_like(x), x, y
    while bool((left != 0).any()):
        result = torch.where((left & 1) == 1, result * base, result)
        base, left = base * base, left >> 1
    return result


def _cast(op: Operator, x: Tensor) -> Tensor:
    """Towards zero from fp32, which must fit; integers wrap; bool is 0 or 1, and whatever is not 0 is true."""
    to = _DTYPES[op.text("to")]
    if to == torch.bool:
        return x != 0
    if x.dtype == F32 and to != F32:
        limit = 2.0**31 if to == I32 else 2.0**63
        whole = x.trunc()
        refuse(~((whole >= -limit) & (whole < limit)))
        return whole.to(to)
    y = x.to(to, copy=True)
    return finish(y) if to == F32 else y


# ---- reductions ------------------------------------------------------------------------------------------------------


def _row(y: Tensor) -> Tensor:
    """A row alone gives one element."""
    return y if y.dim() else y.view(1)


def _gridded(op: Operator, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """(integers as fp64, unit fp64 [..., 1], rows without grid [..., 1] if any) at the operator's bits, up to 53."""
    bits = op.integer("bits")
    field = x.abs().amax(-1, keepdim=True).view(I32) & 0x7F800000
    top = Top(field.clamp(*_FIELDS))
    bad = field > _FIELDS[1]
    return x.to(F64).mul_(top.per_unit(bits)).round_(), top.unit(bits), bad if bool(bad.any()) else None


def _reduce_sum(op: Operator, x: Tensor) -> Tensor:
    if x.dtype != F32:
        return _row(x.sum(-1, dtype=x.dtype))
    q, unit, bad = _gridded(op, x)
    y = q.sum(-1).mul_(unit[..., 0]).to(F32)
    return finish(_row(y), None if bad is None else _row(bad[..., 0]))


def _reduce_mean(op: Operator, x: Tensor) -> Tensor:
    q, unit, bad = _gridded(op, x)
    total = q.sum(-1).mul_(unit[..., 0])
    y = (total / torch.full_like(total, float(x.shape[-1]))).to(F32)
    return finish(_row(y), None if bad is None else _row(bad[..., 0]))


def _reduce_prod(_: Operator, x: Tensor) -> Tensor:
    """Left to right, each product rounded (integers wrap)."""
    total = x[..., 0].clone()
    for column in x.unbind(-1)[1:]:
        total.mul_(column)
    return written(_row(total))


def _cumsum(op: Operator, x: Tensor) -> Tensor:
    if x.dtype == F32:
        q, unit, bad = _gridded(op, x)
        y = running(op, q).mul_(unit).to(F32)
        return finish(y, None if bad is None else bad.expand(y.shape))
    return running(op, x)


def running(op: Operator, q: Tensor) -> Tensor:
    """Partial sums of exact integers, in memory of their own."""
    back = op.integer("reverse") == 1
    ordered = q.flip(-1) if back else q
    total = ordered.cumsum(-1, dtype=q.dtype)
    if op.integer("exclusive"):
        total.sub_(ordered)
    return total.flip(-1) if back else total


def _place(x: Tensor, best: Tensor) -> Tensor:
    """The lowest index of each row where x is ``best`` [..., 1]."""
    places = torch.arange(x.shape[-1], dtype=I32)
    return _row(torch.where(x == best, places, x.shape[-1]).amin(-1).to(I32))


def _order(op: Operator, x: Tensor) -> tuple[Tensor, Tensor]:
    """(the k largest or smallest in order, their indices); a stable sort keeps the lowest index first among equals."""
    values, order = x.sort(dim=-1, descending=op.integer("largest") == 1, stable=True)
    k = op.integer("k")
    return values[..., :k].contiguous(), order[..., :k].to(I32).contiguous()


def _alone(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x: written(function(x))


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x, y: written(function(x, y))


TABLE: Mapping[str, Callable[..., Tensor]] = {
    "floor": _alone(torch.floor),
    "ceil": _alone(torch.ceil),
    "round": _alone(torch.round),
    "neg": _alone(torch.neg),
    "abs": _alone(torch.abs),
    "sign": _alone(torch.sign),
    "not": _alone(torch.logical_not),
    "bit_not": _alone(torch.bitwise_not),
    "add": _pair(torch.add),
    "sub": _pair(torch.sub),
    "mul": _pair(torch.mul),
    "div": _divide,
    "max": _pair(torch.maximum),
    "min": _pair(torch.minimum),
    "pow": _pow,
    "mod": _mod,
    "fmod": _fmod,
    "bit_and": _pair(torch.bitwise_and),
    "bit_or": _pair(torch.bitwise_or),
    "bit_xor": _pair(torch.bitwise_xor),
    "and": _pair(torch.logical_and),
    "or": _pair(torch.logical_or),
    "xor": _pair(torch.logical_xor),
    "equal": _pair(torch.eq),
    "less": _pair(torch.lt),
    "less_equal": _pair(torch.le),
    "where": lambda _, condition, yes, no: written(torch.where(condition, yes, no)),
    "cast": _cast,
    "reduce_sum": _reduce_sum,
    "reduce_mean": _reduce_mean,
    "reduce_max": lambda _, x: written(_row(x.amax(-1))),
    "reduce_min": lambda _, x: written(_row(x.amin(-1))),
    "reduce_prod": _reduce_prod,
    "cumsum": _cumsum,
    "argmax": lambda _, x: _place(x, x.amax(-1, keepdim=True)),
    "argmin": lambda _, x: _place(x, x.amin(-1, keepdim=True)),
    "top_values": lambda op, x: written(_order(op, x)[0]),
    "top_indices": lambda op, x: _order(op, x)[1],
}
