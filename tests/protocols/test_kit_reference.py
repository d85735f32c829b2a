"""The reference adapter passes the adapter kit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import market_stage
import pytest

from challenger import adjudicator
from challenger.adjudicator import Bench
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Call, DisputeId, DisputeOpened, Hash32
from challenger.plugins.kit import AdapterSuite, adapter_on, events_on, opened
from challenger.plugins.registry import Disputed, Place, plugin
from challenger.protocols.base import Accusation
from challenger.protocols.reference_calls import case_digest

HONEST = 7


@dataclass(slots=True)
class ReferenceStage:
    inner: market_stage.Stage

    @property
    def plugin(self) -> Disputed:
        return plugin("reference")

    @property
    def place(self) -> Place:
        return self._as(2)

    def _as(self, who: int) -> Place:
        where = self.inner.deployment
        account = self.inner.wallets[who].address
        return Place(self.rpc, where.chain, where.market, account, market_stage.SECRET, where.anchor)

    @property
    def rpc(self) -> Rpc:
        return self.inner.rpc

    async def commit(self, *, honest: bool) -> Accusation:
        commitment = await self.inner.commit(HONEST)
        if not honest:
            return market_stage.accuse(commitment)
        standing = await self.inner.adapter.hydrate(commitment)
        return Accusation(commitment, standing.output_root, standing.state_root, Hash32(b"\xee" * 32))

    async def send(self, call: Call) -> None:
        await self.inner.act(2, call)

    async def mine(self, seconds: int = 0) -> None:
        if seconds:
            await self.inner.devnet.time_travel(to=(await self.rpc.block("latest")).time + seconds)
        else:
            await self.inner.devnet.mine()

    async def decide(self, dispute: DisputeId, *, for_us: bool) -> None:
        told = [e for e in await events_on(self, self.inner.adapter) if isinstance(e, DisputeOpened)]
        case = next(event for event in told if event.dispute == dispute)
        standing = await self.inner.adapter.hydrate(case.commitment)
        digest = case_digest(
            case.commitment,
            standing.output_root,
            standing.state_root,
            case.output_root,
            case.state_root,
            case.evidence,
        )
        where = self.inner.deployment
        bench = Bench(where.chain, where.adjudicator, where.market)
        judges = self.inner.wallets[4:7]
        rulings = [adjudicator.sign(bench, judge.signer, dispute, digest, fraud=for_us) for judge in judges]
        call = adjudicator.rule(bench, rulings, where.params.quorum)
        assert call is not None
        await self.inner.act(0, call)

    async def rival(self, accusation: Accusation) -> Address:
        theirs = OtherStage(self.inner)
        await opened(theirs, await adapter_on(theirs), accusation)
        return theirs.place.account or Address("")


class OtherStage(ReferenceStage):
    """As another challenger sees it."""

    @property
    def place(self) -> Place:
        return self._as(3)

    async def send(self, call: Call) -> None:
        await self.inner.act(3, call)


class TestReference(AdapterSuite):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[ReferenceStage]:
        async with market_stage.stage() as inner:
            yield ReferenceStage(inner)
