"""A small life with frauds of every kind, and the bundles on what a watcher said of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from challenger.chain.signers import LocalSigner, from_key
from challenger.domain import CommitmentId, VerdictKind
from challenger.evidence.check import Checked, check
from challenger.evidence.gather import Sources, gather
from challenger.evidence.opened import gathering
from challenger.evidence.seal import Sealed, decode, encode
from challenger.pipeline.engine import Engine
from challenger.sim.data import DataRoom
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.sim.world import WATCHER
from tests.integration.test_watcher import Scene, scene

BACKENDS = ("torch", "numpy")


@dataclass
class Life:
    scene: Scene
    sources: Sources
    key: LocalSigner

    def job(self, truth: Truth) -> CommitmentId:
        return CommitmentId(min(self.scene.jobs(truth)))

    async def bundle(self, commitment: CommitmentId, *, signed: bool = True, **how: Any) -> bytes:
        evidence = await gather(replace(self.sources, **how), commitment)
        return encode(evidence, self.key if signed else None)


@asynccontextmanager
async def life(folder: Any, *, until_revealed: bool = False, instead: bytes = b"", **knobs: Any) -> AsyncIterator[Life]:
    """``instead``: what lies at the address of each withheld output, nothing by default."""
    async with scene(folder, **{"seed": 3} | knobs) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            if instead:
                await app.step()
                async with app.store.read() as view:
                    rows = [await view.chain.commitment(CommitmentId(job)) for job in s.jobs(Truth.WITHHELD)]
                for row in rows:
                    assert row is not None
                    DataRoom(s.folder.path / "data").put(row.output_root, instead)
            await s.until_quiet(app)
            while until_revealed and (end := s.world.last_window()) is not None:
                await s.world.blocks.travel(end)
                await s.world.finish()
                await s.until_quiet(app)
            await app.publish((await s.devnet.rpc.block("latest")).time)
        key = from_key(s.devnet.accounts[WATCHER].key)
        async with gathering(s.settings, rpc=s.devnet.rpc, files=ToyFiles(), workers=s.workers) as sources:
            yield Life(s, sources, key)


async def checked(raw: bytes | Sealed, workers: ToyWorkers | None = None) -> Checked:
    sealed = decode(raw) if isinstance(raw, bytes) else raw
    engine = Engine(ToyFiles(), workers or ToyWorkers(), model_bytes=1 << 20, bundle_bytes=1 << 20)
    return await check(sealed, engine, BACKENDS)


def failing(found: Checked) -> list[str]:
    return [f"{finding.part}: {finding.what}" for finding in found.findings if finding.holds is False]


def canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


__all__ = ["BACKENDS", "Life", "VerdictKind", "canonical", "checked", "failing", "life"]
