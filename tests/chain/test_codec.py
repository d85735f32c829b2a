"""The codec against eth_abi and web3 on random values; and against whatever a hostile log may hold."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode
from eth_abi.exceptions import DecodingError
from hypothesis import given, settings
from hypothesis import strategies as st
from web3 import Web3

from challenger.chain.abi import canonical, compile_tuple, compile_type
from challenger.chain.answers import RawLog
from challenger.chain.codec import (
    EventDecoder,
    decode_result,
    decode_revert,
    encode_args,
    encode_call,
    encode_deploy,
)
from challenger.chain.hashing import keccak
from challenger.domain import Address, BlockNumber, Hash32
from challenger.errors import ConfigError, EndpointError, MalformedLog

SOMEONE = Address("0x" + "ab" * 20)
MAX = 2**256 - 1


def part(kind: str, name: str = "", *, indexed: bool = False, components: Any = ()) -> dict[str, Any]:
    return {"type": kind, "name": name, "indexed": indexed, "components": list(components)}


SPEC = part(
    "tuple",
    "spec",
    components=[part("bytes32", "digest"), part("uint8", "mode"), part("string", "uri"), part("bytes", "known")],
)
EVENTS = [
    {"type": "event", "name": "Registered", "inputs": [part("bytes32", "model", indexed=True), SPEC]},
    {
        "type": "event",
        "name": "Committed",
        "inputs": [
            part("bytes32", "job", indexed=True),
            part("address", "provider", indexed=True),
            part("uint64", "at"),
            part("bytes", "data"),
            part("string", "uri"),
            part("bool", "late"),
            part("int128", "delta"),
            part("bytes4", "tag"),
            part("uint16[]", "list"),
            part("address[2]", "pair"),
        ],
    },
    {"type": "event", "name": "Named", "inputs": [part("string", "name", indexed=True), part("uint256", "n")]},
    {"type": "event", "name": "Empty", "inputs": []},
    {"type": "event", "name": "Ghost", "anonymous": True, "inputs": [part("uint256", "n")]},
]
DECODER = EventDecoder(EVENTS)


def topic_of(event: dict[str, Any]) -> bytes:
    return keccak(f"{event['name']}({','.join(canonical(one) for one in event['inputs'])})".encode())


def raw_log(topics: list[bytes], data: bytes) -> RawLog:
    return RawLog(SOMEONE, tuple(topics), data, BlockNumber(7), Hash32(b"h" * 32), 3, Hash32(b"t" * 32))


# types and values

addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)


def _values(component: dict[str, Any]) -> st.SearchStrategy[Any]:
    kind = component["type"]
    if kind.endswith("]"):
        element = {**component, "type": kind[: kind.rindex("[")]}
        count = kind[kind.rindex("[") + 1 : -1]
        size = (int(count), int(count)) if count else (0, 3)
        return st.lists(_values(element), min_size=size[0], max_size=size[1])
    if kind == "tuple":
        return st.tuples(*(_values(one) for one in component["components"]))
    if kind.startswith("uint"):
        return st.integers(0, 2 ** int(kind[4:] or 256) - 1)
    if kind.startswith("int"):
        bits = int(kind[3:] or 256) - 1
        return st.integers(-(2**bits), 2**bits - 1)
    simple: dict[str, st.SearchStrategy[Any]] = {
        "address": addresses,
        "bool": st.booleans(),
        "string": texts,
        "bytes": st.binary(max_size=80),
    }
    return simple[kind] if kind in simple else st.binary(min_size=int(kind[5:]), max_size=int(kind[5:]))


leaves = st.sampled_from(
    ["uint8", "uint64", "uint256", "int8", "int256", "address", "bool", "bytes1", "bytes32", "bytes", "string"]
)
components = st.recursive(
    leaves.map(part),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: part("tuple", components=parts)),
        st.tuples(inner, st.sampled_from(["[]", "[1]", "[2]"])).map(lambda p: {**p[0], "type": p[0]["type"] + p[1]}),
    ),
    max_leaves=5,
)
typed = st.lists(components, min_size=1, max_size=4).flatmap(
    lambda parts: st.tuples(st.just(parts), st.tuples(*(_values(one) for one in parts)))
)


def tupled(value: Any) -> Any:
    """eth_abi gives tuples where we give lists."""
    return tuple(tupled(one) for one in value) if isinstance(value, list | tuple) else value


@given(typed)
def test_values_come_back_as_they_were_encoded(case: tuple[list[dict[str, Any]], tuple[Any, ...]]):
    parts, values = case
    data = encode([canonical(one) for one in parts], values)
    assert tupled(compile_tuple(parts)(data)) == tupled(values)
    assert encode_args(parts, values) == data


@settings(max_examples=300)
@given(
    typed,
    st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=3)), max_size=3),
    st.integers(0, 64),
)
def test_damaged_data_is_refused_or_read_as_eth_abi_reads_it(
    case: tuple[list[dict[str, Any]], tuple[Any, ...]], damage: list[tuple[int, bytes]], cut: int
):
    parts, values = case
    data = bytearray(encode([canonical(one) for one in parts], values))
    for at, new in damage:
        data[at % len(data) : at % len(data) + len(new)] = new
    damaged = bytes(data[: len(data) - cut])
    try:
        ours = compile_tuple(parts)(damaged)
    except ValueError:
        return
    try:
        theirs = abi_decode([canonical(one) for one in parts], damaged)
    except (DecodingError, UnicodeDecodeError, OverflowError):
        # what eth_abi refuses and we show, escaped
        assert "string" in str([canonical(one) for one in parts])
        return
    if "\\x" not in str(ours):
        assert tupled(ours) == tupled(theirs)


@given(st.binary(max_size=400), st.sampled_from(["string[]", "bytes[][]", "uint8[][2][]", "(bytes,string)[]"]))
def test_noise_never_does_worse_than_a_refusal(data: bytes, kind: str):
    component = part(kind)
    if kind.startswith("("):
        component = part("tuple[]", components=[part("bytes"), part("string")])
    try:
        compile_tuple([component])(data)
    except ValueError:
        pass


def test_an_offset_that_points_at_itself_is_refused():
    with pytest.raises(ValueError, match="among the offsets"):
        compile_tuple([part("uint8[]")])(bytes(64))


def test_pointers_to_one_place_cannot_multiply_it():
    # an array of 1,000 strings, every one of them the same 64 KiB
    word = lambda n: n.to_bytes(32, "big")  # noqa: E731
    blob = word(65_536) + b"x" * 65_536
    data = word(32) + word(1_000) + word(32_000) * 1_000 + blob
    with pytest.raises(ValueError, match="overlap"):
        compile_tuple([part("string[]")])(data)
    with pytest.raises(ValueError, match="points outside"):
        compile_tuple([part("uint256[]")])(word(32) + word(2**200))


# events

EVENT_TYPES = {event["name"]: event for event in EVENTS if not event.get("anonymous")}
cases = st.sampled_from(sorted(EVENT_TYPES)).flatmap(
    lambda name: st.tuples(st.just(name), st.tuples(*(_values(one) for one in EVENT_TYPES[name]["inputs"])))
)


def _log_of(name: str, values: tuple[Any, ...]) -> RawLog:
    event = EVENT_TYPES[name]
    topics, plain = [topic_of(event)], []
    for one, value in zip(event["inputs"], values, strict=True):
        if not one["indexed"]:
            plain.append((canonical(one), value))
        elif one["type"] == "string":
            topics.append(keccak(value.encode()))
        else:
            topics.append(encode([canonical(one)], [value]))
    return raw_log(topics, encode([kind for kind, _ in plain], [value for _, value in plain]))


def _plain(value: Any) -> Any:
    """web3's answer in our terms: tuples as dicts are compared by values, addresses in lower case."""
    if isinstance(value, dict):
        return tuple(_plain(one) for one in value.values())
    if isinstance(value, list | tuple):
        return tuple(_plain(one) for one in value)
    if isinstance(value, str) and Web3.is_address(value):
        return value.lower()
    return bytes(value) if isinstance(value, bytes) else value


