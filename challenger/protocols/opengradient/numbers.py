"""OpenGradient's numbers: a float as ``value / 10**decimals``, two int128; tensors of them in row-major order.

Writing: the shortest decimal text of the float, without trailing zeros. Reading: the quotient at 28 significant digits,
rounded to a double and that to float32, as the protocol's own client does. One float has many pairs (0.1 is ``(1, 1)``
and ``(10000000149011612, 17)``), so pairs are never compared: decoded float32 are. What the form cannot say: NaN,
infinity, the sign of −0.0.

Work is bounded by the number of pairs: no power of ten beyond 10⁷⁷ is ever built.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from challenger.errors import Expected

#: Nodes refuse more decimals than this in what they are given.
MAX_DECIMALS = 18
#: With more decimals every int128 is 0 as a float32: the smallest one above 0 is 1.4·10⁻⁴⁵.
_NOTHING = 96
#: With fewer decimals no integer but 0 is a float32: the largest one is 3.4·10³⁸.
MIN_DECIMALS = -38
#: What lies below it may need more decimals than there are (a float32 is told by nine digits), and is told to the nearest
#: ``RESOLUTION`` or so.
SAYABLE, RESOLUTION = 1e-10, 1e-18
MAX_RANK = 8
_VAST = 1 << 48
INT128 = range(-(1 << 127), 1 << 127)
#: The client computes under Python's default context; ours stands alone, whatever the process has set.
_CONTEXT = Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)
_POWERS = {n: Decimal(10) ** n if n >= 0 else Decimal((0, (1,), n)) for n in range(MIN_DECIMALS, _NOTHING + 1)}

Floats = npt.NDArray[np.float32]


class NumberRefused(Expected):
    """no number or tensor of the protocol"""


class NotFinite(NumberRefused):
    """NaN, infinity and what lies beyond float32 have no form in the protocol"""


class DecimalsRefused(NumberRefused):
    """a number has too many or too few decimals"""


class ValueRefused(NumberRefused):
    """a number's value does not fit int128"""


class ShapeRefused(NumberRefused):
    """a tensor's values and its shape do not fit"""


class Number(NamedTuple):
    """``value / 10**decimals``."""

    value: int
    decimals: int


class NumberTensor(NamedTuple):
    """As the chain has it: ``values`` in row-major order, one for each place of ``shape``."""

    name: str
    values: tuple[Number, ...]
    shape: tuple[int, ...]


def encode(number: float | np.floating[Any] | np.integer[Any]) -> Number:
    """The pair that the protocol's client writes for a float or an integer, at its own precision: ``float32(0.1)`` is
    ``(1, 1)``. Integers of more than 28 digits are rounded to 28.

    Raises ``NotFinite``, ``DecimalsRefused`` (more than nodes take), ``ValueRefused``.
    """
    if isinstance(number, int) and number not in INT128:
        raise ValueRefused(got=f"{number.bit_length()} bits")
    given = Decimal(str(number))
    if not given.is_finite():
        raise NotFinite(got=str(number))
    shortest = given.normalize(_CONTEXT)
    _, digits, exponent = shortest.as_tuple()
    assert isinstance(exponent, int), "it is finite"
    if shortest.adjusted() > 38:
        raise ValueRefused(got=str(number))
    if exponent < -MAX_DECIMALS:
        raise DecimalsRefused(f"nodes take at most {MAX_DECIMALS}", got=-exponent)
    value = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    value = -value if shortest.is_signed() else value
    if value not in INT128:
        raise ValueRefused(got=str(number))
    return Number(value, max(-exponent, 0))


def decode(value: int, decimals: int) -> np.float32:
    """The float32 that the pair means; zero is +0.0. Raises ``DecimalsRefused``, ``ValueRefused``, ``NotFinite``."""
    return np.float32(_double(value, decimals))


def encode_tensor(name: str, array: npt.NDArray[Any]) -> NumberTensor:
    """``array`` of floats or integers. Raises as ``encode`` does, and ``ShapeRefused`` for too many dimensions."""
    if array.ndim > MAX_RANK:
        raise ShapeRefused(f"at most {MAX_RANK} dimensions", got=array.ndim)
    return NumberTensor(name, tuple(encode(one) for one in array.flatten()), array.shape)


def decode_tensor(tensor: NumberTensor, *, given: bool = True) -> Floats:
    """The tensor as float32. What a node was not ``given`` but wrote itself may have more decimals than nodes take: the tail
    of a softmax does, and nobody says that it may not. Raises as ``decode`` does, and ``ShapeRefused``."""
    check_shape(tensor.shape, len(tensor.values))
    doubles = np.array([_double(*one, given=given) for one in tensor.values], np.float64)
    return doubles.astype(np.float32).reshape(tensor.shape)


