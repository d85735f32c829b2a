"""The client against endpoints that err, stall, lie and talk nonsense: one clear error each, and no send twice."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain import wire
from challenger.chain.answers import parse_fee_history, parse_logs, parse_receipt, parse_sent_tx
from challenger.chain.endpoint import HttpProvider, connect, mask_url
from challenger.chain.refusals import refusal
from challenger.chain.rpc import Rpc
from challenger.domain import Address
from challenger.errors import (
    ChallengerError,
    ConfigError,
    EndpointError,
    NoAnswer,
    RangeTooLarge,
    RateLimited,
    Reverted,
    RpcError,
    UnknownBlock,
    WrongChain,
)

A = Address("0x" + "aa" * 20)
H = "0x" + "11" * 32
BLOCK = {"number": "0x5", "hash": H, "parentHash": "0x" + "22" * 32, "timestamp": "0x64"}
LOG = {
    "address": "0x" + "AA" * 20,
    "topics": [H],
    "data": "0x01",
    "blockNumber": "0x5",
    "blockHash": H,
    "logIndex": "0x0",
    "transactionHash": H,
    "removed": False,
}


class Scripted:
    """Answers from a list, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Any]] = []

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append((method, params))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def over(*answers: Any, **options: Any) -> tuple[Rpc, Scripted]:
    provider = Scripted(*answers)
    return Rpc(provider, **({"backoff": 0.0} | options)), provider


def error(code: int, message: str, **rest: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | rest}


# reads

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["0x", "0x5", H, A, "0x" + "ff" * 33, "0x-1", "0x1_0", " 0x1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*BLOCK, *LOG]), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
READS: list[Callable[[Rpc], Any]] = [
    lambda rpc: rpc.chain_id(),
    lambda rpc: rpc.block(5),
    lambda rpc: rpc.block(b"h" * 32),
    lambda rpc: rpc.blocks([5]),
    lambda rpc: rpc.logs(A, 0, 9),
    lambda rpc: rpc.call(A, b""),
    lambda rpc: rpc.estimate_gas(A, b"", sender=A),
    lambda rpc: rpc.code(A),
    lambda rpc: rpc.balance(A),
    lambda rpc: rpc.nonce(A, "pending"),
    lambda rpc: rpc.storage(A, 0),
    lambda rpc: rpc.gas_price(),
    lambda rpc: rpc.priority_fee(),
    lambda rpc: rpc.fee_history(3),
    lambda rpc: rpc.send_raw(b"raw"),
    lambda rpc: rpc.receipt(b"h" * 32),
    lambda rpc: rpc.transaction(b"h" * 32),
]


@given(st.sampled_from(READS), json_values | st.fixed_dictionaries({"result": json_values}))
def test_nonsense_is_one_line_about_the_endpoint(read: Callable[[Rpc], Any], answer: Any):
    async def run() -> None:
        rpc, _ = over(answer, name="https://node.example", attempts=1)
        try:
            await read(rpc)
        except ChallengerError as error:
            said = str(error)
        else:
            said = "https://node.example"
        assert "\n" not in said
        assert "https://node.example" in said

    asyncio.run(run())


@pytest.mark.parametrize(
    "value", ["0x", "1", "0xg", "0x 1", "0x1_0", "0x-1", "-0x1", "0x+1", "0x١", 5, None, True, "0x" + "f" * 65]
)
def test_what_is_no_quantity(value: Any):
    with pytest.raises(ValueError, match="quantity"):
        wire.quantity(value)


def test_quantities_are_bounded():
    assert wire.quantity("0x7fffffffffffffff") == 2**63 - 1
    assert wire.quantity("0x05") == 5
    with pytest.raises(ValueError, match="absurd"):
        wire.quantity("0x8000000000000000")
    assert wire.quantity("0x" + "f" * 64, wire.MAX_U256) == 2**256 - 1


@pytest.mark.parametrize("value", ["0x1", "0x 11", "11", "0xzz", None, "0x1 1", b"0x11"])
def test_what_is_no_data(value: Any):
    with pytest.raises(ValueError, match="hex data"):
        wire.blob(value)


@pytest.mark.parametrize(
    "value", ["0x" + "1" * 63, "1" * 66, "0x" + "1 " * 32, "0x" + "g" * 64, "0x" + " " * 64, None, b"h" * 66]
)
def test_what_is_no_hash(value: Any):
    with pytest.raises(ValueError, match="hash"):
        wire.hash32(value)


@given(json_values)
def test_parsers_raise_value_errors_only(answer: Any):
    for parse in (
        wire.block,
        parse_logs,
        parse_fee_history,
        lambda a: parse_receipt(b"h", a),
        lambda a: parse_sent_tx(b"h", a),
    ):
        try:
            parse(answer)
        except ValueError:
            pass


async def test_a_block_and_the_wrong_block():
    rpc, provider = over({"result": BLOCK})
    block = await rpc.block(5)
    assert (block.number, block.hash, block.parent, block.time) == (5, b"\x11" * 32, b"\x22" * 32, 100)
    assert await rpc.block("latest") == await rpc.block(block.hash) == block
    assert provider.asked[2] == ("eth_getBlockByHash", [H, False])
    for wrong in (4, b"\x33" * 32):
        with pytest.raises(EndpointError, match="another block"):
            await rpc.block(wrong)
    rpc, _ = over({"result": None}, name="n")
    with pytest.raises(UnknownBlock, match=r"9.*endpoint=n"):
        await rpc.block(9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"blockNumber": "0xa"}, "not asked for"),
        ({"address": "0x" + "bb" * 20}, "not asked for"),
        ({"removed": True}, "removed"),
        ({"topics": [H] * 5}, "topics"),
        ({"topics": ["0x11"]}, "hash"),
        ({"logIndex": None}, "quantity"),
        ({"blockNumber": H}, "absurd"),  # though it is a hash that was read before
        ({"blockHash": [H]}, "not of its form"),
        ({"address": {}}, "not of its form"),
    ],
)
async def test_logs_that_were_not_asked_for_are_refused(change: dict[str, Any], words: str):
    rpc, _ = over({"result": [LOG | change]}, attempts=1)
    with pytest.raises(EndpointError, match=words):
        await rpc.logs(A, 0, 9)


