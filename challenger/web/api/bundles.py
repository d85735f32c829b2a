"""Evidence bundles as the watcher keeps them: served from its folder. To make one takes a replay, which is not done here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import hdrs, web

from challenger.domain import CommitmentId
from challenger.evidence.keeper import name_of
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.web.keys import SETTINGS, STORE
from challenger.web.kinds import NUMBER, Parameter
from challenger.web.problems import Problem, not_found
from challenger.web.table import Route


async def bundle_of(view: View, folder: Path, verdict: int) -> Path | None:
    """Where the bundle on the confirmed fraud of which ``verdict`` is one half lies; None where none is kept.

    Raises Problem 404 where there is no such verdict."""
    said = await view.verdicts.get(verdict)
    if said is None:
        raise not_found("verdict", str(verdict))
    work = await view.work.get(said.commitment)
    if work is None or work.confirmation is None or verdict not in (work.verdict, work.confirmation):
        return None
    path = folder / name_of(CommitmentId(said.commitment), work.confirmation)
    return path if await asyncio.to_thread(path.is_file) else None


async def _bundle(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
    async with request.app[STORE].read() as view:
        path = await bundle_of(view, request.app[SETTINGS].store.evidence, values["verdict"])
        said = await view.verdicts.get(values["verdict"])
    if path is None or said is None:
        about = "" if said is None else f"; `challenger evidence export {subject_of(said.commitment)}` makes one"
        raise Problem(404, f"no evidence bundle is kept on this verdict{about}")
    there = {hdrs.CONTENT_DISPOSITION: f'attachment; filename="{path.name}"', hdrs.CACHE_CONTROL: "private, no-cache"}
    response = web.FileResponse(path, headers=there)
    response.content_type = "application/json"
    return response


ROUTES = (
    Route(
        "GET",
        "/evidence/{verdict}",
        "get_evidence",
        "The evidence bundle on a confirmed fraud, as the watcher keeps it: `challenger evidence verify` checks it offline.",
        _bundle,
        {"type": "object", "description": "docs/evidence.md says what is in it"},
        (Parameter("verdict", NUMBER, "one of its two verdicts", place="path"),),
        problems=(404,),
    ),
)
