"""The two real models, written once per session; tests take what they need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from challenger.sim.models import digits_model, minilm_model
from replay.model import Model, load_model
from replay.run import Prepared, prepare


@pytest.fixture(scope="session")
def digits_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained digits classifier, 12 iterations: good enough to be right on most digits, trained in a second."""
    return digits_model(tmp_path_factory.mktemp("digits"), seed=1, iterations=12)


@pytest.fixture(scope="session")
def minilm_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return minilm_model(tmp_path_factory.mktemp("minilm"))


@pytest.fixture(scope="session")
def digits(digits_manifest: Path) -> Model:
    return load_model(digits_manifest)


@pytest.fixture(scope="session")
def minilm(minilm_manifest: Path) -> Model:
    return load_model(minilm_manifest)


@pytest.fixture(scope="session")
def prepared_minilm(minilm: Model) -> dict[str, Prepared]:
    return {backend: prepare(minilm, backend) for backend in ("torch", "numpy")}


@pytest.fixture
def threads() -> Iterator[object]:
    """torch.set_num_threads, undone afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
