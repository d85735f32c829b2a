"""A program in ordinary fp32, as anybody would run it in torch: the measure of what exactness costs, never a verdict.

The same operators as the canonical backends run, each by torch's own function: linear layers by MKL or by oneDNN, attention
by ``scaled_dot_product_attention``. What only moves or counts (shapes, integers, trees, rotary turns) is done as the torch
backend does it. No result is checked and no rounding is promised, so no name of a backend leads here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from replay.errors import BackendRefused
from replay.kernels import spec, torch_arithmetic, torch_shapes
from replay.kernels.state import STATEFUL, State
from replay.kernels.torch_core import F32, I64, double, single
from replay.kernels.torch_network import NetworkKernels
from replay.layout import Array
from replay.operators import SIGNATURES, Operator
from replay.program import Program

#: Peer → whether this torch has the library that it is named after.
PEERS: Mapping[str, Callable[[], bool]] = {
    "torch_fp32_mkl": torch.backends.mkl.is_available,
    "torch_fp32_onednn": torch.backends.mkldnn.is_available,
}
#: These take their shape from the symbols that the inputs bind.
_SIZED = {"reshape": torch_shapes.reshape, "expand": torch_shapes.expand}
_LN2 = math.log(2.0)
_EXACT = torch_arithmetic.TABLE


def _float(plain: Callable[[Tensor, Tensor], Tensor], kind: str) -> Callable[..., Tensor]:
    """``plain`` on floats; what the canonical kernels do on integers, where nothing is rounded anyway."""
    return lambda op, x, y: plain(x, y) if x.dtype == F32 else _EXACT[kind](op, x, y)


def _row(y: Tensor) -> Tensor:
    return y if y.dim() else y.view(1)


def _sample_weights(scale: float, x: Tensor) -> Tensor:
    return ((x - x.amax(-1, keepdim=True)).mul_(scale).exp_().double() * 2.0**spec.SAMPLE_BITS).to(I64)


def _alone(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x: function(x)


def _pair(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda _, x, y: function(x, y)


_PLAIN: Mapping[str, Callable[..., Tensor]] = {
    **_EXACT,
    **torch_shapes.TABLE,
    **{
        kind: _alone(getattr(torch, kind))
        for kind in (
            "floor", "ceil", "round", "neg", "abs", "sign", "sqrt", "exp", "log", "sin", "cos", "tan", "atan", "erf",
            "sigmoid", "tanh", "relu",
        )
    },
    **{kind: _pair(getattr(torch, kind)) for kind in ("add", "sub", "mul")},
    "max": _pair(torch.maximum),
    "min": _pair(torch.minimum),
    "div": _float(torch.div, "div"),
    "pow": _float(torch.pow, "pow"),
    "gelu_erf": _alone(F.gelu),
    "gelu_tanh": lambda _, x: F.gelu(x, approximate="tanh"),
    "silu": _alone(F.silu),
    "softplus": _alone(F.softplus),
    "where": lambda _, condition, yes, no: torch.where(condition, yes, no),
    "reduce_sum": lambda _, x: _row(x.sum(-1, dtype=x.dtype)),
    "reduce_mean": lambda _, x: _row(x.mean(-1)),
    "reduce_prod": lambda _, x: _row(x.prod(-1, dtype=x.dtype)),
    "reduce_max": lambda _, x: _row(x.amax(-1)),
    "reduce_min": lambda _, x: _row(x.amin(-1)),
    "cumsum": torch_arithmetic.running,
    "matmul": lambda _, x, y: x @ y.transpose(-1, -2),
    "rms_norm": lambda op, x, gain=None: F.rms_norm(x, x.shape[-1:], gain, single(op.text("eps"))),
    "layer_norm": lambda op, x, gain=None, shift=None: F.layer_norm(x, x.shape[-1:], gain, shift, single(op.text("eps"))),
    "l2_normalise": lambda op, x: F.normalize(x, dim=-1, eps=math.sqrt(single(op.text("floor")))),
    "softmax": lambda _, x: x.softmax(-1),
    "log_softmax": lambda _, x: x.log_softmax(-1),
    "sample_weights": lambda op, x: _sample_weights(double(op.text("scale")) * _LN2, x),
    "mean_tokens": lambda _, x: x.mean(0),
    "embedding": lambda _, ids, table: F.embedding(ids, table),
    "take": lambda _, x, table: table[x.to(I64)],
}  # fmt: skip


class OrdinaryKernels(NetworkKernels):
    """One program's weights in fp32 (``replay.run.Computes``). Raises ``BackendRefused`` where torch lacks the library."""

    def __init__(self, program: Program, weights: Mapping[str, Array], peer: str) -> None:
        super().__init__()
        if not PEERS[peer]():
            raise BackendRefused("this torch has no such library", backend=peer)
        self.name = peer
        self._weights = {name: self.load(array) for name, array in weights.items()}
        linear = {name for op in program.operators if op.kind == "linear" for name in op.weights}
        onednn = peer == "torch_fp32_onednn"
        self._packed = {name: self._weights[name].to_mkldnn() for name in linear} if onednn else {}
        self._table = {kind: _PLAIN.get(kind) or getattr(self, f"_{kind}") for kind in SIGNATURES.keys() - _SIZED}

    @staticmethod
    def strays() -> str:
        """See ``replay.run.Computes``: no rounding is promised here."""
        return ""

    def load(self, array: Array) -> Tensor:
        return torch.from_numpy(array if array.flags.writeable else array.copy())

    def unload(self, value: Tensor) -> Array:
        array: Array = value.numpy()
        return array

    def apply(
        self, op: Operator, values: Sequence[Tensor], dims: Mapping[str, int], state: State | None = None
    ) -> Tensor:
        """The operator's result, in memory of its own or not. ``dims`` and ``state`` as for any backend."""
        if op.kind in _SIZED:
            return _SIZED[op.kind](op, values[0], dims)
        with torch.inference_mode():
            held = self._packed if self._packed and op.kind == "linear" else self._weights
            weights, run = [held[name] for name in op.weights], self._table[op.kind]
            return run(op, *values, *weights, state=state) if op.kind in STATEFUL else run(op, *values, *weights)

    def _linear(self, _: Operator, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if not self._packed:
            return F.linear(x, weight, bias)
        rows = x.reshape(-1, x.shape[-1]).to_mkldnn()
        y = torch._C._nn.mkldnn_linear(rows, weight, bias)  # noqa: SLF001  torch has no public name for it
        return y.to_dense().view(*x.shape[:-1], -1)

    def _attention(self, op: Operator, x: Tensor, mask: Tensor | None = None, *, state: State | None = None) -> Tensor:
        heads, groups, size = op.integer("heads"), op.integer("kv_heads"), op.integer("head_dim")
        tokens = x.shape[0]
        q, k, v = torch.split(x.view(tokens, -1, size).transpose(0, 1), [heads, groups, groups])
        if state is not None:
            kept = state.kept.get(op.output)
            if kept is not None:
                k, v = torch.cat([kept[0], k], 1), torch.cat([kept[1], v], 1)
            state.kept[op.output] = k, v
        seen = _seen(op, tokens, k.shape[1], mask)
        plain = op.integer("causal") == 1 and seen is None and tokens > 1
        y = F.scaled_dot_product_attention(
            q[None], k[None], v[None], seen, is_causal=plain, scale=double(op.text("scale")) * _LN2,
            enable_gqa=groups < heads,
        )  # fmt: skip
        return y[0].transpose(0, 1).reshape(tokens, heads * size)


def _seen(op: Operator, tokens: int, total: int, mask: Tensor | None) -> Tensor | None:
    """Which keys each of the last ``tokens`` sees, bool [tokens, total]; None where ``is_causal`` or nothing says it."""
    window = op.integer("window")
    simple = tokens in (1, total) and (window == 0 or total <= window)
    if op.integer("causal") == 0 or (simple and mask is None):
        return None if mask is None else mask.expand(tokens, total)
    seen = torch.ones(tokens, total, dtype=torch.bool).tril_(total - tokens)
    if window:
        seen.triu_(total - tokens - window + 1)
    return seen if mask is None else seen & mask
