"""The number codec: as the protocol's own client has it, and every refusal that the protocol documents."""

from __future__ import annotations

import json
import math

import numpy as np
import opengradient_cases as oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from challenger.protocols.opengradient.numbers import (
    DecimalsRefused,
    NotFinite,
    Number,
    NumberRefused,
    NumberTensor,
    ShapeRefused,
    ValueRefused,
    decode,
    decode_tensor,
    decode_whole,
    distance,
    encode,
    encode_tensor,
    same,
    within,
)

FACTS = json.loads(oracle.DIGESTS.read_text())
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize("chunk", range(oracle.CHUNKS))
def test_as_the_clients_recorded_answers(chunk: int) -> None:
    assert FACTS["values"] >= 100_000
    ours = (oracle.told(case, encode, decode, NumberRefused) for case in oracle.cases(chunk))
    assert oracle.digest(ours) == FACTS["digests"][chunk]


@pytest.mark.oracle
def test_as_the_client_answers_now(client: oracle.Client) -> None:
    for chunk in range(oracle.CHUNKS):
        for case, theirs in zip(oracle.cases(chunk), client.answers(chunk), strict=True):
            assert oracle.told(case, encode, decode, NumberRefused) == theirs, case
        assert oracle.digest(client.answers(chunk)) == FACTS["digests"][chunk]


@pytest.mark.oracle
def test_tensors_as_the_client_writes_them(client: oracle.Client) -> None:
    for array in (
        np.arange(24).reshape(2, 3, 4) / np.float32(7),
        np.arange(6).reshape(3, 2),
        np.float32([[-0.0, 0.5]]),
    ):
        ((name, values, shape),), strings = client.tensors({"x": array})
        assert encode_tensor("x", array) == NumberTensor(name, tuple(Number(*one) for one in values), tuple(shape))
        assert strings == []


@pytest.fixture
def client(request: pytest.FixtureRequest) -> oracle.Client:
    try:
        return oracle.Client()
    except ImportError as error:
        if request.config.getoption("--require-extras"):
            raise
        pytest.skip(f"the protocol's client is not installed: {error}")


@pytest.mark.parametrize(
    ("number", "pair"),
    [
        (np.float32(0.1), (1, 1)),
        (float(np.float32(0.1)), (10000000149011612, 17)),
        (-1.5, (-15, 1)),
        (0.0, (0, 0)),
        (-0.0, (0, 0)),
        (1200.0, (1200, 0)),
        (np.float32(1e20), (10**20, 0)),
        (7, (7, 0)),
        (np.int64(-(2**63)), (-(2**63), 0)),
    ],
)
def test_what_is_written(number: float, pair: tuple[int, int]) -> None:
    assert encode(number) == pair


@given(floats)
def test_a_float_comes_back_unless_it_is_refused(value: float) -> None:
    number = np.float32(value)
    try:
        pair = encode(number)
    except NumberRefused:
        assert abs(number) < 1e-9 or abs(number) > 1.7e38
        return
    assert same(np.array([decode(*pair)]), np.array([number]))


@given(st.integers(-(1 << 127), (1 << 127) - 1), st.integers(0, 18), st.integers(0, 18))
def test_pairs_differ_and_the_number_is_one(value: int, decimals: int, more: int) -> None:
    """The form is not canonical: what is compared is the float."""
    wide = value * 10**more
    if not -(1 << 127) <= wide < 1 << 127 or decimals + more > 18:
        return
    assert decode(value, decimals) == decode(wide, decimals + more)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_what_is_not_finite_cannot_be_written(number: float) -> None:
    with pytest.raises(NotFinite):
        encode(number)


@pytest.mark.parametrize("number", [1e-19, np.float32(1e-30), 1.2345678901234567e-3])
def test_more_decimals_than_nodes_take_are_refused(number: float) -> None:
    with pytest.raises(DecimalsRefused):
        encode(number)


@pytest.mark.parametrize(
    "number",
    [1e39, 1e308, np.float32(3e38), 1 << 127, 1 << 20_000, -(1 << 127) - 1],
    ids=lambda x: f"{x:.3g}" if isinstance(x, float) else "whole",
)
def test_what_int128_does_not_hold_is_refused(number: float) -> None:
    with pytest.raises(ValueRefused):
        encode(number)


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        ((1, 19), DecimalsRefused),
        ((1, (1 << 127) - 1), DecimalsRefused),
        ((1, -39), DecimalsRefused),
        ((0, -(1 << 127)), DecimalsRefused),
        ((1 << 127, 0), ValueRefused),
        ((-(1 << 127) - 1, 0), ValueRefused),
        ((4, -38), NotFinite),
        ((-((1 << 127) - 1), -3), NotFinite),
        ((340282356779733661637539395458142568448, 0), ValueRefused),
        ((34028235677973366163753939545814256845, -1), NotFinite),
    ],
)
def test_what_is_not_read(pair: tuple[int, int], error: type[NumberRefused]) -> None:
    """At once, however large the exponent: no power is built that the answer would not hold."""
    with pytest.raises(error):
        decode(*pair)


