"""CAR files: round trips, another implementation's bytes, and files that lie."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ipfs_blocks import Shelf

from replay.artifacts.ipfs import varint
from replay.artifacts.ipfs.car import Car, write_car
from replay.artifacts.ipfs.cid import RAW, Block, Cid
from replay.artifacts.ipfs.errors import BlockMismatch, CarRefused, CidRefused, IpfsError

ROOT = Cid.parse("bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e")


def packed(roots, blocks):
    into = io.BytesIO()
    assert write_car(into, roots, blocks) == len(into.getvalue())
    return into.getvalue()


def sections(data):
    car = Car(io.BytesIO(data))
    return car.roots, list(car)


def wrapped(payload, *, padding=b"", index=b"", start=None, length=None):
    start = 51 + len(padding) if start is None else start
    length = len(payload) if length is None else length
    fields = bytes(16) + b"".join(
        number.to_bytes(8, "little") for number in (start, length, start + length if index else 0)
    )
    return b"\x0a\xa1gversion\x02" + fields + padding + payload + index


class Single(io.RawIOBase):
    """A stream that gives one byte at a time and cannot seek."""

    def __init__(self, data):
        self._from = io.BytesIO(data)

    def read(self, size=-1):
        return self._from.read(min(size, 1))


@given(st.lists(st.binary(max_size=300), max_size=4), st.integers(0, 30))
def test_round_trip(contents, count):
    shelf = Shelf()
    for content in contents:
        shelf.file(content)
    roots = [ROOT] * count
    data = packed(roots, shelf)
    assert sections(data) == (tuple(roots), list(shelf))
    assert sections(wrapped(data, padding=bytes(7), index=b"anything")) == (tuple(roots), list(shelf))
    for place, block in zip(Car(io.BytesIO(data)).places(), shelf, strict=True):
        assert Block(place.cid, data[place.at : place.at + place.length]) == block


def test_a_file_of_another_implementation():
    """What npm's @ipld/car 5 writes for the raw block "hello world"."""
    data = bytes.fromhex(
        "3aa265726f6f747381d82a58250001551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde96776657273696f6e012f01551220b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde968656c6c6f20776f726c64"
    )
    block = Block(ROOT, b"hello world")
    assert sections(data) == ((ROOT,), [block])
    assert packed([ROOT], [block]) == data


def test_it_is_read_as_a_stream():
    data = packed([ROOT], [Block(ROOT, b"hello world")])
    for form in (data, wrapped(data, padding=bytes(100))):
        assert [block.data for block in Car(Single(form))] == [b"hello world"]
    assert Car(Single(wrapped(data))).version == 2


@given(st.data())
def test_cut_anywhere_it_is_refused_or_ends_between_sections(draw):
    shelf = Shelf()
    shelf.file(bytes(range(30)))
    data = packed([ROOT], shelf)
    cut = draw.draw(st.integers(0, len(data) - 1))
    read = []
    try:
        read += list(Car(io.BytesIO(data[:cut])))
    except CarRefused:
        pass
    assert read == list(shelf)[: len(read)]
    whole = wrapped(data)
    with pytest.raises(CarRefused):
        list(Car(io.BytesIO(whole[: draw.draw(st.integers(0, len(whole) - 1))])))


@given(st.data())
def test_a_byte_changed_anywhere_makes_no_block_that_is_not_its_cids(draw):
    shelf = Shelf()
    shelf.file(bytes(range(30)))
    data = bytearray(packed([ROOT], shelf))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        _, read = sections(bytes(data))
    except IpfsError:
        return
    # the root's digest in the header is a claim like any other, and the last of a CID's bits may name another codec
    assert {block.data for block in read} <= {block.data for block in shelf}


def section(cid, data, length=None):
    return varint.encode(len(cid) + len(data) if length is None else length) + cid + data


@pytest.mark.parametrize(
    ("tail", "error", "why"),
    [
        (section(ROOT.binary, b"hello worlds"), BlockMismatch, "12 bytes"),
        (section(ROOT.binary, b"hello world", 3 << 20), CarRefused, "allowed"),
        (section(ROOT.binary, b"hello world", (1 << 63) - 1), CarRefused, "allowed"),
        (b"\0", CarRefused, "0 bytes"),
        (b"\xff" * 12, CarRefused, "longer than 9"),
        (b"\x80", CarRefused, "cut short"),
        (b"\xaf\x00", CarRefused, "longer than need be"),
        (section(b"", b"\x01\x71\x12\x20" + bytes(32)), CidRefused, "dag-cbor"),
        (section(ROOT.binary[:20], b""), CidRefused, "cut short"),
    ],
)
def test_sections_that_lie(tail, error, why):
    good = packed([ROOT], [Block(ROOT, b"hello world")])
    read = []
    with pytest.raises(error, match=why):
        read += list(Car(io.BytesIO(good + tail)))
    car = Car(io.BytesIO(good + tail))
    assert next(iter(car)).data == b"hello world"


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\xa2eroots\x80gversion\x02",
        b"\xa2gversion\x01eroots\x80",
        b"\xa1gversion\x01",
        b"\xa2eroots\x98\x00gversion\x01",
        b"\xa2eroots\x98",
        b"\xa2eroots\x9f\xffgversion\x01",
        b"\xa2eroots\x81\xd8\x2a\x58\x25\x01" + ROOT.binary + b"gversion\x01",
        b"\xa2eroots\x82\xd8\x2a\x58\x25\x00" + ROOT.binary + b"gversion\x01",
        b"\xa2eroots\x80gversion\x01 ",
        bytes(9000),
    ],
)
def test_headers_that_are_not_the_one_spelling(header):
    with pytest.raises(CarRefused):
        Car(io.BytesIO(varint.encode(len(header)) + header))


def test_wrappers_that_lie():
    good = packed([ROOT], [Block(ROOT, b"hello world")])
    for form in (
        wrapped(good, start=0),
        wrapped(good, start=1 << 62),
        wrapped(good, length=1 << 62),
        wrapped(good, length=len(good) - 1),
        wrapped(wrapped(good)),
        wrapped(b""),
    ):
        with pytest.raises(CarRefused):
            list(Car(io.BytesIO(form)))


def test_too_many_roots():
    with pytest.raises(CarRefused, match="65 roots"):
        write_car(io.BytesIO(), [ROOT] * 65, [])


def test_an_empty_stream():
    with pytest.raises(CarRefused, match="cut short"):
        Car(io.BytesIO(b""))


def test_the_codec_is_the_cids_word():
    """The same bytes under two codecs are two blocks, both good."""
    blocks = [Block(Cid.of(b"\x0a\x02\x08\x01", RAW), b"\x0a\x02\x08\x01"), Block(Cid.of(b"\x0a\x02\x08\x01"), b"\x0a\x02\x08\x01")]  # fmt: skip
    assert sections(packed([], blocks)) == ((), blocks)
