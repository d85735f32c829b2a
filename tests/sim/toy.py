"""A model small enough to play whole worlds in milliseconds, behind the seam where replay workers stand."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from challenger.domain import Hash32
from challenger.sim.kits import Kit
from challenger.sim.scenario import DIGITS, SENTENCES, TEXTS
from challenger.sim.workshop import Artefact, Variant
from replay.layout import bundle_root, decode_bundle, encode_bundle, merkle_path, merkle_root, tensor_root
from replay.sandbox import Receipt

_SCALE = {Variant.REGISTERED: 1.0, Variant.INT8: 1.0078125, Variant.OLDER: 0.875}


class ToyBench:
    """Scales its input; the inner boundary is the running sum. ``replays`` counts who replayed on what."""

    def __init__(self) -> None:
        self.replays: list[str] = []

    async def run(self, model: str, data: bytes, variant: Variant = Variant.REGISTERED, seed: bytes = b"") -> Receipt:
        (given,) = decode_bundle(data).values()
        if model == TEXTS:
            assert len(seed) == 32
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


def _kit(name: str, dtype: type) -> Kit:
    def sample(number: int) -> bytes:
        values = np.random.default_rng(number).integers(1, 100, size=(1, 8))
        return encode_bundle({"x": values.astype(dtype)})

    root = Hash32(hashlib.sha256(name.encode()).digest())
    artefact = Artefact(Path(f"/models/{name}/manifest.json"), root)
    return Kit(name, dict.fromkeys(Variant, artefact), root, root, 1, 3, sample(10_000), sample, name == TEXTS)
