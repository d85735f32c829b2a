"""Draws that a reorganisation came after: an honest watcher's hold, and no other draw is excused by one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from challenger.audit.journal import HeadSigner, Recovered
from challenger.audit.rows import audit_rows
from challenger.audit.sampling import audit_epoch
from challenger.domain import Block, Millionths, State, UnixTime, Verdict, VerdictKind
from challenger.pipeline.sample import Sampler
from challenger.sampling.audit import Report
from challenger.sampling.draw import draw, selects
from challenger.sampling.policy import Policy
from challenger.store import Store, open_store
from challenger.store.heads import FilePublisher, publish_head, verify
from challenger.store.migrate import upgrade
from challenger.store.schema import blocks
from tests.store.chains import T0, chain, committed, h

S = State
HALF = Millionths(500_000)
SECRET = bytes(range(32))
#: A commitment in block 10 is drawn with block 12.
AT, DELAY = 10, 2


class Served:
    """The chain as an endpoint has it: for the sampler and for the audit."""

    name = "toy"
    emitters = topics = ()

    def __init__(self, blocks: Sequence[Block], events: Sequence[Any]) -> None:
        self.canonical = {block.number: block for block in blocks}
        self.shown = list(events)

    async def blocks(self, which: Sequence[int]) -> list[Block]:
        return [self.canonical[number] for number in which]

    async def block(self, which: str) -> Block:
        assert which == "latest"
        return max(self.canonical.values(), key=lambda block: block.number)

    async def logs(self, _addresses: Any, first: int, last: int, _topics: Any) -> list[Any]:
        return [event for event in self.shown if first <= event.at.block <= last]

    async def events(self, logs: list[Any], _left_out: Any) -> list[Any]:
        return logs

    async def call(self, _to: Any, _data: bytes) -> bytes:
        return bytes(128)


class NoAnchor:
    protocol = "toy"

    def anchor(self, *_: Any) -> None: ...
    def reveal(self, *_: Any) -> None: ...


class Watch:
    """One commitment in block 10, indexed up to block 12 and drawn: it is selected. Epochs have ``length`` blocks."""

    def __init__(self, store: Store, heads: Path, length: int) -> None:
        self.store = store
        self.heads = FilePublisher(heads)
        self.index = store.index()
        self.blocks = chain(1, AT + DELAY)
        name = next(n for n in range(100) if chosen(h("commitment", n), self.blocks[-1]))
        self.event = committed(self.blocks[AT - 1], name)
        self.name = name
        self.job = self.event.commitment
        self.served = Served(self.blocks, [self.event])
        self.cursor: Any = None
        self.sampler = Sampler(
            store,
            self.served,
            Policy(base=HALF, newcomer=HALF),
            NoAnchor(),
            account=None,
            burnt=0,
            start=1,
            length=length,
            delay=DELAY,
            depth=64,
            entropy=lambda _: SECRET,
        )

    async def start(self) -> Watch:
        self.cursor = await self.index.apply(self.blocks[:1], [], None)
        await self.sampler.step(self.blocks[0])
        self.cursor = await self.index.apply(self.blocks[1:], [self.event], self.cursor)
        await self.sampler.step(self.blocks[-1])
        assert (await self.work()).state == "sampled"
        return self

    async def work(self) -> Any:
        async with self.store.read() as view:
            return await view.work.get(self.job)

    async def judged(self, kind: VerdictKind, *then: State, old: State = S.SAMPLED) -> None:
        differs = kind is VerdictKind.FRAUD
        roots = (h("other") if differs else self.event.output_root), self.event.state_root
        said = Verdict(kind, "output" if differs else "", "torch", *roots, {}, 1.0)
        async with self.store.begin(T0) as unit:
            identity = await unit.verdicts.add(self.job, said, fresh=False)
            for new in then:
                await unit.work.move(self.job, old, new, **({"verdict": identity} if old is S.SAMPLED else {}))
                old = new

    async def reorganised(self, to: int, *, selected: bool = False, moved: bool = False) -> None:
        """Blocks above ``to`` are others; the block that the commitment is then drawn with selects it, or does not.
        ``moved``: it stands one block later than before."""
        at = AT + moved
        for fork in range(100):
            other = chain(to + 1, at + DELAY, self.blocks[to - 1], fork=str(fork))
            if chosen(self.job, other[-1]) == selected:
                break
        self.blocks = [*self.blocks[:to], *other]
        self.event = committed(self.blocks[at - 1], self.name)
        self.served.__init__(self.blocks, [self.event])
        self.cursor = await self.index.rewind(to, self.cursor)
        self.cursor = await self.index.apply(other, [self.event] if to < at else [], self.cursor)
        await self.sampler.step(self.blocks[-1])

    async def publish(self) -> None:
        await publish_head(self.store, HeadSigner(None), self.heads, UnixTime(T0))

    async def audited(self) -> Report:
        report = await verify(self.store, await self.heads.published(), Recovered())
        async with self.store.read() as view:
            assert await audit_rows(view) == []
            reports = []
            for row in await view.epochs.all():
                alone = await audit_epoch(view, row, "", bound=report.vouched)
                asked = await audit_epoch(view, row, "", self.served, self.served, bound=report.vouched)
                assert alone.findings == asked.findings
                reports.append(asked)
        (found,) = [report for report in reports if report.commitments]
        return found


def chosen(commitment: Any, block: Block) -> bool:
    return selects(draw(SECRET, commitment, block.hash), HALF)


@asynccontextmanager
async def watch(folder: Path, length: int = 100) -> AsyncIterator[Watch]:
    url = f"sqlite:///{folder / 'record.sqlite'}"
    await upgrade(url)
    async with open_store(url) as store:
        yield await Watch(store, folder / "heads.jsonl", length).start()


def said(report: Report) -> list[str]:
    return [finding.what for finding in report.findings]


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


async def _replaced(one: Watch, block: Block) -> None:
    """The ledger's own word of block 12 is another, as after any edit."""
    async with one.store.begin(T0) as unit:
        await unit.connection.execute(update(blocks).where(blocks.c.number == 12).values(hash=block.hash))
