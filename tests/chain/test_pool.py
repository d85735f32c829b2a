"""Several endpoints as one: whoever fails, lags, asks to rest or changes chain is passed over, and nothing is sent less."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from chain_echo import deploy_echo, sign, topic
from chain_toy import EMITTER, ToyChain, ToyDecoder, ToyLedger, words_of

from challenger.chain.answers import Count
from challenger.chain.asking import Member
from challenger.chain.complete import CheckedReader
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.follower import Follower
from challenger.chain.health import Resting, best_head
from challenger.chain.pool import Change, PoolProvider
from challenger.chain.rpc import Rpc
from challenger.errors import EndpointError, IncompleteLogs, RangeTooLarge, RateLimited, Reverted, RpcError, WrongChain

CHAIN = 5


class Node:
    """A toy chain's endpoint with a chain id, batches, a height of its own, and faults on demand."""

    def __init__(self, chain: ToyChain) -> None:
        self.chain = chain
        self.id = CHAIN
        self.fault: Callable[[str], Any] = lambda _method: None
        self.asked: list[str] = []
        self.batches: list[int] = []
        self.most = 1_000
        #: seconds that its newest block's time is ahead of the truth
        self.ahead = 0

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append(method)
        found = self.fault(method)
        if isinstance(found, Exception):
            raise found
        if found is not None:
            return found
        if method == "eth_chainId":
            return {"result": hex(self.id)}
        answer = self.chain.answer(method, params)
        if self.ahead and params[0] == "latest":
            answer["result"]["timestamp"] = hex(int(answer["result"]["timestamp"], 16) + self.ahead)
        return answer

    async def make_batch_request(self, requests: Any) -> Any:
        self.batches.append(len(requests))
        if len(requests) > self.most:
            return {"error": {"code": -32600, "message": "batch too big"}}
        return [await self.make_request(*request) for request in requests]


class World:
    def __init__(self, count: int = 2, height: int = 20) -> None:
        self.chain = ToyChain()
        self.chain.extend([[b"w%d" % n] for n in range(height)])
        self.nodes = [Node(self.chain) for _ in range(count)]
        self.now = 100.0
        self.wall = 1_000.0 + 12 * height
        self.said: list[Change] = []
        members = [Member(Rpc(node, name=f"n{i}", attempts=1), f"host{i}") for i, node in enumerate(self.nodes)]
        self.pool = PoolProvider(
            members, chain_id=CHAIN, survey=1.0, resting=Resting(first=10.0, longest=80.0), on_change=self.said.append,
            clock=lambda: self.now, wall=lambda: self.wall, rng=random.Random(1),
        )  # fmt: skip
        self.rpc = Rpc(self.pool, attempts=1, name="pool")

    async def head(self) -> int:
        return (await self.rpc.block("latest")).number


def down(_method: str) -> Any:
    return OSError("connection refused")


async def test_reads_stay_on_one_endpoint_and_move_when_it_fails():
    w = World()
    await w.pool.start()
    for _ in range(3):
        await w.rpc.block(3)
    assert "eth_getBlockByNumber" in w.nodes[0].asked[-1:]
    assert w.nodes[1].asked.count("eth_getBlockByNumber") == 1, "its head was looked at once"
    w.nodes[0].fault = down
    assert (await w.rpc.block(3)).number == 3
    assert w.pool.current is w.pool.members[1]
    assert [(c.endpoint, bool(c.why)) for c in w.said] == [("n0", True)]
    w.nodes[0].fault = lambda _method: None
    w.now += 11
    await w.head()
    assert w.pool.current is w.pool.members[1], "a switch back would be for nothing"
    assert w.said[-1] == Change("n0", "")


async def test_rests_grow_and_one_that_rests_is_left_alone():
    w = World()
    w.nodes[0].fault = down
    await w.pool.start()
    for rest in (10, 20, 40, 80, 80):
        before = len(w.nodes[0].asked)
        w.now += rest * 0.85
        await w.head()
        assert len(w.nodes[0].asked) == before
        w.now += rest * 0.16
        await w.head()
        assert len(w.nodes[0].asked) == before + 1, "one request tries it"


