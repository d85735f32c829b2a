"""One endpoint answers anything that JSON can say, an honest one stands beside it: what makes no sense is as if it had not
been said, and nothing but an expected error or the right answer ever comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from chain_echo import deploy_echo, mined, sign, topic
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.asking import Member
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.hashing import keccak
from challenger.chain.pool import PoolProvider
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Block
from challenger.errors import EndpointError, Expected, RangeTooLarge, UnknownBlock

A = Address("0x" + "aa" * 20)
Read = Callable[[Rpc], Awaitable[Any]]


class Honest:
    """What a devnet answered, by what it was asked."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.known = known

    async def make_request(self, method: Any, params: Any) -> Any:
        return self.known[json.dumps([method, params])]


class Hearing(Honest):
    """Fills ``known``."""

    def __init__(self, inner: Any) -> None:
        super().__init__({})
        self.inner = inner

    async def make_request(self, method: Any, params: Any) -> Any:
        answer = await self.inner.make_request(method, params)
        self.known[json.dumps([method, params])] = answer
        return answer


class Hostile:
    """Answers each request, single or in a batch, with what ``say`` makes of the honest answer."""

    def __init__(self, honest: Honest, say: Callable[[Any], Any], batch: Callable[[list[Any]], Any]) -> None:
        self.honest, self.say, self.batch = honest, say, batch

    async def make_request(self, method: Any, params: Any) -> Any:
        return self.say(await self.honest.make_request(method, params))

    async def make_batch_request(self, requests: Any) -> Any:
        return self.batch([await self.make_request(*request) for request in requests])


def listed(answer: Any) -> list[Any]:
    if type(answer) is not list:
        raise ValueError("no list")
    return answer


def reads_of(emitter: Address, blocks: list[Block], sent: bytes) -> list[Read]:
    """Every method of ``Rpc`` that reads."""
    number, digest = int(blocks[-1].number), blocks[-1].hash
    query = {"address": [emitter], "fromBlock": "0x0", "toBlock": hex(number), "topics": []}
    return [
        lambda rpc: rpc.chain_id(),
        lambda rpc: rpc.block("latest"),
        lambda rpc: rpc.block(number),
        lambda rpc: rpc.block(digest),
        lambda rpc: rpc.blocks(range(number + 1)),
        lambda rpc: rpc.headers([number, digest]),
        lambda rpc: rpc.headers_served([number]),
        lambda rpc: rpc.logs(emitter, 0, number),
        lambda rpc: rpc.logs(emitter, 1, number, [[topic("said")]]),
        lambda rpc: rpc.logs_in(emitter, blocks),
        lambda rpc: rpc.call(emitter, topic("said")),
        lambda rpc: rpc.estimate_gas(emitter, topic("said"), sender=A),
        lambda rpc: rpc.code(emitter),
        lambda rpc: rpc.balance(emitter, number),
        lambda rpc: rpc.nonce(A, "pending"),
        lambda rpc: rpc.storage(emitter, 0),
        lambda rpc: rpc.gas_price(),
        lambda rpc: rpc.priority_fee(),
        lambda rpc: rpc.fee_history(1, "latest", [50.0]),
        lambda rpc: rpc.receipt(sent),
        lambda rpc: rpc.transaction(sent),
        lambda rpc: rpc.called([sent, sent]),
        lambda rpc: rpc.ask("eth_getLogs", query),
        lambda rpc: rpc.read("eth_getBlockReceipts", ["0x" + digest.hex()], listed),
    ]


@pytest.fixture(scope="module")
def world() -> tuple[Honest, list[Read], list[Any]]:
    """An honest endpoint, all reads, and what each of them gives."""

    async def play() -> tuple[Honest, list[Read], list[Any]]:
        async with EmbeddedDevnet() as devnet:
            me = devnet.accounts[0]
            echo = await deploy_echo(devnet, me)
            raws = [sign(me, nonce, echo, topic("said") + b"word %d" % nonce) for nonce in (1, 2)]
            receipts = [await mined(devnet, raw) for raw in raws]
            await devnet.mine(2)
            head = await devnet.rpc.block("latest")
            blocks = await devnet.rpc.blocks(range(head.number + 1))
            heard = Hearing(devnet.provider)
            reads = reads_of(echo, blocks, receipts[0].tx_hash)
            right = [await read(Rpc(heard, attempts=1)) for read in reads]
            return Honest(heard.known), reads, right

    return asyncio.run(play())