def test_the_largest_float_is_read() -> None:
    assert decode(34028234663852886, -22) == np.finfo(np.float32).max


@pytest.mark.parametrize(
    ("count", "shape"),
    [
        (3, (2, 2)),
        (0, (1,)),
        (1, (0,)),
        (1, (1,) * 9),
        (1, (2**32 - 1,) * 8),
        (0, (0, 2**32 - 1, 2**32 - 1)),
        (0, (0, 2**20, 2**20, 2**20)),  # no array may be so large, though it is empty
    ],
)
def test_values_that_do_not_fit_their_shape_are_refused(count: int, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeRefused):
        decode_tensor(NumberTensor("x", (Number(1, 0),) * count, shape))
    with pytest.raises(ShapeRefused):
        decode_whole(NumberTensor("x", (Number(1, 0),) * count, shape))


def test_too_many_dimensions_are_not_written() -> None:
    with pytest.raises(ShapeRefused):
        encode_tensor("x", np.zeros((1,) * 9))


def test_tensors_are_row_major() -> None:
    array = np.float32([[1, 2, 3], [4, 5, 6]])
    tensor = encode_tensor("x", array.T)
    assert [one.value for one in tensor.values] == [1, 4, 2, 5, 3, 6]
    assert tensor.shape == (3, 2)
    assert same(decode_tensor(tensor), np.ascontiguousarray(array.T))
    assert decode_tensor(NumberTensor("x", (Number(5, 0),), ())).shape == ()
    assert decode_tensor(NumberTensor("x", (), (0, 3))).shape == (0, 3)


def test_whole_numbers() -> None:
    tensor = NumberTensor("x", (Number(30, 1), Number(-2, -2), Number(1 << 62, 0)), (3,))
    whole = decode_whole(tensor)
    assert whole is not None
    assert whole.tolist() == [3, -200, 1 << 62]
    assert decode_whole(NumberTensor("x", (Number(31, 1),), (1,))) is None
    assert decode_whole(NumberTensor("x", (Number(1 << 63, 0),), (1,))) is None


def test_distances_are_counted() -> None:
    ours = np.float32([1.0, 0.0, -2.0, 0.0])
    theirs = np.float32([np.nextafter(np.float32(1), np.float32(2)), -0.0, -2.0, 0.5])
    assert same(np.float32([0.0]), np.float32([-0.0]))
    assert not same(ours, theirs)
    far = distance(theirs, ours)
    assert (far.places, far.differing, far.absolute, far.relative) == (4, 2, 0.5, math.inf)
    assert distance(theirs[:1], ours[:1]).ulps == 1
    assert "2 of 4 differ" in str(far)
    assert str(distance(ours, ours)) == "all 4 equal"
    assert within(theirs, ours, 0.5, 0)
    assert not within(theirs, ours, 0.4, 0.1)


@given(floats, floats)
@example(float(np.finfo(np.float32).max), 0.0)
def test_neighbours_are_one_ulp_apart(one: float, other: float) -> None:
    a, b = np.float32([one]), np.float32([other])
    if one != np.finfo(np.float32).max:  # beyond the largest there is none
        assert distance(np.nextafter(a, np.float32(math.inf)), a).ulps == 1
    assert distance(a, b).ulps == distance(b, a).ulps
    assert (distance(a, b).ulps == 0) == (one == other)


def test_an_output_may_have_more_decimals_than_an_input() -> None:
    """The tail of a softmax: what an honest node writes for it is read, however small."""
    tail = NumberTensor("p", (Number(1, 20), Number(14, 46), Number(123456789, 40), Number(5, 10**30)), (4,))
    with pytest.raises(DecimalsRefused):
        decode_tensor(tail)
    read = decode_tensor(tail, given=False)
    assert read.tolist() == [np.float32(1e-20), np.float32(1.4e-45), np.float32("1.23456789e-32"), 0.0]


def test_what_is_said_of_too_few_decimals_fits_what_was_read() -> None:
    """An output may have any number of decimals upwards."""
    tensor = NumberTensor("x", (Number(1, -400),), (1,))
    with pytest.raises(DecimalsRefused, match="-38 to 18 can be read"):
        decode_tensor(tensor)
    with pytest.raises(DecimalsRefused, match="-38 or more can be read"):
        decode_tensor(tensor, given=False)
