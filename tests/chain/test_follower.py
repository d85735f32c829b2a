"""The follower over a toy chain: whatever the endpoint does, the ledger ends as a clean index of the chain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from chain_echo import deploy_echo, sign, topic
from chain_toy import ToyChain, ToyDecoder, ToyLedger, ToyProvider, words_of
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.answers import RawLog
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.follower import Follower, LeftOut, Malformed, MixedViews, Options
from challenger.chain.rpc import Rpc
from challenger.chain.span import Span
from challenger.domain import Address, ChainEvent, ModelDisabled, ModelId
from challenger.errors import CursorMoved, EndpointError, Expected, LedgerExhausted, RangeTooLarge

Words = list[list[bytes]]
blocks_of_words = st.lists(st.lists(st.sampled_from([b"a", b"b", b"?"]), max_size=2), min_size=1, max_size=12)


def follower(provider: ToyProvider, ledger: ToyLedger, options: Options | None = None, **rest: Any) -> Follower:
    return Follower(Rpc(provider, attempts=1, backoff=0.0), ledger, ToyDecoder(), options, **rest)


async def settle(one: Follower, most: int = 500) -> None:
    """Steps until nothing moves."""
    for _ in range(most):
        if not await one.step():
            return
    raise AssertionError("it never settles")


def indexed(ledger: ToyLedger) -> list[tuple[int, bytes]]:
    return [(event.at.block, bytes(event.model)) for event in ledger.events if isinstance(event, ModelDisabled)]


def agrees(ledger: ToyLedger, chain: ToyChain, options: Options, highest: int = 0) -> None:
    """``highest``: the highest head there ever was (a reorg may have lowered it since)."""
    head = chain.blocks[-1].block
    assert ledger.at is not None
    assert (ledger.at.block, ledger.at.hash) == (head.number, head.hash)
    assert indexed(ledger) == [word for word in words_of(chain) if word[0] >= options.start]
    assert all(chain.blocks[number].block == block for number, block in ledger.blocks.items())
    dense = range(max(options.start, max(head.number, highest) - options.depth + 1), head.number + 1)
    assert all(number in ledger.blocks for number in dense)


def reach(ledger: ToyLedger, chain: ToyChain, start: int) -> int:
    """The lowest block that a reorganisation may leave: the ledger has it, or nothing yet. Ranges far below the head
    leave only their last block in it, also where the first of them begins."""
    kept = [
        number
        for number, block in ledger.blocks.items()
        if chain.blocks[number : number + 1] and chain.blocks[number].block == block
    ]
    return min(kept, default=max(0, start - 1))


operations = st.lists(
    st.one_of(
        st.tuples(st.just("extend"), blocks_of_words),
        st.tuples(st.just("reorg"), st.integers(1, 10), blocks_of_words),
        st.tuples(st.just("steps"), st.integers(1, 4)),
        st.tuples(st.just("settle")),
    ),
    max_size=14,
)


@given(
    operations, st.integers(0, 3), st.sampled_from([1, 3, 10]), st.sampled_from([0, 1, 4]), st.sampled_from([1, 3, 64])
)
def test_any_history_of_reorgs_ends_in_the_clean_index(
    history: list[tuple[Any, ...]], start: int, near: int, limit: int, width: int
):
    async def run() -> None:
        chain, ledger = ToyChain(range_limit=limit), ToyLedger()
        chain.extend([[b"a"], [], [b"b", b"b"]])
        options = Options(start=start, depth=12, near=near)
        one = follower(ToyProvider(chain), ledger, options, span=Span(width))
        highest = 0
        for operation, *details in history:
            highest = max(highest, len(chain.blocks) - 1)
            if operation == "extend":
                chain.extend(details[0])
            elif operation == "reorg":
                chain.reorg(min(details[0], len(chain.blocks) - 1 - reach(ledger, chain, start)), details[1])
            elif operation == "steps":
                for _ in range(details[0]):
                    await one.step()
            else:
                await settle(one)
        if len(chain.blocks) <= max(start, ledger.at.block if ledger.at else 0):
            chain.extend([[b"a"]] * 30)  # what is behind the cursor is taken for a lagging endpoint
        await settle(one)
        agrees(ledger, chain, options, highest)

    asyncio.run(run())


@given(st.integers(0, 2**32), st.lists(blocks_of_words, min_size=2, max_size=5))
def test_a_load_balancer_of_forks_and_laggards_is_never_believed_by_halves(seed: int, growth: list[Words]):
    """Each request may meet another node: the old fork, a new one, one that lags. The ledger's own assertions hold at
    every step, and once the nodes agree nothing is missing."""

    async def run() -> None:
        dice = random.Random(seed)
        chain, ledger = ToyChain(), ToyLedger()
        chain.extend([[b"a"]] * 6)
        options = Options(depth=24, near=5)
        provider = ToyProvider(chain, seed=seed)
        one = follower(provider, ledger, options)
        for words in growth:
            old = chain.copy()
            chain.reorg(dice.randrange(4), words)
            lagging = chain.copy(max(0, len(chain.blocks) - 1 - dice.randrange(1, 6)))
            provider.views = [chain, old, lagging]
            for _ in range(12):
                try:
                    await one.step()
                except Expected:
                    continue
        provider.views = [chain]
        chain.extend([[b"a"]] * 40)
        await settle(one)
        agrees(ledger, chain, options)

    asyncio.run(run())


@given(st.integers(0, 2**32), st.floats(0.05, 0.5))
def test_an_endpoint_that_fails_at_random_only_costs_time(seed: int, rate: float):
    dice = random.Random(seed)
    nonsense: list[Any] = [
        {"error": {"code": -32000, "message": "header not found"}},
        {"error": {"code": -32005, "message": "daily request count exceeded"}},
        {"error": {"code": -32005, "message": "query returned more than 1 results"}},
        {"result": None},
        {"result": [{}]},
        {"result": {"number": "0x-1"}},
        {},
        "<html>",
        None,
    ]

    def fault(_method: str) -> Any:
        if dice.random() >= rate:
            return None
        choice = dice.choice([*nonsense, OSError(), ValueError()])
        if isinstance(choice, Exception):
            raise choice
        return choice

    async def run() -> None:
        chain, ledger = ToyChain(), ToyLedger()
        chain.extend([[b"a"], [], [b"?"], [b"b", b"b"]] * 8)
        options = Options(depth=6, near=3)
        one = follower(ToyProvider(chain, fault=fault), ledger, options, span=Span(4))
        for _ in range(5_000):
            try:
                if not await one.step():
                    break
            except Expected:
                continue
        agrees(ledger, chain, options)

    asyncio.run(run())


async def test_ranges_shrink_to_what_the_endpoint_takes_and_grow_again():
    chain = ToyChain(range_limit=7)
    chain.extend([[b"a"]] * 400)
    provider, ledger = ToyProvider(chain), ToyLedger()
    options = Options(depth=4)
    await settle(follower(provider, ledger, options, span=Span(256)))
    agrees(ledger, chain, options)
    few = provider.asked["eth_getLogs"]
    assert few < 400 / 7 * 2.5
    chain.range_limit, chain.result_limit = 0, 60
    ledger = ToyLedger()
    await settle(follower(provider, ledger, options, span=Span(2)))
    agrees(ledger, chain, options)
    assert provider.asked["eth_getLogs"] - few < 40


def test_a_span_takes_heavy_answers_in_smaller_ones_and_light_ones_in_larger():
    span = Span(1_000, widest=3_000)
    span.answered(1_000, 0.1, 40_000)
    assert span.blocks == 100
    span.answered(100, 0.1, 3_000)  # enough
    assert span.blocks == 100
    span.answered(50, 0.1, 0)  # the chain's end: says nothing
    assert span.blocks == 100
    for _ in range(9):
        span.answered(span.blocks, 0.1, 10)
    assert span.blocks == 3_000
    span.answered(3_000, 5.0, 10)  # slow
    assert span.blocks == 1_500
    span.failed()
    assert span.blocks == 750
    span.refused(750)
    for _ in range(4):
        span.answered(span.blocks, 0.1, 10)
    assert span.blocks == 562  # under what was refused, for now
    for _ in range(100):
        span.answered(span.blocks, 0.1, 10)
    assert span.blocks == 3_000


async def test_one_block_that_is_too_much_is_said_and_not_skipped():
    chain = ToyChain(result_limit=1)
    chain.extend([[b"a", b"b"]] + [[]] * 20)
    ledger = ToyLedger()
    one = follower(ToyProvider(chain), ledger, Options(depth=4))
    with pytest.raises(RangeTooLarge):
        await settle(one)
    assert ledger.at is None or ledger.at.block < 1


async def test_a_wide_gap_is_crossed_without_fetching_its_headers():
    chain = ToyChain()
    chain.extend([[b"a"] if n % 500 == 0 else [] for n in range(5_000)])
    provider, ledger = ToyProvider(chain), ToyLedger()
    options = Options(depth=10)
    await settle(follower(provider, ledger, options))
    agrees(ledger, chain, options)
    assert provider.asked["eth_getBlockByNumber"] < 60
    assert provider.asked["eth_getLogs"] < 20


async def test_a_reorg_deeper_than_the_dense_part_goes_back_to_an_older_block_of_the_ledger():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"] if n % 10 == 0 else [] for n in range(100)])
    options = Options(depth=5)
    one = follower(ToyProvider(chain), ledger, options, span=Span(20))
    await settle(one)
    chain.reorg(50, [[b"b"]] * 60)
    await settle(one)
    agrees(ledger, chain, options)
    assert ledger.rewinds == 1


async def test_a_reorg_of_the_very_first_blocks_goes_back_to_the_block_before_them():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"]] * 40)
    options = Options(start=10, depth=5)
    one = follower(ToyProvider(chain), ledger, options)
    await one.step()  # far from the head
    chain.reorg(31, [[b"b"]] * 40)  # block 10 and all after it
    await settle(one)
    agrees(ledger, chain, options)


async def test_a_reorg_below_the_ledger_is_the_end():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"]] * 20)
    one = follower(ToyProvider(chain), ledger, Options(start=10, depth=5))
    await settle(one)
    before = indexed(ledger)
    chain.reorg(15, [[b"b"]] * 20)
    with pytest.raises(LedgerExhausted):
        await one.step()
    assert indexed(ledger) == before


async def test_a_lagging_endpoint_is_no_reorg():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"]] * 9)
    provider = ToyProvider(chain)
    one = follower(provider, ledger)
    await settle(one)
    provider.views = [chain.copy(5)]
    assert not await one.step()
    assert ledger.rewinds == 0
    assert one.head is not None
    assert one.head.number == 5


async def test_in_a_wide_gap_the_blocks_that_something_rests_on_are_fetched():
    chain = ToyChain()
    chain.extend([[]] * 100)
    ledger = ToyLedger(resting=[7, 40, 99])
    await settle(follower(ToyProvider(chain), ledger, Options(start=1, depth=10)))
    assert [number for number in ledger.blocks if number < 90] == [0, 7, 40]


async def test_an_endpoint_that_lags_into_a_gap_of_the_ledger_is_no_reorg():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[]] * 100)
    provider = ToyProvider(chain)
    one = follower(provider, ledger, Options(depth=3))
    await settle(one)
    provider.views = [chain.copy(50)]
    assert not await one.step()
    assert ledger.rewinds == 0


async def test_before_the_first_block_there_is_nothing_to_do():
    assert not await follower(ToyProvider(ToyChain()), ToyLedger(), Options(start=3)).step()


async def test_a_malformed_log_is_reported_and_the_rest_indexed():
    chain, ledger, seen = ToyChain(), ToyLedger(), list[Malformed]()
    chain.extend([[b"a", b"!", b"b"]])
    await settle(follower(ToyProvider(chain), ledger, on_malformed=seen.append))
    assert indexed(ledger) == [(1, b"a"), (1, b"b")]
    assert [(one.log.log_index, one.error.detail) for one in seen] == [(1, "an exclamation")]


async def test_logs_of_another_fork_in_a_far_range_are_not_kept():
    chain = ToyChain()
    chain.extend([[b"a"]] * 30)
    other = chain.copy()
    other.reorg(25, [[b"b"]] * 25)

    class Torn(ToyProvider):
        async def make_request(self, method: Any, params: Any) -> Any:
            return (other if method == "eth_getLogs" else chain).answer(method, params)

    ledger = ToyLedger()
    with pytest.raises(MixedViews):
        await follower(Torn(chain), ledger, Options(depth=2)).step()
    assert ledger.at is None


async def test_a_block_that_is_later_than_the_head_is_not_kept():
    """The index's time would be one that has not come."""
    chain = ToyChain()
    chain.extend([[b"a"]] * 30)

    class Ahead(ToyProvider):
        async def make_request(self, method: Any, params: Any) -> Any:
            answer = await super().make_request(method, params)
            if method == "eth_getBlockByNumber" and params[0] == hex(28):
                return {"result": answer["result"] | {"timestamp": hex(2**40)}}
            return answer

    ledger = ToyLedger()
    with pytest.raises(MixedViews, match="later than the head"):
        await settle(follower(Ahead(chain), ledger, Options(depth=2)))
    assert all(block.time < 2**40 for block in ledger.blocks.values())


