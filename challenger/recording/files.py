"""Models and data of a recorded chain, behind the seam where the artefact store stands."""

from __future__ import annotations

import asyncio
from pathlib import Path

from challenger.pipeline.engine import Files
from challenger.recording.spool import Spool
from replay.artifacts import ArtifactMissing, ArtifactReason, ArtifactRefused
from replay.layout import LayoutError, bundle_root
from replay.recording import Recording
from replay.recording.runs import unpack_model


class RecordedFiles:
    """``folder``: where embedded models are unpacked. ``fallback`` None: nothing is fetched from anywhere; what the
    recording does not hold is refused, which is nobody's withholding."""

    def __init__(self, spool: Spool, recording: Recording, folder: Path, fallback: Files | None) -> None:
        self._spool = spool
        self._recording = recording
        self._folder = folder
        self._fallback = fallback
        self._models: dict[bytes, Path | None] = {}

    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 1 << 62) -> Path:
        if file_digest not in self._models:
            place = self._folder / file_digest.hex()
            self._models[file_digest] = unpack_model(self._recording, file_digest, place)
        found = self._models[file_digest]
        if found is not None:
            return found
        if self._fallback is None:
            raise _not_held(uri)
        return await self._fallback.fetch_model(uri, file_digest, max_bytes)

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 1 << 62) -> bytes:
        kept = self._spool.data(root)
        if kept is None and self._fallback is not None:
            return await self._fallback.fetch_bundle(uri, root, length, max_bytes)
        if kept is None:
            raise _not_held(uri)
        if kept.away:
            raise ArtifactMissing(ArtifactReason(kept.away), "as recorded", uri=uri)
        content = kept.content
        if content is None:
            content = await asyncio.to_thread(self._part, kept.part, max_bytes)
        try:
            fits = bundle_root(content) == root and len(content) == length
        except LayoutError:
            fits = False
        if not fits:
            raise _not_held(uri)
        return content

    def _part(self, name: str, max_bytes: int) -> bytes:
        """Empty, which is no bundle, where it is more than is wanted."""
        large = self._recording.manifest.parts[name].plain > max_bytes
        return b"" if large else b"".join(self._recording.unpacked(name))


def _not_held(uri: str) -> ArtifactRefused:
    """Nobody withheld it: it was not recorded, and nothing follows from that."""
    return ArtifactRefused(ArtifactReason.ROOTS, "the recording does not hold it", uri=uri)
