"""The `replay` command through its seam: exit codes, one-line errors, JSON, verdicts, and its documentation."""

import argparse
import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_model import dense_model, digest, rows

from challenger.sim.models import gpt_model
from replay.artifacts import ArtifactReason
from replay.backends import BACKENDS
from replay.cli import main, parser
from replay.localise import first_difference
from replay.sandbox import Reason

DOCS = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    manifest = dense_model(folder)
    (folder / "input.bundle").write_bytes(rows(2))
    (folder / "input.json").write_text('{"x": [[0, 0.8414709568023682, 0.9092974066734314, 0.14112000167369843]]}')
    return manifest


@pytest.fixture(scope="module")
def committed(model):
    done = replay("commit", model, model.with_name("input.bundle"), "--backend", "numpy", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def replay(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "replay.cli", *map(str, arguments)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def verdict(capsys, *arguments):
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_show_prints_a_line_per_operator(model, capsys):
    assert main(["show", str(model)]) == 0
    shown = capsys.readouterr().out
    assert digest(model).hex() in shown
    assert "x: float32[B, 4]" in shown
    assert sum(" linear " in line for line in shown.splitlines()) == 2
    code, facts = verdict(capsys, "show", model, "--digest", digest(model).hex())
    assert code == 0
    assert [op["kind"] for op in facts["operators"]].count("relu") == 1


def test_commit_and_run_tell_the_same_story(model, committed, capsys, tmp_path):
    code, ran = verdict(capsys, "run", model, model.with_name("input.bundle"), "--backend", "numpy")
    assert code == 0
    assert ran["output_root"] == committed["output_root"]
    assert ran["outputs"]["y"]["shape"] == [2, 3]
    written = tmp_path / "output"
    assert (
        main(["commit", str(model), str(model.with_name("input.json")), "--backend", "numpy", "--output", str(written)])
        == 0
    )
    assert "state root" in capsys.readouterr().out
    assert written.read_bytes()[:3] == b"\x01\x01y"
    assert main(["run", str(model), str(model.with_name("input.json")), "--backend", "numpy"]) == 0
    assert "y: float32[1, 3]" in capsys.readouterr().out


def test_verify_says_valid(model, committed, capsys):
    code, said = verdict(
        capsys, "verify", model, model.with_name("input.bundle"), "--backend", "numpy",
        "--output-root", committed["output_root"], "--state-root", committed["state_root"],
    )  # fmt: skip
    assert (code, said["verdict"]) == (0, "VALID")


def test_verify_says_fraud_where_and_by_whom(model, committed, capsys, tmp_path):
    from replay.layout import merkle_root

    leaves = [bytes.fromhex(leaf) for leaf in committed["leaves"]]
    leaves[1] = bytes(31) + b"\1"
    listed = tmp_path / "leaves.json"
    listed.write_text(json.dumps({"leaves": [leaf.hex() for leaf in leaves]}))
    claim = (
        "verify", model, model.with_name("input.bundle"), "--backend", "numpy",
        "--output-root", committed["output_root"], "--leaves", listed,
    )  # fmt: skip
    code, said = verdict(capsys, *claim, "--state-root", merkle_root(leaves).hex())
    assert (code, said["verdict"], said["differs"], said["leaf"]) == (1, "FRAUD", "state", 1)
    assert said["backends"] == ["numpy", "torch"]
    code, said = verdict(capsys, *claim, "--state-root", committed["state_root"])
    assert (code, said["reason"]) == (2, "usage")


def test_verify_of_another_input_is_no_fraud(model, committed, capsys, tmp_path):
    listed = tmp_path / "leaves.json"
    listed.write_text(json.dumps({"leaves": committed["leaves"]}))
    claim = (
        "verify", model, model.with_name("input.json"), "--backend", "numpy",
        "--output-root", committed["output_root"], "--state-root", committed["state_root"],
    )  # fmt: skip
    for more in (("--leaves", listed), ("--input-root", committed["input_root"])):
        code, said = verdict(capsys, *claim, *more)
        assert (code, said["verdict"], said["reason"]) == (1, "INCONCLUSIVE", "another-input")
    code, said = verdict(capsys, *claim)
    assert (code, said["verdict"]) == (1, "FRAUD"), "nothing says which input was committed to"


def test_verify_without_a_usable_input_is_inconclusive_and_not_fraud(model, committed, capsys, tmp_path):
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\x09rubbish")
    code, said = verdict(
        capsys, "verify", model, rubbish, "--backend", "numpy", "--output-root", "00" * 32, "--state-root", "11" * 32
    )
    assert (code, said["verdict"], said["reason"]) == (1, "INCONCLUSIVE", "input-rejected")


@pytest.mark.slow
def test_selftest_lists_what_this_machine_cannot_have_and_fails_for_it_by_name_alone(capsys):
    code, told = verdict(capsys, "selftest")
    assert (code, told["failures"]) == (0, {})
    assert set(told["answers"]) | set(told["absent"]) == set(BACKENDS)
    for name in told["absent"]:
        assert verdict(capsys, "selftest", "--backend", name)[0] == 1


def test_selftest_and_bench_print_tables(model, capsys):
    assert main(["selftest", "--backend", "numpy"]) == 0
    shown = capsys.readouterr().out
    assert "linear/hi/corner/512" in shown
    assert "WRONG" not in shown
    assert "isolation: network" in shown
    code, timed = verdict(capsys, "bench", model, "--backend", "numpy", "--size", "3", "--repeat", "2")
    assert code == 0
    found = timed["backends"]["numpy"]
    assert set(found["ordinary_seconds"]) | set(found["refused"]) == {"torch_fp32_mkl", "torch_fp32_onednn"}
    assert list(found["grids"]) == ["hi", "lo"]
    for row in found["grids"].values():
        assert row["replays_per_second"] > 0
        assert set(row["cost"]) == set(found["ordinary_seconds"])
    assert timed["clipped"] == {}
    assert main(["bench", str(model), "--backend", "numpy", "--size", "100000", "--repeat", "1"]) == 0
    shown = capsys.readouterr().out
    assert "÷ torch_fp32_mkl" in shown
    assert "÷ torch_fp32_onednn" in shown
    assert "B is at most 4096, not 100000" in " ".join(shown.split())


ODD = ("nan", "snan", "inf", "-0.5", "1e99999999999", "1e-99999999999", "1001", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "absent.json"), 1, "model-rejected"),
        (("show", "{model}", "--digest", "00" * 32), 1, "model-digest"),
        (("show", "{model}", "--digest", "12"), 2, "64 hex digits"),
        (("show", "{model}", "--seconds", "-1"), 2, "positive number"),
        (("show", "{model}", "--memory", "1"), 1, "memory: "),
        (("show", "{model}", "--threads", "1025"), 2, "1 to 1024"),
        (("show", "{folder}"), 1, "manifest.json"),
        (("run", "{model}"), 2, "INPUT or --text"),
        (("run", "{model}", "absent", "--backend", "numpy"), 1, "cannot be read"),
        (("run", "{model}", "--text", "hello", "--backend", "numpy"), 2, "input_ids"),
        (("run", "{model}", "{bad}", "--backend", "numpy"), 2, "the model takes x"),
        (("run", "{model}", "{list}", "--backend", "numpy"), 2, "JSON list"),
        (("run", "{model}", "{blank}", "--backend", "numpy"), 2, "the model takes x"),
        (("run", "{model}", "{twice}", "--backend", "numpy"), 2, "stands twice"),
        (("run", "{model}", "{other}", "--backend", "numpy"), 1, "input-rejected"),
        (("run", "{model}", "x", "--temperature", "1", "--backend", "numpy"), 2, "--temperature is for --generate"),
        (("run", "{model}", "x", "--top-k", "5", "--backend", "numpy"), 2, "--top-k is for --generate"),
        (("run", "{model}", "{input}", "--seed", "00" * 32, "--backend", "numpy"), 2, "--seed is for --generate"),
        (("commit", "{model}", "{input}", "--seed", "00" * 32, "--backend", "numpy"), 2, "--seed is for --generate"),
        (("import", "absent", "{made}"), 1, "absent is not there"),
        (("import", "{empty}", "{model}"), 2, "is there already"),
        (("import", "{empty}", "{made}"), 1, "model-rejected"),
        (("import", "/dev/null", "{made}"), 1, "cannot be read"),
        (("import", "{folder}", "{made}"), 2, "holds no config.json"),
        (("import", "{odd}", "{made}"), 1, "the model_type 'resnet' is none of bert, gpt2"),
        (("import", "{part}", "{made}"), 1, "lacks model.safetensors, tokenizer.json"),
        (("import", "{input}", "{input}/made"), 1, "cannot be written"),
        *((("run", "{model}", "x", "--temperature", odd), 2, "0 to 1000") for odd in ODD),
        *((("run", "{model}", "x", "--top-p", odd), 2, "0 to 1000") for odd in ODD),
        (
            (
                "verify",
                "{model}",
                "{input}",
                "--output-root",
                "00" * 32,
                "--state-root",
                "00" * 32,
                "--output",
                "{empty}",
            ),
            2,
            "no canonical bundle",
        ),
        (("run", "{model}", "{ragged}", "--backend", "numpy"), 2, "rectangular"),
        (("run", "{model}", "x", "--backend", "abacus"), 2, "invalid choice"),
        (("verify", "{model}", "x"), 2, "--output-root"),
        (("nonsense",), 2, "invalid choice"),
        ((), 2, "required"),
    ],
)
def test_errors_are_one_line_with_an_exit_code(model, tmp_path, capsys, arguments, code, says):
    files = {"bad": '{"z": [1]}', "list": "[1]", "ragged": '{"x": [[1, 2], [3]]}'}
    files |= {"blank": ' \n{"z": [1]}', "twice": '{"x": [1], "x": [2]}', "other": "\x01 is no bundle", "empty": ""}
    files |= {"input": '{"x": [[1, 2, 3, 4]]}'}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    paths = {name: tmp_path / name for name in files} | {"model": model, "folder": tmp_path, "made": tmp_path / "made"}
    for name, kind in (("odd", "resnet"), ("part", "bert")):
        paths[name] = tmp_path / name
        paths[name].mkdir()
        (paths[name] / "config.json").write_text(json.dumps({"model_type": kind}))
    try:
        got = main([one.format(**paths) for one in arguments])
    except SystemExit as stop:
        got = stop.code
    error = capsys.readouterr().err
    assert got == code, error
    assert says in error
    assert error.count("\n") == 1
    assert not [one for one in tmp_path.iterdir() if "made" in one.name]