async def test_when_all_fail_all_are_tried_and_the_error_names_each():
    w = World()
    await w.pool.start()
    for node in w.nodes:
        node.fault = down
    with pytest.raises(EndpointError, match="n0: OSError; n1: OSError"):
        await w.rpc.block(1)
    w.nodes[1].fault = lambda _method: None
    assert (await w.rpc.block(1)).number == 1, "better one that has just failed than none"


@pytest.mark.parametrize(
    "limit",
    [
        lambda _m: RateLimited("HTTP 429", retry_after=30.0),
        lambda _m: {"error": {"code": -32005, "message": "limit exceeded"}},
        lambda _m: {"error": {"code": 429, "message": "slow down"}},
    ],
)
async def test_one_that_asks_to_rest_rests_and_another_serves(limit: Any):
    w = World()
    await w.pool.start()
    w.nodes[0].fault = limit
    assert (await w.rpc.block(1)).number == 1
    before = len(w.nodes[0].asked)
    await w.rpc.block(2)
    assert len(w.nodes[0].asked) == before
    assert w.pool.members[0].health.failures == 0


async def test_when_all_ask_to_rest_the_shortest_rest_is_passed_on_and_nobody_is_asked():
    w = World()
    await w.pool.start()
    w.nodes[0].fault = lambda _m: RateLimited("HTTP 429", retry_after=50.0)
    w.nodes[1].fault = lambda _m: RateLimited("HTTP 429", retry_after=30.0)
    with pytest.raises(RateLimited) as caught:
        await w.rpc.block(1)
    assert caught.value.retry_after == 30.0
    asked = [len(node.asked) for node in w.nodes]
    with pytest.raises(RateLimited):
        await w.rpc.block(1)
    assert [len(node.asked) for node in w.nodes] == asked


async def test_one_that_lags_is_read_from_last_and_comes_back():
    w = World()
    w.nodes[0].chain = w.chain.copy(10)  # ten blocks of 12 s
    await w.pool.start()
    assert await w.head() == 20
    assert "behind" in w.said[-1].why
    assert w.pool.members[0].health.failures == 0
    w.nodes[0].chain = w.chain
    w.now += 6
    await w.head()
    assert w.said[-1] == Change("n0", "")


async def test_a_little_behind_is_not_late():
    w = World()
    w.nodes[1].chain = w.chain.copy(16)
    await w.pool.start()
    assert w.said == []


def test_one_that_invents_a_head_makes_nobody_late():
    assert best_head([(10, 100), (9_999, 99_999), (11, 112)]) == (11, 112)
    assert best_head([(10, 100), (11, 112)]) == (11, 112)
    assert best_head([]) is None


@pytest.mark.parametrize("ahead", [61, 10**7, 2**62])
@pytest.mark.parametrize("surveyed", [False, True])
async def test_a_head_of_the_future_is_nobodys_time(ahead: int, surveyed: bool):
    """Chain time never runs back: one such answer would have closed every window for good."""
    w = World()
    await w.pool.start()
    truth = (await w.rpc.block("latest")).time
    w.nodes[0].ahead = ahead
    if surveyed:
        w.now += 6
    assert (await w.rpc.block("latest")).time == truth
    assert [c.endpoint for c in w.said] == ["n0"]
    assert "ahead" in w.said[0].why
    w.now += 6
    assert (await w.rpc.block("latest")).time == truth
    w.nodes[0].ahead = 0
    w.now += 100
    await w.head()
    assert w.said[-1] == Change("n0", "")


async def test_a_head_of_the_future_makes_nobody_late():
    w = World()
    w.nodes[1].ahead = 10**7
    await w.pool.start()
    await w.head()
    assert w.pool.current is w.pool.members[0]
    assert [c.endpoint for c in w.said] == ["n1"]


async def test_this_machines_clock_alone_condemns_nobody():
    w = World()
    w.wall = 0.0
    await w.pool.start()
    for _ in range(3):
        w.now += 6
        assert await w.head() == 20
    assert w.said == []
    w.nodes[1].fault = down
    w.nodes[0].ahead = 10**7
    w.wall = 1_240.0
    w.now += 6
    assert await w.head() == 20, "nobody is there to say otherwise"
    assert [c.endpoint for c in w.said] == ["n1"]


