"""`challenger backtest`: what policies would have done over a history. Signs nothing, needs no key, writes no database."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from challenger.cli.common import address, ether, natural, positive, print_json, print_table, settings_of
from challenger.domain import Wei
from challenger.errors import RecordingUnusable
from challenger.settings import reference_only

if TYPE_CHECKING:
    from challenger.backtest.past import History
    from challenger.backtest.score import Score
    from challenger.backtest.simulate import World
    from challenger.backtest.sources import Asked
    from challenger.settings import Settings

_GWEI = 10**9
#: Characters of a bar in the terminal.
_BAR = 40
#: What stands for a fate in it: the fuller, the better.
_MARKS = {"caught": "█", "others": "▓", "refused": "▒", "late": "!", "shed": "×", "undrawn": "·"}


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    source = sub.add_mutually_exclusive_group()
    source.add_argument("--recording", type=Path, default=None, metavar="FILE", help="of a recorded chain")
    source.add_argument("--chain", action="store_true", help="of the endpoints' logs (default: of the database)")
    sub.add_argument(
        "--from", dest="first", type=natural, default=None, metavar="BLOCK", help="commitments from here on"
    )
    sub.add_argument("--to", dest="last", type=natural, default=None, metavar="BLOCK", help="… up to this block")
    sub.add_argument(
        "--policy",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE,…",
        help="compare the settings with these changes to them, or with FILE.toml; may be given several times "
        "(default: everything drawn, and the least that deters)",
    )
    sub.add_argument("--draws", type=positive, default=20, metavar="N", help="draw so often (default: 20)")
    sub.add_argument("--seed", default="", metavar="TEXT", help="of the draws")
    sub.add_argument("--ours", type=address, action="append", default=[], metavar="ADDRESS", help=_OURS)
    sub.add_argument(
        "--replay-seconds", type=_seconds, default=None, metavar="S", help="of a replay (default: learned)"
    )
    sub.add_argument("--confirm-seconds", type=_seconds, default=None, metavar="S", help="… of its confirmation")
    sub.add_argument("--gas-gwei", type=_gwei, default=Wei(20 * _GWEI), metavar="G", help="gas price (default: 20)")
    sub.add_argument("--approval-seconds", type=natural, default=900, metavar="S", help=_APPROVAL)
    sub.add_argument("--ruling-seconds", type=natural, default=3_600, metavar="S", help=_RULING)
    sub.add_argument("--plot", type=Path, default=None, metavar="FILE", help="draw a figure: .png or .svg")


_OURS = "disputes of this account are the watcher's own (default: those of the database)"
_APPROVAL = "until a person lifts a pause for correlated accusations (default: 900)"
_RULING = "from a challenge to its settlement (default: 3600)"


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 86_400):
        raise argparse.ArgumentTypeError("must be seconds, 0 to 86400")
    return value


def _gwei(text: str) -> Wei:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 10**9):
        raise argparse.ArgumentTypeError("must be gwei, 0 to 1000000000")
    return Wei(round(value * _GWEI))


def run(options: argparse.Namespace) -> int:
    from challenger.backtest import figure
    from challenger.backtest.choices import choices
    from challenger.backtest.score import scores
    from challenger.backtest.simulate import World
    from challenger.backtest.sources import Asked

    settings = settings_of(options)
    reference_only(settings, "a backtest")
    chosen = choices(settings, options.policy)
    if options.plot is not None:
        figure.check(options.plot)
    asked = Asked(options.first, options.last, options.ours, options.replay_seconds, options.confirm_seconds)
    history = _read(settings, options, asked)
    world = World(options.gas_gwei, options.approval_seconds, options.ruling_seconds)
    found: list[Score] = []
    for score in scores(history, chosen, world, options.draws, options.seed):
        found.append(score)
        if sys.stderr.isatty():
            print(
                f"\r{len(found)} of {len(chosen)} policies",
                end="\n" if len(found) == len(chosen) else "",
                file=sys.stderr,
            )
    if options.json:
        _print_json(options, history, found, world)
    else:
        _print(history, found)
    if options.plot is not None:
        figure.draw(found, f"{history.source}, blocks {history.first} to {history.last}", options.plot)
    return 0


def _read(settings: Settings, options: argparse.Namespace, asked: Asked) -> History:
    from challenger.backtest import sources
    from replay.recording import RecordingError

    if options.recording is not None:
        try:
            return asyncio.run(sources.from_recording(settings, options.recording, asked))
        except (RecordingError, OSError) as error:
            raise RecordingUnusable(str(error)) from error
    if options.chain:
        return asyncio.run(sources.from_chain(settings, asked))
    return asyncio.run(sources.from_database(settings, asked))


def _counts(history: History) -> dict[str, int]:
    from challenger.backtest.past import Truth

    counts = Counter(past.truth for past in history.pasts)
    return {truth.value: counts[truth] for truth in Truth}


def _print_json(options: argparse.Namespace, history: History, found: list[Score], world: World) -> None:
    print_json(
        {
            "source": history.source,
            "first": history.first,
            "last": history.last,
            "commitments": len(history.pasts),
            "truth": _counts(history),
            "contested": history.contested,
            "assumed": asdict(world),
            "seed": options.seed,
            "ours": options.ours,
            "policies": [
                {
                    "name": score.name,
                    "draws": score.draws,
                    **{name: spread._asdict() for name, spread in score.measures.items()},
                    "slack_least": score.slack_least,
                    "slack_median": score.slack_median,
                    "refusals": score.refusals,
                }
                for score in found
            ],
        }
    )


def _print(history: History, found: list[Score]) -> None:
    counts = _counts(history)
    frauds = counts["wrong"] + counts["withheld"]
    print(f"{history.source}, blocks {history.first} to {history.last}: {len(history.pasts)} commitments")
    print(
        f"{counts['wrong']} wrong, {counts['withheld']} withheld, {counts['right']} right, "
        f"{counts['unknown']} unknown (taken for right)"
    )
    for account, count in Counter(past.rival_account for past in history.pasts if past.rival is not None).most_common(
        3
    ):
        print(f"{count} ended by {account} (--ours {account} if that is you: then they are played anew)")
    if history.contested:
        print(f"{history.contested} whose replay and end on chain contradict each other: the replay counts")
    rows = [[name, *(tell(score) for score in found)] for name, tell in _told(frauds).items()]
    title = f"Means of {found[0].draws} draws (least to most)"
    print_table(title, ["", *(score.name for score in found)], rows, whole=1)
    for score in found:
        _bar(score, frauds)
    print("  ".join(f"{mark} {fate}" for fate, mark in _MARKS.items()))
    for score in found:
        for gate, often in score.refusals.items():
            print(f"{score.name}: {often:.1f} frauds a draw kept back by the gate {gate}")


def _told(frauds: int) -> dict[str, Callable[[Score], str]]:
    """The table's rows."""
    return {
        "drawn": lambda score: _spread(score, "drawn"),
        f"caught, of {frauds} frauds": lambda score: _spread(score, "caught"),
        "others were first": lambda score: _spread(score, "others"),
        "refused by a gate": lambda score: _spread(score, "refused"),
        "deadlines missed": lambda score: _spread(score, "missed_deadlines"),
        "pauses": lambda score: _spread(score, "pauses"),
        "least slack": lambda score: _duration(score.slack_least),
        "median slack": lambda score: _duration(score.slack_median),
        "time of workers": lambda score: _duration(score["busy_seconds"].mean),
        "won, ether": lambda score: ether(int(score["won_wei"].mean)),
        "gas, ether": lambda score: ether(int(score["gas_wei"].mean)),
        "net, ether": lambda score: ether(int(score["net_wei"].mean)),
        "bonds out at most": lambda score: ether(int(score["bonds_wei"].high)),
    }


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def _spread(score: Score, measure: str) -> str:
    mean, low, high = score[measure]
    return f"{mean:.0f}" if low == high else f"{mean:.1f} ({low:.0f} to {high:.0f})"


def _bar(score: Score, frauds: int) -> None:
    """What became of the frauds, on one line."""
    total, text, upto = 0.0, "", 0
    for fate, mark in _MARKS.items():
        total += score[fate].mean
        end = round(_BAR * total / frauds) if frauds else 0
        text, upto = text + mark * (end - upto), end
    print(f"{score.name[:20]:<20} {text or '(no frauds known)'}")
