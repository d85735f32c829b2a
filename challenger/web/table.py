"""The table of routes: what each takes and answers. The handlers check requests by it, and OpenAPI is printed from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aiohttp import web

from challenger.shapes import Schema, Shape
from challenger.web.kinds import Parameter
from challenger.web.problems import Problem
from replay.shallow import parse_json

#: Before every path of the API.
ROOT = "/api/v1"


class Scope(StrEnum):
    READ = "read"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a request's JSON body."""

    name: str
    about: str
    longest: int = 2_000
    required: bool = False
    pattern: str = "^[ -~\\n]*$"


@dataclass(frozen=True, slots=True)
class Route:
    """``path`` is below ``/api/v1``; ``answer`` the schema of the 200 answer's body; ``takes`` names the handler's values.
    ``private``: nobody may keep the answer."""

    method: str
    path: str
    name: str
    about: str
    handler: Callable[[web.Request, Mapping[str, Any]], Awaitable[web.StreamResponse]]
    answer: Schema
    parameters: tuple[Parameter, ...] = ()
    body: tuple[Field, ...] = ()
    shapes: tuple[Shape, ...] = ()
    scope: Scope = Scope.READ
    media: str = "application/json"
    private: bool = False
    problems: tuple[int, ...] = field(default=())

    @property
    def full(self) -> str:
        return ROOT + self.path


def values_of(parameters: Iterable[Parameter], request: web.Request) -> dict[str, Any]:
    """What the request asks, checked; absent parameters have their defaults. Raises Problem for what the table has not."""
    known = {one.name: one for one in parameters}
    given: dict[str, str] = dict(request.match_info)
    for name, value in request.query.items():
        if name not in known or known[name].place != "query":
            names = ", ".join(sorted(n for n, one in known.items() if one.place == "query")) or "none"
            raise Problem(400, f"unknown parameter; known are: {names}", parameter=name[:80])
        if name in given:
            raise Problem(400, f"{name} is given twice", parameter=name)
        given[name] = value
    return {name: one.value(given[name]) if name in given else one.default for name, one in known.items()}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Problem(400, "a member is given twice")
    return found


async def body_of(route: Route, request: web.Request) -> dict[str, str]:
    """The JSON body's members, checked. Raises Problem."""
    if request.content_type != "application/json":
        raise Problem(415, "the body is JSON: content-type application/json")
    try:
        told = parse_json((await request.text()).encode(), _unique)
    except ValueError:
        raise Problem(400, "the body is not JSON") from None
    if not isinstance(told, dict):
        raise Problem(400, "the body is a JSON object")
    known = {one.name: one for one in route.body}
    for name in told:
        if name not in known:
            raise Problem(400, f"unknown member; known are: {', '.join(known) or 'none'}", parameter=str(name)[:80])
    found = {}
    for name, one in known.items():
        value = told.get(name, "")
        if not isinstance(value, str) or len(value) > one.longest or (one.required and not value):
            raise Problem(400, f"{name} is text of {int(one.required)} to {one.longest} characters", parameter=name)
        if not all(c.isprintable() or c == "\n" for c in value):
            raise Problem(400, f"{name} has characters that cannot be printed", parameter=name)
        found[name] = value
    return found
