"""The canonical operators in torch: exact sums by one dgemm, buffers kept between calls.

Every formula is the one of ``docs/numerics.md``; nothing here is shared with the NumPy backend. Only operations that
torch rounds correctly at every length, stride, thread count and instruction set are used (no sqrt, exp, tanh, erf,
softmax, layer_norm, no ``alpha=``, no division by a Python number). Gridded values are multiples of a power of two
held in floats; on CPU one instance serves one thread at a time (a lock sees to it).
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from replay.errors import NonFinite
from replay.kernels import spec
from replay.layout import Array
from replay.operators import Operator
from replay.program import Program

_F32, _F64, _I32, _I64 = torch.float32, torch.float64, torch.int32, torch.int64


def _single(text: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(text))[0])


def _double(text: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(text))[0])


_LOG2E, _TWO_LOG2E = _single(spec.LOG2E), _single(spec.TWO_LOG2E)
_C1, _C2, _C3, _C4, _C5 = (_single(text) for text in spec.EXP2)
_K0, _K1 = (_single(text) for text in spec.GELU_TANH)
_P, _SQRT_HALF = _single(spec.ERF_P), _single(spec.SQRT_HALF)
_A1, _A2, _A3, _A4, _A5 = (_single(text) for text in spec.ERF_A)
_FIELD_MAX = spec.EXPONENT_MAX << 23
#: fp32 adding of this rounds |z| < 2²² to an integer, which then stands in the low bits.
_ROUND = 12582912.0
#: Elements of attention scores worked on at once: they stay in cache.
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Gridded:
    """A linear weight on its grid as fp64, seen as [K, N] (kept in memory as [N, K])."""

    values: Tensor


class Buffers:
    """Scratch memory by name: grown when needed, never shrunk, so that a run touches no fresh pages."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        count = 1
        for dim in shape:
            count *= dim
        kept = self._kept.get((name, dtype))
        if kept is None or kept.numel() < count:
            kept = self._kept[name, dtype] = torch.empty(count, dtype=dtype)
        return kept[:count].view(*shape)


@dataclass(frozen=True)
class Top:
    """Row maxima: ``field`` is the biased exponent e in its place among the fp32 bits (e << 23, int32), clamped to the
    exponents that have a grid; ``bad`` marks rows beyond, None if there is none. All powers of two come from bits."""

    field: Tensor
    bad: Tensor | None = None

    def magic(self, bits: int) -> Tensor:
        """1.5·2^23 units: adding it to x in fp32 rounds x half-even to the grid of ``bits``."""
        return (self.field + (((24 - bits) << 23) | 0x400000)).view(_F32)

    def power(self) -> Tensor:
        """2^(e − 127) in fp32."""
        return self.field.view(_F32)

    def inverse(self) -> Tensor:
        """2^(127 − e) in fp32."""
        return (0x7F000000 - self.field).view(_F32)

    def unit(self, bits: int) -> Tensor:
        """2^(e − 126 − bits) in fp64."""
        return self.power().to(_F64).mul_(2.0 ** (1 - bits))

    def per_unit(self, bits: int) -> Tensor:
        """2^(126 + bits − e) in fp64."""
        return self.inverse().to(_F64).mul_(2.0 ** (bits - 1))


