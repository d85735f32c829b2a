"""Arbius on an embedded chain, with a model, a solver and validators to argue with.

The engine is the double. Where ``ARBIUS_ARTIFACTS`` names a folder of the protocol's own compiled contracts (as its
repository has them, ``contracts/*.sol/*.json``), the stage can stand on those too, behind a proxy, upgraded step by step.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from challenger.chain.codec import encode_deploy
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.follower import Malformed
from challenger.chain.rpc import Rpc
from challenger.contracts import double
from challenger.domain import Address, Call, ChainEvent, CommitmentId, Hash32, Intent, ModelId, TaskId, Wei
from challenger.errors import Reverted
from challenger.protocols.arbius.adapter import PIECE, ArbiusAdapter, explain
from challenger.protocols.arbius.calls import EngineCalls
from challenger.protocols.arbius.cid import solution_cid, solution_digest
from challenger.protocols.arbius.meaning import dispute_of
from challenger.protocols.base import Accusation
from challenger.sim.arbius import (
    IN_ENGINE,
    STAKE,
    ArbiusDeployment,
    deploy_arbius,
    elect,
    fund,
    order,
    plain,
    register,
    solve,
    transfer,
)
from challenger.sim.wallet import Wallet

INPUT = b'{"prompt":"Ada"}'
RIGHT = solution_digest({"out-1.txt": b"the model's own words"})
WRONG = solution_digest({"out-1.txt": b"something cheaper"})
OWN_CONTRACTS = os.environ.get("ARBIUS_ARTIFACTS", "")
#: Answers every call with the largest number: a vote-escrow contract whose period never ends.
_ENDLESS = bytes.fromhex("7f" + "ff" * 32 + "5f5260205ff3")


@dataclass(slots=True)
class Stage:
    """Account 0 owns the engine and registers; 1 orders; 2 solves; 3 is ours; 4 to 7 are validators who may vote."""

    devnet: EmbeddedDevnet
    there: ArbiusDeployment
    calls: EngineCalls
    wallets: list[Wallet]
    model: ModelId
    adapter: ArbiusAdapter

    @property
    def rpc(self) -> Rpc:
        return self.devnet.rpc

    async def events(self, first: int = 0, left_out: list[Malformed] | None = None) -> list[ChainEvent]:
        head = await self.rpc.block("latest")
        logs = await self.rpc.logs(self.adapter.emitters, first, head.number, [self.adapter.topics])
        return await self.adapter.events(logs, ([] if left_out is None else left_out).append)

    async def commit(self, digest: Hash32 = WRONG, *, data: bytes = INPUT) -> CommitmentId:
        """One task, ordered and solved: wrongly, unless said otherwise."""
        tasks = await order(self.wallets[1], self.there, self.model, data)
        await solve(self.wallets[2], self.there, tasks, [solution_cid(digest)])
        return CommitmentId(tasks[0])

    async def act(self, who: int, call: Call) -> None:
        await self.wallets[who].transact(call)

    async def send(self, intent: Intent | None) -> None:
        """What our adapter wants, from our account."""
        assert intent is not None
        await self.wallets[3].transact(intent.call)

    async def refusal(self, who: int, call: Call) -> str:
        """The engine's own words against ``call``."""
        try:
            await self.rpc.call(call.to, call.data, sender=self.wallets[who].address)
        except Reverted as error:
            return explain(error.data)
        return ""

    async def staked(self, who: int) -> int:
        head = await self.rpc.block("latest")
        return (await self.adapter._views.stake(self.wallets[who].address, head.hash)).staked

    async def slash(self) -> int:
        head = await self.rpc.block("latest")
        return (await self.adapter._views.rules(head.hash)).slash

    async def past_vote(self, commitment: CommitmentId) -> None:
        """Time goes to where no vote counts any more."""
        standing = await self.adapter.status(dispute_of(TaskId(commitment)))
        await self.devnet.time_travel(to=standing.ruling_by + 1)

    async def finish(self, commitment: CommitmentId) -> int:
        """Follows the contestation to its end; how many transactions that took."""
        sent = 0
        while (intent := await self.adapter.advance(dispute_of(TaskId(commitment)))) is not None:
            await self.send(intent)
            sent += 1
        return sent


