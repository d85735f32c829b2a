"""A recorded chain replayed: the whole pipeline, offline, and the same journal each time."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from challenger.cli import main
from challenger.domain import Committed, Millionths, Mode
from challenger.endpoints import open_endpoints
from challenger.errors import ChallengerError
from challenger.recording import history
from challenger.recording import record as recorder
from challenger.recording.lines import PART, Data, Deployment, RecordedBlock, recorded_lines
from challenger.recording.record import Wanted, record
from challenger.recording.results import Results
from challenger.recording.watch import Pace, watching
from challenger.settings import Settings
from challenger.sim.scenario import CHEATS
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles, ToyWorkers
from challenger.telemetry.instruments import Instruments
from replay.artifacts import ArtifactReason, ArtifactRefused
from replay.layout import decode_bundle
from replay.recording import RecordingError, RecordingWriter, open_recording
from replay.recording.verify import InProcess
from replay.sandbox import Completed
from replay.trace import commit
from tests.integration.test_watcher import scene
from tests.recording import written

ALL = Settings()
ALL = replace(ALL, sampling=replace(ALL.sampling, base=Millionths(1_000_000), newcomer=Millionths(1_000_000)))


class HereWorkers:
    """The real engine in this process: the tests' own model needs no confinement."""

    def __init__(self) -> None:
        self._engine = InProcess()
        self.asked = 0

    async def replay(self, request):
        self.asked += 1
        prepared = self._engine.prepared(request.manifest)
        return Completed(commit(prepared, decode_bundle(request.input), seed=request.seed))


@asynccontextmanager
async def replayed(path: Path, folder: Path, workers, **how):
    folder.mkdir()  # noqa: ASYNC240
    with open_recording(path) as recording:
        async with watching(recording, how.pop("settings", ALL), folder, workers, **how) as watch:
            yield watch


async def verdicts(watch) -> dict[bytes, str]:
    async with watch.app.store.read() as view:
        return {
            item.work.commitment: (await view.verdicts.of(item.work.commitment))[-1].kind
            for item in await view.work.listing(limit=1_000)
            if item.work.verdict is not None
        }


async def entries(watch) -> list[tuple[str, str, str]]:
    async with watch.app.store.read() as view:
        return [(row.kind, row.subject, row.payload) for row in await view.journal.after(0, 100_000)]


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    path = folder / "chain.tar"
    return path, written.write(path, folder / "model", 40)


async def test_every_fraud_is_found_and_nobody_else_is(by_hand, tmp_path) -> None:
    path, jobs = by_hand
    async with replayed(path, tmp_path / "a", HereWorkers()) as watch:
        found = await watch.play()
        said = await verdicts(watch)
    assert {job.commitment for job in jobs if not job.honest} == {c for c, kind in said.items() if kind == "FRAUD"}
    assert found.commitments == len(said) == len(jobs)
    assert found.states == {"confirmed": 4, "replayed": 36}
    assert found.run == 40 + 4 + 2
    assert found.seconds == (31 + 9 + 1) * written.BLOCK_TIME


async def test_twice_the_same_journal_whatever_was_known(by_hand, tmp_path) -> None:
    heads, told = [], []
    with Results(tmp_path / "results.sqlite") as results:
        for name in ("a", "b"):
            workers = HereWorkers()
            async with replayed(by_hand[0], tmp_path / name, workers, results=results) as watch:
                found = await watch.play()
                heads.append((found.entries, found.head))
                told.append(await entries(watch))
            assert (workers.asked, found.run, found.known) == ((46, 46, 0) if name == "a" else (0, 0, 46))
    assert heads[0] == heads[1]
    assert told[0] == told[1]
    assert {"observed", "sampled", "verdict", "confirmed", "fence", "epoch-opened"} <= {kind for kind, _, _ in told[0]}
    assert not any("environment" in payload for _, _, payload in told[0])