class TorchKernels:
    """One program's weights, ready to run on CPU."""

    name = "torch"

    def __init__(self, program: Program, weights: Mapping[str, Array]) -> None:
        torch.set_flush_denormal(False)
        self._buffers = Buffers()
        self._lock = threading.Lock()
        self._weights: dict[str, Tensor | Gridded] = {}
        for weight in program.weights:
            tensor = self.load(weights[weight.name])
            if weight.form == "grid":
                self._weights[weight.name] = self.grid(tensor)
            else:
                bias = any(op.kind == "linear" and weight.name in op.weights for op in program.operators)
                self._weights[weight.name] = tensor.to(_F64) if bias else tensor
        self._table: Mapping[str, Callable[..., Tensor]] = {
            "embedding": self._embedding,
            "position_rows": lambda _, x, table: table[: x.shape[0]] + 0.0,
            "add": lambda _, x, y: _finish(x + y),
            "sub": lambda _, x, y: _finish(x - y),
            "mul": lambda _, x, y: _finish(x * y),
            "div": lambda _, x, y: _finish(x / y),
            "linear": self._linear,
            "attention": self._attention,
            "layer_norm": self._layer_norm,
            "l2_normalise": self._l2_normalise,
            "softmax": self._softmax,
            "gelu_erf": self._gelu_erf,
            "gelu_tanh": self._gelu_tanh,
            "relu": lambda _, x: _finish(x.clamp(min=0.0)),
            "tanh": self._tanh,
            "sigmoid": self._sigmoid,
            "mean_tokens": self._mean_tokens,
            "argmax": _argmax,
            "take": lambda _, x, table: table[x.to(_I64)],
            "transpose": lambda op, x: x.permute([int(axis) for axis in op.items("perm")]).contiguous(),
            "to_float": lambda _, x: x.to(_F32),
        }

    def grid(self, weight: Tensor) -> Gridded:
        """A weight [N, K] on its grid."""
        bits = spec.dot_bits(weight.shape[1])[1]
        magic = self._top(weight).magic(bits)
        return Gridded(((weight + magic) - magic).to(_F64).t())

    @staticmethod
    def environment() -> dict[str, str]:
        """Library versions and settings that this backend depends on."""
        return {
            "torch": torch.__version__,
            "threads": str(torch.get_num_threads()),
            "capability": torch.backends.cpu.get_cpu_capability(),
        }

    def load(self, array: Array) -> Tensor:
        return torch.from_numpy(array.copy() if not array.flags.writeable else array).contiguous()

    def unload(self, value: Tensor) -> Array:
        array: Array = value.numpy()
        return array

    def apply(self, op: Operator, values: Sequence[Tensor], dims: Mapping[str, int]) -> Tensor:
        """The operator's result, in memory of its own. ``dims`` binds the symbols. Raises ``NonFinite``."""
        if op.kind == "reshape":
            return values[0].reshape([dims[dim] if isinstance(dim, str) else dim for dim in op.items("shape")])
        with self._lock, torch.inference_mode():
            return self._table[op.kind](op, *values, *(self._weights[name] for name in op.weights))

    # ---- building blocks ---------------------------------------------------------------------------------------------

    def _top(self, x: Tensor, dim: int = -1) -> Top:
        size = torch.abs(x, out=self._buffers.take("abs", x.shape, _F32))
        field = size.amax(dim, keepdim=True).view(_I32).bitwise_and_(0x7F800000)
        bad = field > _FIELD_MAX if int(field.max()) > _FIELD_MAX else None
        return Top(field.clamp_(spec.EXPONENT_MIN << 23, _FIELD_MAX), bad)

    def _grid(self, x: Tensor, top: Top, bits: int, name: str) -> Tensor:
        """Values on their grid, as fp64 in a buffer."""
        magic = top.magic(bits)
        near = torch.add(x, magic, out=self._buffers.take("near", x.shape, _F32)).sub_(magic)
        return self._buffers.take(name, x.shape, _F64).copy_(near)

    def _exp2(self, z: Tensor, scale: float = 1.0) -> Tensor:
        """``scale``·2^z in fp32 for |z| ≤ 60 and ``scale`` a power of two, in a buffer; z is consumed.

        Scaling the polynomial by a power of two scales each of its roundings, so the bits are those of 2^z.
        """
        n = torch.add(z, _ROUND, out=self._buffers.take("exp2.n", z.shape, _F32))
        p = torch.sub(n, _ROUND, out=self._buffers.take("exp2.p", z.shape, _F32))
        f = z.sub_(p)
        torch.mul(f, _C5 * scale, out=p)
        p.add_(_C4 * scale).mul_(f).add_(_C3 * scale).mul_(f).add_(_C2 * scale).mul_(f).add_(_C1 * scale).mul_(f)
        p.add_(scale).view(_I32).add_(n.view(_I32).bitwise_left_shift_(23))
        return p

    # ---- operators ---------------------------------------------------------------------------------------------------

    def _embedding(self, _: Operator, ids: Tensor, table: Tensor) -> Tensor:
        return table[ids.to(_I64)].add_(0.0)

    def _linear(self, op: Operator, x: Tensor, weight: Gridded, bias: Tensor | None = None) -> Tensor:
        rows = x.view(-1, x.shape[-1])
        top = self._top(rows)
        a = self._grid(rows, top, op.integer("a_bits"), "linear.a")
        total = self._buffers.take("linear.sum", (rows.shape[0], weight.values.shape[1]), _F64)
        torch.mm(a, weight.values, out=total)
        if bias is not None:
            total.add_(bias)
        y = torch.empty(total.shape, dtype=_F32).copy_(total)
        return _finish(y, top.bad).view(*x.shape[:-1], y.shape[1])

    def _attention(self, op: Operator, x: Tensor) -> Tensor:
        heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
        tokens, causal = x.shape[0], op.integer("causal") == 1
        # packed: [heads + 2·groups, tokens, size], contiguous per head
        packed = self._buffers.take("att.x", (heads + 2 * groups, tokens, size), _F32)
        packed.copy_(x.view(tokens, heads + 2 * groups, size).transpose(0, 1))
        top = self._top(packed)
        query, key, value = slice(0, heads), slice(heads, heads + groups), slice(heads + groups, None)
        qs = self._grid(packed[query], Top(top.field[query]), op.integer("q_bits"), "att.q")
        ks = self._grid(packed[key], Top(top.field[key]), op.integer("k_bits"), "att.k")
        tv = Top(top.field[value])  # [groups, tokens, 1]
        vs = self._grid(packed[value], tv, spec.VALUE_BITS, "att.v").mul_(tv.per_unit(spec.VALUE_BITS))
        bad_kv = None if top.bad is None else top.bad[key] | top.bad[value]
        if groups != heads:
            serves = torch.arange(heads) * groups // heads
            ks, vs, tv = ks[serves], vs[serves], Top(tv.field[serves])
            bad_kv = None if bad_kv is None else bad_kv[serves]
        later = torch.ones(tokens, tokens, dtype=torch.bool).triu_(1) if causal else None
        y = torch.empty(tokens, heads, size, dtype=_F32)
        bad = torch.zeros(tokens, heads, 1, dtype=torch.bool) if top.bad is None else top.bad[query].transpose(0, 1)
        step = max(1, _BLOCK // (tokens * tokens))
        for first in range(0, heads, step):
            part = slice(first, min(heads, first + step))
            t = self._logits(qs[part], ks[part], _double(op.text("scale")))
            if bad_kv is not None or not bool(torch.isfinite(t.sum())):
                lost = _lost_rows(t, None if bad_kv is None else bad_kv[part], later)
                bad = bad.clone()
                bad[:, part] |= lost.transpose(0, 1)
            y[:, part].copy_(self._mix(t, vs[part], Top(tv.field[part]), later).transpose(0, 1))
        return _finish(y, bad if bool(bad.any()) else None).view(tokens, heads * size)

    def _logits(self, q: Tensor, k: Tensor, scale: float) -> Tensor:
        """fp32 logits in base 2, [heads, i, j] in a buffer. q, k: [heads, tokens, size], gridded fp64."""
        shape = (q.shape[0], q.shape[1], k.shape[1])
        s = torch.bmm(q, k.transpose(1, 2), out=self._buffers.take("att.s", shape, _F64))
        return self._buffers.take("att.t", shape, _F32).copy_(s.mul_(scale))

    def _mix(self, t: Tensor, v: Tensor, tv: Top, later: Tensor | None) -> Tensor:
        """Values mixed by the weights that the logits t (consumed) give: fp64 [heads, tokens, size] in a buffer.
        v: integers; tv: exponents of the values' rows [heads, tokens, 1]; later: positions left out."""
        if later is not None:
            t.masked_fill_(later, -torch.inf)  # the neutral element of max: a masked logit has no value
        u = self._exp2(t.sub_(t.amax(-1, keepdim=True)).clamp_(min=-spec.CLAMP), 2.0**spec.WEIGHT_BITS)
        if later is not None:
            u.masked_fill_(later, 0.0)
        field = tv.field
        running = Top(field.amax(1, keepdim=True) if later is None else field.cummax(1).values)
        w = self._buffers.take("att.w", t.shape, _F64)
        if bool((field == field[:, :1]).all()):  # the scaling below would be by 2^0
            total = w.copy_(u.round_()).sum(-1, keepdim=True)
        else:
            total = torch.round(u, out=t).sum(-1, keepdim=True, dtype=_F64)
            w.copy_(u.mul_(tv.power().transpose(1, 2)).mul_(running.inverse()).round_())
        mixed = torch.bmm(w, v, out=self._buffers.take("att.o", v.shape, _F64))
        return mixed.mul_(running.unit(spec.VALUE_BITS)).div_(total)

    def _sums(self, x: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(Σq, Σq², unit, rows without grid) as fp64, both sums exact: |q| ≤ 2^bits and n·2^(2·bits) ≤ 2⁵³."""
        top = self._top(x)
        q = self._grid(x, top, bits, "norm.q").mul_(top.per_unit(bits))
        s1 = q.sum(-1, keepdim=True)
        s2 = q.mul_(q).sum(-1, keepdim=True)
        return s1, s2, top.unit(bits), top.bad

    def _layer_norm(self, op: Operator, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        s1, s2, unit, bad = self._sums(x, op.integer("bits"))
        whole = s1.to(_I64)
        spread = s2.to(_I64).mul_(x.shape[-1]).sub_(whole * whole)
        mean = (s1 * unit).mul_(_double(op.text("inv_d"))).to(_F32)
        variance = spread.to(_F64).mul_(unit * unit).mul_(_double(op.text("inv_d2"))).to(_F32)
        y = (x - mean).mul_(_rsqrt(variance.add_(_single(op.text("eps"))))).mul_(gain).add_(shift)
        return _finish(y, bad)

    def _l2_normalise(self, op: Operator, x: Tensor) -> Tensor:
        _, s2, unit, bad = self._sums(x, op.integer("bits"))
        square = s2.mul_(unit * unit).to(_F32).clamp_(min=_single(op.text("floor")))
        return _finish(x * _rsqrt(square), bad)

    def _mean_tokens(self, op: Operator, x: Tensor) -> Tensor:
        top, bits = self._top(x, 0), op.integer("bits")
        total = self._grid(x, top, bits, "mean.q").sum(0, keepdim=True)
        y = (total / torch.full_like(total, float(x.shape[0]))).to(_F32)
        return _finish(y, top.bad).view(-1)

    def _softmax(self, _: Operator, x: Tensor) -> Tensor:
        bad = self._top(x).bad
        t = x * _LOG2E
        u = self._exp2(t.sub_(t.amax(-1, keepdim=True)).clamp_(min=-spec.CLAMP), 2.0**spec.WEIGHT_BITS).to(_F64)
        return _finish((u / u.round().sum(-1, keepdim=True)).to(_F32), bad)

    def _gelu_erf(self, _: Operator, x: Tensor) -> Tensor:
        size = torch.abs(x, out=self._buffers.take("erf.x", x.shape, _F32))
        z = torch.mul(size, _SQRT_HALF, out=self._buffers.take("erf.z", x.shape, _F32))
        t = torch.mul(z, _P, out=self._buffers.take("erf.t", x.shape, _F32)).add_(1.0).reciprocal_()
        p = torch.mul(t, _A5, out=self._buffers.take("erf.p", x.shape, _F32))
        p.add_(_A4).mul_(t).add_(_A3).mul_(t).add_(_A2).mul_(t).add_(_A1).mul_(t)
        p.mul_(self._exp2(z.mul_(z).mul_(-_LOG2E).clamp_(min=-spec.CLAMP))).mul_(size).mul_(0.5)
        return _finish(x.clamp(min=0.0).sub_(p))

    def _gelu_tanh(self, _: Operator, x: Tensor) -> Tensor:
        w = (x * x).mul_(_K1).add_(_K0).mul_(x).clamp_(-spec.CLAMP, spec.CLAMP)
        return _finish(x / self._exp2(w).add_(1.0))

    def _sigmoid(self, _: Operator, x: Tensor) -> Tensor:
        e = self._exp2((x * -_LOG2E).clamp_(-spec.CLAMP, spec.CLAMP)).add_(1.0)
        return _finish(torch.reciprocal(e))

    def _tanh(self, _: Operator, x: Tensor) -> Tensor:
        e = self._exp2(x.abs().mul_(-_TWO_LOG2E).clamp_(min=-spec.CLAMP))
        y = (1.0 - e).div_(e + 1.0)
        return _finish(torch.where(x < 0, -y, y))


def _argmax(_: Operator, x: Tensor) -> Tensor:
    """The lowest index that holds the row's maximum."""
    places = torch.arange(x.shape[-1], dtype=_I32)
    return torch.where(x == x.amax(-1, keepdim=True), places, x.shape[-1]).amin(-1).to(_I32)


def _rsqrt(v: Tensor) -> Tensor:
    """1/√v of a float32 v > 0, by Newton in fp64, rounded once to float32."""
    half = v.to(_F64)
    y = (spec.RSQRT - (half.view(_I64) >> 1)).view(_F64)
    half.mul_(0.5)
    for _ in range(spec.RSQRT_STEPS):
        y = y * (1.5 - (half * y).mul_(y))
    return y.to(_F32)


def _lost_rows(t: Tensor, bad: Tensor | None, later: Tensor | None) -> Tensor:
    """Rows whose result is not finite [heads, tokens, 1]: a logit, or (``bad`` [heads, tokens, 1]) a key or value."""
    wrong = ~torch.isfinite(t)
    if bad is not None:
        wrong |= bad.transpose(1, 2)
    if later is not None:
        wrong &= ~later
    return wrong.any(-1, keepdim=True)


def _finish(y: Tensor, bad: Tensor | None = None) -> Tensor:
    """Write a float32 result: −0 becomes +0; raises ``NonFinite`` at the first element not finite or ``bad``.

    A finite sum proves that every element is finite, so the exact search runs only when the sum is not.
    """
    y.add_(0.0)
    if bad is None and bool(torch.isfinite(y.sum())):
        return y
    wrong = ~torch.isfinite(y)
    if bad is not None:
        wrong |= bad
    places = wrong.reshape(-1).nonzero()
    if len(places):
        raise NonFinite(int(places[0]))
    return y
