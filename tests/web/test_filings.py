"""Mode confirm through the API: a person approves one filing and refuses another, and the watcher does just that."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.served import _answered
from challenger.domain import Mode, State
from challenger.settings import without_key
from challenger.sim.scoreboard import Truth
from challenger.web.app import make_app
from challenger.web.table import Scope
from challenger.web.tokens import Tokens
from tests.integration.test_watcher import scene
from tests.web.conftest import bearer

ROOT = "/api/v1"


@asynccontextmanager
async def reachable(devnet: EmbeddedDevnet) -> AsyncIterator[str]:
    """The embedded chain's URL on loopback."""

    async def answer(request: web.Request) -> web.Response:
        body = await request.read()
        told = await devnet.run(lambda methods: _answered(methods, body))
        return web.Response(body=told, content_type="application/json")

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def test_a_person_decides_through_the_api(tmp_path: Path) -> None:
    tokens = Tokens(tmp_path / "tokens.json")
    operator = bearer(tokens, "ann", Scope.OPERATOR)
    async with (
        scene(tmp_path, seed=3) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
        reachable(s.devnet) as url,
    ):
        await s.world.play()
        await s.until_quiet(app)
        settings = without_key(s.settings)
        settings = replace(
            settings,
            chain=replace(settings.chain, rpc=(url,)),
            web=replace(settings.web, tokens=tokens.path, rate=100_000),
        )
        async with TestClient(TestServer(make_app(app.store, settings))) as client:

            async def word(filing: dict[str, Any], what: str, **told: str) -> Any:
                path = f"{ROOT}/filings/{filing['commitment']}/{what}"
                return await client.post(path, json=told, headers=operator)

            waiting = (await (await client.get(f"{ROOT}/filings", headers=operator)).json())["items"]
            wrong = {"0x" + one.hex() for one in s.jobs(Truth.WRONG)}
            assert {row["commitment"] for row in waiting if row["action"] == "challenge"} == wrong
            yes, no = [row for row in waiting if row["action"] == "challenge"][:2]
            assert int(yes["bond"]) > 0
            assert "a person must decide" in yes["decision"]
            other = await word(yes, "approve", key=no["key"])
            assert other.status == 409
            assert (await (await word(yes, "approve", key=yes["key"], note="seen")).json())["decision"] == "approved"
            refused = await (await word(no, "refuse", note="not sure")).json()
            assert refused["decision"] == "refused by token ann: not sure"
            await s.until_quiet(app)
            assert await s.accused() == Counter({bytes.fromhex(yes["commitment"][2:]): 1})
            gone = await word(yes, "approve")
            assert gone.status == 404
            assert "nothing is asked" in await gone.text()
        async with app.store.read() as view:
            kept = await view.work.item(bytes.fromhex(no["commitment"][2:]))  # type: ignore[arg-type]
        assert kept is not None
        assert (kept.work.state, kept.work.detail) == (State.CONFIRMED, "approval: refused by token ann: not sure")
