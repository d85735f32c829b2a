"""The plugin for recorded runs, as a project uses it: pytest in pytest, in this process where that is enough."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy  # noqa: F401 - whatever an inner run loads first would be unloaded with it
from small_model import dense_model, rows
from test_recording_format import by_hand
from test_recording_runs import flipped, hand_files, recorded

import replay.pytest_plugin
from replay.errors import InputRejected
from replay.layout import encode_bundle
from replay.recording import RecordingExists, RecordingWriter, asserted, open_recording
from replay.recording.again import Job, record_again
from replay.recording.runs import recorded_runs
from replay.recording.verify import InProcess, Outcome

pytest_plugins = "pytester"
INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
TEST = """
    def test_it(assert_replays):
        assert_replays("runs.tar", "model")
"""
WITH_INPUTS = """
    INPUTS = [{"x": [[1.0, 2.0, 3.0, 4.0]]}, {"x": [[0.5] * 4] * 2}]
    import numpy as np
    INPUTS = [{"x": np.array(one["x"], np.float32)} for one in INPUTS]
    def test_it(assert_replays):
        assert_replays("runs.tar", "model", inputs=INPUTS)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model and the same with one bit of one weight flipped."""
    folder = tmp_path_factory.mktemp("models")
    model = dense_model(folder / "model")
    return model, flipped(model, folder / "flipped")


@pytest.fixture
def project(pytester, models):
    """A folder with the model, and a function that runs pytest there."""
    shutil.copytree(models[0].parent, pytester.path / "model")
    pytester.makeini(INI)

    def run(*options, test=TEST, where=pytester.runpytest_inprocess):
        pytester.makepyfile(test_it=test)
        return where("-p", "replay.pytest_plugin", "-p", "no:cacheprovider", *options)

    run.path = pytester.path
    run.subprocess = lambda *options, test=TEST: run(*options, test=test, where=pytester.runpytest_subprocess)
    return run


def ones(wide):
    return encode_bundle({"x": np.ones((1, wide), np.float32)})


def change(project, models):
    shutil.rmtree(project.path / "model")
    shutil.copytree(models[1].parent, project.path / "model")


def test_what_was_recorded_comes_out_again(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(2), rows(1)])
    project().assert_outcomes(passed=1)
    project(test="def test_it(assert_replays): assert_replays('runs.tar')").assert_outcomes(passed=1)


def test_a_flipped_weight_bit_is_told_with_operator_tile_and_both_values(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(2)])
    change(project, models)
    result = project()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       assert_replays("runs.tar", "model")',
            "E       AssertionError: runs.tar does not replay: 1 of 1 runs differ",
            "E       run 0 differs in model, output, state",
            "E         operator  0: linear, value v0.linear",
            "E         tile      0",
            "E         element   1",
            "E         recorded  ???????? (*.*)",
            "E         here      ???????? (*.*)",
            "E         the model is another: artefact_root * recorded, * here",
        ],
        consecutive=False,
    )
    assert "complaint" not in result.stdout.str(), "the plugin's own frames are left out"


def test_without_the_recorded_model_the_output_is_told_and_how_to_know_more(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(2)], embed=False)
    change(project, models)
    result = project()
    result.stdout.fnmatch_lines(["E  * output y differs in *", "E  * record the runs with their model"])


def test_of_many_differing_runs_three_are_explained():
    outcomes = [Outcome(number, ("output",), ("output y differs",)) for number in range(9)]
    said = asserted.complaint("r", [Outcome(9), *outcomes])
    assert said.splitlines()[0] == "r does not replay: 3 of 4 runs differ, and no further one was looked at"
    assert said.count("run ") == 3
    assert asserted.complaint("r", [Outcome(0), Outcome(1)]) == ""


@pytest.mark.parametrize("fixture", ["assert_replays", "recording"])
def test_a_damaged_recording_is_one_line(project, models, fixture):
    path = recorded(project.path / "runs.tar", models[0], [rows(1)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    result = project(test=f"def test_it({fixture}): {fixture}('runs.tar')")
    result.assert_outcomes(failed=1)
    lines = result.stdout.lines
    told = lines[next(n for n, line in enumerate(lines) if "test_it __" in line) + 1 :]
    assert told[0].startswith("runs.tar: the recording is ")
    assert told[1].startswith("====")


def test_a_model_that_is_refused_is_one_line(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(1)])
    (project.path / "model" / "model.onnx").write_bytes(b"another")
    result = project()
    result.stdout.fnmatch_lines(["model: a model file is not the one its digest names*"])
    assert "Traceback" not in result.stdout.str()


def test_a_recording_is_handed_on_open_and_closed_again(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(1)])
    test = """
        held = []
        def test_open(recording):
            held.append(recording("runs.tar"))
            assert len(list(held[0].lines("runs.jsonl.zst"))) == 1
        def test_closed():
            try:
                list(held[0].lines("runs.jsonl.zst"))
            except ValueError as error:
                assert "closed" in str(error)
            else:
                raise AssertionError("still open")
    """
    project(test=test).assert_outcomes(passed=2)


def test_record_traces_makes_keeps_and_renews(project, models):
    path = project.path / "runs.tar"
    result = project(test=WITH_INPUTS)
    result.stdout.fnmatch_lines(["E * runs.tar is not there: pytest --record-traces makes it"])
    made = project("--record-traces", test=WITH_INPUTS)
    made.assert_outcomes(passed=1)
    made.stdout.fnmatch_lines(["*= recordings (--record-traces) =*", "runs.tar: recorded anew, 2 runs, digest *"])
    first = path.read_bytes()
    project(test=WITH_INPUTS).assert_outcomes(passed=1)
    project("--record-traces").stdout.fnmatch_lines(["runs.tar: unchanged, 2 runs, digest *"])
    assert path.read_bytes() == first
    change(project, models)
    project(test=WITH_INPUTS).assert_outcomes(failed=1)
    project("--record-traces").stdout.fnmatch_lines(["runs.tar: recorded anew, 2 runs, *"])
    assert path.read_bytes() != first
    project(test=WITH_INPUTS).assert_outcomes(passed=1)
    assert sorted(p.name for p in project.path.iterdir() if "runs" in p.name) == ["runs.tar"]


def test_inputs_that_are_not_the_recorded_ones_are_told(project, models):
    recorded(project.path / "runs.tar", models[0], [rows(1), rows(2)])
    project(test=WITH_INPUTS).stdout.fnmatch_lines(["E * another input or seed than the test gives for run 0*"])
    fewer = WITH_INPUTS.replace("inputs=INPUTS", "inputs=[]")
    project(test=fewer).stdout.fnmatch_lines(["E * holds 2 runs, the test gives 0 inputs*"])


def test_where_nothing_records_the_summary_says_so(project):
    result = project("--record-traces", test="def test_it(): pass")
    result.stdout.fnmatch_lines(["no test that ran records anything"])
    assert "recordings" not in project(test="def test_it(): pass").stdout.str()


def test_two_workers_of_xdist_record_once(project, models, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # three processes start, with what they need
    test = TEST + TEST.replace("test_it", "test_too").replace('"model"', '"model", inputs=INPUTS')
    project.path.joinpath("conftest.py").write_text(
        "import builtins, numpy as np\nbuiltins.INPUTS = [{'x': np.ones((1, 4), np.float32)}]\n"
    )
    recorded(project.path / "runs.tar", models[1], [ones(4)])
    result = project.subprocess("-p", "xdist", "--record-traces", "-n", "2", "--dist", "each", test=test)
    result.assert_outcomes(passed=4)
    told = [line for line in result.stdout.lines if line.startswith("runs.tar: ")]
    assert [line.split(", ")[0] for line in sorted(told)] == ["runs.tar: recorded anew", "runs.tar: unchanged"]
    with open_recording(project.path / "runs.tar") as opened:
        assert len(list(recorded_runs(opened))) == 1


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_asynchronous_tests_use_it_in_both_modes(project, models, mode):
    recorded(project.path / "runs.tar", models[0], [rows(1)])
    test = f"""
        import pytest
        {"" if mode == "auto" else "@pytest.mark.asyncio"}
        async def test_it(assert_replays, recording):
            assert_replays("runs.tar", "model")
            assert recording("runs.tar").manifest.kinds == ("runs",)
    """
    project("-o", f"asyncio_mode={mode}", test=test).assert_outcomes(passed=1)


# ---- recording anew, without pytest ------------------------------------------------------------------------------------


def test_of_many_at_once_one_writes(models, tmp_path):
    path, jobs = tmp_path / "runs.tar", [Job(rows(1)), Job(rows(3))]
    recorded(path, models[1], [rows(1)])
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: record_again(path, models[0], InProcess(), jobs), range(4)))
    assert sorted(one.written for one in made) == [False, False, False, True]
    assert {one.runs for one in made} == {2}
    with open_recording(path) as opened:
        assert {one.digest for one in made} == {opened.manifest.digest}
        assert [run.input for run in recorded_runs(opened)] == [rows(1), rows(3)]


def test_only_a_sound_recording_of_runs_is_written_over(models, tmp_path):
    mine, path = tmp_path / "notes.tar", tmp_path / "more"
    mine.write_text("not a recording")
    with pytest.raises(RecordingExists, match="no sound recording: remove it first"):
        record_again(mine, models[0], InProcess(), [Job(rows(1))])
    assert mine.read_text() == "not a recording"
    with RecordingWriter(path, ["runs", "chain"]) as writer, writer.lines("runs.jsonl.zst"):
        pass
    with pytest.raises(RecordingExists, match="more than runs"):
        record_again(path, models[0], InProcess(), [Job(rows(1))])


def test_a_folder_is_exchanged_and_a_link_stays_one(models, tmp_path):
    folder = recorded(tmp_path / "runs", models[1], [rows(1)])
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert record_again(link, models[0], InProcess()).written
    assert link.is_symlink()
    with open_recording(folder) as opened:
        (run,) = recorded_runs(opened)
    assert run.model == InProcess().identity(models[0])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "runs"]


def test_a_recording_written_by_hand_that_agrees_is_left_alone(models, tmp_path):
    path = by_hand(tmp_path / "hand", hand_files(models[0]))
    assert not record_again(path, models[0], InProcess(), embed=False).written
    assert record_again(path, models[0], InProcess()).written, "with the model it is another recording"
    assert not record_again(path, models[0], InProcess()).written


def test_a_run_that_fails_leaves_the_old_recording(models, tmp_path):
    path = recorded(tmp_path / "runs.tar", models[0], [rows(1)])
    before = path.read_bytes()
    with pytest.raises(InputRejected, match="the input does not fit"):
        record_again(path, models[0], InProcess(), [Job(ones(5))])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["runs.tar"]


def test_the_page_names_every_fixture_and_option():
    page = Path("docs/recordings.md").read_text(encoding="utf-8")
    section = page[page.index("## In your tests") :]
    source = Path(replay.pytest_plugin.__file__).read_text(encoding="utf-8")
    for name in ("recording", "assert_replays"):
        assert f"def {name}(" in source
        assert f"`{name}" in section
    assert "`--record-traces`" in section
