"""Functions of one float32 element in torch: fp32 chains in buffers, or fp64 chains rounded once (docs/numerics.md)."""

from __future__ import annotations

import torch
from torch import Tensor

from replay.kernels import spec
from replay.kernels.torch_core import (
    F32,
    F64,
    I64,
    LOG2E,
    TorchCore,
    double,
    doubles,
    exp64,
    finish,
    horner,
    log64,
    newton,
    scalar,
    single,
)
from replay.operators import Operator

_HALF, _ONE, _MINUS_LOG2E, _MINUS_TWO_LOG2E = scalar(0.5), scalar(1.0), scalar(-LOG2E), scalar(-single(spec.TWO_LOG2E))
_K0, _K1 = (scalar(single(text)) for text in spec.GELU_TANH)
_P, _SQRT_HALF = scalar(single(spec.ERF_P)), scalar(single(spec.SQRT_HALF))
_A1, _A2, _A3, _A4, _A5 = (scalar(single(text)) for text in spec.ERF_A)
_TWO_OVER_PI, _HALF_PI = double(spec.TWO_OVER_PI), doubles(spec.HALF_PI)
_SIN64, _COS64, _ATAN64 = doubles(spec.SIN64), doubles(spec.COS64), doubles(spec.ATAN64)
_TAN_15, _SQRT3, _PI_6, _PI_2 = (double(text) for text in (spec.TAN_15, spec.SQRT3, spec.PI_6, spec.PI_2))
_ERF64, _ERF64_A, _ERF64_P = doubles(spec.ERF64), doubles(spec.ERF64_A), double(spec.ERF64_P)


class FunctionKernels(TorchCore):
    """float32 → float32, element by element."""

    # ---- fp32 --------------------------------------------------------------------------------------------------------

    def _gelu_erf(self, _: Operator, x: Tensor) -> Tensor:
        size = torch.abs(x, out=self._buffers.take("erf.x", x.shape, F32))
        z = torch.mul(size, _SQRT_HALF, out=self._buffers.take("erf.z", x.shape, F32))
        t = torch.mul(z, _P, out=self._buffers.take("erf.t", x.shape, F32)).add_(_ONE).reciprocal_()
        p = torch.mul(t, _A5, out=self._buffers.take("erf.p", x.shape, F32))
        p.add_(_A4).mul_(t).add_(_A3).mul_(t).add_(_A2).mul_(t).add_(_A1).mul_(t)
        p.mul_(self._exp2(z.mul_(z).mul_(_MINUS_LOG2E).clamp_(min=-spec.CLAMP))).mul_(size).mul_(_HALF)
        return finish(x.clamp(min=0.0).sub_(p))

    def _gelu_tanh(self, _: Operator, x: Tensor) -> Tensor:
        w = torch.mul(x, x, out=self._buffers.take("gelu", x.shape, F32))
        w.mul_(_K1).add_(_K0).mul_(x).clamp_(-spec.CLAMP, spec.CLAMP)
        return finish(x / self._exp2(w).add_(_ONE))

    def _falling(self, x: Tensor) -> Tensor:
        """2^clamp(x·(−log₂e), ±60) + 1, in a buffer."""
        w = torch.mul(x, _MINUS_LOG2E, out=self._buffers.take("falling", x.shape, F32))
        return self._exp2(w.clamp_(-spec.CLAMP, spec.CLAMP)).add_(_ONE)

    def _sigmoid(self, _: Operator, x: Tensor) -> Tensor:
        return finish(torch.reciprocal(self._falling(x)))

    def _silu(self, _: Operator, x: Tensor) -> Tensor:
        return finish(x / self._falling(x))

    def _tanh(self, _: Operator, x: Tensor) -> Tensor:
        e = self._exp2(x.abs().mul_(_MINUS_TWO_LOG2E).clamp_(min=-spec.CLAMP))
        y = (1.0 - e).div_(e + 1.0)
        return finish(torch.where(x < 0, -y, y))

    def _relu(self, _: Operator, x: Tensor) -> Tensor:
        return finish(x.clamp(min=0.0))

    # ---- fp64 --------------------------------------------------------------------------------------------------------

    def _exp(self, _: Operator, x: Tensor) -> Tensor:
        return finish(exp64(x.to(F64)).to(F32))

    def _log(self, _: Operator, x: Tensor) -> Tensor:
        bad = x <= 0
        return finish(log64(x.masked_fill(bad, 1.0).to(F64)).to(F32), bad)

    def _softplus(self, _: Operator, x: Tensor) -> Tensor:
        wide = x.to(F64)
        tail = log64(exp64(-wide.abs()).add_(1.0))
        return finish(tail.add_(wide.clamp_(min=0.0)).to(F32))

    def _sqrt(self, _: Operator, x: Tensor) -> Tensor:
        safe = torch.where(x > 0, x, 1.0)
        y = newton(safe).mul_(safe.to(F64)).to(F32).masked_fill_(x == 0, 0.0)
        return finish(y, x < 0)

    def _sin(self, _: Operator, x: Tensor) -> Tensor:
        return _wave(x, 0)

    def _cos(self, _: Operator, x: Tensor) -> Tensor:
        return _wave(x, 1)

    def _tan(self, _: Operator, x: Tensor) -> Tensor:
        s, c, quadrant, far = _turn(x)
        odd = (quadrant & 1) == 1
        return finish((torch.where(odd, -c, s) / torch.where(odd, s, c)).to(F32), far)

    def _atan(self, _: Operator, x: Tensor) -> Tensor:
        a = x.to(F64).abs_()
        over = a > 1.0
        a = torch.where(over, a.reciprocal(), a)
        far = a > _TAN_15
        a = torch.where(far, (a * _SQRT3).sub_(1.0).div_(a + _SQRT3), a)
        y = horner(a * a, _ATAN64).mul_(a)
        y = torch.where(far, y + _PI_6, y)
        y = torch.where(over, _PI_2 - y, y)
        return finish(torch.where(x < 0, -y, y).to(F32))

    def _erf(self, _: Operator, x: Tensor) -> Tensor:
        a = x.to(F64).abs_()
        near = a < 0.5
        small = horner(a * a, _ERF64).mul_(a)  # huge where it is not taken
        t = (a * _ERF64_P).add_(1.0).reciprocal_()
        tail = horner(t, _ERF64_A).mul_(t).mul_(exp64((a * a).neg_()))
        y = torch.where(near, small, 1.0 - tail)
        return finish(torch.where(x < 0, -y, y).to(F32))


def _turn(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(sin r, cos r, quadrant, |x| too large) with x = quadrant·π/2 + r."""
    far = x.abs() > spec.SIN_MAX
    wide = x.masked_fill(far, 0.0).to(F64)
    n = (wide * _TWO_OVER_PI).round_()
    r = (wide - n * _HALF_PI[0]).sub_(n * _HALF_PI[1]).sub_(n * _HALF_PI[2])
    z = r * r
    return horner(z, _SIN64).mul_(r), horner(z, _COS64), n.to(I64) & 3, far


def _wave(x: Tensor, ahead: int) -> Tensor:
    """The sine of x + ahead·π/2."""
    s, c, quadrant, far = _turn(x)
    quadrant = (quadrant + ahead) & 3
    y = torch.where((quadrant & 1) == 1, c, s)
    return finish(torch.where(quadrant >= 2, -y, y).to(F32), far)