async def test_another_process_at_the_cursor_is_said():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"]] * 3)
    await settle(follower(ToyProvider(chain), ledger))

    class Raced(ToyLedger):
        async def cursor(self) -> Any:
            at = await super().cursor()
            if at is not None:
                self.at = type(at)(at.block, at.hash, at.version + 1)
            return at

    raced = Raced(ledger.blocks, ledger.events, ledger.at)
    chain.extend([[b"a"]])
    with pytest.raises(CursorMoved):
        await follower(ToyProvider(chain), raced).step()
    assert indexed(raced) == [(1, b"a"), (2, b"a"), (3, b"a")]


async def test_a_step_that_fails_keeps_nothing():
    chain, ledger = ToyChain(), ToyLedger()
    chain.extend([[b"a"]] * 3)

    def fault(method: str) -> Any:
        if method == "eth_getLogs":
            raise OSError
        return None

    with pytest.raises(EndpointError):
        await follower(ToyProvider(chain, fault=fault), ledger).step()
    assert ledger.at is None


class EchoDecoder:
    def __init__(self, echo: Address) -> None:
        self.emitters = (echo,)
        self.topics = (topic("x"),)

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        return [ModelDisabled(log.at, ModelId(log.data)) for log in logs]


async def test_it_follows_a_real_evm_through_a_reorg(embedded: EmbeddedDevnet):
    sender, rpc, ledger = embedded.accounts[0], embedded.rpc, ToyLedger()
    echo = await deploy_echo(embedded, sender)
    one = Follower(rpc, ledger, EchoDecoder(echo), Options(depth=8))
    for nonce in range(1, 13):
        await rpc.send_raw(sign(sender, nonce, echo, topic("x") + bytes([nonce])))
        if nonce % 3 == 0:
            await settle(one)
    assert [word for _, word in indexed(ledger)] == [bytes([nonce]) for nonce in range(1, 13)]
    await embedded.reorg(5)
    await settle(one)
    assert [word for _, word in indexed(ledger)] == [bytes([nonce]) for nonce in range(1, 8)]
    await rpc.send_raw(sign(sender, 8, echo, topic("x") + b"again"))
    await embedded.reorg(3, keep=True)
    await settle(one)
    assert indexed(ledger)[-1][1] == b"again"
    head = await rpc.block("latest")
    assert ledger.at is not None
    assert ledger.at.hash == head.hash
