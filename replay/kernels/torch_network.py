"""The network operators in torch: dot products by dgemm, norms, tables, softmax (docs/numerics.md).

Attention stands in ``torch_attention``. Every method is ``_<kind>(op, *values, *weights)``; a faster backend overrides
those it can do better.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from replay.kernels import spec
from replay.kernels.state import State
from replay.kernels.torch_core import (
    F32,
    F64,
    I32,
    I64,
    LOG2E,
    Buffers,
    TorchCore,
    double,
    finish,
    log64,
    rsqrt,
    single,
)
from replay.operators import Operator

#: Rows of a weight that are widened at a time: 128 of 768 fp64 numbers stay in a core's cache until they are used.
_BLOCK = 128
_LN_WEIGHT_UNIT = double(spec.LN_WEIGHT_UNIT)


@dataclass(frozen=True)
class Gridded:
    """A linear weight on its grid, seen as [K, N] (kept in memory as [N, K]): as fp64, ready for dgemm, or as fp32 in half
    the memory, widened block by block where it is used; a gridded value is exact in both. ``exponent``: int32 [N], of the
    units."""

    values: Tensor
    exponent: Tensor

    def multiply(self, a: Tensor, total: Tensor, buffers: Buffers) -> None:
        """``a`` @ values into ``total``, fp64 both."""
        if self.values.dtype is F64:
            torch.mm(a, self.values, out=total)
            return
        rows = self.values.t()
        for at in range(0, rows.shape[0], _BLOCK):
            part = rows[at : at + _BLOCK]
            block = buffers.take("linear.block", part.shape, F64).copy_(part)
            torch.mm(a, block.t(), out=total[:, at : at + _BLOCK])

    def integers(self) -> tuple[Tensor, Tensor]:
        """(q int32 [N, K], exponent int32 [N])."""
        per_unit = ((1023 - self.exponent.to(I64)) << 52).view(F64)
        return (self.values.t().to(F64) * per_unit[:, None]).to(I32), self.exponent


class NetworkKernels(TorchCore):
    """Linear, matmul, norms, softmax, tables."""

    #: Whether gridded weights are kept as fp64.
    _wide = True

    def grid(self, weight: Tensor, bits: int) -> Gridded:
        """A weight [N, K] on its grid."""
        top = self._top(weight)
        magic = top.magic(bits)
        exponent = top.field.bitwise_right_shift(23).sub_(126 + bits).view(-1)
        values = (weight + magic).sub_(magic)
        return Gridded((values.to(F64) if self._wide else values).t(), exponent)

    # ---- dot products ------------------------------------------------------------------------------------------------

    def _linear(self, op: Operator, x: Tensor, weight: Gridded, bias: Tensor | None = None) -> Tensor:
        """``bias``: fp64 [N]."""
        rows = x.view(-1, x.shape[-1])
        top = self._top(rows)
        a = self._grid(rows, top, op.integer("a_bits"), "linear.a")
        total = self._buffers.take("linear.sum", (rows.shape[0], weight.values.shape[1]), F64)
        weight.multiply(a, total, self._buffers)
        if bias is not None:
            total.add_(bias)
        y = torch.empty(total.shape, dtype=F32).copy_(total)
        return finish(y, top.bad).view(*x.shape[:-1], y.shape[1])

    def _matmul(self, op: Operator, left: Tensor, right: Tensor) -> Tensor:
        (m, k), n = left.shape[-2:], right.shape[-2]
        x, y = left.view(-1, m, k), right.view(-1, n, k)
        tx, ty = self._top(x), self._top(y)
        a = self._grid(x, tx, op.integer("a_bits"), "matmul.a")
        b = self._grid(y, ty, op.integer("b_bits"), "matmul.b")
        total = self._buffers.take("matmul.sum", (x.shape[0], m, n), F64)
        torch.bmm(a, b.transpose(1, 2), out=total)
        bad = tx.bad
        if ty.bad is not None:
            column = ty.bad.transpose(1, 2)
            bad = column if bad is None else bad | column
        return finish(total.to(F32), bad).view(*left.shape[:-1], n)

    # ---- norms -------------------------------------------------------------------------------------------------------

    def _sums(self, x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(Σq, Σq², unit, rows without grid) as fp64, both sums exact: |q| ≤ 2^bits and n·2^(2·bits) ≤ 2⁵³."""
        top = self._top(x)
        q = self._grid(x, top, bits, "norm.q").mul_(top.per_unit(bits))
        s1 = q.sum(-1, keepdim=True)
        s2 = q.mul_(q).sum(-1, keepdim=True)
        return s1, s2, top.unit(bits), top.bad

    def _layer_norm(self, op: Operator, x: Tensor, gain: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        s1, s2, unit, bad = self._sums(x, op.integer("bits"))
        whole = s1.to(I64)
        spread = s2.to(I64).mul_(x.shape[-1]).sub_(whole * whole)
        mean = (s1 * unit).mul_(double(op.text("inv_d"))).to(F32)
        variance = spread.to(F64).mul_(unit * unit).mul_(double(op.text("inv_d2"))).to(F32)
        y = (x - mean).mul_(rsqrt(variance.add_(single(op.text("eps")))))
        if gain is not None and shift is not None:
            y.mul_(gain).add_(shift)
        return finish(y, bad)

    def _rms_norm(self, op: Operator, x: Tensor, gain: Tensor | None = None) -> Tensor:
        _, s2, unit, bad = self._sums(x, op.integer("bits"))
        square = s2.mul_(unit * unit).mul_(double(op.text("inv_d"))).to(F32)
        y = x * rsqrt(square.add_(single(op.text("eps"))))
        return finish(y if gain is None else y.mul_(gain), bad)

    def _l2_normalise(self, op: Operator, x: Tensor) -> Tensor:
        _, s2, unit, bad = self._sums(x, op.integer("bits"))
        square = s2.mul_(unit * unit).to(F32).clamp_(min=single(op.text("floor")))
        return finish(x * rsqrt(square), bad)

    def _mean_tokens(self, op: Operator, x: Tensor) -> Tensor:
        top, bits = self._top(x, 0), op.integer("bits")
        total = self._grid(x, top, bits, "mean.q").sum(0, keepdim=True)
        y = (total / torch.full_like(total, float(x.shape[0]))).to(F32)
        return finish(y, top.bad).view(-1)

    # ---- softmax -----------------------------------------------------------------------------------------------------

    def _below_max(self, x: Tensor) -> Tensor:
        """How far each element is below its row's maximum (≤ 0, −Inf where fp32 ends), in a buffer."""
        return torch.sub(x, x.amax(-1, keepdim=True), out=self._buffers.take("softmax.d", x.shape, F32))

    def _softmax(self, _: Operator, x: Tensor) -> Tensor:
        z = self._below_max(x).mul_(LOG2E).clamp_(min=-spec.CLAMP)
        u = self._exp2(z, 2.0**spec.WEIGHT_BITS).to(F64)
        return finish((u / u.round().sum(-1, keepdim=True)).to(F32))

    def _log_softmax(self, _: Operator, x: Tensor) -> Tensor:
        d = self._below_max(x)
        z = (d * LOG2E).clamp_(min=-spec.CLAMP)
        total = self._exp2(z, 2.0**spec.WEIGHT_BITS).round_().sum(-1, keepdim=True, dtype=F64)
        return finish((d.to(F64) - log64(total).sub_(_LN_WEIGHT_UNIT)).to(F32))

    def _sample_weights(self, op: Operator, x: Tensor) -> Tensor:
        z = self._below_max(x).to(F64).mul_(double(op.text("scale"))).to(F32).clamp_(min=-spec.CLAMP)
        return self._exp2(z, 2.0**spec.SAMPLE_BITS).round_().to(I64)

    # ---- tables ------------------------------------------------------------------------------------------------------

    def _embedding(self, _: Operator, ids: Tensor, table: Tensor) -> Tensor:
        return table[ids.to(I64)].add_(0.0)

    def _position_rows(self, _: Operator, x: Tensor, table: Tensor, *, state: State | None = None) -> Tensor:
        first = 0 if state is None else state.position
        return table[first : first + x.shape[0]] + 0.0

    def _rope(self, op: Operator, x: Tensor, cos: Tensor, sin: Tensor, *, state: State | None = None) -> Tensor:
        size, heads, half = op.integer("head_dim"), op.integer("heads"), cos.shape[1]
        first, tokens = 0 if state is None else state.position, x.shape[0]
        y = x.clone()
        # [tokens, heads, r]: what is turned, of the old and of the new values
        old, new = (part.view(tokens, -1, size)[:, :heads, : 2 * half] for part in (x, y))
        c, s = (table[first : first + tokens, None] for table in (cos, sin))
        if op.integer("interleaved"):
            low, high = slice(0, None, 2), slice(1, None, 2)
        else:
            low, high = slice(0, half), slice(half, None)
        a, b = old[..., low], old[..., high]
        torch.sub(a * c, b * s, out=new[..., low])
        torch.add(b * c, a * s, out=new[..., high])
        return finish(y)

    def _take(self, _: Operator, x: Tensor, table: Tensor) -> Tensor:
        return table[x.to(I64)]

    def _tree_leaves(self, _: Operator, x: Tensor, *tables: Tensor) -> Tensor:
        """Walk from each root until every walk has come to a leaf; children stand behind their parents."""
        feature, threshold, mode, yes, no, roots = (table if table.dtype == F32 else table.to(I64) for table in tables)
        at = roots.expand(x.shape[0], -1)
        how = mode[at]
        while bool((how != spec.TREE_LEAF).any()):
            value, limit = x.gather(1, feature[at].clamp_(0, x.shape[1] - 1)), threshold[at]
            test = how >> 1  # pairs of modes: (≤ <), (≥ >), (= ≠); the odd one of each is the strict, or the opposite
            odd = (how & 1) == 1
            below = torch.where(odd, value < limit, value <= limit)
            above = torch.where(odd, value > limit, value >= limit)
            goes = torch.where(test == 0, below, torch.where(test == 1, above, (value == limit) ^ odd))
            at = torch.where(how == spec.TREE_LEAF, at, torch.where(goes, yes[at], no[at]))
            how = mode[at]
        return yes[at].to(I32)
