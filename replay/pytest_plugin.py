"""A pytest plugin for recorded runs (docs/recordings.md, "In your tests"): ``recording``, ``assert_replays``,
``--record-traces``.

It is loaded into every test run where this package is installed, so nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from replay.recording import Recording
    from replay.recording.again import Job
    from replay.recording.verify import Replays

#: How a test's report tells what became of a recording: also across the processes of xdist.
_PROPERTY = "recording"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("recordings", "recorded runs")
    group.addoption(
        "--record-traces",
        action="store_true",
        help="assert_replays records its runs anew from the model it is given, in place of comparing with it",
    )


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Iterator[Callable[[str | Path], Recording]]:
    """``recording("runs.tar")``: the recording at that path, relative to the test's file, verified and open until the
    test ends. What is refused fails the test with one line."""
    with ExitStack() as stack:

        def opened(path: str | Path) -> Recording:
            from replay.recording import RecordingError, open_recording

            try:
                return stack.enter_context(open_recording(request.path.parent / path))
            except RecordingError as error:
                raise _refused(path, error) from None

        yield opened


@pytest.fixture
def assert_replays(request: pytest.FixtureRequest) -> AssertReplays:
    """``assert_replays("runs.tar", "model")``: every recorded run comes out again bit for bit. See ``AssertReplays``."""
    again: bool = request.config.getoption("--record-traces")
    return AssertReplays(request.path.parent, request.config.rootpath, request.node, again=again)


class AssertReplays:
    """Runs a recording again and compares every bit; with ``--record-traces`` it records it anew first. Paths are
    relative to the test's file."""

    def __init__(self, folder: Path, root: Path, item: pytest.Item, *, again: bool) -> None:
        self._folder, self._root, self._item, self._again = folder, root, item, again

    def __call__(
        self,
        recording: str | Path,
        model: str | Path | None = None,
        *,
        inputs: Sequence[Mapping[str, Any]] | None = None,
        seed: bytes = b"",
        backend: str = "numpy",
        embed: bool = True,
    ) -> None:
        """``model``: the folder (or manifest) of the model as it is today; without it the one in the recording is run.
        ``inputs``: arrays by name for each run (float32, int32 or int64), with ``seed`` (32 bytes) for those that ask for
        a text; they have to be the recorded ones, and ``--record-traces`` takes them; without them it takes those in the recording.
        ``embed``: whether the model's files go into the recording, so that a difference can be traced to its operator.

        A difference is an AssertionError with run, operator, tile, element and both values. A recording or a model that
        is refused fails the test with one line.
        """
        __tracebackhide__ = True
        from replay.errors import ReplayError
        from replay.recording import RecordingError

        said = ""
        try:
            said = self._complaint(Path(recording), model, inputs, seed, backend, embed)
        except RecordingError as error:
            raise _refused(recording, error) from None
        except (ReplayError, OSError) as error:
            raise _refused(recording if model is None else model, error) from None
        if said:
            raise AssertionError(said)

    def _complaint(
        self,
        name: Path,
        model: str | Path | None,
        inputs: Sequence[Mapping[str, Any]] | None,
        seed: bytes,
        backend: str,
        embed: bool,
    ) -> str:
        from replay.artifacts.manifest import MANIFEST_NAME
        from replay.recording import open_recording
        from replay.recording.asserted import complaint
        from replay.recording.verify import InProcess, verify

        path = self._folder / name
        manifest = None if model is None else self._folder / model
        manifest = manifest / MANIFEST_NAME if manifest is not None and manifest.is_dir() else manifest
        jobs = None if inputs is None else _jobs(inputs, seed)
        replays = InProcess(backend)
        if self._again and manifest is not None:
            self._record(path, manifest, replays, jobs, embed=embed)
        if jobs is not None and not path.exists():
            return f"{name} is not there: pytest --record-traces makes it"
        with open_recording(path) as opened:
            if jobs is not None and (other := _other_inputs(opened, jobs)):
                return f"{name} {other}: pytest --record-traces records them anew"
            return complaint(str(name), verify(opened, replays, manifest))

    def _record(self, path: Path, manifest: Path, replays: Replays, jobs: Sequence[Job] | None, *, embed: bool) -> None:
        from replay.recording.again import record_again

        made = record_again(path, manifest, replays, jobs, embed=embed)
        shown = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        what = "recorded anew" if made.written else "unchanged"
        told = f"{shown}: {what}, {made.runs} run{'' if made.runs == 1 else 's'}, digest {made.digest[:16]}"
        self._item.user_properties.append((_PROPERTY, told))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--record-traces"):
        return
    reports = (report for some in terminalreporter.stats.values() for report in some)
    told = [text for one in reports for key, text in getattr(one, "user_properties", ()) if key == _PROPERTY]
    terminalreporter.section("recordings (--record-traces)")
    for line in dict.fromkeys(told):
        terminalreporter.line(line)
    if not told:
        terminalreporter.line("no test that ran records anything")


def _jobs(inputs: Sequence[Mapping[str, Any]], seed: bytes) -> list[Job]:
    import numpy as np

    from replay.generate import asks
    from replay.layout import encode_bundle
    from replay.recording.again import Job

    arrays = [{name: np.asarray(value) for name, value in one.items()} for one in inputs]
    return [Job(encode_bundle(one), seed if asks(one) else b"") for one in arrays]


def _other_inputs(opened: Recording, jobs: Sequence[Job]) -> str:
    """How the recorded inputs are not those of the test, in words; empty where they are."""
    from replay.recording.runs import recorded_runs

    count = 0
    for run in recorded_runs(opened):
        if count < len(jobs) and (run.input, run.seed) != (jobs[count].input, jobs[count].seed):
            return f"holds another input or seed than the test gives for run {count}"
        count += 1
    return "" if count == len(jobs) else f"holds {count} runs, the test gives {len(jobs)} inputs"


def _refused(name: str | Path, error: Exception) -> BaseException:
    """A failure of one line, without a traceback: the fault lies in a file."""
    return pytest.fail.Exception(f"{name}: {error}", pytrace=False)
