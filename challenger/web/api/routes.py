"""The whole table, and how a request goes through it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from challenger.web.api import acts, bundles, handed, lists, state, things
from challenger.web.auth import require
from challenger.web.openapi import document
from challenger.web.problems import Problem
from challenger.web.respond import JSON, accepts, answer
from challenger.web.table import Route, Scope, body_of, values_of

#: After which an answer is given up, and the database's work with it.
_SECONDS = 30


async def _openapi(request: web.Request, _: Mapping[str, Any]) -> web.StreamResponse:
    return answer(request, document(TABLE))


_DOCUMENT = Route("GET", "/openapi.json", "get_openapi", "This document.", _openapi, {"type": "object"}, problems=())
TABLE: tuple[Route, ...] = (
    *lists.ROUTES,
    *things.ROUTES,
    *state.ROUTES,
    *bundles.ROUTES,
    *handed.ROUTES,
    *acts.ROUTES,
    _DOCUMENT,
)


def _served(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        require(request, route.scope if route is not _DOCUMENT else Scope.READ)
        accepts(request, route.media)
        values = values_of(route.parameters, request)
        if route.method == "POST":
            values["body"] = await body_of(route, request)
        if route.media != JSON:
            return await route.handler(request, values)
        try:
            async with asyncio.timeout(_SECONDS):
                return await route.handler(request, values)
        except TimeoutError:
            raise Problem(503, f"this took more than {_SECONDS} s: ask for less") from None

    return handler


def add(app: web.Application) -> None:
    """Every route of the table."""
    for route in TABLE:
        app.router.add_route(route.method, route.full, _served(route))
        if route.method == "GET" and route.media == JSON:
            app.router.add_route("HEAD", route.full, _served(route))
