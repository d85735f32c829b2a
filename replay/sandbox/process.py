"""One worker process as its parent sees it: started, asked, and ended with its whole group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from replay.sandbox.outcome import Limits, Reason, one_line
from replay.sandbox.protocol import PREFIX, ProtocolError, encode, lengths, parse_header, parse_refusal

_STDERR_TAIL = 2000
#: what else a worker may see of our environment; secrets live in the rest
_PASSED = ("LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "ATEN_CPU_CAPABILITY")


class WorkerFailed(Exception):
    """The process gave no usable answer; it must not be asked again."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = one_line(detail)


def environment(threads: int) -> dict[str, str]:
    """The whole environment of a worker: nothing secret, threads fixed, cuBLAS reproducible."""
    count = str(threads)
    modules = [str(Path(path).resolve()) for path in (os.fspath(Path(__file__).parents[2]), *sys.path)]
    return {
        **{name: os.environ[name] for name in _PASSED if name in os.environ},
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(modules)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
    }


class WorkerProcess:
    """A started worker. ``call`` is not re-entrant: its owner asks one thing at a time.

    The channel is a socket pair that serves the worker as standard input and output; it inherits nothing else.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channel: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        limits: Limits,
    ) -> None:
        assert process.stderr is not None
        self._process = process
        self._limits = limits
        self._in, self._out = channel
        self._stderr = bytearray()
        self._collecting = asyncio.create_task(self._collect(process.stderr))
        self._ending: asyncio.Task[None] | None = None
        self.isolation: dict[str, str] = {}

    @classmethod
    async def spawn(cls, command: tuple[str, ...], limits: Limits, more: Mapping[str, str] | None = None) -> Self:
        """Start ``python *command``, with ``more`` in its environment; it has to be greeted next. Raises
        ``WorkerFailed``."""
        ours, theirs = socket.socketpair()
        channel = await asyncio.open_connection(sock=ours, limit=1 << 20)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                *command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE,
                env=environment(limits.threads) | dict(more or {}),
                cwd="/",
                start_new_session=True,
            )
        except BaseException as error:
            channel[1].transport.abort()
            if isinstance(error, OSError):
                raise WorkerFailed(Reason.CRASHED, f"no process could be started: {error}") from error
            raise
        finally:
            theirs.close()
        return cls(process, channel, limits)

    async def greet(self, backend: str) -> None:
        """Hand over limits and backend and wait until the worker is confined and ready. Raises ``WorkerFailed``."""
        hello = {"op": "hello", "backend": backend, "limits": asdict(self._limits), "parent": os.getpid()}
        header, _ = await self.call(hello, b"", self._limits.start_seconds, 0)
        try:
            if header.get("status") == "inconclusive":
                raise WorkerFailed(*parse_refusal(header))
        except ProtocolError as error:
            raise WorkerFailed(Reason.PROTOCOL, str(error)) from error
        isolation = header.get("isolation")
        if header.get("status") != "ready" or not isinstance(isolation, dict):
            raise WorkerFailed(Reason.PROTOCOL, "it did not greet")
        self.isolation = {one_line(str(key)): one_line(str(value)) for key, value in isolation.items()}

    @property
    def alive(self) -> bool:
        return self._process.returncode is None and self._ending is None and not self._in.at_eof()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def call(
        self, header: dict[str, Any], body: bytes, seconds: float, max_answer: int
    ) -> tuple[dict[str, Any], bytes]:
        """Send one frame, return the next one, whose body has at most ``max_answer`` bytes. Raises ``WorkerFailed``, and the worker is to be killed then."""
        partial = False
        try:
            async with asyncio.timeout(seconds):
                with contextlib.suppress(ConnectionError):  # it died: reading tells how
                    self._out.write(encode(header, body))
                    await self._out.drain()
                prefix = await self._in.readexactly(PREFIX.size)
                partial = True
                header_length, body_length = lengths(prefix, max_answer)
                text = await self._in.readexactly(header_length)
                return parse_header(text), await self._in.readexactly(body_length)
        except TimeoutError as error:
            raise WorkerFailed(Reason.TIMEOUT, f"no answer within {seconds:g} s") from error
        except ProtocolError as error:
            raise WorkerFailed(Reason.PROTOCOL, str(error)) from error
        except asyncio.IncompleteReadError as error:
            raise await self._post_mortem(partial or bool(error.partial)) from error
        except ConnectionError as error:
            raise await self._post_mortem(partial) from error

    async def kill(self) -> None:
        """End the process and its group now and wait until they are gone; a cancellation waits for that too."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        try:
            await asyncio.shield(self._ending)
        except asyncio.CancelledError:
            await self._ending
            raise

    async def _end(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._out.transport.abort()
        await self._process.wait()
        await self._collecting
        with contextlib.suppress(ConnectionError):
            await self._out.wait_closed()

    async def _collect(self, stream: asyncio.StreamReader) -> None:
        while piece := await stream.read(1 << 14):
            self._stderr += piece
            del self._stderr[:-_STDERR_TAIL]

    async def _post_mortem(self, partial: bool) -> WorkerFailed:
        """Why the answer ended early. The channel closed, so the process is ending, or closed it on purpose."""
        try:
            async with asyncio.timeout(5):
                code = await self._process.wait()
        except TimeoutError:
            return WorkerFailed(Reason.PROTOCOL, "it closed its channel and went on")
        killed_by_us = self._ending is not None
        await self.kill()
        if killed_by_us:
            return WorkerFailed(Reason.CRASHED, "the pool was closed")
        said = self._stderr.decode("utf-8", "replace")
        last = one_line(said[-300:])
        if code == -signal.SIGXCPU:
            return WorkerFailed(Reason.TIMEOUT, f"more than {self._limits.cpu_seconds} s of CPU time")
        if "bad_alloc" in said or "MemoryError" in said or "allocate memory" in said or "memory allocation of" in said:
            return WorkerFailed(Reason.MEMORY, f"it died of memory: {last}")
        if code < 0:
            hint = "; perhaps the machine ran out of memory" if code == -signal.SIGKILL else ""
            return WorkerFailed(Reason.CRASHED, f"killed by {signal.Signals(-code).name}{hint} {last}")
        if partial:
            return WorkerFailed(Reason.PROTOCOL, f"it left in the middle of an answer, exit code {code} {last}")
        return WorkerFailed(Reason.CRASHED, f"it ended without an answer, exit code {code} {last}")
