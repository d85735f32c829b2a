"""Artefacts over HTTP, from servers that may be hostile."""

from __future__ import annotations

import asyncio
from typing import BinaryIO

import aiohttp
from yarl import URL

from replay.artifacts.addresses import Addresses, GuardedResolver
from replay.artifacts.errors import ArtifactMissing, ArtifactReason, ArtifactRefused, masked
from replay.artifacts.sources import too_large

_PIECE = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
#: What our own rules say of an address.
_FORBIDDEN = frozenset({ArtifactReason.SCHEME, ArtifactReason.ADDRESS})


class HttpSource:
    """``http(s)://…``: checked addresses, few redirects (each checked anew), no proxy, no cookies, no compression.

    ``timeout`` bounds one whole transfer in seconds, ``idle_timeout`` a single silence of the server.
    """

    def __init__(
        self, *, timeout: float, idle_timeout: float = 20.0, max_redirects: int = 3, addresses: Addresses
    ) -> None:
        self._timeout = timeout
        self._max_redirects = max_redirects
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # who calls bounds how many: to wait for a slot of our own would look like a server's silence
                resolver=GuardedResolver(addresses),
                socket_factory=addresses.socket_to,
                use_dns_cache=False,
                limit=0,
            ),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=idle_timeout, sock_read=idle_timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "inference-challenger"},
            auto_decompress=False,
            trust_env=False,
        )

    async def copy(self, uri: str, into: BinaryIO, max_bytes: int, accept: str = "*/*") -> None:
        """As ``Source.copy``; ``accept``: the media type asked for."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._follow(uri, into, max_bytes, accept)
        except TimeoutError as error:  # aiohttp's own timeouts are TimeoutErrors too
            raise ArtifactMissing(ArtifactReason.TIMEOUT, f"not within {self._timeout:g} s", uri=uri) from error
        except (aiohttp.ClientError, ValueError) as error:
            if _is_of_an_address(error):
                raise ArtifactRefused(ArtifactReason.SCHEME, "the address does not parse", uri=uri) from error
            raise ArtifactMissing(ArtifactReason.UNREACHABLE, type(error).__name__, uri=uri) from error

    async def close(self) -> None:
        await self._session.close()

    async def _follow(self, uri: str, into: BinaryIO, max_bytes: int, accept: str) -> None:
        at = URL(uri)
        for hops in range(self._max_redirects + 1):
            try:
                target = await self._step(at, uri, into, max_bytes, accept)
            except ArtifactRefused as error:
                if hops and error.reason in _FORBIDDEN:  # its address is allowed: it is the server that leads elsewhere
                    raise ArtifactRefused(ArtifactReason.REDIRECT, error.detail, uri=uri) from error
                raise
            except (aiohttp.ClientError, ValueError) as error:
                if hops and _is_of_an_address(error):
                    raise _astray(uri) from error
                raise
            if target is None:
                return
            if at.scheme == "https" and target.scheme != "https":
                raise ArtifactRefused(ArtifactReason.REDIRECT, "from https down to another scheme", uri=uri)
            at = target
        raise ArtifactRefused(ArtifactReason.REDIRECT, f"more than {self._max_redirects} redirects", uri=uri)

    async def _step(self, at: URL, uri: str, into: BinaryIO, max_bytes: int, accept: str) -> URL | None:
        """One request; where it leads to, None when it gave what was asked for."""
        if at.scheme not in ("http", "https") or not at.raw_host:
            raise ArtifactRefused(ArtifactReason.SCHEME, f"{masked(str(at))} is neither http nor https", uri=uri)
        async with self._session.get(at, allow_redirects=False, headers={"Accept": accept}) as answer:
            if answer.status not in _REDIRECTS:
                await self._body(answer, uri, into, max_bytes)
                return None
            try:
                return answer.url.join(URL(answer.headers.get("Location", "")))
            except ValueError as error:
                raise _astray(uri) from error

    async def _body(self, answer: aiohttp.ClientResponse, uri: str, into: BinaryIO, max_bytes: int) -> None:
        if answer.status in (404, 410):
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, f"HTTP {answer.status}", uri=uri)
        if answer.status != 200:
            raise ArtifactMissing(ArtifactReason.STATUS, f"HTTP {answer.status}", uri=uri)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ArtifactRefused(ArtifactReason.ENCODING, "the server insists on compression", uri=uri)
        if answer.content_length is not None and answer.content_length > max_bytes:
            raise too_large(uri, max_bytes)
        left = max_bytes
        async for piece in answer.content.iter_chunked(_PIECE):
            left -= len(piece)
            if left < 0:
                raise too_large(uri, max_bytes)
            await asyncio.to_thread(into.write, piece)


def _is_of_an_address(error: Exception) -> bool:
    """Whether an address does not parse; a bad certificate is a ValueError too, and something else."""
    return isinstance(error, aiohttp.InvalidURL) or not isinstance(error, aiohttp.ClientError)


def _astray(uri: str) -> ArtifactRefused:
    return ArtifactRefused(ArtifactReason.REDIRECT, "to an address that does not parse", uri=uri)