@pytest.mark.parametrize("surveyed", [False, True])
async def test_a_clock_that_is_behind_and_a_node_that_lags_do_not_outvote_two(surveyed: bool):
    w = World(count=3)
    await w.pool.start()
    w.nodes[2].chain = ToyChain()
    w.nodes[2].chain.extend([[b"w%d" % n] for n in range(10)])
    w.wall = (await w.rpc.block("latest")).time - 61.0
    if surveyed:
        w.now += 6
    for _ in range(3):
        assert await w.head() == 20
        w.now += 6
    assert [c.endpoint for c in w.said] == ["n2"]
    assert "behind" in w.said[0].why


async def test_a_clock_that_is_behind_does_not_agree_with_a_node_that_is_stuck():
    w = World(count=2, height=70)
    await w.pool.start()
    w.nodes[1].chain = ToyChain()
    w.nodes[1].chain.extend([[b"w%d" % n] for n in range(20)])  # ten minutes behind
    w.wall = (await w.rpc.block("latest")).time - 90.0
    for _ in range(3):
        w.now += 6
        assert await w.head() == 70
    assert [c.endpoint for c in w.said] == ["n1"]


@pytest.mark.parametrize("ahead", [150, 10**7])
async def test_a_clock_that_is_ahead_saves_no_head_of_the_future(ahead: int):
    """Or a chain that has made no block for a while: no head is near the clock, and most have another one."""
    w = World(count=3)
    await w.pool.start()
    truth = (await w.rpc.block("latest")).time
    w.wall = truth + 70.0
    w.nodes[0].ahead = ahead
    assert (await w.rpc.block("latest")).time == truth
    assert [c.endpoint for c in w.said] == ["n0"]
    w.now += 6
    assert (await w.rpc.block("latest")).time == truth


@pytest.mark.parametrize("alike", ["one host", "two stories"])
async def test_two_heads_of_the_future_are_no_majority(alike: str):
    w = World(count=3)
    await w.pool.start()
    truth = (await w.rpc.block("latest")).time
    if alike == "one host":  # two keys of one operator
        first = w.pool.members[0]
        w.pool.members = (first, replace(w.pool.members[1], host=first.host), w.pool.members[2])
    w.nodes[0].ahead = 3_600
    w.nodes[1].ahead = 3_600 if alike == "one host" else 7_200
    for _ in range(2):
        assert (await w.rpc.block("latest")).time == truth
        w.now += 6
    assert {c.endpoint for c in w.said} == {"n0", "n1"}


async def test_another_chain_is_refused_at_the_start_and_left_out_later():
    w = World()
    w.nodes[1].id = 6
    with pytest.raises(WrongChain):
        await w.pool.start()
    w = World()
    await w.pool.start()
    w.nodes[0].id = 6
    w.now += 6
    await w.head()
    assert w.said[-1] == Change("n0", "it serves chain 6")
    w.nodes[1].fault = down
    with pytest.raises(EndpointError):
        await w.rpc.block(1)  # not even as the last resort


async def test_it_starts_with_those_that_answer():
    w = World(3)
    w.nodes[0].fault = down
    await w.pool.start()
    assert await w.head() == 20
    assert [c.endpoint for c in w.said] == ["n0"]
    w = World(1)
    w.nodes[0].fault = down
    with pytest.raises(EndpointError, match="n0"):
        await w.pool.start()


async def test_what_one_cannot_do_another_may():
    w = World()
    await w.pool.start()
    w.nodes[0].fault = lambda m: {"error": {"code": -32601, "message": "no"}} if m == "eth_getLogs" else None
    assert len(await w.rpc.logs(ToyDecoder.emitters, 1, 5)) == 5
    w.nodes[1].fault = w.nodes[0].fault
    with pytest.raises(RpcError, match="no"):
        await w.rpc.logs(ToyDecoder.emitters, 1, 5)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_getLogs", {"result": 7}),
        ("eth_getLogs", {"result": None}),
        ("eth_getBlockByNumber", {"result": {"number": "0x1"}}),
        ("eth_getBlockByNumber", {"result": []}),
    ],
)
async def test_an_answer_that_makes_no_sense_is_the_next_ones_to_give(method: str, answer: Any):
    w = World()
    await w.pool.start()
    w.pool.members[0].health.range_refused(40)  # its width is learnt from each answer then
    w.nodes[0].fault = lambda asked: answer if asked == method else None
    logs = await w.rpc.logs(ToyDecoder.emitters, 1, 5)
    (block,) = await w.rpc.blocks([1])
    assert (len(logs), block.number) == (5, 1)
    assert w.pool.current is w.pool.members[1]
    assert "nonsense" in w.said[0].why