async def test_time_is_the_recordings(by_hand, tmp_path) -> None:
    """What replays take is simulated: with slow ones the windows close over what is drawn."""
    pace = Pace(every=60, replay=1_000.0)
    path = tmp_path / "long.tar"
    written.write(path, tmp_path / "model", 40, tail=400)
    async with replayed(path, tmp_path / "a", HereWorkers(), pace=pace) as watch:
        found = await watch.play()
        async with watch.app.store.read() as view:
            first = (await view.verdicts.of((await view.work.listing(limit=1_000))[-1].work.commitment))[0]
    assert first.microseconds == 1_000_000_000
    assert sum(found.verdicts.values()) < 12  # the others' windows closed first
    assert found.states == {"expired": 28, "finalised": 8, "filed_by_other": 4}


async def test_another_seed_draws_others_and_a_policy_draws_fewer(by_hand, tmp_path) -> None:
    half = replace(ALL, sampling=replace(ALL.sampling, base=Millionths(500_000), newcomer=Millionths(500_000)))
    drawn = []
    for seed in ("one", "two", "one"):
        async with replayed(by_hand[0], tmp_path / f"{len(drawn)}", HereWorkers(), settings=half, seed=seed) as watch:
            await watch.play()
            drawn.append(set(await verdicts(watch)))
    assert drawn[0] == drawn[2] != drawn[1]
    assert 5 < len(drawn[0]) < 35


async def test_data_that_was_not_recorded_accuses_nobody(by_hand, tmp_path) -> None:
    """An honest answer behind a URI that the recording does not hold is inconclusive, not withheld."""
    path = tmp_path / "chain.tar"
    with open_recording(by_hand[0]) as old, RecordingWriter(path, ["chain"]) as writer:
        for name in old.manifest.parts:
            if name != PART:
                writer.raw(name, old.raw(name))
        with writer.lines(PART) as add:
            for line in old.lines(PART):
                for log in line.get("logs", []):
                    inline_to_uri(log)
                add(line)
    async with replayed(path, tmp_path / "a", HereWorkers()) as watch:
        await watch.play()
        said = await verdicts(watch)
    assert set(said.values()) == {"FRAUD", "INCONCLUSIVE"}


def inline_to_uri(log) -> None:
    """A committed output moves from the log to a URI."""
    from eth_abi import decode, encode

    kinds = ["bytes32", "bytes32", "bytes32", "bytes", "string", "uint32", "uint64", "uint64"]
    if log["topics"][0] == written.topic("Committed"):
        values = list(decode(kinds, bytes.fromhex(log["data"][2:])))
        values[3:5] = [b"", "https://data.example/x"]
        log["data"] = "0x" + encode(kinds, values).hex()


# recorded from a real chain


class NoModels(ToyFiles):
    """The toy model has no files."""

    async def fetch_model(self, uri, file_digest, max_bytes=0):
        raise ArtifactRefused(ArtifactReason.SIZE, "too large", uri=uri)


async def recorded(s, path, *, first=None, proofs=True):
    async with open_endpoints(s.settings, Instruments(), s.devnet.rpc) as endpoints:
        head = await s.devnet.rpc.block("latest")
        where = s.world.deployment
        chain = s.settings.chain
        start = where.start_block
        deployment = Deployment(
            "reference",
            chain.chain_id,
            where.market,
            where.anchor,
            start if first is None else first,
            head.number,
            proofs,
        )
        wanted = Wanted(NoModels(), 1 << 20, 1 << 20)
        return await record(endpoints.rpc, endpoints.reader(), deployment, start, wanted, path, lambda *_: None)


