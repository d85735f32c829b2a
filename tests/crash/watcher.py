"""A watcher in a process of its own, driven turn by turn from the stage, and killed by itself where it is told to die.

It is forked before the stage has an event loop and waits; ``Driven`` is the stage's end of it. Every crossing is told
before the blow falls, so the stage knows the point of death; the blow is a real ``SIGKILL``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from challenger.app import App, opened
from challenger.filings import decided, waiting
from challenger.settings import Settings
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.store import inline
from challenger.store.backup import backup
from challenger.store.crossing import Hook, Moment
from challenger.store.engine import create_engine

#: One crossing: the names of the transaction or act, and whether before or after it.
Crossed = tuple[tuple[str, ...], str]


@dataclass
class Driven:
    """One watcher process, seen from the stage. ``crossed``: what it has told, in order. ``standing``: what the stage does
    while it stands still at each of them."""

    pid: int
    sock: socket.socket
    crossed: list[Crossed] = field(default_factory=list)
    standing: Callable[[], None] | None = None
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def start(
        self, url: str, store_url: str, heads: str, dies_at: int | None, copies: tuple[str, str] | None
    ) -> bool | None:
        """``dies_at``: the number of the crossing at which it kills itself, from 0; ``copies``: after which crossings it
        copies its record, and where to. None when it died at once: nothing is said to it before it answers, so
        that its death leaves nothing unread, which would look like an error."""
        self.reader, self.writer = await asyncio.open_connection(sock=self.sock)
        stands = self.standing is not None
        self._tell(
            {"rpc": url, "store": store_url, "heads": heads, "dies_at": dies_at, "copies": copies, "stands": stands}
        )
        return await self._answer()

    async def turn(self) -> bool | None:
        """One turn of everything: True when something moved, None when it is dead."""
        return await self.told("turn")

    async def publish(self) -> bool | None:
        """Publishes the journal's head; None when it is dead."""
        return await self.told("publish")

    async def told(self, what: str) -> bool | None:
        """Does ``what``, as ``_does`` has it: True when something moved, None when it is dead."""
        self._tell(what)
        return await self._answer()

    async def stop(self) -> None:
        """The end: it stops by itself."""
        self._tell("stop")
        await self._answer()
        self.buried(0)

    def buried(self, expected: int = -signal.SIGKILL) -> None:
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code == expected, f"the watcher ended with {code}"
        if self.writer is not None:
            self.writer.close()

    def unused(self) -> None:
        self.sock.close()
        os.waitpid(self.pid, 0)

    def _tell(self, what: Any) -> None:
        assert self.writer is not None
        self.writer.write(json.dumps(what).encode() + b"\n")

    async def _answer(self) -> bool | None:
        assert self.reader is not None
        while line := await self.reader.readline():
            said = json.loads(line)
            if "crossed" in said:
                self.crossed.append((tuple(said["crossed"]), said["moment"]))
            elif "stands" in said:
                assert self.standing is not None
                self.standing()
                self._tell("on")
            elif "error" in said:
                raise AssertionError(f"the watcher failed: {said['error']}")
            else:
                return bool(said["moved"])
        return None


def fork(settings: Settings, *, in_turn: bool) -> Driven:
    """A watcher that waits for ``start``; to be called where no event loop runs and no other thread lives. ``in_turn``: it
    keeps SQLite in its own turn, which leaves the same file at each death as a thread does, for two thirds of the time."""
    ours, its = socket.socketpair()
    pid = os.fork()
    if pid:
        its.close()
        return Driven(pid, ours)
    code = 1
    try:
        ours.close()
        code = _live(its, settings, in_turn=in_turn)
    finally:
        os._exit(code)


def _live(sock: socket.socket, settings: Settings, *, in_turn: bool) -> int:
    lines = sock.makefile("rb")
    first = lines.readline()
    if not first:
        return 0  # not needed
    said = json.loads(first)

    def tell(what: dict[str, Any]) -> None:
        sock.sendall(json.dumps(what).encode() + b"\n")

    try:
        asyncio.run(_serve(lines, tell, _aimed(settings, said), _hook(lines, tell, said), in_turn=in_turn))
    except BaseException as error:  # noqa: BLE001 - its last words
        tell({"error": repr(error)})
        return 1
    return 0


def _aimed(settings: Settings, said: dict[str, Any]) -> Settings:
    store = replace(settings.store, url=said["store"], heads=Path(said["heads"]))
    return replace(settings, chain=replace(settings.chain, rpc=(said["rpc"],)), store=store)


def _hook(lines: Any, tell: Callable[[dict[str, Any]], None], said: dict[str, Any]) -> Hook:
    copied, target = said["copies"] or ("", "")
    count = 0

    def hook(names: tuple[str, ...], moment: Moment) -> None:
        nonlocal count
        tell({"crossed": names, "moment": moment})
        if copied in names and moment is Moment.AFTER:
            backup(said["store"], Path(target), force=True)
        if count == said["dies_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if said["stands"]:
            tell({"stands": True})
            lines.readline()  # until the stage says "on"
        count += 1

    return hook


async def _serve(
    lines: Any, tell: Callable[[dict[str, Any]], None], settings: Settings, hook: Hook, *, in_turn: bool
) -> None:
    engine = (lambda url, _: inline.engine(url)) if in_turn else create_engine
    async with opened(settings, files=ToyFiles(), workers=ToyWorkers(), crossing=hook, engine=engine) as app:
        tell({"moved": True})
        while (what := json.loads(lines.readline() or '"stop"')) != "stop":
            tell({"moved": await _does(app, what)})
    tell({"moved": False})


async def _does(app: App, what: str) -> bool:
    match what:
        case "turn":
            return await _turn(app)
        case "publish":
            await app.publish((await app.rpc.block("latest")).time)
            return True
        case "approve":  # a person lifts whatever is paused
            return await app.approve("", "ada", "looked at") > 0
        case "decide":  # a person's word in mode confirm on all that wants one
            asked = [one for one in await waiting(app.store, app.settings) if one.decision != "approved"]
            for one in asked:
                await decided(app.store, app.settings, one.commitment, approved=True, person="ada", note="")
            return bool(asked)
        case _:
            raise ValueError(what)


async def _turn(app: App) -> bool:
    moved = await app.step()
    await app.gather()
    moved |= await app.investigate()
    moved |= await app.step()
    await app.telemetry.alerts.deliver()
    return moved
