"""From what a user has (a bundle, JSON, a sentence) to the canonical bundle that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from replay.cli import Failure, UsageError
from replay.errors import LayoutError
from replay.layout import encode_bundle
from replay.plain import NotPlain, open_plain
from replay.shallow import parse_json

MAX_INPUT_BYTES = 64 << 20


def read_input(path: Path, ports: Sequence[Mapping[str, str]]) -> bytes:
    """The bundle that INPUT stands for; ``ports`` are the model's inputs as it describes itself.

    Raises ``UsageError`` for what cannot be meant, ``Failure`` for what cannot be read.
    """
    data = read_bounded(path, MAX_INPUT_BYTES)
    head = data[:64].lstrip()[:1]
    return from_json(data, ports) if head in (b"{", b"[") else data


def from_json(data: bytes, ports: Sequence[Mapping[str, str]]) -> bytes:
    """``{"name": nested lists}`` with the dtypes that the model declares; its inputs' order is the model's."""
    try:
        document = parse_json(data, _once)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the input is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise UsageError('the input is a JSON list; write an object that names the model\'s inputs, {"name": list}')
    names = [port["name"] for port in ports]
    if sorted(document) != sorted(names):
        raise UsageError(f"the input names {', '.join(sorted(document))}; the model takes {', '.join(names)}")
    try:
        return encode_bundle({port["name"]: _array(document[port["name"]], port) for port in ports})
    except LayoutError as error:
        raise UsageError(str(error)) from error


def text_bytes(text: str, ports: Sequence[Mapping[str, str]]) -> bytes:
    """The text as a worker's tokenizer takes it. Raises ``UsageError``."""
    if [port["name"] for port in ports] != ["input_ids"]:
        raise UsageError("--text is for models whose only input is input_ids")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UsageError("the text is not UTF-8") from error


def from_ids(ids: Sequence[int]) -> bytes:
    """The bundle of one text's tokens. Raises ``UsageError``."""
    if not ids:
        raise UsageError("the text has no tokens")
    return encode_bundle({"input_ids": np.array(ids, np.int32)})


def read_bounded(path: Path, limit: int) -> bytes:
    """A plain file's bytes, at most ``limit`` of them. Raises ``Failure``."""
    try:
        with open_plain(path) as opened:
            data = opened.read(limit + 1)
    except NotPlain as error:
        raise Failure(str(error), "unreadable") from error
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", "unreadable") from error
    if len(data) > limit:
        raise Failure(f"{path} is longer than {limit} bytes", "too-large")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs. Raises ``ValueError`` for a key that stands twice: which of the two was meant?"""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice")
    return made


def _array(value: Any, port: Mapping[str, str]) -> np.ndarray[Any, Any]:
    dtype = np.dtype(port["type"].partition("[")[0])
    kinds, named = {"f": ("iuf", "numbers"), "i": ("iu", "integers"), "b": ("b", "true or false")}[dtype.kind]
    try:
        array = np.array(value)
    except ValueError as error:
        raise UsageError(f"{port['name']} is not a rectangular list of numbers") from error
    if array.dtype.kind not in kinds or array.size == 0:
        raise UsageError(f"{port['name']} must be a list of {named}: {port['type']}")
    if dtype.kind == "i":
        bits = 8 * dtype.itemsize
        if not -(1 << (bits - 1)) <= int(array.min()) <= int(array.max()) < 1 << (bits - 1):
            raise UsageError(f"{port['name']} holds an integer outside {bits} bits")
    return array.astype(dtype)
