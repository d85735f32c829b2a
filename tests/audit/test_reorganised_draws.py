"""Draws that a reorganisation came after: an honest watcher's hold, and no other draw is excused by one."""

from __future__ import annotations

from typing import Any

import pytest
from drawing import AT, HALF, S, Watch, chosen, said, watch
from sqlalchemy import update

from challenger.chain.follower import Follower, Options
from challenger.domain import Block, VerdictKind
from challenger.store.schema import blocks
from tests.store.chains import T0, block, chain

NOT_DRAWN = "replayed although it was not drawn"
OTHER_HASH = "the draw used a hash that is not the draw block's"
UNBOUND = "1 commitments would be explained by entries that no published head binds yet"


async def test_what_was_replayed_by_a_draw_that_a_reorganisation_voided_holds(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.VALID, S.REPLAYED)
        await one.reorganised(11)
        assert (await one.work()).state == "skipped"
        report = await one.audited()
        assert said(report) == [NOT_DRAWN]
        assert UNBOUND in report.notes
        await one.publish()
        report = await one.audited()
        assert report.holds
        assert "1 commitments were replayed by a draw that a reorganisation voided" in report.notes


async def test_so_does_what_came_back_in_another_block_and_is_not_drawn_there(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.VALID, S.REPLAYED)
        await one.reorganised(9, moved=True)
        assert (await one.work()).state == "skipped"
        await one.publish()
        assert said(await one.audited()) == []


async def test_a_draw_that_is_kept_since_money_was_on_its_way_holds(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.FRAUD, S.REPLAYED, S.CONFIRMED, S.FILING)
        await one.reorganised(11)
        assert (await one.work()).state == "filing"
        assert said(await one.audited()) == [OTHER_HASH]
        await one.publish()
        report = await one.audited()
        assert said(report) == []
        assert "1 commitments were drawn before a reorganisation that left the draw in force: money was on its way" in (
            report.notes
        )
        # and once more: the block that stands now is not the one of which the journal told first
        await one.reorganised(11)
        await one.publish()
        assert said(await one.audited()) == []


async def test_so_does_one_whose_commitment_came_back_in_another_block(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.FRAUD, S.REPLAYED, S.CONFIRMED, S.FILING)
        await one.reorganised(9, moved=True)
        row = await one.work()
        assert (row.state, row.draw_block, row.seen_block) == ("filing", 12, 11)
        await one.publish()
        assert said(await one.audited()) == []


@pytest.mark.parametrize("money", [True, False])
async def test_so_does_what_a_reorganisation_took_into_the_next_epoch(tmp_path, money) -> None:
    async with watch(tmp_path, length=AT + 1) as one:
        then = (S.REPLAYED, S.CONFIRMED, S.FILING) if money else (S.REPLAYED,)
        await one.judged(VerdictKind.FRAUD if money else VerdictKind.VALID, *then)
        await one.reorganised(9, moved=True)
        assert (await one.work()).epoch == (0 if money else 1)
        await one.publish()
        report = await one.audited()
        assert (report.epoch, report.kept, report.redrawn) == (1, money, not money)
        assert said(report) == []


async def test_a_draw_is_not_excused_by_a_reorganisation_that_left_nothing_to_follow(tmp_path) -> None:
    """A watcher that keeps the draw it likes, and says so, without money on its way."""
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.VALID, S.REPLAYED)
        was, (other,) = one.blocks[11], chain(12, 12, one.blocks[10], fork="b")
        one.served.canonical[12] = other
        await _replaced(one, other)
        told = {"from": "replayed", "draw_block": 12, "was": was.hash, "is": other.hash, "kept": True}
        async with one.store.begin(T0) as unit:
            await unit.journal.write(T0, "draw-orphaned", "0x" + one.job.hex(), told)
        await one.publish()
        assert said(await one.audited()) == [OTHER_HASH]


async def test_nor_by_a_reorganisation_of_which_the_journal_does_not_tell(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.judged(VerdictKind.FRAUD, S.REPLAYED, S.CONFIRMED, S.FILING)
        (other,) = chain(12, 12, one.blocks[10], fork="b")
        one.served.canonical[12] = other
        await _replaced(one, other)
        await one.publish()
        assert said(await one.audited()) == [OTHER_HASH]


async def test_a_replay_after_the_second_draw_is_not_excused_by_the_first(tmp_path) -> None:
    async with watch(tmp_path) as one:
        await one.reorganised(11)
        assert (await one.work()).state == "skipped"
        await one.judged(VerdictKind.VALID)
        await one.publish()
        assert said(await one.audited()) == [NOT_DRAWN]


async def test_nor_by_a_draw_that_the_secret_does_not_give(tmp_path) -> None:
    """The draw of before is said to have selected, and with the hash that it names it does not."""
    async with watch(tmp_path) as one:
        await one.reorganised(11)
        row = await one.work()
        await one.publish()
        (other,) = chain(12, 12, one.blocks[10], fork="b")
        subject = "0x" + one.job.hex()
        lies: list[tuple[str, dict[str, Any]]] = [
            ("draw-orphaned", {"from": "skipped", "draw_block": 12, "was": row.draw_hash, "is": other.hash, "kept": False}),
            ("note", {"from": "observed", "epoch": 0, "inputs": {"sampled": "0", "frauds": "0", "fee": "0", "burnt": "0"},
                      "p_millionths": HALF, "draw_block": 12}),
            ("sampled", {"from": "observed", "draw_hash": row.draw_hash, "selected": True}),
        ]  # fmt: skip
        async with one.store.begin(T0) as unit:
            for kind, told in lies:
                await unit.journal.write(T0, kind, subject, told)
        await one.judged(VerdictKind.VALID)
        back = {"from": "sampled", "draw_block": 12, "was": row.draw_hash, "is": row.draw_hash, "kept": False}
        async with one.store.begin(T0) as unit:
            await unit.journal.write(T0, "draw-orphaned", subject, back)
            for kind, told in lies[1:2]:
                await unit.journal.write(T0, kind, subject, told)
            await unit.journal.write(
                T0, "skipped", subject, {"from": "observed", "draw_hash": row.draw_hash, "selected": False}
            )
        await one.publish()
        assert said(await one.audited()) == [NOT_DRAWN]


async def _replaced(one: Watch, other: Block) -> None:
    """The ledger's own word of block 12 is another, as after any edit."""
    async with one.store.begin(T0) as unit:
        await unit.connection.execute(update(blocks).where(blocks.c.number == 12).values(hash=other.hash))


@pytest.mark.parametrize("selected", [True, False])
async def test_a_draw_whose_block_went_while_the_watcher_was_down_is_made_anew(tmp_path, selected) -> None:
    """So far below the head the index keeps but few blocks, and this is one of them."""
    async with watch(tmp_path) as one:
        other = next(b for n in range(100) if chosen(one.job, b := block(12, one.blocks[10], str(n))) == selected)
        one.blocks = [*one.blocks[:11], other, *chain(13, 90, other)]
        one.served.__init__(one.blocks, [one.event])  # type: ignore[misc]
        follower = Follower(one.served, one.index, one.served, Options(start=1, depth=8))
        while await follower.step():
            pass
        row = await one.work()
        assert (row.state, row.draw_hash) == ("observed", None)
        await one.sampler.step(one.blocks[-1])
        row = await one.work()
        assert (row.draw_hash, row.selected) == (other.hash, selected)
        await one.publish()
        assert said(await one.audited()) == []