@pytest.mark.parametrize("proofs", [True, False])
async def test_a_recorded_world_gives_the_verdicts_that_its_watcher_gave(tmp_path, proofs) -> None:
    kinds = tuple(kind for kind in CHEATS)
    async with scene(tmp_path, seed=3, cheats=kinds) as s, s.watcher(mode=Mode.WATCH) as app:
        await s.until_quiet(app, people=False)
        await s.world.play()
        await s.until_quiet(app)
        found = await recorded(s, tmp_path / "world.tar", proofs=proofs)
        assert found.commitments == len(s.world.labels)
        assert found.away == len(s.jobs(Truth.WITHHELD))
        async with app.store.read() as view:
            live = {
                item.work.commitment: (await view.verdicts.of(item.work.commitment))[-1].kind
                for item in await view.work.listing(limit=1_000)
                if item.work.verdict is not None
            }
            events = [
                event
                for row in await view.work.listing(limit=1_000)
                for event in await view.chain.history("commitment", row.work.commitment)
            ]
    with open_recording(tmp_path / "world.tar") as recording:
        told = [event for _, found in history(recording) for event in found if isinstance(event, Committed)]
        assert sorted(told, key=str) == sorted((e for e in events if isinstance(e, Committed)), key=str)
    async with replayed(
        tmp_path / "world.tar", tmp_path / "a", ToyWorkers(), fallback=ToyFiles(lambda *_: b""), pace=Pace(12, 0.1)
    ) as watch:
        await watch.play()
        assert await verdicts(watch) == live