async def test_logs_come_in_chain_order_and_never_twice():
    second = LOG | {"logIndex": "0x1"}
    rpc, provider = over({"result": [second, LOG]})
    logs = await rpc.logs(Address(A.upper().replace("0X", "0x")), 0, 9, [b"t" * 32, None, [b"a" * 32, b"b" * 32]])
    assert [log.log_index for log in logs] == [0, 1]
    assert logs[0].address == A
    assert logs[0].at.block == 5
    query = provider.asked[0][1][0]
    assert query["address"] == [A]
    assert (query["fromBlock"], query["toBlock"]) == ("0x0", "0x9")
    assert query["topics"] == ["0x" + "74" * 32, None, ["0x" + "61" * 32, "0x" + "62" * 32]]
    rpc, _ = over({"result": [LOG, LOG]})
    with pytest.raises(EndpointError, match="twice"):
        await rpc.logs(A, 0, 9)


async def test_a_receipt_and_somebody_elses():
    receipt = {
        "transactionHash": H,
        "blockNumber": "0x5",
        "blockHash": H,
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "contractAddress": None,
        "logs": [LOG],
    }
    rpc, _ = over({"result": receipt})
    got = await rpc.receipt(b"\x11" * 32)
    assert got is not None
    assert (got.succeeded, got.gas_used, got.gas_price, len(got.logs), got.created) == (True, 21_000, 7, 1, None)
    with pytest.raises(EndpointError, match="is of transaction"):
        await rpc.receipt(b"\x12" * 32)
    rpc, _ = over({"result": {"blockHash": None}})
    assert await rpc.receipt(b"\x11" * 32) is None


async def test_calls_name_their_block():
    rpc, provider = over({"result": "0x01"})
    await rpc.call(A, b"d", 7, sender=A, value=3)
    await rpc.call(A, b"d", b"h" * 32)
    tx = {"to": A, "data": "0x64", "value": "0x3", "from": A}
    assert provider.asked[0] == ("eth_call", [tx, "0x7"])
    assert provider.asked[1][1][1] == {"blockHash": "0x" + "68" * 32}


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('[]{}"\\\\a', max_size=4), inner, max_size=3),
)


