"""`challenger record`: a range of blocks into a recording, from the endpoints that the settings name. Needs no key."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from challenger.cli.common import natural, print_json, settings_of
from challenger.domain import BlockNumber, ChainId
from challenger.errors import ConfigError, RecordingUnusable
from challenger.settings import addresses, without_key

if TYPE_CHECKING:
    from challenger.domain import Block
    from challenger.recording.record import Recorded

#: The largest model that goes into a recording unless told otherwise.
_MODEL_BYTES = 256 << 20


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
        default=_MODEL_BYTES,
        metavar="N",
        help=f"larger models stay out (default: {_MODEL_BYTES})",
    )


def run(options: argparse.Namespace) -> int:
    from replay.recording import RecordingError

    try:
        found = asyncio.run(_record(options))
    except (RecordingError, OSError) as error:
        raise RecordingUnusable(str(error)) from error
    _print(options, found)
    return 0


async def _record(options: argparse.Namespace) -> Recorded:
    from contextlib import AsyncExitStack

    from challenger.endpoints import open_endpoints
    from challenger.parts import artifact_store
    from challenger.protocols.reference import ReferenceAdapter
    from challenger.recording.lines import Deployment
    from challenger.recording.record import Wanted, record
    from challenger.telemetry.instruments import Instruments

    settings = without_key(addresses(settings_of(options)))
    chain = settings.chain
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(open_endpoints(settings, Instruments()))
        adapter = ReferenceAdapter(endpoints.rpc, ChainId(chain.chain_id), chain.market, anchor=chain.anchor or None)
        await adapter.check()
        settled = max(0, (await endpoints.rpc.block("latest")).number - chain.confirmations)
        first = chain.start_block if options.first is None else options.first
        last = settled if options.last is None else options.last
        if not first <= last <= settled:
            raise ConfigError(
                "--from to --to must be blocks in order, settled by now", first=first, last=last, settled=settled
            )
        wanted = Wanted(None, 0, 0)
        if not options.no_data:
            store = await stack.enter_async_context(artifact_store(settings))
            wanted = Wanted(store, settings.replay.input_bytes, options.model_bytes)
        deployment = Deployment(
            adapter.name,
            ChainId(chain.chain_id),
            chain.market,
            chain.anchor,
            BlockNumber(first),
            BlockNumber(last),
            not options.no_proofs,
        )
        reader = endpoints.reader()
        return await record(
            endpoints.rpc, reader, deployment, chain.start_block, wanted, options.output, _progress(last)
        )


def _progress(last: int) -> Callable[[Block, Recorded], None]:
    def told(block: Block, recorded: Recorded) -> None:
        if sys.stderr.isatty():
            print(f"\rblock {block.number} of {last}, {recorded.commitments} commitments", end="", file=sys.stderr)
            if block.number == last:
                print(file=sys.stderr)

    return told


def _print(options: argparse.Namespace, found: Recorded) -> None:
    from replay.recording import open_recording

    with open_recording(options.output) as recording:
        digest = recording.manifest.digest
    if options.json:
        facts = {name: getattr(found, name) for name in ("blocks", "logs", "commitments", "data", "away", "models")}
        print_json({"file": str(options.output), "digest": digest, **facts, "left_out": found.left_out})
        return
    print(f"{options.output}: {found.blocks} blocks, {found.logs} logs, {found.commitments} commitments")
    away = f", {found.away} could not be had" if found.away else ""
    print(f"{found.data} pieces of data{away}, {found.models} models")
    for line in found.left_out:
        print(f"left out: {line}")
    print(f"digest {digest}")
