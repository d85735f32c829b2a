"""`challenger record`: a range of blocks into a recording, from the endpoints that the settings name. Needs no key."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from challenger.cli.common import natural, print_json, run_to_end, settings_of
from challenger.errors import RecordingUnusable
from challenger.settings import reference_only

if TYPE_CHECKING:
    from challenger.domain import Block
    from challenger.recording.record import Recorded


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--from", dest="first", type=natural, default=None, metavar="BLOCK", help="default: [chain] start_block"
    )
    sub.add_argument(
        "--to", dest="last", type=natural, default=None, metavar="BLOCK", help="default: the newest settled block"
    )
    sub.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="NAME.tar, or a folder to make")
    sub.add_argument("--no-proofs", action="store_true", help="believe the endpoints: no receipts, a smaller recording")
    sub.add_argument("--no-data", action="store_true", help="record the chain alone: no data, no models")
    sub.add_argument(
        "--model-bytes",
        type=natural,
        default=256 << 20,
        metavar="N",
        help="larger models stay out (default: 256 MiB)",
    )


def run(options: argparse.Namespace) -> int:
    from challenger.recording.ranges import Range, record_range
    from replay.recording import RecordingError

    asked = Range(options.first, options.last, not options.no_proofs, not options.no_data, options.model_bytes)
    settings = settings_of(options)
    reference_only(settings, "a recording")
    try:
        found = run_to_end(record_range(settings, asked, options.output, _progress))
    except (RecordingError, OSError) as error:
        raise RecordingUnusable(str(error)) from error
    _print(options, found)
    return 0


def _progress(block: Block, recorded: Recorded) -> None:
    if sys.stderr.isatty():
        print(f"\rblock {block.number}, {recorded.commitments} commitments", end="", file=sys.stderr)


def _print(options: argparse.Namespace, found: Recorded) -> None:
    from replay.recording import open_recording

    with open_recording(options.output) as recording:
        digest = recording.manifest.digest
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if options.json:
        facts = {name: getattr(found, name) for name in ("blocks", "logs", "commitments", "data", "away", "models")}
        print_json(
            {
                "file": str(options.output),
                "digest": digest,
                **facts,
                "left_out": found.left_out,
                "left_out_more": found.not_told,
            }
        )
        return
    print(f"{options.output}: {found.blocks} blocks, {found.logs} logs, {found.commitments} commitments")
    away = f", {found.away} could not be had" if found.away else ""
    print(f"{found.data} pieces of data{away}, {found.models} models")
    for line in found.left_out:
        print(f"left out: {line}")
    if found.not_told:
        print(f"left out: {found.not_told} more")
    print(f"digest {digest}")
