"""What an operator does here: approve or refuse a filing, pause, resume. Each is in the journal under the token's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from challenger.domain import UnixTime
from challenger.errors import EndpointError, NotInRecord, StaleRow
from challenger.filings import Filing, TermsChanged, decided, waiting
from challenger.reach import indexed_time, reached
from challenger.service import UnseenPause, approve
from challenger.settings import Settings
from challenger.shapes import shape
from challenger.store.engine import Store
from challenger.store.keep import EVERYTHING
from challenger.web.answers import Paused, Resumed
from challenger.web.keys import SETTINGS, STORE, WHO
from challenger.web.kinds import HASH_KIND, Parameter
from challenger.web.problems import Problem
from challenger.web.respond import answer
from challenger.web.table import Field, Route, Scope

_IDS = "[0-9]{1,18}(,[0-9]{1,18})*"


def person_of(request: web.Request) -> str:
    """How the journal calls whoever asks."""
    who = request[WHO]
    assert who is not None, "an operator has a token"
    return f"token {who.name}"


async def decide(request: web.Request, commitment: Any, *, approved: bool, note: str, key: str) -> Filing:
    """A person's word on one filing. Raises Problem 404 where nothing is asked, 409 when the terms are others now, 503
    when no endpoint answers."""
    store, settings = request.app[STORE], request.app[SETTINGS]
    try:
        return await decided(
            store, settings, commitment, approved=approved, person=person_of(request), note=note, key=key
        )
    except (TermsChanged, StaleRow) as error:
        raise Problem(409, str(error)) from error
    except NotInRecord as error:
        raise Problem(404, str(error)) from error
    except EndpointError as error:
        raise _unreachable() from error


async def filings(app: web.Application) -> list[Filing]:
    """What waits for a person. Raises Problem 503 when no endpoint answers."""
    try:
        return await waiting(app[STORE], app[SETTINGS])
    except EndpointError as error:
        raise _unreachable() from error


def _unreachable() -> Problem:
    # an endpoint's own words may hold its address, and that a key
    return Problem(
        503, "no endpoint of the chain answers, and the bond is read from there", headers={"Retry-After": "30"}
    )


async def pause(store: Store, person: str, reason: str) -> Paused:
    """Stops all filing; no endpoint is asked: it may be why somebody wants to pause."""
    async with store.begin(await indexed_time(store)) as unit:
        detail = f"by {person}" + (f": {reason}" if reason else "")
        before = {row.id for row in await unit.approvals.active()}
        row = await unit.approvals.pause("person", EVERYTHING, detail)
        return Paused(row.detail, row.id in before)


async def resume(store: Store, settings: Settings, ids: str, model: str, person: str, note: str) -> Resumed:
    """Of the pauses ``ids``, which are all that were shown, lifts those of ``model`` (EVERYTHING: of all filing; empty: all).
    Raises Problem 400 where ``ids`` are none, 404 when none is in force, 409 when another one is."""
    if not re.fullmatch(_IDS, ids):
        raise Problem(400, "ids are the numbers of the pauses that were shown, with commas between", parameter="ids")
    try:
        async with reached(settings) as (_, now):
            pass
    except EndpointError:
        now = UnixTime(await indexed_time(store))
    try:
        lifted = await approve(store, now, model, person, note, frozenset(map(int, ids.split(","))))
    except UnseenPause as error:
        raise Problem(409, str(error)) from error
    if not lifted:
        raise Problem(404, "no such pause is in force")
    return Resumed(len(lifted))


def _decides(*, approved: bool) -> Any:
    async def handler(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
        told = values["body"]
        filing = await decide(request, values["commitment"], approved=approved, note=told["note"], key=told["key"])
        return answer(request, shape(Filing).encode(filing))

    return handler


async def _pause(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    found = await pause(request.app[STORE], person_of(request), values["body"]["reason"])
    return answer(request, shape(Paused).encode(found))


async def _resume(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    told = values["body"]
    which = told["ids"], told["model"]
    found = await resume(request.app[STORE], request.app[SETTINGS], *which, person_of(request), told["note"])
    return answer(request, shape(Resumed).encode(found))


async def _filings(request: web.Request, _: Mapping[str, Any]) -> web.StreamResponse:
    rows = await filings(request.app)
    return answer(request, {"items": [shape(Filing).encode(row) for row in rows]}, private=True)


def _of(cls: type[Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{shape(cls).name}"}


_NOTE = Field("note", "what you looked at; kept in the journal")
_KEY = Field(
    "key", "the terms that were shown (`key` of the filing): when they are others by now, nothing is decided", 80
)
_SHOWN = Field(
    "ids",
    "the numbers of all pauses that were shown to be in force, with commas between: when another is by now, nothing is lifted",
    required=True,
    pattern=f"^{_IDS}$",
)
_WHICH = (Parameter("commitment", HASH_KIND, "which commitment", place="path"),)

ROUTES = (
    Route(
        "GET",
        "/filings",
        "list_filings",
        "What waits for a person's word (mode confirm): terms, bond, and what was said so far. Asks the chain.",
        _filings,
        {
            "type": "object",
            "properties": {"items": {"type": "array", "items": _of(Filing)}},
            "required": ["items"],
            "additionalProperties": False,
        },
        shapes=(shape(Filing),),
        private=True,
        problems=(503,),
    ),
    *(
        Route(
            "POST",
            f"/filings/{{commitment}}/{word}",
            f"{word}_filing",
            about,
            _decides(approved=word == "approve"),
            _of(Filing),
            _WHICH,
            (_NOTE, _KEY),
            (shape(Filing),),
            Scope.OPERATOR,
            private=True,
            problems=(404, 409, 503),
        )
        for word, about in (
            ("approve", "Let one filing go ahead, for the roots and at most the bond shown."),
            ("refuse", "Keep one filing back."),
        )
    ),
    Route(
        "POST",
        "/pause",
        "pause",
        "Stop all filing until it is resumed; open disputes are still followed.",
        _pause,
        _of(Paused),
        body=(Field("reason", "why; kept in the journal"),),
        shapes=(shape(Paused),),
        scope=Scope.OPERATOR,
        private=True,
    ),
    Route(
        "POST",
        "/resume",
        "resume",
        "Let filing go on after pauses that were looked at.",
        _resume,
        _of(Resumed),
        body=(
            _SHOWN,
            Field("model", "0x id: those of this model; `filing`: of all filing; empty: all of them", 66),
            _NOTE,
        ),
        shapes=(shape(Resumed),),
        scope=Scope.OPERATOR,
        private=True,
        problems=(404, 409),
    ),
)
