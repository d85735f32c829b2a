"""Answers as JSON: with an ETag, and 304 where the client has them already."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp import ETag, hdrs, web

from challenger.web.problems import Problem

JSON = "application/json"
#: A client may keep it, and asks each time whether it still holds.
_KEEP = "private, no-cache"


def accepts(request: web.Request, media: str) -> None:
    """Raises Problem 406 when the client will not take ``media``."""
    said = request.headers.get(hdrs.ACCEPT)
    if said is None or not said.strip():
        return
    kind = media.partition("/")[0]
    for part in said.split(","):
        name, *settings = (piece.strip().lower() for piece in part.split(";"))
        refused = any(one.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for one in settings)
        if name in (media, f"{kind}/*", "*/*") and not refused:
            return
    raise Problem(406, f"this is {media} and nothing else", parameter="Accept")


def answer(request: web.Request, value: Any, *, private: bool = False, status: int = 200) -> web.Response:
    """``value`` as JSON. ``private``: nobody keeps it."""
    body = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    return whole(request, body, JSON, private=private, status=status)


def whole(request: web.Request, body: bytes, media: str, *, private: bool = False, status: int = 200) -> web.Response:
    if private or request.method not in ("GET", "HEAD"):
        return web.Response(body=body, status=status, content_type=media)
    tag = ETag(hashlib.sha256(body).hexdigest()[:32])
    known = request.if_none_match or ()
    if any(one.value in (tag.value, "*") for one in known):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type=media)
    response.etag = tag
    response.headers[hdrs.CACHE_CONTROL] = _KEEP
    response.headers[hdrs.VARY] = "Accept, Authorization, Cookie"
    return response