async def test_a_later_beginning_keeps_models_and_open_tasks(tmp_path) -> None:
    async with scene(tmp_path, seed=3) as s, s.watcher(mode=Mode.WATCH) as app:
        await s.world.play()
        await s.until_quiet(app)
        blocks = sorted(label_block for label_block in await committed_blocks(app))
        first = blocks[len(blocks) // 2]
        found = await recorded(s, tmp_path / "late.tar", first=first)
        assert found.commitments == sum(block >= first for block in blocks)
    with open_recording(tmp_path / "late.tar") as recording:
        below = [
            line for line in recorded_lines(recording) if isinstance(line, RecordedBlock) and line.block.number < first
        ]
        assert below[-1].block.number == first - 1
        assert sum(bool(line.logs) for line in below) >= 1
        assert all(line.receipts for line in below if line.logs)
    async with replayed(
        tmp_path / "late.tar", tmp_path / "a", ToyWorkers(), fallback=ToyFiles(), pace=Pace(12, 0.1)
    ) as watch:
        told = await watch.play()
        said = await verdicts(watch)
    assert told.commitments == len(said) == found.commitments
    assert {label.job for label in s.world.labels if label.truth is Truth.WRONG} & set(said) == {
        job for job, kind in said.items() if kind == "FRAUD"
    }


async def test_large_data_that_comes_again_is_in_one_part(tmp_path, monkeypatch) -> None:
    """A root that the recorder no longer remembers, as after 100,000 others: here each page is recorded twice."""
    monkeypatch.setattr(recorder, "_IN_LINE", 0)
    monkeypatch.setattr(recorder, "_REMEMBERED", 0)
    plain = recorder._Recorder._data

    async def twice(self, logs) -> None:
        await plain(self, logs)
        await plain(self, logs)

    monkeypatch.setattr(recorder._Recorder, "_data", twice)
    async with scene(tmp_path, seed=3) as s:
        await s.world.play()
        found = await recorded(s, tmp_path / "parts.tar")
    with open_recording(tmp_path / "parts.tar") as recording:
        told = [line for line in recorded_lines(recording) if isinstance(line, Data) and not line.away]
        parts = [name for name in recording.manifest.parts if name.startswith("data/")]
    assert len(told) == found.data == 2 * len(parts) > 0
    assert {line.part for line in told} == set(parts)


async def committed_blocks(app) -> list[int]:
    async with app.store.read() as view:
        return [item.commitment.block for item in await view.work.listing(limit=1_000)]


# refused, with one line


def rewritten(source: Path, target: Path, change) -> Path:
    """The recording with the lines that ``change`` makes of its lines."""
    with open_recording(source) as old, RecordingWriter(target, ["chain"]) as writer:
        for name in old.manifest.parts:
            if name != PART:
                writer.raw(name, old.raw(name))
        with writer.lines(PART) as add:
            for line in change([*old.lines(PART)]):
                add(line)
    return target


def block_at(lines, number):
    return next(line for line in lines if line.get("block", {}).get("number") == hex(number))


def edited(at, *, then=0, **fields):
    """``then``: a block that gets the hash of ``at``, and whose child knows it by that."""

    def change(lines):
        block_at(lines, at)["block"].update(fields)
        if then:
            block_at(lines, then)["block"]["hash"] = fields["hash"]
            block_at(lines, at)["block"]["parentHash"] = fields["hash"]
        return lines

    return change


def without(number):
    return lambda lines: [line for line in lines if line.get("block", {}).get("number") != hex(number)]


def deployed(**fields):
    def change(lines):
        lines[0]["deployment"].update(fields)
        return lines

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: lines[1:], "the first line is the deployment"),
        (lambda _: [], "it is empty"),
        (deployed(first=5), "blocks 4 to 8 are missing"),
        (deployed(first=True), "chain_id is positive"),
        (deployed(last=51 + 7), "block 58, the last, is not in it"),
        (deployed(market="0x12"), "not an address"),
        (deployed(market="0x" + "11" * 20), "a log is not the market's"),
        (deployed(protocol="another"), "the first line is the deployment"),
        (deployed(proofs=True), "do not hash to its hash"),
        (without(9), "blocks 9 to 9 are missing"),
        (without(20), "blocks 20 to 20 are missing"),
        (edited(20, parentHash="0x" + "00" * 32), "block 20 is not a child of block 19"),
        (edited(20, timestamp="0x1"), "comes after block 19, or is older"),
        (edited(20, number="0x13"), "comes after block 19"),
        (edited(20, hash="0xzz"), "not a hash"),
        (edited(20, surprise="0x1"), "a block has no field 'surprise'"),
        (lambda lines: [*lines, {"what": 1}], "a line is a block, an answer or data"),
        (lambda lines: [*lines, {"data": {"root": "0x" + "11" * 32, "bytes": "%%"}}], "not base64"),
        (lambda lines: [*lines, {"data": {"root": "0x11", "away": "digest"}}], "not a hash"),
        (
            lambda lines: [*lines, {"data": {"root": "0x" + "11" * 32, "away": "lost"}}],
            "data is away for one of digest",
        ),
        (lambda lines: [*lines, {"data": {"root": "0x" + "11" * 32, "part": "data/x"}}], "in a part that is not there"),
        (lambda lines: [*lines, {"data": {"root": "0x" + "11" * 32, "bytes": "AAAA"}}], "data is no bundle"),
        (edited(50, hash="0x" + "aa" * 32, then=49), "block 50 has a hash that an earlier one has"),
        (lambda lines: [*lines, {"answer": {"method": "eth_sendTransaction", "params": [], "result": "0x"}}], "one of"),
        (lambda lines: [*lines, {"block": 7}], "a line is a block"),
        (lambda lines: [*lines, {"block": {}, "logs": 7}], "field number is missing"),
        (lambda lines: [*lines, {"block": lines[-1]["block"]}], "comes after block"),
    ],
)
async def test_lines_that_are_wrong_are_refused_and_nothing_is_imported(by_hand, tmp_path, change, why) -> None:
    path = rewritten(by_hand[0], tmp_path / "bad.tar", change)
    with pytest.raises(RecordingError, match=why) as caught:
        async with replayed(path, tmp_path / "a", HereWorkers()):
            raise AssertionError("it was opened")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "a").iterdir())


def altered(log):
    log["data"] = log["data"][:-1] + ("1" if log["data"][-1] == "0" else "0")


def hidden(lines):
    line = next(line for line in lines if len(line.get("logs", ())) > 1)
    del line["logs"][-1]


