"""CIDs, and blocks of dag-pb and UnixFS: one spelling for one value, everything else refused in a line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay.artifacts.ipfs import dagpb, unixfs, varint
from replay.artifacts.ipfs.cid import DAG_PB, RAW, Cid
from replay.artifacts.ipfs.dagpb import Link
from replay.artifacts.ipfs.errors import BlockRefused, CidRefused, IpfsError, UnsupportedCid, UnsupportedUnixfs
from replay.artifacts.ipfs.protobuf import chunk, number
from replay.artifacts.ipfs.unixfs import Entry, Kind

EMPTY = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"

digests = st.binary(min_size=32, max_size=32)
cids = st.one_of(
    st.builds(Cid, st.just(0), st.just(DAG_PB), digests), st.builds(Cid, st.just(1), st.sampled_from([RAW, DAG_PB]), digests)
)  # fmt: skip
sizes = st.integers(0, (1 << 63) - 1)
links = st.lists(
    st.builds(Link, cids, st.none() | st.text(max_size=8).filter(str.isprintable), st.none() | sizes), max_size=5
)


@given(sizes)
def test_varints_round_trip(value):
    assert varint.decode(varint.encode(value)) == (value, len(varint.encode(value)))


@given(st.binary(max_size=12))
def test_a_varint_has_one_spelling(data):
    try:
        value, end = varint.decode(data)
    except ValueError:
        return
    assert varint.encode(value) == data[:end]


@given(cids)
def test_cids_round_trip(cid):
    assert Cid.parse(str(cid)) == cid
    assert Cid.from_bytes(cid.binary) == cid
    assert Cid.from_multihash(cid.multihash).digest == cid.digest


def test_one_cid_in_every_spelling():
    cid = Cid.parse("bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y")
    assert cid.binary.hex() == "01701220bfccda787baba32b59c78450ac3d20b633360b43992c77289f9ed46d843561e6"
    assert Cid.parse("f" + cid.binary.hex()) == cid
    assert Cid.parse("zdj7WiLc855B1KPRgV7Fh8ivjuAhePE1tuJafmxH5HmmSjqaD") == cid
    assert str(Cid(0, DAG_PB, cid.digest)) == EMPTY
    assert Cid.parse(EMPTY).multihash.hex() == "1220bfccda787baba32b59c78450ac3d20b633360b43992c77289f9ed46d843561e6"


@pytest.mark.parametrize(
    "text",
    [
        "", "Qm", "b", "z", "f", EMPTY[:-1], EMPTY + "1", "1" + EMPTY, EMPTY.replace("b", "0", 1), "z" + EMPTY,
        "BAFYBEIF7ZTNHQ65LUMVVTR4EKCWD2IFWGM3AWQ4ZFR3SRH462RWYINLB4Y",
        "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4z",  # bits after the end
        "bafybeif7ztnhq65lumvvtr4ekcwd2ifwgm3awq4zfr3srh462rwyinlb4y======",
        "F01701220BFCC", "f0170", "f" + "01701220" + "AB" * 32, "f" + "01701220" + "ab" * 33, "f" + "01701220" + "ab" * 31,
        "f" + "81007012" + "20" + "ab" * 32,  # an overlong version
        "f" + "1220" + "ab" * 32, "f 1", "Qm" + "é" * 44, "b" * 5000, "/ipfs/" + EMPTY,
    ],
)  # fmt: skip
def test_what_is_no_cid(text):
    with pytest.raises(CidRefused) as caught:
        Cid.parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("head", "named"),
    [("01711220", "dag-cbor"), ("01720020", "libp2p-key"), ("01550020", "identity"), ("01551320", "sha2-512"), ("0155a0e40220", "blake2b-256"), ("01551214", "20 bytes"), ("02551220", "version 2"), ("01ff7f1220", "0x3fff")],
)  # fmt: skip
def test_other_kinds_of_cid_are_refused_by_name(head, named):
    with pytest.raises(UnsupportedCid, match=named):
        Cid.parse("f" + head + "ab" * 32)


@given(st.binary(max_size=40))
def test_bytes_are_a_cid_or_refused(data):
    try:
        cid = Cid.from_bytes(data)
    except CidRefused:
        return
    assert cid.binary == data


@pytest.mark.parametrize("data", [b"", b"\x12\x20", bytes(34), b"\x12\x20" + bytes(33)])
def test_what_a_contract_holds_is_34_bytes(data):
    with pytest.raises(CidRefused):
        Cid.from_multihash(data)


@given(links, st.none() | st.binary(max_size=20))
def test_blocks_round_trip(made, data):
    block = dagpb.encode(made, data)
    node = dagpb.decode(block)
    assert dagpb.encode(node.links, None if node.data is None else bytes(node.data)) == block
    assert sorted(map(str, node.links)) == sorted(map(str, made))


@given(links, st.none() | st.binary(max_size=20), st.data())
def test_a_damaged_block_is_refused_or_says_something_else(made, data, draw):
    block = bytearray(dagpb.encode(made, data) or b"\x0a\x00")
    block[draw.draw(st.integers(0, len(block) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        node = dagpb.decode(bytes(block))
    except IpfsError:
        return
    assert dagpb.encode(node.links, None if node.data is None else bytes(node.data)) == block


LINK = chunk(1, Cid.parse(EMPTY).binary)


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (chunk(1, b"x") + chunk(2, LINK), "follows the data"),
        (chunk(1, b"x") + chunk(1, b"x"), "follows the data"),
        (chunk(3, b"x"), "field 3"),
        (number(1, 5), "must be bytes"),
        (b"\x0d\x00\x00\x00\x00", "wire type 5"),
        (b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut short"),
        (b"\x12\x80\x00", "longer than need be"),
        (b"\x8a\x00\x00", "longer than need be"),
        (b"\xff" * 20, "longer than 9 bytes"),
        (b"\x12", "cut short"),
        (chunk(2, b""), "names no CID"),
        (chunk(2, LINK + LINK), "twice or out of order"),
        (chunk(2, chunk(2, b"a") + LINK), "twice or out of order"),
        (chunk(2, LINK + chunk(4, b"")), "field 4"),
        (chunk(2, LINK + chunk(2, b"\xff")), "not UTF-8"),
        (chunk(2, LINK + chunk(2, b"a" * 2000)), "2000 bytes"),
        (chunk(2, LINK + chunk(2, b"b")) + chunk(2, LINK + chunk(2, b"a")), "order of their names"),
        (chunk(2, LINK) * 8193, "more than 8192"),
        (chunk(1, bytes(2 << 20)), "allowed"),
    ],
)  # fmt: skip
def test_blocks_that_are_not_canonical(block, why):
    with pytest.raises(BlockRefused, match=why):
        dagpb.decode(block)


def test_a_link_to_what_is_not_read_is_refused_by_name():
    with pytest.raises(UnsupportedCid, match="dag-cbor"):
        dagpb.decode(chunk(2, chunk(1, bytes.fromhex("01711220") + bytes(32))))


@given(st.builds(Entry, st.sampled_from(Kind), st.binary(min_size=1, max_size=9), st.none() | sizes, st.lists(sizes, max_size=4).map(tuple)))  # fmt: skip
def test_unixfs_round_trips(entry):
    assert unixfs.decode(unixfs.encode(entry)) == entry


@given(st.binary(max_size=30))
def test_unixfs_is_read_or_refused(data):
    try:
        entry = unixfs.decode(data)
    except IpfsError:
        return
    assert len(entry.data) <= len(data)


@pytest.mark.parametrize(("kind", "named"), [(3, "metadata"), (4, "symbolic link"), (5, "HAMT"), (9, "type 9")])
def test_other_kinds_of_unixfs_are_refused_by_name(kind, named):
    with pytest.raises(UnsupportedUnixfs, match=named):
        unixfs.decode(number(1, kind))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "type is missing"),
        (number(1, 2) + number(1, 2), "twice"),
        (number(3, 0) + number(1, 2), "out of order"),
        (number(1, 2) + number(6, 256), "field 6"),
        (number(1, 2) + number(2, 1), "must be bytes"),
        (number(1, 2) + chunk(3, b""), "must be a number"),
        (number(1, 2) + chunk(4, b"\1\2"), "must be a number"),
        (number(1, 2) + number(4, 1) * 8193, "more than 8192"),
    ],
)
def test_unixfs_that_is_not_canonical(data, why):
    with pytest.raises(BlockRefused, match=why):
        unixfs.decode(data)


def test_time_and_mode_are_passed_over():
    assert unixfs.decode(number(1, 2) + chunk(2, b"x") + number(7, 0o644) + chunk(8, b"\x08\x05")).data == b"x"
