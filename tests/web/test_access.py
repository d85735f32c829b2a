"""Who may do what: tokens, scopes, sessions, hosts, limits; and that nothing secret is ever served."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from challenger.domain import UnixTime
from challenger.errors import ConfigError, NotInRecord
from challenger.settings import build
from challenger.store import Store
from challenger.web.app import make_app
from challenger.web.auth import COOKIE, Access, check_csrf
from challenger.web.keys import ACCESS, WHO
from challenger.web.limits import Limits
from challenger.web.problems import Problem
from challenger.web.serve import address_of, served
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.store.chains import h
from tests.web.conftest import Open, bearer, settings_of

ROOT = "/api/v1"


async def problem(answer: Any) -> tuple[int, str]:
    told = await answer.json(content_type="application/problem+json")
    assert told["status"] == answer.status
    return answer.status, told["detail"]


async def test_a_token_is_kept_as_its_hash_alone(tokens: Tokens) -> None:
    text = tokens.add("watcher", Scope.OPERATOR)
    assert len(text) == len("chlg_") + 43
    held = tokens.path.read_text()
    assert text not in held
    assert text.removeprefix("chlg_") not in held
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    found = Tokens(tokens.path).of(text)
    assert found is not None
    assert (found.name, found.scope) == ("watcher", Scope.OPERATOR)
    assert tokens.of(text + "x") is None
    with pytest.raises(ConfigError, match="revoke it first"):
        tokens.add("watcher", Scope.READ)
    with pytest.raises(ConfigError, match="1 to 40 letters"):
        tokens.add("a b", Scope.READ)
    with pytest.raises(NotInRecord, match="no token of this name"):
        tokens.revoke("nobody")
    tokens.revoke("watcher")
    assert tokens.of(text) is None


async def test_a_tokens_file_that_others_read_or_that_is_rubbish_is_refused(tokens: Tokens) -> None:
    tokens.add("one", Scope.READ)
    tokens.path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        tokens.all()
    tokens.path.write_text('{"tokens": [{"name": 1}]}')
    tokens.path.chmod(0o600)
    with pytest.raises(ConfigError, match="no file of tokens"):
        tokens.all()


async def test_without_tokens_reading_is_open_and_acting_says_how(client: TestClient) -> None:
    assert (await client.get(f"{ROOT}/overview")).status == 200
    status, detail = await problem(await client.post(f"{ROOT}/pause", json={}))
    assert status == 403
    assert "challenger serve token add NAME --scope operator" in detail


async def test_with_tokens_each_request_needs_one(client: TestClient, tokens: Tokens, full: Store) -> None:
    reader, operator = bearer(tokens, "reader"), bearer(tokens, "boss", Scope.OPERATOR)
    answer = await client.get(f"{ROOT}/overview")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert (await problem(answer))[0] == 401
    assert (await problem(await client.get(f"{ROOT}/overview", headers={"Authorization": "Bearer no"})))[0] == 401
    assert (await problem(await client.get(f"{ROOT}/overview", headers={"Authorization": "Basic eDp5"})))[0] == 401
    assert (await client.get(f"{ROOT}/overview", headers=reader)).status == 200
    status, detail = await problem(await client.post(f"{ROOT}/pause", json={}, headers=reader))
    assert (status, "the token reader may read only" in detail) == (403, True)
    async with full.read() as view:
        before = len(await view.approvals.all())
    paused = await client.post(f"{ROOT}/pause", json={"reason": "a look"}, headers=operator)
    assert (await paused.json())["already"] is True  # the fixture's
    async with full.read() as view:
        assert len(await view.approvals.all()) == before
    status, detail = await problem(await client.post(f"{ROOT}/resume", json={"note": "seen"}, headers=operator))
    assert (status, "ids" in detail) == (400, True), "what was not looked at is not lifted"
    (shown,) = (await (await client.get(f"{ROOT}/overview", headers=operator)).json())["pauses"]
    seen = {"ids": str(shown["id"]), "note": "seen"}
    async with full.begin(UnixTime(1_000)) as unit:
        other = await unit.approvals.pause("lost", "0x" + "ab" * 32, "the bond is gone")
    status, detail = await problem(await client.post(f"{ROOT}/resume", json=seen, headers=operator))
    assert (status, "lost, model 0xabab" in detail) == (409, True)
    both = {**seen, "ids": f"{shown['id']},{other.id}"}
    lifted = await client.post(f"{ROOT}/resume", json={**both, "model": other.subject}, headers=operator)
    assert await lifted.json() == {"lifted": 1}
    lifted = await client.post(f"{ROOT}/resume", json=both, headers=operator)
    assert await lifted.json() == {"lifted": 1}
    async with full.read() as view:
        pause, _ = await view.approvals.all()
    assert (pause.resumed_by, pause.note) == ("token boss", "seen")
    assert (await problem(await client.post(f"{ROOT}/resume", json=both, headers=operator)))[0] == 404
    again = await (await client.post(f"{ROOT}/pause", json={"reason": "a look"}, headers=operator)).json()
    assert again == {"paused": "by token boss: a look", "already": False}
    tokens.revoke("reader")
    assert (await client.get(f"{ROOT}/overview", headers=reader)).status == 401


async def test_bodies_are_json_of_a_bounded_size(client: TestClient, tokens: Tokens) -> None:
    operator = bearer(tokens, "boss", Scope.OPERATOR)

    async def post(**how: Any) -> tuple[int, str]:
        return await problem(await client.post(f"{ROOT}/pause", **{"headers": operator, **how}))

    assert (await post(data="reason=x"))[0] == 415
    assert (await post(data={"reason": "x"}))[0] == 415
    assert (await post(json=[]))[0] == 400
    assert (await post(json={"colour": "red"})) == (400, "unknown member; known are: reason")
    assert (await post(json={"reason": 5}))[0] == 400
    assert (await post(json={"reason": "x" * 2_001}))[0] == 400
    assert (await post(json={"reason": "\x07"}))[0] == 400
    rubbish = {**operator, "Content-Type": "application/json"}
    assert (await post(data=b"{", headers=rubbish))[0] == 400
    assert (await post(data=b"\xff", headers=rubbish))[0] == 400
    assert (await post(json={"reason": "x" * 20_000}))[0] == 413

    async def slowly() -> Any:
        for _ in range(40):
            yield b" " * 1_000

    assert (await post(data=slowly(), headers=rubbish))[0] == 413


async def test_methods_media_and_lengths(client: TestClient) -> None:
    answer = await client.delete(f"{ROOT}/overview")
    assert answer.headers["Allow"] == "GET, HEAD"
    assert (await problem(answer))[0] == 405
    assert (await problem(await client.get(f"{ROOT}/overview", headers={"Accept": "text/html"})))[0] == 406
    assert (await problem(await client.get(f"{ROOT}/overview", headers={"Accept": "application/json;q=0"})))[0] == 406
    for fine in ("*/*", "application/*", "text/html, application/json;q=0.9"):
        assert (await client.get(f"{ROOT}/overview", headers={"Accept": fine})).status == 200
    assert (await problem(await client.get(f"{ROOT}/journal?subject=" + "x" * 4_100)))[0] == 414
    head = await client.head(f"{ROOT}/overview")
    assert (head.status, await head.read()) == (200, b"")


async def test_another_name_is_not_served(served: Open, tokens: Tokens) -> None:
    plain = await served()
    rebound = await plain.get(f"{ROOT}/overview", headers={"Host": "evil.example"})
    assert (await problem(rebound))[0] == 403
    assert (await plain.get(f"{ROOT}/overview", headers={"Host": "localhost:1"})).status == 200
    assert (await plain.get(f"{ROOT}/overview", headers={"Host": "[::1]:1"})).status == 200
    assert (await plain.get(f"{ROOT}/overview", headers={"Host": "["})).status == 403
    named = await served(hosts=("Watch.Example",))
    assert (await problem(await named.get(f"{ROOT}/overview", headers={"Host": "watch.example"})))[0] == 401
    mine = {"Host": "watch.example:443", **bearer(tokens)}
    assert (await named.get(f"{ROOT}/overview", headers=mine)).status == 200
    operator = bearer(tokens, "boss", Scope.OPERATOR)
    for origin in ("https://evil.example", "null"):
        forged = await named.post(f"{ROOT}/pause", json={}, headers={**operator, "Origin": origin})
        assert (await problem(forged))[0] == 403


async def test_every_answer_has_its_headers(client: TestClient) -> None:
    for path in (f"{ROOT}/overview", f"{ROOT}/nothing", f"{ROOT}/commitments?limit=0", "/nothing"):
        headers = (await client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert headers["Cache-Control"] in ("no-store", "private, no-cache")
        assert "aiohttp" not in headers.get("Server", "")


async def test_a_client_that_asks_too_much_waits(full: Store, tmp_path: Path) -> None:
    wanted = settings_of(tmp_path)
    app = make_app(full, replace(wanted, web=replace(wanted.web, rate=12)))
    async with TestClient(TestServer(app)) as client:
        statuses = [(await client.get(f"{ROOT}/openapi.json")).status for _ in range(3)]
        assert statuses == [200] * 3
        answer = await client.get(f"{ROOT}/openapi.json")
        assert (await problem(answer))[0] == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 5


def test_the_bucket_fills_again_and_forgets_the_idle() -> None:
    now = [0.0]
    limits = Limits(60, lambda: now[0])
    for _ in range(15):
        limits.take("a")
    with pytest.raises(Problem, match="wait 1 s"):
        limits.take("a")
    limits.take("b")
    now[0] = 2.0
    limits.take("a")
    limits.take("a")
    with pytest.raises(Problem):
        limits.take("a")


async def test_guessing_tokens_is_slowed(full: Store, tmp_path: Path, tokens: Tokens) -> None:
    tokens.add("one", Scope.READ)
    wanted = settings_of(tmp_path)
    app = make_app(full, replace(wanted, web=replace(wanted.web, rate=120)))
    async with TestClient(TestServer(app)) as client:
        statuses = []
        for n in range(6):
            answer = await client.get(f"{ROOT}/overview", headers={"Authorization": f"Bearer {n}"})
            statuses.append(answer.status)
    assert statuses[:3] == [401] * 3
    assert statuses[-1] == 429


def pages(app: web.Application) -> None:
    """What a dashboard's login does."""

    async def login(request: web.Request) -> web.StreamResponse:
        response = web.Response()
        who = request.app[ACCESS].login(response, str((await request.post())["token"]))
        response.text = who.csrf
        return response

    async def logout(request: web.Request) -> web.StreamResponse:
        who = request[WHO]
        assert who is not None
        check_csrf(who, str((await request.post()).get("csrf", "")))
        response = web.Response()
        request.app[ACCESS].logout(request, response)
        return response

    app.router.add_post("/login", login)
    app.router.add_post("/logout", logout)


