"""The Arbius adapter passes the adapter kit, on the double and, where they are at hand, on the protocol's own contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from arbius_stage import OWN_CONTRACTS, RIGHT, WRONG, Stage, stage

from challenger.chain.rpc import Rpc
from challenger.domain import Address, Call, DisputeId, Hash32, Wei
from challenger.plugins.arbius_options import Options
from challenger.plugins.kit import AdapterSuite
from challenger.plugins.registry import Disputed, Place, plugin
from challenger.protocols.arbius.meaning import task_of
from challenger.protocols.base import Accusation


@dataclass(slots=True)
class ArbiusStage:
    inner: Stage

    @property
    def plugin(self) -> Disputed:
        return plugin("arbius")

    @property
    def place(self) -> Place:
        there = self.inner.there
        account = self.inner.wallets[3].address
        return Place(self.rpc, there.chain, there.engine, account, bytes(32), options=Options(Wei(10**18)))

    @property
    def rpc(self) -> Rpc:
        return self.inner.rpc

    async def commit(self, *, honest: bool) -> Accusation:
        await self.inner.devnet.time_travel(by=10)  # a solver's rate is one a second
        commitment = await self.inner.commit(RIGHT if honest else WRONG)
        return Accusation(commitment, RIGHT, Hash32(bytes(32)), Hash32(b"\xee" * 32))

    async def send(self, call: Call) -> None:
        await self.inner.act(3, call)

    async def mine(self, seconds: int = 0) -> None:
        if seconds:
            await self.inner.devnet.time_travel(to=(await self.rpc.block("latest")).time + seconds)
        else:
            await self.inner.devnet.mine()

    async def decide(self, dispute: DisputeId, *, for_us: bool) -> None:
        """A second yea wins it; without one a tie is the accused's."""
        if for_us:
            await self.inner.act(4, self.inner.calls.vote(task_of(dispute), True))
        standing = await self.inner.adapter.status(dispute)
        await self.inner.devnet.time_travel(to=standing.ruling_by + 1)

    async def rival(self, accusation: Accusation) -> Address:
        await self.inner.act(
            5, self.inner.calls.contest(task_of(DisputeId(int.from_bytes(accusation.commitment, "big"))))
        )
        return self.inner.wallets[5].address


class TestArbius(AdapterSuite):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[ArbiusStage]:
        async with stage() as inner:
            yield ArbiusStage(inner)


if OWN_CONTRACTS:

    class TestArbiusOwn(AdapterSuite):
        @pytest.fixture
        async def stage(self) -> AsyncIterator[ArbiusStage]:
            async with stage(own=True) as inner:
                yield ArbiusStage(inner)
