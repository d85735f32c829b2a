"""Logs, calls and reverts by ABI: events decoded on a compiled path, calls encoded, revert data put into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from eth_abi.abi import encode
from eth_abi.exceptions import EncodingError

from challenger.chain.abi import Component, canonical, compile_tuple, compile_type, signature
from challenger.chain.answers import RawLog
from challenger.chain.hashing import keccak
from challenger.errors import ChallengerError, ConfigError, EndpointError, MalformedLog

_ERROR = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)
#: Solidity's panic codes, from the language's documentation of ``Panic``.
_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "no such enum value",
    0x22: "badly encoded storage array",
    0x31: "pop of an empty array",
    0x32: "index out of bounds",
    0x41: "out of memory",
    0x51: "call of an unset function",
}


class Event(NamedTuple):
    """One decoded log: ``args`` by name, in the ABI's order (values as in ``abi.py``; an indexed dynamic argument is
    the 32-byte hash that the topic holds)."""

    name: str
    args: dict[str, Any]
    log: RawLog


class _Layout(NamedTuple):
    name: str
    topics: int
    names: tuple[str, ...]
    # per argument: a topic's reader and place, or a place among the values in data
    sources: tuple[tuple[Callable[[bytes, int], Any] | None, int], ...]
    read: Callable[[bytes], Any]


class EventDecoder:
    """The events of one contract ABI, compiled once.

    ``topics`` are their first topics. Anonymous events are left out: nothing says which they are. ``ConfigError`` when
    the ABI does not make sense.
    """

    def __init__(self, abi: Sequence[Component]) -> None:
        events = [entry for entry in abi if entry.get("type") == "event" and not entry.get("anonymous")]
        self._layouts = {keccak(signature(event).encode()): _layout(event) for event in events}
        self.topics: tuple[bytes, ...] = tuple(self._layouts)

    def decode(self, log: RawLog) -> Event | None:
        """None when the ABI has no such event; ``MalformedLog`` when the log does not hold what its event says."""
        topics = log.topics
        layout = self._layouts.get(topics[0]) if topics else None
        if layout is None:
            return None
        name, count, names, sources, read = layout
        try:
            if len(topics) != count:
                raise ValueError(f"{len(topics)} topics instead of {count}")  # noqa: TRY301
            values = read(log.data)
            args = {
                arg: values[at] if topic is None else topic(topics[at], 0)
                for arg, (topic, at) in zip(names, sources, strict=True)
            }
        except ValueError as error:
            raise MalformedLog(str(error), event=name, block=log.block, log=log.log_index) from None
        return Event(name, args, log)


def encode_call(abi: Sequence[Component], name: str, args: Sequence[Any]) -> bytes:
    """Selector and arguments. ``name`` is a function's name (overloads are told apart by the number of arguments) or
    its full signature; tuples may be given as dicts. ``ConfigError``: no such function, or the arguments do not fit."""
    function = _function(abi, name, len(args))
    return keccak(signature(function).encode())[:4] + encode_args(function.get("inputs", ()), args)


def encode_deploy(bytecode: bytes, abi: Sequence[Component], args: Sequence[Any]) -> bytes:
    """Creation code followed by the constructor's arguments."""
    constructor = next((entry for entry in abi if entry.get("type") == "constructor"), {"inputs": ()})
    return bytecode + encode_args(constructor.get("inputs", ()), args)


def encode_args(inputs: Sequence[Component], args: Sequence[Any]) -> bytes:
    """ABI encoding of ``args`` as a tuple."""
    try:
        values = [_plain(part, value) for part, value in zip(inputs, args, strict=True)]
        return encode([canonical(part) for part in inputs], values)
    except (EncodingError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"the arguments do not fit: {error}", wanted=[canonical(part) for part in inputs]) from None


def decode_result(abi: Sequence[Component], name: str, data: bytes) -> Any:
    """What a view returned: one value as it is, several as a dict by name (a tuple when unnamed).

    ``EndpointError`` when the data is not that: an endpoint must not be believed."""
    outputs = _function(abi, name, None).get("outputs", ())
    try:
        values = compile_tuple(outputs)(data)
    except ValueError as error:
        raise EndpointError(f"nonsense in answer to {name}: {error}") from None
    return _only(values) if len(values) == 1 else values


