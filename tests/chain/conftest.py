"""Devnets for tests, and one conformance fixture over all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sender_stage import Stage, stage

from challenger.chain.devnet.anvil import AnvilDevnet
from challenger.chain.devnet.base import Devnet
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.served import RemoteDevnet, ServedDevnet


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedDevnet]:
    async with EmbeddedDevnet() as devnet:
        yield devnet


@pytest.fixture(params=["embedded", "served", pytest.param("anvil", marks=pytest.mark.anvil)])
async def devnet(request: pytest.FixtureRequest) -> AsyncIterator[Devnet]:
    """Every devnet there is."""
    if request.param == "embedded":
        async with EmbeddedDevnet() as chain:
            yield chain
    elif request.param == "served":
        async with ServedDevnet() as served, RemoteDevnet(served.url) as chain:
            yield chain
    else:
        async with AnvilDevnet(Path(request.getfixturevalue("anvil"))) as chain:
            yield chain


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path / "store.sqlite") as made:
        yield made