@given(cases)
def test_events_decode_as_web3_decodes_them(case: tuple[str, tuple[Any, ...]]):
    name, values = case
    log = _log_of(name, values)
    event = DECODER.decode(log)
    assert event is not None
    contract = Web3().eth.contract(abi=[{"anonymous": False, **event} for event in EVENTS])
    receipt = {
        "address": Web3.to_checksum_address(log.address),
        "topics": list(log.topics),
        "data": log.data,
        "blockNumber": log.block,
        "blockHash": log.block_hash,
        "logIndex": log.log_index,
        "transactionIndex": 0,
        "transactionHash": log.tx_hash,
    }
    theirs = contract.events[name]().process_log(receipt)
    assert event.name == name
    assert list(event.args) == [one["name"] for one in EVENT_TYPES[name]["inputs"]]
    assert _plain(event.args) == _plain({key: theirs["args"][key] for key in event.args})
    assert event.log is log


@given(cases, st.integers(0, 3), st.integers(0, 300), st.binary(max_size=40))
def test_a_damaged_log_is_malformed_or_another_value_but_never_an_accident(
    case: tuple[str, tuple[Any, ...]], topics: int, cut: int, tail: bytes
):
    log = _log_of(*case)
    damaged = log._replace(topics=log.topics[: 1 + topics], data=log.data[:cut] + tail)
    try:
        event = DECODER.decode(damaged)
    except MalformedLog as error:
        where = error.context
    else:
        assert event is not None
        where = {"event": event.name, "block": 7, "log": 3}
    assert where == {"event": case[0], "block": 7, "log": 3}


