"""Worlds without a watcher: everything happens on the chain, and the scoreboard says what nobody noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.served import RemoteDevnet, ServedDevnet
from challenger.domain import CommitmentId, DemandId, DisputeId, Hash32, Part, Wei
from challenger.protocols.reference_calls import Claim, MarketCalls, seal_digest
from challenger.sim.history import History, whole
from challenger.sim.scenario import Kind, Knobs, plan
from challenger.sim.scoreboard import Label, Scoreboard, Truth, read_labels, score
from challenger.sim.toy import ToyBench, kits
from challenger.sim.wallet import ActorFailed, Wallet
from challenger.sim.world import LABELS, WATCHER, World

FEW = Knobs(tasks=14, seed=3, round_size=7)


async def board_of(world: World) -> Scoreboard:
    await world.refresh()
    bond = world.deployment.params.model_bond
    return score(world.history.events, world.history.times, world.labels, bond)


async def opened(devnet: EmbeddedDevnet, folder: Path, knobs: Knobs = FEW) -> tuple[World, ToyBench]:
    bench = ToyBench()
    return await World.open(devnet, folder, plan(knobs), kits(), bench), bench


async def test_with_nobody_watching_every_fraud_is_missed_and_every_fee_is_paid(
    devnet: EmbeddedDevnet, tmp_path: Path
) -> None:
    world, _ = await opened(devnet, tmp_path)
    await world.play()
    assert not await world.step()
    end = world.last_window()
    assert end is not None
    await world.blocks.travel(end)
    await world.finish()
    board = await board_of(world)
    assert board.commitments == 14
    assert board.missed == (*board.wrong, *board.withheld)
    assert {label.kind for label in world.labels} == set(Kind)
    assert (board.caught, board.false, board.unlabelled, board.slack) == ((), (), (), ())
    assert world.last_window() is None
    assert board.money.held == await devnet.rpc.balance(world.deployment.market)
    assert sum(party.withdrawn for party in board.parties.values()) == board.money.fees_paid > 0
    assert read_labels(tmp_path / LABELS)[1] == world.labels
    await world.close()


async def test_a_round_shares_blocks(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    world, _ = await opened(devnet, tmp_path)
    await world.round(world.scenario.rounds[0])
    blocks = {event.log.block for event in world.history.events if event.name == "Committed"}
    assert len(blocks) == 1
    assert len(world.labels) == 7


class Accuser:
    """A challenger with a wallet, for whatever claim."""

    def __init__(self, world: World, devnet: EmbeddedDevnet) -> None:
        self.world = world
        self.wallet = Wallet(devnet.rpc, devnet.accounts[WATCHER].key, "accuser")
        self.calls = MarketCalls(world.deployment.market)

    async def accuse(self, label: Label) -> None:
        params = self.world.deployment.params
        lie = Hash32(bytes(32))
        claim = Claim(CommitmentId(label.job), lie, lie, lie, lie)
        together = self.world.blocks.together
        await together([(self.wallet, self.calls.seal(seal_digest(self.wallet.address, claim)))])
        await together([(self.wallet, self.calls.challenge(claim, params.challenge_bond))])

    async def settle(self, number: int) -> None:
        await self.world.blocks.together([(self.wallet, self.calls.settle(DisputeId(number)))])


def labelled(world: World, truth: Truth, *, but: tuple[str, ...] = ()) -> Label:
    return next(label for label in world.labels if label.truth is truth and label.name not in but)


async def test_the_court_convicts_what_is_wrong_and_acquits_what_is_right(
    devnet: EmbeddedDevnet, tmp_path: Path
) -> None:
    world, bench = await opened(devnet, tmp_path)
    await world.play()
    accuser = Accuser(world, devnet)
    wrong = labelled(world, Truth.WRONG, but=("maple",))  # maple owns up
    right = labelled(world, Truth.HONEST)
    for label in (wrong, right):
        await accuser.accuse(label)
    assert await world.step()
    assert set(bench.replays) == {"torch", "numpy"}  # two signers were enough, and they did not share a backend
    await accuser.settle(1)
    await accuser.settle(2)
    assert not await world.step()
    board = await board_of(world)
    assert board.caught == (wrong.job,)
    assert board.false == (right.job,)
    assert board.money.bonds_lost == world.deployment.params.challenge_bond


async def test_the_provider_of_an_older_model_concedes_its_false_answers_only(
    devnet: EmbeddedDevnet, tmp_path: Path
) -> None:
    world, bench = await opened(devnet, tmp_path, Knobs(tasks=16, cheats=(Kind.OLDER,)))
    await world.play()
    accuser = Accuser(world, devnet)
    mine = [label for label in world.labels if label.name == "maple"]
    for label in mine:
        await accuser.accuse(label)
    await world.step()
    board = await board_of(world)
    wrong = [label.job for label in mine if label.truth is Truth.WRONG]
    assert board.caught == tuple(wrong)
    assert 0 < len(wrong) < len(mine)
    assert len(bench.replays) == 2 * (len(mine) - len(wrong))  # the court had only the others to judge


@pytest.mark.parametrize(("part", "index"), [(Part.INPUT, 0), (Part.OUTPUT, 0), (Part.OPENING, 1)])
async def test_who_has_the_data_answers_a_demand(
    devnet: EmbeddedDevnet, tmp_path: Path, part: Part, index: int
) -> None:
    world, _ = await opened(devnet, tmp_path, Knobs(tasks=4, by_uri=100))
    await world.play()
    accuser = Accuser(world, devnet)
    job = CommitmentId(labelled(world, Truth.HONEST).job)
    demand = accuser.calls.demand(job, part, index, world.deployment.params.demand_bond)
    await world.blocks.together([(accuser.wallet, demand)])
    assert await world.step()
    await world.refresh()
    assert not world.market.demands
    closed = next(event.args for event in world.history.events if event.name == "DemandClosed")
    assert closed["outcome"] == 1


async def test_withheld_data_is_not_answered_and_costs_the_collateral(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    world, _ = await opened(devnet, tmp_path, Knobs(tasks=5, cheats=(Kind.WITHHOLD,)))
    await world.play()
    accuser = Accuser(world, devnet)
    label = labelled(world, Truth.WITHHELD)
    demand = accuser.calls.demand(CommitmentId(label.job), Part.OUTPUT, 0, world.deployment.params.demand_bond)
    await world.blocks.together([(accuser.wallet, demand)])
    assert not await world.step()
    deadline = world.last_demand()
    assert deadline is not None
    await world.blocks.travel(deadline)
    await world.blocks.together([(accuser.wallet, accuser.calls.claim_demand(DemandId(1)))])
    board = await board_of(world)
    assert board.ended_by_demand == (label.job,)
    assert board.money.slashed == world.deployment.params.job_collateral


async def test_an_actor_that_fails_says_why_in_the_contracts_words(devnet: EmbeddedDevnet, tmp_path: Path) -> None:
    world, _ = await opened(devnet, tmp_path, Knobs(tasks=1))
    wallet = Wallet(devnet.rpc, devnet.accounts[WATCHER].key, "poor")
    with pytest.raises(ActorFailed, match=r"InsufficientStake\(free=0, needed=5\).*actor=poor"):
        await world.blocks.together([(wallet, MarketCalls(world.deployment.market).unstake(Wei(5)))])


async def test_a_world_plays_on_a_served_chain_while_its_court_sits_in_the_background(tmp_path: Path) -> None:
    async with ServedDevnet() as served, RemoteDevnet(served.url) as devnet:
        world = await World.open(devnet, tmp_path, plan(Knobs(tasks=7, round_size=7)), kits(), ToyBench(), seconds=None)
        stop = asyncio.Event()
        sitting = asyncio.create_task(world.attend(stop, every=0.01))
        await world.play()
        accuser = Accuser(world, devnet)
        label = labelled(world, Truth.WRONG)
        await accuser.accuse(label)
        async with asyncio.timeout(30):
            while not any(one.ruled for one in world.market.disputes.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await accuser.settle(1)
        stop.set()
        await sitting
        assert (await board_of(world)).caught == (label.job,)
        await world.close()


async def test_those_who_read_on_at_once_see_each_event_once(tmp_path: Path) -> None:
    async with ServedDevnet() as served, RemoteDevnet(served.url) as devnet:
        world = await World.open(devnet, tmp_path, plan(Knobs(tasks=2, round_size=2)), kits(), ToyBench())
        await world.play()
        where = world.deployment
        contracts = (where.market, where.adjudicator)
        history = History(devnet.rpc, contracts, where.start_block)
        told = await asyncio.gather(*(history.refresh() for _ in range(4)))
        once = await whole(devnet.rpc, contracts, where.start_block)
        assert sum(map(len, told)) == len(history.events) == len(once.events) > 2
        await world.close()
