"""A nested file is refused in one line even where some library has raised the recursion limit beyond the C stack."""

from __future__ import annotations

import subprocess
import sys

import pytest

from replay.shallow import MAX_DEPTH, parse_json

DEEP = "[" * 500_000 + "]" * 500_000


@pytest.mark.parametrize(
    "text", [DEEP, '{"a":' * 500_000 + "1" + "}" * 500_000, "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)]
)
def test_depth_is_bounded_whatever_the_recursion_limit(text, tmp_path):
    (tmp_path / "deep.json").write_text(text)
    code = (
        "import sys\nfrom pathlib import Path\nfrom replay.shallow import parse_json\nsys.setrecursionlimit(10**7)\n"
        "try:\n    parse_json(Path(sys.argv[1]).read_bytes())\nexcept ValueError as error:\n    print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "deep.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"nested more than {MAX_DEPTH} deep\n"


def test_brackets_in_strings_are_no_depth():
    assert parse_json(b'{"a\\"[": "' + b"[" * 1000 + b'", "b": [[1], {"c": "\\\\"}]}')["b"] == [[1], {"c": "\\"}]
    with pytest.raises(ValueError, match="Expecting"):
        parse_json(b"]")
    with pytest.raises(ValueError, match="utf-8"):
        parse_json(b"\xff")
