"""The `replay` command: thin; parses and hands over. Loads no heavy library until a command runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from replay.backends import BACKENDS
from replay.kernels.spec import GRIDS

#: Where each command's work is done; the others are in `commands`.
_HOMES = {"record": "recordings", "verify-recording": "recordings", "cid": "content"}
#: Commands that run no model.
_WITHOUT_WORKER = ("cid",)


class UsageError(Exception):
    """What the user wrote cannot be used: exit code 2."""


class Failure(Exception):
    """The command could not do its work: exit code 1."""

    def __init__(self, message: str, reason: str = "error") -> None:
        super().__init__(message)
        self.reason = reason


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """Every command and option; docs/replay.md has a line for each, and a test says so."""
    top = _Parser(
        prog="replay",
        description="Re-run a model deterministically, commit to what was computed, check another's commitment.",
        epilog="Exit codes: 0 fine (verify: VALID), 1 operational failure (verify: FRAUD or INCONCLUSIVE), 2 usage.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    made = commands.add_parser("import", help="make a model folder of an ONNX file or a checkpoint's folder")
    made.add_argument("source", type=_path, metavar="SOURCE", help="an ONNX file, or a folder with config.json")
    made.add_argument("folder", type=_path, metavar="FOLDER", help="the model folder to make; its files are copies")
    made.add_argument("--grid", choices=GRIDS, help="hi: close to fp32 (the default); lo: cheaper, coarser")

    show = commands.add_parser("show", help="print a model's program so that a person can read it")
    _model(show)

    run = commands.add_parser("run", help="run a model and print its output")
    _model(run)
    _input(run)
    _backend(run)
    _generation(run)

    commit = commands.add_parser("commit", help="run a model and print the roots an honest provider commits to")
    _model(commit)
    _input(commit)
    _backend(commit)
    _generation(commit)
    commit.add_argument("--output", type=_path, metavar="FILE", help="write the canonical output bundle to FILE")

    verify = commands.add_parser("verify", help="check a commitment: VALID, FRAUD or INCONCLUSIVE")
    _model(verify)
    _input(verify)
    _backend(verify)
    _generation(verify)
    verify.add_argument(
        "--output-root", type=_root, required=True, metavar="HEX", help="the root claimed for the output"
    )
    verify.add_argument("--state-root", type=_root, required=True, metavar="HEX", help="the state root claimed")
    verify.add_argument(
        "--input-root", type=_root, metavar="HEX", help="the input root committed to: another INPUT is then no fraud"
    )
    verify.add_argument(
        "--output", type=_path, metavar="FILE", help="the claimed output bundle: one prefill then checks a generation"
    )
    verify.add_argument(
        "--leaves",
        type=_path,
        metavar="FILE",
        help="the claimed leaves (what commit --json prints): says which differs",
    )

    _recordings(commands)

    selftest = commands.add_parser("selftest", help="known answers of every backend on this machine, and the isolation")
    selftest.add_argument("--backend", choices=BACKENDS, action="append", help="only this backend (may be repeated)")

    bench = commands.add_parser("bench", help="time a model on each backend and grid, beside ordinary torch fp32")
    _model(bench)
    bench.add_argument("--backend", choices=BACKENDS, action="append", help="only this backend (may be repeated)")
    bench.add_argument(
        "--size", type=_positive, default=128, metavar="N", help="value of each symbolic dimension (128)"
    )
    bench.add_argument("--repeat", type=_positive, default=5, metavar="N", help="timed rounds after the first (5)")

    _content(commands)

    for name, sub in commands.choices.items():
        sub.add_argument("--json", action="store_true", help="machine-readable output")
        if name in _WITHOUT_WORKER:
            continue
        sub.add_argument("--seconds", type=_positive, default=300, metavar="S", help="wall limit of one run (300)")
        sub.add_argument(
            "--memory", type=_positive, default=4096, metavar="MIB", help="memory limit of a worker (4096)"
        )
        sub.add_argument("--threads", type=_threads, default=1, metavar="N", help="threads of a worker (1)")
    return top


def _recordings(commands: argparse._SubParsersAction[_Parser]) -> None:
    record = commands.add_parser("record", help="run a model on inputs and keep the runs in a recording")
    _model(record)
    record.add_argument("inputs", nargs="+", type=_path, metavar="INPUT", help="bundle files, or JSON, as for run")
    record.add_argument(
        "-o", "--out", type=_path, required=True, metavar="OUT", help="the recording to make: a folder, or a .tar file"
    )
    record.add_argument("--with-model", action="store_true", help="keep the model's files in the recording")
    _backend(record)
    _generation(record)

    again = commands.add_parser("verify-recording", help="run a recording's runs again and compare bit for bit")
    again.add_argument("recording", type=_path, metavar="FILE", help="the recording: a folder or a .tar file")
    again.add_argument(
        "--model", type=_manifest, metavar="MANIFEST", help="the model to run, in place of the one in the recording"
    )
    again.add_argument("--no-explain", action="store_true", help="load no model outside a worker to find the place")
    _backend(again)


def _content(commands: argparse._SubParsersAction[_Parser]) -> None:
    cid = commands.add_parser("cid", help="print the CIDs that `ipfs add` gives to files and folders")
    cid.add_argument("paths", nargs="+", type=_path, metavar="PATH", help="a file, or a folder with all that is in it")
    cid.add_argument(
        "--profile",
        choices=("unixfs-v0-2015", "unixfs-v1-2025"),
        help="how files are cut (unixfs-v0-2015, or as the next two say)",
    )
    cid.add_argument("--raw-leaves", action="store_true", help="chunks of files as raw blocks")
    cid.add_argument("--cid-version", type=int, choices=(0, 1), help="of the CIDs (0); 1 has raw leaves")
    cid.add_argument("--wrap", action="store_true", help="also the CID of a directory that holds every PATH")
    cid.add_argument("--car", type=_path, metavar="FILE", help="write all blocks to FILE, which can stand as a gateway")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every error is one line on stderr (with --json, an object on stdout)."""
    options = parser().parse_args(argv)
    home = _HOMES.get(options.command, "commands")
    run = import_module(f"replay.cli.{home}").COMMANDS[options.command]
    try:
        code: int = run(options)
    except UsageError as error:
        return _failed(options, str(error), "usage", 2)
    except Failure as error:
        return _failed(options, str(error), error.reason, 1)
    except KeyboardInterrupt:
        return _failed(options, "interrupted", "interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return code


def _failed(options: argparse.Namespace, message: str, reason: str, code: int) -> int:
    if options.json:
        print(json.dumps({"error": message, "reason": reason}))
    else:
        print(f"replay {options.command}: {message}", file=sys.stderr)
    return code


def _model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "manifest", type=_manifest, metavar="MANIFEST", help="the model's manifest, or the folder that has it"
    )
    sub.add_argument("--digest", type=_root, metavar="HEX", help="the SHA-256 that the manifest must have")


