"""The watcher's lives: opened on faulty endpoints and a faulty database, stepped, killed, opened again."""

from __future__ import annotations

import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress

from challenger.app import App, opened
from challenger.chain.rpc import Rpc
from challenger.errors import ChallengerError, Expected, StoreError, TakenOver
from challenger.settings import Settings
from challenger.sim.faults.engine import Engine, Killed
from challenger.sim.faults.kinds import Fault
from challenger.sim.faults.provider import PATIENCE, FaultyProvider
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.store import inline
from replay.artifacts import ArtifactMissing, ArtifactReason, Routes
from replay.sandbox import Completed, Inconclusive, Reason, ReplayRequest


class FaultyWorkers(ToyWorkers):
    """Workers that die when it is their hour."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self._engine = engine

    async def replay(self, request: ReplayRequest) -> Completed | Inconclusive:
        self._engine.cross()
        if self._engine.strikes(Fault.WORKERS, "workers") is not None:
            return Inconclusive(Reason.CRASHED, "signal 9")
        return await super().replay(request)


class FaultyFiles(ToyFiles):
    """As the real store: what was had once is kept, and a silent server has another one asked whether our line is up. Nobody
    serves us while it is down. What is withheld is withheld in one of three manners, by its address: the server says so, says
    nothing, or refuses."""

    def __init__(self, engine: Engine, read: Callable[[bytes, str], bytes]) -> None:
        super().__init__(read)
        self._engine = engine
        self._routes = Routes()
        self._kept: dict[bytes, bytes] = {}

    async def fetch_bundle(self, uri: str, root: bytes, length: int, max_bytes: int = 0) -> bytes:
        if root not in self._kept:
            try:
                self._kept[root] = await self._asked(uri, root, length, max_bytes)
            except ArtifactMissing as error:
                if error.reason is ArtifactReason.NOT_FOUND:
                    self._routes.answered(uri)
                    raise
                error.meanwhile = self._routes.silent(uri)
                witness = self._routes.another(uri)
                if witness and self._engine.strikes(Fault.CUT_OFF, "cut-off") is None:
                    self._routes.answered(witness)
                raise
            self._routes.answered(uri)
        return self._kept[root]

    async def _asked(self, uri: str, root: bytes, length: int, max_bytes: int) -> bytes:
        if self._engine.strikes(Fault.CUT_OFF, "cut-off") is not None:
            raise ArtifactMissing(ArtifactReason.UNREACHABLE, uri=uri)
        try:
            return await super().fetch_bundle(uri, root, length, max_bytes)
        except ArtifactMissing:
            manner = hashlib.sha256(uri.encode()).digest()[0] % 3
            if manner == 0:
                raise
            if manner == 1:
                raise ArtifactMissing(ArtifactReason.UNREACHABLE, uri=uri) from None
            raise ArtifactMissing(ArtifactReason.STATUS, "HTTP 503", uri=uri) from None


class Life:
    """One account's watcher over all its processes. ``wall``: its machine's date. ``bugs``: what escaped that must not."""

    def __init__(
        self,
        settings: Settings,
        providers: list[FaultyProvider],
        files: ToyFiles,
        engine: Engine,
        seed: int,
        wall: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.providers = providers
        self.bugs: list[str] = []
        self.troubles: Counter[str] = Counter()
        self.starts = 0
        self._engine = engine
        self._wall = wall
        self._files = files
        self._workers = FaultyWorkers(engine)
        self._secrets = random.Random(f"secrets {seed}")  # noqa: S311  a simulated watcher's
        self._stack: AsyncExitStack | None = None
        self.app: App | None = None

    async def turn(self, *, operator: bool) -> bool:
        """One look of every loop of the service; True when something moved, or could not be looked at."""
        self._engine.doom()
        try:
            app = self.app or await self._open()
            return app is None or await self._round(app, operator=operator)
        except Killed:
            await self.end()
            return True

    async def end(self) -> None:
        """The process is no more; what it had open is let go without a word to the database."""
        self._engine.dead = True
        stack, self._stack, self.app = self._stack, None, None
        if stack is not None:
            with suppress(Killed, Exception):
                await stack.aclose()

    async def _open(self) -> App | None:
        """As a supervisor does: started again at every turn until it comes up."""
        self._engine.born()
        self.starts += 1
        rpcs = [Rpc(one, name=one.name, timeout=PATIENCE, backoff=0.0, patience=0.0) for one in self.providers]
        stack = AsyncExitStack()
        try:
            app = await stack.enter_async_context(
                opened(
                    self.settings,
                    rpc=rpcs[0],
                    others=rpcs[1:],
                    files=self._files,
                    workers=self._workers,
                    engine=lambda url, _: inline.engine(url, self._engine.gate),
                    entropy=self._secrets.randbytes,
                    monotonic=self._engine.clock,
                    wall=self._wall,
                )
            )
        except ChallengerError as error:
            self.troubles[type(error).__name__] += 1
            return None
        self._stack, self.app = stack, app
        return app

    async def _round(self, app: App, *, operator: bool) -> bool:
        moved = judged = False
        for number, look in enumerate((app.step, app.gather, app.investigate, app.step)):
            if number == 3 and not judged:
                break  # nothing was judged since the chain's loop had its turn
            try:
                judged = await look()
                moved |= judged
            except TakenOver as error:
                self.bugs.append(f"taken over although alone: {error}")
            except (Expected, StoreError) as error:
                moved = True
                self.troubles[str(error)[:60]] += 1
            except Exception:  # noqa: BLE001 - whatever else escapes is a finding
                self.bugs.append(traceback.format_exc(limit=-3))
        if operator:
            try:
                moved |= await app.approve("", "operator", "looked at it") > 0
            except (Expected, StoreError):
                moved = True
        return moved
