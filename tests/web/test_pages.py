"""The dashboard without a browser: every page on both databases, hostile text, forms, sessions, addresses that are none."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import update

from challenger.protocols.base import MONEY
from challenger.store.schema import disputes, models
from challenger.web import pages
from challenger.web.app import make_app
from challenger.web.pages.frame import MENU
from challenger.web.pages.lists import LISTS
from challenger.web.pages.words import ether, facts, span
from challenger.web.table import Scope
from tests.store.chains import h
from tests.store.test_store_listing import MODELS, PROVIDERS
from tests.web.conftest import QUICK, settings_of


@pytest.fixture
async def browse(full, tmp_path):
    clients = []

    async def start(settings: Any = None) -> TestClient:
        app = make_app(full, settings or settings_of(tmp_path), [pages.add], pace=QUICK)
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


THINGS = (
    f"/commitments/{hexed(h('commitment', 2))}",
    f"/commitments/{hexed(h('commitment', 3))}",
    f"/commitments/{hexed(h('commitment', 4))}",
    f"/commitments/{hexed(h('commitment', 6))}",
    "/disputes/1",
    "/disputes/2",
    "/demands/1",
    f"/providers/{PROVIDERS[0]}",
    f"/models/{hexed(MODELS[0])}",
    "/sampling/1",
    "/sampling/2",
)
EVERY = tuple(dict.fromkeys([path for path, _ in MENU] + [page.path for page in LISTS] + list(THINGS) + ["/login"]))


class Outline(HTMLParser):
    """What a page links to and posts to, and whether it holds anything that its own security policy forbids."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.forbidden: list[str] = []
        self.headings: list[str] = []
        self.mains = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = dict(attributes)
        if tag == "a" and told.get("href"):
            self.links.append(str(told["href"]))
        self.mains += tag == "main"
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if (tag == "script" and not told.get("src")) or tag == "style" or "style" in told:
            self.forbidden.append(tag)
        self.forbidden += [name for name in told if name.startswith("on")]


async def text_of(client: TestClient, path: str, status: int = 200) -> str:
    answer = await client.get(path, allow_redirects=False)
    text = await answer.text()
    assert answer.status == status, (path, answer.status, text[:500])
    return text


async def test_amounts_are_in_the_money_of_the_protocol_and_numbers_beyond_all_counting_are_ids(full, browse):
    about = h("commitment", 2)
    async with full.begin(1_000) as unit:
        await unit.settings.keep(MONEY, "tokens")
        query = update(disputes).where(disputes.c.dispute == 1)
        zeros = dict.fromkeys(("output_root", "state_root", "evidence"), bytes(32))
        await unit.connection.execute(query.values(dispute=int.from_bytes(about, "big"), **zeros))
    client = await browse()
    listed = await text_of(client, "/disputes")
    assert "Bond, tokens" in listed
    assert "ether" not in listed
    assert hexed(about)[:12] + "…</a>" in listed
    one = await text_of(client, f"/disputes/{int.from_bytes(about, 'big')}")
    assert "<dt>Bond, tokens</dt>" in one
    assert "Output root claimed" not in one
    assert "at risk, tokens" in await text_of(client, "/")
    assert "Value, ether" in await text_of(client, "/operations/transactions")


async def test_hops_are_told_of_the_reference_protocol_alone(full, browse):
    """Another protocol's hops are others: told by these rules, honest parties would stand there as having let one down."""
    about = hexed(h("commitment", 2))
    client = await browse()
    assert "Hand-offs" in await text_of(client, f"/commitments/{about}")
    async with full.begin(1_000) as unit:
        await unit.settings.keep("protocol", "arbius")
    assert "Hand-offs" not in await text_of(client, f"/commitments/{about}")
    assert "of the reference protocol alone" in await text_of(client, f"/api/v1/commitments/{about}/handoffs", 404)


