"""Where tasks' data lies when it does not stand on chain: one folder that every party may read, by ``file:`` URI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from challenger.errors import DataUnavailable


@dataclass(frozen=True, slots=True)
class DataRoom:
    """Bundles by their root. What was never put has an address all the same, at which nothing is found."""

    folder: Path

    def address(self, root: bytes) -> str:
        return self._path(root).resolve().as_uri()

    def put(self, root: bytes, data: bytes) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._path(root).write_bytes(data)
        return self.address(root)

    def _path(self, root: bytes) -> Path:
        return self.folder / f"{root.hex()}.bundle"


def read(inline: bytes, uri: str) -> bytes:
    """Data as an event gives it. ``DataUnavailable`` when nothing is where the URI points."""
    if inline:
        return inline
    try:
        return Path(unquote(urlsplit(uri).path)).read_bytes()
    except OSError as error:
        raise DataUnavailable(str(error.strerror), uri=uri) from None
