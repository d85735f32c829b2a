"""Where blocks come from. No gateway is trusted: a block is checked before it is a ``Block``, whoever had it."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit, urlunsplit

from replay.artifacts.addresses import Addresses
from replay.artifacts.errors import ArtifactMismatch, ArtifactMissing, ArtifactReason, masked
from replay.artifacts.http import HttpSource
from replay.artifacts.ipfs.car import Car
from replay.artifacts.ipfs.cid import Block, Cid
from replay.artifacts.ipfs.dagpb import MAX_BLOCK
from replay.artifacts.ipfs.errors import BlockMismatch, CarRefused, IpfsError

#: 64 GiB in chunks of the usual size; of the least blocks there are, what is kept of so many takes 80 MB
_MAX_INDEX = 1 << 18
_RAW = "application/vnd.ipld.raw"
_CAR = "application/vnd.ipld.car;version=1"


class Gateway(Protocol):
    """``name`` may be shown. ``block`` and ``car`` raise ``ArtifactError``."""

    name: str

    async def block(self, cid: Cid) -> Block: ...

    async def car(self, cid: Cid, into: BinaryIO, max_bytes: int) -> bool:
        """Write a CAR file with all that is below ``cid``; False where this gateway has no such thing to offer."""

    async def close(self) -> None: ...


def gateway(
    url: str, *, timeout: float, idle_timeout: float, max_redirects: int, private_networks: Sequence[str]
) -> Gateway:
    """What ``url`` names: an http(s) gateway, or a CAR file or folder of blocks by its ``file:`` URL. Raises ``ValueError``.

    A gateway that is named by a private address, or as localhost, may be reached there and nowhere else inside: whoever
    wrote the setting named it. Its redirects, and names, are held to ``private_networks`` as any other address.
    """
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FileGateway(Path(unquote(parts.path)))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a gateway is an http(s) URL or file:///path, not {masked(url)}")
    allowed = Addresses((*private_networks, *_itself(parts.hostname)))

    def source() -> HttpSource:
        return HttpSource(timeout=timeout, idle_timeout=idle_timeout, max_redirects=max_redirects, addresses=allowed)

    return HttpGateway(url, source)


def _itself(host: str) -> tuple[str, ...]:
    if host == "localhost":
        return ("127.0.0.1/32", "::1/128")
    try:
        return (str(ip_address(host)),)
    except ValueError:
        return ()


class HttpGateway:
    """A trustless gateway: single blocks (``?format=raw``) and whole DAGs (``?format=car``). A query in its URL, a token
    say, goes along with each request."""

    def __init__(self, url: str, source: Callable[[], HttpSource]) -> None:
        """``source`` is called once, when something is asked for: it makes a session, which wants a running loop."""
        parts = urlsplit(url)
        self.name = masked(urlunsplit((parts.scheme, parts.netloc, "", "", "")))  # a path may hold a key
        self._make = source
        self._made: HttpSource | None = None
        self._base = parts._replace(path=parts.path.rstrip("/").removesuffix("/ipfs"), fragment="")

    async def block(self, cid: Cid) -> Block:
        into = io.BytesIO()
        await self._source.copy(self._url(cid, "format=raw"), into, MAX_BLOCK, _RAW)
        try:
            return await asyncio.to_thread(Block, cid, into.getvalue())
        except BlockMismatch as error:
            raise ArtifactMismatch(ArtifactReason.DIGEST, str(cid), uri=self.name) from error

    async def car(self, cid: Cid, into: BinaryIO, max_bytes: int) -> bool:
        await self._source.copy(self._url(cid, "format=car&dag-scope=all"), into, max_bytes, _CAR)
        return True

    async def close(self) -> None:
        if self._made is not None:
            await self._made.close()
            self._made = None

    @property
    def _source(self) -> HttpSource:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _url(self, cid: Cid, wanted: str) -> str:
        query = f"{self._base.query}&{wanted}" if self._base.query else wanted
        return urlunsplit(self._base._replace(path=f"{self._base.path}/ipfs/{cid}", query=query))


class FileGateway:
    """A CAR file, or a folder that holds each block in a file named as its CID."""

    def __init__(self, path: Path) -> None:
        self.name = masked(path.as_uri())
        self._path = path
        self._car = CarIndex(path)

    async def block(self, cid: Cid) -> Block:
        try:
            return await asyncio.to_thread(self._block, cid)
        except OSError as error:
            detail = os.strerror(error.errno) if error.errno else str(error)
            raise ArtifactMissing(ArtifactReason.UNREACHABLE, detail, uri=self.name) from error
        except IpfsError as error:
            raise ArtifactMismatch(ArtifactReason.DIGEST, str(error), uri=self.name) from error

    async def car(self, cid: Cid, into: BinaryIO, max_bytes: int) -> bool:  # noqa: ARG002
        return False

    async def close(self) -> None:
        """Nothing is held open."""

    def _block(self, cid: Cid) -> Block:
        if self._path.is_dir():
            try:
                with (self._path / str(cid)).open("rb") as opened:
                    return Block(cid, opened.read(MAX_BLOCK + 1))
            except FileNotFoundError:
                found = None
        else:
            found = self._car.block(cid)
        if found is None:
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, str(cid), uri=self.name)
        return found


class CarIndex:
    """Where each block of a CAR file lies; blocks are checked as they are handed out.

    Blocks may be asked for from several threads. A file that changed is looked through anew.
    """

    def __init__(self, path: Path, max_blocks: int = _MAX_INDEX) -> None:
        self._path = path
        self._max_blocks = max_blocks
        self._lock = threading.Lock()
        self._seen: tuple[int, ...] = ()
        self._places: dict[bytes, tuple[int, int]] = {}
        self._fault: IpfsError | None = None

    def scan(self) -> int:
        """How many different blocks there seem to be: of a file that is cut short, those before that. Raises ``OSError``."""
        with self._lock, self._path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                self._places, self._fault = _places(opened, self._max_blocks)
                self._seen = seen
            return len(self._places)

    def block(self, cid: Cid) -> Block | None:
        """None where a whole file does not have it. Raises ``OSError``, ``BlockMismatch``, and for one that is not to be
        found in a damaged file what is wrong with that."""
        self.scan()
        place = self._places.get(cid.digest)
        if place is None:
            if self._fault is not None:
                raise type(self._fault)(self._fault.detail)
            return None
        with self._path.open("rb") as opened:
            opened.seek(place[0])
            return Block(cid, opened.read(place[1]))


def _places(opened: BinaryIO, max_blocks: int) -> tuple[dict[bytes, tuple[int, int]], IpfsError | None]:
    """Where the block of each digest lies, and how long it is, as far as the file can be read; and what is wrong with it."""
    found: dict[bytes, tuple[int, int]] = {}
    try:
        for cid, at, length in Car(opened).places():
            found[cid.digest] = (at, length)
            if len(found) > max_blocks:
                raise CarRefused(f"more than {max_blocks} blocks")
    except IpfsError as error:
        return found, error
    return found, None
