"""Every fault really strikes, each at the seam where the real one would, and the same way for the same seed."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable

import pytest

from challenger.chain.rpc import Rpc
from challenger.domain import Call, UnixTime, Wei
from challenger.errors import EndpointError, RateLimited, Reverted, RpcError, StoreError
from challenger.sim.campaign.life import FaultyFiles, FaultyWorkers
from challenger.sim.campaign.plan import plan
from challenger.sim.campaign.play import make_template
from challenger.sim.faults import answers
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.faults.engine import Engine, Killed
from challenger.sim.faults.kinds import NOWHERE, OF_ENDPOINTS, READS, ROGUE, VETOES, Episode, Fault, draw, parse
from challenger.sim.faults.provider import FaultyProvider
from challenger.sim.wallet import Wallet
from challenger.store import inline
from challenger.store.engine import open_store
from replay.artifacts import ArtifactMissing, ArtifactReason
from replay.sandbox import Inconclusive, ReplayRequest

ALWAYS = 10**6


def stage(*episodes: Episode) -> tuple[InlineDevnet, Engine, FaultyProvider, Rpc]:
    devnet, engine = InlineDevnet(), Engine(1, episodes)
    provider = FaultyProvider(devnet.node, engine, 0)
    return devnet, engine, provider, Rpc(provider, timeout=20.0, attempts=1, backoff=0.0, patience=0.0)


def always(fault: Fault, **how) -> Episode:
    return Episode(fault, 0, ALWAYS, **({"where": 0 if fault in OF_ENDPOINTS else NOWHERE} | how))


async def events(devnet: InlineDevnet) -> tuple[Wallet, str]:
    """A contract that has logged: LOG1 of its call data, in four blocks."""
    wallet = Wallet(devnet.rpc, devnet.accounts[0].key, "logger")
    code = bytes.fromhex("600d80600b6000396000f3" + "3660006000376001366000a100")
    address, _ = await wallet.create(code)
    for number in range(8):
        await wallet.transact(Call(address, number.to_bytes(32, "big"), Wei(0)))
    return wallet, address


async def test_answers_that_take_their_time_let_blocks_come() -> None:
    devnet, engine, _, rpc = stage(always(Fault.LATENCY))
    engine.block = devnet.node.mine
    for _ in range(20):
        await rpc.chain_id()
    assert devnet.node.height >= 3
    assert engine.injected[Fault.LATENCY] == 20


async def test_a_timeout_says_nothing_about_whether_a_transaction_was_taken() -> None:
    devnet, _, provider, rpc = stage(always(Fault.TIMEOUT))
    await devnet.automine(False)
    wallet = Wallet(rpc, devnet.accounts[0].key, "late")
    wallet._nonce, wallet._chain = 0, 31337
    for _ in range(8):
        with pytest.raises(EndpointError, match="no answer"):
            await wallet.send(Call(devnet.accounts[1].address, b"", Wei(1)))
    assert 0 < len(provider.sent) < 8
    assert len(list(devnet.node.pool)) == 1


async def test_limits_come_in_http_and_in_json() -> None:
    _, _, _, rpc = stage(always(Fault.LIMITS))
    waits, words = set(), set()
    for _ in range(40):
        with pytest.raises(RateLimited) as caught:
            await rpc.chain_id()
        waits.add(caught.value.retry_after)
        words.add(caught.value.detail.split()[0])
    assert waits == {None, 30.0, 2.0}
    assert words == {"HTTP", "daily"}


async def test_servers_fail_and_batches_come_back_short_refused_or_in_disorder() -> None:
    _, _, _, rpc = stage(always(Fault.SERVER))
    for _ in range(10):
        with pytest.raises(EndpointError):
            await rpc.chain_id()
    devnet, engine, _, rpc = stage(always(Fault.BATCHES))
    devnet.node.mine(6)
    short = 0
    for _ in range(20):
        try:
            assert [b.number for b in await rpc.blocks(range(6))] == list(range(6)), "disorder is put right"
        except EndpointError:
            short += 1
    assert short
    assert engine.injected[Fault.BATCHES] > 5


async def test_a_limit_within_a_batch_in_disorder_stands_where_it_was_asked() -> None:
    """Found by world 213: a refusal had no number, and what came back could not be put in order."""
    _, _, provider, _ = stage(always(Fault.BATCHES), always(Fault.LIMITS, rate=60))
    whole = []
    for _ in range(60):
        try:
            found = await provider.make_batch_request(
                [("eth_chainId", []), ("eth_blockNumber", []), ("eth_chainId", [])]
            )
        except (EndpointError, RateLimited):
            continue
        if isinstance(found, list):
            whole.append(found)
    assert all([one["id"] for one in found] == [0, 1, 2] for found in whole)
    assert any("error" in one for found in whole for one in found)


async def test_garbage_is_never_taken_for_an_answer() -> None:
    _, engine, _, rpc = stage(always(Fault.GARBAGE))
    for _ in range(40):
        with pytest.raises(EndpointError):
            await rpc.block("latest")
    assert engine.injected[Fault.GARBAGE] == 40


async def test_a_stale_node_knows_nothing_of_the_newest_blocks() -> None:
    devnet, _, _, rpc = stage(always(Fault.STALE, depth=3))
    wallet, address = await events(devnet)
    head = devnet.node.height
    block = await devnet.rpc.block("latest")
    assert (await rpc.block("latest")).number == head - 3
    assert await rpc.nonce(wallet.address) == await devnet.rpc.nonce(wallet.address) - 3
    assert len(await rpc.logs(address, 0, head)) == 5
    with pytest.raises(RpcError):
        await rpc.logs_in(address, [block])
    for raw in await devnet.rpc.logs(address, head, head):
        assert await rpc.receipt(raw.tx_hash) is None


async def test_a_forked_node_grows_on_a_branch_of_its_own() -> None:
    devnet, _, _, rpc = stage(always(Fault.FORKED, depth=4))
    devnet.node.mine(10)
    mine, theirs = await devnet.rpc.block("latest"), await rpc.block("latest")
    assert (mine.number, mine.hash != theirs.hash) == (theirs.number, True)
    assert (await devnet.rpc.block(6)).hash == (await rpc.block(6)).hash
    assert (await devnet.rpc.block(7)).hash != (await rpc.block(7)).hash
    devnet.node.mine(2)
    assert (await rpc.block("latest")).number == 12
    assert (await rpc.block(10)).hash == theirs.hash, "it stays on its branch"


@pytest.mark.parametrize("how", ["missing", "altered"])
async def test_a_lying_node_hides_or_alters_logs(how: str) -> None:
    devnet, engine, _, rpc = stage(always(Fault.LYING, how=how))
    _, address = await events(devnet)
    truth, told = [await one.logs(address, 0, devnet.node.height) for one in (devnet.rpc, rpc)]
    assert truth != told
    assert (len(told) < len(truth)) == (how == "missing")
    assert engine.injected[Fault.LYING]
    for log in truth:
        assert (log in (await rpc.receipt(log.tx_hash)).logs) == (log in told), "the same lie wherever it is told"


async def test_a_lying_node_gives_wrong_receipts_and_wrong_hashes() -> None:
    devnet, _, _, rpc = stage(always(Fault.LYING, how="receipts"))
    _, address = await events(devnet)
    logs = await devnet.rpc.logs(address, 0, devnet.node.height)
    states = [(await rpc.receipt(log.tx_hash)).succeeded for log in logs]
    assert set(states) == {True, False}
    devnet, _, _, rpc = stage(always(Fault.LYING, how="hashes"))
    devnet.node.mine(20)
    same = [(await rpc.block(n)).hash == (await devnet.rpc.block(n)).hash for n in range(20)]
    assert set(same) == {True, False}


async def test_a_broken_node_answers_one_method_with_errors() -> None:
    devnet, engine, _, rpc = stage(always(Fault.BROKEN, how="eth_getLogs"))
    _, address = await events(devnet)
    said = set()
    for _ in range(30):
        with pytest.raises(RpcError, match="code=-32000") as caught:
            await rpc.logs(address, 0, devnet.node.height)
        said.add(caught.value.detail)
    assert len(said) > 2
    with pytest.raises(RpcError, match="code=-32000"):
        await rpc.logs_in(address, [await devnet.rpc.block(1), await devnet.rpc.block(2)])  # in a batch too
    assert await rpc.block("latest") == await devnet.rpc.block("latest"), "and the others as ever"
    assert engine.injected[Fault.BROKEN] == 32


async def test_a_node_that_speaks_against_every_transaction() -> None:
    devnet, engine, *_ = stage()
    me, other = devnet.accounts[0].address, devnet.accounts[1].address
    reads = {
        "call": lambda rpc: rpc.call(other, b"", sender=me),
        "estimate": lambda rpc: rpc.estimate_gas(other, b"", sender=me),
        "price": lambda rpc: rpc.gas_price(),
        "base fee": lambda rpc: rpc.base_fee(),
        "count": lambda rpc: rpc.nonce(me, "pending"),
        "balance": lambda rpc: rpc.balance(me),
        "view": lambda rpc: rpc.call(other, b""),
        "head": lambda rpc: rpc.block("latest"),
    }

    async def heard(rpc: Rpc) -> dict[str, object]:
        return {name: await _or_revert(read(rpc)) for name, read in reads.items()}

    true = await heard(devnet.rpc)
    false = {
        "reverts": {"call": "reverts", "estimate": "reverts"},
        "price": {"price": 10**15, "base fee": 10**15},
        "count": {"count": 3},
        "balance": {"balance": 0},
    }
    assert set(false) == set(VETOES)
    for how, told in false.items():
        engine.episodes = (always(Fault.VETO, how=how),)
        assert await heard(Rpc(FaultyProvider(devnet.node, engine, 0), attempts=1)) == true | told
        assert await heard(Rpc(FaultyProvider(devnet.node, engine, 1), attempts=1)) == true
    assert engine.injected[Fault.VETO] == sum(map(len, false.values()))


async def _or_revert(answer: Awaitable[object]) -> object:
    try:
        return await answer
    except Reverted:
        return "reverts"


def test_a_lie_spares_what_it_is_not_about() -> None:
    answer = {"result": "0x1"}
    assert all(answers.lie(how, "eth_chainId", answer) == answer for how in ("missing", "altered", "receipts"))


async def test_base_fees_leap_and_fall_back() -> None:
    devnet, *_ = stage()
    devnet.node.mine(3)
    before = devnet.node.chain.head.header.base_fee_per_gas
    devnet.node.chain.surge = 20
    devnet.node.mine()
    leapt = devnet.node.chain.head.header.base_fee_per_gas
    devnet.node.mine()
    assert before * 16 < leapt < before * 21
    assert devnet.node.chain.head.header.base_fee_per_gas < leapt


async def test_blocks_leave_out_whom_they_censor_and_a_rewritten_past_keeps_its_order() -> None:
    devnet, *_ = stage()
    await devnet.automine(False)
    one, two = (Wallet(devnet.rpc, devnet.accounts[n].key, str(n)) for n in (0, 1))
    pay = Call(devnet.accounts[5].address, b"", Wei(1))
    devnet.node.censored = frozenset({bytes.fromhex(one.address[2:])})
    first, second = await one.send(pay), await two.send(pay)
    devnet.node.mine(2)
    assert await devnet.rpc.receipt(first) is None
    devnet.node.censored = frozenset()
    devnet.node.mine(2)
    old = [await devnet.rpc.block(n) for n in range(1, 5)]
    devnet.node.rewrite(4, 5, lambda tx: tx.sender.hex() == two.address[2:])
    new = [await devnet.rpc.block(n) for n in range(1, 5)]
    assert all(a.hash != b.hash and a.time == b.time for a, b in zip(old, new, strict=True))
    assert (await devnet.rpc.receipt(second)).block == 1
    assert await devnet.rpc.receipt(first) is None
    assert await devnet.rpc.transaction(first) is None, "gone from the pool too"
    assert devnet.node.height == 5


@pytest.mark.parametrize(("fault", "said"), [(Fault.OUTAGE, "cannot be opened"), (Fault.FULL_DISK, "the disk is full")])
async def test_the_database_refuses(tmp_path, fault: Fault, said: str) -> None:
    await make_template(tmp_path / "db.sqlite")
    engine = Engine(1, [Episode(fault, 5, ALWAYS)])
    url = f"sqlite+aiosqlite:///{tmp_path}/db.sqlite"
    async with open_store(url, engine=lambda parsed, _: inline.engine(parsed, engine.gate)) as store:
        async with store.begin(UnixTime(1)) as unit:
            await unit.settings.put("a", "b")
        engine.height = 5
        with pytest.raises(StoreError, match=said):
            async with store.begin(UnixTime(2)) as unit:
                await unit.settings.put("a", "c")
        engine.height = 0
        async with store.read() as view:
            assert await view.settings.get("a") == "b"


async def test_slow_commits_let_blocks_come_and_dead_processes_write_nothing(tmp_path) -> None:
    await make_template(tmp_path / "db.sqlite")
    engine = Engine(1, [Episode(Fault.SLOW_DISK, 0, ALWAYS)])
    blocks = []
    engine.block = lambda: blocks.append(1)
    url = f"sqlite+aiosqlite:///{tmp_path}/db.sqlite"
    async with open_store(url, engine=lambda parsed, _: inline.engine(parsed, engine.gate)) as store:
        for number in range(10):
            async with store.begin(UnixTime(number)) as unit:
                await unit.settings.put("a", str(number))
        assert blocks
        with pytest.raises(Killed):
            async with store.begin(UnixTime(11)) as unit:
                await unit.settings.put("a", "last words")
                engine.dead = True
        with pytest.raises(Killed):
            async with store.read():
                pass
    kept = sqlite3.connect(tmp_path / "db.sqlite")
    assert kept.execute("SELECT value FROM settings WHERE key = 'a'").fetchall() == [("9",)]
    kept.close()


async def test_a_line_that_is_down_reaches_no_data() -> None:
    files = FaultyFiles(Engine(1, [always(Fault.CUT_OFF)]), lambda *_: b"")
    with pytest.raises(ArtifactMissing) as caught:
        await files.fetch_bundle("file:///data/x", bytes(32), 1)
    assert (caught.value.reason, caught.value.meanwhile) == (ArtifactReason.UNREACHABLE, "")


async def test_workers_die_and_processes_die_at_a_drawn_step() -> None:
    engine = Engine(1, [always(Fault.WORKERS)])
    outcome = await FaultyWorkers(engine).replay(ReplayRequest(None, b"", None, None, 1, b"", "numpy"))
    assert isinstance(outcome, Inconclusive)
    engine = Engine(1, [always(Fault.CRASH)])
    engine.born()
    engine.doom()
    steps = 0
    with pytest.raises(Killed):
        for steps in range(200):  # noqa: B007
            engine.cross()
    assert 0 <= steps < 120
    with pytest.raises(Killed):
        engine.cross()


def test_a_plan_is_its_seed() -> None:
    plans = [plan(seed, tuple(Fault), all_of=False) for seed in range(200)]
    assert plans == [plan(seed, tuple(Fault), all_of=False) for seed in range(200)]
    struck = {one.fault for made in plans for one in made.episodes}
    assert struck == set(Fault)
    depths = {one.depth for made in plans for one in made.episodes if one.fault is Fault.REORG}
    assert depths == set(range(1, 13))
    for made in plans:
        assert len({one.where for one in made.episodes if one.fault in ROGUE}) <= 1, "at most one endpoint lies"
        assert len({one.where for one in made.episodes if one.fault is Fault.BROKEN}) <= 1, "or is broken"
    assert {one.how for made in plans for one in made.episodes if one.fault is Fault.BROKEN} == set(READS)
    assert {one.how for made in plans for one in made.episodes if one.fault is Fault.VETO} == set(VETOES)
    before = tuple(one for one in Fault if one not in (Fault.BROKEN, Fault.VETO))
    for made in plans:
        known = [one for one in made.episodes if one.fault in before]
        assert known == list(plan(made.seed, before, all_of=False).episodes), "a later kind moves no earlier draw"
    named = draw(7, [Fault.SPIKE], endpoints=3, horizon=60, beyond=99, all_of=True)
    assert {one.fault for one in named} == {Fault.SPIKE}


def test_faults_are_named_on_the_command_line() -> None:
    assert parse("all") == tuple(Fault)
    assert parse("none") == ()
    assert parse("spike, reorg") == (Fault.SPIKE, Fault.REORG)
    for wrong in ("", "spike,storm"):
        with pytest.raises(ValueError, match="unknown fault"):
            parse(wrong)
