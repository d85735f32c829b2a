"""`challenger providers`: track records, from the database alone."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from challenger.cli.common import address, print_json, print_table, settings_of, short, utc
from challenger.domain import Address, Millionths, ModelId

if TYPE_CHECKING:
    from challenger.audit.records import TrackRecord
    from challenger.audit.speed import Speed
    from challenger.audit.trend import Change, Period, Range
    from challenger.settings import Settings

#: Seconds of a period.
_LENGTHS = {"day": 86_400, "week": 604_800}
#: Periods that the table shows; `--json` has all.
_SHOWN = 12
_NOT_RECORDED = "when data itself arrived is not recorded: `judged` is the latest that it can have been"


@dataclass(frozen=True, slots=True)
class Told:
    """All that is known of one provider with one model (None: with all)."""

    record: TrackRecord
    periods: list[Period]
    change: Change | None
    committed: Speed | None
    judged: Speed | None


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "provider",
        nargs="?",
        type=address,
        default=None,
        metavar="ADDRESS",
        help="only this one, by model and over time",
    )
    sub.add_argument(
        "--by", choices=list(_LENGTHS), default="week", help="length of the periods that are compared (default: week)"
    )


def run(options: argparse.Namespace) -> int:
    found, base = asyncio.run(_records(settings_of(options), options.provider, _LENGTHS[options.by]))
    if options.json:
        told = [_as_json(one) for one in found]
        print_json({"base_rate_millionths": base, "by": options.by, "data_seconds": _NOT_RECORDED, "providers": told})
        return 0
    if not found:
        print("No answer of theirs is in the index." if options.provider else "No answer is in the index yet.")
        return 0
    alone = options.provider is not None
    columns = ["model" if alone else "provider", "answers", "drawn", "valid", "fraud", "away", "other", "bad at most"]
    columns.append("commits in")
    rows = [
        [*_row(one.record, alone=alone), _speed(one.committed)] for one in found if alone or one.record.model is None
    ]
    print_table(f"Track records (base rate {base / 10_000:g} %)", columns, rows, whole=5)
    for one in found:
        if one.record.model is None:
            if alone:
                _over_time(one, options.by)
            print(f"{one.record.provider}:\n  {one.record.sentence()}")
            if alone:
                print(f"  {_speeds(one)}")
            if line := _changed(one, options.by, always=alone):
                print(f"  {line}")
    return 0


async def _records(settings: Settings, provider: Address | None, length: int) -> tuple[list[Told], Millionths]:
    from challenger.audit.records import base_rate, track_records
    from challenger.audit.speed import speeds
    from challenger.audit.trend import change, periods
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store, store.read() as view:
        base = base_rate(await view.epochs.all())
        head = await view.chain.head()
        if head is None:
            return [], base
        by_period = await view.records.tallies(base, head.time, provider, length)
        committed = speeds(await view.records.committed_after(provider))
        judged = speeds(await view.records.judged_after(provider))
    parts = periods(by_period, base)
    found = []
    for record in track_records(by_period, base):
        key: tuple[Address, ModelId | None] = (record.provider, record.model)
        found.append(Told(record, parts[key], change(parts[key], length), committed.get(key), judged.get(key)))
    return found, base


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


def _over_time(one: Told, by: str) -> None:
    rows = []
    for period in one.periods[-_SHOWN:]:
        record = period.record
        share = f"{100 * record.bad / record.looked:.3g} %" if record.looked else ""
        bound = f"{100 * record.most / record.closed:.3g} %" if record.closed else ""
        counts = (record.answers, record.sampled, record.fates["fraud"], record.looked, record.bad)
        rows.append([utc(period.start)[:10], *map(str, counts), share, bound])
    title = f"By {by} of commitment, the last {len(rows)} of {len(one.periods)}"
    columns = [f"{by} from", "answers", "drawn", "fraud", "at base rate", "bad of these", "share", "bad at most"]
    print_table(title, columns, rows, whole=1)


def _speed(found: Speed | None) -> str:
    """Median and 95th percentile."""
    return "" if found is None else f"{found.median} / {found.p95} s"


def _speeds(one: Told) -> str:
    """Of the hops before the verdict; the arrival of data is none of them."""
    committed = _speed(one.committed) or "not known"
    judged = _speed(one.judged) or "not known"
    return (
        f"median / 95th percentile: from taking a task to committing {committed}; from there to our verdict {judged} "
        "(our queue and the replay are in it; when data arrived is not recorded by itself)"
    )


def _changed(one: Told, by: str, *, always: bool) -> str:
    found = one.change
    if found is None:
        return f"one {by} alone was looked at: no change can be told" if always else ""
    if found.what == "none" and not always:
        return ""
    words = {"worse": "WORSE than before", "better": "better than before", "none": "no change is shown"}[found.what]
    return (
        f"{words}: of {found.last.closed} answers of the {by} from {utc(found.start)[:10]} {found.last} are bad, "
        f"of {found.before.closed} before {found.before}"
    )


def _as_json(one: Told) -> dict[str, object]:
    record, found = one.record, one.change
    return {
        "provider": record.provider,
        "model": record.model,
        **_counts(record),
        "sentence": record.sentence(),
        "commit_seconds": None if one.committed is None else one.committed._asdict(),
        "judged_seconds": None if one.judged is None else one.judged._asdict(),
        "periods": [{"start": period.start, **_counts(period.record)} for period in one.periods],
        "change": None
        if found is None
        else {"what": found.what, "start": found.start, "last": _range(found.last), "before": _range(found.before)},
    }


def _range(found: Range) -> dict[str, int]:
    return {"bad_at_least": found.least, "bad_at_most": found.most, "closed": found.closed}


def _counts(record: TrackRecord) -> dict[str, object]:
    return {
        "answers": record.answers,
        "sampled": record.sampled,
        **record.fates,
        "closed": record.closed,
        "drawn_at_base_rate": record.looked,
        "bad": record.bad,
        "bad_at_most": record.most,
    }
