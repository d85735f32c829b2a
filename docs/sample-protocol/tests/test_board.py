"""The board's adapter passes the kit; beyond it, what is the board's own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from board_protocol import PLUGIN
from board_stage import OWNER, BoardStage, board_stage

from challenger.chain.hashing import keccak
from challenger.domain import DisputeOutcome
from challenger.plugins.kit import AdapterSuite, adapter_on, ended, opened


@pytest.fixture
async def stage() -> AsyncIterator[BoardStage]:
    async with board_stage() as made:
        yield made


class TestBoard(AdapterSuite):
    """``stage`` above is the module's."""


async def test_a_window_that_the_owner_shortens_counts_at_once(stage: BoardStage) -> None:
    adapter = await adapter_on(stage)
    accusation = await stage.commit(honest=False)
    before = await adapter.window(accusation.commitment)
    await stage.act(OWNER, "setWindow", 60)
    after = await adapter.window(accusation.commitment)
    assert (after.opens, after.closes) == (before.opens, before.opens + 60)
    assert not after.frozen
    assert await adapter.eligibility(accusation, 60) != ""


async def test_without_a_ruling_the_bond_comes_back(stage: BoardStage) -> None:
    adapter = await adapter_on(stage)
    dispute = await opened(stage, adapter, await stage.commit(honest=False))
    await stage.mine((await adapter.status(dispute.dispute)).ruling_by - (await stage.rpc.block("latest")).time)
    closed = await ended(stage, adapter, dispute.dispute)
    assert (closed.outcome, closed.paid) == (DisputeOutcome.EXPIRED, dispute.bond)


def test_errors_are_told_by_name() -> None:
    data = keccak(b"WrongAmount(uint256)")[:4] + (5).to_bytes(32, "big")
    assert PLUGIN.explain(data) == "WrongAmount(wanted=5)"
