"""The first page, and the one of operations: what is open, what is at risk, what is wrong."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from challenger.domain import State
from challenger.store import listed
from challenger.web.api import state
from challenger.web.keys import STORE

#: Groups of states as a person thinks of them, with what each means.
GROUPS = (
    ("to do", (State.OBSERVED, State.SAMPLED, State.REPLAYED, State.UNAVAILABLE)),
    ("filing", (State.CONFIRMED, State.FILING, State.FILED, State.DISPUTING)),
    ("ended", (State.SKIPPED, State.FINALISED, State.WON, State.WITHDRAWN, State.FILED_BY_OTHER)),
    ("lost or not judged", (State.LOST, State.EXPIRED, State.SHED, State.INCONCLUSIVE)),
    ("not on the chain now", (State.ORPHANED,)),
)
_ALERTS = 8


async def _overview(request: web.Request) -> Any:
    async with request.app[STORE].read() as view:
        told = await state.overview(view)
        alerts = (await view.listing.page(listed.ALERTS, limit=_ALERTS)).rows
    status = await state.status(request.app)
    groups = [(name, [(one.value, told.states.get(one, 0)) for one in states]) for name, states in GROUPS]
    return "overview.html", {"told": told, "alerts": alerts, "status": status, "groups": groups}


async def _operations(request: web.Request) -> Any:
    async with request.app[STORE].read() as view:
        told = await state.overview(view)
        alerts = (await view.listing.page(listed.ALERTS, limit=_ALERTS)).rows
        sent = (await view.listing.page(listed.TRANSACTIONS, limit=_ALERTS)).rows
    status = await state.status(request.app)
    return "operations.html", {"told": told, "alerts": alerts, "sent": sent, "status": status}


PAGES = (("/", _overview), ("/operations", _operations))
