"""Where tasks' data lies when it does not stand on chain: one folder that every party may read, by ``file:`` URI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from challenger.errors import DataUnavailable


@dataclass(frozen=True, slots=True)
class DataRoom:
    """Bundles by their root. What was never put has an address all the same, at which nothing is found. ``base``: the
    address of the folder as parties see it, where the chain must not depend on where the folder lies."""

    folder: Path
    base: str = ""

    def address(self, root: bytes) -> str:
        return f"{self.base}/{self._path(root).name}" if self.base else self._path(root).resolve().as_uri()

    def read(self, inline: bytes, uri: str) -> bytes:
        """As the module's ``read``, for addresses of this room too."""
        if self.base and uri.startswith(self.base + "/"):
            uri = (self.folder / uri.rpartition("/")[2]).resolve().as_uri()
        return read(inline, uri)

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