def test_import_makes_a_folder_that_the_other_commands_take(model, committed, capsys, tmp_path):
    made = tmp_path / "deep" / "made"
    code, told = verdict(capsys, "import", model.with_name("model.onnx"), made)
    assert code == 0
    assert told["manifest"] == str(made / "manifest.json")
    assert told["file_digest"] == digest(model).hex() == digest(made / "manifest.json").hex()
    assert [one.name for one in tmp_path.iterdir()] == ["deep"]
    assert sorted(one.name for one in made.parent.iterdir()) == ["made"]
    roots = ("--output-root", committed["output_root"], "--state-root", committed["state_root"])
    source = model.with_name("input.bundle")
    assert verdict(capsys, "verify", made, source, *roots, "--backend", "numpy")[0] == 0


def test_import_of_a_checkpoint_takes_its_files_and_no_others(capsys, tmp_path):
    source = gpt_model(tmp_path / "source")
    source.unlink()
    (source.parent / "README.md").write_text("not part of a model")
    assert main(["import", str(source.parent), str(tmp_path / "made"), "--grid", "lo"]) == 0
    shown = capsys.readouterr().out
    assert "grid           lo" in shown
    assert digest(tmp_path / "made" / "manifest.json").hex() in shown
    assert not (tmp_path / "made" / "README.md").exists()


