"""What is published, read strictly; and the sources of blobs, none of which is believed."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from settlement_stage import PAYER, blob_id, dump, infer, payload, root_of

from challenger.chain.abi import signature
from challenger.chain.answers import RawLog
from challenger.chain.codec import encode_args
from challenger.chain.hashing import keccak
from challenger.domain import Address, At, BlockNumber, Hash32
from challenger.errors import ConfigError, FetchRefused, MalformedLog
from challenger.protocols.opengradient.settlement.blobs import blob_name, misfit, read_batch, read_single
from challenger.protocols.opengradient.settlement.fetch import BlobSources, Served
from challenger.protocols.opengradient.settlement.registry import event_abi
from challenger.protocols.opengradient.settlement.settlements import (
    BATCH,
    INDIVIDUAL,
    BatchSettled,
    IndividualSettled,
    SettlementLogs,
)

AT = At(BlockNumber(5), Hash32(bytes(32)), 3, Hash32(bytes(32)))
RELAY = Address("0x" + "33" * 20)
ONE = infer(0, 1, 1_700_000_000)
NAME = "A" * 43
LOOPBACK = ("127.0.0.0/8", "::1/128")


def test_the_events_are_the_deployed_ones() -> None:
    topics = [keccak(signature(event_abi(text)).encode()).hex() for text in (BATCH, INDIVIDUAL)]
    assert [topic[:8] for topic in topics] == ["c2aff8d8", "74e71a19"]


def raw(text: str, indexed: list[object], plain: list[object]) -> RawLog:
    inputs = event_abi(text)["inputs"]
    topics = [encode_args([part], [value]) for part, value in zip(inputs, indexed, strict=False)]
    data = encode_args(inputs[len(indexed) :], plain)
    first = keccak(signature(event_abi(text)).encode())
    return RawLog(RELAY, (first, *topics), data, AT.block, AT.block_hash, AT.log_index, AT.tx_hash)


def test_settlements_are_decoded_strictly() -> None:
    logs = SettlementLogs(RELAY)
    batch = raw(BATCH, [bytes(32)], [7, b"id"])
    assert logs.decode(batch) == BatchSettled(AT, bytes(32), 7, b"id")
    fields = [ONE.input_hash, ONE.output_hash, ONE.timestamp, b"id", ONE.signature]
    single = raw(INDIVIDUAL, [ONE.tee, PAYER], fields)
    assert logs.decode(single) == IndividualSettled(AT, ONE, PAYER, b"id")
    assert logs.decode(batch._replace(address=PAYER)) is None
    assert logs.decode(batch._replace(topics=(bytes(32),))) is None
    for broken in (
        batch._replace(data=batch.data[:-1]),
        batch._replace(data=batch.data[:-1] + b"\1"),
        batch._replace(topics=batch.topics[:1]),
        single._replace(topics=(*single.topics[:2], b"\1" * 32)),
        single._replace(data=single.data[:96] + b"\xff" * 32 + single.data[128:]),
    ):
        with pytest.raises(MalformedLog):
            logs.decode(broken)


@given(st.binary(min_size=32, max_size=32))
def test_a_blob_id_is_its_text_or_its_bytes(words: bytes) -> None:
    name = base64.urlsafe_b64encode(words).decode().rstrip("=")
    assert blob_name(words) == blob_name(name.encode()) == name


@pytest.mark.parametrize("blob", [b"", b"x", b"A" * 42, b"A" * 44, b"A" * 42 + b"B", b"../" + b"A" * 40, b"\xff" * 43])
def test_what_is_no_blob_id_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError, match="no blob id"):
        blob_name(blob)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_a_dump_is_read_back(which: list[int]) -> None:
    batch = [ONE._replace(timestamp=n) for n in which]
    read = read_batch(dump(batch))
    assert (read.inferences, read.size) == (tuple(batch), len(batch))
    assert read.roots == {root_of(batch)}


def changed(**changes: object) -> bytes:
    return json.dumps(json.loads(dump([ONE])) | changes).encode()


def one_value(value: object, place: object = 0) -> bytes:
    return changed(values=[{"value": value, "treeIndex": place}])


ROW = json.loads(dump([ONE]))["values"][0]["value"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b'{"format":1,"format":"standard-v1"}', "the same member twice"),
        (changed(format="simple-v1"), "format"),
        (changed(leafEncoding=["bytes32"]), "leafEncoding"),
        (changed(leafEncoding=3), "leafEncoding"),
        (changed(leafEncoding=[["bytes32"]] * 5), "leafEncoding"),
        (changed(values=[]), "no values"),
        (changed(values={}), "no values"),
        (changed(values=[1]), "value 0"),
        (changed(values=[{"value": ROW}]), "value 0"),
        (one_value(ROW[:4]), "value 0: not a row"),
        (one_value(ROW, "0"), "value 0: not a row"),
        (one_value(ROW, True), "value 0: not a row"),
        (one_value(["0x00", *ROW[1:]]), "value 0: not a hash"),
        (one_value([*ROW[:3], "zz", ROW[4]]), "value 0: not hex"),
        (one_value([*ROW[:4], "-1"]), "no number"),
        (one_value([*ROW[:4], "1e3"]), "no number"),
        (one_value([*ROW[:4], 1.0]), "no number"),
        (one_value([*ROW[:4], True]), "no number"),
        (one_value([*ROW[:4], "9" * 78]), "no uint256"),
        (one_value([*ROW[:4], -1]), "no uint256"),
        (one_value([*ROW[:4], "\u0661"]), "no number"),
    ],
)
def test_a_malformed_batch_says_what_is_wrong(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        read_batch(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_rubbish_is_a_value_error_and_no_more(data: bytes) -> None:
    for read in (read_batch, read_single):
        with pytest.raises(ValueError):
            read(data)


@given(st.data())
def test_one_changed_byte_of_a_dump_is_noticed_or_means_the_same(data) -> None:
    whole = dump([ONE, ONE._replace(timestamp=5)])
    settled = BatchSettled(AT, root_of([ONE, ONE._replace(timestamp=5)]), 2, b"")
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    try:
        why = misfit(settled, broken)
    except ValueError:
        return
    if why is None:
        assert set(read_batch(broken).inferences) == {ONE, ONE._replace(timestamp=5)}


def test_an_individual_blob_is_held_against_its_event() -> None:
    settled = IndividualSettled(AT, ONE, PAYER, b"")
    assert misfit(settled, payload(ONE)) is None
    assert misfit(settled, payload(ONE, teeId=ONE.tee.hex(), timestamp=ONE.timestamp, more=1)) is None
    text = base64.b64encode(ONE.signature)  # as older workers wrote it to the chain
    assert misfit(settled._replace(inference=ONE._replace(signature=text)), payload(ONE)) is None
    for other, why in (
        ({"teeId": "0x" + "00" * 32}, "another enclave"),
        ({"timestamp": "5"}, "another time"),
        ({"ethAddress": "0x" + "00" * 20}, "another address"),
        ({"teeSignature": "AAAA"}, "another signature"),
        ({"teeSignature": "!"}, "another signature"),
    ):
        assert why in (misfit(settled, payload(ONE, **other)) or "")
    for other in ({"teeSignature": 1}, {"teeId": None}, {"timestamp": None}, {"ethAddress": "me"}):
        with pytest.raises(ValueError):
            misfit(settled, payload(ONE, **other))


@asynccontextmanager
async def serving(*bodies: bytes | int) -> AsyncIterator[list[str]]:
    """An aggregator for each body (or status)."""
    servers = []
    for body in bodies:

        async def answer(request: web.Request, body: bytes | int = body) -> web.Response:
            assert request.match_info["name"] == NAME
            return web.Response(status=body) if isinstance(body, int) else web.Response(body=body)

        app = web.Application()
        app.router.add_get("/v1/blobs/{name}", answer)
        servers.append(TestServer(app))
        await servers[-1].start_server()
    try:
        yield [str(server.make_url("/")) for server in servers]
    finally:
        for server in servers:
            await server.close()


async def fetched(*bodies: bytes | int, folder: Path | None = None, max_bytes: int = 1000) -> Served:
    async with (
        serving(*bodies) as urls,
        BlobSources(urls, folder, private_networks=LOOPBACK, max_bytes=max_bytes) as blobs,
    ):
        return await blobs.fetch(NAME, lambda data: data == b"right")


async def test_every_source_is_asked_until_one_fits() -> None:
    assert await fetched(404, b"wrong", b"right", b"wrong") == Served(b"right", 1, "")
    assert await fetched(b"wrong", 404, b"other", b"wrong") == Served(b"wrong", 2, "")
    assert await fetched(b"wrong") == Served(b"wrong", 1, "")


async def test_a_blob_that_nobody_has_is_told_with_every_reason() -> None:
    served = await fetched(404, 500, b"x" * 1001)
    assert (served.data, served.witnesses) == (None, 0)
    assert [why.rsplit(": ", 1)[1] for why in served.why.split("; ")] == ["not-found", "status", "size"]


async def test_a_folder_is_a_source(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"right")
    async with BlobSources(folder=tmp_path) as blobs:
        assert await blobs.fetch(NAME, lambda data: data == b"right") == Served(b"right", 1, "")
        assert "not-found" in (await blobs.fetch("B" * 43, lambda _: True)).why


async def test_what_our_own_rules_forbid_is_held_against_nobody() -> None:
    async with serving(b"right") as urls, BlobSources(urls) as blobs:
        with pytest.raises(FetchRefused, match="private address"):
            await blobs.fetch(NAME, lambda _: True)


@pytest.mark.parametrize("url", ["", "ftp://host", "https://", "host"])
def test_an_aggregator_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="an aggregator is"):
        BlobSources([url])


def test_no_source_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="name an aggregator or a folder"):
        BlobSources()


def test_a_blob_id_names_a_file() -> None:
    assert blob_name(blob_id(b"x")) == blob_id(b"x").decode()
