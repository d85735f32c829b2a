"""One history, read in three ways; and a backtest of what was lived through comes to what was lived through."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from challenger.backtest import sources
from challenger.backtest.choices import choices
from challenger.backtest.past import Fold, Past, Times, Truth, pasts
from challenger.backtest.simulate import Fate, World, play
from challenger.backtest.sources import Asked
from challenger.chain.rpc import Rpc
from challenger.domain import (
    BlockNumber,
    DemandClosed,
    DemandId,
    DemandOutcome,
    DisputeClosed,
    DisputeId,
    DisputeOutcome,
    UnixTime,
    Wei,
)
from challenger.errors import ConfigError, NotMigrated
from challenger.recording.lines import deployment_of
from challenger.recording.provider import RecordedProvider
from challenger.recording.spool import Spool
from challenger.recording.watch import Clock
from challenger.settings import Settings
from challenger.sim.small import small_world
from challenger.store import migrate
from challenger.store.engine import open_store
from replay.recording import open_recording
from tests.backtest.pasts import PARAMS
from tests.recording import written
from tests.recording.test_chain_replay import ALL, HereWorkers, replayed
from tests.store.chains import THEM, at, audit_verdict, chain, committed, demand_opened, dispute_opened

#: Few enough for one pause less to matter, many enough for every kind.
JOBS = 40


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    written.write(folder / "chain.tar", folder / "model", JOBS, tail=320)
    return folder / "chain.tar"


async def served(recording: Path, asked: Asked, folder: Path):
    """The recording's history by way of JSON-RPC, as of its last block."""
    with open_recording(recording) as opened, Spool(opened) as spool:
        deployment = deployment_of(opened)
        clock = Clock(float(spool.time(deployment.last)))
        settings = Settings()
        settings = replace(
            settings,
            chain=replace(
                settings.chain,
                rpc=("recording",),
                chain_id=deployment.chain_id,
                market=deployment.market,
                start_block=3,
                embedded=True,
            ),
            store=replace(settings.store, url=f"sqlite:///{folder / 'none.sqlite'}"),
        )
        return await sources.from_chain(settings, asked, Rpc(RecordedProvider(spool, clock), name="r", attempts=1))


async def test_recording_database_and_chain_tell_the_same_history(recording, tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'all.sqlite'}"
    async with replayed(recording, tmp_path / "a", HereWorkers(), database=url) as watch:
        await watch.play()
    settings = replace(Settings(), store=replace(Settings().store, url=url))
    told = await sources.from_recording(settings, recording, Asked())
    kept = await sources.from_database(settings, Asked())
    seen = await served(recording, Asked(), tmp_path)
    assert len(told.pasts) == JOBS
    assert list(seen.pasts) == list(told.pasts)
    assert [replace(one, truth=Truth.UNKNOWN) for one in kept.pasts] == [
        replace(one, truth=Truth.UNKNOWN) for one in told.pasts
    ]
    assert told.params == kept.params == seen.params
    assert told.predictions.block_time == kept.predictions.block_time == seen.predictions.block_time == 12.0
    assert {one.fee for one in told.pasts} == {Wei(10**15)}
    # the chain says which were fraud, replays what the others were
    assert [one.truth for one in told.pasts] == [
        Truth.WRONG if one.truth is Truth.WRONG else Truth.UNKNOWN for one in kept.pasts
    ]
    assert sum(one.truth is Truth.WRONG for one in kept.pasts) == JOBS // 10
    assert sum(one.truth is Truth.RIGHT for one in kept.pasts) == JOBS - JOBS // 10
    assert told.contested == kept.contested == seen.contested == 0


