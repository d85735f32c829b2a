"""Signatures of elementwise operators and of reductions along the last dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from replay.kernels import spec
from replay.operators.types import INTEGERS, NUMBERS, DType, Rule, Signature, Site, TensorType, broadcast, signature

#: float32 → float32, element by element.
FUNCTIONS = (
    "relu", "floor", "ceil", "round", "sqrt", "exp", "log", "sin", "cos", "tan", "atan", "erf",
    "sigmoid", "tanh", "gelu_erf", "gelu_tanh", "silu", "softplus",
)  # fmt: skip


def _operation(rule: Rule) -> Signature:
    """Two operands, the second a value or a weight."""
    return signature(rule, values=(1, 2), weights=(0, 1))


def _same(dtypes: Sequence[str]) -> Rule:
    return lambda site: site.typed(0, dtypes)


def _operands(site: Site, dtypes: Sequence[str]) -> tuple[DType, TensorType]:
    """The common dtype and the broadcast type of two operands; the second may be a weight."""
    left = site.typed(0, dtypes)
    site.need(len(site.values) + len(site.weights) == 2, "takes two operands")
    other = site.values[1] if len(site.values) == 2 else TensorType(site.weights[0].dtype, site.weights[0].shape)
    site.need(other.dtype == left.dtype, f"operands differ: {left} and {other}")
    return left.dtype, TensorType(left.dtype, broadcast(site, left.shape, other.shape))


def _binary(dtypes: Sequence[str]) -> Rule:
    return lambda site: _operands(site, dtypes)[1]


def _compare(dtypes: Sequence[str]) -> Rule:
    return lambda site: TensorType("bool", _operands(site, dtypes)[1].shape)


def _where(site: Site) -> TensorType:
    condition, yes, no = site.values
    site.need(condition.dtype == "bool", f"wants a bool condition, not {condition}")
    site.need(yes.dtype == no.dtype, f"operands differ: {yes} and {no}")
    return TensorType(yes.dtype, broadcast(site, condition.shape, yes.shape, no.shape))


def _cast(site: Site) -> TensorType:
    to = site.op.text("to")
    for dtype in get_args(DType):
        if to == dtype:
            return TensorType(dtype, site.values[0].shape)
    raise site.fail(f"cannot cast to {to!r}")


def _reduce(dtypes: Sequence[str]) -> Rule:
    def rule(site: Site) -> TensorType:
        value = site.typed(0, dtypes)
        return TensorType(value.dtype, value.shape[:-1] or (1,))

    return rule


def _sum_bits(site: Site) -> TensorType:
    """Sums are exact in fp64: ``bits`` follows from the most elements that a row may have."""
    value = site.typed(0, NUMBERS)
    most = site.most(value.shape[-1])
    site.need(most <= spec.TOTAL_LENGTH_MAX, f"rows longer than {spec.TOTAL_LENGTH_MAX}")
    site.constant("bits", spec.total_bits(most) if value.dtype == "float32" else 0)
    return value


def _reduce_sum(site: Site) -> TensorType:
    value = _sum_bits(site)
    return TensorType(value.dtype, value.shape[:-1] or (1,))


def _reduce_mean(site: Site) -> TensorType:
    site.floats()
    return _reduce_sum(site)


def _cumsum(site: Site) -> TensorType:
    site.within("exclusive", 0, 1)
    site.within("reverse", 0, 1)
    return _sum_bits(site)


def _arg(site: Site) -> TensorType:
    value = site.typed(0, NUMBERS)
    site.need(site.most(value.shape[-1]) < 2**31, "too many classes")
    return TensorType("int32", value.shape[:-1] or (1,))


def _top(*, indices: bool) -> Rule:
    def rule(site: Site) -> TensorType:
        value = site.typed(0, NUMBERS)
        count = site.within("k", 1, site.fixed(value.shape[-1]))
        site.within("largest", 0, 1)
        dtype: DType = "int32" if indices else value.dtype
        return TensorType(dtype, (*value.shape[:-1], count))

    return rule


SIGNATURES: Mapping[str, Signature] = {
    **{kind: signature(_same(("float32",))) for kind in FUNCTIONS},
    **{kind: signature(_same(NUMBERS)) for kind in ("neg", "abs", "sign")},
    "not": signature(_same(("bool",))),
    "bit_not": signature(_same(INTEGERS)),
    **{kind: _operation(_binary(NUMBERS)) for kind in ("add", "sub", "mul", "div", "max", "min", "pow")},
    "mod": _operation(_binary(INTEGERS)),
    "fmod": _operation(_binary(INTEGERS)),
    **{kind: _operation(_binary(INTEGERS)) for kind in ("bit_and", "bit_or", "bit_xor")},
    **{kind: _operation(_binary(("bool",))) for kind in ("and", "or", "xor")},
    "equal": _operation(_compare((*NUMBERS, "bool"))),
    **{kind: _operation(_compare(NUMBERS)) for kind in ("less", "less_equal")},
    "where": signature(_where, values=(3,)),
    "cast": signature(_cast, "to"),
    "reduce_sum": signature(_reduce_sum, "bits"),
    "reduce_mean": signature(_reduce_mean, "bits"),
    "reduce_max": signature(_reduce(NUMBERS)),
    "reduce_min": signature(_reduce(NUMBERS)),
    "reduce_prod": signature(_reduce(NUMBERS)),
    "cumsum": signature(_cumsum, "bits exclusive reverse"),
    "argmax": signature(_arg),
    "argmin": signature(_arg),
    "top_values": signature(_top(indices=False), "k largest"),
    "top_indices": signature(_top(indices=True), "k largest"),
}
