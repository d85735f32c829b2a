"""Pages on one thing: a commitment's life, a dispute, a provider's record, a model, an epoch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from aiohttp import web

from challenger.audit.speed import speeds
from challenger.audit.trend import change, periods
from challenger.evidence.keeper import kept
from challenger.store import listed
from challenger.store.rows import JournalRow
from challenger.store.unit import View
from challenger.web.api import state, things
from challenger.web.api.handed import ledger
from challenger.web.api.lists import PAGING, link, page_of
from challenger.web.keys import SETTINGS, STORE
from challenger.web.kinds import ADDRESS_KIND, BIG, HASH_KIND, NUMBER, Kind, Parameter
from challenger.web.pages.lists import tidy
from challenger.web.problems import not_found
from challenger.web.table import values_of

Look = Callable[[View, Any], Awaitable[Any]]
_COMMITMENTS = 20
#: Seconds of a week, and how many are shown.
WEEK, _WEEKS = 604_800, 26


class Slice(NamedTuple):
    """A part of a bar: ``start`` and ``width`` in per cent of it."""

    name: str
    many: int
    start: float
    width: float


def slices(counts: dict[str, int]) -> list[Slice]:
    """What a bar is made of, in order."""
    total, at, found = sum(counts.values()), 0, []
    for name, count in counts.items():
        if count:
            found.append(Slice(name, count, round(100 * at / total, 2), round(100 * count / total, 2)))
            at += count
    return found


class Told(NamedTuple):
    """An entry of the journal as the timeline has it; equal ones in a row are told once, ``times`` said."""

    time: int
    kind: str
    payload: str
    times: int


def timeline(entries: Sequence[JournalRow]) -> list[Told]:
    found: list[Told] = []
    for entry in entries:
        last = found[-1] if found else None
        if last is not None and (last.kind, last.payload) == (entry.kind, entry.payload):
            found[-1] = last._replace(times=last.times + 1)
        else:
            found.append(Told(entry.time, entry.kind, entry.payload, 1))
    return found


def _one(name: str, kind: Kind, request: web.Request) -> Any:
    return Parameter(name, kind, "", place="path").value(request.match_info[name])


def _thing(path: str, name: str, kind: Kind, look: Look, template: str) -> tuple[str, Any]:
    async def handler(request: web.Request) -> Any:
        identity = _one(name, kind, request)
        async with request.app[STORE].read() as view:
            found = await look(view, identity)
        if found is None:
            raise not_found(name, request.match_info[name])
        return template, found

    return path, handler


async def _commitment(request: web.Request) -> Any:
    identity = _one("commitment", HASH_KIND, request)
    async with request.app[STORE].read() as view:
        found = await things.commitment(view, identity)
        if found is None:
            raise not_found("commitment", request.match_info["commitment"])
        head = await view.chain.head()
        hops = await ledger(view, identity)
    bundles = await asyncio.to_thread(kept, request.app[SETTINGS].store.evidence, identity)
    row = found.listed.commitment
    return "commitment.html", {
        "found": found,
        "row": row,
        "work": found.listed.work,
        "left": None if head is None else row.closes - head.time,
        "handoffs": hops,
        "timeline": timeline(found.journal),
        "environments": {one.id: json.loads(one.environment) for one in found.verdicts},
        "bundle": next(
            (path.name for path in bundles if path.stem.endswith(f"-{found.listed.work.confirmation}")), None
        ),
    }


async def _dispute(view: View, identity: Any) -> Any:
    found = await things.dispute(view, identity)
    return None if found is None else {"found": found, "row": found.dispute, "what": "dispute"}


async def _demand(view: View, identity: Any) -> Any:
    found = await things.demand(view, identity)
    return None if found is None else {"found": found, "row": found.demand, "what": "demand"}


async def _provider(view: View, identity: Any) -> Any:
    found = await things.provider(view, identity)
    if found is None:
        return None
    wanted = listed.CommitmentFilter(provider=identity)
    newest = (await view.listing.page(listed.COMMITMENTS, wanted, limit=_COMMITMENTS)).rows
    head = await view.chain.head()
    assert head is not None, "there is a commitment"
    base = found.records[0].base_rate
    weeks = periods(await view.records.tallies(base, head.time, identity, WEEK), base).get((identity, None), [])
    committed = speeds(await view.records.committed_after(identity)).get((identity, None))
    return {
        "found": found,
        "newest": newest,
        "bars": [slices(record.fates) for record in found.records],
        "weeks": [(week.start, week.record, slices(dict(week.record.fates))) for week in reversed(weeks[-_WEEKS:])],
        "change": change(weeks, WEEK),
        "committed": committed,
    }


async def _providers(request: web.Request) -> Any:
    moved = tidy(request)
    if moved is not None:
        return moved
    values = values_of(PAGING, request)
    found = await page_of(request, listed.PROVIDERS, values)
    async with request.app[STORE].read() as view:
        told = [await things.provider(view, row.provider) for row in found.rows]
    rows = [(one, one.records[0], slices(one.records[0].fates)) for one in told if one is not None]
    return "providers.html", {"rows": rows, "next": link(request, found.next), "prev": link(request, found.prev)}


async def _model(view: View, identity: Any) -> Any:
    found = await things.model(view, identity)
    if found is None:
        return None
    wanted = listed.CommitmentFilter(model=identity)
    newest = (await view.listing.page(listed.COMMITMENTS, wanted, limit=_COMMITMENTS)).rows
    return {"found": found, "row": found.model, "newest": newest}


async def _epoch(request: web.Request) -> Any:
    number = _one("epoch", NUMBER, request)
    async with request.app[STORE].read() as view:
        found = await things.epoch(view, number)
    report = None if found is None else await state.sampling(request.app, number)
    if found is None or report is None:
        raise not_found("epoch", request.match_info["epoch"])
    return "epoch.html", {"row": found, "report": report}


PAGES = (
    ("/commitments/{commitment}", _commitment),
    _thing("/disputes/{dispute}", "dispute", BIG, _dispute, "dispute.html"),
    _thing("/demands/{demand}", "demand", BIG, _demand, "dispute.html"),
    ("/providers", _providers),
    _thing("/providers/{provider}", "provider", ADDRESS_KIND, _provider, "provider.html"),
    _thing("/models/{model}", "model", HASH_KIND, _model, "model.html"),
    ("/sampling/{epoch}", _epoch),
)