async def test_a_range_is_of_commitments_and_knows_how_they_ended(recording, tmp_path) -> None:
    asked = Asked(first=13, last=16)
    told = await sources.from_recording(Settings(), recording, asked)
    seen = await served(recording, asked, tmp_path)
    assert [one.committed_at for one in told.pasts] == [written.time_of(11 + n // 4) for n in range(8, 24)]
    assert list(seen.pasts) == list(told.pasts)
    assert sum(one.truth is Truth.WRONG for one in told.pasts) == 2


async def test_what_is_no_source_says_so(recording, tmp_path) -> None:
    settings = replace(Settings(), store=replace(Settings().store, url=f"sqlite:///{tmp_path / 'no.sqlite'}"))
    with pytest.raises(NotMigrated, match="no such file"):
        await sources.from_database(settings, Asked())
    await migrate.upgrade(settings.store.url)
    with pytest.raises(ConfigError, match="does not say the market's terms"):
        await sources.from_database(settings, Asked())
    with pytest.raises(ConfigError, match="comes after"):
        await sources.from_recording(settings, recording, Asked(first=20, last=10))
    assert (await served(recording, Asked(last=100_000), tmp_path)).last == 340
    with pytest.raises(ConfigError, match="nothing in this range"):
        await served(recording, Asked(first=100_000), tmp_path)


async def test_seconds_that_are_asked_for_count_in_place_of_learned_ones(recording) -> None:
    told = await sources.from_recording(Settings(), recording, Asked(replay=7.0, confirm=9.0))
    ahead = told.predictions.ahead(told.pasts[0].model)
    assert (ahead.replay, ahead.confirm) == (7.0, 9.0)


async def test_a_backtest_of_what_was_lived_through_comes_to_it(tmp_path) -> None:
    """A live watcher on an embedded chain; then its own policy over its own database, its disputes played anew."""
    async with small_world(tmp_path, ["nudge", "truncate", "withhold"], tasks=21) as world:
        settings = replace(world.settings, filing=replace(world.settings.filing, correlated_providers=100))
        async with world.challenger(settings) as challenger:
            await world.play()
            await challenger.until_quiet()
            await world.advance(3_600)
            await challenger.until_quiet()
            filed, demanded = await challenger.filings(), await challenger.demands()
            frauds, withheld = world.frauds, world.withheld
        told = await sources.from_database(settings, Asked())
        seen = await sources.from_chain(settings, Asked(), world.rpc)
        await migrate.downgrade(settings.store.url, "0005")
        with pytest.raises(NotMigrated, match="0005"):
            await sources.from_chain(settings, Asked(), world.rpc)
        stranger = await sources.from_chain(
            replace(settings, store=replace(settings.store, url=f"sqlite:///{tmp_path / 'none'}")), Asked(), world.rpc
        )
    assert {one.commitment for one in told.pasts if one.truth is Truth.WRONG} == set(frauds)
    assert {one.commitment for one in told.pasts if one.truth is Truth.WITHHELD} == set(withheld)
    assert all(one.rival is None for one in told.pasts)
    assert list(seen.pasts) == list(told.pasts)
    # to whom our account is a stranger's, our disputes are a rival's
    assert {one.commitment for one in stranger.pasts if one.rival is not None} == {*filed, *demanded}
    lived = play(told, choices(settings, [])[0], World(approval=0), bytes(32))
    assert lived.fates == {Fate.CAUGHT: len(filed) + len(demanded)}
    assert set(filed) == set(frauds)
    assert len(frauds) > 0
    assert len(withheld) > 0


async def test_audits_tell_what_the_watcher_never_drew(recording, tmp_path) -> None:
    nothing = replace(ALL, sampling=replace(ALL.sampling, base=0, newcomer=0, offender=0, trusted_after=0))
    url = f"sqlite:///{tmp_path / 'none.sqlite'}"
    async with replayed(recording, tmp_path / "a", HereWorkers(), database=url, settings=nothing) as watch:
        await watch.play()
    settings = replace(Settings(), store=replace(Settings().store, url=url))
    before = await sources.from_database(settings, Asked())
    drawn = sum(one.truth is Truth.RIGHT for one in before.pasts)
    honest = next(one for one in before.pasts if one.truth is Truth.UNKNOWN)
    await audited(url, honest.commitment)
    after = await sources.from_database(settings, Asked())
    assert sum(one.truth is Truth.RIGHT for one in after.pasts) == drawn + 1


async def audited(url: str, commitment: bytes) -> None:
    async with open_store(url) as store, store.begin(UnixTime(1)) as unit:
        await unit.audits.add(audit_verdict(commitment))


def ends(*events) -> Past:
    fold, block = Fold(), chain(1, 10)[5]
    opened = committed(block, 1)
    for event in (opened, *(event(block, opened.commitment) for event in events)):
        fold.take(event)
    (found,), contested = pasts(fold.rows(BlockNumber(0), BlockNumber(100)), PARAMS, Times([]), {}, ())
    assert contested == 0
    return found


def dispute(outcome: DisputeOutcome, number: int):
    return (
        lambda block, job: dispute_opened(block, job, number, number),
        lambda block, job: DisputeClosed(at(block, 50 + number), DisputeId(number), job, outcome, Wei(0), Wei(0)),
    )


def demand(outcome: DemandOutcome, number: int):
    return (
        lambda block, job: demand_opened(block, job, number, number),
        lambda block, job: DemandClosed(at(block, 70 + number), DemandId(number), job, outcome, b"", Wei(0), Wei(0)),
    )


def test_several_ends_of_one_commitment_come_to_one() -> None:
    proved, failed = dispute(DisputeOutcome.CHALLENGER, 2), dispute(DisputeOutcome.PROVIDER, 3)
    lost, moot = demand(DemandOutcome.LOST, 4), demand(DemandOutcome.MOOT, 5)
    assert ends().truth is Truth.UNKNOWN
    assert ends(*moot).truth is Truth.UNKNOWN
    assert (ends(*failed).truth, ends(*failed).rival) == (Truth.RIGHT, None)
    for together in ((*failed, *lost), (*lost, *failed)):
        assert ends(*together).truth is Truth.WITHHELD
        assert ends(*together).rival_account == THEM
    for together in ((*failed, *proved), (*proved, *failed), (*lost, *proved), (*proved, *lost)):
        assert ends(*together).truth is Truth.WRONG


def test_times_between_known_blocks_go_on_evenly() -> None:
    times = Times(
        [(BlockNumber(10), UnixTime(100)), (BlockNumber(20), UnixTime(200)), (BlockNumber(12), UnixTime(110))]
    )
    assert [times.of(BlockNumber(n)) for n in (5, 10, 11, 12, 16, 20, 30)] == [100, 100, 105, 110, 155, 200, 200]
    assert Times([]).of(BlockNumber(1)) == 0
