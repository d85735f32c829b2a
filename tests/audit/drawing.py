"""A watcher in small: a chain that forks where a test wants it to, the real index and sampler, and the audit of both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.store.chains import T0, chain, committed, h

S = State
HALF = Millionths(500_000)
SECRET = bytes(range(32))
#: A commitment in block 10 is drawn with block 12.
AT, DELAY = 10, 2


class Log(NamedTuple):
    block: int
    block_hash: bytes
    event: Any


class Served:
    """The chain as an endpoint has it, and what its logs mean: for the follower, the sampler and the audit."""

    name = "toy"
    emitters = topics = ()

    def __init__(self, blocks: Sequence[Block], events: Sequence[Any]) -> None:
        self.canonical = {block.number: block for block in blocks}
        self.shown = list(events)

    async def blocks(self, which: Sequence[int]) -> list[Block]:
        return [self.canonical[number] for number in which]

    async def block(self, which: Any) -> Block:
        return self.canonical[max(self.canonical) if which == "latest" else which]

    async def logs(self, _addresses: Any, first: int, last: int, _topics: Any) -> list[Any]:
        return [Log(one.at.block, one.at.block_hash, one) for one in self.shown if first <= one.at.block <= last]

    async def logs_in(self, _addresses: Any, blocks: Sequence[Block], _topics: Any) -> list[Any]:
        return await self.logs(_addresses, blocks[0].number, blocks[-1].number, _topics)

    async def events(self, logs: Sequence[Any], _left_out: Any) -> list[Any]:
        return [log.event for log in logs]

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
