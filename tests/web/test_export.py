"""`challenger export`: every list in every form, exact, streamed, and no secret in any."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from pathlib import Path

import pytest

from challenger.cli import main
from challenger.cli.export import FORMATS, WHAT
from challenger.export import FORMATS as REAL
from challenger.export import flattened
from challenger.shapes import shape
from challenger.store import open_store
from challenger.store.listed import LISTED
from challenger.store.schema import models
from challenger.web.api.lists import ROWS
from tests.store.test_store_listing import fill


@pytest.fixture
def folder(tmp_path) -> Path:
    """For what is written; the database may lie beside it."""
    made = tmp_path / "out"
    made.mkdir()
    return made


@pytest.fixture
def base(fresh, monkeypatch) -> str:
    url = fresh()

    async def make() -> None:
        async with open_store(url) as store:
            await fill(store)

    asyncio.run(make())
    monkeypatch.setenv("CHALLENGER_STORE_URL", url)
    return url


def test_the_command_s_words_are_those_of_the_parts():
    assert FORMATS == REAL
    assert set(WHAT) == set(LISTED) == set(ROWS)


async def rows_of(url: str, what: str) -> list[dict]:
    form = shape(ROWS[what][0])
    async with open_store(url) as store, store.read() as view:
        return [form.encode(row) async for row in view.listing.stream(LISTED[what])]


def test_each_form_holds_every_row_and_value(base, folder, capsys):
    from pyarrow import parquet

    for what in WHAT:
        wanted = asyncio.run(rows_of(base, what))
        for form in FORMATS:
            assert main(["export", what, "-o", str(folder / f"{what}.{form}")]) == 0
            assert f"{len(wanted)} {what}, {form}" in capsys.readouterr().out
        lines = [json.loads(line) for line in (folder / f"{what}.jsonl").read_text().splitlines()]
        assert lines == wanted
        with (folder / f"{what}.csv").open(newline="", encoding="utf-8") as file:
            cells = list(csv.DictReader(file))
        table = parquet.read_table(folder / f"{what}.parquet").to_pylist()
        assert len(cells) == len(table) == len(wanted)
        for told, cell, entry in zip(wanted, cells, table, strict=True):
            flat = flattened(told)
            assert cell.keys() == entry.keys()
            for name in cell:
                assert _same(flat.get(name), cell[name]), (what, name)
                value = flat.get(name)
                text = (
                    value
                    if value is None or isinstance(value, str | int | float | bool)
                    else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
                )
                assert entry[name] == text, (what, name)
    assert sorted(path.suffix for path in folder.iterdir()) == sorted(f".{form}" for _ in WHAT for form in FORMATS)


def _same(value: object, cell: str) -> bool:
    if value is None:
        return cell == ""
    if isinstance(value, bool):
        return cell == str(value).lower()
    if isinstance(value, str):
        return cell in (value, "'" + value)
    return json.loads(cell) == value


def test_filters_and_times_choose(base, capsysbinary):
    assert main(["export", "commitments", "--where", "verdict=FRAUD"]) == 0
    assert len(capsysbinary.readouterr().out.splitlines()) == 2
    whole = asyncio.run(rows_of(base, "commitments"))
    times = sorted(row["commitment"]["committed_at"] for row in whole)
    middle = times[len(times) // 2]
    found = []
    for words in (["--until", str(middle)], ["--since", str(middle)]):
        assert main(["export", "commitments", *words]) == 0
        found.append([json.loads(line) for line in capsysbinary.readouterr().out.splitlines()])
    assert found[0] + found[1] == whole
    assert max(row["commitment"]["committed_at"] for row in found[0]) < middle


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["commitments", "--where", "colour=red"], "there is no filter colour here; known are"),
        (["commitments", "--where", "state=odd"], "state: it is one of"),
        (["commitments", "--where", "state"], "--where is NAME=VALUE"),
        (["disputes", "--since", "5"], "there is no filter since here"),
        (["commitments", "-o", "away/there.csv"], "No such file"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_one_line(base, capsys, folder, monkeypatch, words, said):
    monkeypatch.chdir(folder)
    assert main(["export", *words]) in (1, 2)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert list(folder.glob("*.csv")) == []


def test_no_secret_is_in_any_export(base, folder):
    for what in WHAT:
        for form in ("csv", "jsonl"):
            main(["export", what, "-o", str(folder / f"{what}.{form}")])
    said = "".join(path.read_text() for path in folder.iterdir())
    assert (b"s" * 32).hex() in said, "the first epoch is revealed"
    assert (b"t" * 32).hex() not in said, "the second is not"
    heads = [line.split(",") for path in folder.glob("*.csv") for line in path.read_text().splitlines()[:1]]
    assert not any(name.rpartition(".")[2] in ("raw", "drawn") for head in heads for name in head)


def test_a_spreadsheet_takes_nothing_for_a_formula(base, folder):
    async def edit() -> None:
        async with open_store(base) as store, store.begin(0) as unit:
            await unit.connection.execute(models.update().values(uri="=cmd|' /C calc'!A0\n\"x\""))

    asyncio.run(edit())
    main(["export", "models", "-o", str(folder / "models.csv")])
    (row, *_) = csv.DictReader(io.StringIO((folder / "models.csv").read_text()))
    assert row["uri"] == "'=cmd|' /C calc'!A0\n\"x\""


async def test_a_reader_that_goes_away_ends_it_quietly(base, folder):
    script = "import sys; from challenger.cli import main; sys.exit(main(['export', 'journal']))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert process.stdout is not None
    await process.stdout.readline()
    process._transport.get_pipe_transport(1).close()
    _, said = await process.communicate()
    assert b"Traceback" not in said
