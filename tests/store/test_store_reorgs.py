"""What a reorg does to decisions: orphaned, restored, begun anew, or kept because money moves."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from challenger.audit.rows import audit_rows
from challenger.domain import Action, Call, Cursor, Intent, State, TxState
from challenger.errors import StaleRow
from challenger.store import Store, View, subject_of
from challenger.store.adopt import adopt, strays

from .chains import ME, T0, THEM, chain, committed, demand_opened, dispute_opened, h

S = State


class Scene:
    """Blocks 1..10 with one commitment in block 5, drawn with block 8."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.index = store.index()
        self.blocks = chain(1, 10)
        self.event = committed(self.blocks[4])
        self.job = self.event.commitment
        self.cursor: Any = None

    async def start(self) -> Scene:
        self.cursor = await self.index.apply(self.blocks, [self.event], None)
        return self

    async def walk(self, *states: State, **changes: Any) -> None:
        async with self.store.begin(T0) as unit:
            for old, new in pairwise(states):
                await unit.work.move(self.job, old, new, **changes)

    async def draw(self, state: State = S.SAMPLED) -> None:
        drawn = {"p_millionths": 10, "draw_block": 8, "draw_hash": self.blocks[7].hash, "selected": state is S.SAMPLED}
        async with self.store.begin(T0) as unit:
            await unit.work.move(self.job, S.OBSERVED, state, **drawn, drawn=h("hmac"), inputs={"sampled": "1"})

    async def rewind(self, to: int) -> None:
        self.cursor = await self.index.rewind(to, self.cursor)  # type: ignore[arg-type]

    async def again(self, blocks: list[Any], *events: Any) -> Cursor:
        self.cursor = await self.index.apply(blocks, list(events), self.cursor)
        return self.cursor  # type: ignore[no-any-return]

    async def work(self) -> Any:
        async with self.store.read() as view:
            return await view.work.get(self.job)

    async def holds(self) -> None:
        async with self.store.read() as view:
            assert await audit_rows(view) == []

    async def kinds(self) -> list[str]:
        async with self.store.read() as view:
            return [entry.kind for entry in await view.journal.about(subject_of(self.job))]


@pytest.fixture
async def scene(store: Store) -> Scene:
    return await Scene(store).start()


async def test_a_vanished_commitment_is_orphaned_and_comes_back_as_it_was(scene: Scene) -> None:
    await scene.draw()
    await scene.walk(S.SAMPLED, S.REPLAYED)
    await scene.rewind(4)
    row = await scene.work()
    assert (row.state, row.before) == ("orphaned", "replayed")
    async with scene.store.read() as view:
        assert await view.work.item(scene.job) is None
        assert await view.chain.commitment(scene.job) is None
    await scene.again(scene.blocks[4:], scene.event)
    row = await scene.work()
    assert (row.state, row.before, row.draw_hash) == ("replayed", None, scene.blocks[7].hash)
    assert await scene.kinds() == ["observed", "sampled", "replayed", "orphaned", "restored", "observed"]
    await scene.holds()


async def test_what_was_skipped_comes_back_skipped_and_the_audit_agrees(scene: Scene) -> None:
    await scene.draw(S.SKIPPED)
    await scene.rewind(4)
    await scene.again(scene.blocks[4:], scene.event)
    assert (await scene.work()).state == "skipped"
    await scene.holds()


async def test_in_another_block_it_starts_anew(scene: Scene) -> None:
    await scene.draw()
    await scene.rewind(4)
    other = chain(5, 10, scene.blocks[3], fork="b")
    await scene.again(other, committed(other[1]))
    row = await scene.work()
    assert (row.state, row.before, row.seen_block) == ("observed", None, 6)
    assert row.selected is row.draw_block is row.draw_hash is row.inputs is row.p_millionths is None
    await scene.holds()


async def test_money_on_its_way_is_followed_whatever_the_block(scene: Scene) -> None:
    await scene.draw()
    await scene.walk(S.SAMPLED, S.REPLAYED, S.CONFIRMED, S.FILING)
    await scene.rewind(4)
    other = chain(5, 10, scene.blocks[3], fork="b")
    await scene.again(other, committed(other[1]))
    row = await scene.work()
    assert (row.state, row.seen_block) == ("filing", 6)
    await scene.holds()


