"""The store against servers, files and a cache that cannot be trusted."""

import asyncio
import hashlib
import json
import os
import ssl
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from challenger.errors import FetchRefused
from challenger.pipeline.engine import Engine
from replay.artifacts import (
    ArtifactError,
    ArtifactMismatch,
    ArtifactMissing,
    ArtifactReason,
    ArtifactRefused,
    ArtifactStore,
    ArtifactStoreFailed,
    ArtifactTooLarge,
    manifest_files,
)
from replay.artifacts.addresses import Addresses, GuardedResolver
from replay.artifacts.errors import masked
from replay.layout import bundle_root, encode_bundle

LOOPBACK = ("127.0.0.1/32",)


def sha(data):
    return hashlib.sha256(data).digest()


def uri(path):
    return Path(path).as_uri()


@asynccontextmanager
async def serving(tls=None, **routes):
    """A server whose paths are handlers or bytes; gives its address and the list of paths asked for."""
    asked = []

    async def handle(request):
        asked.append(request.path)
        answer = routes.get(request.path.strip("/").replace("/", "_").replace(".", "_"))
        if answer is None:
            raise web.HTTPNotFound
        return web.Response(body=answer) if isinstance(answer, bytes) else await answer(request)

    app = web.Application()
    app.router.add_get("/{tail:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def store(tmp_path, **options):
    return ArtifactStore(tmp_path / "cache", **options)


def leftovers(tmp_path):
    return list((tmp_path / "cache" / "temporary").iterdir())


async def refused(coroutine, kind, reason):
    with pytest.raises(kind) as caught:
        await coroutine
    assert caught.value.reason is reason
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_file_is_verified_named_and_not_fetched_twice(tmp_path):
    source = tmp_path / "weights"
    source.write_bytes(b"weights" * 1000)
    digest = sha(source.read_bytes())
    async with store(tmp_path, roots=[tmp_path]) as cache:
        first = await cache.fetch(uri(source), digest)
        assert first.read_bytes() == source.read_bytes()
        source.unlink()
        assert await cache.fetch(uri(source), digest) == first
    assert leftovers(tmp_path) == []


async def test_http_serves_once_and_many_askers_share_the_answer(tmp_path):
    body = os.urandom(3 << 20)
    async with serving(m=body) as (at, asked), store(tmp_path, private_networks=LOOPBACK) as cache:
        paths = await asyncio.gather(*(cache.fetch(f"{at}/m", sha(body)) for _ in range(5)))
        assert asked == ["/m"]
        assert {path.read_bytes() for path in paths} == {body}


async def test_wrong_bytes_get_no_name(tmp_path):
    async with serving(m=b"not it") as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        await refused(cache.fetch(f"{at}/m", sha(b"it")), ArtifactMismatch, ArtifactReason.DIGEST)
    assert leftovers(tmp_path) == []
    assert not list((tmp_path / "cache" / "objects").rglob("sha256-*"))


@pytest.mark.parametrize("served", [b"not it", b""])
async def test_a_mismatch_says_what_was_served_in_its_place(tmp_path, served):
    async with serving(m=served) as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        for asked in (cache.fetch(f"{at}/m?key=1", sha(b"it")), cache.fetch_bundle(f"{at}/m?key=1", sha(b"it"), 2)):
            with pytest.raises(ArtifactMismatch) as caught:
                await asked
            assert (caught.value.served, caught.value.size, caught.value.uri) == (sha(served), len(served), f"{at}/m")
            assert f"{len(served)} bytes of sha256 0x{sha(served).hex()} were served" in str(caught.value)


async def test_a_damaged_object_is_noticed_and_fetched_again(tmp_path):
    async with serving(m=b"the bytes") as (at, asked), store(tmp_path, private_networks=LOOPBACK) as cache:
        path = await cache.fetch(f"{at}/m", sha(b"the bytes"))
        path.write_bytes(b"the bytez")
        assert (await cache.fetch(f"{at}/m", sha(b"the bytes"))).read_bytes() == b"the bytes"
        assert len(asked) == 2


@pytest.mark.parametrize("length_known", [True, False])
async def test_what_is_too_large_is_cut_off(tmp_path, length_known):
    sent = []

    async def endless(request):
        answer = web.StreamResponse()
        if length_known:
            answer.content_length = 1 << 40
        await answer.prepare(request)
        while True:
            await answer.write(bytes(1 << 16))
            sent.append(1 << 16)

    async with serving(m=endless) as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        await refused(cache.fetch(f"{at}/m", sha(b""), 100_000), ArtifactTooLarge, ArtifactReason.SIZE)
        (tmp_path / "big").write_bytes(bytes(2000))
    async with store(tmp_path, roots=[tmp_path]) as cache:
        big = uri(tmp_path / "big")
        await refused(cache.fetch(big, sha(bytes(2000)), 1999), ArtifactTooLarge, ArtifactReason.SIZE)
        await cache.fetch(big, sha(bytes(2000)), 2000)
        await refused(cache.fetch(big, sha(bytes(2000)), 1999), ArtifactTooLarge, ArtifactReason.SIZE)
    assert leftovers(tmp_path) == []


async def test_a_silent_server_is_a_timeout(tmp_path):
    async def silent(request):
        await asyncio.Event().wait()

    async with serving(m=silent) as (at, _), store(tmp_path, private_networks=LOOPBACK, timeout=0.2) as cache:
        await refused(cache.fetch(f"{at}/m", sha(b"")), ArtifactMissing, ArtifactReason.TIMEOUT)


async def test_a_silent_server_has_another_asked_whether_our_line_is_up(tmp_path):
    """One that answered before, for its headers; and what it says of that is nobody's verdict."""
    down = []

    async def torn(request):
        request.transport.abort()

    async def flaky(request):
        if down:
            request.transport.abort()
        return web.Response(body=b"here")

    options = {"private_networks": LOOPBACK, "witness_pause": 0.0}
    async with serving(m=torn) as (dead, _), serving(m=flaky) as (alive, asked), store(tmp_path, **options) as cache:

        async def meanwhile():
            with pytest.raises(ArtifactMissing) as caught:
                await cache.fetch(f"{dead}/m", sha(b""))
            return caught.value.meanwhile

        assert [await meanwhile() for _ in range(3)] == ["", "", ""], "nobody is known to answer"
        await cache.fetch(f"{alive}/m", sha(b"here"))
        assert [await meanwhile() for _ in range(3)] == [alive.removeprefix("http://")] * 3
        assert asked == ["/m"] * 4, "once for itself, and once after each failure"
        down.append(True)
        assert [await meanwhile() for _ in range(3)] == [alive.removeprefix("http://"), "", ""]
    assert leftovers(tmp_path) == []


async def test_who_waits_for_the_same_address_has_its_answer_and_for_another_waits_for_nobody(tmp_path):
    """One thing committed many times, at addresses that give nothing: each look takes no longer than one."""
    waiting, release = [], asyncio.Event()

    async def slow(request):
        waiting.append(request.path)
        if len(waiting) == 3:
            release.set()
        await release.wait()
        raise web.HTTPServiceUnavailable

    async with (
        serving(a=slow, b=slow, c=slow) as (at, asked),
        store(tmp_path, private_networks=LOOPBACK) as cache,
    ):
        wanted = [f"{at}/a", f"{at}/b", f"{at}/c"] * 3
        told = await asyncio.gather(*(cache.fetch(one, sha(b"")) for one in wanted), return_exceptions=True)
    assert {type(one) for one in told} == {ArtifactMissing}
    assert sorted(asked) == ["/a", "/b", "/c"]


async def test_many_slow_servers_keep_no_other_one_waiting(tmp_path):
    """A wait for a connection of our own would be taken for the silence of a server that was asked for nothing."""
    release = asyncio.Event()

    async def slow(request):
        await release.wait()
        return web.Response(body=b"slow")

    async with serving(slow=slow, m=b"here") as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        busy = [asyncio.ensure_future(cache.fetch(f"{at}/slow?{number}", sha(b"slow"))) for number in range(40)]
        assert (await cache.fetch(f"{at}/m", sha(b"here"))).read_bytes() == b"here"
        release.set()
        await asyncio.gather(*busy)


async def test_each_failure_of_a_server_has_its_reason(tmp_path):
    async def broken(request):
        raise web.HTTPInternalServerError

    async def compressed(request):
        return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})

    async def torn(request):
        answer = web.StreamResponse()
        answer.content_length = 100
        await answer.prepare(request)
        await answer.write(b"half")
        request.transport.abort()
        return answer

    routes = {"broken": broken, "compressed": compressed, "torn": torn}
    async with serving(**routes) as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        for path, kind, reason in [
            ("none", ArtifactMissing, ArtifactReason.NOT_FOUND),
            ("broken", ArtifactMissing, ArtifactReason.STATUS),
            ("compressed", ArtifactRefused, ArtifactReason.ENCODING),
            ("torn", ArtifactMissing, ArtifactReason.UNREACHABLE),
        ]:
            await refused(cache.fetch(f"{at}/{path}", sha(b"")), kind, reason)
    async with store(tmp_path, private_networks=LOOPBACK) as cache:
        await refused(cache.fetch(f"{at}/gone", sha(b"")), ArtifactMissing, ArtifactReason.UNREACHABLE)


