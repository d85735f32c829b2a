"""Where everybody in the simulation computes: the models with their false twins, and one pool of replay workers.

On a real network each party has its own machines. Here providers and signers share worker processes, so that the whole
demonstration fits on a small computer; the watcher shares nothing with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from challenger.errors import ChallengerError
from replay.kernels.spec import SPEC_VERSION
from replay.sandbox import Inconclusive, Receipt, ReplayPool, ReplayRequest


class Variant(StrEnum):
    """The registered model, or one that a cheat runs in its place."""

    REGISTERED = "registered"
    INT8 = "int8"
    OLDER = "older"


@dataclass(frozen=True, slots=True)
class Run:
    model: str
    variant: Variant
    data: bytes
    seed: bytes = b""


@dataclass(frozen=True, slots=True)
class Registered:
    """A workbench on which models go by their id on chain."""

    workbench: Workbench
    names: Mapping[bytes, str]

    async def rerun(self, model: bytes, data: bytes, backend: str, seed: bytes) -> Receipt:
        return await self.workbench.replay(self.names[model], data, backend, seed)


#: What providers run on: its worker starts in a second and takes half the memory of torch's. The bits are the same.
PROVIDERS = "numpy"


class ReplayFailed(ChallengerError):
    """a model of the simulation could not be run"""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model on disk: its manifest with the files beside it."""

    manifest: Path
    file_digest: bytes


class Workbench(Protocol):
    """What providers and signers compute on."""

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        """A provider's run; the same one may be answered from memory. ``seed``: the task's, for a model that draws."""
        ...

    async def replay(self, model: str, data: bytes, backend: str, seed: bytes = b"") -> Receipt:
        """A run of the registered model for oneself, whoever ran it before."""
        ...


class Workshop:
    """Runs ``models`` (name → variant → artefact) on ``pool``. What a provider computed once is remembered."""

    def __init__(self, pool: ReplayPool, models: Mapping[str, Mapping[Variant, Artefact]]) -> None:
        self.models = models
        self._pool = pool
        self._done: dict[Run, asyncio.Task[Receipt]] = {}

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        """A provider's run."""
        return await self._once(Run(model, variant, data, seed), self._pool)

    async def replay(self, model: str, data: bytes, backend: str, seed: bytes = b"") -> Receipt:
        """Runs it now, whoever did before. ``ReplayFailed`` when the worker comes to nothing."""
        return await self._replay(Run(model, Variant.REGISTERED, data, seed), backend, self._pool)

    async def ahead(self, pool: ReplayPool, runs: Sequence[Run]) -> None:
        """Makes ``runs`` on another pool, in their order, and remembers them."""
        for run in runs:
            await self._once(run, pool)

    async def _once(self, run: Run, pool: ReplayPool) -> Receipt:
        if run not in self._done:
            self._done[run] = asyncio.create_task(self._replay(run, PROVIDERS, pool))
        # one caller that gives up must not take the run away from the others
        return await asyncio.shield(self._done[run])

    async def _replay(self, run: Run, backend: str, pool: ReplayPool) -> Receipt:
        artefact = self.models[run.model][run.variant]
        request = ReplayRequest(
            artefact.manifest, artefact.file_digest, None, None, SPEC_VERSION, run.data, backend, seed=run.seed
        )
        outcome = await pool.replay(request)
        if isinstance(outcome, Inconclusive):
            raise ReplayFailed(outcome.detail, model=run.model, reason=outcome.reason, backend=backend)
        return outcome.receipt

    async def close(self) -> None:
        """Gives up what is still under way."""
        for task in self._done.values():
            task.cancel()
        await asyncio.gather(*self._done.values(), return_exceptions=True)
