"""The store: ``fetch`` by digest, whole models by manifest, bundles by root, IPFS files by their CID."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import itertools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from weakref import WeakValueDictionary

from replay.artifacts.cache import Cache, Check, disk_trouble
from replay.artifacts.errors import (
    OUR_DISK,
    REFUSED,
    SILENT,
    ArtifactError,
    ArtifactMismatch,
    ArtifactReason,
    ArtifactRefused,
    ArtifactTooLarge,
)
from replay.artifacts.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, manifest_files
from replay.artifacts.routes import Routes
from replay.artifacts.sources import FileSource, Source

if TYPE_CHECKING:
    from replay.artifacts.ipfs.source import IpfsSource

GIB = 1 << 30
#: Tiles of a bundle that are hashed at most, in this very process: half a second of a processor. A row of four bytes makes a
#: tile of 1,024, so that bytes bound nothing; rows of 512 bytes and more are bounded by them alone.
MAX_TILES = 1 << 17
#: Bytes of bundles held in memory, for which the cache has no room.
_UNKEPT_BYTES = 64 << 20
#: How long a witness has for its headers.
_WITNESS_SECONDS = 10.0
#: … and how far apart two are asked at least: a flood of failures makes no flood of them.
_WITNESS_PAUSE = 2.0
#: Errors that do not depend on how much the asker takes.
_NOBODYS_SIZE = SILENT | REFUSED | {ArtifactReason.NOT_FOUND, ArtifactReason.DIGEST}
#: Errors from which it follows that the server itself was reached: what else it may say, a portal of our own line says too.
_HEARD = frozenset({ArtifactReason.NOT_FOUND, ArtifactReason.SIZE})


class _Turn:
    """Those who want the same file from the same address: one asks at a time. ``failed``: how the last try went that gave
    nothing, which ``ended`` then, in the order of all that was asked."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.failed: ArtifactError | None = None
        self.ended = 0


