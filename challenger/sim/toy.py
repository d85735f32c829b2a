"""A model small enough to play whole worlds in milliseconds, behind every seam where the real engine stands.

``ToyBench`` is what providers and signers compute on, ``ToyFiles`` and ``ToyWorkers`` are the watcher's artefact store
and replay workers. Nothing here loads torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from challenger.domain import Hash32
from challenger.errors import DataUnavailable
from challenger.sim import data
from challenger.sim.kits import Kit
from challenger.sim.scenario import DIGITS, SENTENCES, TEXTS
from challenger.sim.workshop import Artefact, Variant
from replay.artifacts import ArtifactMismatch, ArtifactMissing, ArtifactReason
from replay.layout import LayoutError, bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root, tensor_root
from replay.sandbox import Completed, Inconclusive, Reason, Receipt, ReplayRequest

_SCALE = {Variant.REGISTERED: 1.0, Variant.INT8: 1.0078125, Variant.OLDER: 0.875}
#: The input of the known-answer pair: no task has this number.
_KNOWN = 10_000


class ToyBench:
    """Scales its input; the inner boundary is the running sum. ``replays``: on what each replay ran."""

    def __init__(self) -> None:
        self.replays: list[str] = []

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        (given,) = decode_bundle(data).values()
        if model == TEXTS:
            assert len(seed) == 32, "a model that draws needs the task's seed"
            given = given + seed[0]
        inner = np.cumsum(given.astype(np.float32)).reshape(1, -1).astype(np.float32)
        output = encode_bundle({"y": np.float32(_SCALE[variant]) * inner[:, -4:]})
        leaves = (bundle_root(data), tensor_root(inner), bundle_root(output))
        return Receipt(
            input_root=leaves[0],
            output_root=leaves[-1],
            state_root=merkle_root(leaves),
            leaves=leaves,
            output=output,
            first_path=merkle_path(leaves, 0),
            last_path=merkle_path(leaves, 2),
            environment={"model": model},
            seconds=0.0,
        )

    async def replay(self, model: str, data: bytes, backend: str, seed: bytes = b"") -> Receipt:
        self.replays.append(backend)
        return await self.run(model, data, seed=seed)


def kits() -> list[Kit]:
    return [_kit(DIGITS, np.float32), _kit(SENTENCES, np.int32), _kit(TEXTS, np.int32)]


class ToyFiles:
    """An artefact store for the toy model's data room: a few bytes from a folder of this machine."""

    def __init__(self, read: Callable[[bytes, str], bytes] = data.read) -> None:
        self._read = read

    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 0) -> Path:  # noqa: ARG002
        return Path("/models") / file_digest.hex()

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:  # noqa: ARG002
        try:
            found = self._read(b"", uri)
        except DataUnavailable:
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, uri=uri) from None
        try:
            same = bundle_root(found) == root
        except LayoutError:
            same = False
        if not same:
            lay = hashlib.sha256(found).digest()
            raise ArtifactMismatch(ArtifactReason.DIGEST, uri=uri, served=lay, size=len(found))
        return found


@dataclass
class ToyWorkers:
    """``lies``: backends whose last output bit is wrong. ``fails``: backends that die so many times first."""

    lies: set[str] = field(default_factory=set)
    fails: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, bool]] = field(default_factory=list)

    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive:
        self.asked.append((request.backend, request.fresh))
        if self.fails.get(request.backend, 0) > 0:
            self.fails[request.backend] -= 1
            return Inconclusive(Reason.CRASHED, "signal 11")
        drawn = request.file_digest == hashlib.sha256(TEXTS.encode()).digest()
        receipt = await ToyBench().run(TEXTS if drawn else DIGITS, request.input, seed=request.seed)
        if request.backend in self.lies:
            wrong = bytes([receipt.output_root[0] ^ 1]) + receipt.output_root[1:]
            receipt = replace(receipt, output_root=wrong)
        return Completed(receipt)


def _kit(name: str, dtype: Any) -> Kit:
    def sample(number: int) -> bytes:
        values = np.random.default_rng([number, *name.encode()]).integers(1, 100, size=(1, 8))
        return encode_bundle({"x": values.astype(dtype)})

    root = Hash32(hashlib.sha256(name.encode()).digest())
    artefact = Artefact(Path(f"/models/{name}/manifest.json"), root)
    return Kit(name, dict.fromkeys(Variant, artefact), root, root, 1, 3, sample(_KNOWN), sample, name == TEXTS)
