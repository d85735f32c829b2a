"""ONNX's dot products: MatMul, Gemm, Einsum. A constant operand is the weight of a ``linear``."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence

import numpy as np

from replay.importers.onnx_lower import Lowering
from replay.importers.onnx_shapes import merged
from replay.importers.onnx_value import Call, Rule, Value, broadcast, volume
from replay.operators import Dim

#: Products of an integer matrix product, which is done element by element.
MAX_PRODUCTS = 1 << 22


def swapped(low: Lowering, value: Value) -> Value:
    """The last two axes exchanged."""
    return low.transpose(value, (*range(value.rank - 2), value.rank - 1, value.rank - 2))


def product(low: Lowering, left: Value, right: Value) -> Value:
    """NumPy's matmul of float32 or integers of rank ≥ 1."""
    if left.rank == 1:
        made = product(low, low.reshape(left, (1, *left.shape)), right)
        return low.reshape(made, (*made.shape[:-2], made.shape[-1]) if right.rank > 1 else ())
    if right.rank == 1:
        made = product(low, left, low.reshape(right, (*right.shape, 1)))
        return low.reshape(made, made.shape[:-1])
    if left.dtype != "float32":
        return _integer_product(low, left, right)
    if right.array is not None and right.rank == 2:
        return low.linear(left, np.ascontiguousarray(right.array.T))
    if left.array is not None and left.rank == 2:
        return swapped(low, low.linear(swapped(low, right), left.array))
    return low.matmul(left, swapped(low, right))


def _integer_product(low: Lowering, left: Value, right: Value) -> Value:
    right = swapped(low, right)
    lead = broadcast(left.shape[:-2], right.shape[:-2])
    volume((*lead, left.shape[-2], right.shape[-2], left.shape[-1]))
    left = low.reshape(left, (*left.shape[:-1], 1, left.shape[-1]))
    right = low.reshape(right, (*right.shape[:-2], 1, *right.shape[-2:]))
    return low.reduce("reduce_sum", low("mul", left, right), [-1], keep=False)


def _matmul(call: Call) -> Value:
    left, right = call.value(0), call.value(1)
    call.need(left.rank >= 1 and right.rank >= 1 and left.dtype == right.dtype, "the types or ranks do not fit")
    if left.dtype != "float32":
        sizes = [dim for value in (left, right) for dim in value.shape]
        call.need(all(isinstance(dim, int) for dim in sizes), "integers with an open dimension")
        most = volume(left.shape) * volume(right.shape[-1:])
        call.need(most <= MAX_PRODUCTS and left.dtype in ("int32", "int64"), f"more than {MAX_PRODUCTS} products")
    length = right.shape[0] if right.rank == 1 else right.shape[-2]
    call.need(left.shape[-1] == length, f"{list(left.shape)} and {list(right.shape)} do not multiply")
    return product(call.low, left, right)


def _gemm(call: Call) -> Value:
    low, left, right, added = call.low, call.value(0), call.value(1), call.optional(2)
    alpha, beta = call.decimal("alpha", 1.0), call.decimal("beta", 1.0)
    call.need(left.rank == right.rank == 2 and left.dtype == right.dtype == "float32", "wants float32 matrices")
    left = swapped(low, left) if call.flag("transA") else left
    rows = right if call.flag("transB") else swapped(low, right)
    call.need(left.shape[-1] == rows.shape[-1], f"{list(left.shape)} and {list(rows.shape)} do not multiply")
    shape = (left.shape[0], rows.shape[0])
    call.need(added is None or broadcast(added.shape, shape) == shape, "C does not broadcast")
    row = False
    if added is not None and added.array is not None and added.rank:
        row = added.array.size == shape[1] == added.shape[-1]
    if alpha == beta == 1 and row:
        return low.rows_dot(left, rows, added)
    made = low.rows_dot(left, rows)
    made = made if alpha == 1 else low("mul", made, alpha)
    if added is None:
        return made
    return low("add", made, added if beta == 1 else low("mul", added, beta))


# ---- Einsum ------------------------------------------------------------------------------------------------------------


