"""Torch's kernels with the hot path compiled by this machine's C++ compiler: the same bits in fewer passes.

``native`` sums by products of 16-bit digits where the processor has AVX-512 (``native_dot.cpp``), else by dgemm;
``native-int8`` sums by torch's int8 products. What is not here is torch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from replay.kernels import native_build, native_hash, spec
from replay.kernels.native_library import at, library
from replay.kernels.state import State
from replay.kernels.torch_attention import Kept, Keys, Sight
from replay.kernels.torch_backend import TorchKernels
from replay.kernels.torch_core import F32, F64, I32, double, exponents, finish, single
from replay.kernels.torch_int8 import Digits, Int8Kernels, digit_pairs, int8_product, padded_rows
from replay.kernels.torch_network import Gridded
from replay.layout import Array
from replay.operators import Operator
from replay.program import Program

_U8 = torch.uint8
#: ``rpl_dot_kind`` → how ``native`` sums
_SUMS = ("dgemm", "int16 digits, AVX-512 BW", "int16 digits, AVX-512 VNNI")
#: Columns that ``native_dot.cpp`` keeps side by side, and values of K that have one norm.
_PANEL, _CHUNK = 16, 64
#: Bits of a digit.
_DIGIT = 11


class _Native(TorchKernels):
    """What both native backends share."""

    root = staticmethod(native_hash.tensor_root)

    @staticmethod
    def environment() -> dict[str, str]:
        _, digest = native_build.build()
        compiler = library().rpl_compiler().decode()
        parts = f"C++ {compiler}", f"source {native_build.source_digest()[:16]}", f"library {digest[:16]}"
        return TorchKernels.environment() | {"compiled": ", ".join(parts)}

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

    def _attention(self, op: Operator, x: Tensor, mask: Tensor | None = None, *, state: State | None = None) -> Tensor:
        """Whole sequences are compiled. Tokens after others go torch's way, which grids keys and values of the first ones
        only then: a text that is merely checked has no later tokens."""
        if not library().rpl_dot_kind():
            return super()._attention(op, x, mask, state=state)
        if state is not None:
            held = state.kept.get(op.output)
            if held is not None:
                if isinstance(held, Tensor):
                    state.kept[op.output] = self._kept(op, held)
                return super()._attention(op, x, mask, state=state)
            state.kept[op.output] = x
        return self._whole(op, x.contiguous(), mask)

    def _whole(self, op: Operator, x: Tensor, mask: Tensor | None) -> Tensor:
        heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
        tokens = x.shape[0]
        y, lost = torch.empty(tokens, heads, size, dtype=F32), self._bad(tokens * heads)
        room = self._buffers.take("attention.room", (library().rpl_attention_room(tokens, groups, size),), _U8)
        mask = None if mask is None else mask.contiguous()
        if library().rpl_attention(
            at(x), tokens, heads, groups, size, op.integer("causal"), op.integer("window"), at(mask),
            op.integer("q_bits"), op.integer("k_bits"), double(op.text("scale")),
            at(y), at(lost), at(room), torch.get_num_threads(),
        ):  # fmt: skip
            finish(y, lost.view(tokens, heads, 1) != 0)
        return y.view(tokens, heads * size)

    def _kept(self, op: Operator, x: Tensor) -> Kept:
        """Keys and values of the first tokens, x being what attention read."""
        heads, size = op.integer("heads"), op.integer("head_dim")
        packed = x.view(x.shape[0], -1, size).transpose(0, 1)[heads:].contiguous()
        top = self._top(packed)
        if top.bad is not None:
            packed.masked_fill_(top.bad, 0.0)
        kept = Kept()
        kept.joined(self._keys(op, packed, top))
        return kept

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
        largest = sight.largest(keys)  # [groups, rows or 1, 1]
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


@dataclass(frozen=True)
class Packed:
    """A weight [N, K] as ``native_dot.cpp`` reads it. ``words``: int16, one digit a value under grid lo, else two;
    ``unit``: fp64 [N'], 2^exponent of each row; ``norms``: fp32, under grid lo only; ``bits``: of the weight's grid."""

    words: Tensor
    unit: Tensor
    norms: Tensor
    bits: int
    rows: int
    length: int

    def integers(self) -> tuple[Tensor, Tensor]:
        """(q int32 [N, K], exponent int32 [N])."""
        pairs = (self.length + 1) // 2
        words = self.words.view(len(self.unit) // _PANEL, pairs, -1, _PANEL, 2)  # [panels, pairs, digits, lanes, 2]
        q = words[:, :, 0].to(I32)
        if words.shape[2] == 2:
            q.add_(words[:, :, 1].to(I32).bitwise_left_shift_(_DIGIT))
        rows = q.permute(0, 2, 1, 3).reshape(len(self.unit), 2 * pairs)
        return rows[: self.rows, : self.length].contiguous(), exponents(self.unit[: self.rows])


class NativeKernels(_Native):
    """Sums by products of 16-bit digits, or by one dgemm where the processor has no AVX-512."""

    name = "native"

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        self._lo = int(program.grid == "lo")
        super().__init__(program, weights)

    @staticmethod
    def environment() -> dict[str, str]:
        return _Native.environment() | {"sums": _SUMS[library().rpl_dot_kind()]}

    def grid(self, weight: Tensor, bits: int) -> Any:
        """A weight [N, K] on its grid, packed where the processor allows."""
        if not library().rpl_dot_kind():
            return super().grid(weight, bits)
        (rows, length), weight = weight.shape, weight.contiguous()
        panels = -(-rows // _PANEL)
        words = torch.empty(panels * _PANEL * (length + length % 2) * (1 if self._lo else 2), dtype=torch.int16)
        unit = torch.empty(panels * _PANEL, dtype=F64)
        norms = torch.empty(panels * -(-length // _CHUNK) * self._lo, dtype=F32)
        library().rpl_dot_pack(at(weight), rows, length, bits, self._lo, at(words), at(unit), at(norms))
        return Packed(words, unit, norms, bits, rows, length)

    def _linear(self, op: Operator, x: Tensor, weight: Any, bias: Tensor | None = None) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        count, bits = rows.shape[0], op.integer("a_bits")
        bad = self._bad(count)
        if isinstance(weight, Packed):
            y = torch.empty(count, weight.rows, dtype=F32)
            room = self._buffers.take("dot.room", (library().rpl_dot_room(*rows.shape, self._lo),), _U8)
            lost = library().rpl_dot(
                at(rows), *rows.shape, bits, weight.bits, at(weight.words), at(weight.unit), at(weight.norms),
                weight.rows, self._lo, at(bias), at(y), at(bad), at(room), torch.get_num_threads(),
            )  # fmt: skip
        else:
            y, lost = self._by_dgemm(rows, bits, weight, bias, bad)
        if lost:
            finish(y, bad != 0)
        return y.view(*x.shape[:-1], y.shape[1])

    def _by_dgemm(
        self, rows: Tensor, bits: int, weight: Gridded, bias: Tensor | None, bad: Tensor
    ) -> tuple[Tensor, bool]:
        count, n = rows.shape[0], weight.values.shape[1]
        a = self._buffers.take("linear.a", rows.shape, F64)
        gridless = library().rpl_grid64(at(rows), *rows.shape, bits, at(a), at(bad))
        total = torch.mm(a, weight.values, out=self._buffers.take("linear.sum", (count, n), F64))
        y = torch.empty(count, n, dtype=F32)
        return y, bool(library().rpl_finish64(at(total), count, n, at(bias), at(y)) | gridless)


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
