"""The reference protocol on an embedded chain, with a model, a provider and commitments to argue about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.rpc import Rpc
from challenger.domain import Call, ChainEvent, CommitmentId, Committed, Hash32, TaskOpened, Wei
from challenger.protocols.base import Accusation
from challenger.protocols.reference import ReferenceAdapter
from challenger.protocols.reference_calls import MarketCalls, ModelSpec, model_id
from challenger.sim.deploy import Deployment, MarketParams, deploy
from challenger.sim.wallet import Wallet
from replay.layout import bundle_root, encode_bundle, merkle_path, merkle_root

ETHER = 10**18
SECRET = bytes(range(32))
INPUT = encode_bundle({"x": np.arange(4, dtype=np.float32).reshape(1, 4)})
WRONG = Hash32(b"\x11" * 32)


def output(value: int) -> bytes:
    return encode_bundle({"y": np.full((1, 2), value, dtype=np.float32)})


SPEC = ModelSpec(
    file_digest=Hash32(b"\x01" * 32),
    artefact_root=Hash32(merkle_root([b"\x05" * 32, b"\x06" * 32])),
    program_root=Hash32(b"\x03" * 32),
    spec_version=1,
    mode=0,
    boundaries=3,
    artefact_tiles=2,
    uri="file:///nowhere",
    known_input=INPUT,
    known_output_root=Hash32(bundle_root(output(0))),
)


@dataclass(slots=True)
class Stage:
    """Account 0 deploys, registers and orders; 1 provides; 2 is ours; 3 challenges beside us; 4, 5, 6 judge."""

    devnet: EmbeddedDevnet
    deployment: Deployment
    calls: MarketCalls
    wallets: list[Wallet]
    adapter: ReferenceAdapter

    @property
    def rpc(self) -> Rpc:
        return self.devnet.rpc

    async def events(self, first: int = 0) -> list[ChainEvent]:
        head = await self.rpc.block("latest")
        logs = await self.rpc.logs(self.adapter.emitters, first, head.number, [self.adapter.topics])
        return [event for log in logs if (event := self.adapter.decode(log)) is not None]

    async def commit(
        self, value: int = 7, *, uri: str = "", deadline: int = 0, fee: int = ETHER // 100
    ) -> CommitmentId:
        """Orders and answers one task; with ``uri`` the output is only named. The adapter sees its commitment."""
        head = await self.rpc.block("latest")
        model = model_id(self.deployment.chain, self.deployment.market, self.wallets[0].address, SPEC)
        root = Hash32(bundle_root(INPUT))
        until = deadline or head.time + 1000
        call = self.calls.open_task(model, root, INPUT, "", len(INPUT), Hash32(bytes(32)), until, Wei(fee))
        await self.wallets[0].transact(call)
        opened = [event for event in await self.events(head.number + 1) if isinstance(event, TaskOpened)]
        await self.devnet.mine()
        await self.wallets[1].transact(self.calls.take(opened[-1].task))
        data = output(value)
        out = Hash32(bundle_root(data))
        leaves = [root, b"\x09" * 32, out]
        call = self.calls.commit(
            opened[-1].task,
            out,
            Hash32(merkle_root(leaves)),
            b"" if uri else data,
            uri,
            len(data),
            merkle_path(leaves, 0),
            merkle_path(leaves, 2),
        )
        await self.wallets[1].transact(call)
        committed = [event for event in await self.events(head.number + 1) if isinstance(event, Committed)]
        return committed[-1].commitment

    async def act(self, who: int, call: Call) -> None:
        await self.wallets[who].transact(call)


def accuse(commitment: CommitmentId, root: Hash32 = WRONG) -> Accusation:
    return Accusation(commitment, root, root, Hash32(b"\xee" * 32))


@asynccontextmanager
async def stage(**params: int) -> AsyncIterator[Stage]:
    async with EmbeddedDevnet() as devnet:
        wallets = [Wallet(devnet.rpc, account.key, f"account {i}") for i, account in enumerate(devnet.accounts[:7])]
        rules = MarketParams(**params)  # type: ignore[arg-type]
        deployment = await deploy(devnet.rpc, wallets[0], [w.address for w in wallets[4:7]], rules)
        calls = MarketCalls(deployment.market)
        adapter = ReferenceAdapter(
            devnet.rpc,
            deployment.chain,
            deployment.market,
            account=wallets[2].address,
            secret=SECRET,
            anchor=deployment.anchor,
        )
        await adapter.check()
        await wallets[0].transact(calls.register_model(SPEC, rules.model_bond))
        await wallets[1].transact(calls.stake(Wei(5 * rules.job_collateral)))
        yield Stage(devnet, deployment, calls, wallets, adapter)
