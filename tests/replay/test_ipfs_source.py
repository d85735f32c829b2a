"""ipfs: addresses in the store, against gateways that lie, stall, send without end or lead elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from ipfs_blocks import Shelf

from replay.artifacts import (
    ArtifactError,
    ArtifactMismatch,
    ArtifactMissing,
    ArtifactReason,
    ArtifactRefused,
    ArtifactStore,
    ArtifactTooLarge,
    ArtifactUnreadable,
)
from replay.artifacts.errors import masked
from replay.artifacts.ipfs import KUBO, KUBO_2025, KUBO_RAW, KUBO_V1, Cid, Profile
from replay.artifacts.ipfs.car import write_car
from replay.artifacts.ipfs.errors import CarRefused
from replay.artifacts.ipfs.gateway import CarIndex, gateway
from replay.artifacts.ipfs.source import IpfsSource

MANY = Profile(0, raw_leaves=False, chunk=1000, links=7)
CONTENT = np.random.default_rng(5).bytes(60_000)


def car_of(shelf, root):
    into = io.BytesIO()
    write_car(into, [root], shelf)
    return into.getvalue()


class Gateway:
    """A trustless gateway over a shelf; ``raw`` and ``car`` may be told to misbehave: they get the right bytes."""

    def __init__(self, shelf, raw=None, car=None):
        self.asked = []
        self.at_once = self.most = 0
        self._shelf = shelf
        self._answers = {"raw": raw, "car": car}

    async def answer(self, request):
        self.asked.append(request)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        try:
            await asyncio.sleep(0)
            return await self._answer(request)
        finally:
            self.at_once -= 1

    async def _answer(self, request):
        cid, form = Cid.parse(request.match_info["cid"]), request.query["format"]
        assert request.headers["Accept"].startswith(f"application/vnd.ipld.{form}")
        block = self._shelf.blocks.get(cid)
        if block is None:
            raise web.HTTPNotFound
        body = block.data if form == "raw" else car_of(self._shelf, cid)
        special = self._answers[form]
        return web.Response(body=body) if special is None else await special(request, body)

    def forms(self):
        return [request.query["format"] for request in self.asked]


@asynccontextmanager
async def serving(*gateways):
    """The URLs at which each gateway is reached."""
    async with AsyncExitStack() as stack:
        urls = []
        for one in gateways:
            app = web.Application()
            app.router.add_get("/ipfs/{cid}", one.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        yield urls


def store(tmp_path, gateways, **options):
    return ArtifactStore(tmp_path / "cache", gateways=gateways, **options)


async def refused(coroutine, kind, reason, why="."):
    with pytest.raises(kind, match=why) as caught:
        await coroutine
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nothing_left(tmp_path):
    assert list((tmp_path / "cache" / "temporary").iterdir()) == []


async def liar(request, body):
    return web.Response(body=bytes([body[0] ^ 1]) + body[1:])


async def silent(request, body):
    await asyncio.Event().wait()


async def endless(request, body):
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(bytes(1 << 16))


async def broken(request, body):
    raise web.HTTPBadGateway


def to(target):
    async def redirect(request, body):
        return web.Response(status=302, headers={"Location": target})

    return redirect


@pytest.mark.parametrize("profile", [MANY, KUBO, KUBO_V1, Profile(1, raw_leaves=True, chunk=999, links=3)])
async def test_a_file_by_its_cid_alone(tmp_path, profile):
    shelf = Shelf()
    root = shelf.file(CONTENT, profile)
    here = Gateway(shelf)
    async with serving(here) as urls, store(tmp_path, urls) as cache:
        path = await cache.fetch_cid(f"ipfs://{root}")
        assert path.read_bytes() == CONTENT
        assert len(here.asked) == len(shelf.blocks)
        assert here.most <= 8
        assert await cache.fetch_cid(f"ipfs://{root}", len(CONTENT)) == path
        assert len(here.asked) == len(shelf.blocks)
        await refused(cache.fetch_cid(f"ipfs://{root}", len(CONTENT) - 1), ArtifactTooLarge, ArtifactReason.SIZE)
    nothing_left(tmp_path)


async def test_a_file_in_a_directory_and_its_sha256_on_top(tmp_path):
    shelf = Shelf()
    inner = shelf.directory({"out 1.png": CONTENT}, MANY)
    root = shelf.directory({"zoë": b"z", "inner": io.BytesIO(b"")})
    async with serving(Gateway(shelf)) as urls, store(tmp_path, urls) as cache:
        assert (await cache.fetch_cid(f"ipfs://{root}/zo%C3%AB")).read_bytes() == b"z"
        there = f"ipfs://{inner}/out%201.png?filename=x"
        path = await cache.fetch(there, hashlib.sha256(CONTENT).digest())
        assert path.read_bytes() == CONTENT
        wrong = cache.fetch(f"ipfs://{inner}/out%201.png", bytes(32))
        await refused(wrong, ArtifactMismatch, ArtifactReason.DIGEST)
        for missing in ("no", "..", "out%201.png%00"):
            await refused(cache.fetch_cid(f"ipfs://{inner}/{missing}"), ArtifactMissing, ArtifactReason.NOT_FOUND)
        await refused(cache.fetch_cid(f"ipfs://{inner}"), ArtifactUnreadable, ArtifactReason.DAG, "is a directory")
        beyond = cache.fetch_cid(f"ipfs://{root}/zo%C3%AB/x")
        await refused(beyond, ArtifactUnreadable, ArtifactReason.DAG, "is a file")
    nothing_left(tmp_path)


async def test_a_model_lies_in_a_directory(tmp_path):
    listing = json.dumps({"files": {"model.onnx": hashlib.sha256(CONTENT).hexdigest()}}).encode()
    shelf = Shelf()
    root = shelf.directory({"manifest.json": listing, "model.onnx": CONTENT}, MANY)
    digest = hashlib.sha256(listing).digest()
    async with serving(Gateway(shelf)) as urls, store(tmp_path, urls) as cache:
        path = await cache.fetch_model(f"ipfs://{root}/manifest.json", digest)
        assert path.with_name("model.onnx").read_bytes() == CONTENT
        alone = shelf.file(listing)
        await refused(cache.fetch_model(f"ipfs://{alone}", digest), ArtifactRefused, ArtifactReason.SCHEME, "directory")


def _patience(bad) -> float:
    """Seconds: only what never answers is given up for that."""
    return 3.0 if bad is silent else 60.0


@pytest.mark.parametrize("bad", [liar, silent, endless, broken, to("http://127.0.0.2/"), to("http://169.254.169.254/")])
async def test_where_one_gateway_is_no_good_the_next_is_asked(tmp_path, bad):
    shelf = Shelf()
    root = shelf.file(CONTENT, MANY)
    good, evil = Gateway(shelf), Gateway(shelf, bad)
    async with serving(evil, good) as urls, store(tmp_path, urls, timeout=_patience(bad)) as cache:
        assert (await cache.fetch_cid(f"ipfs://{root}")).read_bytes() == CONTENT
    assert len(evil.asked) == 1  # asked last from then on
    assert len(good.asked) == len(shelf.blocks)
    nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (liar, "digest"), (silent, "timeout"), (endless, "size"), (broken, "status"), (to("http://127.0.0.2/"), "redirect"),
        (to("http://[::1]/"), "redirect"), (to("file:///etc/passwd"), "redirect"), (to("/ipfs/loop"), "redirect|unreachable|status"),
    ],
)  # fmt: skip
async def test_where_none_is_any_good_the_gateways_are_named_and_nobody_else(tmp_path, bad, told):
    shelf = Shelf()
    root = shelf.file(b"x")
    async with (
        serving(Gateway(shelf, bad), Gateway(Shelf())) as urls,
        store(tmp_path, urls, timeout=_patience(bad)) as cache,
    ):
        said = await refused(cache.fetch_cid(f"ipfs://{root}"), ArtifactMissing, ArtifactReason.GATEWAYS, told)
        assert urls[0] in said
        assert f"ipfs://{root}" in said
    nothing_left(tmp_path)


async def test_what_no_gateway_has_is_not_found(tmp_path):
    shelf = Shelf()
    root = shelf.file(CONTENT, MANY)
    del shelf.blocks[list(shelf.blocks)[3]]
    async with serving(Gateway(shelf), Gateway(Shelf())) as urls, store(tmp_path, urls) as cache:
        await refused(cache.fetch_cid(f"ipfs://{root}"), ArtifactMissing, ArtifactReason.NOT_FOUND)
    secrets = [f"{url}/pass-word?token=pass-word" for url in urls]
    async with store(tmp_path, secrets) as cache:
        asked = cache.fetch_cid(f"ipfs://{root}")
        said = await refused(asked, ArtifactMissing, ArtifactReason.GATEWAYS, "unreachable")
        assert urls[0] in said
        assert "pass-word" not in said
    nothing_left(tmp_path)


async def test_a_fetch_ends_when_its_time_is_up(tmp_path):
    shelf = Shelf()
    root = shelf.file(bytes(range(100)), Profile(0, raw_leaves=True, chunk=1, links=2))

    async def slow(request, body):
        await asyncio.sleep(0.1)
        return web.Response(body=body)

    async with serving(Gateway(shelf, slow)) as urls, store(tmp_path, urls, timeout=0.5) as cache:
        await refused(cache.fetch_cid(f"ipfs://{root}"), ArtifactMissing, ArtifactReason.GATEWAYS, "0.5 s")
    nothing_left(tmp_path)


async def test_blocks_are_asked_for_together(tmp_path):
    """Each leaf is answered only once four are waited for."""
    shelf = Shelf()
    root = shelf.file(CONTENT, Profile(0, raw_leaves=True, chunk=15_000, links=9))
    four = asyncio.Event()

    async def together(request, body):
        if here.at_once == 4:
            four.set()
        if len(here.asked) > 1:
            await four.wait()
        return web.Response(body=body)

    here = Gateway(shelf, together)
    async with serving(here) as urls, store(tmp_path, urls, timeout=20) as cache:
        assert (await cache.fetch_cid(f"ipfs://{root}")).read_bytes() == CONTENT


async def test_a_file_larger_than_allowed_ends_at_its_first_block(tmp_path):
    shelf = Shelf()
    root = shelf.file(CONTENT, MANY)
    here = Gateway(shelf)
    async with serving(here) as urls, store(tmp_path, urls) as cache:
        await refused(cache.fetch_cid(f"ipfs://{root}", 59_999), ArtifactTooLarge, ArtifactReason.SIZE)
    assert len(here.asked) == 1


async def test_blocks_that_make_no_file(tmp_path):
    shelf = Shelf()
    lie = shelf.node([shelf.raw(b"abc")], [4], filesize=4)
    async with serving(Gateway(shelf)) as urls, store(tmp_path, urls) as cache:
        await refused(cache.fetch_cid(f"ipfs://{lie}"), ArtifactUnreadable, ArtifactReason.DAG, "has 3 bytes")
    nothing_left(tmp_path)
    assert not [path for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file()]


async def cut(request, body):
    return web.Response(body=body[: len(body) // 2])


async def turned(request, body):
    """The first half is right, then comes something else under the right CIDs."""
    half = len(body) // 2
    return web.Response(body=body[:half] + bytes(byte ^ 1 for byte in body[half:]))


async def torn(request, body):
    answer = web.StreamResponse()
    answer.content_length = len(body)
    await answer.prepare(request)
    await answer.write(body[: len(body) // 2])
    await answer.drain()
    request.transport.abort()
    return answer


@pytest.mark.parametrize(
    ("car", "blocks"),
    [(None, (1, 1)), (cut, (2, 60)), (turned, (2, 60)), (torn, (2, 72)), (liar, (72, 72)), (broken, (72, 72))],
)
async def test_large_files_come_as_one_car_and_what_it_lacks_block_by_block(tmp_path, car, blocks):
    shelf = Shelf()
    root = shelf.file(CONTENT, MANY)
    assert len(shelf.blocks) == 72
    here = Gateway(shelf, car=car)
    async with serving(here) as urls, ArtifactStore(tmp_path / "cache") as cache:
        reached = [gateway(url, timeout=60, idle_timeout=60, max_redirects=3, private_networks=()) for url in urls]
        source = IpfsSource(reached, cache._cache.temporary, timeout=60, car_from=60_000)
        into = io.BytesIO()
        await source.copy(f"ipfs://{root}", into, 1 << 20)
        await source.close()
    assert into.getvalue() == CONTENT
    assert here.forms().count("car") == 1
    assert blocks[0] <= here.forms().count("raw") <= blocks[1]
    nothing_left(tmp_path)


def test_a_car_of_endless_small_blocks_is_read_no_further_than_memory_allows(tmp_path):
    shelf = Shelf()
    root = shelf.file(CONTENT, MANY)
    (tmp_path / "all.car").write_bytes(car_of(shelf, root))
    assert CarIndex(tmp_path / "all.car", max_blocks=72).block(root) == shelf[root]
    with pytest.raises(CarRefused, match="more than 71 blocks"):
        CarIndex(tmp_path / "all.car", max_blocks=71).block(Cid.of(b"not in it"))


async def test_a_car_file_and_a_folder_of_blocks_are_gateways_too(tmp_path):
    shelf = Shelf()
    root = shelf.directory({"file": CONTENT}, MANY)
    (tmp_path / "some.car").write_bytes(car_of(shelf, root)[:30_000])
    folder = tmp_path / "blocks"
    folder.mkdir()
    places = [(tmp_path / "some.car").as_uri(), folder.as_uri()]
    async with store(tmp_path, places) as cache:
        await refused(cache.fetch_cid(f"ipfs://{root}/file"), ArtifactMissing, ArtifactReason.GATEWAYS, "digest")
        for block in list(shelf)[20:]:
            (folder / str(block.cid)).write_bytes(block.data)
        assert (await cache.fetch_cid(f"ipfs://{root}/file")).read_bytes() == CONTENT
    (folder / str(root)).write_bytes(b"something else")
    async with store(tmp_path, places[1:]) as cache:
        await refused(cache.fetch_cid(f"ipfs://{root}/file"), ArtifactMissing, ArtifactReason.GATEWAYS, "digest")
    (tmp_path / "some.car").write_bytes(car_of(shelf, root))
    async with store(tmp_path, places[:1]) as cache:
        other = Cid.of(b"not in it")
        await refused(cache.fetch_cid(f"ipfs://{other}"), ArtifactMissing, ArtifactReason.NOT_FOUND)
    async with store(tmp_path, [(tmp_path / "absent.car").as_uri()]) as cache:
        await refused(cache.fetch_cid(f"ipfs://{other}"), ArtifactMissing, ArtifactReason.GATEWAYS, "unreachable")


async def test_the_cache_is_checked_against_the_cid_by_whoever_opens_it_next(tmp_path):
    shelf = Shelf()
    roots = {shelf.file(CONTENT, profile): len(CONTENT) for profile in (KUBO, KUBO_V1, KUBO_2025, KUBO_RAW)}
    unusual = shelf.file(CONTENT, MANY)
    (tmp_path / "all.car").write_bytes(car_of(shelf, unusual))
    places = [(tmp_path / "all.car").as_uri()]
    async with store(tmp_path, places) as cache:
        paths = {root: await cache.fetch_cid(f"ipfs://{root}") for root in (*roots, unusual)}
    (tmp_path / "all.car").unlink()
    async with store(tmp_path, places) as cache:
        for root in roots:
            assert (await cache.fetch_cid(f"ipfs://{root}")).read_bytes() == CONTENT
        # cut as nobody cuts: known only by its blocks
        await refused(cache.fetch_cid(f"ipfs://{unusual}"), ArtifactMissing, ArtifactReason.GATEWAYS)
        damaged = next(iter(roots))
        paths[damaged].write_bytes(CONTENT[:-1])
        await refused(cache.fetch_cid(f"ipfs://{damaged}"), ArtifactMissing, ArtifactReason.GATEWAYS)


@pytest.mark.parametrize(
    "bad",
    ["ipfs://", "ipfs://x", "ipfs://ipfs/QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", "ipfs:QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH",
     "ipfs://u:p@QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", "ipfs://QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH" + "/a" * 40,
     "ipfs://bafyreidykglsfhoixmivffc5uwhcgshx4j465xwqntbmu43nb2dzqwfvae", "ipfs://[", "http://127.0.0.1/x", "IPFS://x"],
)  # fmt: skip
async def test_addresses_that_name_no_file(tmp_path, bad):
    async with store(tmp_path, ["http://127.0.0.1:1"]) as cache:
        await refused(cache.fetch_cid(bad), ArtifactRefused, ArtifactReason.SCHEME)


async def test_without_gateways_the_scheme_is_refused_and_the_setting_named(tmp_path):
    cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    async with ArtifactStore(tmp_path / "cache") as cache:
        for asked in (cache.fetch_cid(f"ipfs://{cid}"), cache.fetch(f"ipfs://{cid}", bytes(32))):
            said = await refused(asked, ArtifactRefused, ArtifactReason.GATEWAYS, "gateways")
            assert f"ipfs://{cid}" in said


@pytest.mark.parametrize("url", ["ftp://x", "x", "", "http://", "file:x", "file://elsewhere/x", "https:///x"])
async def test_what_is_no_gateway(tmp_path, url):
    cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    async with store(tmp_path, ["http://127.0.0.1:1", url]) as cache:
        await refused(cache.fetch_cid(f"ipfs://{cid}"), ArtifactRefused, ArtifactReason.GATEWAYS, "a gateway is")


async def test_a_private_gateway_must_be_named_by_its_address(tmp_path):
    """A name that leads inside is refused; the address that was written into the settings is meant."""
    shelf = Shelf()
    root = shelf.file(b"x")
    here = Gateway(shelf)
    async with serving(here) as [url]:
        port = url.rpartition(":")[2]
        async with store(tmp_path, [f"http://127.0.0.1.:{port}", f"http://2130706433:{port}"]) as cache:
            with pytest.raises(ArtifactError):
                await cache.fetch_cid(f"ipfs://{root}")
        async with store(tmp_path, [f"http://localhost:{port}/ipfs/?token=secret"]) as cache:
            assert (await cache.fetch_cid(f"ipfs://{root}")).read_bytes() == b"x"
            assert here.asked[-1].query["token"] == "secret"
            # and what the chain names stays outside
            await refused(cache.fetch(f"{url}/ipfs/{root}", bytes(32)), ArtifactRefused, ArtifactReason.ADDRESS)


def test_a_masked_address_keeps_its_cid():
    cid = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
    assert masked(f"ipfs://u:p@{cid}/a?b#c") == f"ipfs://{cid}/a"