async def test_a_session_acts_only_with_its_csrf_token(full: Store, tmp_path: Path, tokens: Tokens) -> None:
    text = tokens.add("boss", Scope.OPERATOR)
    async with TestClient(TestServer(make_app(full, settings_of(tmp_path), [pages]))) as client:
        assert (await client.post("/login", data={"token": "no"})).status == 401
        entered = await client.post("/login", data={"token": text})
        cookie = entered.cookies[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        csrf = await entered.text()
        await client.get(f"{ROOT}/overview")
        assert (await client.get(f"{ROOT}/overview")).status == 200
        assert (await problem(await client.post(f"{ROOT}/pause", json={})))[0] == 403
        wrong = await client.post(f"{ROOT}/pause", json={}, headers={"X-CSRF-Token": "x" * 43})
        assert (await problem(wrong))[0] == 403
        right = await client.post(f"{ROOT}/pause", json={}, headers={"X-CSRF-Token": csrf})
        assert right.status == 200
        assert (await client.post("/logout", data={"csrf": "no"})).status == 403
        assert (await client.post("/logout", data={"csrf": csrf})).status == 200
        client.session.cookie_jar.update_cookies({COOKIE: cookie.value})
        assert (await client.get(f"{ROOT}/overview")).status == 401


async def test_a_session_ends_with_its_token_and_with_its_time(tokens: Tokens) -> None:
    now = [0.0]
    access = Access(tokens, open_reading=False, seconds=60, secure=True, clock=lambda: now[0])
    text = tokens.add("boss", Scope.OPERATOR)

    def request(response: web.Response) -> Any:
        from aiohttp.test_utils import make_mocked_request

        return make_mocked_request("GET", "/", headers={"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}"})

    response = web.Response()
    access.login(response, text)
    assert response.cookies[COOKIE]["secure"] is True
    found = access.who(request(response))
    assert found is not None
    assert found.scope is Scope.OPERATOR
    now[0] = 61.0
    assert access.who(request(response)) is None
    access.login(response, text)
    tokens.revoke("boss")
    assert access.who(request(response)) is None


async def test_where_it_may_listen(tmp_path: Path, tokens: Tokens, full: Store) -> None:
    def at(listen: str, **web: Any) -> Any:
        wanted = settings_of(tmp_path, **web)
        return replace(wanted, web=replace(wanted.web, listen=listen))

    assert address_of(at("127.0.0.1:8080")) == ("127.0.0.1", 8080)
    assert address_of(at("[::1]:0")) == ("::1", 0)
    for wrong in ("8080", "host:80", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:", "127.0.0.1:²"):
        with pytest.raises(ConfigError, match="such as 127"):
            address_of(at(wrong))
    with pytest.raises(ConfigError, match="public = true"):
        address_of(at("0.0.0.0:80"))
    with pytest.raises(ConfigError, match="no token"):
        address_of(at("0.0.0.0:80", public=True))
    with pytest.raises(ConfigError, match="no token"):
        address_of(at("127.0.0.1:80", hosts=("a",)))
    tokens.add("one", Scope.READ)
    with pytest.raises(ConfigError, match="needs hosts"):
        address_of(at("0.0.0.0:80", public=True))
    assert address_of(at("0.0.0.0:80", public=True, hosts=("watch.example",))) == ("0.0.0.0", 80)
    wanted = at("127.0.0.1:0")
    async with served(make_app(full, wanted), wanted) as url:
        taken = at(url.removeprefix("http://"))
        with pytest.raises(ConfigError, match="cannot be bound"):
            async with served(make_app(full, taken), taken):
                pass


async def test_nothing_secret_is_served(full: Store, tmp_path: Path, tokens: Tokens) -> None:
    """Everything that can be read is, with secrets planted wherever one may lie."""
    from challenger.web.api.routes import TABLE
    from tests.web.test_api import concrete

    base = settings_of(tmp_path)
    raw = {
        "chain": {
            "rpc": ["https://user:hushhush@node.example/v3/apikeyapikey", "https://two.example/?key=apikeyapikey"]
        }
    }
    loaded = build(raw, {}, "-")
    settings = replace(base, chain=loaded.chain)
    text = tokens.add("boss", Scope.OPERATOR)
    signed = b"raw bytes of a signed transaction"
    async with full.begin(1) as unit:
        (row,) = await unit.transactions.in_states(list(type((await unit.transactions.get(1)).state)))

        class Made:
            nonce, gas, max_fee, tip, hash, raw, signed_at = 0, 21_000, 9, 1, h("signed"), signed, 5

        await unit.transactions.signed(row.id, Made())
    secrets = [
        "hushhush",
        "apikeyapikey",
        signed.hex(),
        (b"t" * 32).hex(),  # of epoch 2, which is not revealed
        text,
        tokens.all()[0].digest,
    ]
    seen = 0
    async with TestClient(TestServer(make_app(full, settings))) as client:
        for route in TABLE:
            if route.method == "GET" and route.name not in ("get_events", "get_evidence", "list_filings"):
                for path in (concrete(route.full), concrete(route.full).replace("/1", "/2")):
                    answer = await client.get(path, headers={"Authorization": f"Bearer {text}"})
                    body = await answer.text()
                    assert [secret for secret in secrets if secret in body] == [], path
                    seen += (b"s" * 32).hex() in body
    assert seen, "a secret that was revealed is shown"


async def test_filings_ask_the_chain_and_say_so_when_it_is_away(
    full: Store, tmp_path: Path, tokens: Tokens, unused_tcp_port: int
) -> None:
    raw = {
        "chain": {"rpc": [f"http://me:hush@127.0.0.1:{unused_tcp_port}/"], "chain_id": 5, "market": "0x" + "11" * 20}
    }
    settings = replace(settings_of(tmp_path), chain=build(raw, {}, "-").chain)
    operator = bearer(tokens, "boss", Scope.OPERATOR)
    async with TestClient(TestServer(make_app(full, settings))) as client:
        for answer in (
            await client.get(f"{ROOT}/filings", headers=operator),
            await client.post(f"{ROOT}/filings/0x{h('x').hex()}/approve", json={}, headers=operator),
        ):
            status, detail = await problem(answer)
            assert status == 503
            assert "hush" not in detail
        # no endpoint is needed to stop, nor to go on
        assert (await client.post(f"{ROOT}/pause", json={}, headers=operator)).status == 200
        assert (await client.post(f"{ROOT}/resume", json={"ids": "1"}, headers=operator)).status == 200


def test_the_command_makes_lists_and_revokes(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    from challenger.cli import main

    monkeypatch.chdir(tmp_path)
    os.environ.pop("CHALLENGER_WEB_TOKENS", None)
    assert main(["serve", "token", "list"]) == 0
    assert "No tokens" in capsys.readouterr().out
    assert main(["serve", "--json", "token", "add", "one", "--scope", "operator"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["token"].startswith("chlg_")
    assert main(["serve", "token", "list"]) == 0
    shown = capsys.readouterr().out
    assert "operator" in shown
    assert made["token"] not in shown
    assert main(["serve", "token", "add", "one"]) == 2
    assert main(["serve", "token", "add"]) == 2
    assert main(["serve", "token"]) == 2
    assert main(["serve", "token", "revoke", "two"]) == 2
    assert main(["serve", "token", "revoke", "one"]) == 0
    assert main(["serve"]) == 1
    assert "db upgrade" in capsys.readouterr().err
