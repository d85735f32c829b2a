"""Shared by all tests: time never decides a test, so hypothesis measures none; extras are skipped only where asked."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

# two processes share the machine (`-n 2`): a second thread of one only spins in the other's time. Before torch is imported;
# what asks for threads says so itself
os.environ.setdefault("OMP_NUM_THREADS", "1")

_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile("default", deadline=None, max_examples=60, suppress_health_check=_QUIET)
settings.register_profile("full", deadline=None, max_examples=1_000, suppress_health_check=_QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-extras", action="store_true", help="a missing anvil, solc or browser fails instead of skipping"
    )


def _program(request: pytest.FixtureRequest, name: str, how: str) -> str:
    path = shutil.which(name)
    if path is None:
        say = pytest.fail if request.config.getoption("--require-extras") else pytest.skip
        say(f"{name} is not on PATH: {how}")
    return str(path)


@pytest.fixture(scope="session")
def anvil(request: pytest.FixtureRequest) -> str:
    """Path of the anvil binary."""
    return _program(request, "anvil", "npm install @foundry-rs/anvil")


@pytest.fixture(scope="session")
def node(request: pytest.FixtureRequest) -> str:
    """Path of node; the tests that use it need npm's solc on NODE_PATH as well."""
    path = _program(request, "node", "Node.js builds the contracts")
    roots = os.environ.get("NODE_PATH", "").split(os.pathsep)
    if not any(root and os.path.isdir(os.path.join(root, "solc")) for root in roots):  # noqa: PTH112, PTH118
        say = pytest.fail if request.config.getoption("--require-extras") else pytest.skip
        say("npm's solc is not on NODE_PATH")
    return path
