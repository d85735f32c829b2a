"""The `challenger` command: thin; parses, loads settings, hands over. Loads no heavy library until a command runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from challenger import program_version
from challenger.errors import ChallengerError

#: command → (module that runs it, one line of help)
COMMANDS = {
    "demo": ("demo", "watch cheating providers get caught on an embedded chain, with real models"),
    "init": ("init", "write a commented settings file"),
    "check": ("check", "try everything the watcher needs and show a table"),
    "notify": ("notify", "send a test message to every service in [telemetry] notify"),
    "run": ("run", "watch the chain: sample, replay, confirm, dispute"),
    "status": ("inspect", "where the watcher stands: cursor, states, money at risk"),
    "commitments": ("inspect", "list commitments with state and verdict, or show one"),
    "disputes": ("inspect", "list disputes and demands, ours and others'"),
    "providers": ("providers", "track records: what was drawn, what came of it, how bad the rest can be"),
    "handoffs": ("handoffs", "hop by hop, what crossed and who let it down; or all of them, counted"),
    "approvals": ("approvals", "mode confirm: list what waits for a person"),
    "approve": ("approvals", "mode confirm: let one filing go ahead, for the roots and the bond shown"),
    "refuse": ("approvals", "mode confirm: keep one filing back"),
    "pause": ("pause", "stop all filing until `challenger resume`"),
    "resume": ("resume", "let filing go on after a pause"),
    "audit": ("audit", "re-check the record: `audit verify`, `sampling`, `journal`, `replay`"),
    "report": ("report", "audit a protocol that has no dispute on chain: what was committed, run again and compared"),
    "findings": ("report", "what such audits found, from the record"),
    "export": ("export", "rows of the record as CSV, JSON Lines or Parquet, by time and filter"),
    "evidence": (
        "evidence",
        "a verdict in one file that anybody can check offline: `evidence export`, `verify`, `show`",
    ),
    "db": ("db", "create, upgrade or downgrade the database schema"),
    "record": ("record", "keep a range of blocks, with data and models, in one file"),
    "replay": ("replay", "run the watcher over a recorded chain, offline, under a simulated clock"),
    "serve": ("serve", "the API and the pages, from the database and without a key; `serve token` says who may"),
    "backtest": ("backtest", "what policies would have drawn, caught, spent and won over a history; signs nothing"),
    "sim": ("sim", "play seeded worlds that break on purpose, and check what must always hold"),
    "devnet": ("devnet", "serve the embedded chain as JSON-RPC on loopback"),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="challenger",
        description="A watchtower for AI inference committed on chain: samples, re-runs, proves and disputes it.",
        epilog="Exit codes: 0 fine, 1 operational failure, 2 usage or configuration.",
    )
    top.add_argument("--version", action="version", version=program_version())
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, line) in COMMANDS.items():
        sub = commands.add_parser(name, help=line, description=line[0].upper() + line[1:] + ".")
        sub.add_argument("--json", action="store_true", help="machine-readable output")
        if name not in ("demo", "devnet", "sim"):
            sub.add_argument(
                "-c",
                "--config",
                type=Path,
                default=None,
                metavar="FILE",
                help="settings file (default: challenger.toml where there is one)",
            )
        import_module(f"challenger.cli.{module}").arguments(name, sub)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; errors of ours become one line on stderr and the error's exit code."""
    options = parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = import_module(f"challenger.cli.{COMMANDS[options.command][0]}").run
    try:
        return run(options)
    except ChallengerError as error:
        print(f"challenger: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("challenger: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        # a disk, a folder, a pipe of this machine's
        print(f"challenger: {error}", file=sys.stderr)
        return 1
