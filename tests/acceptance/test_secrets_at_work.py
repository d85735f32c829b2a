"""A watcher that signs, files, fails to send and alerts, and the API over its record: whatever it writes, says or serves holds
neither its key, nor the passphrase, nor the secrets in its URLs."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from eth_account import Account

from challenger.app import App, opened
from challenger.chain.signers import from_key
from challenger.settings import Settings, without_key
from challenger.sim.files import KEY as KEY_FILE
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.sim.world import WATCHER
from challenger.store import Store
from challenger.telemetry.logs import LOGGER, Json, KeyValue
from challenger.telemetry.metrics import Prometheus
from challenger.web.api.routes import TABLE
from challenger.web.app import make_app
from challenger.web.keys import FEED
from challenger.web.table import ROOT, Route, Scope
from challenger.web.tokens import Tokens
from tests.acceptance.traces import forms, private, traces
from tests.integration.test_watcher import Scene, scene
from tests.web.conftest import QUICK, bearer

PASSPHRASE = "unmistakable passphrase 4713"
TOKEN = "unmistakable-token-4714"
BROKE = "insufficient funds for gas * price + value"


class Outside:
    """The embedded chain at URLs that hold a secret, and a webhook beside it. ``refusals``: sends that it still refuses;
    ``down``: it answers nothing any more; ``posted``: what came for the webhook, which takes nothing."""

    def __init__(self, scene: Scene) -> None:
        self._provider = scene.devnet.provider
        self.refusals = 0
        self.down = False
        self.posted: list[bytes] = []

    async def node(self, request: web.Request) -> web.Response:
        sign = f"{request.path} {request.query_string} {request.headers.get('Authorization')}"
        assert TOKEN in sign or base64.b64encode(f"me:{TOKEN}".encode()).decode() in sign, "it would not let us in"
        if self.down:
            return web.Response(status=502, text=f"no upstream for {sign}")
        told = json.loads(await request.read())
        answers = [await self._answer(one) for one in (told if isinstance(told, list) else [told])]
        return web.json_response(answers if isinstance(told, list) else answers[0])

    async def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["method"] == "eth_sendRawTransaction" and self.refusals:
            self.refusals -= 1
            return {"id": asked["id"], "error": {"code": -32000, "message": BROKE}}
        return dict(await self._provider.make_request(asked["method"], asked["params"])) | {"id": asked["id"]}

    async def hook(self, request: web.Request) -> web.Response:
        assert TOKEN in request.path
        self.posted.append(await request.read())
        return web.Response(status=500, text=f"no such hook: {request.path}")

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its address, without scheme."""
        app = web.Application()
        app.router.add_post("/hook/{rest:.*}", self.hook)
        app.router.add_post("/{rest:.*}", self.node)
        server = TestServer(app)
        await server.start_server(access_log=None)  # its own log is the outside's
        try:
            yield f"127.0.0.1:{server.port}"
        finally:
            await server.close()


@contextmanager
def everything_said() -> Iterator[io.StringIO]:
    """Every line of every logger, libraries' as well, in each form that it may be logged in, with tracebacks."""
    said, root = io.StringIO(), logging.getLogger()

    levels = {logger: logger.level for logger in (root, LOGGER)}
    wanted = [(LOGGER, KeyValue()), (LOGGER, Json()), (LOGGER, logging.Formatter()), (root, logging.Formatter())]
    added = []
    for logger, form in wanted:
        handler = logging.StreamHandler(said)
        handler.setFormatter(form)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        added.append((logger, handler))
    try:
        yield said
    finally:
        for logger, handler in added:
            logger.removeHandler(handler)
        for logger, level in levels.items():
            logger.setLevel(level)


def settings_of(s: Scene, secrets: Path, where: str) -> Settings:
    """The scene's, with a keystore, and a secret in every URL that takes one."""
    key = s.devnet.accounts[WATCHER].key
    keystore = private(secrets / "keystore.json", json.dumps(Account.encrypt(key, PASSPHRASE, "pbkdf2", 2)))
    passphrase = private(secrets / "passphrase", PASSPHRASE)
    (s.folder.path / KEY_FILE).unlink()
    rpc = (f"http://{where}/v3/{TOKEN}", f"http://me:{TOKEN}@{where}/", f"http://{where}/?key={TOKEN}")
    made = s.settings
    return replace(
        made,
        chain=replace(made.chain, rpc=rpc),
        signer=replace(made.signer, key_file=None, keystore=keystore, passphrase_file=passphrase),
        filing=replace(made.filing, correlated_providers=100),
        telemetry=replace(made.telemetry, metrics="127.0.0.1:0", alert_webhook=f"http://{where}/hook/{TOKEN}"),
        web=replace(made.web, tokens=secrets / "tokens.json", rate=1_000_000),
    )


