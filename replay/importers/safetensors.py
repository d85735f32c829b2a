"""safetensors, read strictly: the header is checked as a whole before any tensor is looked at.

The format: u64 little-endian header length, a JSON header in UTF-8, then the data. Names map to dtype, shape and the
half-open range of bytes; ranges must cover the data without gap or overlap.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from replay.errors import LimitExceeded, MalformedFile
from replay.layout import Array
from replay.shallow import parse_json

MAX_HEADER = 16 << 20
MAX_TENSORS = 1 << 14
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_floats(data: bytearray, name: str = "model.safetensors") -> dict[str, Array]:
    """The F32, F16 and BF16 tensors of a file as float32: views into ``data``, or the exact values of narrower floats.
    Tensors of other dtypes, and those without elements, are checked and left out.

    Raises ``MalformedFile``, ``LimitExceeded``.
    """
    if len(data) < 8:
        raise MalformedFile("shorter than a header", file=name)
    (length,) = struct.unpack("<Q", data[:8])
    if length > MAX_HEADER:
        raise LimitExceeded(f"a header of {length} bytes, at most {MAX_HEADER} are accepted", file=name)
    if length > len(data) - 8:
        raise MalformedFile("the header reaches beyond the file", file=name)
    header = _header(bytes(data[8 : 8 + length]), name)
    if len(header) > MAX_TENSORS:
        raise LimitExceeded(f"{len(header)} tensors, at most {MAX_TENSORS} are accepted", file=name)
    start, end = 8 + length, len(data) - 8 - length
    entries = sorted((_entry(key, value, name) for key, value in header.items()), key=lambda entry: entry[2:])
    at = 0
    for key, _, first, last in entries:
        if first != at or last > end:
            raise MalformedFile("tensors overlap, leave a gap or reach beyond the file", file=name, tensor=key[:64])
        at = last
    if at != end:
        raise MalformedFile(f"{end - at} bytes belong to no tensor", file=name)
    return {
        key: _floats(data, dtype, start + first, last - first).reshape(shape)
        for key, (dtype, shape), first, last in entries
        if dtype in ("F32", "F16", "BF16") and first < last
    }


def _floats(data: bytearray, dtype: str, start: int, size: int) -> Array:
    """``size`` bytes of ``data`` from ``start`` as float32 [n], without rounding: every F16 and BF16 is a float32."""
    if dtype == "F32":
        return np.require(np.frombuffer(data, "<f4", size // 4, start), requirements="A")
    if dtype == "F16":
        return np.frombuffer(data, "<f2", size // 2, start).astype(np.float32)
    return (np.frombuffer(data, "<u2", size // 2, start).astype(np.uint32) << np.uint32(16)).view(np.float32)


def _header(raw: bytes, name: str) -> dict[str, Any]:
    try:
        header = parse_json(raw, unique)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"the header is not JSON ({type(error).__name__})", file=name) from error
    if not isinstance(header, dict):
        raise MalformedFile("the header is not a JSON object", file=name)
    header.pop("__metadata__", None)
    return header


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose readers must not differ in which of two equal keys they take. Raises ``ValueError``."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _entry(key: str, value: Any, name: str) -> tuple[str, tuple[str, list[int]], int, int]:
    def bad(why: str) -> MalformedFile:
        return MalformedFile(why, file=name, tensor=ascii(key[:64])[1:-1])

    if not key.isprintable():
        raise bad("unusable name")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise bad("a tensor has dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise bad("unknown dtype")
    if not isinstance(shape, list) or len(shape) > 8 or not all(type(dim) is int and 0 <= dim < 2**32 for dim in shape):
        raise bad("unusable shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int and at >= 0 for at in offsets):
        raise bad("unusable data_offsets")
    if offsets[1] - offsets[0] != math.prod(shape) * _SIZES[dtype]:
        raise bad("shape and data_offsets disagree")
    return key, (dtype, shape), offsets[0], offsets[1]
