"""The plugin for watchers, as a project uses it, and the small world behind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import challenger.pytest_plugin
from challenger.domain import Mode, State, VerdictKind
from challenger.sim.small import BLOCK, NeverQuiet, small_world
from tests.recording import written
from tests.recording.test_chain_replay import HereWorkers  # noqa: F401 - loaded here, for the inner runs

pytest_plugins = "pytester"
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


@pytest.fixture
def project(pytester):
    pytester.makeini(INI)

    def run(test, *options):
        pytester.makepyfile(test_it=test)
        plugins = "-p", "challenger.pytest_plugin", "-p", "no:cacheprovider"
        return pytester.runpytest_inprocess(*plugins, *options)

    run.path = pytester.path
    return run


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_a_world_and_a_challenger_in_both_modes(project, mode):
    test = f"""
        import pytest
        {"" if mode == "auto" else "@pytest.mark.asyncio"}
        async def test_it(devnet_world):
            async with devnet_world(["truncate"], tasks=5) as world, world.challenger() as challenger:
                before = await world.now()
                await world.advance(600)
                assert await world.now() == before + 600
                await world.play()
                await challenger.turn()
                assert len(world.labels) == 5
                assert len(await challenger.states()) == 5
    """
    project(test, "-o", f"asyncio_mode={mode}").assert_outcomes(passed=1)


def test_without_the_extra_it_is_one_line(project):
    project.path.joinpath("conftest.py").write_text("import sys\nsys.modules['eth'] = None\n")
    result = project("def test_it(devnet_world): pass")
    result.assert_outcomes(errors=1)
    wanted = "the embedded chain is not installed: pip install 'inference-challenger[demo]'"
    lines = result.stdout.lines
    place = lines.index(wanted)
    assert "ERROR at setup" in lines[place - 1]
    assert lines[place + 1].startswith("===")


def test_a_recorded_chain_ends_with_the_journal_it_ended_with(project):
    written.write(project.path / "chain.tar", project.path / "model", 4)
    test = """
        from tests.recording.test_chain_replay import ALL, HereWorkers
        async def test_it(chain_recording):
            found = await chain_recording("chain.tar", settings=ALL, workers=HereWorkers())
            assert found.commitments == 4
            head = found.head.hex()
            again = await chain_recording("chain.tar", settings=ALL, workers=HereWorkers(), expect=head)
            assert again.entries == found.entries
            await chain_recording("chain.tar", settings=ALL, workers=HereWorkers(), seed="x", expect="0x" + head)
    """
    result = project(test, "-o", "asyncio_mode=auto")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            '>       await chain_recording("chain.tar", * seed="x", *',
            "E       AssertionError: chain.tar ends with another journal than expected",
            "E         expected  *",
            "E         here      * after * entries",
            "E         verdicts  *",
            "E         states    *",
        ]
    )


def test_a_recording_without_a_chain_is_one_line(project):
    from replay.recording import RecordingWriter

    with RecordingWriter(project.path / "runs.tar", ["runs"]) as writer, writer.lines("runs.jsonl.zst"):
        pass
    test = """
        async def test_it(chain_recording):
            await chain_recording("runs.tar", workers=object())
    """
    result = project(test, "-o", "asyncio_mode=auto")
    result.assert_outcomes(failed=1)
    assert any(line.startswith("runs.tar: the recording is ") for line in result.stdout.lines)
    assert "Traceback" not in result.stdout.str()


# ---- the small world ---------------------------------------------------------------------------------------------------


async def test_frauds_are_filed_and_data_is_demanded(tmp_path):
    async with small_world(tmp_path / "w", ["nudge", "withhold"]) as world, world.challenger() as challenger:
        await world.play()
        await challenger.until_quiet()
        assert await challenger.approve() == 1, "two of one model at once: a person looks"
        await challenger.until_quiet()
        verdicts = await challenger.verdicts()
        assert {one for one, kind in verdicts.items() if kind is VerdictKind.FRAUD} == world.frauds
        assert await challenger.filings() == list(world.frauds)
        assert await challenger.demands() == list(world.withheld)
        assert (len(world.frauds), len(world.withheld), len(world.honest)) == (1, 1, 4)


async def test_the_journal_follows_from_the_seed(tmp_path):
    heads = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        async with small_world(tmp_path / name, ["nudge"], seed=seed) as world, world.challenger() as challenger:
            await world.play()
            for _ in range(3):
                await challenger.turn()
            heads.append(await challenger.journal())
    assert heads[0] == heads[1] != heads[2]
    assert heads[0][0] > 20


async def test_stopped_started_paused_approved_and_past_the_deadline(tmp_path):
    async with small_world(tmp_path / "w", ["nudge", "older", "withhold"]) as world:
        async with world.challenger() as challenger:
            await world.play()
            await challenger.until_quiet()
            assert await challenger.demands() == list(world.withheld)
            before = await challenger.filings()
            assert set(before) < world.frauds, "two accused at once: a person has to look"
        async with world.challenger() as challenger:  # from the database alone
            assert await challenger.approve() == 1
            await challenger.until_quiet()
            assert set(await challenger.filings()) == world.frauds
            assert len(await challenger.filings()) == len(world.frauds)
            await world.advance(700)  # nobody showed the data in time
            await challenger.until_quiet()
            states = await challenger.states()
        assert {states[one] for one in world.withheld} <= {State.WON, State.WITHDRAWN}
        assert await world.accused("Challenged") == await world.accused("Challenged", world.account)


async def test_in_watch_mode_nothing_is_filed_and_time_stands_still_between_turns(tmp_path):
    async with small_world(tmp_path / "w", ["copy"]) as world:
        watching = replace(world.settings, filing=replace(world.settings.filing, mode=Mode.WATCH))
        async with world.challenger(watching) as challenger:
            await world.play()
            now = await world.now()
            await challenger.turn()
            assert await world.now() == now + BLOCK
            with pytest.raises(NeverQuiet, match="never comes to rest"):
                await challenger.until_quiet(blocks=5, most=1)
            await challenger.until_quiet(blocks=2)
            assert await challenger.filings() == await challenger.demands() == []


async def test_a_reorganisation_under_a_filing_accuses_nobody_twice(tmp_path):
    async with small_world(tmp_path / "w", ["nudge"]) as world, world.challenger() as challenger:
        await world.play()
        while not await challenger.filings():
            await challenger.turn()
        before = await world.rpc.block("latest")
        await world.reorg(2)
        assert (await world.rpc.block(before.number)).hash != before.hash
        await challenger.until_quiet()
        assert await challenger.filings() == list(world.frauds)


async def test_a_backend_that_lies_accuses_nobody(tmp_path):
    async with small_world(tmp_path / "w", ["nudge"]) as world, world.challenger() as challenger:
        world.workers.lies.add("torch")
        await world.play()
        for _ in range(4):
            await challenger.turn()
        assert set((await challenger.verdicts()).values()) == {VerdictKind.INCONCLUSIVE}


@pytest.mark.slow
def test_a_recorded_chain_is_run_by_confined_workers(project):
    jobs = written.write(project.path / "chain.tar", project.path / "model", 12)
    test = """
        from tests.recording.test_chain_replay import ALL
        async def test_it(chain_recording):
            found = await chain_recording("chain.tar", settings=ALL)
            print(dict(found.verdicts))
    """
    result = project(test, "-o", "asyncio_mode=auto", "-s")
    result.assert_outcomes(passed=1)
    frauds = sum(not job.honest for job in jobs)
    assert frauds > 0
    result.stdout.fnmatch_lines([f"*{{'FRAUD': {2 * frauds}, 'VALID': {12 - frauds}}}*"])


async def test_an_unknown_cheat_is_named(tmp_path):
    with pytest.raises(ValueError, match="no cheat 'nudje': known are int8, older, nudge, truncate, copy, withhold"):
        async with small_world(tmp_path / "w", ["nudje"]):
            pass


def test_the_page_names_every_fixture_and_cheat():
    page = Path("docs/recordings.md").read_text(encoding="utf-8")
    section = page[page.index("## In your tests") :]
    source = Path(challenger.pytest_plugin.__file__).read_text(encoding="utf-8")
    for name in ("devnet_world", "chain_recording"):
        assert f"def {name}(" in source
        assert f"`{name}" in section
    for cheat in ("int8", "older", "nudge", "truncate", "copy", "withhold"):
        assert f"`{cheat}`" in section