def test_logs_of_no_event_of_ours_are_none():
    assert DECODER.decode(raw_log([], b"")) is None
    assert DECODER.decode(raw_log([b"?" * 32], b"")) is None
    assert len(DECODER.topics) == 4


@pytest.mark.parametrize(
    ("data", "shown"), [(b"http://\xff\xfe", "http://\\xff\\xfe"), (b"a\0b", "a\\x00b"), ("ü€".encode(), "ü€")]
)
def test_a_hostile_string_does_not_hide_its_log(data: bytes, shown: str):
    """A provider could otherwise keep its commitment out of the index by a URI that is no text."""
    body = encode(["bytes"], [data])
    assert compile_tuple([part("string", "uri")])(body) == {"uri": shown}


def test_named_tuples_become_dicts_and_indexed_text_its_hash():
    spec = (b"d" * 32, 2, "ipfs://x", b"known")
    event = DECODER.decode(_log_of("Registered", (b"m" * 32, spec)))
    assert event is not None
    assert event.args == {
        "model": b"m" * 32,
        "spec": {"digest": b"d" * 32, "mode": 2, "uri": "ipfs://x", "known": b"known"},
    }
    named = DECODER.decode(_log_of("Named", ("x", 1)))
    assert named is not None
    assert named.args == {"name": keccak(b"x"), "n": 1}


@pytest.mark.parametrize(
    "kind", ["uint7", "uint264", "bytes0", "bytes33", "real", "uint8[0]", "fixed128x18", "tuple[0]"]
)
def test_types_that_are_none_are_said_when_compiled(kind: str):
    with pytest.raises(ConfigError):
        compile_type(part(kind, components=[part("uint8")]))


# calls

