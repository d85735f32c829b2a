"""The hand-off ledger of one commitment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from challenger.audit.handoffs import Ledger, ledger_of
from challenger.audit.hops import Certainty, Fault, Status, Step
from challenger.domain import CommitmentId
from challenger.settings import REFERENCE
from challenger.store.unit import View
from challenger.web.keys import STORE
from challenger.web.kinds import HASH_KIND, Parameter
from challenger.web.problems import Problem, not_found
from challenger.web.respond import answer
from challenger.web.table import Route

_TEXT = {"type": "string"}
_MAYBE = {"type": ["integer", "null"]}
_DIGESTS = {"type": "object", "additionalProperties": {"type": "string", "pattern": "^0x([0-9a-f]{2})*$"}}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _words(words: Any, *, maybe: bool = False) -> dict[str, Any]:
    values: list[str | None] = [one.value for one in words]
    return {"type": ["string", "null"], "enum": [*values, None]} if maybe else {"type": "string", "enum": values}


_PARTY = _object({"role": _TEXT, "address": {"type": ["string", "null"]}})
_HOP = _object(
    {
        "hop": _words(Step),
        "holder": _PARTY,
        "status": _words(Status),
        "certainty": _words(Certainty, maybe=True),
        "should": _DIGESTS,
        "did": _DIGESTS,
        "time": _MAYBE,
        "block": _MAYBE,
        "tx": {"type": ["string", "null"]},
        "fault": _words(Fault, maybe=True),
        "responsible": {"oneOf": [_PARTY, {"type": "null"}]},
        "said": _TEXT,
    }
)
_LEDGER = _object(
    {"commitment": _TEXT, "first_divergence": _MAYBE, "sentence": _TEXT, "hops": {"type": "array", "items": _HOP}}
)


async def foreign(view: View) -> bool:
    """Whether the record is of another protocol than the reference one, whose hops are not these."""
    return await view.settings.get("protocol") not in (None, REFERENCE)


async def ledger(view: View, commitment: CommitmentId) -> Ledger | None:
    """None where the record knows nothing of it, and of another protocol."""
    if await foreign(view):
        return None
    story = await view.handoffs.story(commitment)
    return None if story is None else ledger_of(story)


async def _handoffs(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    async with request.app[STORE].read() as view:
        if await foreign(view):
            raise Problem(404, "the hand-off ledger is of the reference protocol alone")
        found = await ledger(view, values["commitment"])
    if found is None:
        raise not_found("commitment", request.match_info["commitment"])
    return answer(request, found.as_json())


ROUTES = (
    Route(
        "GET",
        "/commitments/{commitment}/handoffs",
        "get_handoffs",
        "Hop by hop, the digest that should cross and the one that did, who held it, and whose hop was the first to diverge.",
        _handoffs,
        _LEDGER,
        (Parameter("commitment", HASH_KIND, "which commitment", place="path"),),
        problems=(404,),
    ),
)
