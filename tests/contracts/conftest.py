"""The market under test: a fresh one for each test, in milliseconds."""

from __future__ import annotations

import pytest
from market_world import World


@pytest.fixture
def world() -> World:
    return World()
