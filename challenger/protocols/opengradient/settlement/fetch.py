"""Where blobs come from: Walrus aggregators over HTTP, or a folder. Nobody among them is believed.

A blob's id does not show whether bytes are the blob's, so that every source is asked until one has bytes that fit what
the chain says. When none has, the bytes that most of them serve are kept, with how many did.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from challenger.errors import ConfigError, FetchRefused
from challenger.protocols.opengradient.settlement.blobs import MAX_BLOB_BYTES
from replay.artifacts.addresses import Addresses
from replay.artifacts.errors import ArtifactError, ArtifactReason, masked
from replay.artifacts.http import HttpSource
from replay.artifacts.sources import FileSource, Source

#: What our own rules forbid says nothing about anyone else.
_OURS = frozenset({ArtifactReason.ADDRESS, ArtifactReason.ROOTS, ArtifactReason.SCHEME})


class Served(NamedTuple):
    """``data`` is None when no source had it, and ``why`` says what each of them said; else ``witnesses`` is how many
    served these very bytes (of bytes that fit the first one is enough)."""

    data: bytes | None
    witnesses: int
    why: str


class BlobSources:
    """Aggregators by base URL (``https://host``: blobs are ``/v1/blobs/ID`` there), and a ``folder`` with files named by
    blob id. An async context manager. ``timeout``: seconds for one blob from one source; ``private_networks`` as for any
    artefact. ``ConfigError``: no source at all, or a URL that is none."""

    def __init__(
        self,
        aggregators: Sequence[str] = (),
        folder: Path | None = None,
        *,
        private_networks: Sequence[str] = (),
        timeout: float = 60.0,
        max_bytes: int = MAX_BLOB_BYTES,
    ) -> None:
        for url in aggregators:
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                raise ConfigError("an aggregator is an http or https URL", given=masked(url))
        if not aggregators and folder is None:
            raise ConfigError("no source of blobs: name an aggregator or a folder")
        self._aggregators = tuple(url.rstrip("/") for url in aggregators)
        self._folder = folder.resolve() if folder is not None else None
        self._options = (tuple(private_networks), timeout)
        self._max_bytes = max_bytes
        self._http: HttpSource | None = None
        self._reading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self._aggregators:
            networks, timeout = self._options
            self._http = HttpSource(timeout=timeout, addresses=Addresses(networks))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def fetch(self, name: str, fits: Callable[[bytes], bool]) -> Served:
        """The blob ``name``. ``FetchRefused`` when our own rules forbade to ask any source."""
        bodies: Counter[bytes] = Counter()
        reasons: list[ArtifactError] = []
        for source, url in self._places(name):
            into = BytesIO()
            try:
                await source.copy(url, into, self._max_bytes)
            except ArtifactError as error:
                reasons.append(error)
                continue
            data = into.getvalue()
            async with self._reading:  # read, hostile JSON takes up many times its bytes
                fit = await asyncio.to_thread(fits, data)
            if fit:
                return Served(data, 1, "")
            bodies[data] += 1
        if bodies:
            data, witnesses = bodies.most_common(1)[0]
            return Served(data, witnesses, "")
        if all(error.reason in _OURS for error in reasons):
            raise FetchRefused(str(reasons[0]))
        return Served(None, 0, "; ".join(f"{error.uri}: {error.reason}" for error in reasons))

    def _places(self, name: str) -> list[tuple[Source, str]]:
        places: list[tuple[Source, str]] = []
        if self._folder is not None:
            places.append((FileSource([self._folder]), f"{self._folder.as_uri()}/{name}"))
        if self._http is not None:
            places += [(self._http, f"{base}/v1/blobs/{name}") for base in self._aggregators]
        return places