def _einsum(call: Call) -> Value:
    """One or more tensors, two at a time from the left; each letter at most once in a term."""
    low, values = call.low, call.values()
    text = call.free_text("equation").replace(" ", "")
    given, arrow, result = text.partition("->")
    terms = given.split(",")
    call.need(len(terms) == len(values), "as many terms as inputs are wanted")
    terms, rest = _spelled(call, terms, values)
    result = result.replace("...", rest, 1) if arrow else _implied(terms, rest)
    allowed = set(string.ascii_letters)
    for term in (*terms, result):
        call.need(set(term) <= allowed and len(set(term)) == len(term), "a letter twice in one term")
    call.need(set(result) <= set("".join(terms)), "the result has a letter of its own")
    sizes: dict[str, Dim] = {}
    for term, value in zip(terms, values, strict=True):
        call.need(value.dtype == "float32", f"the type {value.dtype}")
        for letter, dim in zip(term, value.shape, strict=True):
            call.need(sizes.setdefault(letter, dim) == dim, "dimensions differ")
    held, made = terms[0], values[0]
    for place in range(1, len(terms)):
        keep = set(result).union(*terms[place + 1 :])
        made, held = _pair(low, (held, made), (terms[place], values[place]), keep, sizes)
    made, held = _summed(low, made, held, set(result))
    return low.transpose(made, [held.index(letter) for letter in result]) if result else low.reshape(made, ())


def _spelled(call: Call, terms: Sequence[str], values: Sequence[Value]) -> tuple[list[str], str]:
    """Ellipses become letters that the equation does not use."""
    used = set("".join(terms))
    spare = [letter for letter in string.ascii_letters if letter not in used]
    longest, made = 0, []
    for term, value in zip(terms, values, strict=True):
        if "..." in term:
            count = value.rank - len(term.replace("...", "", 1))
            call.need(0 <= count <= min(8, len(spare)), "an ellipsis does not fit")
            longest = max(longest, count)
            made.append(term.replace("...", "".join(spare[:count][::-1]), 1))
        else:
            made.append(term)
        call.need(len(made[-1]) == value.rank, "a term does not fit its input")
    return made, "".join(spare[:longest][::-1])


def _implied(terms: Sequence[str], rest: str) -> str:
    """Without an arrow: the ellipsis, then the letters that stand once, in order."""
    letters = "".join(terms)
    return rest + "".join(sorted(letter for letter in set(letters) - set(rest) if letters.count(letter) == 1))


def _summed(low: Lowering, value: Value, term: str, keep: set[str]) -> tuple[Value, str]:
    gone = [place for place, letter in enumerate(term) if letter not in keep]
    if not gone:
        return value, term
    return low.reduce("reduce_sum", value, gone, keep=False), "".join(letter for letter in term if letter in keep)


def _pair(
    low: Lowering, first: tuple[str, Value], second: tuple[str, Value], keep: set[str], sizes: Mapping[str, Dim]
) -> tuple[Value, str]:
    """Two tensors: [batch, own, summed] each, one ``matmul``."""
    left, a = _summed(low, first[1], first[0], keep | set(second[0]))
    right, b = _summed(low, second[1], second[0], keep | set(first[0]))
    both = [letter for letter in a if letter in b]
    batch = [letter for letter in both if letter in keep]
    inner = [letter for letter in both if letter not in keep]
    mine = [letter for letter in a if letter not in b]
    other = [letter for letter in b if letter not in a]

    def arranged(value: Value, term: str, own: Sequence[str]) -> Value:
        value = low.transpose(value, [term.index(letter) for letter in (*batch, *own, *inner)])
        lead = [sizes[letter] for letter in batch]
        return low.reshape(value, (*lead, merged([sizes[i] for i in own]), volume([sizes[i] for i in inner])))

    rows, columns = arranged(left, a, mine), arranged(right, b, other)
    constant = columns.array is not None and not batch
    made = low.rows_dot(rows, columns) if constant else low.matmul(rows, columns)
    letters = (*batch, *mine, *other)
    return low.reshape(made, [sizes[letter] for letter in letters]), "".join(letters)


RULES: Mapping[str, Rule] = {
    "Einsum": Rule(_einsum, 12),
    "Gemm": Rule(_gemm, 7),
    "MatMul": Rule(_matmul, 7),
}
