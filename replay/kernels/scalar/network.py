"""What is computed on grids: dot products, norms, the mean over tokens; and the softmax family.

Each operator is a public function of one row or one element, which is what a dispute is about, and a loop around it.
Numbers are fp32 bits unless a name ends in 64; bit budgets are those of the operator's attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from replay.kernels import spec
from replay.kernels.scalar import functions
from replay.kernels.scalar.functions import NOT_FINITE
from replay.kernels.scalar.grid import GridRow, dot, grid_row, unit_power
from replay.kernels.scalar.softfloat import F32, F64, narrow, widen
from replay.kernels.scalar.tensor import Call, Kind, Tensor, floats, wholes

#: Terms of a dot product whose sum is opened at once in a dispute.
TILE = 256


class LinearElement(NamedTuple):
    """``sums``: the integer sum of each tile of 256 terms; ``bits``: the result, which may be infinite."""

    sums: list[int]
    bits: int


def linear_element(x: GridRow | None, w: GridRow | None, bias: int, x_bits: int, w_bits: int) -> LinearElement:
    """One element of linear (or of matmul, with the bias +0): rows x and w of K integers, bias as fp32 bits.

    Without a grid on either side there are no sums and the result is not finite.
    """
    if x is None or w is None:
        return LinearElement([], NOT_FINITE)
    length = len(x.integers)
    sums = [dot(x.integers[at : at + TILE], w.integers[at : at + TILE]) for at in range(0, length, TILE)]
    power = unit_power(x.exponent, x_bits) + unit_power(w.exponent, w_bits)
    return LinearElement(sums, linear_epilogue(sum(sums), power, bias))


def linear_epilogue(total: int, power: int, bias: int) -> int:
    """fp32(fp64(total·2^power + bias)): the product is exact, then two roundings."""
    return narrow(F64.add(F64.nearest(total, power), widen(bias)))


def linear(call: Call) -> Tensor:
    (x,) = call.values
    a, w = call.op.integer("a_bits"), call.op.integer("w_bits")
    bias = call.weights[0].data if call.weights else [0] * len(call.grid)
    rows = [grid_row(row, a) for row in x.rows()]
    data = [
        linear_element(row, weight, shift, a, w).bits
        for row in rows
        for weight, shift in zip(call.grid, bias, strict=True)
    ]
    return floats((*x.shape[:-1], len(call.grid)), data)


def matmul(call: Call) -> Tensor:
    """[..., M, K] by the rows of [..., N, K]."""
    x, y = call.values
    a, b = call.op.integer("a_bits"), call.op.integer("b_bits")
    left, right = [grid_row(row, a) for row in x.rows()], [grid_row(row, b) for row in y.rows()]
    many, few = x.shape[-2], y.shape[-2]
    data = [
        linear_element(row, other, 0, a, b).bits
        for index, row in enumerate(left)
        for other in right[index // many * few : (index // many + 1) * few]
    ]
    return floats((*x.shape[:-1], few), data)


# ---- norms -----------------------------------------------------------------------------------------------------------


class Moments(NamedTuple):
    """``first`` = Σq, ``second`` = Σq²; the unit is 2^``power``."""

    first: int
    second: int
    power: int


def moments(row: Sequence[int], bits: int) -> Moments | None:
    """The exact sums of a norm; None if the row has no grid."""
    grid = grid_row(row, bits)
    if grid is None:
        return None
    return Moments(sum(grid.integers), sum(q * q for q in grid.integers), unit_power(grid.exponent, bits))


def layer_norm_row(
    row: Sequence[int], bits: int, inv_d: int, inv_d2: int, eps: int, gain: Sequence[int], shift: Sequence[int]
) -> list[int]:
    """``inv_d``, ``inv_d2``: fp64 bits; ``gain`` and ``shift``: d fp32 bits each, or nothing both."""
    found = moments(row, bits)
    if found is None:
        return [NOT_FINITE] * len(row)
    spread = len(row) * found.second - found.first * found.first
    mean = narrow(F64.mul(F64.nearest(found.first, found.power), inv_d))
    # scaling by u² is exact, so it may come before the rounding of V to fp64
    variance = narrow(F64.mul(F64.nearest(spread, 2 * found.power), inv_d2))
    root = functions.rsqrt(F32.add(variance, eps))
    normal = [F32.mul(F32.sub(x, mean), root) for x in row]
    if not gain:
        return normal
    return [F32.add(F32.mul(y, g), b) for y, g, b in zip(normal, gain, shift, strict=True)]


def rms_norm_row(row: Sequence[int], bits: int, inv_d: int, eps: int, gain: Sequence[int]) -> list[int]:
    """``inv_d``: fp64 bits; ``gain``: d fp32 bits, or nothing."""
    found = moments(row, bits)
    if found is None:
        return [NOT_FINITE] * len(row)
    square = narrow(F64.mul(F64.nearest(found.second, 2 * found.power), inv_d))
    root = functions.rsqrt(F32.add(square, eps))
    normal = [F32.mul(x, root) for x in row]
    return [F32.mul(y, g) for y, g in zip(normal, gain, strict=True)] if gain else normal


def l2_normalise_row(row: Sequence[int], bits: int, floor: int) -> list[int]:
    """``floor``: fp32 bits."""
    found = moments(row, bits)
    if found is None:
        return [NOT_FINITE] * len(row)
    root = functions.rsqrt(functions.larger(F32, F32.nearest(found.second, 2 * found.power), floor))
    return [F32.mul(x, root) for x in row]


def layer_norm(call: Call) -> Tensor:
    (x,), (gain, shift) = call.values, [weight.data for weight in call.weights] or [[], []]
    constants = call.op.integer("bits"), call.bits("inv_d"), call.bits("inv_d2"), call.bits("eps")
    return floats(x.shape, [y for row in x.rows() for y in layer_norm_row(row, *constants, gain, shift)])


def rms_norm(call: Call) -> Tensor:
    (x,), (gain,) = call.values, [weight.data for weight in call.weights] or [[]]
    constants = call.op.integer("bits"), call.bits("inv_d"), call.bits("eps")
    return floats(x.shape, [y for row in x.rows() for y in rms_norm_row(row, *constants, gain)])


def l2_normalise(call: Call) -> Tensor:
    (x,) = call.values
    constants = call.op.integer("bits"), call.bits("floor")
    return floats(x.shape, [y for row in x.rows() for y in l2_normalise_row(row, *constants)])


def mean_tokens_column(column: Sequence[int], bits: int) -> int:
    """The mean of one feature over all tokens."""
    grid = grid_row(column, bits)
    if grid is None:
        return NOT_FINITE
    total = F64.nearest(sum(grid.integers), unit_power(grid.exponent, bits))
    return narrow(F64.div(total, F64.nearest(len(column))))


def mean_tokens(call: Call) -> Tensor:
    (x,) = call.values
    width, bits = x.shape[1], call.op.integer("bits")
    return floats((width,), [mean_tokens_column(x.data[place::width], bits) for place in range(width)])


# ---- softmax ---------------------------------------------------------------------------------------------------------


def largest(row: Sequence[int]) -> int:
    """The largest of fp32 numbers."""
    return max(row, key=F32.order)


class SoftmaxRow(NamedTuple):
    """``distances``: x − max x; ``weights``: u = 2^22·2^z; both as fp32 bits. ``total``: D, the sum of the rounded u."""

    distances: list[int]
    weights: list[int]
    total: int


def softmax_row(row: Sequence[int]) -> SoftmaxRow:
    """What softmax and log_softmax share."""
    top = largest(row)
    distances = [F32.sub(x, top) for x in row]
    weights = [functions.exp2_from(F32.mul(d, functions.LOG2E), spec.WEIGHT_BITS) for d in distances]
    return SoftmaxRow(distances, weights, sum(map(F32.whole, weights)))


def softmax(call: Call) -> Tensor:
    (x,) = call.values

    def results() -> Iterator[int]:
        for found in map(softmax_row, x.rows()):
            total = F64.nearest(found.total)
            yield from (narrow(F64.div(widen(u), total)) for u in found.weights)

    return floats(x.shape, results())


def log_softmax(call: Call) -> Tensor:
    (x,) = call.values

    def results() -> Iterator[int]:
        for found in map(softmax_row, x.rows()):
            log = F64.sub(functions.ln64(F64.nearest(found.total)), int(spec.LN_WEIGHT_UNIT, 16))
            yield from (narrow(F64.sub(widen(d), log)) for d in found.distances)

    return floats(x.shape, results())


def sample_weights_row(row: Sequence[int], scale: int) -> list[int]:
    """Integers proportional to the probabilities. ``scale``: fp64 bits."""
    top = largest(row)
    exponents = (narrow(F64.mul(widen(F32.sub(x, top)), scale)) for x in row)
    return [F32.whole(functions.exp2_from(z, spec.SAMPLE_BITS)) for z in exponents]


def sample_weights(call: Call) -> Tensor:
    (x,), scale = call.values, call.bits("scale")
    return wholes("int64", x.shape, [w for row in x.rows() for w in sample_weights_row(row, scale)])


KINDS: Mapping[str, Kind] = {
    "linear": linear,
    "matmul": matmul,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "l2_normalise": l2_normalise,
    "mean_tokens": mean_tokens,
    "softmax": softmax,
    "log_softmax": log_softmax,
    "sample_weights": sample_weights,
}
