"""The true HTTP client against endpoints that fail on the wire, and a watcher that sees the chain through three of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from challenger.app import App, opened
from challenger.chain.asking import Member
from challenger.chain.endpoint import HttpProvider
from challenger.chain.pool import PoolProvider
from challenger.chain.rpc import Rpc
from challenger.domain import Call, Wei
from challenger.errors import AnswerTooLarge, EndpointError, NoAnswer, RateLimited
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.faults.engine import Engine
from challenger.sim.faults.kinds import Fault
from challenger.sim.faults.proxy import ON_THE_WIRE, FaultyProxy, Pace, lasting
from challenger.sim.foes.arena import Deal, sample
from challenger.sim.foes.baits import Bait, last_bit
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.sim.wallet import Wallet
from tests.sim.foes_stage import contest

#: Nothing here waits for long; an endless body has a few MiB, and so has what the client bears.
BRIEF = Pace(latency=0.01, silence=0.1, oversize=4 * 2**20, retry_after=(None, "0", "30", "soon"))
BEARABLE = 2**20


@asynccontextmanager
async def faulty(devnet: InlineDevnet, *faults: Fault, rate: int = 100, seed: int = 1, where: int = 0):
    engine = Engine(seed, lasting(dict.fromkeys(faults, rate), where + 1))
    async with FaultyProxy(devnet.provider, engine, where, pace=BRIEF) as proxy:
        yield proxy, engine


@asynccontextmanager
async def client(url: str, **options) -> AsyncIterator[Rpc]:
    async with aiohttp.ClientSession() as session:
        provider = HttpProvider(url, session, max_answer=BEARABLE)
        yield Rpc(provider, **({"timeout": 0.08, "attempts": 1, "backoff": 0.0, "patience": 0.0} | options))


@pytest.mark.parametrize("fault", [f for f in ON_THE_WIRE if f not in (Fault.LATENCY, Fault.BATCHES)])
async def test_each_fault_is_an_error_of_one_line_or_the_right_answer(fault: Fault):
    devnet, met, right = InlineDevnet(), Counter(), 0
    async with faulty(devnet, fault) as (proxy, engine), client(proxy.url) as rpc:
        for _ in range(6 if fault is Fault.TIMEOUT else 40):
            try:
                right += await rpc.chain_id() == 31337
            except (EndpointError, RateLimited) as error:
                met[type(error), str(error)] += 1
        assert engine.injected[fault] == 6 if fault is Fault.TIMEOUT else 40
    kinds = {kind for kind, _ in met}
    words = " ".join(said for _, said in met)
    assert "\n" not in words
    match fault:
        case Fault.TIMEOUT:
            assert (kinds, right) == ({NoAnswer}, 0)
        case Fault.LIMITS:
            assert (kinds, right) == ({RateLimited}, 0)
        case Fault.SERVER:
            assert "HTTP 502" in words
            assert "ClientPayloadError" in words, "cut within its body"
        case Fault.GARBAGE:
            assert AnswerTooLarge in kinds
            assert "not JSON" in words
            assert right, "a wrong content type hurts nobody"


async def test_batches_are_put_in_order_or_asked_for_again_in_other_sizes():
    devnet = InlineDevnet()
    devnet.node.mine(12)
    async with faulty(devnet, Fault.BATCHES, Fault.LATENCY) as (proxy, engine):
        right, short = 0, set()
        for _ in range(12):
            async with client(proxy.url, attempts=3) as rpc:
                try:
                    right += [block.number for block in await rpc.blocks(range(12))] == list(range(12))
                except EndpointError as error:
                    short.add(error.detail)
        assert right >= 6
        short = {detail for detail in short if not detail.startswith("no answer to a batch")}  # a slow machine's
        assert short <= {"a batch came back without all of its answers"}
        assert engine.injected[Fault.BATCHES] > 12


async def test_the_same_seed_is_the_same_weather():
    told = []
    for seed in (5, 5, 6):
        devnet, heard = InlineDevnet(), []
        async with (
            faulty(devnet, Fault.LIMITS, Fault.SERVER, rate=40, seed=seed) as (proxy, _),
            client(proxy.url) as rpc,
        ):
            for _ in range(20):
                try:
                    heard.append(str(await rpc.chain_id()))
                except (EndpointError, RateLimited) as error:
                    heard.append(error.detail)
        told.append(heard)
    assert told[0] == told[1] != told[2]


async def test_a_transaction_whose_answer_never_came_may_have_been_taken():
    devnet = InlineDevnet()
    await devnet.automine(False)
    signers = [account.key for account in devnet.accounts[:8]]
    async with faulty(devnet, Fault.TIMEOUT) as (proxy, _), client(proxy.url) as rpc:
        for key in signers:
            wallet = Wallet(rpc, key, "late")
            wallet._nonce, wallet._chain = 0, 31337
            with pytest.raises(EndpointError, match="no answer"):
                await wallet.send(_pay(devnet))
    assert 0 < len(list(devnet.node.pool)) < len(signers)


async def test_an_endless_answer_is_one_endpoints_failure_and_another_serves():
    """Only a log range is the caller's to split: for everything else the next endpoint is asked."""
    devnet = InlineDevnet()
    devnet.node.mine(3)
    async with AsyncExitStack() as stack:
        rpcs = []
        for where in range(2):
            proxy, _ = await stack.enter_async_context(faulty(devnet, *((Fault.GARBAGE,) if not where else ())))
            rpcs.append(await stack.enter_async_context(client(proxy.url)))
        pool = PoolProvider([Member(rpc, str(n)) for n, rpc in enumerate(rpcs)], chain_id=31337, clock=lambda: 0.0)
        rpc = Rpc(pool, attempts=1)
        right, told = 0, set()
        for _ in range(20):
            pool.current = pool.members[0]
            pool.members[0].health.answered()
            try:
                right += await rpc.chain_id() == 31337
                right += [block.number for block in await rpc.blocks(range(4))] == [0, 1, 2, 3]
            except EndpointError as error:
                told.add(error.detail[:21])
        assert told <= {"nonsense in answer to"}, "what looks like an answer is the reader's to judge"
        assert right > 20


