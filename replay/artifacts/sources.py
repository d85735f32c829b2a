"""Where bytes come from. A source writes to an open file and never more than it may; here: files."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from replay.artifacts.errors import ArtifactMissing, ArtifactReason, ArtifactRefused, ArtifactTooLarge

_PIECE = 1 << 20


class Source(Protocol):
    """Answers one family of URL schemes."""

    async def copy(self, uri: str, into: BinaryIO, max_bytes: int) -> None:
        """Write the bytes of ``uri`` to ``into``, at most ``max_bytes`` of them; raises ``ArtifactError``."""

    async def close(self) -> None: ...


class FileSource:
    """``file:///…`` under one of ``roots``, symbolic links resolved first; regular files only."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = tuple(Path(root).resolve() for root in roots)

    async def copy(self, uri: str, into: BinaryIO, max_bytes: int) -> None:
        await asyncio.to_thread(self._copy, uri, into, max_bytes)

    async def close(self) -> None:
        """Nothing is held open."""

    def _copy(self, uri: str, into: BinaryIO, max_bytes: int) -> None:
        parts = urlsplit(uri)
        path = unquote(parts.path)
        if parts.netloc not in ("", "localhost") or not path.startswith("/") or "\0" in path:
            raise ArtifactRefused(ArtifactReason.ROOTS, "write file:///absolute/path", uri=uri)
        try:
            # outside the roots even the question whether a file exists gets no answer
            resolved = Path(path).resolve()
            if not any(resolved.is_relative_to(root) for root in self._roots):
                raise ArtifactRefused(ArtifactReason.ROOTS, "it lies outside the allowed folders", uri=uri)
            # O_NONBLOCK: a FIFO must not hold us; O_NOFOLLOW: resolve() left no link to follow
            handle = os.open(resolved, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (OSError, RuntimeError) as error:
            detail = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, detail, uri=uri) from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise ArtifactRefused(ArtifactReason.ROOTS, "it is not a regular file", uri=uri)
        with os.fdopen(handle, "rb") as source:
            if os.fstat(handle).st_size > max_bytes:
                raise too_large(uri, max_bytes)
            left = max_bytes
            while piece := source.read(min(_PIECE, left + 1)):
                left -= len(piece)
                if left < 0:
                    raise too_large(uri, max_bytes)
                into.write(piece)


def too_large(uri: str, max_bytes: int) -> ArtifactTooLarge:
    return ArtifactTooLarge(ArtifactReason.SIZE, f"more than {max_bytes} bytes", uri=uri)