async def test_redirects_are_few_and_each_is_checked(tmp_path):
    def to(target):
        async def redirect(request):
            return web.Response(status=302, headers={"Location": target})

        return redirect

    routes = {
        "twice": to("/once"), "once": to("m"), "m": b"here", "loop": to("/loop"), "file": to("file:///etc/passwd"),
        "inside": to("http://127.0.0.2/"), "metadata": to("http://169.254.169.254/latest"), "nowhere": to("//"),
        "mapped": to("http://[::ffff:10.0.0.1]/"), "name": to("http://localhost:1/"), "broken": to("http://["),
        "spelt": to("http://127\u30020\u30020\u30022/"),
    }  # fmt: skip
    async with serving(**routes) as (at, _), store(tmp_path, private_networks=LOOPBACK) as cache:
        assert (await cache.fetch(f"{at}/twice", sha(b"here"))).read_bytes() == b"here"
        for path, why in [
            ("loop", "more than 3 redirects"),
            ("file", "neither http nor https"),
            ("inside", "127.0.0.2 is a private address"),
            ("metadata", "169.254.169.254 is a private address"),
            ("mapped", "::ffff:a00:1 is a private address"),
            ("spelt", "127.0.0.2 is a private address"),
            ("broken", "to an address that does not parse"),
        ]:
            # its address is allowed: it is the server that gives nothing
            told = await refused(cache.fetch(f"{at}/{path}", sha(b"?")), ArtifactRefused, ArtifactReason.REDIRECT)
            assert why in told
        with pytest.raises(ArtifactError):
            await cache.fetch(f"{at}/nowhere", sha(b"?"))