@pytest.mark.slow
async def test_a_watcher_behind_three_faulty_proxies_files_every_fraud_once_and_in_time(tmp_path, template):
    async with contest(tmp_path, template) as c, AsyncExitStack() as stack:
        a = c.arena
        engine = Engine(11, lasting(dict.fromkeys(ON_THE_WIRE, 2) | {Fault.BATCHES: 60}, 3))
        proxies = [
            await stack.enter_async_context(FaultyProxy(a.devnet.provider, engine, where, pace=BRIEF))
            for where in range(3)
        ]
        chain = replace(c.settings.chain, rpc=tuple(one.url for one in proxies), embedded=False, timeout=0.3)
        filing = replace(c.settings.filing, correlated_providers=100)
        settings = replace(c.settings, chain=chain, filing=filing)
        files = ToyFiles(a.room.read)
        app = await _up(stack, settings, files=files, workers=c.workers, monotonic=_hurried)
        frauds = [Deal(await a.party("cheat"), sample(n), Bait(last_bit)) for n in range(2)]
        await a.serve([*frauds, Deal(await a.party("honest"), sample(7))])
        await a.until(lambda: len(a.events("Settled")) == 2, lambda: _whatever(c, app))
        assert c.once(*a.jobs(Truth.WRONG))
        for event in a.logged("Challenged"):
            assert a.time_of(event) < a.market.jobs[event.args["job"]].closes
        assert {e["outcome"] for e in a.events("Settled")} == {1}
        assert set(engine.injected) == set(ON_THE_WIRE), "each of them struck"


async def _up(stack: AsyncExitStack, settings, **parts) -> App:
    """As a supervisor does: started again until it comes up."""
    for _ in range(20):
        try:
            return await stack.enter_async_context(opened(settings, **parts))
        except (EndpointError, RateLimited):
            continue
    raise AssertionError("it never comes up")


async def _whatever(c, app) -> None:
    """A turn in which each loop goes on at the next one, whatever the endpoints did."""
    for look in (app.step, app.gather, app.investigate, app.step):
        try:
            await look()
        except (EndpointError, RateLimited):
            continue
    await c.arena.judge()
    await c.arena.blocks.tick()


def _hurried() -> float:
    """A clock by which endpoints rest for milliseconds where they would for seconds."""
    return time.monotonic() * 1_000


def _pay(devnet: InlineDevnet) -> Call:
    return Call(devnet.accounts[9].address, b"", Wei(1))
