"""An old copy of the database is put back: nothing is filed twice, and what was filed is followed to its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from challenger.app import opened
from challenger.chain.rpc import Rpc
from challenger.chain.signers import from_key
from challenger.domain import Mode, State
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.sim.world import WATCHER
from challenger.store.backup import backup, restore
from tests.integration.test_watcher import Scene, scene


async def copies(s: Scene, app, folder: Path, count: int) -> list[Path]:
    """The database after each of ``count`` turns in which nobody rules, the first before any fraud was seen."""
    await s.until_quiet(app)
    made = [folder / f"copy-{number}" for number in range(count)]
    backup(s.settings.store.url, made[0])
    await s.world.play()
    for path in made[1:]:
        await s.turn(app, people=False)
        backup(s.settings.store.url, path)
    return made


def put_back(s: Scene, copy: Path, *, plain: bool) -> None:
    if not plain:
        restore(s.settings.store.url, copy, force=True)
        return
    for suffix in ("-wal", "-shm"):
        s.folder.database.with_name(s.folder.database.name + suffix).unlink(missing_ok=True)
    s.folder.database.write_bytes(copy.read_bytes())


async def files_nothing_twice(s, app, wrong: Counter[bytes]) -> None:
    """What a watcher on an old copy does, to the end: every one of ``wrong`` was challenged once, whenever."""
    assert app.held, "an old copy is recognised"
    for _ in range(6):
        await s.turn(app, people=False)
    assert not app.held
    assert await s.accused() <= wrong
    await s.until_quiet(app)
    await s.world.blocks.travel(s.world.last_demand())
    await s.until_quiet(app)
    assert await s.accused() == wrong
    states = await s.states(app)
    assert states[State.WITHDRAWN] == len(wrong) + len(s.jobs(Truth.WITHHELD)), states
    demands = Counter(event.args["job"] for event in await s.events() if event.name == "Demanded")
    assert max(demands.values()) == 1, "nor is anything demanded twice"


@pytest.mark.parametrize(
    ("moment", "plain"),
    [
        (0, True),
        (4, False),
        *(pytest.param(*how, marks=pytest.mark.slow) for how in ((1, False), (2, True), (6, True))),
    ],
)
async def test_while_disputes_are_open(tmp_path, moment, plain):
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE, Kind.TRUNCATE, Kind.WITHHOLD)) as s:
        async with s.watcher(correlated_providers=100) as app:
            made = await copies(s, app, tmp_path, 12)
            wrong = Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
            assert await s.accused() <= wrong
            assert await s.accused(), "filed before the copy comes back"
            await app.publish((await s.devnet.rpc.block("latest")).time)
        put_back(s, made[moment], plain=plain)
        async with s.watcher(correlated_providers=100) as app:
            await files_nothing_twice(s, app, wrong)


@pytest.mark.slow
async def test_after_the_end(tmp_path):
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE, Kind.TRUNCATE)) as s:
        async with s.watcher(correlated_providers=100) as app:
            made = await copies(s, app, tmp_path, 10)
            await s.until_quiet(app)
        wrong = Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        for copy in made[::3]:
            put_back(s, copy, plain=True)
            async with s.watcher(correlated_providers=100) as app:
                await s.until_quiet(app)
                assert (await s.states(app))[State.WITHDRAWN] == len(wrong)
        assert await s.accused() == wrong


async def test_one_taken_over_goes_back_when_its_dispute_leaves_the_chain(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            await s.world.play()
            copy = tmp_path / "copy"
            backup(s.settings.store.url, copy)
            while not await s.accused():
                await s.turn(app, people=False)
        put_back(s, copy, plain=True)
        async with s.watcher(correlated_providers=100) as app:
            for _ in range(3):
                await s.turn(app, people=False)
            await s.devnet.reorg(5)
            await s.until_quiet(app)
            assert set(await s.accused()) == s.jobs(Truth.WRONG)
            assert max((await s.accused()).values()) == 1


async def test_a_database_that_is_no_copy_waits_for_nothing(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        for _ in range(2):
            async with s.watcher(correlated_providers=100) as app:
                assert not app.held
                if not s.world.labels:
                    await s.world.play()
                await s.until_quiet(app)
                await app.publish((await s.devnet.rpc.block("latest")).time)


async def filed_once(s: Scene, app) -> None:
    await s.world.play()
    await s.until_quiet(app)
    assert not app.held
    assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))


async def test_what_a_stranger_left_waiting_under_our_key_does_not_stop_it_for_good(tmp_path):
    """It may be ours, signed after the copy was made, and has its time; then it is outbid."""
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        key = from_key(s.devnet.accounts[WATCHER].key)
        cheap = {"maxFeePerGas": 2, "maxPriorityFeePerGas": 1, "gas": 60_000, "value": 0, "data": b"\x01"}
        for nonce in (0, 1):
            fields = {"chainId": 31337, "nonce": nonce, "to": "0x" + "77" * 20, **cheap}
            await s.devnet.rpc.send_raw((await key.sign_transaction(fields)).raw)
        async with s.watcher(correlated_providers=100) as app:
            assert app.held
            await s.turn(app)
            assert app.held
            assert await s.devnet.rpc.nonce(key.address) == 0
            for _ in range(20):
                await s.turn(app)
            await filed_once(s, app)


class Overcounting:
    """An endpoint by which one transaction of any account waits."""

    def __init__(self, inner) -> None:
        self._inner = inner

    async def make_request(self, method, params):
        answer = await self._inner.make_request(method, params)
        if method == "eth_getTransactionCount" and params[1] == "pending":
            return {"result": hex(int(answer["result"], 16) + 1)}
        return answer


async def test_a_false_count_of_what_waits_does_not_stop_it_for_good(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,)) as s:
        s.settings = replace(s.settings, chain=replace(s.settings.chain, rpc=("http://first", "http://second")))
        false, honest = Rpc(Overcounting(s.devnet.provider)), s.devnet.rpc
        async with opened(s.settings, rpc=false, others=[honest], files=ToyFiles(), workers=s.workers) as app:
            assert app.held
            for _ in range(20):
                await s.turn(app)
            await filed_once(s, app)
            assert await s.devnet.rpc.nonce(s.devnet.accounts[WATCHER].address) < 20, (
                "nothing is spent on it again and again"
            )


async def test_who_knows_that_the_record_is_older_spends_nothing_until_the_chain_was_read(tmp_path):
    """As after a failover under a running watcher, which its next life is told of."""
    async with scene(tmp_path, seed=3, cheats=(Kind.NUDGE,), tasks=5, round_size=5) as s:
        await s.world.play()
        async with opened(
            s.settings, rpc=s.devnet.rpc, files=ToyFiles(), workers=s.workers, doubt="it is older"
        ) as app:
            assert app.held == "it is older"
            for _ in range(8):
                await s.turn(app, people=False)
            assert not app.held
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
        watching = replace(s.settings, filing=replace(s.settings.filing, mode=Mode.WATCH))
        async with opened(watching, rpc=s.devnet.rpc, files=ToyFiles(), workers=s.workers, doubt="it is older") as app:
            assert not app.held, "who spends nothing need not wait"
