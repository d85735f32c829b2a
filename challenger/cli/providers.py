"""`challenger providers`: track records, from the database alone."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

from challenger.cli.common import address, print_json, print_table, settings_of, short
from challenger.domain import Address, Millionths

if TYPE_CHECKING:
    from challenger.audit.records import TrackRecord
    from challenger.settings import Settings


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("provider", nargs="?", type=address, default=None, metavar="ADDRESS", help="only this one")


def run(options: argparse.Namespace) -> int:
    found, base = asyncio.run(_records(settings_of(options), options.provider))
    if options.json:
        print_json({"base_rate_millionths": base, "providers": [_as_json(record) for record in found]})
        return 0
    if not found:
        print("No answer of theirs is in the index." if options.provider else "No answer is in the index yet.")
        return 0
    alone = options.provider is not None
    columns = ["model" if alone else "provider", "answers", "drawn", "valid", "fraud", "away", "other", "bad at most"]
    rows = [_row(record, alone=alone) for record in found if alone or record.model is None]
    print_table(f"Track records (base rate {base / 10_000:g} %)", columns, rows, whole=5)
    for record in found:
        if record.model is None:
            print(f"{record.provider}:\n  {record.sentence()}")
    return 0


async def _records(settings: Settings, provider: Address | None) -> tuple[list[TrackRecord], Millionths]:
    from challenger.audit.records import track_records
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store, store.read() as view:
        epochs = await view.epochs.all()
        base = Millionths(min((json.loads(epoch.policy)["base"] for epoch in epochs), default=0))
        head = await view.chain.head()
        if head is None:
            return [], base
        return track_records(await view.records.tallies(base, head.time, provider), base), base


def _row(record: TrackRecord, *, alone: bool) -> list[str]:
    fates = record.fates
    known = ("valid", "fraud", "unavailable")
    other = ", ".join(f"{count} {name}" for name, count in fates.items() if count and name not in known)
    bound = f"{100 * record.most / record.closed:.3g} %" if record.closed else ""
    counts = [str(count) for count in (record.answers, record.sampled, *(fates[name] for name in known))]
    name = record.provider[:10] + "…"
    if alone:
        name = "all" if record.model is None else short(record.model)
    return [name, *counts, other, bound]


def _as_json(record: TrackRecord) -> dict[str, object]:
    return {
        "provider": record.provider,
        "model": record.model,
        "answers": record.answers,
        "sampled": record.sampled,
        **record.fates,
        "closed": record.closed,
        "drawn_at_base_rate": record.looked,
        "bad": record.bad,
        "bad_at_most": record.most,
        "sentence": record.sentence(),
    }