@pytest.mark.parametrize("code", [[], {}, None, True, "-32601"])
async def test_a_refusal_without_a_code_is_a_refusal(code: Any):
    w = World()
    await w.pool.start()
    for node in w.nodes:
        node.fault = lambda asked: {"error": {"code": code, "message": "no"}} if asked == "eth_getLogs" else None
    with pytest.raises(RpcError, match="no"):
        await w.rpc.logs(ToyDecoder.emitters, 1, 5)


BROKEN = [
    "missing trie node 5f2a (path ) state 0x12 is not available",
    "failed to load receipts: database closed",
    "header not found",
    "request failed",
    "internal error: leveldb: closed",
]


@pytest.mark.parametrize("message", BROKEN)
@pytest.mark.parametrize("code", [-32000, -32603, 1])
async def test_an_error_of_one_endpoint_is_not_the_answer_while_another_has_one(message: str, code: int):
    w = World(3)
    await w.pool.start()
    w.nodes[0].fault = lambda method: {"error": {"code": code, "message": message}} if method == "eth_getLogs" else None
    assert len(await w.rpc.logs(ToyDecoder.emitters, 1, 5)) == 5
    blocks = await w.rpc.blocks([4, 5])
    assert len(await w.rpc.logs_in(ToyDecoder.emitters, blocks)) == 2, "in batches too"
    assert w.nodes[0].asked.count("eth_getLogs") == 1, "who answered is read from, and it is not asked again"
    assert w.pool.current is w.pool.members[1]
    assert w.said == [], "what it can do it may go on doing"
    for node in w.nodes[1:]:
        node.fault = lambda _m: {"error": {"code": -32000, "message": "another one"}}
    w.pool.current = w.pool.members[0]
    with pytest.raises(RpcError, match=message[:12]):
        await w.rpc.logs(ToyDecoder.emitters, 1, 5)  # none does better: the first one's word
    assert w.pool.current is w.pool.members[0]


@pytest.mark.parametrize(
    "error",
    [
        {"code": 3, "message": "execution reverted", "data": "0x08c379a0"},
        {"code": -32000, "message": "VM Exception while processing transaction: revert"},
    ],
)
async def test_a_revert_is_the_answer(error: Any):
    w = World()
    await w.pool.start()
    w.nodes[0].fault = lambda method: {"error": error} if method == "eth_call" else None
    with pytest.raises(Reverted):
        await w.rpc.call(EMITTER, b"")
    assert w.nodes[1].asked.count("eth_call") == 0


async def test_one_block_that_is_too_much_for_one_endpoint_is_asked_of_the_next():
    """What can be split reaches who splits it; a single block cannot be."""
    w = World()
    await w.pool.start()
    w.nodes[0].fault = lambda method: (
        {"error": {"code": -32000, "message": "query timeout exceeded"}} if method == "eth_getLogs" else None
    )
    with pytest.raises(RangeTooLarge):
        await w.rpc.logs(ToyDecoder.emitters, 1, 2)
    assert w.nodes[1].asked.count("eth_getLogs") == 0
    assert len(await w.rpc.logs(ToyDecoder.emitters, 1, 1)) == 1
    assert w.pool.current is w.pool.members[1]
    w.pool.current = w.pool.members[0]
    (block,) = await w.rpc.blocks([3])
    assert len(await w.rpc.logs_in(ToyDecoder.emitters, [block])) == 1