def accuse(commitment: CommitmentId, digest: Hash32 = RIGHT) -> Accusation:
    return Accusation(commitment, digest, Hash32(bytes(32)), Hash32(b"\xee" * 32))


@asynccontextmanager
async def stage(
    generation: int = 5,
    *,
    validators: Sequence[int] = (2, 3, 4, 5, 6, 7),
    own: bool = False,
    piece: int = PIECE,
) -> AsyncIterator[Stage]:
    """``own``: on the protocol's own contracts."""
    async with EmbeddedDevnet() as devnet:
        wallets = [Wallet(devnet.rpc, account.key, f"account {i}") for i, account in enumerate(devnet.accounts[:8])]
        make = _deploy_own if own else deploy_arbius
        there = await make(devnet.rpc, wallets[0], generation)
        await fund(wallets[0], there, [wallets[1]], 0)
        await fund(wallets[0], there, [wallets[i] for i in range(2, 8) if i not in validators], 0)
        await fund(wallets[0], there, [wallets[i] for i in validators], STAKE)
        if there.registry is not None:
            await wallets[0].transact(elect(there.registry, wallets[7].address))
        model = await register(wallets[0], there)
        adapter = ArbiusAdapter(
            devnet.rpc,
            there.chain,
            there.engine,
            token_price=Wei(10**18),
            account=wallets[3].address,
            piece=piece,
        )
        await adapter.check()
        await devnet.time_travel(by=600)  # the stakes are no longer young
        yield Stage(devnet, there, EngineCalls(there.engine), wallets, model, adapter)


async def _deploy_own(rpc: Rpc, wallet: Wallet, generation: int) -> ArbiusDeployment:
    """The protocol's own engine, behind a proxy, taken through its upgrades."""
    token, first = await wallet.create(double("ArbiusToken").bytecode)
    proxy = double("UpgradeableProxy")
    engine = Address("")
    for reached, name in _STEPS:
        if reached > generation:
            break
        code, _ = await wallet.create(_deploying(_runtime(name)))
        if not engine:
            engine, _ = await wallet.create(encode_deploy(proxy.bytecode, proxy.abi, [code]))
            owner = ("address", wallet.address)
            await wallet.transact(plain(engine, "initialize", ("address", token), owner))
            await wallet.transact(transfer(token, engine, IN_ENGINE))
            continue
        await wallet.transact(plain(engine, "upgradeTo", ("address", code)))
        if reached > 2:
            await wallet.transact(plain(engine, "initialize"))
    registry = None
    if generation >= 4:
        escrow, _ = await wallet.create(_deploying(_ENDLESS))
        await wallet.transact(plain(engine, "setVeStaking", ("address", escrow)))
    if generation == 6:
        registry, _ = await wallet.create(double("ArbiusContesters").bytecode)
        await wallet.transact(plain(engine, "setMasterContesterRegistry", ("address", registry)))
    return ArbiusDeployment(await rpc.chain_id(), engine, token, registry, first.block, generation)


_STEPS = (
    (1, "V2_EngineV1"),
    (2, "V2_EngineV2"),
    (3, "V2_EngineV3"),
    (4, "V2_EngineV4"),
    (5, "V2_EngineV5_1"),
    (5, "V2_EngineV5_2"),
    (6, "V2_EngineV6"),
)


def _runtime(name: str) -> bytes:
    file = Path(OWN_CONTRACTS) / f"{name}.sol" / f"{name}.json"
    return bytes.fromhex(json.loads(file.read_text())["deployedBytecode"][2:])


def _deploying(runtime: bytes) -> bytes:
    """Creation code of a contract with this runtime: PUSH2 length, DUP1, PUSH1 10, PUSH0, CODECOPY, PUSH0, RETURN."""
    return b"\x61" + len(runtime).to_bytes(2, "big") + bytes.fromhex("80600a5f395ff3") + runtime
