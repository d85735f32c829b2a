"""`challenger audit verify`: a database edited by hand is found out, and the row is named."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from challenger.audit.journal import HeadSigner
from challenger.audit.rows import audit_rows
from challenger.cli import main
from challenger.domain import UnixTime
from challenger.settings import Settings
from challenger.sim.small import small_world
from challenger.store.engine import open_store
from challenger.store.heads import FilePublisher, publish_head
from challenger.store.journal import link
from tests.recording import written
from tests.recording.test_chain_replay import HereWorkers, replayed
from tests.store.chains import audit_verdict, finding


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A folder with a watcher's database of 40 commitments, half of them drawn or so, one audit and a published head."""
    folder = tmp_path_factory.mktemp("record")

    async def make() -> None:
        written.write(folder / "chain.tar", folder / "model", 40, tail=320)
        given = Settings()
        half = replace(given, sampling=replace(given.sampling, base=500_000, newcomer=500_000, offender=500_000))
        url = f"sqlite:///{folder / 'record.sqlite'}"
        async with replayed(folder / "chain.tar", folder / "a", HereWorkers(), database=url, settings=half) as watch:
            await watch.play()
        async with open_store(url) as store:
            async with store.begin(UnixTime(1)) as unit:
                await unit.audits.add(audit_verdict(b"a" * 32))
                await unit.findings.add(1, "some", finding("one"))
            await published(store, folder / "heads.jsonl")

    asyncio.run(make())
    return folder


async def published(store, path: Path) -> None:
    await publish_head(store, HeadSigner(None), FilePublisher(path), UnixTime(1))