async def test_a_bad_certificate_is_a_server_that_does_not_answer_and_no_bad_address(tmp_path):
    """It is the server's to mend, or whoever's stands between; nobody's rule forbids it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "of its own")])
    day = datetime(2000, 1, 1, tzinfo=UTC)
    draft = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + timedelta(days=1))
    own = draft.sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8
    (tmp_path / "own.pem").write_bytes(
        own.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "own.pem")
    async with serving(tls=tls, m=b"here") as (at, asked), store(tmp_path, private_networks=LOOPBACK) as cache:
        assert at.startswith("https://")
        await refused(cache.fetch(f"{at}/m", sha(b"here")), ArtifactMissing, ArtifactReason.UNREACHABLE)
        assert not asked


async def test_private_addresses_are_refused_by_name_and_by_number(tmp_path):
    async with serving(m=b"secret") as (at, asked), store(tmp_path) as cache:
        port = at.rpartition(":")[2]
        odd = (ArtifactReason.ADDRESS, ArtifactReason.UNREACHABLE, ArtifactReason.SCHEME)
        for host in (
            "127.0.0.1", "localhost", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.0.0.1.",
            # what IDNA makes 127.0.0.1 of: ideographic full stops, circled and full-width digits, soft hyphens
            "127\u30020\u30020\u30021", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460", "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
            "127.0.0.\u00ad1", "127\uff0e0\uff610\uff0e1", "loc\u24d0lhost", "[::\uff11]", "[::1%25lo]",
        ):  # fmt: skip
            with pytest.raises(ArtifactError) as caught:
                await cache.fetch(f"http://{host}:{port}/m", sha(b"secret"))
            # odd spellings of numbers may not even parse or resolve, which is as good
            assert caught.value.reason in odd, ascii(host)
        assert asked == []


async def test_the_resolver_refuses_names_that_lead_inside():
    with pytest.raises(ArtifactRefused):
        await GuardedResolver(Addresses()).resolve("localhost", 80)
    found = await GuardedResolver(Addresses(("127.0.0.0/8", "::1/128"))).resolve("localhost", 80)
    assert {one["host"] for one in found} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("10.1.2.3", False), ("172.16.0.1", False),
        ("192.168.1.1", False), ("100.64.0.1", False), ("169.254.1.1", False), ("224.0.0.1", False),
        ("240.0.0.1", False), ("255.255.255.255", False), ("0.0.0.0", False), ("::", False), ("fe80::1%eth0", False),
        ("fc00::1", False), ("::ffff:8.8.8.8", True), ("::ffff:192.168.0.1", False), ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True), ("2002:7f00:1::", False), ("not an address", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_public(address, public):
    assert Addresses().permits(address) is public


async def test_files_only_from_under_the_roots(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (inside / "link").symlink_to(outside / "secret")
    os.mkfifo(inside / "pipe")
    (inside / "with space").write_bytes(b"fine")
    async with store(tmp_path, roots=[inside]) as cache:
        for bad in (
            uri(outside / "secret"), uri(inside / "link"), uri(inside) + "/../out/secret", uri(inside / "pipe"),
            uri(inside), uri(inside) + "/%2e%2e/out/secret", "file://elsewhere/x", "file:relative", "file:///a%00b",
            uri(outside / "absent"),
        ):  # fmt: skip
            await refused(cache.fetch(bad, sha(b"secret")), ArtifactRefused, ArtifactReason.ROOTS)
        await refused(cache.fetch(uri(inside / "absent"), sha(b"")), ArtifactMissing, ArtifactReason.NOT_FOUND)
        assert (await cache.fetch(uri(inside / "with space"), sha(b"fine"))).read_bytes() == b"fine"
    async with store(tmp_path) as cache:
        await refused(cache.fetch(uri(inside / "with space"), sha(b"?")), ArtifactRefused, ArtifactReason.ROOTS)


@pytest.mark.parametrize("bad", ["ftp://host/x", "ipns://x", "", "no scheme", "http://", "http://[::1", "data:,x"])
async def test_other_schemes_and_broken_addresses(tmp_path, bad):
    async with store(tmp_path) as cache:
        await refused(cache.fetch(bad, sha(b"")), ArtifactRefused, ArtifactReason.SCHEME)


def manifest(**files):
    return json.dumps(
        {"files": {name: sha(body).hex() for name, body in files.items()}, "format": "onnx"},
        sort_keys=True, separators=(",", ":"),
    ).encode()  # fmt: skip


async def test_a_model_is_a_folder_of_verified_files(tmp_path):
    body, other = os.urandom(5000), b"{}"
    listing = manifest(**{"model.onnx": body, "config.json": other})
    routes = {"a_manifest_json": listing, "a_model_onnx": body, "a_config_json": other}
    async with serving(**routes) as (at, asked), store(tmp_path, private_networks=LOOPBACK) as cache:
        path = await cache.fetch_model(f"{at}/a/manifest.json?token=secret#part", sha(listing))
        assert path.read_bytes() == listing
        assert path.with_name("model.onnx").read_bytes() == body
        assert sorted(one.name for one in path.parent.iterdir()) == ["config.json", "manifest.json", "model.onnx"]
        assert len(asked) == 3
        assert await cache.fetch_model(f"{at}/a/manifest.json", sha(listing)) == path
        assert len(asked) == 3
        path.with_name("model.onnx").write_bytes(b"damaged")
        await cache.fetch_model(f"{at}/a/manifest.json", sha(listing))
        assert path.with_name("model.onnx").read_bytes() == body
        await refused(
            cache.fetch_model(f"{at}/a/manifest.json", sha(listing), 4000), ArtifactTooLarge, ArtifactReason.SIZE
        )


async def test_a_model_by_file_url(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"model")
    listing = manifest(**{"model.onnx": b"model"})
    (tmp_path / "manifest.json").write_bytes(listing)
    async with store(tmp_path, roots=[tmp_path]) as cache:
        path = await cache.fetch_model(uri(tmp_path / "manifest.json"), sha(listing))
        assert path.with_name("model.onnx").read_bytes() == b"model"
        (tmp_path / "model.onnx").write_bytes(b"other")
    async with ArtifactStore(tmp_path / "second", roots=[tmp_path]) as cache:
        await refused(
            cache.fetch_model(uri(tmp_path / "manifest.json"), sha(listing)), ArtifactMismatch, ArtifactReason.DIGEST
        )


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", "", ".hidden", "a\\b", "manifest.json", "a\0", "x" * 200])
def test_manifest_names_are_plain(name):
    with pytest.raises(ArtifactMismatch):
        manifest_files(manifest(**{name: b""}))


@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
        ).map(lambda value: json.dumps({"files": value}).encode()),
    )
)
def test_a_manifest_is_parsed_or_refused(data):
    try:
        names = manifest_files(data)
    except ArtifactMismatch:
        return
    assert all(len(digest) == 32 and "/" not in name for name, digest in names.items())


async def test_bundles_are_verified_by_their_root(tmp_path):
    tensors = {"input_ids": np.arange(9, dtype=np.int32)}
    data, root = encode_bundle(tensors), bundle_root(tensors)
    (tmp_path / "input").write_bytes(data)
    (tmp_path / "rubbish").write_bytes(bytes(len(data)))
    async with store(tmp_path, roots=[tmp_path]) as cache:
        where = uri(tmp_path / "rubbish")
        await refused(cache.fetch_bundle(where, root, len(data)), ArtifactMismatch, ArtifactReason.DIGEST)
        where = uri(tmp_path / "input")
        await refused(cache.fetch_bundle(where, root, 1 << 40), ArtifactTooLarge, ArtifactReason.SIZE)
        await refused(cache.fetch_bundle(where, root, 1, len(data) - 1), ArtifactTooLarge, ArtifactReason.SIZE)
        assert await cache.fetch_bundle(where, root, len(data)) == data


@pytest.mark.parametrize("lie", [-1, 1, 1_000])
async def test_a_false_length_hides_no_bundle(tmp_path, lie):
    """What it would make us say, that the data are withheld, costs the bond of a demand that is then answered."""
    tensors = {"input_ids": np.arange(9, dtype=np.int32)}
    data, root = encode_bundle(tensors), bundle_root(tensors)
    (tmp_path / "input").write_bytes(data)
    (tmp_path / "longer").write_bytes(data + b"\0")
    async with store(tmp_path, roots=[tmp_path]) as cache:
        longer = uri(tmp_path / "longer")
        await refused(cache.fetch_bundle(longer, root, len(data) + 1), ArtifactMismatch, ArtifactReason.DIGEST)
        assert await cache.fetch_bundle(uri(tmp_path / "input"), root, len(data) + lie) == data


async def test_hashing_is_bounded_where_rows_are_so_short_that_each_makes_a_tile(tmp_path):
    """A tile is hashed for each row of four bytes: 16 MiB of them would take a minute of this process. It is our limit, and
    says nothing of whoever serves the bundle."""
    short, shortest = (encode_bundle({"y": np.zeros((rows, 1), np.int32)}) for rows in (1 << 16, 1 << 22))
    for name, data in (("short", short), ("shortest", shortest)):
        (tmp_path / name).write_bytes(data)
    async with store(tmp_path, roots=[tmp_path]) as cache:
        there = uri(tmp_path / "shortest")
        what = await refused(
            cache.fetch_bundle(there, bytes(32), len(shortest)), ArtifactTooLarge, ArtifactReason.TILES
        )
        assert "4194304 tiles to hash, 131072 allowed" in what
        with pytest.raises(FetchRefused, match="tiles to hash"):
            await Engine(cache, None, model_bytes=1, bundle_bytes=1 << 25).bundle(there, bytes(32), len(shortest))
        assert await cache.fetch_bundle(uri(tmp_path / "short"), bundle_root(short), len(short)) == short


async def test_the_cache_stays_within_its_bound_and_drops_what_was_used_longest_ago(tmp_path):
    now = [1e9]
    bodies = [bytes([n]) * 1000 for n in range(5)]
    for n, body in enumerate(bodies):
        (tmp_path / str(n)).write_bytes(body)
    async with store(tmp_path, roots=[tmp_path], max_bytes=3000, grace=10, clock=lambda: now[0]) as cache:

        async def use(n):
            return await cache.fetch(uri(tmp_path / str(n)), sha(bodies[n]))

        held = []
        for n in (0, 1, 2):
            now[0] += 100
            held.append(await use(n))
        now[0] += 100
        await use(0)
        now[0] += 100
        await use(3)
        assert [path.exists() for path in held] == [True, False, True]
        await use(4)
        assert [path.exists() for path in held] == [True, False, False]
        now[0] += 1
        await use(0)
        # everything is in use now: nothing is pulled from under anybody
        await refused(use(1), ArtifactTooLarge, ArtifactReason.ROOM)


async def test_a_bundle_for_which_there_is_no_room_is_given_all_the_same(tmp_path, monkeypatch):
    """It was served: nobody is to look for it again and again, and no replay is to wait."""
    data = encode_bundle({"x": np.arange(256, dtype=np.float32).reshape(16, 16)})
    (tmp_path / "bundle").write_bytes(data)
    (tmp_path / "other").write_bytes(bytes(1000))
    async with store(tmp_path, roots=[tmp_path], max_bytes=1500) as cache:
        await cache.fetch(uri(tmp_path / "other"), sha(bytes(1000)))
        at = uri(tmp_path / "bundle")
        assert await cache.fetch_bundle(at, bundle_root(data), len(data)) == data
        assert not any(data == path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
        (tmp_path / "bundle").unlink()
        assert await cache.fetch_bundle(at, bundle_root(data), len(data)) == data, "whoever serves it does so once"
        monkeypatch.setattr("replay.artifacts.store._UNKEPT_BYTES", 2 * len(data))
        for number in (1, 2):
            other = encode_bundle({"x": np.full((16, 16), number, dtype=np.float32)})
            (tmp_path / "bundle").write_bytes(other)
            assert await cache.fetch_bundle(at, bundle_root(other), len(other)) == other
        await refused(cache.fetch_bundle(at, bundle_root(data), len(data)), ArtifactMismatch, ArtifactReason.DIGEST)


async def test_whoever_waits_for_a_bundle_without_room_is_given_it_too(tmp_path):
    data = encode_bundle({"x": np.arange(256, dtype=np.float32).reshape(16, 16)})
    times = iter(range(100))

    async def once(request):
        return web.Response(status=503) if next(times) else web.Response(body=data)

    async with serving(b=once) as (at, _), store(tmp_path, private_networks=LOOPBACK, max_bytes=100) as cache:
        asked = (cache.fetch_bundle(f"{at}/b", bundle_root(data), len(data)) for _ in range(4))
        assert await asyncio.gather(*asked) == [data] * 4


async def test_evicting_takes_a_models_names_too(tmp_path):
    now = [1e9]
    body = os.urandom(1000)
    listing = manifest(**{"model.onnx": body})
    (tmp_path / "model.onnx").write_bytes(body)
    (tmp_path / "manifest.json").write_bytes(listing)
    (tmp_path / "other").write_bytes(bytes(1000))
    async with store(tmp_path, roots=[tmp_path], max_bytes=1500, grace=10, clock=lambda: now[0]) as cache:
        path = await cache.fetch_model(uri(tmp_path / "manifest.json"), sha(listing))
        now[0] += 100
        await cache.fetch(uri(tmp_path / "other"), sha(bytes(1000)))
        assert not path.with_name("model.onnx").exists()
        now[0] += 100
        again = await cache.fetch_model(uri(tmp_path / "manifest.json"), sha(listing))
        assert again.with_name("model.onnx").read_bytes() == body


async def test_a_cache_that_cannot_be_written_is_our_trouble_not_theirs(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(ArtifactStoreFailed, match="check its folder"):
        async with store(tmp_path):
            pass


def test_several_processes_share_one_cache_that_is_too_small(tmp_path):
    for number in range(6):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 100_000)
    program = textwrap.dedent(f"""
        import asyncio, hashlib
        from pathlib import Path
        from replay.artifacts import ArtifactStore

        async def main():
            folder = Path({str(tmp_path)!r})
            async with ArtifactStore(folder / "cache", roots=[folder], max_bytes=250_000, grace=0) as cache:
                for number in list(range(6)) * 5:
                    source = folder / str(number)
                    await cache.fetch(source.as_uri(), hashlib.sha256(source.read_bytes()).digest())

        asyncio.run(main())
    """)
    root = Path(__file__).parents[2]
    runs = [subprocess.Popen([sys.executable, "-c", program], cwd=root, stderr=subprocess.PIPE) for _ in range(3)]
    outcomes = [(run.communicate(timeout=60)[1].decode(), run.returncode) for run in runs]
    assert outcomes == [("", 0)] * 3
    held = [path for path in (tmp_path / "cache" / "objects").rglob("*") if path.is_file()]
    assert 1 <= len(held) <= 2
    assert {path.stat().st_size for path in held} == {100_000}
    assert leftovers(tmp_path) == []


def test_masked_addresses_hold_no_secret():
    assert masked("https://user:pass@host:1/p/q?key=s#f") == "https://host:1/p/q"
    assert masked("http://[::1]:8/x?y") == "http://[::1]:8/x"
    assert "\n" not in masked("http://host/a\nb")
    assert len(masked("http://host/" + "a" * 1000)) == 120


@given(st.text())
def test_masking_never_fails(text):
    assert len(masked(text)) <= 120