async def test_a_follower_between_two_endpoints_that_each_lack_something_reads_on():
    w = World(3, height=10)
    await w.pool.start()
    fail = {"error": {"code": -32000, "message": "request failed"}}
    w.nodes[0].fault = lambda method: fail if method == "eth_getLogs" else None
    w.nodes[1].fault = lambda method: fail if method == "eth_getBlockByNumber" and w.now > 200 else None
    ledger = ToyLedger()
    follower = Follower(w.rpc, ledger, ToyDecoder(), clock=lambda: w.now)
    for _ in range(12):
        w.chain.extend([[b"more"]])
        w.now += 12
        while await follower.step():
            pass
    assert [(e.at.block, bytes(e.model)) for e in ledger.events] == words_of(w.chain)
    assert ledger.rewinds == 0


async def test_all_that_answer_are_heard_where_one_word_is_not_enough():
    w = World(4)
    await w.pool.start()
    says: list[Any] = [
        {"result": 7},
        {"error": {"code": -32000, "message": "no"}},
        {"result": "0x5"},
        {"result": "0x6"},
    ]
    for node, answer in zip(w.nodes, says, strict=True):
        node.fault = lambda _method, answer=answer: answer
    assert await w.rpc.count(ToyDecoder.emitters[0]) == Count(agreed=5, most=6)
    for node in w.nodes:
        node.fault = down
    with pytest.raises(EndpointError, match="no endpoint answers"):
        await w.rpc.count(ToyDecoder.emitters[0])


def saying(word: Any) -> Callable[[str], Any]:
    return lambda _method: {"result": hex(word)} if isinstance(word, int) else {"error": {"code": 3, "message": word}}


@pytest.mark.parametrize(("read", "of_two"), [("gas_price", 5), ("balance", 9)])
async def test_one_word_of_three_moves_nothing_and_of_two_the_one_that_keeps_nothing_back_counts(
    read: str, of_two: int
) -> None:
    params = (ToyDecoder.emitters[0],) if read == "balance" else ()
    for says, right in (((2**200, 5, 6), 6), ((0, 5, 6), 5), ((9, 5), of_two), ((5, 9), of_two), ((7,), 7)):
        w = World(len(says))
        await w.pool.start()
        for node, word in zip(w.nodes, says, strict=True):
            node.fault = saying(word)
        assert await getattr(w.rpc, read)(*params) == right


async def test_a_call_reverts_when_most_hosts_say_so_and_keys_of_one_operator_are_one_voice() -> None:
    no = "execution reverted"
    for says, reverts in (((no, 1, 1), False), ((1, no, no), True), ((no, 1), False), ((no,), True)):
        w = World(len(says))
        await w.pool.start()
        for node, word in zip(w.nodes, says, strict=True):
            node.fault = saying(word)
        if reverts:
            with pytest.raises(Reverted, match=no):
                await w.rpc.estimates(ToyDecoder.emitters[0], b"", sender=ToyDecoder.emitters[0])
        else:
            found = await w.rpc.estimates(ToyDecoder.emitters[0], b"", sender=ToyDecoder.emitters[0])
            assert set(found) == {1}
    w = World(4)
    await w.pool.start()
    for member, word in zip(w.pool.members, (no, no, 1, 1), strict=True):
        member.host = "one operator" if word == no else member.host
        member.rpc.provider.fault = saying(word)
    assert await w.rpc.estimates(ToyDecoder.emitters[0], b"", sender=ToyDecoder.emitters[0]) == [1, 1]


async def test_a_refusal_that_is_no_revert_is_no_word_and_alone_is_told() -> None:
    w = World(3)
    await w.pool.start()
    for node in w.nodes[:2]:
        node.fault = lambda _method: {"error": {"code": -32000, "message": "missing trie node"}}
    w.nodes[2].fault = saying(8)
    assert await w.rpc.balance(ToyDecoder.emitters[0]) == 8
    w.nodes[2].fault = w.nodes[0].fault
    with pytest.raises(RpcError, match="missing trie node"):
        await w.rpc.balance(ToyDecoder.emitters[0])


