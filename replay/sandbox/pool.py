"""The pool: a few warm workers per backend, requests in the order in which they came."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from replay.backends import BACKENDS
from replay.errors import BackendRefused
from replay.kernels import native_build
from replay.sandbox.outcome import Completed, Described, Inconclusive, Limits, Reason, ReplayRequest, one_line
from replay.sandbox.process import WorkerFailed, WorkerProcess
from replay.sandbox.protocol import MAX_DESCRIPTION, ProtocolError, parse_facts, parse_receipt, parse_refusal

WORKER = ("-m", "replay.worker")
_Answer = TypeVar("_Answer")


@dataclass(slots=True)
class _Slot:
    """A place for one process; it is filled when it is first needed and again after a failure."""

    worker: WorkerProcess | None = None


class ReplayPool:
    """Replays in separate processes; an async context manager. Whatever a worker does, callers get an outcome.

    ``workers`` warm processes per backend and ``fresh`` one-shot ones at a time overall; ``command`` is what Python
    is given to run (the seam for workers that misbehave in tests).
    """

    def __init__(
        self,
        *,
        workers: int = 1,
        fresh: int = 1,
        limits: Limits | None = None,
        backends: tuple[str, ...] = BACKENDS,
        command: tuple[str, ...] = WORKER,
    ) -> None:
        self._limits = limits or Limits()
        self._command = command
        self._workers = workers
        self._backends = backends
        self._lanes: dict[str, asyncio.Queue[_Slot]] = {}
        self._fresh_count = fresh
        self._fresh: asyncio.Queue[_Slot] = asyncio.Queue()
        for _ in range(fresh):
            self._fresh.put_nowait(_Slot())
        self._running: set[WorkerProcess] = set()
        self._isolation: dict[str, str] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process; requests still under way end as ``Inconclusive``."""
        self._closed = True
        await asyncio.gather(*(worker.kill() for worker in tuple(self._running)))
        for places in (self._fresh, *self._lanes.values()):
            count = self._fresh_count if places is self._fresh else self._workers
            slots = [await places.get() for _ in range(count)]  # whoever held one has had an answer now
            for slot in slots:
                await self._end(slot)
                places.put_nowait(slot)

    def isolation(self) -> dict[str, str]:
        """What confines the workers, as the last one started reported it; empty before any was."""
        return dict(self._isolation)

    async def warm(self, backend: str) -> Inconclusive | None:
        """Start one worker of ``backend`` ahead of the first request; None when it is ready."""
        lane = self._lane(backend)
        if lane is None:
            return _no_backend(backend)
        slot = await lane.get()
        try:
            await self._worker(slot, backend)
        except WorkerFailed as failure:
            await self._end(slot)
            return Inconclusive(failure.reason, failure.detail)
        except BaseException:
            await self._end(slot)
            raise
        finally:
            lane.put_nowait(slot)
        return None

    async def replay(self, request: ReplayRequest, seconds: float | None = None) -> Completed | Inconclusive:
        """Check the model against what ``request`` promises and run it. ``seconds`` replaces the pool's wall limit; they
        count from the moment a worker takes the request. Cancelling ends only that worker."""
        return await self._ask("replay", request, request.input + request.claim, seconds, _completed)

    async def describe(self, request: ReplayRequest, seconds: float | None = None) -> Described | Inconclusive:
        """What the model of ``request`` is: the same checks, nothing executed."""
        return await self._ask("describe", request, b"", seconds, _described)

    async def encode(
        self, request: ReplayRequest, text: bytes, seconds: float | None = None
    ) -> Described | Inconclusive:
        """``ids`` of a text (UTF-8) by the tokenizer of the model of ``request``, of which the file digest is checked, and ``by``
        which package."""
        return await self._ask("encode", request, text, seconds, _ids)

    async def decode(
        self, request: ReplayRequest, ids: Sequence[int], seconds: float | None = None
    ) -> Described | Inconclusive:
        """``text`` of these ids, each 32 bits, likewise."""
        return await self._ask("decode", request, struct.pack(f"<{len(ids)}i", *ids), seconds, _text)

    async def bench(
        self, request: ReplayRequest, rounds: int, seconds: float | None = None
    ) -> Described | Inconclusive:
        """Times of the model of ``request`` on its backend, on both grids and beside ordinary torch (``replay.bench``).
        Nothing promised about the model is checked but its file digest; the limits are those of one request."""
        return await self._ask("bench", request, request.input, seconds, _described, rounds=rounds)

    async def _ask(
        self,
        op: str,
        request: ReplayRequest,
        body: bytes,
        seconds: float | None,
        read: Callable[[dict[str, Any], bytes], _Answer],
        **more: int,
    ) -> _Answer | Inconclusive:
        lane = self._lane(request.backend)
        if lane is None:
            return _no_backend(request.backend)
        if len(body) > self._limits.answer_bytes:
            return Inconclusive(Reason.INPUT_REJECTED, f"an input of {len(body)} bytes is over the limit")
        header = {
            "op": op,
            "manifest": str(request.manifest.absolute()),
            "file_digest": _hex(request.file_digest),
            "program_root": _hex(request.program_root),
            "artefact_root": _hex(request.artefact_root),
            "spec_version": request.spec_version,
            "input_bytes": len(request.input),
            "seed": request.seed.hex(),
            **more,
        }
        places = self._fresh if request.fresh else lane
        slot = await places.get()
        try:
            worker = await self._worker(slot, request.backend)
            wall = self._limits.wall_seconds if seconds is None else seconds
            most = self._limits.answer_bytes if op == "replay" else MAX_DESCRIPTION
            answer, data = await worker.call(header, body, wall, most)
            if answer.get("status") == "inconclusive":
                reason, detail = parse_refusal(answer)
                if reason in (Reason.MEMORY, Reason.CRASHED):
                    await self._end(slot)  # its state is not to be trusted any more
                return Inconclusive(reason, detail)
            return await asyncio.to_thread(read, answer, data)
        except WorkerFailed as failure:
            await self._end(slot)
            return Inconclusive(failure.reason, failure.detail)
        except ProtocolError as error:
            await self._end(slot)
            return Inconclusive(Reason.PROTOCOL, one_line(str(error)))
        except BaseException:
            await self._end(slot)
            raise
        finally:
            try:
                if request.fresh:
                    await self._end(slot)
            finally:
                places.put_nowait(slot)

    async def _worker(self, slot: _Slot, backend: str) -> WorkerProcess:
        if slot.worker is not None and not slot.worker.alive:
            await self._end(slot)  # it died while idle, which is nobody's verdict
        if self._closed:
            raise WorkerFailed(Reason.CRASHED, "the pool is closed")
        if slot.worker is None:
            slot.worker = await WorkerProcess.spawn(self._command, self._limits, await _compiled(backend))
            self._running.add(slot.worker)
            if self._closed:
                raise WorkerFailed(Reason.CRASHED, "the pool was closed")
            await slot.worker.greet(backend)
            self._isolation = slot.worker.isolation
        return slot.worker

    async def _end(self, slot: _Slot) -> None:
        worker, slot.worker = slot.worker, None
        if worker is not None:
            try:
                await worker.kill()
            finally:
                self._running.discard(worker)

    def _lane(self, backend: str) -> asyncio.Queue[_Slot] | None:
        if backend not in self._backends:
            return None
        if backend not in self._lanes:
            lane = self._lanes[backend] = asyncio.Queue()
            for _ in range(self._workers):
                lane.put_nowait(_Slot())
        return self._lanes[backend]


