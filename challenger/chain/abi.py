"""ABI types compiled to decoders, strict and bounded.

A decoder of a static type is ``read(data, at) -> value`` over a head whose length the caller has checked; one of a
dynamic type is ``read(data, start) -> (value, end)`` with ``data[start:end]`` its encoding. All raise ``ValueError`` only.

Values: ``int``, ``bool``, ``bytes``, lower-case ``0x`` address, ``str``, list; a tuple becomes a dict when all of its
components are named, else a tuple. Decoded size is bounded by the data's size times the number of fields of the type:
the elements of an array may not overlap, so that pointers to one place cannot multiply it.

A ``string`` that is not UTF-8, or holds NUL (which SQL text cannot), is shown with backslash escapes instead of being
refused: a hostile string must not make its log disappear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from challenger.errors import ConfigError

Component = Mapping[str, Any]
Static = Callable[[bytes, int], Any]
Dynamic = Callable[[bytes, int], tuple[Any, int]]

_ARRAY = re.compile(r"(.*)\[(\d*)\]", re.ASCII)
_SIZED = re.compile(r"(uint|int|bytes)(\d*)", re.ASCII)
_ZERO12 = bytes(12)


class Type:
    """One compiled type: ``size`` bytes in the head when static (``static`` set), else ``dynamic`` set and size 32."""

    __slots__ = ("dynamic", "size", "static")

    def __init__(self, size: int, static: Static | None = None, dynamic: Dynamic | None = None) -> None:
        self.size = size
        self.static = static
        self.dynamic = dynamic


def canonical(component: Component) -> str:
    """The type as signatures spell it: ``tuple`` written out."""
    kind = str(component["type"])
    if kind.startswith("tuple"):
        return "(" + ",".join(canonical(part) for part in component.get("components", ())) + ")" + kind[5:]
    return kind


def signature(entry: Component) -> str:
    return f"{entry['name']}(" + ",".join(canonical(part) for part in entry.get("inputs", ())) + ")"


def compile_type(component: Component) -> Type:
    """``ConfigError`` when the ABI names a type that is none."""
    kind = str(component["type"])
    if array := _ARRAY.fullmatch(kind):
        element = compile_type({**component, "type": array[1]})
        return _fixed_array(element, int(array[2])) if array[2] else _array(element)
    if kind == "tuple":
        return _tuple(component.get("components", ()))
    if kind == "address":
        return Type(32, static=_address)
    if kind == "bool":
        return Type(32, static=_bool)
    if kind in {"bytes", "string"}:
        return Type(32, dynamic=_bytes if kind == "bytes" else _string)
    if sized := _SIZED.fullmatch(kind):
        return Type(32, static=_sized(sized[1], int(sized[2] or 256)))
    raise ConfigError("unknown ABI type", type=kind)


def compile_tuple(components: Sequence[Component]) -> Callable[[bytes], dict[str, Any] | tuple[Any, ...]]:
    """A decoder of whole data made of these components, in the form of a tuple. Bytes beyond the end are ignored, as
    every other decoder does."""
    whole = _tuple(components)
    if whole.dynamic is not None:
        read_dynamic = whole.dynamic
        return lambda data: read_dynamic(data, 0)[0]
    assert whole.static is not None
    read_static, size = whole.static, whole.size

    def read(data: bytes) -> Any:
        if len(data) < size:
            raise ValueError("data ends early")
        return read_static(data, 0)

    return read


def _word(data: bytes, at: int, limit: int) -> int:
    """An offset or a length, at most ``limit``."""
    number = int.from_bytes(data[at : at + 32], "big")
    if at + 32 > len(data) or number > limit:
        raise ValueError("an offset or a length points outside the data")
    return number


def _address(data: bytes, at: int) -> str:
    if data[at : at + 12] != _ZERO12:
        raise ValueError("dirty bytes before an address")
    return "0x" + data[at + 12 : at + 32].hex()


def _bool(data: bytes, at: int) -> bool:
    word = int.from_bytes(data[at : at + 32], "big")
    if word > 1:
        raise ValueError("a bool is neither 0 nor 1")
    return word == 1


def _sized(kind: str, bits: int) -> Static:
    if kind == "bytes":
        return _fixed_bytes(bits)
    if not 8 <= bits <= 256 or bits % 8:
        raise ConfigError("unknown ABI type", type=f"{kind}{bits}")
    if kind == "int":
        return _int(bits)
    if bits == 256:
        return lambda data, at: int.from_bytes(data[at : at + 32], "big")
    limit = 1 << bits

    def read(data: bytes, at: int) -> int:
        number = int.from_bytes(data[at : at + 32], "big")
        if number >= limit:
            raise ValueError(f"a number does not fit uint{bits}")
        return number

    return read


def _int(bits: int) -> Static:
    limit = 1 << (bits - 1)

    def read(data: bytes, at: int) -> int:
        number = int.from_bytes(data[at : at + 32], "big", signed=True)
        if not -limit <= number < limit:
            raise ValueError(f"a number does not fit int{bits}")
        return number

    return read


def _fixed_bytes(length: int) -> Static:
    if not 1 <= length <= 32:
        raise ConfigError("unknown ABI type", type=f"bytes{length}")
    if length == 32:
        return lambda data, at: data[at : at + 32]
    padding = bytes(32 - length)

    def read(data: bytes, at: int) -> bytes:
        if data[at + length : at + 32] != padding:
            raise ValueError(f"dirty bytes after a bytes{length}")
        return data[at : at + length]

    return read


def _bytes(data: bytes, start: int) -> tuple[bytes, int]:
    length = _word(data, start, len(data))
    first = start + 32
    last = first + length
    end = first + (length + 31) // 32 * 32
    if end > len(data):
        raise ValueError("data ends early")
    if any(data[last:end]):
        raise ValueError("dirty bytes after a byte string")
    return data[first:last], end


def _string(data: bytes, start: int) -> tuple[str, int]:
    raw, end = _bytes(data, start)
    return raw.decode("utf-8", "backslashreplace").replace("\0", "\\x00"), end


def _fixed_array(element: Type, count: int) -> Type:
    if element.static is not None and element.size * count > 0:
        read, size = element.static, element.size
        return Type(size * count, static=lambda data, at: [read(data, at + i * size) for i in range(count)])
    if element.dynamic is None or count == 0:
        raise ConfigError("an ABI array of nothing")
    return Type(32, dynamic=_elements(element.dynamic, lambda _data, start: (count, start)))


def _array(element: Type) -> Type:
    def counted(data: bytes, start: int) -> tuple[int, int]:
        count = _word(data, start, len(data) // element.size)
        if start + 32 + count * element.size > len(data):
            raise ValueError("data ends early")
        return count, start + 32

    if element.dynamic is not None:
        return Type(32, dynamic=_elements(element.dynamic, counted))
    assert element.static is not None
    read, size = element.static, element.size

    def read_array(data: bytes, start: int) -> tuple[list[Any], int]:
        count, first = counted(data, start)
        end = first + count * size
        return [read(data, at) for at in range(first, end, size)], end

    return Type(32, dynamic=read_array)


def _elements(read: Dynamic, counted: Callable[[bytes, int], tuple[int, int]]) -> Dynamic:
    def read_elements(data: bytes, start: int) -> tuple[list[Any], int]:
        count, base = counted(data, start)
        end = base + 32 * count
        values = []
        for i in range(count):
            at = base + _word(data, base + 32 * i, len(data))
            if at < end:
                raise ValueError("the elements of an array overlap")
            value, end = read(data, at)
            values.append(value)
        return values, end

    return read_elements


def _tuple(components: Sequence[Component]) -> Type:
    types = [compile_type(part) for part in components]
    names = [str(part.get("name", "")) for part in components]
    named = all(names) and len(set(names)) == len(names)
    fields: list[tuple[int, Static | None, Dynamic | None]] = []
    size = 0
    for kind in types:
        fields.append((size, kind.static, kind.dynamic))
        size += kind.size

    def shaped(values: list[Any]) -> Any:
        return dict(zip(names, values, strict=True)) if named else tuple(values)

    if all(kind.static is not None for kind in types):
        statics = [(offset, static) for offset, static, _ in fields if static is not None]
        return Type(size, static=lambda data, at: shaped([read(data, at + offset) for offset, read in statics]))

    def read_tuple(data: bytes, start: int) -> tuple[Any, int]:
        end = start + size
        if end > len(data):
            raise ValueError("data ends early")
        values = []
        for offset, static, dynamic in fields:
            if static is not None:
                values.append(static(data, start + offset))
            elif dynamic is not None:
                at = start + _word(data, start + offset, len(data))
                if at < start + size:
                    raise ValueError("an offset points among the offsets")
                value, tail = dynamic(data, at)
                values.append(value)
                end = max(end, tail)
        return shaped(values), end

    return Type(32, dynamic=read_tuple)