async def test_a_view_is_of_one_other_host_alone_and_moves_nobody_else() -> None:
    w = World(4)
    w.pool.members[2].host = w.pool.members[1].host  # one operator, one view
    await w.pool.start()
    for number, node in enumerate(w.nodes):
        node.fault = saying(number)
    told = []
    for view in w.rpc.views():
        with view:
            told.append(await w.rpc.nonce(ToyDecoder.emitters[0]))
            assert await asyncio.create_task(w.rpc.nonce(ToyDecoder.emitters[0])) == told[-1]
            assert w.pool.current is w.pool.members[0]
    assert told == [1, 3]
    first, _ = w.rpc.views()
    w.nodes[1].fault = down
    with first, pytest.raises(EndpointError):  # nobody answers in its place
        await w.rpc.nonce(ToyDecoder.emitters[0])
    assert await w.rpc.nonce(ToyDecoder.emitters[0]) == 0
    assert len(w.rpc.views()) == 2, "another of that host, which is well"


async def test_what_others_read_while_a_view_is_entered_stays_where_it_was() -> None:
    w = World(2)
    await w.pool.start()
    for number, node in enumerate(w.nodes):
        node.fault = saying(number)
    entered, done = asyncio.Event(), asyncio.Event()

    async def look() -> int:
        with w.rpc.views()[0]:
            entered.set()
            await done.wait()
            return await w.rpc.nonce(ToyDecoder.emitters[0])

    looking = asyncio.create_task(look())
    await entered.wait()
    assert await w.rpc.nonce(ToyDecoder.emitters[0]) == 0
    done.set()
    assert await looking == 1
    assert w.pool.current is w.pool.members[0]


async def test_batches_shrink_per_endpoint():
    w = World()
    await w.pool.start()
    w.nodes[0].most = 3
    blocks = await w.rpc.blocks(range(21))
    assert [block.number for block in blocks] == list(range(21))
    assert max(w.nodes[0].batches[-6:]) <= 3
    assert w.nodes[1].batches == []


async def test_ranges_shrink_per_endpoint_without_asking_again():
    w = World()
    await w.pool.start()
    w.nodes[0].chain = w.chain.copy()
    w.nodes[0].chain.range_limit = 4
    for _ in range(2):
        with pytest.raises(RangeTooLarge):
            await w.rpc.logs(ToyDecoder.emitters, 0, 15)
    assert w.nodes[0].asked.count("eth_getLogs") == 1
    w.nodes[0].fault = down
    await w.rpc.block(1)
    assert len(await w.rpc.logs(ToyDecoder.emitters, 0, 15)) == 15, "the other takes it whole"


@pytest.mark.parametrize("seed", range(20))
async def test_a_follower_over_failing_endpoints_ends_with_the_index_of_a_clean_one(seed: int):
    rng = random.Random(seed)
    w = World(3, height=10)
    await w.pool.start()
    ledger = ToyLedger()
    follower = Follower(w.rpc, ledger, ToyDecoder(), clock=lambda: w.now)
    for turn in range(60):
        for node in w.nodes:
            node.fault = down if rng.random() < 0.3 else lambda _m: None
        if turn < 40 and rng.random() < 0.5:
            w.chain.reorg(rng.randrange(3), [[b"t%d" % turn]] * rng.randrange(1, 4))
        for node in w.nodes:
            node.chain = w.chain.copy(len(w.chain.blocks) - 1 - rng.randrange(2)) if turn < 40 else w.chain
        w.now += rng.uniform(1, 30)
        try:
            await follower.step()
        except (EndpointError, RpcError):
            continue
    for node in w.nodes:
        node.fault = lambda _m: None
    w.now += 200
    while await follower.step():
        pass
    assert [(e.at.block, bytes(e.model)) for e in ledger.events] == words_of(w.chain)


# sends


async def test_a_transaction_goes_to_every_endpoint():
    async with EmbeddedDevnet() as devnet:
        w = Sends(devnet)
        raw = sign(devnet.accounts[0], 0, devnet.accounts[1].address)
        await w.rpc.send_raw(raw)
        assert w.sent == [0, 1]
        assert await devnet.rpc.nonce(devnet.accounts[0].address) == 1


