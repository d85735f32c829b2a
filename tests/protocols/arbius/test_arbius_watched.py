"""The whole watcher on Arbius: a bulk of solutions is drawn from, replayed by recipe, the wrong ones contested, and what the
others vote is followed to the end. The model is a toy: it answers a text with its letters in reverse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from arbius_stage import Stage, stage

from challenger.app import App, opened
from challenger.audit.onchain import audit_chain
from challenger.chain.hashing import keccak
from challenger.cli import main
from challenger.domain import CommitmentId, DisputeOpened, DisputeOutcome, Hash32, State, TaskId
from challenger.protocols.arbius.cid import solution_cid, solution_digest
from challenger.protocols.arbius.meaning import dispute_of
from challenger.settings import Settings, load
from challenger.sim.arbius import order, plain, solve
from challenger.store import migrate
from challenger.store.rows import WorkRow
from replay.artifacts.ipfs.cid import DAG_PB, Cid
from replay.layout import bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root
from replay.sandbox import Completed, Described, Inconclusive, Receipt, ReplayRequest

KNOWN = '{"prompt":"known"}'


def answer(text: str) -> Hash32:
    return solution_digest({"out-1.txt": text[::-1].encode()})


class Backwards:
    """Workers of a model whose tokens are code points."""

    async def encode(self, request: ReplayRequest, text: bytes) -> Described | Inconclusive:
        return Described({"ids": [ord(letter) for letter in text.decode()], "by": "code points"})

    async def decode(self, request: ReplayRequest, ids: Sequence[int]) -> Described | Inconclusive:
        return Described({"text": "".join(map(chr, ids))})

    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive:
        tokens = decode_bundle(request.input)["input_ids"][::-1]
        output = encode_bundle({"tokens": np.ascontiguousarray(tokens, np.int32)})
        leaves = (bundle_root(request.input), bundle_root(output))
        return Completed(
            Receipt(
                input_root=leaves[0],
                output_root=leaves[1],
                state_root=merkle_root(leaves),
                leaves=leaves,
                output=output,
                first_path=merkle_path(leaves, 0),
                last_path=merkle_path(leaves, 1),
                environment={},
                seconds=0.0,
            )
        )


class Anywhere:
    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 0) -> Path:
        return Path("/models/backwards")

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:
        raise AssertionError("nothing of Arbius is fetched")


def settings(at: Stage, folder: Path, votes_from: int) -> Settings:
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text(at.devnet.accounts[3].key.hex())
    config = folder / "challenger.toml"
    word = "0x" + "11" * 32
    config.write_text(f"""
[chain]
embedded = true
chain_id = {at.there.chain}
market = "{at.there.engine}"
start_block = {at.there.start_block}
confirmations = 2
[protocol]
name = "arbius"
[protocol.options]
token_price = {10**18}
votes_from = {votes_from}
[protocol.options.recipes.0x{at.model.hex()}]
uri = "file:///models/backwards"
file_digest = "{word}"
program_root = "{word}"
artefact_root = "{word}"
known_input = '{KNOWN}'
known_cid = "{Cid(0, DAG_PB, answer("known"))}"
max_tokens = 64
[store]
url = "sqlite+aiosqlite:///{folder / "c.sqlite"}"
heads = "{folder / "heads.jsonl"}"
[signer]
key_file = "{key}"
[sampling]
base = 1000000
newcomer = 1000000
[filing]
mode = "live"
safety_seconds = 30
""")
    return load(config, {})


@asynccontextmanager
async def watching(at: Stage, folder: Path, votes_from: int, safety: int = 30, retry: int = 60) -> AsyncIterator[App]:
    made = settings(at, folder, votes_from)
    made = replace(
        made,
        filing=replace(made.filing, safety_seconds=safety),
        replay=replace(made.replay, retry_seconds=retry),
    )
    await migrate.upgrade(made.store.url)
    async with opened(made, rpc=at.rpc, files=Anywhere(), workers=Backwards()) as app:
        yield app


async def turn(at: Stage, app: App) -> None:
    await app.step()
    await app.gather()
    await app.investigate()
    await at.devnet.mine()


async def until(at: Stage, app: App, **wanted: int) -> None:
    """The watcher's turns, and a block after each, until so many commitments are in these states."""
    for _ in range(60):
        await turn(at, app)
        async with app.store.read() as view:
            there = await view.work.counts()
        if all(there.get(State(state), 0) == count for state, count in wanted.items()):
            return
    raise AssertionError(f"after 60 turns the states are {there}")


