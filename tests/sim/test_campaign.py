"""Whole worlds under faults: what must always be true is, the same seed is the same world, and a break shows."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from sqlalchemy import update

from challenger.cli import main
from challenger.domain import Call, UnixTime
from challenger.sim.campaign import check as checking
from challenger.sim.campaign import run
from challenger.sim.campaign.plan import plan
from challenger.sim.campaign.play import make_template, play
from challenger.sim.faults.engine import Engine
from challenger.sim.faults.kinds import Fault
from challenger.sim.scoreboard import Truth
from challenger.sim.wallet import Wallet
from challenger.sim.world import WATCHER
from challenger.store import open_store
from challenger.store.schema import work

ALL = tuple(Fault)
#: Processes for a campaign: a test run has two already.
PROCESSES = int(os.environ.get("CHALLENGER_TEST_PROCESSES", "2"))


@pytest.mark.slow
async def test_the_same_seed_is_the_same_world_whatever_the_folder_and_process() -> None:
    import asyncio

    def again() -> run.Outcome:
        return run.world(17, ALL, all_of=False)

    here = await asyncio.to_thread(again)
    assert here.findings.broken == []
    assert here.starts > 1, "this seed kills the watcher"
    code = (
        "from challenger.sim.campaign.run import world; from challenger.sim.faults.kinds import Fault;"
        "print(world(17, tuple(Fault), all_of=False).findings.digest)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONWARNINGS": "ignore"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=environment
    )
    said, _ = await child.communicate()
    assert said.decode().strip() == here.findings.digest


async def test_a_quiet_world_has_nothing_in_the_way_of_any_filing(tmp_path) -> None:
    await make_template(tmp_path / "t.sqlite")
    played = await play(plan(5, (), all_of=True), tmp_path, tmp_path / "t.sqlite")
    found = await checking.check(played, tmp_path / "t.sqlite")
    assert found.broken == []
    assert found.filings == found.inside == found.on_time >= 5
    assert found.honest >= 4
    # what is checked against: the same world, told otherwise
    labels = played.world.labels
    wrong = next(label for label in labels if label.truth is Truth.WRONG)
    played.world.labels = [replace(label, truth=Truth.HONEST) if label is wrong else label for label in labels]
    told = (await checking.check(played, tmp_path / "t.sqlite")).broken
    assert [line.split(":")[0] for line in told] == ["an honest provider was accused", "hand-offs"]
    honest = next(label for label in labels if label.truth is Truth.HONEST)
    played.world.labels = [replace(label, truth=Truth.WRONG) if label is honest else label for label in labels]
    told = (await checking.check(played, tmp_path / "t.sqlite")).broken
    assert [line.split(":")[0] for line in told] == ["missed inside the envelope"]
    played.world.labels = [label for label in labels if label is not wrong]
    told = (await checking.check(played, tmp_path / "t.sqlite")).broken
    assert [line.split(":")[0] for line in told] == ["filed over a commitment that nobody made"]
    played.world.labels = labels
    honest_closes = played.world.market.jobs[honest.job].closes
    async with open_store(played.settings.store.url) as store, store.begin(UnixTime(1)) as unit:
        early = update(work).where(work.c.commitment == honest.job).values(state="expired", updated=1)
        await unit.connection.execute(early)
    told = (await checking.check(played, tmp_path / "t.sqlite")).broken
    assert [line.split(":")[0] for line in told] == ["given up before its window closed", "rows"]
    # outside the envelope a case may be missed, if it says what kept it
    played.world.labels = [replace(label, truth=Truth.WRONG) if label is honest else label for label in labels]
    played.hindered.append((honest_closes - 1, frozenset({"fee"})))
    for detail, says in (
        ("the window closed before it was judged", {"missed without naming its gate"}),
        ("the window closed before it was judged; before that, fee: too high", set()),
    ):
        async with open_store(played.settings.store.url) as store, store.begin(UnixTime(1)) as unit:
            await unit.connection.execute(early.values(detail=detail, updated=honest_closes))
        told = (await checking.check(played, tmp_path / "t.sqlite")).broken
        assert {line.split(":")[0] for line in told} - {"rows"} == says
    # and a challenge that is sent though it stands: it reverts, and leaves no event
    blocks, seen = played.devnet.node.chain.blocks, len(told)
    ours = next(tx for block in blocks for tx in block.transactions if tx.sender == played.account and tx.value)
    wallet = Wallet(played.devnet.rpc, played.devnet.accounts[WATCHER].key, "again")
    await wallet.send(Call("0x" + ours.to.hex(), bytes(ours.data), ours.value))
    await played.devnet.mine()
    again = (await checking.check(played, tmp_path / "t.sqlite")).broken[seen:]
    assert [line.partition(" at ")[0] for line in again] == ["sent again"]


@pytest.mark.slow
def test_the_command_prints_worlds_and_says_how_to_see_one_again(capsys, monkeypatch) -> None:
    assert main(["sim", "--seed", "5", "--faults", "none", "--processes", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["worlds"] == 1
    assert told["inside"] == told["on_time"] > 0
    assert told["broken"] == []
    # as if our own decisions followed from the chain alone
    monkeypatch.setattr(checking, "CHAIN_TABLES", ("commitments", "work"))
    assert main(["sim", "--seed", "2", "--faults", "censor,full-disk,outage", "--processes", "1"]) == 1
    said = capsys.readouterr()
    assert "BROKEN" in said.out
    assert "index: table work is not that of a clean index" in said.err
    assert "again: challenger sim --seed 2 --faults censor,full-disk,outage" in said.err


@pytest.mark.slow
async def test_what_is_done_to_a_chain_is_done(tmp_path) -> None:
    await make_template(tmp_path / "t.sqlite")
    faults = (Fault.SKEW, Fault.DROPPED, Fault.SPIKE, Fault.CENSOR, Fault.REORG)
    made = plan(3, faults, all_of=True)
    played = await play(made, tmp_path, tmp_path / "t.sqlite")
    assert {fault: played.engine.injected[fault] > 0 for fault in faults} == dict.fromkeys(faults, True)
    asked = [one.depth for one in made.episodes if one.fault is Fault.REORG]
    assert sum(played.reorgs.values()) == len(asked)
    assert max(played.reorgs) <= max(asked)
    headers = [block.header for block in played.devnet.node.chain.blocks]
    gaps = {int(b.timestamp - a.timestamp) for a, b in pairwise(headers)}
    assert gaps & {24, 36, 48, 60, 72}, "the chain's clock jumps"
    leaps = [b.base_fee_per_gas / a.base_fee_per_gas for a, b in pairwise(headers[1:])]
    assert max(leaps) > 15
    assert (await checking.check(played, tmp_path / "t.sqlite")).broken == []


def test_a_machines_date_is_wrong_for_a_while() -> None:
    engine = Engine(1, ())
    engine.height = 10
    engine.misread(-300, 40)
    seen = {}
    for engine.height in (10, 49, 50):
        seen[engine.height] = engine.clock_error
    assert seen == {10: -300, 49: -300, 50: 0}


def test_a_wrong_list_of_faults_is_a_usage_error(capsys) -> None:
    assert main(["sim", "--faults", "storm"]) == 2
    assert "unknown fault storm" in capsys.readouterr().err


@pytest.mark.slow
def test_a_world_whose_settlements_are_taken_back_under_a_cap_of_two_bonds_holds() -> None:
    assert run.world(1301, ALL, all_of=False).findings.broken == []


@pytest.mark.slow
def test_a_line_that_loses_a_third_of_its_requests_asks_no_honest_provider_for_data() -> None:
    assert run.world(1208, ALL, all_of=False).findings.broken == []


@pytest.mark.slow
def test_a_hundred_worlds_under_every_fault() -> None:
    _campaign(range(1, 101))


@pytest.mark.full
def test_two_thousand_worlds() -> None:
    part, parts = map(int, os.environ.get("CHALLENGER_TEST_PART", "1/1").split("/"))
    total = _campaign(range(part, 2_001, parts))
    assert total.filings * parts >= 10_000


def _campaign(seeds: range) -> run.Total:
    total = run.campaign(seeds, ALL, processes=PROCESSES, seen=lambda _: None)
    print(
        f"{total.worlds} worlds: {total.on_time}/{total.inside} on time, {total.filings} filings, {total.false} false"
    )
    assert total.broken == []
    assert total.worlds == len(seeds)
    assert total.on_time == total.inside > total.worlds
    assert total.false == 0
    assert set(total.injected) == set(map(str, ALL))
    return total