class Sends:
    """Two doors to one devnet; a fault stands for the answer of one of them."""

    def __init__(self, devnet: EmbeddedDevnet) -> None:
        self.sent: list[int] = []
        self.faults: dict[int, Any] = {}
        self.devnet = devnet
        members = [Member(Rpc(Door(self, i), name=f"d{i}", attempts=1), f"h{i}") for i in range(2)]
        self.rpc = Rpc(PoolProvider(members, chain_id=31337, clock=lambda: 0.0), attempts=1)


class Door:
    def __init__(self, sends: Sends, index: int) -> None:
        self.sends, self.index = sends, index

    async def make_request(self, method: Any, params: Any) -> Any:
        self.sends.sent.append(self.index)
        fault = self.sends.faults.get(self.index)
        if isinstance(fault, Exception):
            raise fault
        return fault or await self.sends.devnet.provider.make_request(method, params)


REFUSED = {"error": {"code": -32000, "message": "insufficient funds"}}
KNOWN = {"error": {"code": -32000, "message": "already known"}}


async def test_taken_by_one_is_taken_and_silence_beside_a_refusal_is_uncertain():
    async with EmbeddedDevnet() as devnet:
        w = Sends(devnet)
        for nonce, fault in enumerate([OSError(), REFUSED, KNOWN, RateLimited("HTTP 429")]):
            w = Sends(devnet)
            w.faults = {0: fault}
            await w.rpc.send_raw(sign(devnet.accounts[0], nonce, devnet.accounts[1].address))
        for faults, error in [
            ({0: OSError(), 1: REFUSED}, EndpointError),
            ({0: OSError(), 1: OSError()}, EndpointError),
            ({0: OSError(), 1: KNOWN}, RpcError),
            ({0: REFUSED, 1: REFUSED}, RpcError),
        ]:
            w = Sends(devnet)
            w.faults = faults
            with pytest.raises(error):
                await w.rpc.send_raw(b"raw")


# logs near the head


class Liar:
    """A door to a real chain that hides or alters logs in ``eth_getLogs``, and may refuse block receipts, or for a moment
    everything (``tired``: methods that meet a limit)."""

    def __init__(
        self, inner: Any, change: Callable[[list[Any]], list[Any]], receipts: bool = True, tired: tuple[str, ...] = ()
    ) -> None:
        self.inner, self.change, self.receipts, self.tired = inner, change, receipts, tired
        self.asked: list[str] = []

    async def make_request(self, method: Any, params: Any) -> Any:
        self.asked.append(method)
        if method in self.tired:
            return {"error": {"code": -32005, "message": "daily request count exceeded, request rate limited"}}
        if method == "eth_getBlockReceipts" and not self.receipts:
            return {"error": {"code": -32601, "message": "no such method"}}
        answer = await self.inner.make_request(method, params)
        return {"result": self.change(answer["result"])} if method == "eth_getLogs" else answer


class Near:
    """Two of our logs in block 2 of a real chain, read through ``doors``; ``caught`` and ``unchecked`` as the reader tells."""

    def __init__(self, echo: Any, doors: list[Any]) -> None:
        self.echo = echo
        self.members = [Member(Rpc(p, name=f"e{i}", attempts=1), f"h{i}") for i, p in enumerate(doors)]
        self.pool = PoolProvider(self.members, chain_id=31337, clock=lambda: 0.0)
        self.caught: list[str] = []
        self.unchecked: list[str] = []
        self.reader = CheckedReader(
            Rpc(self.pool, attempts=1),
            self._witnesses,
            caught=self._tell,
            unchecked=lambda _block, why: self.unchecked.append(why),
        )

    def _tell(self, endpoint: str, why: str) -> None:
        self.caught.append(endpoint)
        self.pool.distrust(endpoint, why)

    def _witnesses(self) -> list[Rpc]:
        return [self.pool.current.rpc, *(m.rpc for m in self.members if m is not self.pool.current)]

    async def far(self) -> list[bytes]:
        return [log.data for log in await self.reader.logs([self.echo], 0, 3, [[topic("said")]])]

    async def near(self) -> list[bytes]:
        blocks = await self.reader.blocks(range(4))
        return [log.data for log in await self.reader.logs_in([self.echo], blocks, [[topic("said")]])]


