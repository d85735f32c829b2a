"""Templates, static files, sessions and errors: what every page of the dashboard stands in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import aiohttp_jinja2
import jinja2
from aiohttp import ETag, hdrs, web

from challenger.protocols.base import MONEY
from challenger.web.auth import CSRF_FIELD, check_csrf, require
from challenger.web.keys import ACCESS, RENDER, STORE, WHO
from challenger.web.pages import acts, lists, overview, things
from challenger.web.pages.words import FILTERS
from challenger.web.problems import Problem
from challenger.web.table import Scope

_STATIC = files("challenger.web") / "static"
_TYPES = {"style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: Shown in the head of every page, in this order.
MENU = (
    ("/", "Overview"),
    ("/commitments", "Commitments"),
    ("/disputes", "Disputes"),
    ("/demands", "Demands"),
    ("/providers", "Providers"),
    ("/models", "Models"),
    ("/sampling", "Sampling"),
    ("/operations", "Operations"),
    ("/approvals", "Approvals"),
    ("/journal", "Journal"),
)


def add(app: web.Application) -> None:
    """The pages, for ``make_app``."""
    loader = jinja2.PackageLoader("challenger.web", "templates")
    environment = aiohttp_jinja2.setup(
        app,
        loader=loader,
        autoescape=jinja2.select_autoescape(default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    app[RENDER] = render_problem
    contents = {name: (_STATIC / name).read_bytes() for name in _TYPES}
    app.router.add_get("/static/{name}", _static(contents))
    for path, handler in (*overview.PAGES, *lists.PAGES, *things.PAGES, *acts.PAGES):
        app.router.add_get(path, page(handler))
    for path, act in acts.FORMS:
        app.router.add_post(path, form(act))
    app.router.add_get("/login", _login)
    app.router.add_post("/login", _begin)
    app.router.add_post("/logout", _end)


def page(handler: Any) -> Any:
    """A page that reading is allowed for. A handler gives the template's name and its values."""

    async def served(request: web.Request) -> web.StreamResponse:
        require(request, Scope.READ)
        made = await handler(request)
        if isinstance(made, web.StreamResponse):
            return made
        template, values = made
        async with request.app[STORE].read() as view:
            money = await view.settings.get(MONEY) or "ether"
        return _rendered(request, template, {"money": money, **values})

    return served


def _rendered(request: web.Request, template: str, values: dict[str, Any], status: int = 200) -> web.Response:
    return aiohttp_jinja2.render_template(template, request, {**_context(request), **values}, status=status)


def form(act: Any) -> Any:
    """What an operator's form does; it gives the path to go on at."""

    async def served(request: web.Request) -> web.StreamResponse:
        who = require_form(request)
        told = await _posted(request)
        if who.csrf:
            check_csrf(who, str(told.get(CSRF_FIELD, "")))
        fields = {name: value for name, value in told.items() if isinstance(value, str) and name != CSRF_FIELD}
        raise web.HTTPSeeOther(await act(request, fields))

    return served


def require_form(request: web.Request) -> Any:
    """Whoever posts, an operator. The form's CSRF field is checked by ``form``; a header is not there to be had."""
    who = request.get(WHO)
    if who is None or who.scope is not Scope.OPERATOR or not who.csrf:
        raise Problem(403, "log in with a token of scope operator: challenger serve token add NAME --scope operator")
    return who


def _context(request: web.Request) -> dict[str, Any]:
    who = request.get(WHO)
    return {
        "menu": MENU,
        "here": "/" + request.path.split("/")[1],
        "path": request.path_qs,
        "who": who,
        "operator": who is not None and who.scope is Scope.OPERATOR and bool(who.csrf),
        "csrf": "" if who is None else who.csrf,
    }


def render_problem(request: web.Request, problem: Problem) -> web.StreamResponse:
    """A problem as a page; somebody without a token is asked for one."""
    if problem.status == 401 and request.path != "/login":
        return web.Response(status=303, headers={hdrs.LOCATION: "/login"})
    response = _rendered(request, "problem.html", {"problem": problem, "here": ""}, problem.status)
    response.headers.update({name: value for name, value in problem.headers.items() if name != hdrs.WWW_AUTHENTICATE})
    return response


def _static(contents: dict[str, bytes]) -> Any:
    tags = {name: hashlib.sha256(content).hexdigest()[:32] for name, content in contents.items()}

    async def handler(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name not in contents:
            raise Problem(404, "there is no such file")
        known = {tag.value for tag in request.if_none_match or ()}
        if tags[name] in known:
            response = web.Response(status=304)
        else:
            response = web.Response(body=contents[name], content_type=_TYPES[name], charset="utf-8")
        response.etag = ETag(tags[name])
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"
        return response

    return handler


async def _posted(request: web.Request) -> Mapping[str, Any]:
    """A form's fields. Raises Problem 400 for a body that is no form."""
    if request.content_type not in ("application/x-www-form-urlencoded", ""):
        raise Problem(400, "a form is application/x-www-form-urlencoded")
    try:
        return await request.post()
    except (ValueError, LookupError) as error:  # of another charset than it says, or of one that there is not
        raise Problem(400, "the form cannot be read") from error


async def _login(request: web.Request) -> web.StreamResponse:
    return _rendered(request, "login.html", {"wrong": False})


async def _begin(request: web.Request) -> web.StreamResponse:
    told = await _posted(request)
    response = web.Response(status=303, headers={hdrs.LOCATION: "/"})
    try:
        request.app[ACCESS].login(response, str(told.get("token", "")).strip())
    except Problem:
        return _rendered(request, "login.html", {"wrong": True}, 401)
    return response


async def _end(request: web.Request) -> web.StreamResponse:
    who = request.get(WHO)
    told = await _posted(request)
    if who is not None and who.csrf:
        check_csrf(who, str(told.get(CSRF_FIELD, "")))
    response = web.Response(status=303, headers={hdrs.LOCATION: "/"})
    request.app[ACCESS].logout(request, response)
    return response
