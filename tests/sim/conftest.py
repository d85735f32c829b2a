"""Worlds on the embedded devnet, with the toy model."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from challenger.chain.devnet.embedded import EmbeddedDevnet


@pytest.fixture
async def devnet() -> AsyncIterator[EmbeddedDevnet]:
    async with EmbeddedDevnet() as net:
        yield net
