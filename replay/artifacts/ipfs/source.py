"""``ipfs://CID[/path]`` as a source of the store: blocks from several gateways, each checked, written in the file's order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from replay.artifacts.errors import (
    ArtifactError,
    ArtifactMissing,
    ArtifactReason,
    ArtifactRefused,
    ArtifactTooLarge,
    ArtifactUnreadable,
)
from replay.artifacts.ipfs.cid import Block, Cid
from replay.artifacts.ipfs.errors import CidRefused, DagTooLarge, IpfsError, NoSuchEntry
from replay.artifacts.ipfs.gateway import CarIndex, Gateway
from replay.artifacts.ipfs.walk import FileWalk, child

_MAX_PATH = 32
#: how much of a file one CAR request may exceed it by: the blocks' frames, and the nodes above the leaves
_FRAMES = 8

Temporary = Callable[[], AbstractContextManager[tuple[Path, BinaryIO]]]
_Value = TypeVar("_Value")


class IpfsSource:
    """``temporary`` gives scratch files; ``timeout`` (seconds) bounds one fetch, of which a gateway that is silent uses up
    a part; ``parallel`` blocks are fetched at once; files from ``car_from`` bytes on are asked for as one CAR first."""

    def __init__(
        self,
        gateways: Sequence[Gateway],
        temporary: Temporary,
        *,
        timeout: float,
        parallel: int = 8,
        car_from: int = 16 << 20,
    ) -> None:
        self._gateways = tuple(gateways)
        self._temporary = temporary
        self._timeout = timeout
        self._parallel = parallel
        self._car_from = car_from

    async def copy(self, uri: str, into: BinaryIO, max_bytes: int) -> None:
        """As ``Source.copy``. Only where every gateway says that it has not got a block is that ``not-found``: anything else
        that keeps blocks from us is ``gateways``, since it says something of them and of nobody else."""
        cid, path = address(uri)
        with ExitStack() as scratch:
            await self._bounded(uri, self._copy(cid, path, into, max_bytes, scratch))

    async def resolve(self, uri: str) -> Cid:
        """The CID at the end of the address's path; without a path nothing is fetched. Raises as ``copy``."""
        cid, path = address(uri)
        return await self._bounded(uri, _resolve(_Fetch(self._gateways, self._timeout), cid, path))

    async def close(self) -> None:
        for one in self._gateways:
            await one.close()

    async def _bounded(self, uri: str, work: Awaitable[_Value]) -> _Value:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError as error:
            raise ArtifactMissing(ArtifactReason.GATEWAYS, f"not within {self._timeout:g} s", uri=uri) from error
        except DagTooLarge as error:
            raise ArtifactTooLarge(ArtifactReason.SIZE, error.detail, uri=uri) from error
        except NoSuchEntry as error:
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, str(error), uri=uri) from error
        except IpfsError as error:
            raise ArtifactUnreadable(ArtifactReason.DAG, str(error), uri=uri) from error
        except ArtifactError as error:
            raise type(error)(error.reason, error.detail, uri=uri, faults=error.faults) from error

    async def _copy(self, cid: Cid, path: tuple[str, ...], into: BinaryIO, max_bytes: int, scratch: ExitStack) -> None:
        fetch = _Fetch(self._gateways, self._timeout)
        file = await _resolve(fetch, cid, path)
        walk = FileWalk(file, max_bytes=max_bytes)
        await asyncio.to_thread(_take, walk, await fetch.block(file), into)
        assert walk.size is not None
        if walk.wanted is not None and walk.size >= self._car_from:
            place = await asyncio.to_thread(scratch.enter_context, self._temporary())
            await fetch.spool(file, walk.size, place)
        await self._walk(fetch, walk, into)

    async def _walk(self, fetch: _Fetch, walk: FileWalk, into: BinaryIO) -> None:
        """Blocks are asked for before it is their turn, and taken when it is."""
        asked: dict[Cid, asyncio.Task[Block]] = {}
        try:
            while (cid := walk.wanted) is not None:
                for one in walk.upcoming(self._parallel):
                    if one not in asked and (len(asked) < 2 * self._parallel or one == cid):
                        asked[one] = asyncio.create_task(fetch.block(one))
                block = await asked[cid]
                await asyncio.to_thread(_take, walk, block, into)
                if cid not in walk.upcoming(self._parallel):
                    del asked[cid]
        finally:
            for task in asked.values():
                task.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)


