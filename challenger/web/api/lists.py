"""Lists: a page of one table, filtered, with links to the pages beside it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from aiohttp import hdrs, web
from multidict import MultiDict
from yarl import URL

from challenger.shapes import Schema, Shape, shape
from challenger.store import listed
from challenger.store.audits import AuditRow
from challenger.store.findings import FindingRow
from challenger.store.listing import Listed, Page, PageCursor
from challenger.store.rows import (
    ApprovalRow,
    DemandRow,
    DisputeRow,
    JournalRow,
    ModelRow,
    PauseRow,
    TaskRow,
    TransactionRow,
    VerdictRow,
)
from challenger.store.selftests import SelfTestRow
from challenger.web.keys import STORE
from challenger.web.kinds import CURSOR, Parameter, of_filter, whole, word
from challenger.web.respond import answer
from challenger.web.table import Route

MOST = 200


class Order(Enum):
    NEWEST = "newest"
    OLDEST = "oldest"


#: What is listed → the class of its rows, and what is said of it.
ROWS: dict[str, tuple[type[Any], str]] = {
    "models": (ModelRow, "registered models"),
    "tasks": (TaskRow, "orders of requesters"),
    "commitments": (listed.CommitmentListed, "answers of providers, where they stand with us and the last verdicts"),
    "disputes": (DisputeRow, "disputes, ours and others'"),
    "demands": (DemandRow, "demands for withheld data, ours and others'"),
    "providers": (listed.ProviderListed, "providers that ever committed; their order is that of their addresses"),
    "verdicts": (VerdictRow, "what replays said"),
    "audits": (AuditRow, "what `challenger audit replay` said of past commitments"),
    "findings": (FindingRow, "what audits of protocols without disputes found; nothing is filed over any of it"),
    "transactions": (TransactionRow, "our transactions with their signed versions, whose bytes are never shown"),
    "epochs": (listed.EpochListed, "sampling epochs; a secret is null until it was revealed"),
    "selftests": (SelfTestRow, "frauds planted to test the watcher"),
    "pauses": (PauseRow, "pauses of filing, in force and lifted"),
    "approvals": (ApprovalRow, "people's words on filings (mode confirm)"),
    "journal": (JournalRow, "the journal, entry by entry"),
    "alerts": (listed.AlertListed, "alerts as they were journalled"),
}
PAGING = (
    Parameter("limit", whole(1, MOST), f"rows a page, {MOST} at most", default=50),
    Parameter("cursor", CURSOR, "where the page begins: taken from `next` or `prev` of another, never made"),
    Parameter("order", word(Order), "which rows come first", default="newest"),
)


def link(request: web.Request, cursor: PageCursor | None) -> str | None:
    """The path and query of the page at ``cursor``, with the filters of this one."""
    if cursor is None:
        return None
    query = MultiDict(request.query)
    query["cursor"] = cursor.encode()
    return str(URL.build(path=request.path, query=query))


async def page_of(request: web.Request, what: Listed[Any, Any], values: Mapping[str, Any]) -> Page[Any]:
    """The page that ``values`` (the filter's fields, cursor, limit, order) ask for. Raises BadCursor."""
    asked = dict(values)
    cursor, limit, order = asked.pop("cursor", None), asked.pop("limit", 50), asked.pop("order", None)
    at = None if cursor is None else PageCursor.decode(cursor)
    async with request.app[STORE].read() as view:
        return await view.listing.page(
            what, what.filter(**asked), at=at, limit=limit, oldest_first=order in (Order.OLDEST, "oldest")
        )


def _envelope(form: Shape) -> Schema:
    where = {"type": ["string", "null"], "description": "path and query of that page; null where there is none"}
    properties = {
        "items": {"type": "array", "items": {"$ref": f"#/components/schemas/{form.name}"}},
        "next": where,
        "prev": where,
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _route(what: Listed[Any, Any]) -> Route:
    cls, about = ROWS[what.name]
    form = shape(cls)

    async def handler(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
        page = await page_of(request, what, values)
        after, before = link(request, page.next), link(request, page.prev)
        response = answer(request, {"items": [form.encode(row) for row in page.rows], "next": after, "prev": before})
        for name, there in (("next", after), ("prev", before)):
            if there is not None:
                response.headers.add(hdrs.LINK, f'<{there}>; rel="{name}"')
        return response

    parameters = (*of_filter(what.filter), *PAGING)
    return Route(
        "GET",
        f"/{what.name}",
        f"list_{what.name}",
        f"List {about}.",
        handler,
        _envelope(form),
        parameters,
        shapes=(form,),
        problems=(404,),
    )


ROUTES = tuple(_route(what) for what in listed.LISTED.values())
