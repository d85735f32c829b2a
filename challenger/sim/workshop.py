"""Where everybody in the simulation computes: the models with their false twins, and one pool of replay workers.

On a real network each party has its own machines. Here providers and signers share worker processes, so that the whole
demonstration fits on a small computer; the watcher shares nothing with them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from challenger.errors import ChallengerError
from replay.sandbox.outcome import Inconclusive, Receipt, ReplayRequest
from replay.sandbox.pool import ReplayPool


class Variant(StrEnum):
    """The registered model, or one that a cheat runs in its place."""

    REGISTERED = "registered"
    INT8 = "int8"
    OLDER = "older"


class ReplayFailed(ChallengerError):
    """a model of the simulation could not be run"""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A model on disk: its manifest with the files beside it."""

    manifest: Path
    file_digest: bytes


class Workbench(Protocol):
    """What providers and signers compute on."""

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED) -> Receipt:
        """A provider's run; the same one may be answered from memory."""
        ...

    async def replay(self, model: str, data: bytes, backend: str) -> Receipt:
        """A run of the registered model for oneself, whoever ran it before."""
        ...


class Workshop:
    """Runs ``models`` (name → variant → artefact) on ``pool``. What a provider computed once is remembered."""

    def __init__(self, pool: ReplayPool, models: Mapping[str, Mapping[Variant, Artefact]]) -> None:
        self.models = models
        self._pool = pool
        self._done: dict[tuple[str, Variant, bytes], asyncio.Task[Receipt]] = {}

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED) -> Receipt:
        """A provider's run, on torch."""
        key = model, variant, hashlib.sha256(data).digest()
        if key not in self._done:
            self._done[key] = asyncio.create_task(self.replay(model, data, "torch", variant))
        # one caller that gives up must not take the run away from the others
        return await asyncio.shield(self._done[key])

    async def replay(self, model: str, data: bytes, backend: str, variant: Variant = Variant.REGISTERED) -> Receipt:
        """Runs it now, whoever did before. ``ReplayFailed`` when the worker comes to nothing."""
        artefact = self.models[model][variant]
        request = ReplayRequest(artefact.manifest, artefact.file_digest, None, None, 0, data, backend)
        outcome = await self._pool.replay(request)
        if isinstance(outcome, Inconclusive):
            raise ReplayFailed(outcome.detail, model=model, reason=outcome.reason, backend=backend)
        return outcome.receipt

    async def close(self) -> None:
        """Gives up what is still under way."""
        for task in self._done.values():
            task.cancel()
        await asyncio.gather(*self._done.values(), return_exceptions=True)
