"""`challenger devnet`: the embedded chain as JSON-RPC on loopback, so that it outlives a killed watcher."""

from __future__ import annotations

import argparse
import asyncio
import signal
from importlib.util import find_spec
from typing import TYPE_CHECKING

from challenger.cli.common import print_json
from challenger.errors import ConfigError

if TYPE_CHECKING:
    from challenger.chain.devnet.served import ServedDevnet


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--host", default="127.0.0.1", help="a loopback address")
    sub.add_argument("--port", type=int, default=8545, help="0 picks a free one")
    sub.add_argument(
        "--interval", type=float, default=None, metavar="S", help="mine every S seconds, not per transaction"
    )
    sub.add_argument("--accounts", type=int, default=10, help="funded accounts with public keys")


def run(options: argparse.Namespace) -> int:
    if find_spec("eth_tester") is None:
        raise ConfigError("the embedded chain needs the demo extra: pip install 'inference-challenger[demo]'")

    def ready(served: ServedDevnet) -> None:
        listed = [{"address": a.address, "key": "0x" + a.key.hex()} for a in served.devnet.accounts]
        if options.json:
            print_json({"url": served.url, "accounts": listed})
        else:
            print(f"Devnet at {served.url}; these keys are public, never use them elsewhere:")
            for one in listed:
                print(f"  {one['address']}  {one['key']}")
            print("Stop with Ctrl-C.", flush=True)

    asyncio.run(_serve(options, ready))
    return 0


async def _serve(options: argparse.Namespace, ready: object) -> None:
    from challenger.chain.devnet.served import serve

    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, task.cancel)
    try:
        await serve(
            options.host,
            options.port,
            count=options.accounts,
            interval=options.interval,
            ready=ready,  # type: ignore[arg-type]
        )
    except asyncio.CancelledError:
        task.uncancel()
