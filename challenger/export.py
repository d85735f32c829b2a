"""Rows of the record as CSV, JSON Lines or Parquet, one after the other in constant memory.

The forms are those of the API: hashes and addresses as ``0x`` hex, amounts as decimal text, times as UTC seconds. JSON Lines keep what
a row holds within it; CSV and Parquet have a column for each member within (``work.state``) and lists as JSON.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, Protocol

from challenger.errors import ConfigError
from challenger.shapes import Schema, Shape

FORMATS = ("csv", "jsonl", "parquet")
#: Rows of a Parquet file that are in memory at once.
_GROUP = 10_000
#: What a spreadsheet takes for a formula: text that begins so gets an apostrophe before it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"-?[0-9]+")


class Writer(Protocol):
    def row(self, told: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def writer(form: str, file: IO[bytes], shape: Shape) -> Writer:
    """Writes rows of ``shape`` to ``file``, which the caller closes. Raises ConfigError where a library is missing."""
    made: dict[str, Callable[[IO[bytes], Shape], Writer]] = {"csv": _Csv, "jsonl": _Lines, "parquet": _Parquet}
    return made[form](file, shape)


class _Lines:
    def __init__(self, file: IO[bytes], _: Shape) -> None:
        self._file = file

    def row(self, told: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(told, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        pass


class _Csv:
    def __init__(self, file: IO[bytes], shape: Shape) -> None:
        self._names = [name for name, _ in columns(shape)]
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.writer(self._text)
        self._csv.writerow(self._names)

    def row(self, told: Mapping[str, Any]) -> None:
        flat = flattened(told)
        self._csv.writerow([_cell(flat.get(name)) for name in self._names])

    def close(self) -> None:
        self._text.detach()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        formula = value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
        return "'" + value if formula else value
    return value if isinstance(value, int | float) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


class _Parquet:
    def __init__(self, file: IO[bytes], shape: Shape) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise ConfigError("Parquet needs pyarrow: pip install 'inference-challenger[parquet]'") from None
        kinds = {"integer": pa.int64(), "boolean": pa.bool_(), "number": pa.float64()}
        self._kinds = {name: kinds.get(kind, pa.string()) for name, kind in columns(shape)}
        self._schema = pa.schema(list(self._kinds.items()))
        self._pa = pa
        self._parquet = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[dict[str, Any]] = []

    def row(self, told: Mapping[str, Any]) -> None:
        flat = flattened(told)
        self._waiting.append({name: self._value(flat.get(name), kind) for name, kind in self._kinds.items()})
        if len(self._waiting) >= _GROUP:
            self._flush()

    def _value(self, value: Any, kind: Any) -> Any:
        if kind != self._pa.string() or value is None or isinstance(value, str):
            return value
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    def _flush(self) -> None:
        if self._waiting:
            self._parquet.write_table(self._pa.Table.from_pylist(self._waiting, schema=self._schema))
            self._waiting = []

    def close(self) -> None:
        self._flush()
        self._parquet.close()


def columns(shape: Shape) -> Iterator[tuple[str, str]]:
    """Name and JSON type of each column; ``json`` for what is a list or any JSON."""
    for name, schema in shape.schema["properties"].items():
        within = shape.parts.get(_refers_to(schema))
        if within is None:
            yield name, _kind(schema)
        else:
            yield from ((f"{name}.{inner}", kind) for inner, kind in columns(within))


def flattened(told: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in told.items():
        found[head + name] = value
        if isinstance(value, dict):
            found |= flattened(value, f"{head}{name}.")
    return found


def _refers_to(schema: Schema) -> str:
    """The shape that a member is of; empty for a plain one."""
    one = next((part for part in schema.get("oneOf", ()) if "$ref" in part), schema)
    return str(one.get("$ref", "")).rpartition("/")[2]


def _kind(schema: Schema) -> str:
    said = schema.get("type", "json")
    names = [name for name in said if name != "null"] if isinstance(said, list) else [said]
    return names[0] if names[0] in ("integer", "boolean", "number", "string") else "json"