@given(any_json, st.booleans())
def test_json_is_read_as_json(value: Any, escape: bool):
    assert wire.parse_json(json.dumps(value, ensure_ascii=escape).encode()) == value


@pytest.mark.parametrize("opener", ["[", '{"a":', '["]]]]",', '{"}": "}", "b":', "[[],"])
def test_json_nested_too_deeply_is_refused_before_it_is_parsed(opener: str):
    closer = {"[": "]", "{": "}"}[opener[0]]
    for depth, fits in [(60, True), (300_000, False)]:
        text = (opener * depth + "1" + closer * depth).encode()
        if fits:
            assert wire.parse_json(text) == json.loads(text)
        else:
            with pytest.raises(ValueError, match="nested too deeply"):
                wire.parse_json(text)


async def test_what_is_nested_deeper_than_any_answer_is_no_recursion_error_later():
    """Python's own limit let the parser through, and stopped whoever showed what it had made."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)  # py-evm, which other tests load, raises it
    try:
        deep = '{"error": {"message": ' + "[" * 700 + "]" * 700 + "}}"
        async with http(lambda _request, _body: web.Response(text=deep)) as url, connect(url, attempts=1) as rpc:
            with pytest.raises(EndpointError, match="not JSON"):
                await rpc.chain_id()
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("30", 30.0), ("0", 0.0), ("9999", 3600.0), ("nan", None), ("inf", None), ("-5", None), ("soon", None)],
)
async def test_a_rest_that_is_no_time_is_no_hint(told: str, seconds: float | None):
    answer = lambda _request, _body: web.Response(status=429, headers={"Retry-After": told})  # noqa: E731
    async with http(answer) as url, connect(url, attempts=1) as rpc:
        with pytest.raises(RateLimited) as caught:
            await rpc.chain_id()
    assert caught.value.retry_after == seconds


@pytest.fixture
def far_from_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where local time is no HTTP date's."""
    with monkeypatch.context() as here:
        here.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


async def rest_asked_for(**headers: str) -> float | None:
    answer = lambda _request, _body: web.Response(status=429, headers=headers)  # noqa: E731
    async with http(answer) as url, connect(url, attempts=1) as rpc:
        with pytest.raises(RateLimited) as caught:
            await rpc.chain_id()
    return caught.value.retry_after


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("Fri, 01 Jan 2027 00:00:30 GMT", 30.0),
        ("Friday, 01-Jan-27 00:00:30 GMT", 30.0),  # the obsolete forms that RFC 9110 has still read
        ("Fri Jan  1 00:00:30 2027", 30.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", None),  # less than a second, perhaps
        ("Thu, 31 Dec 2026 23:59:59 GMT", None),
        ("Sat, 02 Jan 2027 00:00:00 GMT", 3600.0),
        ("Fri, 01 Jan 2027", None),
        ("Fri, 41 Jan 2027 00:00:30 GMT", None),
        ("Fri, 01 Jan 2027 00:00:30 +99999999999999999999", None),
    ],
)
@pytest.mark.usefixtures("far_from_greenwich")
async def test_a_rest_until_a_date_is_counted_from_the_answers_own(told: str, seconds: float | None):
    assert await rest_asked_for(**{"Date": "Fri, 01 Jan 2027 00:00:00 GMT", "Retry-After": told}) == seconds


async def test_a_rest_until_a_date_is_counted_from_our_clock_where_the_answer_has_no_date():
    until = formatdate(time.time() + 1_000, usegmt=True)
    waits = await rest_asked_for(**{"Date": "today", "Retry-After": until})
    assert waits is not None
    assert 900 < waits <= 1_000


@given(st.binary(max_size=60) | st.text('[]{}",:\\\\a1 ', max_size=60).map(str.encode))
def test_bytes_are_json_or_a_value_error(raw: bytes):
    try:
        expected = json.loads(raw)
    except ValueError:
        with pytest.raises(ValueError):
            wire.parse_json(raw)
    else:
        assert repr(wire.parse_json(raw)) == repr(expected)


# retries and time


