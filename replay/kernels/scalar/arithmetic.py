"""Elementwise operators and reductions along the last dimension, on fp32 bits and on integers that wrap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from replay.kernels.scalar import functions
from replay.kernels.scalar.functions import FUNCTIONS, NOT_FINITE
from replay.kernels.scalar.grid import GridRow, grid_row, unit_power
from replay.kernels.scalar.shapes import broadcast_map, broadcast_shape
from replay.kernels.scalar.softfloat import F32, F64, narrow
from replay.kernels.scalar.tensor import WIDTHS, Call, Kind, Tensor, floats, wholes, wrap
from replay.operators import DType

Pair = Callable[[int, int], int]

# ---- two numbers -----------------------------------------------------------------------------------------------------


def divide(x: int, y: int) -> int | None:
    """Towards zero; None for a zero divisor."""
    if y == 0:
        return None
    return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)


def modulo(x: int, y: int) -> int | None:
    """The remainder that has the divisor's sign; None for a zero divisor."""
    return None if y == 0 else x % y


def remainder(x: int, y: int) -> int | None:
    """The remainder that has the dividend's sign; None for a zero divisor."""
    return None if y == 0 else abs(x) % abs(y) * (-1 if x < 0 else 1)


def integer_power(x: int, y: int, dtype: DType) -> int | None:
    """x^y up to wrapping; None for a negative exponent."""
    return None if y < 0 else pow(x, y, 1 << WIDTHS[dtype])


#: fp32 bits and fp32 bits give fp32 bits.
FLOAT_PAIRS: Mapping[str, Pair] = {
    "add": F32.add,
    "sub": F32.sub,
    "mul": F32.mul,
    "div": F32.div,
    "max": lambda x, y: functions.larger(F32, x, y),
    "min": lambda x, y: functions.smaller(F32, x, y),
    "pow": functions.power,
}
#: Integers or truth values; the result still has to wrap. None: not finite.
INTEGER_PAIRS: Mapping[str, Callable[[int, int], int | None]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": divide,
    "max": max,
    "min": min,
    "mod": modulo,
    "fmod": remainder,
    "bit_and": lambda x, y: x & y,
    "bit_or": lambda x, y: x | y,
    "bit_xor": lambda x, y: x ^ y,
    "and": lambda x, y: x & y,
    "or": lambda x, y: x | y,
    "xor": lambda x, y: x ^ y,
}
#: On numbers, or on what orders fp32 bits.
COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "equal": lambda x, y: x == y,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
}


def stretched(*operands: Tensor) -> tuple[tuple[int, ...], list[list[int]]]:
    """The common shape, and the elements of each operand in it."""
    shape = broadcast_shape(*(one.shape for one in operands))
    return shape, [[one.data[place] for place in broadcast_map(one.shape, shape)] for one in operands]


def order(dtype: DType, item: int) -> int:
    """An integer that compares as the element does."""
    return F32.order(item) if dtype == "float32" else item


def integer_pair(kind: str, dtype: DType, x: int, y: int) -> int | None:
    found = integer_power(x, y, dtype) if kind == "pow" else INTEGER_PAIRS[kind](x, y)
    return found if found is None or dtype == "bool" else wrap(found, dtype)


def pair(call: Call) -> Tensor:
    kind, dtype = call.op.kind, call.values[0].dtype
    shape, (left, right) = stretched(*call.operands)
    if dtype == "float32":
        return floats(shape, map(FLOAT_PAIRS[kind], left, right))
    return wholes(dtype, shape, (integer_pair(kind, dtype, x, y) for x, y in zip(left, right, strict=True)))


def comparison(call: Call) -> Tensor:
    dtype, compare = call.values[0].dtype, COMPARISONS[call.op.kind]
    shape, (left, right) = stretched(*call.operands)
    keys = ((order(dtype, x), order(dtype, y)) for x, y in zip(left, right, strict=True))
    return wholes("bool", shape, (int(compare(x, y)) for x, y in keys))


def where(call: Call) -> Tensor:
    dtype = call.values[1].dtype
    shape, (conditions, left, right) = stretched(*call.values)
    return written(dtype, shape, (x if c else y for c, x, y in zip(conditions, left, right, strict=True)))


def written(dtype: DType, shape: Sequence[int], data: Iterable[int]) -> Tensor:
    """Elements of any dtype that are finite by themselves, as a result is written."""
    return floats(shape, data) if dtype == "float32" else wholes(dtype, shape, data)


# ---- one number ------------------------------------------------------------------------------------------------------


def function(call: Call) -> Tensor:
    (x,) = call.values
    return floats(x.shape, map(FUNCTIONS[call.op.kind], x.data))


#: Integers; the result still has to wrap.
INTEGER_CHANGES: Mapping[str, Callable[[int], int]] = {"neg": lambda x: -x, "abs": abs, "bit_not": lambda x: ~x}


def sign(dtype: DType, item: int) -> int:
    side = (order(dtype, item) > 0) - (order(dtype, item) < 0)
    return F32.nearest(side) if dtype == "float32" else side


def unary(call: Call) -> Tensor:
    """neg, abs, sign, not, bit_not."""
    (x,), kind = call.values, call.op.kind
    if kind == "sign":
        return written(x.dtype, x.shape, [sign(x.dtype, item) for item in x.data])
    if x.dtype == "float32":
        return floats(x.shape, map(F32.neg, x.data) if kind == "neg" else [item & F32.magnitude for item in x.data])
    if kind == "not":
        return wholes("bool", x.shape, [1 - item for item in x.data])
    return wholes(x.dtype, x.shape, [wrap(INTEGER_CHANGES[kind](item), x.dtype) for item in x.data])