async def test_every_page_stands_and_every_link_leads_somewhere(browse):
    client = await browse()
    seen: dict[str, int] = {}
    todo = list(EVERY)
    while todo and len(seen) < 150:
        path = todo.pop(0)
        if path in seen:
            continue
        answer = await client.get(path)
        seen[path] = answer.status
        assert answer.status == 200, path
        if answer.content_type != "text/html":
            continue
        outline = Outline()
        outline.feed(await answer.text())
        assert outline.forbidden == [], path
        assert outline.mains == 1
        assert outline.headings.count("h1") == 1
        assert [
            a
            for a, b in zip(outline.headings, outline.headings[1:], strict=False)
            if b > a and int(b[1]) - int(a[1]) > 1
        ] == []
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        todo += [link for link in outline.links if link.startswith("/") and "evidence" not in link]
    assert set(EVERY) <= seen.keys()


async def test_a_commitment_s_page_tells_its_life(browse):
    text = await text_of(await browse(), THINGS[0])
    for word in (
        hexed(h("commitment", 2)),
        "FRAUD",
        "torch",
        "Dispute 1",
        "replayed",
        "no bundle is kept here",
    ):
        assert word in text, word
    assert "cpu x" in text, "where it ran"


async def test_lists_are_filtered_and_paged_by_their_forms(browse):
    client = await browse()
    text = await text_of(client, "/commitments?verdict=FRAUD&limit=1")
    assert text.count("/commitments/0x") == 1
    further = re.search(r'rel="next" href="([^"]+)"', text).group(1).replace("&amp;", "&")
    other = await text_of(client, further)
    assert other.count("/commitments/0x") == 1
    back = re.search(r'rel="prev" href="([^"]+)"', other).group(1).replace("&amp;", "&")
    assert re.findall(r"/commitments/0x[0-9a-f]+", await text_of(client, back)) == re.findall(
        r"/commitments/0x[0-9a-f]+", text
    )
    assert "<option selected>FRAUD</option>" in text
    answer = await client.get("/commitments?state=&verdict=VALID&provider=", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/commitments?verdict=VALID")
    assert "Nothing fits the filter" in await text_of(client, "/commitments?state=lost")


@pytest.mark.parametrize(
    ("path", "status", "what"),
    [
        ("/commitments?state=nonsense", 400, "state: it is one of"),
        ("/commitments?provider=0x12", 400, "an address is 0x and 40 hex digits"),
        ("/commitments?cursor=abc", 404, "the cursor cannot be used"),
        ("/commitments?limit=100000", 400, "limit"),
        ("/commitments?colour=red", 400, "unknown parameter; known are"),
        ("/commitments/0x12", 404, "it is 0x and 64 hex digits"),
        ("/commitments/" + "0x" + "00" * 32, 404, "the record holds no commitment"),
        ("/providers/0x" + "00" * 20, 404, "the record holds no provider"),
        ("/disputes/99", 404, "the record holds no dispute"),
        ("/sampling/99", 404, "the record holds no epoch"),
        ("/nothing", 404, "there is no such address"),
        ("/static/../settings.py", 404, ""),
        ("/static/nothing.js", 404, "there is no such file"),
    ],
)
async def test_what_is_asked_wrongly_is_said_on_a_page(browse, path, status, what):
    text = await text_of(await browse(), path, status)
    assert what in text.replace("&#39;", "'")
    assert "<h1>That did not work</h1>" in text
    assert "Traceback" not in text


async def test_the_api_keeps_its_own_form_of_problems(browse):
    answer = await (await browse()).get("/api/v1/commitments?state=nonsense")
    assert (answer.status, answer.content_type) == (400, "application/problem+json")


async def test_what_the_chain_says_is_never_markup(full, tmp_path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    async with full.begin(0) as unit:
        await unit.connection.execute(models.update().values(uri=evil))
        await unit.approvals.pause("person", "evil", evil)
        await unit.journal.write(
            unit.now, "alert", evil[:100], {"alert": evil, "severity": evil[:30], "fields": {evil: evil}}
        )
    async with TestClient(TestServer(make_app(full, settings_of(tmp_path), [pages.add], pace=QUICK))) as client:
        for path in ("/", "/models", f"/models/{hexed(MODELS[0])}", "/operations", "/operations/alerts", "/journal"):
            text = await text_of(client, path)
            outline = Outline()
            outline.feed(text)
            assert outline.forbidden == [], path
            assert "<img" not in text
        assert "&lt;script&gt;" in text


async def test_an_operator_logs_in_pauses_resumes_and_logs_out(browse, tokens, full):
    secret, reader = tokens.add("night-shift", Scope.OPERATOR), tokens.add("reader", Scope.READ)
    client = await browse()
    answer = await client.get("/", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (303, "/login"), "with tokens, reading needs one"
    assert "The token is not valid" in await (await client.post("/login", data={"token": "wrong"})).text()
    assert (await client.post("/login", data={"token": reader}, allow_redirects=False)).status == 303
    assert (await client.post("/pause", data={"reason": "x"}, allow_redirects=False)).status == 403, "a reader may not"
    assert "<button>Resume" not in await text_of(client, "/operations")
    assert (await client.post("/login", data={"token": secret}, allow_redirects=False)).status == 303
    text = await text_of(client, "/operations")
    csrf = re.search(r'name="csrf" value="([^"]+)"', text).group(1)
    assert "Resume filing" in text, "the record was paused"
    assert (await client.post("/resume", data={"note": "seen"}, allow_redirects=False)).status == 403, "no CSRF token"
    shown = dict(hidden(text))
    done = await client.post("/resume", data={**shown, "note": "seen"}, allow_redirects=False)
    assert (done.status, done.headers["Location"]) == (303, "/operations")
    assert "Pause all filing" in await text_of(client, "/operations")
    done = await client.post("/pause", data={"reason": "odd verdicts", "csrf": csrf}, allow_redirects=False)
    assert done.status == 303
    assert "odd verdicts" in await text_of(client, "/")
    async with full.read() as view:
        kept = [pause.detail for pause in await view.approvals.active()]
    assert kept == ["by token night-shift: odd verdicts"]
    foreign = await client.post("/pause", data={"reason": "x", "csrf": csrf}, headers={"Origin": "http://evil.example"})
    assert foreign.status == 403
    assert (await client.post("/logout", data={"csrf": csrf}, allow_redirects=False)).status == 303
    assert (await client.get("/", allow_redirects=False)).headers["Location"] == "/login"


def hidden(text: str, action: str = "/resume") -> list[tuple[str, str]]:
    """The hidden fields of the first form that posts to ``action``."""
    form = text.partition(f'action="{action}"')[2].partition("</form>")[0]
    return re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form)


@pytest.fixture
async def on_watch(browse, tokens):
    """A browser in which an operator is logged in."""
    client = await browse()
    secret = tokens.add("night-shift", Scope.OPERATOR)
    assert (await client.post("/login", data={"token": secret}, allow_redirects=False)).status == 303
    return client


async def in_force(store) -> list[str]:
    async with store.read() as view:
        return [pause.detail for pause in await view.approvals.active()]


async def paused(store, *pauses: tuple[str, str, str], lift: bool = True) -> None:
    """Exactly these (reason, subject, detail) are in force; not ``lift``: beside those that are."""
    async with store.begin(1_000) as unit:
        for there in await unit.approvals.active() if lift else ():
            await unit.approvals.resume(there.id, "nobody")
        for one in pauses:
            await unit.approvals.pause(*one)


async def test_what_a_pause_stops_is_named_and_all_the_rest_can_be_stopped_too(on_watch, full):
    model = hexed(MODELS[0])
    await paused(full, ("correlated", model, "two providers accused"))
    overview, operations = await text_of(on_watch, "/"), await text_of(on_watch, "/operations")
    for text in (overview, operations):
        assert f'<a class="id" href="/models/{model}"' in text
        assert "All filing" not in text
    assert "Filing on model" in overview
    assert "Pause all filing" in operations, "the other models' filings go on"
    data = {**dict(hidden(operations, "/pause")), "reason": "odd"}
    assert (await on_watch.post("/pause", data=data, allow_redirects=False)).status == 303
    overview, operations = await text_of(on_watch, "/"), await text_of(on_watch, "/operations")
    assert "All filing is paused" in overview
    assert "Filing on model" in overview
    assert "Pause all filing" not in operations
    # each scope has a form of its own
    await paused(full, ("person", "filing", "odd"), ("correlated", model, "two providers accused"))
    data = {**dict(hidden(await text_of(on_watch, "/operations"))), "note": "it was nothing"}
    assert data["model"] == "filing"
    assert (await on_watch.post("/resume", data=data, allow_redirects=False)).status == 303
    assert await in_force(full) == ["two providers accused"]


@pytest.mark.parametrize("subject", [hexed(MODELS[0]), hexed(MODELS[1]), "filing"])
async def test_nobody_lifts_a_pause_that_was_not_shown(on_watch, full, subject):
    await paused(full, ("correlated", hexed(MODELS[0]), "two providers accused"))
    form = {**dict(hidden(await text_of(on_watch, "/operations"))), "note": "seen"}
    await paused(full, ("lost", subject, "the bond is gone"), lift=False)
    answer = await on_watch.post("/resume", data=form, allow_redirects=False)
    assert answer.status == 409
    text = await answer.text()
    assert "a pause that was not shown" in text
    assert "the bond is gone" in text
    assert ("all filing" if subject == "filing" else subject) in text
    assert await in_force(full) == ["two providers accused", "the bond is gone"]
    again = {**dict(hidden(await text_of(on_watch, "/operations"))), "model": form["model"], "note": "seen"}
    assert (await on_watch.post("/resume", data=again, allow_redirects=False)).status == 303
    left = {hexed(MODELS[0]): []}.get(subject, ["the bond is gone"])
    assert await in_force(full) == left
    assert (await on_watch.post("/resume", data=form, allow_redirects=False)).status == (409 if left else 404)


async def test_a_form_names_pauses_as_it_was_given_them(on_watch):
    form = dict(hidden(await text_of(on_watch, "/operations")))
    for wrong in ("", "x", "1,", "-1", "1 2", "9" * 500):
        assert (await on_watch.post("/resume", data={**form, "ids": wrong, "note": "seen"})).status == 400, wrong


async def test_nobody_decides_without_a_token(browse):
    client = await browse()
    path = f"/approvals/{hexed(h('commitment', 2))}/approve"
    for where in (path, "/pause", "/resume"):
        assert (await client.post(where, data={"note": "x"})).status == 403
    assert "Log in" in await text_of(client, "/approvals")


def test_lengths_of_time_and_amounts_are_said_for_people():
    assert [span(s) for s in (0, 0.25, 59, 60, 3_504, 93_600, 172_800, -75)] == [
        "0 s", "250 ms", "59 s", "1 min", "58 min 24 s", "1 d 2 h", "2 d", "−1 min 15 s",
    ]  # fmt: skip
    assert [ether(w) for w in (0, 5 * 10**17, 10**9, 1, None)] == ["0", "0.5", "0.000000001", "0", ""]
    assert facts({"a": 1, "b": None, "c": {"d": ["0x" + "ab" * 32]}, "e": True}) == "a 1, c (d [0xababababab…]), e True"


async def test_bytes_that_are_no_text_are_refused_and_break_nothing(browse, tokens):
    tokens.add("ann", Scope.OPERATOR)
    client = await browse()
    port = client.port

    async def raw(*lines: bytes) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\r\n".join(lines))
        status = int((await reader.readline()).split()[1])
        writer.close()
        await writer.wait_closed()
        return status

    host = b"Host: 127.0.0.1"
    assert await raw(b"GET /api/v1/overview HTTP/1.1", host, b"Authorization: Bearer \xff\xfe", b"", b"") == 401
    assert await raw(b"GET / HTTP/1.1", host, b"Cookie: challenger_session=\xff\xfe", b"", b"") in (303, 400)
    form = b"Content-Type: application/x-www-form-urlencoded"
    for kind, body in (
        (form, b"\xff\xfe=\xff"),
        (form + b"; charset=nonsense", b"token=x"),
        (b"Content-Type: multipart/form-data", b"rubbish"),
        (b"Content-Type: multipart/form-data; boundary=x", b"rubbish"),
    ):
        length = b"Content-Length: %d" % len(body)
        assert await raw(b"POST /login HTTP/1.1", host, kind, length, b"", body) in (400, 401), (kind, body)


async def test_a_stray_file_among_the_bundles_is_no_matter(browse, tmp_path):
    made = settings_of(tmp_path)
    folder = tmp_path / "bundles"
    folder.mkdir()
    (folder / f"evidence-{hexed(h('commitment', 2))}-copy.json").write_text("{}")
    client = await browse(replace(made, store=replace(made.store, evidence=folder)))
    assert "no bundle is kept here" in await text_of(client, THINGS[0])