def stripped(lines):
    line = next(line for line in lines if line.get("logs"))
    del line["logs"], line["receipts"]


def lied(lines):
    line = next(line for line in lines if line.get("logs"))
    line["receipts"][0]["cumulativeGasUsed"] = "0x1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda lines: altered(next(line for line in lines if line.get("logs"))["logs"][0]),
            "is in none of its receipts",
        ),
        (hidden, "logs that its receipts hold"),
        (stripped, "may hold logs of the market, and its receipts are not there"),
        (lied, "do not hash to the header's receiptsRoot"),
    ],
)
async def test_what_a_proved_recording_hides_or_alters_shows(proved, tmp_path, change, why) -> None:
    def changed(lines):
        change(lines)
        return lines

    path = rewritten(proved, tmp_path / "changed.tar", changed)
    with open_recording(path) as recording, pytest.raises(RecordingError, match=why):
        list(recorded_lines(recording))


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    """A recording of a small world, with proofs."""
    folder = tmp_path_factory.mktemp("proved")

    async def make() -> None:
        async with scene(folder, seed=3, tasks=4, round_size=4) as s:
            await s.world.play()
            await recorded(s, folder / "world.tar")

    asyncio.run(make())
    return folder / "world.tar"


async def test_results_that_are_damaged_are_computed_again(by_hand, tmp_path) -> None:
    with Results(tmp_path / "results.sqlite") as results:
        async with replayed(by_hand[0], tmp_path / "a", HereWorkers(), results=results) as watch:
            first = await watch.play()
        with closing(sqlite3.connect(tmp_path / "results.sqlite")) as base:
            base.execute("UPDATE results SET receipt = substr(receipt, 1, 40)")
            base.commit()
        async with replayed(by_hand[0], tmp_path / "b", HereWorkers(), results=results) as watch:
            second = await watch.play()
        assert results.trouble
    assert (second.run, second.head) == (first.run, first.head)


# the commands


def test_the_command_tells_the_same_twice(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    recording = str(tmp_path / "chain.tar")
    written.write(tmp_path / "chain.tar", tmp_path / "model", 12, cheat=0)
    told = []
    for name in ("one.jsonl", "two.jsonl"):
        assert main(["replay", recording, "--json", "--journal", name]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert told[0]["journal"] == told[1]["journal"]
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert told[1]["replays_run"] == 0 < told[0]["replays_run"]
    head = told[0]["journal"]["head"]
    assert main(["replay", recording, "--expect", head]) == 0
    assert head[2:] in capsys.readouterr().out
    assert main(["replay", recording, "--expect", "00" * 32]) == 1
    assert "another one than expected" in capsys.readouterr().err
    assert main(["replay", recording, "--journal", "one.jsonl"]) == 2
    assert "something is there already" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "nothing.tar")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("challenger: nothing was done:")
    assert said.count("\n") == 1


async def test_a_recording_of_version_1_still_replays(tmp_path) -> None:
    """Written when the format was new; it stays as it is, whatever becomes of the code."""
    path = Path(__file__).parent / "data" / "chain_v1.tar"
    async with replayed(path, tmp_path / "a", HereWorkers()) as watch:
        found = await watch.play()
        said = await verdicts(watch)
    assert found.commitments == len(said) == 10
    frauds = [written.Job(number, 0, b"", honest=False).commitment for number in (4, 9)]
    assert {one for one, kind in said.items() if kind == "FRAUD"} == set(frauds)


async def test_a_database_in_use_is_refused(by_hand, tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/kept.sqlite"
    for name, wanted in (("a", ""), ("b", "the database is not empty")):
        try:
            async with replayed(by_hand[0], tmp_path / name, HereWorkers(), database=url) as watch:
                await watch.play()
            said = ""
        except ChallengerError as error:
            said = str(error)
        assert wanted in said
        assert bool(wanted) == bool(said)
