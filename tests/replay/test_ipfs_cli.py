"""``replay cid``: what ``ipfs add -n`` prints, in a file that a store can read it back from."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from replay.artifacts import ArtifactStore
from replay.artifacts.ipfs import KUBO_V1, directory_cid, file_cid
from replay.cli import main

HELLO = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
PAGE = (Path(__file__).parents[2] / "docs" / "replay.md").read_text(encoding="utf-8")


@pytest.fixture
def hello(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hello.txt").write_bytes(b"hello world\n")
    return Path("hello.txt")


def test_the_pages_example(hello, capsys):
    shown = PAGE.split("$ replay cid hello.txt --wrap\n")[1].split("```")[0]
    assert main(["cid", "hello.txt", "--wrap"]) == 0
    assert capsys.readouterr().out == shown
    assert shown.startswith(HELLO)


def test_profiles(hello, capsys):
    for options, cid in [
        ((), HELLO),
        (("--raw-leaves",), "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
        (("--profile", "unixfs-v0-2015"), HELLO),
        (("--profile", "unixfs-v1-2025"), "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
        (("--cid-version", "1"), "bafkreifjjcie6lypi6ny7amxnfftagclbuxndqonfipmb64f2km2devei4"),
    ]:
        assert main(["cid", "hello.txt", "--json", *options]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told == {"paths": [{"path": "hello.txt", "cid": cid, "size": 12}], "directory": None}


async def test_a_folder_its_car_and_back(hello, tmp_path, capsys):
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "big").write_bytes(bytes(600_000))
    (folder / "inner" / "out-1.png").write_bytes(b"png")
    (folder / ".hidden").write_bytes(b"left out")
    assert main(["cid", "made", "hello.txt", "--wrap", "--cid-version=1", "--car", "all.car", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["paths"][0]["size"] == 600_003
    places = [(tmp_path / "all.car").as_uri()]
    assert (tmp_path / "all.car").stat().st_size < 340_000  # what stands twice is written once
    async with ArtifactStore(tmp_path / "cache", gateways=places) as store:
        root = told["directory"]
        assert (await store.fetch_cid(f"ipfs://{root}/made/inner/out-1.png")).read_bytes() == b"png"
        assert (await store.fetch_cid(f"ipfs://{root}/made/big")).read_bytes() == bytes(600_000)
        assert (await store.fetch_cid(f"ipfs://{root}/hello.txt")).read_bytes() == b"hello world\n"
    assert str(file_cid(b"hello world\n", KUBO_V1)) == told["paths"][1]["cid"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.car", "cache", "hello.txt", "made"]


@pytest.mark.parametrize("options", [["cid", ""], ["cid", "hello.txt", "--car", ""], ["import", "", "made"]])
def test_a_path_left_empty_is_not_the_working_directory(hello, tmp_path, capsys, options):
    with pytest.raises(SystemExit) as stop:
        main(options)
    assert stop.value.code == 2
    assert "an empty path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["hello.txt"]


def test_an_empty_folder(hello, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["cid", "empty"]) == 0
    assert capsys.readouterr().out == f"{directory_cid({})}  empty\n"


def test_what_cannot_be_added(hello, tmp_path, capsys):
    (tmp_path / "link").symlink_to("hello.txt")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "hello.txt").write_bytes(b"")
    for arguments, code, why in [
        (["absent"], 1, "cannot be read"),
        (["link"], 1, "symbolic link"),
        (["."], 1, "symbolic link"),
        (["pipe"], 1, "not a plain file"),
        (["hello.txt", "other/hello.txt", "--wrap"], 2, "hello.txt"),
        (["hello.txt", "--profile", "unixfs-v1-2025", "--raw-leaves"], 2, "one or the other"),
        (["hello.txt", "--car", "no/where.car"], 1, "cannot be written"),
    ]:
        assert main(["cid", *arguments]) == code, arguments
        said = capsys.readouterr().err
        assert why in said
        assert said.count("\n") == 1
        assert main(["cid", *arguments, "--json"]) == code
        assert why in json.loads(capsys.readouterr().out)["error"]
