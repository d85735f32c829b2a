"""Torch's products with the elementwise work compiled by this machine's C++ compiler: the same bits in fewer passes.

``native`` sums by dgemm, ``native-int8`` by int8 products of digits. What is not here is torch's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from replay.errors import BackendRefused
from replay.kernels import native_build, spec
from replay.kernels.torch_attention import Keys, Sight
from replay.kernels.torch_backend import TorchKernels
from replay.kernels.torch_core import F32, F64, I32, double, finish, single
from replay.kernels.torch_int8 import Digits, Int8Kernels, digit_pairs, int8_product, padded_rows
from replay.kernels.torch_network import Gridded
from replay.operators import Operator

_U8 = torch.uint8
_P, _L, _I, _D, _S = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_double, ctypes.c_float
_SIGNATURES: dict[str, Sequence[Any]] = {
    "rpl_grid64": (_P, _L, _L, _I, _P, _P),
    "rpl_digits": (_P, _L, _L, _L, _I, _I, _P, _P, _P),
    "rpl_finish64": (_P, _L, _L, _P, _P),
    "rpl_finish32": (_P, _L, _I, _P, _L, _L, _L, _P, _P, _P, _P),
    "rpl_norm": (_P, _L, _L, _I, ctypes.c_int, _D, _D, _S, _P, _P, _P, _P),
    "rpl_gelu_tanh": (_P, _L, _P),
    "rpl_gelu_erf": (_P, _L, _P),
    "rpl_silu": (_P, _L, _P),
    "rpl_scale": (_P, _L, _D, _P),
    "rpl_weights": (_P, _L, _L, _L, _L, _P, _P, _P, _L, _P, _P),
}


@cache
def library() -> Any:
    """The compiled functions. Raises ``BackendRefused``."""
    path, digest = native_build.build()
    try:
        if sha256(path.read_bytes()).hexdigest() != digest:
            raise BackendRefused(f"{path.name} is not the library that was built", backend="native")
        loaded = ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendRefused(f"{path.name} cannot be loaded: {error}", backend="native") from error
    for name, arguments in _SIGNATURES.items():
        getattr(loaded, name).argtypes = arguments
    return loaded


def at(tensor: Tensor | None) -> int | None:
    """Where a contiguous tensor's elements lie."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