async def work_on(app: App, commitment: CommitmentId) -> WorkRow | None:
    async with app.store.read() as view:
        return await view.work.get(commitment)


async def earlier(at: Stage, voters: Sequence[int] = (4, 5, 6)) -> int:
    """Before the watcher comes: contests that show who votes, and how. From which block on."""
    first = (await at.rpc.block("latest")).number
    for _ in range(4):
        await at.devnet.time_travel(by=10)
        task = TaskId(await at.commit())
        await at.act(7, at.calls.contest(task))
        for who in voters:
            await at.act(who, at.calls.vote(task, True))
    await at.devnet.time_travel(by=400)
    return first


@pytest.mark.slow
async def test_the_wrong_ones_of_a_bulk_are_contested_and_won(tmp_path: Path) -> None:
    async with stage() as at:
        first = await earlier(at)
        tasks = await order(at.wallets[1], at.there, at.model, b'{"prompt":"Ada"}', count=4)
        honest, cheap = solution_cid(answer("Ada")), solution_cid(answer("Bob"))
        await at.devnet.time_travel(by=10)
        wrong = {tasks[1], tasks[2]}
        await solve(at.wallets[2], at.there, tasks, [cheap if task in wrong else honest for task in tasks])
        async with watching(at, tmp_path, first) as app:
            await until(at, app, disputing=2, replayed=2)
            contested = [event for event in await at.events() if isinstance(event, DisputeOpened)]
            ours = [event for event in contested if event.challenger == at.wallets[3].address]
            assert {event.commitment for event in ours} == wrong
            async with app.store.read() as view:
                task = await view.chain.task(tasks[0])
                assert task is not None
                assert task.input_root == keccak(tasks[0] + b'{"prompt":"Ada"}')
            await at.act(4, at.calls.vote(tasks[1], True))  # the other has no second vote, and is a tie
            await at.devnet.time_travel(by=500)
            await until(at, app, withdrawn=1, lost=1)
            outcomes = {
                task_id: (await at.adapter.status(dispute_of(task_id))).outcome.value for task_id in sorted(wrong)
            }
            assert outcomes == {tasks[1]: "challenger", tasks[2]: "provider"}
            # what the record holds is what the chain says, what stands beside a log included
            async with app.store.read() as view:
                found, held = await audit_chain(view, at.rpc, app.adapter, at.there.start_block)
            assert not found
            assert held == len(await at.events())


async def test_a_lone_challenger_files_nothing(tmp_path: Path) -> None:
    """Nobody was ever seen to vote: the fraud is found and confirmed, and the gate says why it is not contested."""
    async with stage() as at:
        commitment = await at.commit(answer("Bob"), data=b'{"prompt":"Ada"}')
        async with watching(at, tmp_path, 0) as app:
            await until(at, app, confirmed=1)
            await until(at, app, confirmed=1)
            async with app.store.read() as view:
                row = await view.work.get(commitment)
        assert row is not None
        assert (row.state, row.detail.partition(":")[0]) == (State.CONFIRMED, "value")
        assert not [event for event in await at.events() if isinstance(event, DisputeOpened)]


