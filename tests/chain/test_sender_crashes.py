"""Death between any two writes, and faults at random: each intent is still mined once, and its row says so."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sender_stage import Died, Stage, Unreliable, dies_at, seeded, stage

from challenger.chain.sender import Sender
from challenger.domain import TxState
from challenger.errors import EndpointError

EPOCHS = (1, 2, 3)


async def blocks(place: Stage, tick: int) -> None:
    """A history in which a transaction gets stuck, is replaced, mined, reorged out and mined again."""
    match tick:
        case 0 | 1:
            await place.mine_without_us(4)
        case 2:
            await place.devnet.mine(2)
        case 3:
            await place.devnet.reorg(2)
        case _:
            await place.devnet.time_travel(by=12)


async def check(place: Stage) -> None:
    assert await place.mined() == dict.fromkeys(EPOCHS, 1)
    assert await place.states(*EPOCHS) == [TxState.FINAL] * len(EPOCHS)
    assert await place.own_rows() == []
    owners: dict[int, set[int]] = defaultdict(set)
    for epoch in EPOCHS:
        row = await place.row(epoch)
        for attempt in row.attempts:
            owners[attempt.nonce].add(epoch)
        assert row.hash in {attempt.hash for attempt in row.attempts}
    assert all(len(epochs) == 1 for epochs in owners.values()), "two payloads for one nonce"
    assert sorted(owners) == list(range(len(EPOCHS))), "a nonce was left out"


async def lives(place: Stage, deaths: list[int]) -> int:
    """Plays the history with a death at each of these numbers of crossings, one after the other; how many came."""
    left = list(deaths)
    died = 0

    async def reborn() -> Sender:
        return await place.sender(dies_at(left.pop(0)) if left else lambda _name: None)

    await place.propose(*EPOCHS)
    sender = await reborn()
    tick = 0
    for _ in range(100):
        try:
            await sender.step()
        except Died:
            died += 1
            sender = await reborn()
            continue  # restarted at once, on the chain as it is
        await blocks(place, tick)
        tick += 1
        if await place.states(*EPOCHS) == [TxState.FINAL] * len(EPOCHS) and tick > 5:
            return died
    raise AssertionError(f"not done: {await place.states(*EPOCHS)}")


async def crossings(path: Path) -> list[str]:
    names: list[str] = []
    async with stage(path) as place:
        await place.propose(*EPOCHS)
        sender = await place.sender(names.append)
        for tick in range(10):
            await sender.step()
            await blocks(place, tick)
        await check(place)
    return names


async def test_death_at_every_crossing(tmp_path: Path) -> None:
    names = await crossings(tmp_path / "whole.sqlite")
    assert {"signed", "broadcast", "sent", "mined", "unmined", "closed"} <= set(names)
    # one death at each place of the history, three of each name being enough where it repeats
    places = [i for i, name in enumerate(names) if names[:i].count(name) < 3 or name == "unmined"]
    for at in places:
        async with stage(tmp_path / f"{at}.sqlite") as place:
            assert await lives(place, [at + 1]) == 1, names[at]
            await check(place)


async def test_death_at_each_crossing_of_every_life(tmp_path: Path) -> None:
    """No life gets further than one write: the rows alone carry the work forward."""
    async with stage(tmp_path / "store.sqlite") as place:
        assert await lives(place, [1] * 30) >= 15
        await check(place)


@pytest.mark.full
async def test_death_at_every_pair_of_crossings(tmp_path: Path) -> None:
    count = len(await crossings(tmp_path / "whole.sqlite"))
    for first in range(1, count + 1):
        for second in range(1, count + 1, 2):
            async with stage(tmp_path / f"{first}-{second}.sqlite") as place:
                await lives(place, [first, second])
                await check(place)


class Moody(Unreliable):
    """Also lags: at times it shows neither receipts nor transactions that it has shown before."""

    def __init__(self, place: Stage, seed: int, before: float, after: float, lag: float) -> None:
        super().__init__(place.devnet.rpc, seeded(seed, before), seeded(seed + 1, after))
        self.lags = seeded(seed + 2, lag, frozenset({"receipt", "transaction"}))

    def __getattr__(self, name: str) -> object:
        real = super().__getattr__(name)
        if name not in ("receipt", "transaction"):
            return real

        async def call(*args: object) -> object:
            return None if self.lags(name) else await real(*args)  # type: ignore[operator]

        return call


async def chaos(place: Stage, seed: int, before: float, after: float, lag: float, deaths: float) -> None:
    """Forty ticks of trouble, then calm."""
    source = random.Random(seed)
    node = Moody(place, seed, before, after, lag)

    async def reborn() -> Sender:
        life = dies_at(source.randrange(1, 12)) if source.random() < deaths else (lambda _name: None)
        return await place.sender(life, node=node)

    sender = await reborn()
    waiting = list(EPOCHS)
    for _ in range(40):
        if waiting and source.random() < 0.2:
            await place.propose(waiting.pop())
        try:
            await sender.step()
        except Died:
            sender = await reborn()
        except EndpointError:
            pass  # the caller's loop would log it and go on
        match source.randrange(8):
            case 0:
                await place.drop()
            case 1:
                await place.mine_without_us(source.randrange(1, 4))
            case 2 | 3 | 4:
                await place.devnet.time_travel(by=12)
            case 5 if (await place.devnet.rpc.block("latest")).number > 4:
                await place.devnet.reorg(source.randrange(1, 4), keep=source.random() < 0.5)
            case _:
                pass
    await place.propose(*waiting)
    place.node.sends.clear()
    await place.finish(await place.sender(), steps=60)
    await check(place)


@settings(max_examples=15)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.0, 0.05, 0.3]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.8]),
)
@pytest.mark.slow
async def test_faults_at_random_neither_lose_an_intent_nor_mine_it_twice(
    seed: int, before: float, after: float, lag: float, deaths: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with stage(Path(folder) / "store.sqlite") as place:
            await chaos(place, seed, before, after, lag, deaths)
