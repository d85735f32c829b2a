"""Decoding is total: whatever a log holds, it is an event, nothing to us, or a ``MalformedLog``."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.abi import canonical, signature
from challenger.chain.answers import RawLog
from challenger.chain.hashing import keccak
from challenger.contracts import artifact
from challenger.domain import Address, BlockNumber, Committed, Hash32, ModelRegistered, TaskOpened
from challenger.errors import MalformedLog
from challenger.protocols.reference_logs import MarketLogs

MARKET = Address("0x" + "ab" * 20)
LOGS = MarketLogs(MARKET)
EVENTS = {entry["name"]: entry for entry in artifact("InferenceMarket").abi if entry["type"] == "event"}
ID = b"\x01" * 32
WHO = "0x" + "22" * 20


def log(topics: tuple[bytes, ...], data: bytes, address: Address = MARKET) -> RawLog:
    return RawLog(address, topics, data, BlockNumber(5), Hash32(b"\x0b" * 32), 3, Hash32(b"\x0c" * 32))


def written(name: str, indexed: tuple[bytes, ...], values: tuple[Any, ...]) -> RawLog:
    """A log as the contract would write it."""
    event = EVENTS[name]
    plain = [canonical(part) for part in event["inputs"] if not part["indexed"]]
    return log((keccak(signature(event).encode()), *indexed), encode(plain, values))


def committed(**changes: Any) -> RawLog:
    fields: dict[str, Any] = {
        "model": ID,
        "output_root": ID,
        "state_root": ID,
        "data": b"abc",
        "uri": "",
        "length": 3,
        "at": 100,
        "closes": 200,
    }
    return written("Committed", (ID, ID, bytes(12) + bytes.fromhex(WHO[2:])), tuple({**fields, **changes}.values()))


def test_every_event_that_means_something_is_one_of_the_contracts() -> None:
    assert len(LOGS.topics) == 13
    assert LOGS.decode(written("Sealed", (ID, bytes(32)), ())) is None
    assert LOGS.decode(log((), b"")) is None
    assert LOGS.decode(committed()._replace(address=Address("0x" + "cd" * 20))) is None


def test_a_commitment_is_read_to_the_last_field() -> None:
    event = LOGS.decode(committed())
    assert isinstance(event, Committed)
    assert (event.provider, event.output_data, event.output_length, event.closes) == (WHO, b"abc", 3, 200)
    assert (event.at.block, event.at.log_index, event.at.tx_hash) == (5, 3, b"\x0c" * 32)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"closes": 100}, "closes"),
        ({"closes": 2**64 - 1}, "no time"),
        ({"length": 4}, "length"),
        ({"uri": "http://both"}, "neither or both"),
        ({"data": b""}, "neither or both"),
        ({"data": b"", "uri": "http://x", "length": 0}, "length"),
    ],
)
def test_an_absurd_commitment_is_refused_in_one_line(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(MalformedLog, match=word) as caught:
        LOGS.decode(committed(**changes))
    assert "\n" not in str(caught.value)
    assert "event=Committed" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "topics", "values"),
    [
        ("Settled", 2, (0, 0, 0)),
        ("Settled", 2, (5, 0, 0)),
        ("JobClosed", 1, (0,)),
        ("JobClosed", 1, (4,)),
        ("Demanded", 3, (4, 0, 0, 0)),
        ("DemandClosed", 2, (0, b"", 0, 0)),
        ("DemandClosed", 2, (1, b"", 0, 0)),
        ("DemandClosed", 2, (2, b"x", 0, 0)),
        ("ModelRegistered", 2, ((ID, ID, ID, 0, 3, 2, 1, "u", b"", ID),)),
        ("ModelRegistered", 2, ((ID, ID, ID, 0, 0, 1, 1, "u", b"", ID),)),
        ("ModelRegistered", 2, ((ID, ID, ID, 0, 0, 2, 0, "u", b"", ID),)),
    ],
)
def test_values_that_the_contract_does_not_have_are_refused(name: str, topics: int, values: tuple[Any, ...]) -> None:
    indexed = tuple(bytes(31) + b"\x01" for _ in range(topics))
    with pytest.raises(MalformedLog, match=f"event={name}"):
        LOGS.decode(written(name, indexed, values))


def test_a_hostile_uri_does_not_make_its_commitment_disappear() -> None:
    good = committed(data=b"", uri="AAAA", length=9)
    event = LOGS.decode(good._replace(data=good.data.replace(b"AAAA", b"\xff\x00\xfe\n")))
    assert isinstance(event, Committed)
    assert "\0" not in event.output_uri
    event.output_uri.encode("utf-8")


def test_a_deadline_beyond_all_time_is_brought_down() -> None:
    values = (ID, b"x", "", 1, ID, 2**256 - 1, 2**64 - 1)
    event = LOGS.decode(written("TaskOpened", (ID, ID, bytes(32)), values))
    assert isinstance(event, TaskOpened)
    assert (event.deadline, event.fee) == (2**62, 2**256 - 1)


def test_modes_are_named() -> None:
    for mode, name in enumerate(("exact", "tolerance", "token")):
        values = ((ID, ID, ID, 0, mode, 2, 1, "u", b"", ID),)
        event = LOGS.decode(written("ModelRegistered", (ID, bytes(32)), values))
        assert isinstance(event, ModelRegistered)
        assert event.mode == name


words = st.one_of(
    st.integers(0, 300).map(lambda n: n.to_bytes(32, "big")),
    st.binary(min_size=32, max_size=32),
    st.just(b"\xff" * 32),
)


@given(st.sampled_from(LOGS.topics), st.lists(words, max_size=4), st.lists(words, max_size=20), st.binary(max_size=40))
def test_no_bytes_break_the_decoder(first: bytes, topics: list[bytes], data: list[bytes], tail: bytes) -> None:
    try:
        LOGS.decode(log((first, *topics), b"".join(data) + tail))
    except MalformedLog as error:
        assert "\n" not in str(error)  # noqa: PT017 - most draws do not raise
