"""`challenger devnet`: the embedded chain as JSON-RPC on loopback, so that it outlives a killed watcher."""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

from challenger.cli.common import positive, print_json
from challenger.errors import ConfigError

if TYPE_CHECKING:
    from challenger.chain.devnet.served import ServedDevnet
    from challenger.sim.deploy import Deployment
    from challenger.sim.faults.kinds import Fault

#: Account 0 deploys; these judge disputes, two of three.
_SIGNERS = (1, 2, 3)


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--host", default="127.0.0.1", help="a loopback address (%(default)s)")
    sub.add_argument("--port", type=_port, default=8545, help="0 picks a free one (%(default)s)")
    sub.add_argument(
        "--interval",
        type=_seconds,
        default=None,
        metavar="S",
        help="mine every S seconds (default: a block per transaction)",
    )
    sub.add_argument("--accounts", type=positive, default=10, help="funded accounts with public keys (%(default)s)")
    sub.add_argument("--deploy", action="store_true", help="deploy the reference protocol and print its settings")
    sub.add_argument("--faults", default="", metavar="LIST", help="serve endpoints besides that fail like this, or all")
    sub.add_argument(
        "--rate",
        type=_percentage,
        default=5,
        metavar="P",
        help="per cent of the requests, for each fault (%(default)s)",
    )
    sub.add_argument("--endpoints", type=positive, default=3, metavar="N", help="how many of them (%(default)s)")
    sub.add_argument("--seed", type=int, default=1, help="of the faults (%(default)s)")


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError("must be a number of seconds above 0")
    return value


def _percentage(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError("a percentage is 1 to 100")
    return value


def run(options: argparse.Namespace) -> int:
    if find_spec("eth_tester") is None:
        raise ConfigError("the embedded chain needs the demo extra: pip install '.[demo]' in a clone")
    if options.deploy and options.accounts <= max(_SIGNERS):
        raise ConfigError(f"--deploy needs at least {max(_SIGNERS) + 1} accounts")
    asyncio.run(_serve(options, _faults(options.faults)))
    return 0


def _faults(text: str) -> tuple[Fault, ...]:
    """Those of the list that can strike on the wire. ``ConfigError`` for others."""
    from challenger.sim.faults.kinds import parse
    from challenger.sim.faults.proxy import ON_THE_WIRE

    if text in ("", "none"):
        return ()
    if text == "all":
        return ON_THE_WIRE
    try:
        wanted = parse(text)
    except ValueError as error:
        raise ConfigError(f"--faults: {error}") from None
    if others := [fault for fault in wanted if fault not in ON_THE_WIRE]:
        raise ConfigError(f"--faults: {', '.join(others)} cannot strike here; {', '.join(ON_THE_WIRE)} can")
    return wanted


async def _serve(options: argparse.Namespace, faults: tuple[Fault, ...]) -> None:
    from challenger.chain.devnet.served import ServedDevnet
    from challenger.sim.faults.engine import Engine
    from challenger.sim.faults.proxy import FaultyProxy, lasting

    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(
            ServedDevnet(options.host, options.port, count=options.accounts, interval=options.interval)
        )
        where = await _deploy(served) if options.deploy else None
        engine = Engine(options.seed, lasting(dict.fromkeys(faults, options.rate), options.endpoints))
        proxies = [
            await stack.enter_async_context(FaultyProxy(served.devnet.provider, engine, number))
            for number in range(options.endpoints if faults else 0)
        ]
        _tell(served, where, [proxy.url for proxy in proxies], as_json=options.json)
        await stop.wait()


async def _deploy(served: ServedDevnet) -> Deployment:
    from challenger.sim.deploy import MarketParams, deploy
    from challenger.sim.wallet import Wallet

    accounts, rpc = served.devnet.accounts, served.devnet.rpc
    signers = [accounts[number].address for number in _SIGNERS]
    return await deploy(rpc, Wallet(rpc, accounts[0].key, "deployer"), signers, MarketParams())


def _tell(served: ServedDevnet, where: Deployment | None, faulty: list[str], *, as_json: bool) -> None:
    listed = [{"address": a.address, "key": "0x" + a.key.hex()} for a in served.devnet.accounts]
    if as_json:
        facts = (
            {} if where is None else {"market": where.market, "anchor": where.anchor, "start_block": where.start_block}
        )
        print_json({"url": served.url, "accounts": listed} | ({"faulty": faulty} if faulty else {}) | facts)
        return
    print(f"Devnet at {served.url}; these keys are public, never use them elsewhere:")
    for one in listed:
        print(f"  {one['address']}  {one['key']}")
    for url in faulty:
        print(f"Faulty endpoint at {url}")
    if where is not None:
        names = ", ".join(f'"{url}"' for url in faulty or [served.url])
        print("The reference protocol stands on it. For challenger.toml:")
        print(f"[chain]\nrpc = [{names}]\nembedded = {'false' if faulty else 'true'}\nchain_id = {where.chain}")
        print(f'market = "{where.market}"\nanchor = "{where.anchor}"\nstart_block = {where.start_block}')
    print("Stop with Ctrl-C.", flush=True)
