from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import market_stage


@pytest.fixture
async def stage() -> AsyncIterator[market_stage.Stage]:
    async with market_stage.stage() as made:
        yield made