@pytest.mark.parametrize("beyond", [-10, 40])
async def test_a_contest_in_the_windows_last_seconds_is_voted_on(tmp_path: Path, beyond: int) -> None:
    """Alone we would lose for certain, so that the case waits. Somebody contests too late for anything of ours but a vote;
    we look before the window closes, or after."""
    async with stage() as at:
        first = await earlier(at, voters=())
        commitment = await at.commit(answer("Bob"), data=b'{"prompt":"Ada"}')
        async with watching(at, tmp_path, first, safety=60, retry=1) as app:
            while not (row := await work_on(app, commitment)) or not row.detail.startswith("value: "):
                await turn(at, app)
            closes = (await app.adapter.window(commitment)).closes
            await at.devnet.time_travel(to=closes - 50)
            await app.step()
            row = await work_on(app, commitment)
            assert row.state == State.CONFIRMED
            assert row.detail.startswith("window: too close")
            assert "; before that, value: " in row.detail
            await at.devnet.time_travel(to=closes - 20)
            await at.act(7, at.calls.contest(TaskId(commitment)))
            await at.devnet.time_travel(to=closes + beyond)
            whole = await at.staked(3)
            for _ in range(6):
                await turn(at, app)
            assert await at.staked(3) == whole - await at.slash()
            await at.past_vote(commitment)
            for _ in range(10):
                await turn(at, app)
        assert (await at.adapter.status(dispute_of(TaskId(commitment)))).outcome is DisputeOutcome.CHALLENGER


async def test_a_fraud_that_nobody_contests_is_a_miss_that_names_its_gate(tmp_path: Path) -> None:
    async with stage() as at:
        commitment = await at.commit(answer("Bob"), data=b'{"prompt":"Ada"}')
        async with watching(at, tmp_path, 0) as app:
            await until(at, app, confirmed=1)
            await turn(at, app)
            await at.devnet.time_travel(to=(await app.adapter.window(commitment)).closes)
            await until(at, app, expired=1)
            row = await work_on(app, commitment)
            assert "; before that, value: " in row.detail


async def test_a_window_made_longer_meanwhile_is_believed_and_what_waits_is_judged(tmp_path: Path) -> None:
    """No event says so: the index has the old close, the engine the new one."""
    async with stage(2) as at:
        commitment = await at.commit(answer("Bob"), data=b'{"prompt":"Ada"}')
        async with watching(at, tmp_path, 0) as app:
            while (row := await work_on(app, commitment)) is None or row.state != State.SAMPLED:
                await app.step()
                await at.devnet.mine()
            window = await app.adapter.window(commitment)
            longer = window.closes - window.opens + 1_000
            await at.act(0, plain(at.there.engine, "setMinClaimSolutionTime", ("uint256", longer)))
            await at.devnet.time_travel(to=window.closes + 100)
            await until(at, app, confirmed=1)


async def test_the_count_of_a_contest_that_we_voted_on_is_asked_for_until_ours_is_paid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody counts one voter, which decides the job, and goes: the watcher's own slash comes back all the same."""
    async with stage() as at:
        first = await earlier(at)
        commitment = await at.commit(answer("Bob"), data=b'{"prompt":"Ada"}')
        task = TaskId(commitment)
        await at.act(7, at.calls.contest(task))
        async with watching(at, tmp_path, first) as app:
            slash = await at.slash()
            whole = await at.staked(3)
            for _ in range(30):
                await turn(at, app)
            assert await at.staked(3) == whole - slash  # it voted
            await at.devnet.time_travel(by=500)
            await at.act(7, at.calls.finish(task, 1))
            assert (await at.adapter.status(dispute_of(task))).outcome is DisputeOutcome.OPEN
            for _ in range(15):
                await turn(at, app)
        assert (await at.adapter.status(dispute_of(task))).outcome is DisputeOutcome.CHALLENGER
        assert await at.staked(3) == whole
    config = str(tmp_path / "challenger.toml")
    assert await asyncio.to_thread(main, ["handoffs", "--all", "-c", config]) == 2
    assert "the hand-off ledger is of the reference protocol alone" in capsys.readouterr().err
    for command in ("status", "disputes"):
        assert await asyncio.to_thread(main, [command, "-c", config]) == 0
        told = capsys.readouterr().out
        assert "tokens" in told
        assert "ETH" not in told
