"""The demonstration's stage with the real models: chain, model folders, replay workers, everything opened."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from challenger.domain import Hash32
from challenger.errors import ChallengerError
from challenger.sim.build import PIXELS, TOKENS
from challenger.sim.kits import Kit
from challenger.sim.scenario import DIGITS, TEXTS, Kind, Scenario
from challenger.sim.workshop import PROVIDERS, Artefact, Run, Variant, Workshop
from replay.artifacts.manifest import MANIFEST_NAME
from replay.kernels.spec import SPEC_VERSION
from replay.layout import encode_bundle
from replay.sampling import NAME as SAMPLING
from replay.sampling import Sampling
from replay.sandbox import Described, Limits, ReplayPool, ReplayRequest

#: One model of each kind stays loaded, and the language model's small twins, whose answers cannot be worked out ahead;
#: the other false twins have a worker of their own, for as long as they are needed.
_LIMITS = Limits(memory_bytes=3 << 30, models=5)
_TWINS = {Kind.INT8: Variant.INT8, Kind.OLDER: Variant.OLDER}


class BuildFailed(ChallengerError):
    """a model of the demonstration could not be built"""


@asynccontextmanager
async def workshop(folder: Path, names: Sequence[str]) -> AsyncIterator[tuple[list[Kit], Workshop]]:
    """Builds the models ``names`` below ``folder`` and opens a replay pool for them. Seconds, on both cores."""
    async with ReplayPool(limits=_LIMITS) as pool:
        built = [build(name, folder / name) for name in names]
        await asyncio.gather(*built, pool.warm(PROVIDERS))
        kits = [await _kit(pool, name, folder / name) for name in names]
        made = Workshop(pool, {kit.name: kit.variants for kit in kits})
        try:
            yield kits, made
        finally:
            await made.close()


async def build(name: str, folder: Path) -> None:
    """In a process of its own. ``BuildFailed`` with its last words."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "challenger.sim.build", name, str(folder)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        _, said = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise BuildFailed(last or "no reason given", model=name, exit_code=process.returncode)


async def rehearse(kits: Sequence[Kit], made: Workshop, scenario: Scenario) -> None:
    """Works out in advance what the false twins of the models will answer; their worker and its memory go with that."""
    by_name = {kit.name: kit for kit in kits}
    runs = [
        Run(task.model, _TWINS[task.kind], by_name[task.model].sample(task.sample))
        for task in scenario.tasks
        if task.kind in _TWINS and not by_name[task.model].draws
    ]
    if runs:
        async with ReplayPool(limits=Limits(memory_bytes=3 << 30, models=1), backends=(PROVIDERS,)) as pool:
            await made.ahead(pool, sorted(runs, key=lambda run: (run.model, run.variant)))


async def _kit(pool: ReplayPool, name: str, folder: Path) -> Kit:
    variants = {variant: _artefact(folder / variant / MANIFEST_NAME) for variant in Variant}
    registered = variants[Variant.REGISTERED]
    asked = ReplayRequest(registered.manifest, registered.file_digest, None, None, SPEC_VERSION, b"", PROVIDERS)
    described = await pool.describe(asked)
    if not isinstance(described, Described):
        raise BuildFailed(described.detail, model=name, reason=described.reason)
    facts = described.facts
    sample, last = _inputs(name, folder)
    return Kit(
        name=name,
        variants=variants,
        program_root=Hash32(bytes.fromhex(facts["program_root"])),
        artefact_root=Hash32(bytes.fromhex(facts["artefact_root"])),
        artefact_tiles=int(facts["artefact_tiles"]),
        boundaries=int(facts["boundaries"]),
        known=sample(last),
        sample=lambda number: sample(number % last),
        draws=name == TEXTS,
    )


def _artefact(manifest: Path) -> Artefact:
    return Artefact(manifest, hashlib.sha256(manifest.read_bytes()).digest())


def _inputs(name: str, folder: Path) -> tuple[Callable[[int], bytes], int]:
    """The inputs as bundles by number, and the last number: that one is kept for the known-answer pair."""
    if name == DIGITS:
        pixels = np.load(folder / PIXELS, allow_pickle=False)
        return lambda number: encode_bundle({"X": pixels[number : number + 1]}), len(pixels) - 1
    tokens = json.loads((folder / TOKENS).read_text(encoding="utf-8"))
    if name == TEXTS:
        how = Sampling(max_tokens=24, temperature=800_000, top_k=20).tensor()
        asked = [encode_bundle({"input_ids": np.array(one, np.int32), SAMPLING: how}) for one in tokens]
        return asked.__getitem__, len(asked) - 1
    return lambda number: encode_bundle({"input_ids": np.array(tokens[number], np.int32)}), len(tokens) - 1
