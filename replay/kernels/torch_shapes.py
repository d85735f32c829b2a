"""Operators that move elements, in torch: the bits stay as they are. Indices are checked before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from replay.errors import NonFinite
from replay.kernels.torch_core import F32, I32, I64, refuse
from replay.operators import Operator


def sized(op: Operator, dims: Mapping[str, int]) -> list[int]:
    """Attribute ``shape`` with its symbols bound."""
    return [dims[dim] if isinstance(dim, str) else dim for dim in op.items("shape")]


def reshape(op: Operator, x: Tensor, dims: Mapping[str, int]) -> Tensor:
    return x.reshape(sized(op, dims))


def expand(op: Operator, x: Tensor, dims: Mapping[str, int]) -> Tensor:
    return x.expand(sized(op, dims)).clone(memory_format=torch.contiguous_format)


def _slice(op: Operator, x: Tensor) -> Tensor:
    start, count, step = (op.integer(name) for name in ("start", "count", "step"))
    return x.index_select(op.integer("axis"), torch.arange(count) * step + start)


def _filled(op: Operator, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor full of the element whose bits attribute ``value`` gives."""
    bits = int(op.text("value"), 16)
    if dtype == torch.bool:
        return torch.full(shape, bits == 1, dtype=dtype)
    width = 64 if dtype == I64 else 32
    signed = bits - (1 << width) if bits >> (width - 1) else bits
    made = torch.full(shape, signed, dtype=I64 if width == 64 else I32)
    return made.view(F32) if dtype == F32 else made


def _padded(op: Operator, x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    y = _filled(op, [low + n + high for low, n, high in zip(before, x.shape, after, strict=True)], x.dtype)
    y[tuple(slice(low, low + n) for low, n in zip(before, x.shape, strict=True))] = x
    return y


def _windows(op: Operator, x: Tensor) -> Tensor:
    seen = _padded(op, x, (0, 0, *op.integers("before")), (0, 0, *op.integers("after")))
    kernel, strides, dilations = (op.integers(name) for name in ("kernel", "strides", "dilations"))
    for axis, (k, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True), start=2):
        # each step moves one spatial axis from its place into a last dimension of k elements
        seen = seen.unfold(axis, (k - 1) * dilation + 1, stride)[..., ::dilation]
    return seen.reshape(*seen.shape[: 2 + len(kernel)], -1).contiguous()


def _outside(index: Tensor, size: int) -> Tensor:
    return (index < 0) | (index >= size)


def _gather(op: Operator, x: Tensor, index: Tensor) -> Tensor:
    axis = op.integer("axis")
    outside = _outside(index, x.shape[axis])
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    if bool(outside.any()):
        refuse(outside.view(*index.shape, *(1,) * (x.dim() - axis - 1)).expand(shape))
    return x.index_select(axis, index.reshape(-1).to(I64)).view(shape)


def _gather_elements(op: Operator, x: Tensor, index: Tensor) -> Tensor:
    axis = op.integer("axis")
    refuse(_outside(index, x.shape[axis]))
    return x.gather(axis, index.to(I64))


def _scatter_elements(op: Operator, x: Tensor, index: Tensor, updates: Tensor) -> Tensor:
    """Updates in row-major order: where an element is named twice the last one stays."""
    axis = op.integer("axis")
    if bool(_outside(index, x.shape[axis]).any()):
        raise NonFinite(0)  # the whole result has no meaning; its first element says so
    order = torch.arange(index.numel()).view(index.shape)
    last = torch.full(x.shape, -1, dtype=I64).scatter_reduce_(axis, index.to(I64), order, "amax")
    return torch.where(last < 0, x, updates.reshape(-1)[last.clamp(min=0)])


TABLE: Mapping[str, Callable[..., Tensor]] = {
    "constant": lambda _, weight: weight,
    "transpose": lambda op, x: x.permute(op.integers("perm")).contiguous(),
    "slice": _slice,
    "concat": lambda op, *parts: torch.cat(parts, dim=op.integer("axis")),
    "pad": lambda op, x: _padded(op, x, op.integers("before"), op.integers("after")),
    "windows": _windows,
    "gather": _gather,
    "gather_elements": _gather_elements,
    "scatter_elements": _scatter_elements,
}
