"""One HTTP endpoint: a kept-alive session, bounded answers, and a URL that never shows its key."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from web3 import AsyncHTTPProvider

from challenger.chain import wire
from challenger.chain.rpc import Rpc
from challenger.errors import AnswerTooLarge, ConfigError, EndpointError, RateLimited, WrongChain

#: Bytes of one answer, decompressed. A log range that exceeds it is split.
MAX_ANSWER = 64 * 2**20
#: Seconds of rest that an endpoint may ask for.
_LONGEST_REST = 3_600.0


def mask_url(url: str) -> str:
    """Scheme, host and port; path, query and user, where providers put keys, become ``…``."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "…"
    if not parts.hostname:
        return "…"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    hidden = parts.path not in {"", "/"} or parts.query or parts.username
    return f"{parts.scheme}://{host}{port}" + ("/…" if hidden else "")


class HttpProvider(AsyncHTTPProvider):
    """web3's provider (an ``AsyncWeb3`` may stand on it) whose requests are posted here: no retries, no redirects, the
    body read whatever the status (providers put JSON-RPC errors under 4xx) and never beyond ``max_answer`` bytes."""

    def __init__(self, url: str, session: aiohttp.ClientSession, *, max_answer: int = MAX_ANSWER) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self.name = mask_url(url)
        self._url = url
        self._session = session
        self._max_answer = max_answer
        self._headers = self.get_request_headers()

    async def make_request(self, method: Any, params: Any) -> Any:
        return await self._post(self.form_request(method, params))

    async def make_batch_request(self, batch_requests: Sequence[tuple[Any, Any]]) -> Any:
        """Answers in the order of the requests, or the single error object of an endpoint without batches."""
        requests = [self.form_request(method, params) for method, params in batch_requests]
        answers = await self._post(requests)
        if not isinstance(answers, list):
            return answers
        by_id = {
            answer["id"]: answer for answer in answers if isinstance(answer, dict) and type(answer.get("id")) is int
        }
        try:
            return [by_id[request["id"]] for request in requests]
        except KeyError:
            raise EndpointError("a batch came back without all of its answers", endpoint=self.name) from None

    async def _post(self, request: Any) -> Any:
        body = json.dumps(request).encode()
        headers = self._headers
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                raw = await self._body(response)
                status, told = response.status, response.headers
        except aiohttp.ClientConnectorError as error:
            reason = error.os_error.strerror or type(error.os_error).__name__
            raise EndpointError(f"cannot connect: {reason}", endpoint=self.name) from None
        except (aiohttp.ClientError, OSError) as error:
            raise EndpointError(f"the connection failed: {type(error).__name__}", endpoint=self.name) from None
        if status == 429 or (status == 503 and "Retry-After" in told):
            rest = _seconds(told.get("Retry-After"), told.get("Date"))
            raise RateLimited(f"HTTP {status}", retry_after=rest, endpoint=self.name)
        try:
            answer = wire.parse_json(raw)
        except ValueError:
            what = "the answer is not JSON" if status == 200 else f"HTTP {status}"
            raise EndpointError(what, endpoint=self.name) from None
        if status == 200 or (isinstance(answer, dict) and answer.get("error")):
            return answer
        raise EndpointError(f"HTTP {status}", endpoint=self.name)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > self._max_answer:
                raise AnswerTooLarge(f"more than {self._max_answer} bytes", endpoint=self.name)
        return bytes(body)


@asynccontextmanager
async def connect(url: str, *, chain_id: int | None = None, **options: Any) -> AsyncIterator[Rpc]:
    """An ``Rpc`` over HTTP(S) while the context lasts; ``options`` are those of ``Rpc``.

    ``ConfigError``: the URL is none. With ``chain_id``: ``WrongChain`` when the endpoint serves another.
    """
    if not (masked := mask_url(url)).startswith(("http://", "https://")):
        raise ConfigError("an RPC endpoint is an http:// or https:// URL", url=masked)
    # Rpc bounds every request in time
    limits = aiohttp.ClientTimeout(total=None, connect=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32), timeout=limits) as session:
        provider = HttpProvider(url, session)  # not in web3's cache of sessions, which logs the URL as it is
        rpc = Rpc(provider, name=provider.name, **options)
        if chain_id is not None and (served := await rpc.chain_id()) != chain_id:
            raise WrongChain(
                "point the watcher at the right endpoint", wanted=chain_id, served=served, endpoint=rpc.name
            )
        yield rpc


def _seconds(value: str | None, date: str | None) -> float | None:
    """``Retry-After`` in seconds, from either of its forms. A moment is held against the answer's own ``date``, so that a
    clock that is wrong on either side does no harm; against this machine's where there is none. What is no time at all is
    no hint."""
    try:
        seconds = -1.0 if value is None else float(value)
    except ValueError:
        until = _moment(value)
        if until is None:
            return None
        since = _moment(date)
        seconds = until - (time.time() if since is None else since)
        if seconds <= 0.0:  # dates have whole seconds: it may have been less than one
            return None
    return min(seconds, _LONGEST_REST) if math.isfinite(seconds) and seconds >= 0.0 else None


def _moment(value: str | None) -> float | None:
    """Of an HTTP date (RFC 9110, 5.6.7), in GMT where it names no zone; None for anything else."""
    try:
        parsed = parsedate_to_datetime(value or "")
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