class _Native(TorchKernels):
    """What both native backends share."""

    @staticmethod
    def environment() -> dict[str, str]:
        path, digest = native_build.build()
        return TorchKernels.environment() | {"compiled": f"{path.stem} {digest[:16]}"}

    def _bad(self, rows: int) -> Tensor:
        return self._buffers.take("native.bad", (rows, 1), _U8)

    def _element(self, name: str, x: Tensor) -> Tensor:
        x = x.contiguous()
        y = torch.empty_like(x)
        return finish(y) if getattr(library(), name)(at(x), x.numel(), at(y)) else y

    def _gelu_tanh(self, _: Operator, x: Tensor) -> Tensor:
        return self._element("rpl_gelu_tanh", x)

    def _gelu_erf(self, _: Operator, x: Tensor) -> Tensor:
        return self._element("rpl_gelu_erf", x)

    def _silu(self, _: Operator, x: Tensor) -> Tensor:
        return self._element("rpl_silu", x)

    def _norm(self, op: Operator, x: Tensor, rms: int, gain: Tensor | None, shift: Tensor | None) -> Tensor:
        x = x.contiguous()
        d = x.shape[-1]
        rows = x.numel() // d
        y, bad = torch.empty_like(x), self._bad(rows)
        square = 0.0 if rms else double(op.text("inv_d2"))
        constants = op.integer("bits"), rms, double(op.text("inv_d")), square, single(op.text("eps"))
        if library().rpl_norm(at(x), rows, d, *constants, at(gain), at(shift), at(y), at(bad)):
            return finish(y, bad.view(*x.shape[:-1], 1) != 0)
        return y

    def _layer_norm(self, op: Operator, x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        return self._norm(op, x, 0, gain, shift)

    def _rms_norm(self, op: Operator, x: Tensor, gain: Tensor | None = None) -> Tensor:
        return self._norm(op, x, 1, gain, None)

    def _logits(self, q: Tensor, k: Tensor, scale: float) -> Tensor:
        groups, share, rows, size = q.shape
        shape = (groups, share * rows, k.shape[1])
        s = torch.bmm(
            q.reshape(groups, share * rows, size), k.transpose(1, 2), out=self._buffers.take("att.s", shape, F64)
        )
        t = self._buffers.take("att.t", shape, F32)
        library().rpl_scale(at(s), s.numel(), scale, at(t))
        return t.view(groups, share, rows, k.shape[1])

    def _mix(self, t: Tensor, keys: Keys, sight: Sight) -> Tensor:
        groups, share, rows, count = t.shape
        largest = sight.largest(keys.field)  # [groups, rows or 1, 1]
        w = self._buffers.take("att.w", t.shape, F64)
        total = self._buffers.take("native.total", (groups, share, rows, 1), F64)
        shut = None if sight.shut is None else sight.shut.contiguous()
        field, top = keys.field.contiguous(), largest.field.contiguous()
        library().rpl_weights(
            at(t), groups, share, rows, count, at(shut), at(field), at(top), top.shape[1], at(w), at(total)
        )
        size = keys.v.shape[2]
        out = self._buffers.take("att.o", (groups, share * rows, size), F64)
        mixed = torch.bmm(w.view(groups, share * rows, -1), keys.v, out=out).view(groups, share, rows, size)
        return mixed.mul_(largest.unit(spec.VALUE_BITS)[:, None]).div_(total)


class NativeKernels(_Native):
    """Sums by one dgemm."""

    name = "native"

    def _linear(self, op: Operator, x: Tensor, weight: Gridded, bias: Tensor | None = None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        count, n = rows.shape[0], weight.values.shape[1]
        a, bad = self._buffers.take("linear.a", rows.shape, F64), self._bad(count)
        gridless = library().rpl_grid64(at(rows), *rows.shape, op.integer("a_bits"), at(a), at(bad))
        total = torch.mm(a, weight.values, out=self._buffers.take("linear.sum", (count, n), F64))
        y = torch.empty(count, n, dtype=F32)
        lost = library().rpl_finish64(at(total), count, n, at(bias), at(y))
        if gridless or lost:
            finish(y, bad != 0)
        return y.view(*x.shape[:-1], n)


class NativeInt8Kernels(_Native, Int8Kernels):
    """Sums by int8 products of digits."""

    name = "native-int8"

    @staticmethod
    def environment() -> dict[str, str]:
        return Int8Kernels.environment() | _Native.environment()

    def _linear(self, op: Operator, x: Tensor, weight: object, bias: Tensor | None = None) -> Tensor:
        if not isinstance(weight, Digits):
            return super()._linear(op, x, weight, bias)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        count, wide = rows.shape[0], weight.padded
        a = self._buffers.take(f"int8.a{wide}", (padded_rows(count), weight.count * wide), torch.int8)
        unit, bad = self._buffers.take("native.unit", (count, 1), F64), self._bad(count)
        bits = op.integer("a_bits")
        gridless = library().rpl_digits(at(rows), *rows.shape, wide, bits, weight.count, at(a), at(unit), at(bad))
        if a.shape[0] > count:
            a[count:].zero_()
        pairs = digit_pairs(weight)
        ld = weight.values.shape[0]
        products = self._buffers.take("int8.products", (len(pairs), a.shape[0], ld), I32)
        for product, (_, left, right) in zip(products, pairs, strict=True):
            int8_product(a[:, left], weight.values[:, right].t(), out=product)
        powers = torch.tensor([float(1 << power) for power, _, _ in pairs], dtype=F64)
        y = torch.empty(count, weight.rows, dtype=F32)
        lost = library().rpl_finish32(
            at(products), products.stride(0), len(pairs), at(powers), count, weight.rows, ld,
            at(unit), at(weight.unit), at(bias), at(y),
        )  # fmt: skip
        if gridless or lost:
            finish(y, bad != 0)
        return y.view(*x.shape[:-1], weight.rows)