ABI = [
    {
        "type": "function",
        "name": "open",
        "inputs": [SPEC, part("uint256", "n")],
        "outputs": [part("uint256"), part("address")],
    },
    {"type": "function", "name": "one", "inputs": [], "outputs": [part("bytes")]},
    {"type": "function", "name": "spec", "inputs": [], "outputs": [SPEC]},
    {"type": "function", "name": "over", "inputs": [part("uint256")], "outputs": []},
    {"type": "function", "name": "over", "inputs": [part("bytes32")], "outputs": []},
    {"type": "function", "name": "over", "inputs": [], "outputs": []},
    {"type": "constructor", "inputs": [part("uint256", "n")]},
    {"type": "error", "name": "TooLate", "inputs": [part("uint64", "closes"), part("bytes", "why")]},
    {"type": "error", "name": "NotYours", "inputs": []},
    {"type": "error", "name": "Unnamed", "inputs": [part("uint8")]},
]
SPEC_VALUES = {"digest": b"d" * 32, "mode": 1, "uri": "u", "known": b""}


def test_calls_are_encoded_as_web3_encodes_them():
    ours = encode_call(ABI, "open", [SPEC_VALUES, 5])
    assert ours == encode_call(ABI, "open", [tuple(SPEC_VALUES.values()), 5])
    contract = Web3().eth.contract(abi=[ABI[0]])
    assert "0x" + ours.hex() == contract.encode_abi("open", [tuple(SPEC_VALUES.values()), 5])
    assert encode_call(ABI, "over(bytes32)", [b"x" * 32])[:4] == keccak(b"over(bytes32)")[:4]
    assert encode_call(ABI, "over", []) == keccak(b"over()")[:4]
    assert encode_deploy(b"code", ABI, [1]) == b"code" + bytes(31) + b"\x01"
    assert encode_deploy(b"code", [], []) == b"code"


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("nothing", []),
        ("over", [1]),  # two functions take one argument
        ("open", [SPEC_VALUES]),
        ("open", [SPEC_VALUES, -1]),
        ("open", [{**SPEC_VALUES, "extra": 1}, 1]),
        ("open", [{"digest": b""}, 1]),
        ("open", [5, 1]),
        ("one", [1]),
    ],
)
def test_calls_that_do_not_fit_are_said(name: str, args: list[Any]):
    with pytest.raises(ConfigError):
        encode_call(ABI, name, args)


def test_results_by_the_shape_of_the_outputs():
    assert decode_result(ABI, "open", encode(["uint256", "address"], [5, SOMEONE])) == (5, SOMEONE)
    assert decode_result(ABI, "one", encode(["bytes"], [b"x"])) == b"x"
    assert decode_result(ABI, "spec", encode_args([SPEC], [SPEC_VALUES])) == SPEC_VALUES
    with pytest.raises(EndpointError):
        decode_result(ABI, "open", b"")  # what a call to an address without code returns


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "reverted without a reason"),
        (bytes.fromhex("08c379a0") + encode(["string"], ["no"]), "no"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x11]), "panic 0x11 (arithmetic overflow)"),
        (bytes.fromhex("4e487b71") + encode(["uint256"], [0x99]), "panic 0x99"),
        (
            keccak(b"TooLate(uint64,bytes)")[:4] + encode(["uint64", "bytes"], [9, b"\x01"]),
            "TooLate(closes=9, why=0x01)",
        ),
        (keccak(b"NotYours()")[:4], "NotYours()"),
        (keccak(b"Unnamed(uint8)")[:4] + bytes(31) + b"\x07", "Unnamed(_0=7)"),
        (keccak(b"TooLate(uint64,bytes)")[:4] + b"\x01", "0x" + keccak(b"TooLate(uint64,bytes)")[:4].hex() + "01"),
        (b"\x01\x02", "0x0102"),
        (b"\x01" * 100, "0x" + "01" * 32 + "… (100 bytes)"),
    ],
)
def test_reverts_in_words(data: bytes, words: str):
    assert decode_revert(data, ABI) == words


@given(
    st.binary(max_size=120), st.sampled_from(["08c379a0", "4e487b71", keccak(b"TooLate(uint64,bytes)")[:4].hex(), ""])
)
def test_any_revert_data_has_words(data: bytes, selector: str):
    assert decode_revert(bytes.fromhex(selector) + data, ABI)


def test_keccak_is_keccak():
    assert keccak(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