def _input(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "input", nargs="?", type=_path, metavar="INPUT", help='a bundle file, or JSON like {"input_ids": [101, 102]}'
    )
    sub.add_argument("--text", metavar="TEXT", help="a sentence instead of INPUT, for models with a tokenizer")


def _generation(sub: argparse.ArgumentParser) -> None:
    what = sub.add_argument_group("generation", "for language models: text in place of logits")
    what.add_argument("--generate", type=_positive, metavar="N", help="at most N tokens after the prompt")
    what.add_argument(
        "--temperature", type=_millionths, default=0, metavar="X", help="0 to 1000, six decimals (0: the likeliest)"
    )
    what.add_argument("--top-k", type=_natural, default=0, metavar="K", help="draw from the K likeliest (0: all)")
    what.add_argument(
        "--top-p", type=_millionths, default=1_000_000, metavar="P", help="draw from the likeliest that hold P (1: all)"
    )
    what.add_argument("--end", type=_natural, metavar="TOKEN", help="the token that ends the text")
    what.add_argument(
        "--seed", type=_root, metavar="HEX", help="32 bytes that fix the draws (zeros; verify wants the task's)"
    )


def _backend(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--backend", choices=BACKENDS, default="torch", help="what computes (torch)")


def _path(text: str) -> Path:
    """An empty one would name the working directory: a variable that is not set in a script, more likely."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def _manifest(text: str) -> Path:
    path = _path(text)
    return path / "manifest.json" if path.is_dir() else path


def _root(text: str) -> bytes:
    try:
        root = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        root = b""
    if len(root) != 32:
        raise argparse.ArgumentTypeError("write 32 bytes as 64 hex digits")
    return root


def _millionths(text: str) -> int:
    try:
        value = Decimal(text)
        usable = value.is_finite() and (value == 0 or Decimal("0.000001") <= value <= 1000)
        value = value.scaleb(6) if usable else Decimal(-1)
    except InvalidOperation:
        value = Decimal(-1)
    if value < 0 or value != value.to_integral_value():
        raise argparse.ArgumentTypeError("write a number from 0 to 1000 with at most six decimals")
    return int(value)


def _natural(text: str) -> int:
    if not text.isdecimal() or int(text) >= 1 << 31:
        raise argparse.ArgumentTypeError("write a number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 30:
        raise argparse.ArgumentTypeError("write a positive number")
    return int(text)


def _threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError("write a number from 1 to 1024")
    return int(text)
