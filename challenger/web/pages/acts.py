"""What an operator decides here: filings that wait for a person, pause, resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from challenger.errors import ConfigError
from challenger.store.keep import EVERYTHING
from challenger.web.api import acts
from challenger.web.keys import SETTINGS, STORE
from challenger.web.kinds import HASH_KIND, Parameter
from challenger.web.problems import Problem

_MOST = 2_000


async def _approvals(request: web.Request) -> Any:
    """What waits is worked out from the record and, for the bond, from the chain: where no endpoint answers that is said."""
    try:
        return "approvals.html", {"filings": await acts.filings(request.app), "trouble": ""}
    except (Problem, ConfigError) as error:
        return "approvals.html", {"filings": [], "trouble": error.detail}


def _note(told: Mapping[str, str], name: str) -> str:
    text = " ".join(told.get(name, "").split())
    if len(text) > _MOST or not text.isprintable():
        raise Problem(400, f"{name} is at most {_MOST} printable characters", parameter=name)
    return text


def _decides(*, approved: bool) -> Any:
    async def act(request: web.Request, told: Mapping[str, str]) -> str:
        which = Parameter("commitment", HASH_KIND, "", place="path").value(request.match_info["commitment"])
        await acts.decide(request, which, approved=approved, note=_note(told, "note"), key=told.get("key", "")[:80])
        return "/approvals"

    return act


async def _pause(request: web.Request, told: Mapping[str, str]) -> str:
    await acts.pause(request.app[STORE], acts.person_of(request), _note(told, "reason"))
    return "/operations"


async def _resume(request: web.Request, told: Mapping[str, str]) -> str:
    model = told.get("model", "")
    if model not in ("", EVERYTHING):
        Parameter("model", HASH_KIND, "").value(model)
    which, person = (told.get("ids", ""), model), acts.person_of(request)
    await acts.resume(request.app[STORE], request.app[SETTINGS], *which, person, _note(told, "note"))
    return "/operations"


PAGES = (("/approvals", _approvals),)
FORMS = (
    ("/approvals/{commitment}/approve", _decides(approved=True)),
    ("/approvals/{commitment}/refuse", _decides(approved=False)),
    ("/pause", _pause),
    ("/resume", _resume),
)
