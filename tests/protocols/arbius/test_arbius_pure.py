"""What both sides compute alike: selectors and topics, identifiers, seeds, and an input among call data."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.abi import canonical, signature
from challenger.chain.hashing import keccak
from challenger.contracts import double
from challenger.domain import Address, Hash32, ModelId, TaskId
from challenger.protocols.arbius.abi import CALLS, ERRORS, EVENTS, OTHER_EVENTS, VIEWS
from challenger.protocols.arbius.calls import EngineCalls, commitment_of
from challenger.protocols.arbius.cid import MAX_INPUT, foreign, input_cid, output_root, solution_cid, solution_digest
from challenger.protocols.arbius.inputs import MOST_HASHED, Inputs
from challenger.protocols.arbius.seed import MODULUS, seed_of, seed_word

ENGINE = Address("0x" + "ab" * 20)


@pytest.mark.parametrize(
    ("name", "selector"),
    [
        ("signalCommitment", "506ea7de"),
        ("submitSolution", "56914caf"),
        ("submitContestation", "671f8152"),
        ("voteOnContestation", "1825c20e"),
        ("contestationVoteFinish", "8b4d7b35"),
        ("suggestContestation", "61342578"),
    ],
)
def test_selectors_are_the_deployed_ones(name: str, selector: str) -> None:
    entry = next(entry for entry in CALLS if entry["name"] == name)
    assert keccak(signature(entry).encode())[:4].hex() == selector


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("TaskSubmitted", "c3d3e054"),
        ("SignalCommitment", "09b4c028"),
        ("SolutionSubmitted", "957c18b5"),
        ("ContestationSubmitted", "6958c989"),
        ("ContestationVote", "1aa9e4be"),
        ("ContestationVoteFinish", "71d8c713"),
    ],
)
def test_topics_are_the_deployed_ones(name: str, topic: str) -> None:
    entry = next(entry for entry in EVENTS + OTHER_EVENTS if entry["name"] == name)
    assert keccak(signature(entry).encode())[:4].hex() == topic


def test_the_double_has_the_same_interface() -> None:
    """The adapter's ABI is written down apart from the double's source."""
    theirs = {(entry["type"], signature(entry)): entry for entry in double("ArbiusEngine").abi if "name" in entry}
    for entry in [*VIEWS, *CALLS, *EVENTS, *OTHER_EVENTS, *ERRORS]:
        other = theirs[entry["type"], signature(entry)]
        if entry in VIEWS:
            assert [canonical(part) for part in entry["outputs"]] == [canonical(part) for part in other["outputs"]]
        if entry["type"] == "event":
            assert [part["indexed"] for part in entry["inputs"]] == [part["indexed"] for part in other["inputs"]]


def test_the_seed_is_the_tasks_number() -> None:
    task = TaskId(bytes.fromhex("ff" * 32))
    assert seed_of(task) == (2**256 - 1) % 0x1FFFFFFFFFFFF0
    assert seed_of(TaskId(MODULUS.to_bytes(32, "big"))) == 0
    assert seed_of(TaskId((MODULUS + 5).to_bytes(32, "big"))) == 5
    assert int.from_bytes(seed_word(task), "big") == seed_of(task) < 2**53


def test_a_folder_by_its_cid() -> None:
    """A file of one chunk and the folder around it, block by block as dag-pb and UnixFS write them."""
    content = b"hello"
    leaf = bytes.fromhex("0a0b08021205") + content + bytes.fromhex("1805")
    multihash = b"\x12\x20" + hashlib.sha256(leaf).digest()
    name = b"out-1.txt"
    link = b"\x0a\x22" + multihash + b"\x12" + bytes([len(name)]) + name + b"\x18" + bytes([len(leaf)])
    folder = b"\x12" + bytes([len(link)]) + link + bytes.fromhex("0a020801")
    digest = solution_digest({"out-1.txt": content})
    assert digest == hashlib.sha256(folder).digest()
    assert solution_cid(digest) == b"\x12\x20" + digest
    assert output_root(solution_cid(digest)) == digest
    assert input_cid(content) == multihash
    assert solution_digest({"out-1.txt": content}) != solution_digest({"out-2.txt": content})


def test_what_is_no_cid_is_no_answer_and_another_form_is_not_judged() -> None:
    digest = Hash32(b"\x07" * 32)
    assert foreign(solution_cid(digest)) == ""
    assert output_root(b"\x01\x70\x12\x20" + digest) == digest  # the same folder, by version 1
    assert foreign(b"\x01\x70\x12\x20" + digest) == ""
    assert "raw block" in foreign(b"\x01\x55\x12\x20" + digest)
    assert "blake2b-256" in foreign(bytes.fromhex("0170a0e40220") + digest)
    for garbage in (b"", b"\x12\x20", b"\x12\x20" + digest[:31], b"\x12\x20" + digest + b"\0", b"ipfs://nothing"):
        assert foreign(garbage) == ""
        assert output_root(garbage) == keccak(garbage)


def test_a_commitment_binds_validator_task_and_cid() -> None:
    one, other = Address("0x" + "01" * 20), Address("0x" + "02" * 20)
    task, cid = TaskId(b"\x05" * 32), solution_cid(Hash32(b"\x07" * 32))
    # address, task, offset of the bytes, their length, the bytes
    words = bytes(12) + b"\x01" * 20 + task + (96).to_bytes(32, "big") + (34).to_bytes(32, "big") + cid + bytes(30)
    assert commitment_of(one, task, cid) == keccak(words)
    assert (
        len({commitment_of(one, task, cid), commitment_of(other, task, cid), commitment_of(one, task, cid[:-1])}) == 3
    )


# an input among call data

INPUTS = st.binary(min_size=0, max_size=200)


@given(INPUTS, st.integers(1, 60))
def test_an_input_is_found_where_it_was_submitted(data: bytes, count: int) -> None:
    calls = EngineCalls(ENGINE)
    model = ModelId(b"\x03" * 32)
    for call in (
        calls.submit_task(ENGINE, model, 10**18, data),
        calls.submit_tasks(ENGINE, model, 2**200, data, count),
    ):
        assert Inputs(call.data).of(input_cid(data)) == data


@given(INPUTS, st.binary(max_size=400))
def test_an_input_is_found_inside_other_calls_and_nothing_else_is(data: bytes, noise: bytes) -> None:
    inner = EngineCalls(ENGINE).submit_task(ENGINE, ModelId(b"\x03" * 32), 0, data).data
    wrapped = noise[: len(noise) // 4 * 4] + len(inner).to_bytes(32, "big") + inner
    assert Inputs(wrapped).of(input_cid(data)) == data
    assert Inputs(noise).of(input_cid(b"what is not there")) is None


def test_call_data_made_to_be_slow_is_given_up_on() -> None:
    """Two thousand places that might be the beginning of a long input."""
    slow = (bytes(28) + (60_000).to_bytes(4, "big")) * 4_000
    found = Inputs(slow)
    assert found.of(input_cid(b"x")) is None
    assert found.hashed <= MOST_HASHED


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, MAX_INPUT])
def test_an_input_of_any_size_the_engine_takes(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    call = EngineCalls(ENGINE).submit_task(ENGINE, ModelId(b"\x03" * 32), 0, data)
    assert Inputs(call.data).of(input_cid(data)) == data