async def test_reads_are_tried_again_and_sends_are_not():
    rpc, provider = over(OSError(), {"result": "0x5"})
    assert await rpc.chain_id() == 5
    assert len(provider.asked) == 2
    rpc, provider = over(OSError(), attempts=4)
    with pytest.raises(EndpointError, match="OSError"):
        await rpc.chain_id()
    assert len(provider.asked) == 4
    rpc, provider = over(OSError(), {"result": H})
    with pytest.raises(EndpointError):
        await rpc.send_raw(b"raw")
    assert provider.asked == [("eth_sendRawTransaction", ["0x726177"])]
    assert await rpc.send_raw(b"raw") == b"\x11" * 32


async def test_a_refusal_is_not_tried_again():
    rpc, provider = over(error(-32000, "header not found"))
    with pytest.raises(RpcError, match=r"header not found.*code=-32000"):
        await rpc.balance(A)
    assert len(provider.asked) == 1


async def test_an_answer_that_never_comes_is_waited_for_so_long():
    class Silent:
        async def make_request(self, method: Any, params: Any) -> Any:
            await asyncio.Event().wait()

    with pytest.raises(EndpointError, match=r"no answer to eth_chainId within 0.01 s \(endpoint=n\)"):
        await Rpc(Silent(), name="n", timeout=0.01, attempts=2, backoff=0.0).chain_id()


@pytest.mark.parametrize(("hasty", "tries"), [(False, 3), (True, 1)])
async def test_who_can_ask_another_tries_one_that_hangs_once(hasty: bool, tries: int):
    class Hung:
        asked = 0

        async def make_request(self, method: Any, params: Any) -> Any:
            self.asked += 1
            raise TimeoutError

    hung = Hung()
    rpc = Rpc(hung, attempts=3, backoff=0.0)
    with pytest.raises(NoAnswer):
        await (rpc.hasty() if hasty else rpc).chain_id()
    assert hung.asked == tries
    rpc, provider = over(OSError("reset"), {"result": "0x5"})
    assert await rpc.hasty().chain_id() == 5, "what fails at once is tried again"
    assert len(provider.asked) == 2


async def test_a_rate_limit_is_waited_for_when_it_is_short_and_told_when_it_is_long():
    rpc, provider = over(RateLimited("HTTP 429", retry_after=0.0), {"result": "0x5"})
    assert await rpc.chain_id() == 5
    rpc, provider = over(RateLimited("HTTP 429", retry_after=60.0), {"result": "0x5"})
    with pytest.raises(RateLimited) as caught:
        await rpc.chain_id()
    assert caught.value.retry_after == 60.0
    assert len(provider.asked) == 1


# what refusals mean

RANGES = [
    (-32005, "query returned more than 10000 results. Try with this block range [0x1, 0x2]."),
    (-32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range"),
    (-32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range."),
    (-32614, "eth_getLogs is limited to a 10,000 range"),
    (-32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800"),
    (-32600, "block range is too wide"),
    (-32000, "requested too many blocks from 1 to 5000, maximum is set to 2048"),
    (-32000, "exceed maximum block range: 5000"),
    (-32602, "query exceeds max results 20000, retry with the range 1-2"),
    (-32602, "query exceeds max block range 100000"),
    (-32000, "query exceeds max block range 1000"),
    (35, "ranges over 10000 blocks are not supported on freetier"),
    (-32000, "please limit the query to at most 1000 blocks"),
    (-32000, "Block range is too large"),
    (-32002, "query timeout exceeded"),
    (-32002, "request timed out"),
    (-32008, "Response is too big"),
    (-32603, "logs matched by query exceeds limit of 10000"),
    (-32701, "Please specify an address in your request or, to remove restrictions, reduce your block range: max 500"),
]
QUOTAS = [
    (-32005, "daily request count exceeded, request rate limited"),
    (-32005, "limit exceeded"),
    (429, "Your app has exceeded its compute units per second capacity"),
    (-32007, "15/second request limit reached - reduce calls per second"),
    (-32029, "Too Many Requests"),
    (-32097, "rate limit exceeded"),
    (-32001, "out of credits"),
]
OTHERS = [(-32000, "missing trie node"), (-32601, "the method eth_getLogs does not exist"), (-32000, "unknown block")]


@pytest.mark.parametrize(("code", "message"), RANGES)
def test_a_range_refusal_in_any_providers_words(code: int, message: str):
    assert type(refusal("eth_getLogs", {"code": code, "message": message}, "n")) is RangeTooLarge


@pytest.mark.parametrize(("code", "message"), QUOTAS)
def test_a_quota_is_no_range_refusal(code: int, message: str):
    assert type(refusal("eth_getLogs", {"code": code, "message": message}, "n")) is RateLimited


@pytest.mark.parametrize(("code", "message"), OTHERS)
def test_other_refusals_are_neither(code: int, message: str):
    assert type(refusal("eth_getLogs", {"code": code, "message": message}, "n")) is RpcError


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 3, "message": "execution reverted", "data": "0x0102"},
        {"code": -32000, "message": "execution reverted", "data": {"data": "0x0102"}},
        {"code": -32015, "message": "VM execution error.", "data": "Reverted 0x0102"},
    ],
)
def test_a_revert_brings_its_data(answer: Any):
    got = refusal("eth_call", answer, "n")
    assert isinstance(got, Reverted)
    assert got.data == b"\x01\x02"
    assert isinstance(refusal("eth_sendRawTransaction", answer, "n"), RpcError)


