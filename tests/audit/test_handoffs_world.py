"""The ledger of whole lives: real watcher, embedded chain, honest providers and cheats."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace

import pytest

from challenger.audit.handoffs import Ledger, Summary, ledger_of
from challenger.audit.hops import Certainty, Fault, Role, Status, Step
from challenger.cli import main
from challenger.domain import CommitmentId, Hash32, UnixTime, VerdictKind
from challenger.settings import Mode
from challenger.sim.data import DataRoom
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.small import SmallChallenger, SmallWorld, small_world

CHEATS = ("int8", "older", "nudge", "truncate", "copy", "withhold")


def settings_of(world: SmallWorld):
    return replace(world.settings, filing=replace(world.settings.filing, correlated_providers=100))


async def ledgers(challenger: SmallChallenger) -> dict[bytes, Ledger]:
    async with challenger.app.store.read() as view:
        every = view.handoffs.between(UnixTime(0), UnixTime(2**62))
        return {story.identity: ledger_of(story) async for story in every}


async def test_each_cheat_is_named_and_nobody_else(tmp_path, monkeypatch, capsys) -> None:
    async with small_world(tmp_path / "w", CHEATS) as world:
        async with world.challenger(settings_of(world)) as challenger:
            await world.play()
            await challenger.until_quiet()
            await world.advance(3_600)
            await challenger.until_quiet()
            found = await ledgers(challenger)
        for label in world.labels:
            first = found[label.job].first
            if label.truth is Truth.HONEST:
                assert first is None, found[label.job].sentence()
                continue
            assert first is not None, label
            assert first.responsible is not None
            assert (first.responsible.role, first.responsible.address) == (Role.PROVIDER, first.holder.address)
            if label.truth is Truth.WITHHELD:
                assert (first.step, first.fault) == (Step.OUTPUT, Fault.WITHHELD)
                assert first.certainty is Certainty.CHAIN
            else:
                fault = Fault.REPLAYED if label.kind == Kind.COPY.value else Fault.WRONG
                assert (first.step, first.fault, first.certainty) == (Step.INFERENCE, fault, Certainty.REPLAY), (
                    label,
                    found[label.job].sentence(),
                )
                assert first.should != first.did
        summary = Summary()
        for ledger in found.values():
            summary.add(ledger)
        assert (summary.ledgers, summary.broken) == (10, 6)
        assert {let.party.role for let in summary.faults} == {Role.PROVIDER}

        # the command over the same record
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("CHALLENGER_STORE_URL", world.settings.store.url)
        (withheld,) = world.withheld
        assert await asyncio.to_thread(main, ["handoffs", "0x" + withheld.hex()[:12]]) == 0
        out = capsys.readouterr().out
        assert f"Commitment 0x{withheld.hex()}" in out
        assert "did not show the output when it was demanded (demand 1); proved by chain" in out
        assert await asyncio.to_thread(main, ["handoffs", withheld.hex(), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == found[withheld].as_json()
        assert await asyncio.to_thread(main, ["handoffs", "--all", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == summary.as_json()
        assert await asyncio.to_thread(main, ["handoffs", "--all"]) == 0
        assert "6 of 10 have a hop that diverged." in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["handoffs", "--all", "--since", "2126-01-01"]) == 0
        assert capsys.readouterr().out == "No commitment of that time is in the index.\n"
        assert await asyncio.to_thread(main, ["handoffs", "0xfff", "--until", "9"]) == 2
        assert await asyncio.to_thread(main, ["handoffs", "--all", "--since", "9", "--until", "9"]) == 2
        assert await asyncio.to_thread(main, ["handoffs", "0x" + "99" * 32]) == 2
        assert await asyncio.to_thread(main, ["handoffs", "nothing"]) == 2
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("mode", [Mode.WATCH, Mode.LIVE])
async def test_what_is_served_in_place_of_the_output_is_told(tmp_path, mode) -> None:
    other = b"an older answer, or none"
    async with small_world(tmp_path / "w", ("withhold",)) as world:
        wanted = settings_of(world)
        settings = replace(wanted, filing=replace(wanted.filing, mode=mode))
        async with world.challenger(settings) as challenger:
            await world.play()
            (job,) = world.withheld
            DataRoom(tmp_path / "w" / "data").put(await output_root(challenger, job), other)
            await challenger.until_quiet()
            if mode is Mode.LIVE:
                await world.advance(3_600)
                await challenger.until_quiet()
            found = await ledgers(challenger)
            async with challenger.app.store.read() as view:
                tries = await view.verdicts.of(CommitmentId(job))
        digest = hashlib.sha256(other).digest()
        lay = f"{len(other)} bytes of sha256 0x{digest.hex()} at file:/"
        assert len(tries) >= 2, "two tries in a row say so before it counts"
        assert {one.kind for one in tries} == {VerdictKind.UNAVAILABLE.value}
        assert all(one.detail.startswith(f"output: substituted, {lay}") for one in tries)
        first = found[job].first
        assert first is not None
        assert first.responsible == first.holder
        if mode is Mode.LIVE:  # a demand over what was missing went out all the same, and was lost
            assert (first.step, first.fault, first.certainty) == (Step.OUTPUT, Fault.WITHHELD, Certainty.CHAIN)
        else:
            assert (first.step, first.fault, first.certainty) == (Step.OUTPUT, Fault.SUBSTITUTED, Certainty.OBSERVED)
        assert first.did == {"served_sha256": digest}
        assert lay in first.said
        assert {one.first for key, one in found.items() if key != job} == {None}


async def output_root(challenger: SmallChallenger, job: bytes) -> Hash32:
    await challenger.turn()
    async with challenger.app.store.read() as view:
        row = await view.chain.commitment(CommitmentId(job))
    assert row is not None
    return row.output_root


async def test_a_backend_that_lies_accuses_nobody(tmp_path) -> None:
    async with small_world(tmp_path / "w", ()) as world:
        world.workers.lies = {"torch"}
        async with world.challenger(settings_of(world)) as challenger:
            await world.play()
            await challenger.until_quiet()
            found = await ledgers(challenger)
        assert len(found) == 4
        assert [ledger.sentence() for ledger in found.values() if ledger.first] == []
        inferences = [hop for ledger in found.values() for hop in ledger.hops if hop.step is Step.INFERENCE]
        assert {hop.status for hop in inferences} == {Status.UNKNOWN}


async def test_a_reorganisation_revokes_and_nobody_is_blamed(tmp_path) -> None:
    async with small_world(tmp_path / "w", ()) as world, world.challenger(settings_of(world)) as challenger:
        await world.play()
        await challenger.turn()
        before = await ledgers(challenger)
        assert all(ledger.first is None for ledger in before.values())
        await world.reorg(8, keep=False)
        challenger.people = False
        for _ in range(4):
            await challenger.turn()
        assert await ledgers(challenger) == {}
        async with challenger.app.store.read() as view:
            stories = [await view.handoffs.story(one) for one in before]
        firsts = [ledger_of(story).first for story in stories if story is not None]
        assert len(firsts) == 4
        assert {(one.step, one.fault, one.responsible.role) for one in firsts if one and one.responsible} == {
            (Step.COMMITMENT, Fault.REVOKED, Role.CHAIN)
        }