@pytest.fixture
def record(whole, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("record.sqlite", "heads.jsonl"):
        shutil.copy(whole / name, tmp_path / name)
    monkeypatch.setenv("CHALLENGER_STORE_URL", "sqlite:///record.sqlite")
    monkeypatch.setenv("CHALLENGER_STORE_HEADS", "heads.jsonl")
    monkeypatch.setenv("CHALLENGER_CHAIN_MARKET", written.MARKET)
    monkeypatch.setenv("CHALLENGER_CHAIN_CHAIN_ID", "31337")
    return tmp_path / "record.sqlite"


def edit(record: Path, statement: str, *values) -> None:
    with closing(sqlite3.connect(record)) as base, base:
        assert base.execute(statement, values).rowcount > 0


def one(record: Path, query: str):
    with closing(sqlite3.connect(record)) as base:
        return base.execute(query).fetchone()


def found(capsys) -> list[str]:
    assert main(["audit", "verify"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[-1].startswith("The record does NOT hold")
    return lines[:-1]


def test_an_honest_record_holds(record, capsys) -> None:
    assert main(["audit", "verify"]) == 0
    assert capsys.readouterr().out.startswith("The record holds: ")
    assert one(record, "SELECT count(*) FROM verdicts")[0] > 10


def test_a_verdict_flipped(record, capsys) -> None:
    (number,) = one(record, "SELECT id FROM verdicts WHERE kind = 'FRAUD' ORDER BY id LIMIT 1")
    edit(record, "UPDATE verdicts SET kind = 'VALID' WHERE id = ?", number)
    lines = found(capsys)
    assert all(line.startswith("verdicts: ") for line in lines)
    assert any(
        line.startswith(f"verdicts: {number} on 0x") and line.endswith('kind is "VALID", the journal says "FRAUD"')
        for line in lines
    )


def test_a_verdict_moved_to_another_commitment(record, capsys) -> None:
    (number,) = one(record, "SELECT min(id) FROM verdicts")
    edit(record, "UPDATE verdicts SET commitment = ? WHERE id = ?", b"\x01" * 32, number)
    (line,) = found(capsys)
    assert line.startswith(f"verdicts: {number} on 0x0101")
    assert "the journal has it on 0x" in line


@pytest.mark.parametrize(
    ("table", "column"),
    [("verdicts", "id"), ("work", "commitment"), ("audits", "id"), ("findings", "id"), ("epochs", "number")],
)
def test_a_row_deleted(record, capsys, table, column) -> None:
    (key,) = one(record, f"SELECT min({column}) FROM {table}")
    edit(record, f"DELETE FROM {table} WHERE {column} = ?", key)
    name = {"work": "0x" + key.hex() if isinstance(key, bytes) else "", "epochs": f"epoch/{key}"}.get(
        table, f"{key} on "
    )
    lines = [line for line in found(capsys) if line.startswith(f"{table}: {name}")]
    assert [line.rpartition(": ")[2] for line in lines] == ["the journal tells of it, and the row is not there"]


@pytest.mark.parametrize("column", ["chain", "subject", "party", "ground", "said", "facts", "block_hash"])
def test_a_finding_edited(record, capsys, column) -> None:
    (before,) = one(record, f"SELECT {column} FROM findings")
    other = {"facts": '{"seen":"other"}'}.get(column, b"\x05" * 32 if isinstance(before, bytes) else 7)
    edit(record, f"UPDATE findings SET {column} = ?", other)
    lines = found(capsys)
    assert lines
    assert all(line.startswith("findings: 1 on audit/0x") for line in lines)


def test_a_row_made_up(record, capsys) -> None:
    edit(
        record,
        "INSERT INTO verdicts SELECT id + 1000, commitment, kind, detail, backend, fresh, output_root, state_root, "
        "environment, microseconds, time FROM verdicts WHERE id = 1",
    )
    (line,) = found(capsys)
    assert line.startswith("verdicts: 1001 on 0x")
    assert line.endswith("the journal tells nothing of it")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("selected", 0, "selected is false, the journal says true"),
        ("p_millionths", 1, "p_millionths is 1, the journal says 500000"),
        ("state", "skipped", 'state is "skipped"'),
        ("draw_hash", b"\x00" * 32, "draw_hash is "),
        ("verdict", 1_000, "verdict is 1000"),
        ("drawn", b"\x00" * 32, "sampling: epoch "),
    ],
    ids=["selected", "rate", "state", "block", "verdict", "draw"],
)
def test_a_draw_changed(record, capsys, column, value, said) -> None:
    (key,) = one(record, "SELECT min(commitment) FROM work WHERE selected = 1")
    edit(record, f"UPDATE work SET {column} = ? WHERE commitment = ?", value, key)
    lines = found(capsys)
    assert any(said in line and "0x" + key.hex() in line for line in lines), lines


def test_an_entry_edited(record, capsys) -> None:
    edit(
        record,
        "UPDATE journal SET payload = replace(payload, 'FRAUD', 'VALID') WHERE kind = 'verdict' AND payload LIKE '%FRAUD%'",
    )
    lines = found(capsys)
    assert lines[0].startswith("journal: entry ")
    assert lines[0].endswith("its hash is not that of what it says")
    assert any(line.startswith("verdicts: ") for line in lines)


def test_a_journal_recomputed_after_an_edit(record, capsys) -> None:
    """All hashes fit again, and the row was changed with it: the head that was published does not."""
    (number,) = one(record, "SELECT id FROM verdicts WHERE kind = 'FRAUD' ORDER BY id LIMIT 1")
    with closing(sqlite3.connect(record)) as base, base:
        base.execute("UPDATE verdicts SET kind = 'VALID' WHERE id = ?", (number,))
        prev = bytes(32)
        for seq, time, kind, subject, payload in base.execute(
            "SELECT seq, time, kind, subject, payload FROM journal ORDER BY seq"
        ).fetchall():
            changed = (
                payload.replace("FRAUD", "VALID") if kind == "verdict" and f'"id":{number},' in payload else payload
            )
            digest = link(prev, seq, (time, kind, subject, changed))
            base.execute(
                "UPDATE journal SET prev = ?, hash = ?, payload = ? WHERE seq = ?", (prev, digest, changed, seq)
            )
            prev = digest
    lines = found(capsys)
    assert lines[0].startswith("journal: entry ")
    assert "a published head has another hash here" in lines[0]


def test_a_tail_cut(record, capsys) -> None:
    edit(record, "DELETE FROM journal WHERE seq > (SELECT max(seq) FROM journal) - 3")
    assert "cut: a head was published for entry" in found(capsys)[0]


async def test_a_record_that_lived_through_reorganisations_holds(tmp_path) -> None:
    async with small_world(tmp_path, ["nudge", "withhold"], tasks=12) as world, world.challenger() as challenger:
        await world.play()
        for depth in (3, 6):
            for _ in range(4):
                await challenger.turn()
            await world.reorg(depth)
        for _ in range(12):
            await challenger.turn()
        async with challenger.app.store.read() as view:
            assert await audit_rows(view) == []
            kinds = {row.kind for row in await view.journal.after(0, 100_000)}
    assert kinds & {"orphaned", "restored", "taken-back", "draw-orphaned"}


@pytest.mark.parametrize(
    ("statement", "values", "said"),
    [
        ("UPDATE journal SET payload = ? WHERE seq = 40", ("rubbish",), "journal: entry 40: its hash"),
        ("UPDATE journal SET payload = ? WHERE seq = 40", (b"\xff",), "journal: entry 40: its hash"),
        ("UPDATE journal SET time = ? WHERE seq = 40", ("x",), "journal: entry 40: its hash"),
        ("UPDATE epochs SET delay = ?", (-1,), "sampling: epoch 0: it cannot be read"),
        ("UPDATE epochs SET secret = ?", ("abc",), "sampling: epoch 0: it cannot be read"),
        ("UPDATE epochs SET policy = ?", ("[",), "sampling: epoch 0: it cannot be read"),
        ("UPDATE work SET inputs = ? WHERE inputs IS NOT NULL", ("[",), "its row in the record cannot be read"),
        ("UPDATE work SET draw_hash = ? WHERE draw_hash IS NOT NULL", (5,), "cannot be read"),
    ],
)
def test_a_value_that_nothing_of_ours_wrote_is_named_and_ends_nothing(record, capsys, statement, values, said) -> None:
    edit(record, statement, *values)
    assert any(said in line for line in found(capsys))


def test_without_published_heads_nothing_is_said_to_be_bound(record, capsys) -> None:
    (record.parent / "heads.jsonl").unlink()
    assert main(["audit", "verify"]) == 0
    assert "bound by NO published head" in capsys.readouterr().out
