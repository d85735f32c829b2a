"""A running watcher writes a bundle on each fraud that its second backend has borne out, on idle time, once."""

from __future__ import annotations

import pytest
from lives import checked, failing
from sqlalchemy import update

from challenger.domain import UnixTime
from challenger.evidence.keeper import kept, write
from challenger.evidence.seal import decode
from challenger.sim.scoreboard import Truth
from challenger.store.schema import events
from tests.integration.test_watcher import scene


async def test_each_fraud_gets_its_bundle_once_whatever_is_stopped(tmp_path):
    async with scene(tmp_path, seed=3) as s:
        folder = s.settings.store.evidence
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            assert await app.keep_evidence()
        assert len(list(folder.iterdir())) == 1
        async with s.watcher(correlated_providers=100) as app:  # what was not written before is written now
            await s.until_quiet(app)
            while await app.keep_evidence():
                pass
        frauds = s.jobs(Truth.WRONG)
        assert {decode(path.read_bytes()).evidence.commitment for path in folder.iterdir()} == frauds
        before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert len(before) == len(frauds)
        async with s.watcher(correlated_providers=100) as app:
            await s.until_quiet(app)
            assert not await app.keep_evidence()
        assert before == {path: path.stat().st_mtime_ns for path in folder.iterdir()}
        for job in frauds:
            (path,) = kept(folder, job)
            found = await checked(path.read_bytes())
            assert failing(found) == []
            assert found.replayed


async def test_a_bundle_that_cannot_be_made_is_tried_again_and_keeps_no_other_waiting(tmp_path, caplog):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        await s.until_quiet(app)
        s.workers.fails = {"torch": 1}  # the first bundle's replay dies
        assert not await app.keep_evidence()
        assert caplog.text.count("evidence-not-kept") == 1
        looks = 0
        while sum(len(kept(s.settings.store.evidence, job)) for job in s.jobs(Truth.WRONG)) < len(s.jobs(Truth.WRONG)):
            await app.keep_evidence()
            looks += 1
            assert looks < 100
        assert caplog.text.count("evidence-not-kept") == 1


async def test_no_bundle_is_made_on_time_that_a_replay_wants(tmp_path):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100) as app:
        assert not await app.keep_evidence(), "nothing has rested yet"
        await s.world.play()
        for _ in range(3):
            await app.step()
            await s.world.blocks.tick()
        asked = len(s.workers.asked)
        assert not await app.keep_evidence()
        assert len(s.workers.asked) == asked


def test_a_file_has_its_name_once_it_is_whole(tmp_path, monkeypatch):
    target = tmp_path / "there" / "evidence.json"
    assert write(target, b"one").read_bytes() == b"one"

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(target, b"two")
    assert [path.name for path in target.parent.iterdir()] == ["evidence.json"]
    assert target.read_bytes() == b"one"


async def test_an_output_that_is_no_bundle_ends_nothing(tmp_path):
    """A provider may write anything beside its roots."""
    async with scene(tmp_path, seed=3, by_uri=0) as s:
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            async with app.store.begin(UnixTime(0)) as unit:
                committed = events.c.kind == "Committed"
                await unit.connection.execute(update(events).where(committed).values(data=b"\xff\xff"))
            while await app.keep_evidence():
                pass
        for job in s.jobs(Truth.WRONG):
            (path,) = kept(s.settings.store.evidence, job)
            assert decode(path.read_bytes()).evidence.difference is None


async def test_a_failure_of_the_program_itself_is_told_and_ends_nothing(tmp_path):
    async with scene(tmp_path, seed=3) as s, s.watcher(correlated_providers=100) as app:
        await s.world.play()
        await s.until_quiet(app)

        async def broken(_: object) -> None:
            raise RuntimeError("a fault of ours")

        s.workers.replay = broken
        assert not await app.keep_evidence()
        assert ("bug", "evidence") in app.telemetry.alerts.active()


async def test_a_folder_that_cannot_be_read_ends_nothing(tmp_path, caplog):
    async with scene(tmp_path, seed=3) as s:
        s.settings.store.evidence.write_text("no folder")
        async with s.watcher(correlated_providers=100) as app:
            await s.world.play()
            await s.until_quiet(app)
            for _ in range(3):
                assert not await app.keep_evidence()
            assert caplog.text.count("evidence-not-kept") == 1
            s.settings.store.evidence.unlink()
            assert await app.keep_evidence(), "mended, it goes on"