async def _compiled(backend: str) -> dict[str, str]:
    """What a worker of a compiled backend has to be told: it may not compile for itself. Raises ``WorkerFailed``."""
    if not backend.startswith("native"):
        return {}
    try:
        path, digest = await asyncio.to_thread(native_build.build)
    except BackendRefused as error:
        raise WorkerFailed(Reason.BACKEND_REFUSED, str(error)) from error
    return {native_build.VARIABLE: f"{path}:{digest}"}


def _completed(header: dict[str, Any], body: bytes) -> Completed:
    return Completed(parse_receipt(header, body))


def _described(header: dict[str, Any], body: bytes) -> Described:
    return Described(parse_facts(header, body))


def _ids(header: dict[str, Any], body: bytes) -> Described:
    facts = parse_facts(header, body)
    ids = facts.get("ids")
    if not isinstance(ids, list) or not all(type(one) is int and 0 <= one < 1 << 31 for one in ids):
        raise ProtocolError("its ids are not a list of numbers")
    if not isinstance(facts.get("by"), str):
        raise ProtocolError("it names nothing that made them")
    return Described({"ids": ids, "by": one_line(facts["by"])})


def _text(header: dict[str, Any], body: bytes) -> Described:
    facts = parse_facts(header, body)
    if not isinstance(facts.get("text"), str):
        raise ProtocolError("its text is none")
    return Described(facts)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()


def _no_backend(backend: str) -> Inconclusive:
    return Inconclusive(Reason.BACKEND_REFUSED, f"there is no backend {one_line(backend)!r}")
