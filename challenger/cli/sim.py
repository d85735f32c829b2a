"""`challenger sim`: seeded worlds that break on purpose, each held against what must always be true."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from challenger.cli.common import positive, print_json
from challenger.errors import ConfigError

if TYPE_CHECKING:
    from challenger.sim.campaign.run import Outcome, Total


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--seed", type=int, default=1, metavar="N", help="the first world's seed (default: 1)")
    sub.add_argument("--scenarios", type=positive, default=1, metavar="K", help="worlds to play: seeds N to N+K−1")
    sub.add_argument(
        "--faults",
        default="all",
        metavar="all|none|LIST",
        help="faults to draw from (docs/simulation.md has their names), comma-separated (default: all)",
    )
    sub.add_argument(
        "--processes", type=positive, default=os.cpu_count() or 1, metavar="P", help="worlds at a time (default: cores)"
    )


def run(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("eth") is None:
        raise ConfigError("the simulation needs the embedded chain: pip install '.[demo]' in a clone")
    from challenger.sim.campaign.run import campaign, reproduction
    from challenger.sim.faults.kinds import parse

    try:
        faults = parse(options.faults)
    except ValueError as error:
        raise ConfigError(f"--faults: {error}") from None
    seeds = range(options.seed, options.seed + options.scenarios)

    def seen(outcome: Outcome) -> None:
        if not options.json:
            print(_line(outcome), flush=True)

    total = campaign(seeds, faults, processes=options.processes, seen=seen)
    lines = {seed: reproduction(seed, faults) for seed, _ in total.broken}
    if options.json:
        print_json(_summary(total) | {"broken": [{"seed": s, "what": w, "again": lines[s]} for s, w in total.broken]})
    else:
        _print(total)
        for seed, what in total.broken:
            print(f"BROKEN seed {seed}: {what}", file=sys.stderr)
        for again in lines.values():
            print(f"again: {again}", file=sys.stderr)
    return 1 if total.broken else 0


def _line(outcome: Outcome) -> str:
    found = outcome.findings
    verdict = "BROKEN" if found.broken else "holds "
    return (
        f"{verdict} seed {outcome.seed:>6}: {found.on_time}/{found.inside} on time inside the envelope, "
        f"{found.outside_filed}/{found.outside} filed outside, {found.false} false, {outcome.starts} starts, "
        f"{outcome.blocks} blocks, {sum(outcome.injected.values())} faults, {outcome.seconds:.1f} s, {found.digest[:12]}"
    )


def _summary(total: Total) -> dict[str, Any]:
    return {
        "worlds": total.worlds,
        "filings": total.filings,
        "inside": total.inside,
        "on_time": total.on_time,
        "outside": total.outside,
        "outside_filed": total.outside_filed,
        "honest": total.honest,
        "false": total.false,
        "starts": total.starts,
        "late": dict(total.late),
        "injected": dict(sorted(total.injected.items())),
        "reorgs": {str(depth): times for depth, times in sorted(total.reorgs.items())},
    }


def _print(total: Total) -> None:
    print(f"{total.worlds} worlds, {total.filings} filings, {total.starts} starts of the watcher")
    print(f"inside the envelope: {total.on_time} of {total.inside} on time")
    print(f"outside it: {total.outside_filed} of {total.outside} filed all the same")
    for gates, times in total.late.most_common():
        print(f"  not filed: {times} under {gates}")
    print(f"honest commitments: {total.honest}, accused: {total.false}")
    print("faults: " + ", ".join(f"{name} {times}" for name, times in sorted(total.injected.items())))
    print(f"invariants broken: {len(total.broken)}")
