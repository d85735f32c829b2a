"""How rows look as JSON, and what OpenAPI says of it: both read off the same annotations.

Bytes are ``0x`` hex, amounts and the numbers of disputes and demands decimal strings, times and blocks integers; columns
that hold canonical JSON are given as that JSON.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from challenger.domain import NEVER, DemandId, DisputeId, Hash32, UnixTime, Wei
from challenger.store.rows import AttemptRow, WorkRow

Encode = Callable[[Any], Any]
Schema = dict[str, Any]

HEX: Schema = {"type": "string", "pattern": "^0x([0-9a-f]{2})*$", "description": "bytes as 0x hex"}
HASH: Schema = {"type": "string", "pattern": "^0x[0-9a-f]{64}$", "description": "32 bytes as 0x hex"}
ADDRESS: Schema = {"type": "string", "pattern": "^0x[0-9a-f]{40}$", "description": "an address, lower case"}
AMOUNT: Schema = {"type": "string", "pattern": "^-?[0-9]+$", "description": "exact: wei, or a number of 256 bits"}
TIME: Schema = {"type": "integer", "format": "int64", "description": "UTC seconds, chain time"}
WHOLE: Schema = {"type": "integer", "format": "int64"}
JSON_VALUE: Schema = {"description": "JSON as the record holds it"}
#: Columns of canonical JSON.
_JSON = frozenset({"payload", "inputs", "policy", "environment", "facts"})
#: Never shown: a signed transaction's bytes may not have been sent; the HMAC of a draw would help nobody.
_OMITTED = {(AttemptRow, "raw"), (WorkRow, "drawn")}
_NAMED: dict[Any, tuple[Encode, Schema]] = {
    Wei: (str, AMOUNT),
    DisputeId: (str, AMOUNT),
    DemandId: (str, AMOUNT),
    Hash32: (lambda value: "0x" + value.hex(), HASH),
    UnixTime: (int, TIME),
}
_PLAIN: dict[type, tuple[Encode, Schema]] = {
    bytes: (lambda value: "0x" + value.hex(), HEX),
    bool: (bool, {"type": "boolean"}),
    int: (int, WHOLE),
    str: (str, {"type": "string"}),
    float: (float, {"type": "number"}),
}
#: Columns that may lie far in the future: null where nothing is to be done.
_WHEN = frozenset({"next_try"})


class Shape:
    """The JSON form of one class of rows. ``schema`` refers to ``#/components/schemas/NAME`` for rows within."""

    def __init__(self, cls: type[Any]) -> None:
        self.name = cls.__name__.removesuffix("Row")
        hints = get_type_hints(cls)
        names = _fields(cls)
        self._encoders: dict[str, Encode] = {}
        properties: Schema = {}
        self.parts: dict[str, Shape] = {}
        for name in names:
            if (cls, name) in _OMITTED:
                continue
            encode, properties[name] = self._of(hints[name], name)
            self._encoders[name] = encode
        self.schema: Schema = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def encode(self, row: Any) -> dict[str, Any]:
        return {name: encode(getattr(row, name)) for name, encode in self._encoders.items()}

    def _of(self, hint: Any, name: str) -> tuple[Encode, Schema]:
        if get_origin(hint) in (Union, UnionType):
            inner = [part for part in get_args(hint) if part is not NoneType]
            encode, schema = self._of(inner[0], name)
            return (lambda value: None if value is None else encode(value)), _nullable(schema)
        if name in _JSON:
            return (lambda value: json.loads(value) if isinstance(value, str) else value), JSON_VALUE
        if name in _WHEN:
            return (lambda value: None if value >= NEVER else value), _nullable(TIME)
        if hint in _NAMED:
            return _NAMED[hint]
        base = getattr(hint, "__supertype__", hint)
        origin = get_origin(base)
        if origin in (list, tuple, frozenset):
            encode, schema = self._of(get_args(base)[0], name)
            array = {"type": "array", "items": schema}
            return (lambda value: [encode(one) for one in (sorted(value) if origin is frozenset else value)]), array
        if origin in (dict, Mapping):
            return self._mapping(get_args(base)[1], name)
        if isinstance(base, type) and issubclass(base, Enum):
            return (lambda value: value.value), {"type": "string", "enum": [one.value for one in base]}
        if base in _PLAIN:
            if hint is not base and base is bytes:  # an id
                return _NAMED[Hash32]
            if getattr(hint, "__name__", "") == "Address":
                return str, ADDRESS
            return _PLAIN[base]
        if base is Any:
            return (lambda value: value), JSON_VALUE
        part = shape(base)
        self.parts[part.name] = part
        return part.encode, {"$ref": f"#/components/schemas/{part.name}"}

    def _mapping(self, value_hint: Any, name: str) -> tuple[Encode, Schema]:
        encode, schema = self._of(value_hint, name)
        form = {"type": "object", "additionalProperties": schema}
        return (lambda value: {_key(key): encode(one) for key, one in sorted(value.items())}), form


_SHAPES: dict[type[Any], Shape] = {}


def shape(cls: type[Any]) -> Shape:
    """The shape of a NamedTuple or dataclass."""
    if cls not in _SHAPES:
        _SHAPES[cls] = Shape(cls)
    return _SHAPES[cls]


def _key(key: Any) -> str:
    return key.value if isinstance(key, Enum) else str(key)


def _fields(cls: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(cls):
        return [one.name for one in dataclasses.fields(cls)]
    return list(cls._fields)


def _nullable(schema: Schema) -> Schema:
    if "$ref" in schema:
        return {"oneOf": [schema, {"type": "null"}]}
    if "type" not in schema:
        return schema
    made = {**schema, "type": [schema["type"], "null"]}
    return made | {"enum": [*schema["enum"], None]} if "enum" in schema else made
