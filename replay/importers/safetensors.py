"""safetensors, read strictly: the header is checked as a whole before any tensor is looked at.

The format: u64 little-endian header length, a JSON header, then the data. Names map to dtype, shape and the half-open
range of bytes; ranges must cover the data without gap or overlap.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from replay.errors import LimitExceeded, MalformedFile
from replay.layout import Array

MAX_HEADER = 16 << 20
MAX_TENSORS = 1 << 14
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def read_floats(data: bytearray, name: str = "model.safetensors") -> dict[str, Array]:
    """The F32 tensors of a file, as views into ``data``; tensors of other dtypes are checked and left out.

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
    tensors: dict[str, Array] = {}
    for key, (dtype, shape), first, last in entries:
        if first != at or last > end:
            raise MalformedFile("tensors overlap, leave a gap or reach beyond the file", file=name, tensor=key[:64])
        at = last
        if dtype == "F32":
            tensors[key] = np.frombuffer(data, "<f4", (last - first) // 4, start + first).reshape(shape)
    if at != end:
        raise MalformedFile(f"{end - at} bytes belong to no tensor", file=name)
    return tensors


def _header(raw: bytes, name: str) -> dict[str, Any]:
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MalformedFile(f"the header is not JSON ({type(error).__name__})", file=name) from error
    if not isinstance(header, dict):
        raise MalformedFile("the header is not a JSON object", file=name)
    header.pop("__metadata__", None)
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _entry(key: str, value: Any, name: str) -> tuple[str, tuple[str, list[int]], int, int]:
    def bad(why: str) -> MalformedFile:
        return MalformedFile(why, file=name, tensor=key[:64])

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