def decode_revert(data: bytes, abi: Sequence[Component] = ()) -> str:
    """Revert data in words: ``Name(arg=value, …)`` for the contract's own errors, the text of ``Error(string)``, the
    meaning of a ``Panic``; whatever else is shown as hex. Never raises."""
    selector, body = data[:4], data[4:]
    if not data:
        return "reverted without a reason"
    try:
        if selector == _ERROR:
            return str(_only(compile_tuple([{"type": "string"}])(body)))
        if selector == _PANIC:
            code = int.from_bytes(body[:32], "big")
            return f"panic 0x{code:02x}" + (f" ({_PANICS[code]})" if code in _PANICS else "")
        for entry in abi:
            if entry.get("type") == "error" and keccak(signature(entry).encode())[:4] == selector:
                inputs = [
                    {**part, "name": part.get("name") or f"_{i}"} for i, part in enumerate(entry.get("inputs", ()))
                ]
                values = compile_tuple(inputs)(body) if inputs else {}
                assert isinstance(values, dict)
                return f"{entry['name']}(" + ", ".join(f"{k}={_shown(v)}" for k, v in values.items()) + ")"
    except (ValueError, ChallengerError):
        pass  # it only looked like one: show the bytes
    return _shown(data)


def _layout(event: Component) -> _Layout:
    inputs = event.get("inputs", ())
    indexed = [part for part in inputs if part.get("indexed")]
    plain = [part for part in inputs if not part.get("indexed")]
    if len(indexed) > 3:
        raise ConfigError("an event has at most three indexed arguments", event=event.get("name"))
    names = tuple(part.get("name") or f"_{i}" for i, part in enumerate(inputs))
    sources: list[tuple[Callable[[bytes, int], Any] | None, int]] = []
    topic, place = 1, 0
    for part in inputs:
        if part.get("indexed"):
            sources.append((_topic_reader(part), topic))
            topic += 1
        else:
            sources.append((None, place))
            place += 1
    # unnamed on purpose: values come as a tuple, read by place
    read = compile_tuple([{**part, "name": ""} for part in plain]) if plain else lambda _data: ()
    return _Layout(str(event["name"]), topic, names, tuple(sources), read)


def _topic_reader(part: Component) -> Callable[[bytes, int], Any]:
    compiled = compile_type(part)
    value_type = "[" not in part["type"] and part["type"] != "tuple"
    if compiled.static is not None and value_type:
        return compiled.static
    return lambda topic, _at: topic


def _function(abi: Sequence[Component], name: str, count: int | None) -> Component:
    found = [
        entry
        for entry in abi
        if entry.get("type") == "function"
        and (signature(entry) == name if "(" in name else entry.get("name") == name)
        and (count is None or len(entry.get("inputs", ())) == count)
    ]
    if len(found) != 1:
        what = "the ABI has no such function" if not found else "several functions fit: give the full signature"
        raise ConfigError(what, function=name, arguments=count)
    return found[0]


def _plain(part: Component, value: Any) -> Any:
    """Dicts to tuples, in the ABI's order."""
    kind = str(part["type"])
    if kind.endswith("]"):
        element = {**part, "type": kind[: kind.rindex("[")]}
        return [_plain(element, one) for one in value]
    if kind == "tuple":
        components = part.get("components", ())
        if isinstance(value, Mapping):
            if extra := set(value) - {one["name"] for one in components}:
                raise KeyError(f"unknown fields {sorted(extra)}")
            value = [value[one["name"]] for one in components]
        return tuple(_plain(one, item) for one, item in zip(components, value, strict=True))
    return value


def _only(values: dict[str, Any] | tuple[Any, ...]) -> Any:
    return next(iter(values.values() if isinstance(values, dict) else values))


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex() if len(value) <= 68 else f"0x{value[:32].hex()}… ({len(value)} bytes)"
    return str(value)