@pytest.fixture
async def said() -> AsyncIterator[tuple[Any, Any]]:
    """A devnet, and the address of what logged twice on it."""
    async with EmbeddedDevnet() as devnet:
        echo = await deploy_echo(devnet, devnet.accounts[0])
        await devnet.automine(False)
        for account in devnet.accounts[1:3]:
            await devnet.rpc.send_raw(sign(account, 0, echo, topic("said") + b"word"))
        await devnet.mine(2)
        yield devnet, echo


def truth(logs: list[Any]) -> list[Any]:
    return logs


LIES = [
    pytest.param(lambda _logs: [], id="hides all"),
    pytest.param(lambda logs: logs[1:], id="hides one"),
    pytest.param(lambda logs: logs[:1], id="hides the last"),
    pytest.param(lambda logs: [log | {"data": "0xee"} for log in logs], id="alters one"),
]


@pytest.mark.parametrize("receipts", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("change", LIES)
@pytest.mark.parametrize("far", [True, False])
async def test_false_logs_are_caught_before_the_cursor_passes(
    said: Any, change: Any, receipts: tuple[bool, bool], far: bool
):
    devnet, echo = said
    w = Near(echo, [Liar(devnet.provider, change, receipts[0]), Liar(devnet.provider, truth, receipts[1])])
    read = w.far if far else w.near
    with pytest.raises(IncompleteLogs):
        await read()
    assert w.caught == ["e0"]
    assert await read() == [b"word", b"word"], "read from the other endpoint; the liar may be who it is compared with"
    assert w.caught == ["e0"]
    assert w.unchecked == []


@pytest.mark.parametrize("change", LIES)
@pytest.mark.parametrize("others", [1, 2])
async def test_who_is_tired_for_a_moment_makes_no_chain_unusual(said: Any, change: Any, others: int):
    """Nobody can prove the block just now: it is not passed until somebody can."""
    devnet, echo = said
    ways = ("eth_getBlockReceipts", "eth_getTransactionReceipt", "eth_getLogs")
    doors = [Liar(devnet.provider, change, tired=ways[:2])]
    doors += [Liar(devnet.provider, truth, tired=ways) for _ in range(others)]
    w = Near(echo, doors)
    for _ in range(2):
        with pytest.raises(RateLimited):
            await w.near()
    assert (w.caught, w.unchecked) == ([], [])
    doors[1].tired = ()
    with pytest.raises(IncompleteLogs):
        await w.near()
    assert w.caught == ["e0"]
    assert await w.near() == [b"word", b"word"]


async def test_a_block_is_proved_one_by_one_only_where_nobody_serves_its_receipts_at_once(said: Any):
    devnet, echo = said
    doors = [Liar(devnet.provider, truth, receipts=False), Liar(devnet.provider, truth)]
    w = Near(echo, doors)
    assert await w.near() == [b"word", b"word"]
    assert all("eth_getTransactionReceipt" not in door.asked for door in doors)
    doors[1].receipts = False
    assert await w.near() == [b"word", b"word"]
    assert doors[0].asked.count("eth_getTransactionReceipt") == 2, "of the block that its bloom points at, and no other"
    assert "eth_getTransactionReceipt" not in doors[1].asked


class Odd(Liar):
    """As a node of a chain whose headers do not hash to their blocks' hashes."""

    async def make_request(self, method: Any, params: Any) -> Any:
        answer = await super().make_request(method, params)
        header = method.startswith("eth_getBlockBy")
        return {"result": answer["result"] | {"receiptsRoot": "0x" + "11" * 32}} if header else answer


@pytest.mark.parametrize("change", LIES)
async def test_where_receipts_prove_nothing_who_shows_more_is_read_and_nobody_is_left_in_turn(said: Any, change: Any):
    devnet, echo = said
    w = Near(echo, [Odd(devnet.provider, change), Odd(devnet.provider, truth)])
    try:
        first = await w.near()
    except IncompleteLogs:
        assert w.caught == ["e0"]
        assert await w.near() == [b"word", b"word"]
    else:
        assert first == [b"\xee", b"\xee"], "which of two stories is true the quorum finds"
    assert w.caught in (["e0"], [])
    assert w.unchecked