async def test_a_signed_demand_counts_as_money_on_its_way(scene: Scene) -> None:
    await scene.draw()
    await scene.walk(S.SAMPLED, S.UNAVAILABLE)
    intent = Intent("reference", subject_of(scene.job, "output", 0), Action.DEMAND, Call(ME, b"", 5), T0 + 99)
    async with scene.store.begin(T0) as unit:
        row = await unit.transactions.propose(intent, ME)
        await unit.transactions.signed(row.id, _Signed())
    await scene.rewind(4)
    other = chain(5, 10, scene.blocks[3], fork="b")
    await scene.again(other, committed(other[1]))
    assert (await scene.work()).state == "unavailable"


class _Signed:
    nonce = 0
    gas = 21_000
    max_fee = 10
    tip = 1
    hash = h("signed")
    raw = b"raw"
    signed_at = T0


async def test_a_draw_whose_block_was_replaced_is_void(scene: Scene) -> None:
    await scene.draw(S.SKIPPED)
    await scene.rewind(6)
    assert (await scene.work()).state == "skipped"  # the block may come back
    await scene.again(chain(7, 10, scene.blocks[5], fork="b"))
    row = await scene.work()
    assert (row.state, row.selected, row.draw_hash) == ("observed", None, None)
    assert (await scene.kinds())[-1] == "draw-orphaned"


async def test_a_draw_whose_block_comes_back_stands(scene: Scene) -> None:
    await scene.draw()
    await scene.rewind(6)
    await scene.again(scene.blocks[6:])
    assert (await scene.work()).state == "sampled"


async def test_a_draw_is_checked_though_the_commitment_was_restored_first(scene: Scene) -> None:
    await scene.draw()
    await scene.rewind(4)
    await scene.again(scene.blocks[4:6], scene.event)
    assert (await scene.work()).state == "sampled"
    await scene.again(chain(7, 8, scene.blocks[5], fork="b"))
    assert (await scene.work()).state == "observed"


async def test_a_move_that_rests_on_a_block_is_taken_back_with_it(scene: Scene) -> None:
    await scene.draw()
    await scene.walk(S.SAMPLED, S.REPLAYED, S.CONFIRMED)
    (eleven,) = chain(11, 11, scene.blocks[-1])
    await scene.again([eleven], dispute_opened(eleven, scene.job))
    await scene.walk(S.CONFIRMED, S.FILED_BY_OTHER, on=11)
    await scene.walk(S.FILED_BY_OTHER, S.FINALISED, on=12)
    await scene.rewind(10)
    assert (await scene.work()).state == "confirmed"
    assert (await scene.kinds())[-1] == "taken-back"
    async with scene.store.read() as view:
        assert await view.chain.disputes() == []
    # a second reorg finds nothing more to take back
    await scene.rewind(9)
    assert (await scene.work()).state == "confirmed"
    await scene.holds()


@pytest.mark.parametrize("part", ["", "output"])
async def test_what_was_adopted_holds_and_so_it_does_when_its_block_goes(scene: Scene, part: str) -> None:
    await scene.draw()
    (eleven,) = chain(11, 11, scene.blocks[-1])
    opened = demand_opened if part else dispute_opened
    await scene.again([eleven], opened(eleven, scene.job))
    async with scene.store.begin(T0) as unit:
        (stray,) = await strays(unit, THEM)
        assert stray.part == part
        await adopt(unit, stray, 0)
    assert (await scene.work()).state == "filed"
    await scene.holds()
    await scene.rewind(10)
    assert (await scene.work()).state == "sampled"
    await scene.holds()


async def test_an_orphan_remembers_the_state_before_the_moves_that_went_with_it(scene: Scene) -> None:
    await scene.draw()
    await scene.walk(S.SAMPLED, S.REPLAYED, S.CONFIRMED, S.FILING)
    await scene.walk(S.FILING, S.FILED, on=9)
    await scene.rewind(3)
    row = await scene.work()
    assert (row.state, row.before) == ("orphaned", "filing")


async def test_a_unit_is_all_or_nothing(scene: Scene) -> None:
    with pytest.raises(StaleRow):
        await _spend_and_fail(scene)
    async with scene.store.read() as view:
        await _untouched(view, scene)
    assert await scene.kinds() == ["observed"]


async def _spend_and_fail(scene: Scene) -> None:
    async with scene.store.begin(T0) as unit:
        await unit.work.move(scene.job, S.OBSERVED, S.SAMPLED)
        await unit.transactions.propose(Intent("p", "s", Action.SEAL, Call(ME, b"", 0), T0), ME)
        await unit.work.move(scene.job, S.OBSERVED, S.SAMPLED)


async def _untouched(view: View, scene: Scene) -> None:
    assert (await view.work.counts()) == {S.OBSERVED: 1}
    assert await view.transactions.in_states(list(TxState)) == []