class ArtifactStore:
    """A content-addressed cache in ``folder`` with sources behind it; use it as an async context manager.

    ``roots``: folders that ``file:`` URLs may name (none: the scheme is refused). ``max_bytes`` bounds the cache,
    ``grace`` (seconds) protects what was just handed out from eviction, ``timeout`` (seconds) bounds a transfer.
    ``private_networks`` (CIDR) may be reached by http(s) although they are not public. ``gateways``: where the blocks of ``ipfs:``
    addresses come from, tried in this order: http(s) URLs, ``file:`` URLs of CAR files or of folders of blocks (none: the
    scheme is refused). ``witness_pause``: seconds between two questions to another server whether our line is up.
    """

    def __init__(
        self,
        folder: Path,
        *,
        roots: Sequence[Path] = (),
        max_bytes: int = 16 * GIB,
        grace: float = 600.0,
        timeout: float = 120.0,
        idle_timeout: float = 20.0,
        max_redirects: int = 3,
        private_networks: Sequence[str] = (),
        gateways: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
        witness_pause: float = _WITNESS_PAUSE,
    ) -> None:
        self._cache = Cache(folder, max_bytes=max_bytes, grace=grace, clock=clock)
        self._files = FileSource(roots)
        self._http: Source | None = None
        self._http_options = (timeout, idle_timeout, max_redirects, tuple(private_networks))
        self._gateways = tuple(gateways)
        self._ipfs: IpfsSource | None = None
        self._routes = Routes()
        self._witnessed, self._witness_pause = -math.inf, witness_pause
        self._turns: WeakValueDictionary[tuple[str, str], _Turn] = WeakValueDictionary()
        self._tries = itertools.count(1)
        #: Bundles that were served and found no room, the latest last.
        self._unkept: OrderedDict[str, bytes] = OrderedDict()
        self._unkept_bytes = 0

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._cache.prepare)
        except OSError as error:
            raise disk_trouble(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        http, self._http = self._http, None
        ipfs, self._ipfs = self._ipfs, None
        for source in (http, ipfs):
            if source is not None:
                await source.close()

    async def fetch(self, uri: str, digest: bytes, max_bytes: int = 4 * GIB) -> Path:
        """A file whose SHA-256 is ``digest`` (32 bytes), from the cache or else from ``uri``.

        Raises ``ArtifactMissing``, ``ArtifactMismatch``, ``ArtifactTooLarge``, ``ArtifactRefused`` or
        ``ArtifactStoreFailed``; each names a reason and a masked URL.
        """
        return await self._have(f"sha256-{digest.hex()}", uri, max_bytes, lambda path: file_sha256(path) == digest)

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 64 << 20) -> bytes:
        """The canonical bytes of the bundle whose root is ``root`` (32 bytes).

        ``length`` is what was declared. Whoever declares a wrong one must neither make us say that the data are withheld
        (a demand for what is there costs a bond) nor keep us from reading them: the root decides, ``max_bytes`` bounds, and
        ``MAX_TILES``. What was served and cannot be kept, for want of room, is given all the same. Raises as ``fetch``;
        neither bound says anything of whoever serves the bundle.
        """
        if length > max_bytes:
            raise ArtifactTooLarge(ArtifactReason.SIZE, f"{length} bytes, {max_bytes} allowed", uri=uri)
        name = f"bundle-{root.hex()}"
        if (kept := self._unkept.get(name)) is not None:
            return kept
        served: list[bytes] = []

        def check(path: Path) -> bool:
            from replay.layout import LayoutError, bundle_root, decode_bundle, tile_count

            try:
                data = path.read_bytes()
                tensors = decode_bundle(data)
            except LayoutError:
                return False
            tiles = sum(tile_count(array.shape, array.dtype) for array in tensors.values())
            if tiles > (most := max(MAX_TILES, max_bytes // 512)):
                raise ArtifactTooLarge(
                    ArtifactReason.TILES, f"its rows are short: {tiles} tiles to hash, {most} allowed", uri=uri
                )
            right: bool = bundle_root(tensors) == root
            served[:] = [data] if right else []
            return right

        try:
            path = await self._have(name, uri, max_bytes, check)
            return served[0] if served else await asyncio.to_thread(path.read_bytes)
        except OSError as error:  # it went while we looked
            raise disk_trouble(error) from error
        except ArtifactError as error:
            if (kept := self._unkept.get(name)) is not None:  # another has it, for whom we waited
                return kept
            if not served or error.reason not in OUR_DISK:
                raise
        return self._in_memory(name, served[0])

    def _in_memory(self, name: str, data: bytes) -> bytes:
        """Keeps ``data`` for whoever asks next: who serves it once need not serve it for each step of one case."""
        self._unkept_bytes += len(data) - len(self._unkept.pop(name, b""))
        self._unkept[name] = data
        while self._unkept_bytes > _UNKEPT_BYTES:
            self._unkept_bytes -= len(self._unkept.popitem(last=False)[1])
        return data

    async def fetch_model(self, uri: str, file_digest: bytes, max_bytes: int = 4 * GIB) -> Path:
        """Fetch a manifest and every file it names; returns the manifest's path in a folder that holds them all.

        ``max_bytes`` bounds the model as a whole.
        """
        manifest = await self.fetch(uri, file_digest, MAX_MANIFEST_BYTES)
        files = manifest_files(await asyncio.to_thread(manifest.read_bytes))
        left = max_bytes
        objects = {MANIFEST_NAME: manifest}
        for name, digest in files.items():
            try:
                objects[name] = await self.fetch(beside(uri, name), digest, left)
                left -= (await asyncio.to_thread(objects[name].stat)).st_size
            except FileNotFoundError as error:
                raise disk_trouble(error) from error
        try:
            return await asyncio.to_thread(self._view, file_digest.hex(), objects)
        except OSError as error:
            raise disk_trouble(error) from error

    async def fetch_cid(self, uri: str, max_bytes: int = 4 * GIB) -> Path:
        """The file behind ``ipfs://CID[/path]``: the CID is the digest. Raises as ``fetch``, and ``ArtifactUnreadable`` where the
        blocks are no file (a directory, a shard, a symbolic link, blocks that contradict each other).

        A path is looked up anew each time, by the directory's blocks. What lies in the cache is cut into blocks again before
        a process first trusts it; a file that was not cut in a usual way is fetched again instead.
        """
        if not uri.startswith("ipfs://"):
            raise ArtifactRefused(ArtifactReason.SCHEME, "only ipfs://CID is fetched by CID alone", uri=uri)
        from replay.artifacts.ipfs.build import rebuilds

        cid = await self._ipfs_source(uri).resolve(uri)

        def check(path: Path) -> bool:
            with path.open("rb") as opened:
                return rebuilds(opened, cid)

        return await self._have(f"cid-{cid.binary.hex()}", f"ipfs://{cid}", max_bytes, check, proven=True)

    def _view(self, hex_digest: str, objects: dict[str, Path]) -> Path:
        folder = self._cache.view(hex_digest)
        for name, path in objects.items():
            self._cache.link(path, folder / name)
        return folder / MANIFEST_NAME

    async def _have(self, key: str, uri: str, max_bytes: int, check: Check, *, proven: bool = False) -> Path:
        """``proven``: whatever the source gives is what ``uri`` names. Who waits while another asks at the same address has
        that one's answer; what lies elsewhere under the same digest waits for nobody."""
        place, asked = self._cache.place(key), next(self._tries)
        turn = self._turns.setdefault((key, uri), _Turn())
        async with turn.lock:
            if turn.failed is not None and turn.ended > asked:
                raise turn.failed.with_traceback(None)
            try:
                size = await asyncio.to_thread(self._cache.look_up, place, check)
                if size is None:
                    await self._get(place, uri, max_bytes, None if proven else check)
                elif size > max_bytes:
                    raise ArtifactTooLarge(ArtifactReason.SIZE, f"more than {max_bytes} bytes", uri=uri)
            except OSError as error:
                raise disk_trouble(error) from error
            except ArtifactError as error:
                if error.reason in _NOBODYS_SIZE:
                    turn.failed, turn.ended = error, next(self._tries)
                raise
        return place

    async def _get(self, place: Path, uri: str, max_bytes: int, check: Check | None) -> None:
        source = self._source(uri)
        with contextlib.ExitStack() as stack:
            temporary, opened = await asyncio.to_thread(stack.enter_context, self._cache.temporary())
            await self._copy(source, uri, opened, max_bytes)
            await asyncio.to_thread(opened.flush)
            if check is not None and not await asyncio.to_thread(check, temporary):
                lay = await asyncio.to_thread(file_sha256, temporary)
                size = (await asyncio.to_thread(temporary.stat)).st_size
                raise ArtifactMismatch(ArtifactReason.DIGEST, f"wanted {place.name}", uri=uri, served=lay, size=size)
            if source is self._http:
                self._routes.answered(uri)  # no portal of our own line could have said that
            try:
                await asyncio.to_thread(self._cache.adopt, temporary, place)
            except ArtifactTooLarge as error:
                raise ArtifactTooLarge(error.reason, error.detail, uri=uri) from error

    async def _copy(self, source: Source, uri: str, into: BinaryIO, max_bytes: int) -> None:
        """Raises as ``Source.copy``; of a server that says nothing, or gives nothing, it is noted who else did."""
        try:
            await source.copy(uri, into, max_bytes)
        except ArtifactError as error:
            if source is self._http and error.reason in SILENT | REFUSED:
                error.meanwhile = self._routes.silent(uri)
                await self._witness(source, uri)
            elif source is self._http and error.reason in _HEARD:
                self._routes.answered(uri)
            raise

    async def _witness(self, source: Source, uri: str) -> None:
        """Where ``uri`` gave nothing: asks another host, which answered before, whether our line is up. Its headers are enough."""
        if time.monotonic() - self._witnessed < self._witness_pause or not (other := self._routes.another(uri)):
            return
        self._witnessed = time.monotonic()
        try:
            async with asyncio.timeout(_WITNESS_SECONDS):
                await source.copy(other, io.BytesIO(), 0)
        except TimeoutError:
            self._routes.failed(other)
            return
        except ArtifactError as error:
            if error.reason not in _HEARD:
                self._routes.failed(other)
                return
        self._routes.answered(other)

    def _source(self, uri: str) -> Source:
        try:
            scheme = urlsplit(uri).scheme
        except ValueError as error:
            raise ArtifactRefused(ArtifactReason.SCHEME, "the address does not parse", uri=uri) from error
        if scheme == "file":
            return self._files
        if scheme == "ipfs":
            return self._ipfs_source(uri)
        if scheme not in ("http", "https"):
            raise ArtifactRefused(ArtifactReason.SCHEME, "only file:, http:, https: and ipfs: are fetched", uri=uri)
        if self._http is None:
            from replay.artifacts.addresses import Addresses
            from replay.artifacts.http import HttpSource

            timeout, idle, redirects, private = self._http_options
            self._http = HttpSource(
                timeout=timeout, idle_timeout=idle, max_redirects=redirects, addresses=Addresses(private)
            )
        return self._http

    def _ipfs_source(self, uri: str) -> IpfsSource:
        if not self._gateways:
            raise ArtifactRefused(
                ArtifactReason.GATEWAYS, "ipfs: addresses need gateways, and none is set ([replay] gateways)", uri=uri
            )
        if self._ipfs is None:
            from replay.artifacts.ipfs.gateway import gateway
            from replay.artifacts.ipfs.source import IpfsSource

            timeout, idle, redirects, private = self._http_options
            try:
                places = [
                    gateway(url, timeout=timeout, idle_timeout=idle, max_redirects=redirects, private_networks=private)
                    for url in self._gateways
                ]
            except ValueError as error:
                raise ArtifactRefused(ArtifactReason.GATEWAYS, str(error), uri=uri) from error
            self._ipfs = IpfsSource(places, self._cache.temporary, timeout=timeout)
        return self._ipfs


def file_sha256(path: Path) -> bytes:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def beside(uri: str, name: str) -> str:
    """The URL of a file in the same folder as ``uri``; the query does not travel along."""
    parts = urlsplit(uri)
    if parts.scheme == "ipfs":
        folder, slash, _ = parts.path.rpartition("/")
        if not slash:
            raise ArtifactRefused(
                ArtifactReason.SCHEME, "write ipfs://CID/manifest.json: files lie in one directory", uri=uri
            )
        return f"ipfs://{parts.netloc}{folder}/{quote(name)}"
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    return urljoin(bare, quote(name))
