"""A pytest plugin for watchers (docs/recordings.md, "In your tests"): ``devnet_world``, a market on an embedded chain
with honest and cheating providers and a challenger under the chain's clock; ``chain_recording``, recorded traffic.

It is loaded into every test run where this package is installed, so nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from challenger.pipeline.engine import Workers
    from challenger.recording.watch import Replayed
    from challenger.settings import Settings
    from challenger.sim.deploy import MarketParams
    from challenger.sim.small import SmallWorld
    from replay.recording import Recording

pytest_plugins = ("replay.pytest_plugin",)

#: What the embedded chain is made of; it comes with the extra.
_CHAIN = ("eth", "eth_tester")


class DevnetWorld(Protocol):
    """The type of the fixture ``devnet_world``."""

    def __call__(
        self, cheats: Sequence[str] = ..., *, tasks: int = ..., seed: int = ..., rules: MarketParams | None = ...
    ) -> AbstractAsyncContextManager[SmallWorld]: ...


@pytest.fixture
def devnet_world(tmp_path: Path) -> DevnetWorld:
    """A market with four honest providers and the cheats that one names, on an embedded chain of its own. Used as
    ``async with devnet_world(["nudge"]) as world``; ``world.challenger()`` opens a challenger on it. See
    ``challenger.sim.small``."""
    if any(find_spec(name) is None for name in _CHAIN):
        pytest.fail("the embedded chain is not installed: pip install 'inference-challenger[demo]'", pytrace=False)

    def opened(
        cheats: Sequence[str] = ("nudge",), *, tasks: int = 0, seed: int = 1, rules: MarketParams | None = None
    ) -> AbstractAsyncContextManager[SmallWorld]:
        from challenger.sim.small import small_world

        folder = Path(tempfile.mkdtemp(dir=tmp_path, prefix="world-"))
        return small_world(folder, cheats, tasks=tasks, seed=seed, rules=rules)

    return opened


class ChainRecording(Protocol):
    """The type of the fixture ``chain_recording``. ``expect``: the hash (hex) of the journal's last entry, which
    ``challenger replay`` prints; another one is an AssertionError that says what came of it. ``settings``: the policy,
    by default the program's; ``seed``: of what is drawn, by default the recording's digest; ``workers``: what runs the
    models, by default the confined processes that the settings ask for."""

    async def __call__(
        self,
        path: str | Path,
        *,
        expect: str = ...,
        settings: Settings | None = ...,
        seed: str = ...,
        workers: Workers | None = ...,
    ) -> Replayed: ...


@pytest.fixture
def chain_recording(recording: Callable[[str | Path], Recording], tmp_path: Path) -> ChainRecording:
    """The watcher run over a recorded chain under a simulated clock, as ``challenger replay`` does. Used as
    ``await chain_recording("may.tar", expect="5d26…")``, which gives what came of it. What is refused fails the test
    with one line."""

    async def replayed(
        path: str | Path,
        *,
        expect: str = "",
        settings: Settings | None = None,
        seed: str = "",
        workers: Workers | None = None,
    ) -> Replayed:
        __tracebackhide__ = True
        from challenger.errors import ChallengerError
        from challenger.parts import replay_pool
        from challenger.recording.watch import watching
        from challenger.settings import Settings
        from replay.recording import RecordingError

        given, opened = settings or Settings(), recording(path)
        folder = Path(tempfile.mkdtemp(dir=tmp_path, prefix="replay-"))
        try:
            async with AsyncExitStack() as stack:
                if workers is None:
                    workers = await stack.enter_async_context(replay_pool(given))
                watch = await stack.enter_async_context(watching(opened, given, folder, workers, seed=seed))
                found = await watch.play()
        except (RecordingError, ChallengerError) as error:
            raise pytest.fail.Exception(f"{path}: {error}", pytrace=False) from None
        wanted = expect.lower().removeprefix("0x")
        if wanted and wanted != found.head.hex():
            raise AssertionError(_another_journal(str(path), wanted, found))
        return found

    return replayed


def _another_journal(name: str, wanted: str, found: Replayed) -> str:
    rows = {"expected": wanted, "here": f"{found.head.hex()} after {found.entries} entries"}
    for key, counts in (("verdicts", found.verdicts), ("states", found.states)):
        rows[key] = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"
    rows["alerts"] = ", ".join(found.alerts) or "none"
    return "\n".join([f"{name} ends with another journal than expected", *(f"  {k:9} {v}" for k, v in rows.items())])
