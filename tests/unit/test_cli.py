from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from challenger.cli import COMMANDS, main, parser
from challenger.cli.common import ether, plain
from challenger.cli.init import MEANING, template
from challenger.settings import build, every_setting

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_explained_in_the_file_and_in_the_docs():
    page = (DOCS / "operators.md").read_text()
    assert set(MEANING) == {f"{section}.{field}" for section, field, _ in every_setting()}
    for name, meaning in MEANING.items():
        assert re.search(rf"\| `{re.escape(name)}` \| .* \| {re.escape(meaning)} \|", page), name


def test_every_command_is_in_the_docs_and_the_readme_names_only_real_ones():
    page = (DOCS / "operators.md").read_text()
    for name in COMMANDS:
        assert f"| `challenger {name}` |" in page
    readme = (DOCS.parent / "README.md").read_text()
    for name in re.findall(r"challenger ([a-z]+)", readme):
        if name not in ("with", "from"):
            assert name in COMMANDS, name


#: What the page says of all commands at once.
COMMON = frozenset({"--help", "--json", "--config"})


def long_options(command: argparse.ArgumentParser, words: str = "challenger") -> Iterator[tuple[str, str]]:
    """(words of a command as a page writes them, long option of it) of ``command`` and all below it."""
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from long_options(sub, f"{words.removeprefix('challenger ')} {name}")
        yield from ((words, option) for option in action.option_strings if option.startswith("--"))


def passages() -> list[str]:
    """What stands under one heading, on any page; the row of a table that is about a command for itself."""
    found = []
    for page in (DOCS.parent / "README.md", *DOCS.glob("*.md")):
        for section in re.split(r"(?m)^(?=#+ )", page.read_text()):
            row = r"(?m)^\| `challenger .*\n"
            found += [re.sub(row, "", section), *re.findall(row, section)]
    return found


def test_every_option_of_every_command_is_explained_where_a_page_speaks_of_the_command():
    texts = passages()

    def told(*wanted: str) -> bool:
        return any(all(re.search(rf"(?<![\w-]){one}(?![\w-])", text) for one in wanted) for text in texts)

    wanted = [pair for pair in long_options(parser()) if pair[1] not in COMMON]
    assert ("evidence export", "--small") in wanted
    assert [f"{words} {option}" for words, option in wanted if not told(words, option)] == []


def test_the_options_that_all_commands_share_are_explained_once():
    commands = (DOCS / "operators.md").read_text().partition("\n## Commands\n")[2].partition("\n|")[0]
    assert {option for option in COMMON - {"--help"} if f"`{option}" not in commands} == set()


def test_the_written_file_is_toml_that_loads_with_every_default(tmp_path):
    text = template()
    assert build(tomllib.loads(text), {}, "-") == build({}, {}, "-")
    lines = [line.removeprefix("#") if re.match(r"#\w+ = ", line) else line for line in text.splitlines()]
    empty = {f'{field} = ""' for _, field, default in every_setting() if default is None}  # TOML has no null
    raw = tomllib.loads("\n".join(line for line in lines if line not in empty))
    assert build(raw, {}, "-") == build({}, {}, "-")


def test_init_writes_once(tmp_path, capsys):
    file = tmp_path / "c.toml"
    assert main(["init", str(file)]) == 0
    assert main(["init", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["init", "--json", "--force", str(file)]) == 0
    assert json.loads(capsys.readouterr().out) == {"written": str(file)}


def test_init_where_nothing_can_be_written(tmp_path, capsys):
    assert main(["init", str(tmp_path / "no" / "c.toml")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        parser().parse_args([name, "--help"])
    assert stop.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_wrong_usage_exits_with_2():
    for argv in ([], ["dance"], ["status", "--no-such-option"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2


@pytest.mark.parametrize(
    ("wei", "text"), [(0, "0"), (10**18, "1"), (-(5 * 10**17), "-0.5"), (1, "0"), (123 * 10**16, "1.23")]
)
def test_ether(wei, text):
    assert ether(wei) == text


def test_json_says_large_numbers_and_bytes_exactly():
    assert plain({"a": b"\x01", "b": 2**60, "c": [True, None, 1.5]}) == {
        "a": "0x01",
        "b": str(2**60),
        "c": [True, None, 1.5],
    }


@pytest.mark.parametrize("argv", [["db", "-c", "x.toml", "backup", "F"], ["db", "backup", "-c", "x.toml", "F"]])
def test_a_databases_settings_stand_before_or_after_the_action(argv):
    options = parser().parse_args([*argv, "--force"])
    assert (options.config, options.what, options.argument, options.force) == (Path("x.toml"), "backup", "F", True)
    assert options.json is False


def test_a_state_that_there_is_not_is_named_with_those_that_there_are(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["commitments", "--state", "dancing"])
    assert stop.value.code == 2
    assert "there is no state dancing; it is one of observed, skipped" in capsys.readouterr().err