FIELDS = [
    "result", "error", "code", "message", "data", "number", "hash", "parentHash", "timestamp", "baseFeePerGas", "reward",
    "oldestBlock", "logs", "topics", "address", "blockNumber", "blockHash", "logIndex", "status", "gasUsed", "from", "nonce",
]  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["0x", "0x5", "0x" + "f" * 64, "0x" + "11" * 32, "\ud800", "\0", 10**300, -1, 2**63, 2**256])
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4),
    max_leaves=8,
)
REFUSALS = st.fixed_dictionaries(
    {"error": st.fixed_dictionaries({"code": LEAVES | st.just([]) | st.just({}), "message": LEAVES, "data": ANYTHING})}
)
TOO_WIDE = st.just({"error": {"code": -32005, "message": "block range is limited to 1 block"}})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of ``value``."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def put(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """``value`` with ``other`` in that place."""
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], other)
    return copy


@st.composite
def sayings(draw: st.DrawFn) -> Callable[[Any], Any]:
    """Anything at all, or the honest answer with anything in one place of it."""
    what = draw(ANYTHING | st.fixed_dictionaries({"result": ANYTHING}) | REFUSALS | TOO_WIDE)
    if draw(st.booleans()):
        return lambda _honest: what
    at = draw(st.integers(0, 10_000))

    def change(honest: Any) -> Any:
        ways = list(places(honest))
        return put(honest, ways[at % len(ways)], what)

    return change


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)  # a NaN is a NaN, and True is not 1


async def outcome(read: Read, rpc: Rpc) -> Any:
    try:
        return await read(rpc)
    except Expected as error:
        return error


@given(
    st.lists(st.tuples(st.integers(0, 10_000), sayings()), min_size=1, max_size=3),
    st.just(lambda answers: answers) | ANYTHING.map(lambda whole: lambda _answers: whole),
)
def test_an_endpoint_that_says_anything_changes_nothing_but_which_one_is_read(world, turns, batch):
    honest, reads, right = world

    async def play() -> None:
        hostile = Hostile(honest, lambda answer: answer, batch)
        members = [Member(Rpc(one, name=name, attempts=1), name) for one, name in ((hostile, "bad"), (honest, "good"))]
        pool = PoolProvider(members, chain_id=31337, clock=lambda: 0.0)
        rpc = Rpc(pool, name="pool", attempts=1)
        for which, say in turns:
            at = which % len(reads)
            hostile.say = say
            pool.current = members[0]
            members[0].health.answered()
            alone = await outcome(reads[at], Rpc(hostile, name="bad", attempts=1))
            found = await outcome(reads[at], rpc)
            if isinstance(alone, EndpointError) and not isinstance(alone, UnknownBlock):
                assert same(found, right[at]) or isinstance(found, RangeTooLarge), (
                    "nonsense is the next endpoint's to answer"
                )
            else:
                assert isinstance(found, Expected) or same(found, right[at]) or same(found, alone)
            if isinstance(found, Expected):
                said = str(found) + found.detail
                assert said.isprintable(), "a refusal's words go to logs and the record"

    asyncio.run(play())


@given(sayings())
def test_what_one_says_of_a_transaction_or_of_its_head_is_no_more_than_an_endpoint_error(world, say):
    honest, _, _ = world
    raw, digest = b"raw", "0x" + keccak(b"raw").hex()
    takes = Honest(honest.known | {json.dumps(["eth_sendRawTransaction", ["0x" + raw.hex()]]): {"result": digest}})

    async def play() -> None:
        ends = (Hostile(takes, say, lambda answers: answers), takes)
        members = [Member(Rpc(one, name=str(i), attempts=1), str(i)) for i, one in enumerate(ends)]
        pool = PoolProvider(members, chain_id=31337, clock=lambda: 0.0)
        await pool.look(now=True)
        found = await outcome(lambda rpc: rpc.send_raw(raw), Rpc(pool, attempts=1))
        assert isinstance(found, Expected | bytes)

    asyncio.run(play())
