"""`challenger check` against endpoints that keep no history, and contracts that are others: each row says what is wrong where."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from challenger.chain.devnet.embedded import EmbeddedDevnet
from tests.acceptance.test_check import place

#: What an endpoint says instead of ``answer`` when asked ``method`` with ``params``.
Change = Callable[[str, list[Any], dict[str, Any]], dict[str, Any]]
GONE = {"code": -32000, "message": "missing trie node 1f0e (path ) state 0x1f0e is not available"}


@asynccontextmanager
async def seen_through(devnet: EmbeddedDevnet, change: Change) -> AsyncIterator[str]:
    """The URL of one more endpoint of the same chain."""

    async def one(asked: dict[str, Any]) -> dict[str, Any]:
        method, params = asked["method"], asked["params"]
        return change(method, params, await devnet.provider.make_request(method, params)) | {"id": asked["id"]}

    async def answer(request: web.Request) -> web.Response:
        asked = await request.json()
        told = [await one(each) for each in asked] if isinstance(asked, list) else await one(asked)
        return web.Response(body=json.dumps(told), content_type="application/json")

    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


def keeps(newer_than: int, *, but: str) -> Change:
    """Answers ``but`` only about blocks after that one."""

    def change(method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
        if method != but:
            return answer
        which = (
            params[0]["toBlock"] if method == "eth_getLogs" else params[-2 if method == "eth_getBlockByNumber" else -1]
        )
        if which.startswith("0x") and int(which, 16) <= newer_than:
            return {"result": None} if method == "eth_getBlockByNumber" else {"error": GONE}
        return answer

    return change


@pytest.mark.parametrize(
    ("method", "what"),
    [
        ("eth_getBlockByNumber", "the block {start}"),
        ("eth_getLogs", "the logs of block {start}"),
        ("eth_getBalance", "the state of block {start}"),
    ],
)
async def test_an_endpoint_without_its_history_is_told_by_what_it_lacks(tmp_path, capsys, method, what):
    async with place(tmp_path) as p:
        start = p.where.start_block
        await p.served.devnet.mine(5)
        async with seen_through(p.served.devnet, keeps(start + 3, but=method)) as url:
            code, failed = await p.checked(capsys, rpc=f'["{url}"]')
            assert (code, list(failed)) == (1, ["history"])
            assert f"{what.format(start=start)} is not served: use an endpoint that keeps it" in failed["history"]
            assert "127.0.0.1" in failed["history"] or method == "eth_getBlockByNumber"


async def test_no_more_state_is_wanted_than_a_reorganisation_may_take_back(tmp_path, capsys, monkeypatch):
    async with place(tmp_path) as p:
        await p.served.devnet.mine(5)
        old = p.where.start_block + 3
        monkeypatch.setenv("CHALLENGER_CHAIN_LEDGER_DEPTH", "2")
        async with seen_through(p.served.devnet, keeps(old, but="eth_getBalance")) as url:
            assert await p.checked(capsys, rpc=f'["{url}"]') == (0, {})


async def test_another_contract_or_none_at_the_address(tmp_path, capsys):
    async with place(tmp_path) as p:
        for market, says in (
            (p.where.anchor, "its code is not InferenceMarket as this version knows it"),
            (p.served.devnet.accounts[3].address, "there is no contract"),
        ):
            p.where = replace(p.where, market=market)
            code, failed = await p.checked(capsys)
            assert (code, list(failed)) == (1, ["contract"])
            assert says in failed["contract"]
            assert market in failed["contract"]


@pytest.mark.parametrize(
    ("contract", "says"),
    [("market", "its code is not InferenceMarket"), ("adjudicator", "two endpoints show different code")],
)
async def test_one_endpoint_that_shows_other_code_is_named(tmp_path, capsys, contract, says):
    async with place(tmp_path) as p:
        address = getattr(p.where, contract)

        def altered(method: str, params: list[Any], answer: dict[str, Any]) -> dict[str, Any]:
            if method != "eth_getCode" or params[0] != address:
                return answer
            return answer | {"result": answer["result"][:-2] + "00"}

        async with seen_through(p.served.devnet, altered) as url:
            code, failed = await p.checked(capsys, rpc=f'["{p.served.url}", "{url}"]')
            assert (code, list(failed)) == (1, ["contract"])
            for word in (says, address, url):
                assert word in failed["contract"]