def files(folder: Path) -> dict[str, bytes]:
    """What lies there now, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def identity(row: dict[str, Any]) -> str:
    """Of a listed row: its first field, or the first one of that."""
    value: Any = row
    while isinstance(value, dict):
        value = next(iter(value.values()))
    return str(value)


async def everything_served(
    store: Store, settings: Settings, operator: dict[str, str]
) -> dict[str, list[tuple[int, bytes]]]:
    """Status and answer, headers and all, of each GET route of the table, asked by an operator: about everything that is
    listed, and about what is not there."""
    app = make_app(store, without_key(settings), pace=QUICK)
    told: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    known: dict[str, list[str]] = {}
    async with TestClient(TestServer(app)) as client:

        async def ask(route: Route, path: str) -> bytes:
            async with client.get(path, headers=operator) as answer:
                body = await answer.read()
            told[route.name].append((answer.status, f"{answer.headers}".encode() + body))
            return body

        routes = [route for route in TABLE if route.method == "GET" and route.name != "get_events"]
        for route in (one for one in routes if "{" not in one.path):
            body = await ask(route, route.full)
            if route.name.startswith("list_"):
                known[route.path.strip("/")] = [identity(row) for row in json.loads(body).get("items", ())]
        for route in (one for one in routes if "{" in one.path):
            (name,) = re.findall(r"\{(\w+)\}", route.path)
            for value in [*known[name + "s"], "999", "0x" + "99" * 32]:
                await ask(route, route.full.replace("{" + name + "}", value))
        tip, line = await app[FEED].tip(), b""
        async with client.get(f"{ROOT}/events?after=0", headers=operator) as answer:
            while line != b"id: %d\n" % tip:
                line = await answer.content.readline()
                told["get_events"].append((answer.status, line))
            told["get_events"].append((answer.status, await answer.content.readline()))
    return told


class Heard(logging.Handler):
    """Sets ``event`` at the first line about ``action``."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action
        self.event = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "action", "") == self._action:
            self.event.set()


async def troubled(app: App) -> None:
    """The service with all its loops, until it has said that something is wrong."""
    heard, stop = Heard("trouble"), asyncio.Event()
    LOGGER.addHandler(heard)
    running = asyncio.create_task(app.run(stop))
    try:
        async with asyncio.timeout(20):
            await heard.event.wait()
    finally:
        LOGGER.removeHandler(heard)
        stop.set()
        await running


@pytest.mark.slow
async def test_nothing_that_a_watcher_at_work_leaves_behind_shows_a_secret(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    async with AsyncExitStack() as stack:
        said = stack.enter_context(everything_said())
        s = await stack.enter_async_context(scene(tmp_path, seed=3, tasks=6, cheats=(Kind.NUDGE, Kind.WITHHOLD)))
        outside = Outside(s)
        where = await stack.enter_async_context(outside.served())
        settings = settings_of(s, secrets, where)
        async with opened(settings, files=ToyFiles(), workers=s.workers) as app:
            await s.until_quiet(app)
            await s.world.play()
            outside.refusals = 6
            await s.until_quiet(app)
            (job,) = s.jobs(Truth.WRONG)
            assert await s.accused() == Counter([job])
            assert await app.keep_evidence()
            await app.publish((await s.devnet.rpc.block("latest")).time)
            operator = bearer(Tokens(settings.web.tokens), "ann", Scope.OPERATOR)
            answers = await everything_served(app.store, settings, operator)
            outside.down = True
            await troubled(app)
            answers["list_filings"] += (await everything_served(app.store, settings, operator))["list_filings"]
            assert isinstance(app.telemetry.metrics, Prometheus)
            page = app.telemetry.metrics.page()
            left = files(s.folder.path)
        left |= {f"{path} at the end": content for path, content in files(s.folder.path).items()}
    served = b"\n".join(body for told in answers.values() for _, body in told)

    # they did all that is looked for traces of
    log = said.getvalue()
    assert outside.refusals == 0
    assert all(word in log for word in (BROKE, "action=transaction", "action=trouble", "action=alert-not-delivered"))
    assert {path.rpartition(".")[2] for path in left} >= {"sqlite", "sqlite-wal", "jsonl", "json"}
    assert b"evidence" in b"".join(path.encode() for path in left)
    assert all(200 in dict(told) for told in answers.values()), "each route was asked about something that is there"
    assert 503 in dict(answers["list_filings"])
    key = s.devnet.accounts[WATCHER].key
    account = from_key(key).address
    everything = {"log": log.encode(), "metrics": page, "served": served, "posted": b"\n".join(outside.posted), **left}
    for name in ("log", "served"):
        assert traces([job.hex().encode(), account.encode()], everything[name]) != [], (
            f"what is written is found in {name}"
        )

    needles = [*forms(key), *forms(key[:12]), *forms(from_key(key).derive_secret(b"salt")), *forms(PASSPHRASE.encode())]
    needles += forms(TOKEN.encode())
    assert {name: found for name, text in everything.items() if (found := traces(needles, text))} == {}
