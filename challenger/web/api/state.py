"""Where the watcher stands: status, overview, an epoch's draws, and the journal as it grows."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from challenger import program_version
from challenger.audit.sampling import audit_epoch
from challenger.domain import Hash32
from challenger.settings import host_of
from challenger.shapes import shape
from challenger.store.heads import FilePublisher
from challenger.store.overview import Overview
from challenger.store.unit import View
from challenger.web import answers
from challenger.web.keys import FEED, SETTINGS, STORE, WATCHER
from challenger.web.kinds import NUMBER, TEXT, Parameter
from challenger.web.problems import Problem, not_found
from challenger.web.respond import answer
from challenger.web.table import Route

#: An epoch is much to look through: one at a time.
_ONE = asyncio.Semaphore(1)


async def overview(view: View) -> answers.OverviewAnswer:
    told: Overview = await view.overview.now()
    nearest = told.nearest
    values = {one.name: getattr(told, one.name) for one in dataclasses.fields(told)}
    head = values.pop("head")
    values["block"], values["chain_time"] = (head.number, head.time) if head is not None else (None, None)
    values["nearest"] = None if nearest is None else answers.NearestAnswer(**dataclasses.asdict(nearest))
    values["accounts"] = sorted(told.accounts)
    return answers.OverviewAnswer(**values)


async def status(app: web.Application) -> answers.StatusAnswer:
    store, settings = app[STORE], app[SETTINGS]
    async with store.read() as view:
        head = await view.chain.head()
        tip = await view.journal.tip()
        fences = await view.fences.all()
        latencies = await view.latencies.all()
        counts = await view.selftests.counts()
    published = await FilePublisher(settings.store.heads).published()
    health = await app[WATCHER].health()
    return answers.StatusAnswer(
        program_version(),
        store.where,
        settings.chain.chain_id,
        settings.chain.market,
        sorted({host_of(url) for url in settings.chain.rpc}),
        None if head is None else head.number,
        None if head is None else head.time,
        tip.seq,
        Hash32(tip.hash),
        max((one.seq for one in published), default=0),
        [answers.LeaseAnswer(f.name, f.holder if f.left > 0 else None, max(0, f.left) / 1000) for f in fences],
        {action: seconds for action, (_, seconds) in latencies.items()},
        {outcome.value: n for outcome, n in counts.items()},
        answers.HealthAnswer(**{one.name: getattr(health, one.name) for one in dataclasses.fields(health)}),
    )


async def sampling(app: web.Application, number: int) -> answers.SamplingAnswer | None:
    """The epoch's draws against its promise, from the database alone."""
    settings = app[SETTINGS]
    published = await FilePublisher(settings.store.heads).published()
    async with _ONE, app[STORE].read() as view:
        row = await view.epochs.get(number)
        if row is None:
            return None
        # that the journal fits its heads is for `challenger audit journal`, which walks all of it
        bound = max((one.seq for one in published), default=0)
        report = await audit_epoch(view, row, settings.chain.anchor, bound=bound)
    findings = [answers.FindingAnswer(one.commitment, one.what) for one in report.findings]
    counts = report.commitments, report.selected, report.pending, report.before_anchor, report.unjudged
    return answers.SamplingAnswer(report.epoch, report.holds, report.anchored, *counts, findings, report.notes)


async def _status(request: web.Request, _: Mapping[str, Any]) -> web.StreamResponse:
    return answer(request, shape(answers.StatusAnswer).encode(await status(request.app)))


async def _overview(request: web.Request, _: Mapping[str, Any]) -> web.StreamResponse:
    async with request.app[STORE].read() as view:
        return answer(request, shape(answers.OverviewAnswer).encode(await overview(view)))


async def _sampling(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    found = await sampling(request.app, values["epoch"])
    if found is None:
        raise not_found("epoch", request.match_info["epoch"])
    return answer(request, shape(answers.SamplingAnswer).encode(found))


async def _events(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    after = values["after"]
    last = request.headers.get("Last-Event-ID")
    if last is not None:
        if not last.isascii() or not last.isdigit() or len(last) > 18:
            raise Problem(400, "Last-Event-ID: it is the number of a journal entry", parameter="Last-Event-ID")
        after = int(last)
    return await request.app[FEED].serve(request, after, values["kind"])


def _of(cls: type[Any]) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{shape(cls).name}"}


ROUTES = (
    Route(
        "GET",
        "/status",
        "get_status",
        "The record, what it is of, and the health of the running watcher as far as it is known.",
        _status,
        _of(answers.StatusAnswer),
        shapes=(shape(answers.StatusAnswer),),
    ),
    Route(
        "GET",
        "/overview",
        "get_overview",
        "What is open, the nearest deadline, the money at risk.",
        _overview,
        _of(answers.OverviewAnswer),
        shapes=(shape(answers.OverviewAnswer),),
    ),
    Route(
        "GET",
        "/epochs/{epoch}/sampling",
        "get_sampling",
        "An epoch's draws held against what was promised, as `challenger audit sampling --offline` does.",
        _sampling,
        _of(answers.SamplingAnswer),
        (Parameter("epoch", NUMBER, "which epoch", place="path"),),
        shapes=(shape(answers.SamplingAnswer),),
        problems=(404,),
    ),
    Route(
        "GET",
        "/events",
        "get_events",
        "The journal as it grows, as server-sent events: `id` is an entry's number, `data` the entry as in the journal's "
        "list. `Last-Event-ID` goes on after that entry. Comments are heartbeats.",
        _events,
        {"type": "string"},
        (
            Parameter("after", NUMBER, "entries with a greater number; without it, those to come"),
            Parameter("kind", TEXT, "only entries of this kind"),
        ),
        media="text/event-stream",
        private=True,
    ),
)