def cast_element(item: int, dtype: DType, to: DType) -> int | None:
    """None: an fp32 number that the integer cannot hold."""
    if to == "bool":
        return int(order(dtype, item) != 0)
    if to == "float32":
        return item if dtype == "float32" else F32.nearest(item)
    if dtype != "float32":
        return wrap(item, to)
    whole = F32.truncate(item)
    return whole if wrap(whole, to) == whole else None


def cast(call: Call) -> Tensor:
    (x,) = call.values
    to = next(dtype for dtype in ("float32", "int32", "int64", "bool") if dtype == call.op.text("to"))
    found = [cast_element(item, x.dtype, to) for item in x.data]
    if to == "float32":
        return floats(x.shape, [item for item in found if item is not None])
    return wholes(to, x.shape, found)


# ---- along the last dimension ----------------------------------------------------------------------------------------


def _reduced(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[:-1]) or (1,)


def total_element(grid: GridRow, total: int, bits: int) -> int:
    """fp32 of a sum of gridded integers: one rounding."""
    return F32.nearest(total, unit_power(grid.exponent, bits))


def sum_row(row: Sequence[int], bits: int) -> int:
    grid = grid_row(row, bits)
    return NOT_FINITE if grid is None else total_element(grid, sum(grid.integers), bits)


def mean_row(row: Sequence[int], bits: int) -> int:
    grid = grid_row(row, bits)
    if grid is None:
        return NOT_FINITE
    total = F64.nearest(sum(grid.integers), unit_power(grid.exponent, bits))
    return narrow(F64.div(total, F64.nearest(len(row))))


def partial_sums(items: Sequence[int], *, exclusive: bool, reverse: bool) -> list[int]:
    """The running sums of integers, not wrapped."""
    total, sums = 0, []
    for item in reversed(items) if reverse else items:
        sums.append(total if exclusive else total + item)
        total += item
    return sums[::-1] if reverse else sums


def cumsum_row(row: Sequence[int], bits: int, *, exclusive: bool, reverse: bool) -> list[int]:
    grid = grid_row(row, bits)
    if grid is None:
        return [NOT_FINITE] * len(row)
    sums = partial_sums(grid.integers, exclusive=exclusive, reverse=reverse)
    return [total_element(grid, total, bits) for total in sums]


def reduce_sum(call: Call) -> Tensor:
    (x,), bits = call.values, call.op.integer("bits")
    if x.dtype == "float32":
        return floats(_reduced(x.shape), [sum_row(row, bits) for row in x.rows()])
    return wholes(x.dtype, _reduced(x.shape), [wrap(sum(row), x.dtype) for row in x.rows()])


def reduce_mean(call: Call) -> Tensor:
    (x,), bits = call.values, call.op.integer("bits")
    return floats(_reduced(x.shape), [mean_row(row, bits) for row in x.rows()])


def cumsum(call: Call) -> Tensor:
    (x,), op = call.values, call.op
    exclusive, reverse = op.integer("exclusive") == 1, op.integer("reverse") == 1

    def results() -> Iterator[int]:
        for row in x.rows():
            if x.dtype == "float32":
                yield from cumsum_row(row, op.integer("bits"), exclusive=exclusive, reverse=reverse)
            else:
                yield from (wrap(s, x.dtype) for s in partial_sums(row, exclusive=exclusive, reverse=reverse))

    return written(x.dtype, x.shape, results())


def product_row(row: Sequence[int], dtype: DType) -> int:
    """Left to right, each product rounded, or wrapped."""
    product = row[0]
    for item in row[1:]:
        product = F32.mul(product, item) if dtype == "float32" else wrap(product * item, dtype)
    return product


def ranked(row: Sequence[int], dtype: DType, *, largest: bool) -> list[int]:
    """The places of a row in order; the lowest first among equals."""
    return sorted(range(len(row)), key=lambda place: order(dtype, row[place]) * (-1 if largest else 1))


def reduce_prod(call: Call) -> Tensor:
    (x,) = call.values
    return written(x.dtype, _reduced(x.shape), [product_row(row, x.dtype) for row in x.rows()])


def extreme(call: Call) -> Tensor:
    """reduce_max, reduce_min, argmax, argmin."""
    (x,), kind = call.values, call.op.kind
    first = [(row, ranked(row, x.dtype, largest=kind.endswith("max"))[0]) for row in x.rows()]
    if kind.startswith("arg"):
        return wholes("int32", _reduced(x.shape), [place for _, place in first])
    return written(x.dtype, _reduced(x.shape), [row[place] for row, place in first])


def top(call: Call) -> Tensor:
    """top_values, top_indices."""
    (x,), count, largest = call.values, call.op.integer("k"), call.op.integer("largest") == 1
    first = [(row, ranked(row, x.dtype, largest=largest)[:count]) for row in x.rows()]
    shape = (*x.shape[:-1], count)
    if call.op.kind == "top_indices":
        return wholes("int32", shape, [place for _, chosen in first for place in chosen])
    return written(x.dtype, shape, [row[place] for row, chosen in first for place in chosen])


KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(FUNCTIONS, function),
    **dict.fromkeys(("neg", "abs", "sign", "not", "bit_not"), unary),
    **dict.fromkeys((*FLOAT_PAIRS, *INTEGER_PAIRS), pair),
    **dict.fromkeys(COMPARISONS, comparison),
    "where": where,
    "cast": cast,
    "reduce_sum": reduce_sum,
    "reduce_mean": reduce_mean,
    "reduce_prod": reduce_prod,
    "cumsum": cumsum,
    **dict.fromkeys(("reduce_max", "reduce_min", "argmax", "argmin"), extreme),
    **dict.fromkeys(("top_values", "top_indices"), top),
}