@given(json_values | st.fixed_dictionaries({"code": json_values, "message": json_values, "data": json_values}))
def test_any_refusal_has_a_meaning(answer: Any):
    for method in ("eth_getLogs", "eth_call"):
        found = refusal(method, answer, "n")
        assert (str(found) + found.detail).isprintable(), "its words go to logs and to the record"


# batches


class Batching(Scripted):
    def __init__(self, most: int, *answers: Any) -> None:
        super().__init__(*answers)
        self.most = most
        self.sizes: list[int] = []

    async def make_batch_request(self, requests: Any) -> Any:
        self.sizes.append(len(requests))
        if len(requests) > self.most:
            return {"jsonrpc": "2.0", "id": None} | error(-32600, "batch too large")
        return [await self.make_request(*one) for one in requests]


async def test_batches_shrink_to_what_the_endpoint_takes():
    def numbered(most: int) -> Batching:
        return Batching(most, *({"result": BLOCK | {"number": hex(n)}} for n in range(20)), {"result": None})

    provider = numbered(3)
    assert [b.number for b in await Rpc(provider, batch=10).blocks(range(20))] == list(range(20))
    assert provider.sizes[:3] == [10, 5, 2]
    provider = numbered(0)
    assert len(await Rpc(provider, batch=10).blocks(range(20))) == 20
    assert provider.sizes == [10, 5, 2, 1]


async def test_one_bad_answer_in_a_batch_fails_it():
    provider = Batching(10, {"result": BLOCK}, error(-32000, "header not found"))
    with pytest.raises(RpcError, match="header not found"):
        await Rpc(provider).blocks([5, 6])
    provider = Batching(10, {"result": BLOCK}, {"result": None})
    with pytest.raises(UnknownBlock):
        await Rpc(provider).blocks([5, 6])


async def test_no_blocks_ask_nothing():
    rpc, provider = over({"result": None})
    assert await rpc.blocks([]) == []
    assert provider.asked == []


# over HTTP


@asynccontextmanager
async def http(answer: Callable[[web.Request, bytes], Any]) -> AsyncIterator[str]:
    """A loopback endpoint; ``answer`` gives a response or JSON."""

    async def handle(request: web.Request) -> web.StreamResponse:
        given = answer(request, await request.read())
        return given if isinstance(given, web.StreamResponse) else web.json_response(given)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}/v3/secretkey"
    finally:
        await runner.cleanup()


