"""`challenger check`: everything the watcher needs, tried for real, in a table with an exit code."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from challenger.cli.common import ether, print_json, print_table, settings_of
from challenger.domain import Mode
from challenger.errors import ChallengerError, ConfigError, Expected
from challenger.hardening import no_core_dumps
from challenger.settings import Settings, addresses

#: Free space below which a check fails, in bytes.
_DISK = 1 << 30
#: Seconds by which this machine's clock may differ from the chain's newest block before it is said.
_SKEW = 120


class Row(NamedTuple):
    name: str
    ok: bool
    detail: str


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--no-replay", action="store_true", help="leave out the kernels' known-answer tests")


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    rows = asyncio.run(_all(settings, replay=not options.no_replay))
    fine = all(row.ok for row in rows)
    if options.json:
        print_json({"ok": fine, "checks": [row._asdict() for row in rows]})
    else:
        print_table("Checks", ["what", "", "detail"], [(r.name, "ok" if r.ok else "FAILED", r.detail) for r in rows])
        print("Ready." if fine else "Not ready: see the rows marked FAILED.")
    return 0 if fine else 1


async def _all(settings: Settings, *, replay: bool) -> list[Row]:
    rows = [Row("mode", ok=True, detail=str(settings.mode))]
    rows += [row async for row in _chain(settings)]
    rows.append(await _try("database", lambda: _database(settings)))
    rows.append(await _try("journal heads", lambda: _heads(settings)))
    rows.append(await _try("artefact cache", lambda: _cache(settings)))
    if replay:
        for backend in (settings.replay.backend, settings.replay.confirm_backend):
            rows.append(await _try(f"kernels: {backend}", partial(_kernels, settings, backend)))
    return rows


async def _try(name: str, attempt: Callable[[], Awaitable[str]]) -> Row:
    try:
        return Row(name, ok=True, detail=await attempt())
    except ChallengerError as error:
        return Row(name, ok=False, detail=str(error))


async def _chain(settings: Settings) -> AsyncIterator[Row]:
    from challenger.chain.endpoint import connect, mask_url
    from challenger.chain.rpc import Rpc
    from challenger.parts import load_signer

    chain = settings.chain
    async with AsyncExitStack() as stack:
        rpcs: list[Rpc] = []
        for url in chain.rpc:

            async def reach(url: str = url) -> str:
                rpc = await stack.enter_async_context(connect(url, chain_id=chain.chain_id, timeout=chain.timeout))
                rpcs.append(rpc)
                head = await rpc.block("latest")
                skew = int(time.time()) - head.time
                late = f", {skew} s off this machine's clock" if abs(skew) > _SKEW else ""
                return f"chain {chain.chain_id}, block {head.number}{late}"

            yield await _try(f"endpoint {mask_url(url)}", reach)

        async def contract() -> str:
            from challenger.domain import ChainId
            from challenger.protocols.reference import ReferenceAdapter

            addresses(settings)
            if not rpcs:
                raise Expected("no endpoint to ask")
            anchor = chain.anchor or None
            adapter = ReferenceAdapter(rpcs[0], ChainId(chain.chain_id), chain.market, anchor=anchor)
            await adapter.check()
            return f"code as expected; window {adapter.params.window} s; {'anchored' if anchor else 'no epoch anchor'}"

        yield await _try("contract", contract)

        async def signer() -> str:
            key = load_signer(settings)
            if key is None:
                return "none: mode watch"
            if not rpcs:
                raise Expected("no endpoint to ask for the balance")
            missing = "".join(f"; {what}" for what in no_core_dumps())
            balance = await rpcs[0].balance(key.address)
            if settings.mode is Mode.LIVE and balance < settings.filing.exposure:
                raise Expected(
                    f"{key.address} holds {ether(balance)} ETH, less than the exposure of "
                    f"{ether(settings.filing.exposure)} ETH"
                )
            return f"{key.address}, {ether(balance)} ETH{missing}"

        yield await _try("signer", signer)


async def _database(settings: Settings) -> str:
    from challenger.store.engine import open_store

    async with open_store(settings.store.url) as store:
        return f"{store.where}, schema up to date"


async def _heads(settings: Settings) -> str:
    folder = settings.store.heads.absolute().parent
    if not await asyncio.to_thread(folder.is_dir):
        raise ConfigError("the directory does not exist", directory=folder)
    return str(settings.store.heads)


async def _cache(settings: Settings) -> str:
    def look() -> tuple[Path, int]:
        folder = settings.replay.cache.absolute()
        while not folder.exists():
            folder = folder.parent
        return folder, shutil.disk_usage(folder).free

    folder, free = await asyncio.to_thread(look)
    if free < _DISK:
        raise Expected(f"only {free >> 20} MiB are free", directory=folder)
    return f"{settings.replay.cache}, {free >> 30} GiB free"


async def _kernels(settings: Settings, backend: str) -> str:
    from challenger.parts import replay_pool

    async with replay_pool(settings) as pool:
        failed = await pool.warm(backend)
        if failed is not None:
            raise Expected(f"{failed.reason}: {failed.detail}")
        isolation = ", ".join(f"{key} {value}" for key, value in sorted(pool.isolation().items()))
        return f"known answers hold; isolation: {isolation}"
