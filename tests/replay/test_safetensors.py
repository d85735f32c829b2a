"""The reader of safetensors: exact values of every float type, and for any other bytes a typed refusal in one line."""

from __future__ import annotations

import json
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_programs import safetensors_bytes
from safetensors.numpy import save

from replay.errors import LimitExceeded, MalformedFile
from replay.importers import safetensors as reader
from replay.importers.safetensors import read_floats

RANDOM = np.random.default_rng(3)
TENSORS = {
    "a.weight": RANDOM.standard_normal((5, 3)).astype(np.float32),
    "b.half": RANDOM.standard_normal((2, 2, 2)).astype(np.float16),
    "c.brain": RANDOM.standard_normal(7).astype(np.float32).view(np.uint32).astype(np.uint16),
    "d.ids": np.arange(4),
}
GOOD = safetensors_bytes(TENSORS)


def filed(header: object, data: bytes = b"") -> bytearray:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return bytearray(struct.pack("<Q", len(raw)) + raw + data)


def test_every_f16_is_read_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    read = read_floats(bytearray(safetensors_bytes({"x": every})))["x"]
    finite = np.isfinite(every)
    sign = np.where(np.signbit(every), -1.0, 1.0)
    bits = every.view(np.uint16).astype(np.int64)
    exponent, fraction = bits >> 10 & 31, bits & 1023
    true = sign * np.where(exponent == 0, fraction * 2.0**-24, (1024 + fraction) * 2.0 ** (exponent - 25))
    assert (read[finite].astype(np.float64) == true[finite]).all()
    assert (np.signbit(read) == np.signbit(every))[finite].all()
    assert not np.isfinite(read[~finite]).any()


def test_every_bf16_is_read_exactly():
    every = np.arange(1 << 16, dtype=np.uint16)
    read = read_floats(bytearray(safetensors_bytes({"x": every})))["x"]
    assert (read.view(np.uint32) == every.astype(np.uint32) << 16).all()
    with np.errstate(invalid="ignore"):  # a signalling NaN is one of them
        theirs = every.view(ml_dtypes.bfloat16).astype(np.float32)
    assert (read == theirs)[~np.isnan(theirs)].all()


@given(st.integers(0, 4), st.sampled_from(["F32", "F16", "BF16"]))
def test_files_of_the_library_are_read(seed, dtype):
    random = np.random.default_rng(seed)
    kinds = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
    tensors = {f"t{i}": random.standard_normal((seed + 1, i + 1)).astype(kinds[dtype]) for i in range(3)}
    tensors["whole"] = np.arange(5)
    read = read_floats(bytearray(save(tensors, {"format": "np"})))
    assert set(read) == {"t0", "t1", "t2"}
    assert all((read[name] == tensors[name].astype(np.float32)).all() for name in read)


def test_a_float32_tensor_is_not_copied_unless_its_place_is_odd():
    values = np.arange(4, dtype=np.float32)
    header = {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    for blanks in range(4):
        raw = json.dumps(header).encode()
        raw += b" " * (-len(raw) % 4 + blanks)
        data = filed(raw, values.tobytes())
        read = read_floats(data)["x"]
        assert read.flags.aligned
        assert (read == values).all()
        assert np.shares_memory(read, np.frombuffer(data, np.uint8)) == (blanks == 0)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "data",
    [
        filed({"x": ENTRY}, bytes(8)),
        filed({"x": ENTRY, "y": ENTRY}, bytes(8)),
        filed({"x": ENTRY, "y": ENTRY | {"data_offsets": [8, 12]}}, bytes(12)),
        filed({"x": ENTRY | {"dtype": "F8_E4M3"}}, bytes(4)),
        filed({"x": ENTRY | {"shape": [2], "dtype": "F16", "data_offsets": [0, 8]}}, bytes(8)),
        filed({"x": ENTRY | {"shape": [1.0]}}, bytes(4)),
        filed({"x": ENTRY | {"shape": [True]}}, bytes(4)),
        filed({"x": ENTRY | {"shape": [1] * 9}}, bytes(4)),
        filed({"x\ny": ENTRY}, bytes(4)),
        filed(b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        filed(json.dumps({"x": ENTRY}).encode("utf-16"), bytes(4)),
        filed({"x": [ENTRY]}, bytes(4)),
        filed([], b""),
        filed(b'{"x":' + b"[" * 100_000, b""),
        filed(b'{"x":{"dtype":"F32","shape":[1' + b"0" * 5_000 + b'],"data_offsets":[0,4]}}', b""),
        filed(b'{"x":1,"x":1}', b""),
    ],
)
def test_files_that_lie_are_refused_in_one_line(data):
    with pytest.raises(MalformedFile) as caught:
        read_floats(data)
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_sizes_are_bounded_before_anything_is_made():
    with pytest.raises(LimitExceeded):
        read_floats(bytearray(struct.pack("<Q", reader.MAX_HEADER + 1)))
    with pytest.raises(LimitExceeded):
        read_floats(filed(dict.fromkeys(map(str, range(reader.MAX_TENSORS + 1)))))


def test_a_tensor_without_elements_is_left_out():
    huge = {"dtype": "F32", "shape": [0, 2**32 - 1, 2**32 - 1, 2**32 - 1], "data_offsets": [0, 0]}
    assert read_floats(filed({"x": huge})) == {}


def read_or_refused(data: bytes) -> dict[str, np.ndarray] | None:
    try:
        read = read_floats(bytearray(data))
    except (MalformedFile, LimitExceeded) as error:
        str(error).encode()
        assert "\n" not in str(error)  # noqa: PT017
        return None
    assert sum(array.nbytes for array in read.values()) <= 2 * len(data)
    assert all(array.dtype == np.float32 and array.size for array in read.values())
    return read


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(GOOD)))
@settings(max_examples=400)
def test_any_change_of_bytes_is_read_or_refused(changes, length):
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    assert read_or_refused(bytes(data[:length])) is None or length == len(GOOD)
    read_or_refused(bytes(data))


dims = st.lists(st.integers(-1, 6) | st.sampled_from([2**32, 2**63, 0.5, True, None]), max_size=5)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*reader._SIZES, "F4", "", 4, None]),
        "shape": dims | st.integers(),
        "data_offsets": st.lists(st.integers(-1, 50) | st.sampled_from([2**64, 1.0, "0"]), max_size=3) | st.none(),
    },
    optional={"more": st.none()},
)


@given(st.dictionaries(st.text(max_size=4), entries | st.none(), max_size=3), st.binary(max_size=50))
@settings(max_examples=400)
def test_any_header_is_read_or_refused(header, data):
    read_or_refused(bytes(filed(header, data)))


@given(st.data())
@settings(max_examples=150)
def test_any_division_of_the_data_is_read_as_it_says(data):
    """Headers that are right by construction, in any order and with any types."""
    kinds = data.draw(st.lists(st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL"]), max_size=5))
    header, at = {}, 0
    for index, kind in enumerate(kinds):
        shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
        size = int(np.prod(shape, dtype=np.int64)) * reader._SIZES[kind]
        header[f"t{index}"] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    order = data.draw(st.permutations(sorted(header)))
    read = read_or_refused(bytes(filed({name: header[name] for name in order}, RANDOM.bytes(at))))
    assert read is not None
    wanted = {name for name, entry in header.items() if entry["dtype"] in ("F32", "F16", "BF16")}
    wanted = {name for name in wanted if 0 not in header[name]["shape"]}
    assert {name: list(array.shape) for name, array in read.items()} == {n: header[n]["shape"] for n in wanted}
