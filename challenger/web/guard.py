"""What every request passes: the Host it names, how much it asks and how large it is; what every answer carries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from challenger.errors import ChallengerError, ConfigError
from challenger.store.listing import BadCursor
from challenger.telemetry.logs import say
from challenger.web.auth import identify
from challenger.web.keys import HOSTS, LIMITS, RENDER, SETTINGS
from challenger.web.limits import client_of
from challenger.web.problems import Problem
from challenger.web.table import ROOT

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
#: No address of ours is longer.
LONGEST = 4_096
#: No script or style but files of our own, in no frame, to no other origin.
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # no-referrer would have browsers send forms with the origin `null`, which is nobody's
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """``on_response_prepare``: so that streams have them too."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    response.headers.pop(hdrs.SERVER, None)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whatever is raised becomes an answer; what is nobody's fault but ours is logged and says nothing of the inside."""
    try:
        return await handler(request)
    except Problem as problem:
        return _shown(request, problem)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _shown(request, _of(error))
    except BadCursor as error:
        return _shown(request, Problem(404, str(error), parameter="cursor"))
    except ConfigError as error:
        say("web-failed", level=logging.ERROR, path=request.path, error=str(error))
        return _shown(request, Problem(503, "the service is not set up as it must be; its log says why"))
    except ChallengerError as error:
        say("web-failed", level=logging.ERROR, path=request.path, error=str(error))
        return _shown(request, Problem(503, "the record cannot be read now; the service's log says why"))


def _shown(request: web.Request, problem: Problem) -> web.StreamResponse:
    """As a page outside the API, where there are pages."""
    render = request.app.get(RENDER)
    return problem.response() if render is None or request.path.startswith(ROOT) else render(request, problem)


def _of(error: web.HTTPException) -> Problem:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Problem(405, f"allowed are: {allowed}", headers={hdrs.ALLOW: allowed})
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return Problem(413, "the body is larger than [web] body_bytes")
    if isinstance(error, web.HTTPNotFound):
        return Problem(404, f"there is no such address; the addresses are in {ROOT}/openapi.json")
    return Problem(error.status, error.reason)


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses what another name or page had a browser send (DNS rebinding, forged forms), and too much of anything."""
    hosts = request.app[HOSTS]
    if _name(request.headers.get(hdrs.HOST, "")) not in hosts:
        raise Problem(403, "this Host is not served here: name it in [web] hosts", parameter="Host")
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and request.method not in _SAFE and _name(_authority(origin)) not in hosts:
        raise Problem(403, "another site's page may not do this", parameter="Origin")
    if len(request.path_qs) > LONGEST:
        raise Problem(414, f"the address is longer than {LONGEST} characters")
    most = request.app[SETTINGS].web.body_bytes
    if (request.content_length or 0) > most:
        raise Problem(413, f"the body is larger than {most} bytes")
    limits = request.app[LIMITS]
    who = identify(request)
    limits.take(f"token {who.name}" if who is not None and who.name else client_of(request))
    return await handler(request)


def _authority(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a Host header, without the port, lower case."""
    try:
        return urlsplit("//" + host).hostname or ""
    except ValueError:
        return ""
