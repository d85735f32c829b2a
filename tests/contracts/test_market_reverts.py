"""Every custom error of the market, provoked; a table that must name all that the ABI knows."""

from __future__ import annotations

import provoke_desk
import provoke_disputes
import pytest
from market_evm import abi_of
from market_world import World
from provocations import CASES, Provocation

MODULES = (provoke_desk, provoke_disputes)
ERRORS = {entry["name"] for entry in abi_of("InferenceMarket").errors.values()}


@pytest.mark.parametrize(("error", "case"), CASES, ids=[f"{error}-{case.__name__}" for error, case in CASES])
def test_reverts(world: World, error: str, case: Provocation) -> None:
    case(world)
    assert error in ERRORS


def test_every_error_of_the_abi_is_provoked() -> None:
    assert {error for error, _ in CASES} == ERRORS
    assert {case.__module__ for _, case in CASES} == {module.__name__ for module in MODULES}