def result(body: bytes, value: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": value}


async def test_one_connection_serves_many_requests():
    peers = set()

    def answer(request: web.Request, body: bytes) -> Any:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return result(body, "0x5")

    async with http(answer) as url, connect(url) as rpc:
        for _ in range(5):
            assert await rpc.chain_id() == 5
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("response", "kind", "words"),
    [
        (lambda: web.Response(text="<html>"), EndpointError, "not JSON"),
        (lambda: web.Response(text="<html>", status=502), EndpointError, "HTTP 502"),
        (lambda: web.Response(status=401), EndpointError, "HTTP 401"),
        (lambda: web.json_response({}, status=403), EndpointError, "HTTP 403"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), EndpointError, "HTTP 302"),
        (lambda: web.Response(status=429, headers={"Retry-After": "30"}), RateLimited, "HTTP 429"),
        (lambda: web.Response(status=503, headers={"Retry-After": "30"}), RateLimited, "HTTP 503"),
        (lambda: web.json_response(error(-32000, "no state"), status=400), RpcError, "no state"),
        (lambda: web.Response(text="[" * 100_000), EndpointError, "not JSON"),
        (lambda: web.Response(body=b"\xff\xfe\x00"), EndpointError, "not JSON"),
        (lambda: web.Response(text="[]"), EndpointError, "not a JSON-RPC answer"),
    ],
)
async def test_http_trouble_is_one_line_without_the_key(response: Any, kind: type[ChallengerError], words: str):
    async with http(lambda _request, _body: response()) as url, connect(url, attempts=1) as rpc:
        with pytest.raises(kind, match=words) as caught:
            await rpc.balance(A)
    assert "secretkey" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after == 30.0


async def test_a_log_answer_beyond_all_bounds_asks_to_split():
    async with http(lambda _request, body: result(body, ["x" * 5_000])) as url, connect(url) as rpc:
        rpc.provider._max_answer = 1_000
        with pytest.raises(RangeTooLarge, match="1000 bytes"):
            await rpc.logs(A, 0, 9)
        with pytest.raises(EndpointError, match="more than is read"):
            await rpc.code(A)


async def test_batches_over_http_are_matched_by_id():
    def answer(_request: web.Request, body: bytes) -> Any:
        asked = json.loads(body)
        answers = [{"id": one["id"], "result": BLOCK | {"number": one["params"][0]}} for one in asked]
        return list(reversed(answers))

    async with http(answer) as url, connect(url) as rpc:
        assert [block.number for block in await rpc.blocks(range(9))] == list(range(9))


async def test_a_batch_with_an_answer_missing_is_refused():
    def answer(_request: web.Request, body: bytes) -> Any:
        return [{"id": one["id"], "result": BLOCK} for one in json.loads(body)[1:]]

    async with http(answer) as url, connect(url, attempts=1) as rpc:
        with pytest.raises(EndpointError, match="without all of its answers"):
            await rpc.blocks([5, 6])


async def test_nobody_there():
    async with http(lambda _request, body: result(body, "0x5")) as url:
        pass
    async with connect(url, attempts=2, backoff=0.0) as rpc:
        with pytest.raises(EndpointError, match=r"cannot connect.*127\.0\.0\.1"):
            await rpc.chain_id()


async def test_the_wrong_chain_and_the_wrong_url():
    async with http(lambda _request, body: result(body, "0x5")) as url:
        async with connect(url, chain_id=5):
            pass
        with pytest.raises(WrongChain, match="wanted=6, served=5"):
            async with connect(url, chain_id=6):
                pass
    for wrong in ("ws://node.example", "node.example", "http://", "http://[", ""):
        with pytest.raises(ConfigError):
            async with connect(wrong):
                pass


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://mainnet.example/v3/KEY", "https://mainnet.example/…"),
        ("https://user:KEY@node.example:8545", "https://node.example:8545/…"),
        ("https://node.example/?apikey=KEY", "https://node.example/…"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://[::1]:8545/", "http://[::1]:8545"),
        ("KEY", "…"),
        ("http://[KEY", "…"),
        ("http://h:KEY/", "…"),
    ],
)
def test_masked_urls_hide_every_place_for_a_key(url: str, masked: str):
    assert mask_url(url) == masked


@given(st.text(max_size=40))
def test_masking_never_fails(text: str):
    mask_url(text)
    assert "hunter2" not in mask_url(f"https://x:hunter2@h/{text}")


async def test_web3_may_stand_on_the_same_provider():
    from web3 import AsyncWeb3

    async with http(lambda _request, body: result(body, "0x5")) as url, connect(url) as rpc:
        assert isinstance(rpc.provider, HttpProvider)
        assert await AsyncWeb3(rpc.provider).eth.chain_id == 5