class _Fetch:
    """One fetch: gateways that failed are asked last from then on."""

    def __init__(self, gateways: Sequence[Gateway], timeout: float) -> None:
        self._order = list(gateways)
        self._share = timeout / (len(gateways) + 1)
        self._car: CarIndex | None = None

    async def block(self, cid: Cid) -> Block:
        if self._car is not None:
            with contextlib.suppress(IpfsError):  # it came from a gateway: others have the block
                if (found := await asyncio.to_thread(self._car.block, cid)) is not None:
                    return found
        faults: list[tuple[str, ArtifactError]] = []
        for gateway in tuple(self._order):
            try:
                async with asyncio.timeout(self._share):
                    return await gateway.block(cid)
            except TimeoutError:
                faults.append((gateway.name, ArtifactMissing(ArtifactReason.TIMEOUT)))
            except ArtifactError as error:
                faults.append((gateway.name, error))
            self._order.remove(gateway)
            self._order.append(gateway)
        if all(fault.reason is ArtifactReason.NOT_FOUND for _, fault in faults):
            raise ArtifactMissing(ArtifactReason.NOT_FOUND, f"no gateway has the block {cid}")
        told = "; ".join(f"{name} [{fault.reason}]" for name, fault in faults)
        reasons = [fault.reason for _, fault in faults]
        raise ArtifactMissing(ArtifactReason.GATEWAYS, f"block {cid}: {told}"[:400], faults=reasons)

    async def spool(self, cid: Cid, size: int, place: tuple[Path, BinaryIO]) -> None:
        """One request in place of thousands, where a gateway has it. Of what came before it broke off or lied each block
        counts; what is missing after that is fetched block by block."""
        path, opened = place
        for gateway in tuple(self._order):
            try:
                async with asyncio.timeout(self._share):
                    if not await gateway.car(cid, opened, size + size // _FRAMES + (1 << 20)):
                        continue
            except (TimeoutError, ArtifactError):
                pass  # not the last word: the blocks decide
            await asyncio.to_thread(opened.flush)
            car = CarIndex(path)
            if await asyncio.to_thread(car.scan):
                self._car = car
                return
            await asyncio.to_thread(_empty, opened)


async def _resolve(fetch: _Fetch, cid: Cid, path: tuple[str, ...]) -> Cid:
    for name in path:
        cid = await asyncio.to_thread(child, await fetch.block(cid), name)
    return cid


def address(uri: str) -> tuple[Cid, tuple[str, ...]]:
    """The CID and the path of ``ipfs://CID/path``; a query does not count. Raises ``ArtifactRefused``."""
    try:
        parts = urlsplit(uri)
        cid = Cid.parse(parts.netloc)
    except CidRefused as error:
        raise ArtifactRefused(ArtifactReason.SCHEME, f"write ipfs://CID/path: {error}", uri=uri) from error
    except ValueError as error:
        raise ArtifactRefused(ArtifactReason.SCHEME, "the address does not parse", uri=uri) from error
    path = tuple(unquote(part) for part in parts.path.split("/") if part)
    if len(path) > _MAX_PATH:
        raise ArtifactRefused(ArtifactReason.SCHEME, f"a path of {len(path)} names, {_MAX_PATH} allowed", uri=uri)
    return cid, path


def _take(walk: FileWalk, block: Block, into: BinaryIO) -> None:
    into.write(walk.give(block))


def _empty(opened: BinaryIO) -> None:
    opened.seek(0)
    opened.truncate()
