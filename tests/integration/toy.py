"""The toy model behind the engine's two seams: files that are there or not, workers that compute or lie."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from challenger.sim.scenario import TEXTS
from replay.artifacts import ArtifactMissing, ArtifactReason
from replay.layout import bundle_root
from replay.sandbox import Completed, Inconclusive, Reason, ReplayRequest
from tests.sim.toy import ToyBench


class ToyFiles:
    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 0) -> Path:
        return Path("/models") / file_digest.hex()

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:
        return await asyncio.to_thread(_read, uri, root)


def _read(uri: str, root: bytes) -> bytes:
    path = Path(unquote(urlsplit(uri).path))
    if not path.exists() or bundle_root(path.read_bytes()) != root:
        raise ArtifactMissing(ArtifactReason.NOT_FOUND, uri=uri)
    return path.read_bytes()


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
        drawn = request.file_digest == sha256(TEXTS.encode()).digest()
        receipt = await ToyBench().run(TEXTS if drawn else "toy", request.input, seed=request.seed)
        if request.backend in self.lies:
            wrong = bytes([receipt.output_root[0] ^ 1]) + receipt.output_root[1:]
            receipt = replace(receipt, output_root=wrong)
        return Completed(receipt)