def test_the_command_starts_without_heavy_libraries():
    program = (
        "import sys, replay, replay.cli\n"
        "replay.cli.parser()\n"
        "heavy = {'torch', 'numpy', 'web3', 'onnx', 'aiohttp', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import replay.sandbox, replay.artifacts\n"
        "assert not {'torch', 'web3', 'onnx'} & set(sys.modules)\n"
        "assert all(getattr(replay, name) is not None for name in replay.__all__)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def subcommands():
    (actions,) = [one for one in parser()._actions if isinstance(one, argparse._SubParsersAction)]
    return actions.choices


def test_every_command_and_option_is_documented():
    for name, sub in subcommands().items():
        assert f"### replay {name}\n" in DOCS
        for action in sub._actions:
            for option in action.option_strings:
                assert option in {"-h", "--help"} or f"`{option}" in DOCS, f"{name} {option}"


@pytest.mark.parametrize("reason", [*Reason, *ArtifactReason])
def test_every_reason_is_documented(reason):
    assert f"| `{reason}` |" in DOCS


leaves = st.lists(st.sampled_from([bytes(32), b"\1" * 32]), max_size=12)


@given(leaves, leaves)
def test_the_first_difference_is_one_and_is_the_first(mine, theirs):
    at = first_difference(mine, theirs)
    if at is None:
        assert mine == theirs
    else:
        assert mine[:at] == theirs[:at]
        assert mine[at : at + 1] != theirs[at : at + 1]


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    return gpt_model(tmp_path_factory.mktemp("gpt"))


ASKED = ("--text", "The import statement ", "--generate", "24", "--temperature", "0.6", "--top-k", "10")


@pytest.mark.slow
def test_a_text_is_written_committed_and_checked(writer, tmp_path, capsys):
    assert main(["run", str(writer), *ASKED]) == 0
    shown = capsys.readouterr().out
    assert "tokens: int32[24]" in shown
    text = ast.literal_eval(shown.splitlines()[0])
    assert len(text) == 24
    out = tmp_path / "out"
    code, said = verdict(capsys, "commit", writer, *ASKED, "--output", out)
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # written beside it, then renamed
    assert out.read_bytes().hex() == said["output"]
    assert main(["commit", str(writer), *ASKED, "--output", str(tmp_path / "no" / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    roots = ("--output-root", said["output_root"], "--state-root", said["state_root"])
    for more in ((), ("--output", str(out)), ("--output", str(out), "--backend", "numpy")):
        code, found = verdict(capsys, "verify", writer, *ASKED, *roots, *more, "--seed", "00" * 32)
        assert (code, found["verdict"]) == (0, "VALID")
    code, found = verdict(capsys, "verify", writer, *ASKED, *roots, "--seed", "11" * 32)
    assert (code, found["verdict"], found["differs"]) == (1, "FRAUD", "output")
    code, found = verdict(capsys, "verify", writer, *ASKED, *roots)
    assert (code, found["reason"]) == (2, "usage"), "a seed that was forgotten is no fraud"
    assert "--seed" in found["error"]
    cooler = (*ASKED[:-3], "0.5", *ASKED[-2:])
    more = ("--seed", "00" * 32, "--input-root", said["input_root"])
    code, found = verdict(capsys, "verify", writer, *cooler, *roots, *more)
    assert (code, found["verdict"], found["reason"]) == (1, "INCONCLUSIVE", "another-input"), "nor is another question"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--temperature", "hot"), 2, "0 to 1000"),
        (("--temperature", "0.0000001"), 2, "six decimals"),
        (("--top-p", "0"), 2, "top_p"),
        (("--top-k", "-1"), 2, "0 or more"),
        (("--generate", "900"), 1, "leave room"),
        (("--seed", "11"), 2, "64 hex digits"),
        (("--text", "caf\u00e9"), 2, "does not know the character"),
    ],
)
def test_a_generation_that_cannot_be_is_one_line(writer, capsys, arguments, code, says):
    try:
        got = main(["run", str(writer), *ASKED, *arguments])
    except SystemExit as ended:
        got = ended.code
    told = capsys.readouterr()
    assert got == code
    assert says in told.err
    assert told.err.count("\n") == 1
