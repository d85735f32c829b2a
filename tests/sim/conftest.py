"""Worlds on the embedded devnet, with the toy model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from challenger.chain.devnet.embedded import EmbeddedDevnet
from tests.sim.foes_stage import make_template


@pytest.fixture
async def devnet() -> AsyncIterator[EmbeddedDevnet]:
    async with EmbeddedDevnet() as net:
        yield net


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of the present schema, to be copied."""
    return asyncio.run(make_template(tmp_path_factory.mktemp("template") / "empty.sqlite"))