def decode_whole(tensor: NumberTensor) -> npt.NDArray[np.int64] | None:
    """The tensor as int64 where every number is a whole one that fits, None where one is not: what a model with integer
    inputs is given. Raises as ``decode`` does, and ``ShapeRefused``."""
    check_shape(tensor.shape, len(tensor.values))
    whole = []
    for value, decimals in tensor.values:
        _double(value, decimals)
        quotient, rest = divmod(value, 10**decimals) if decimals > 0 else (value * 10**-decimals, 0)
        if rest or not -(1 << 63) <= quotient < 1 << 63:
            return None
        whole.append(quotient)
    return np.array(whole, np.int64).reshape(tensor.shape)


def check_shape(shape: Sequence[int], count: int) -> None:
    """Raises ``ShapeRefused`` unless ``shape`` has ``count`` places."""
    if len(shape) > MAX_RANK:
        raise ShapeRefused(f"at most {MAX_RANK} dimensions", got=len(shape))
    places = math.prod(shape)  # at most 8 numbers of 32 bits
    # of an empty tensor the other dimensions could multiply beyond what an array may have
    vast = count == 0 and (max(shape, default=0) > 1 << 20 or math.prod(filter(None, shape)) > _VAST)
    if places != count or vast:
        raise ShapeRefused(f"{count} values for {places} places", shape=list(shape))


def _double(value: int, decimals: int, *, given: bool = True) -> float:
    """Rounds to float32 within its range."""
    if decimals < MIN_DECIMALS or (given and decimals > MAX_DECIMALS):
        most = f"to {MAX_DECIMALS}" if given else "or more"
        raise DecimalsRefused(f"{MIN_DECIMALS} {most} can be read", got=decimals)
    if value not in INT128:
        raise ValueRefused(got=value)
    if decimals > _NOTHING:
        return 0.0
    double = float(_CONTEXT.divide(Decimal(value), _POWERS[decimals]))
    if abs(double) >= _BEYOND:
        raise NotFinite(got=f"{value} with {decimals} decimals")
    return double


#: From here on a double rounds to an infinite float32: half a step above the largest one.
_BEYOND = float(np.finfo(np.float32).max) + 2.0**103


class Distance(NamedTuple):
    """How far two tensors lie apart. ``differing`` of ``places``; the largest absolute difference, the largest
    relative one (to the second tensor; infinite where that is 0), the largest in steps of float32."""

    places: int
    differing: int
    absolute: float
    relative: float
    ulps: int

    def __str__(self) -> str:
        if not self.differing:
            return f"all {self.places} equal"
        apart = f"max {self.absolute:.3g} absolute, {self.relative:.3g} relative, {self.ulps} ulp"
        return f"{self.differing} of {self.places} differ: {apart}"


def same(one: Floats, other: Floats) -> bool:
    """Whether all decoded floats are equal, bit for bit; −0.0 is 0.0, since its sign cannot be said."""
    return one.shape == other.shape and bool((ordered(one) == ordered(other)).all())


def distance(one: Floats, other: Floats) -> Distance:
    """Of two tensors of one size, finite both."""
    apart = np.abs(ordered(one).reshape(-1) - ordered(other).reshape(-1))
    a, b = one.reshape(-1).astype(np.float64), other.reshape(-1).astype(np.float64)
    absolute = np.abs(a - b)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(absolute == 0, 0.0, absolute / np.abs(b))
    return Distance(
        places=apart.size,
        differing=int(np.count_nonzero(apart)),
        absolute=float(absolute.max(initial=0.0)),
        relative=float(relative.max(initial=0.0)),
        ulps=int(apart.max(initial=0)),
    )


def carried(one: Floats, other: Floats) -> Floats:
    """``one`` with the places of ``other`` where the protocol cannot tell the two apart."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    return np.where((np.abs(b) < SAYABLE) & (np.abs(a - b) <= RESOLUTION), other, one)


def within(one: Floats, other: Floats, absolute: float, relative: float) -> bool:
    """Whether each place of ``one`` lies within ``absolute + relative·|other|``."""
    a, b = one.reshape(-1).astype(np.float64), other.reshape(-1).astype(np.float64)
    return bool((np.abs(a - b) <= absolute + relative * np.abs(b)).all())


def ordered(array: Floats) -> npt.NDArray[np.int64]:
    """Integers that count the float32 in order: neighbours are one apart, −0.0 and 0.0 are both 0."""
    bits = np.ascontiguousarray(array, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFF_FFFF), bits).reshape(array.shape)


def numbers_of(pairs: Iterable[Any]) -> tuple[Number, ...]:
    """Decoded ABI components."""
    return tuple(Number(pair["value"], pair["decimals"]) for pair in pairs)
