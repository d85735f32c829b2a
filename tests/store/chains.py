"""Chains to index: blocks with neutral events, plausible and absurd, that fork where a test wants them to."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from challenger.domain import (
    At,
    AuditId,
    AuditVerdict,
    Block,
    ChainEvent,
    Committed,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    JobClosed,
    JobStatus,
    ModelDisabled,
    ModelRegistered,
    Part,
    Source,
    TaskClosed,
    TaskOpened,
    TaskTaken,
    VerdictKind,
    WindowExtended,
)
from challenger.protocols.findings import Finding, Ground
from challenger.store import Store, schema

T0 = 1_700_000_000
WINDOW = 3600
ME = "0x" + "11" * 20
THEM = "0x" + "22" * 20


def h(*what: object) -> Any:
    return hashlib.sha256(repr(what).encode()).digest()


def at(block: Block, log_index: int = 0) -> At:
    return At(block.number, block.hash, log_index, h("tx", block.hash, log_index))


def block(number: int, parent: Block | None = None, fork: str = "") -> Any:
    prev = parent.hash if parent is not None else h("before", number)
    return Block(number, h("block", number, fork, prev), prev, T0 + 12 * number)


def chain(first: int, last: int, parent: Block | None = None, fork: str = "") -> list[Any]:
    blocks: list[Any] = []
    for number in range(first, last + 1):
        parent = block(number, parent, fork)
        blocks.append(parent)
    return blocks


def committed(where: Block, name: object = "c", log_index: int = 0, **changes: Any) -> Any:
    event = Committed(
        at(where, log_index),
        h("commitment", name),
        h("task", name),
        h("model"),
        "0x" + h("provider", name).hex()[:40],
        h("output", name),
        h("state", name),
        b"output of " + str(name).encode(),
        "",
        20,
        where.time,
        where.time + WINDOW,
    )
    return replace(event, **changes)


def finding(name: str, **changes: Any) -> Finding:
    """About the subject ``name``, in block 1 of a chain that nobody has."""
    where = At(1, h("block"), 3, h("tx", name))
    made = Finding("odd", h(name), "here → there", "0x" + "07" * 20, Ground.PROOF, "It is odd.", where, {"seen": "3"})
    return replace(made, **changes)


def audit_verdict(about: bytes, kind: VerdictKind = VerdictKind.VALID, **changes: Any) -> AuditVerdict:
    found = AuditVerdict(
        audit=AuditId(about),
        source=Source.RECORD,
        block=1,
        block_hash=h("block"),
        provider=THEM,
        committed_output=h("output"),
        committed_state=h("state"),
        kind=kind,
        detail="",
        backend="torch",
        output_root=h("output"),
        state_root=h("state"),
        confirmed="",
        environment={"torch": {"cpu": "some"}},
        seconds=0.25,
    )
    return replace(found, **changes)


def dispute_opened(where: Block, commitment: bytes, dispute: int = 1, log_index: int = 0, **changes: Any) -> Any:
    event = DisputeOpened(
        at(where, log_index), dispute, commitment, THEM, h("o"), h("s"), h("e"), 10**18, where.time + 600
    )
    return replace(event, **changes)


def demand_opened(where: Block, commitment: bytes, demand: int = 1, log_index: int = 0, **changes: Any) -> Any:
    event = DemandOpened(at(where, log_index), demand, commitment, THEM, Part.OUTPUT, 0, 10**17, where.time + 600)
    return replace(event, **changes)


@dataclass
class Forking:
    """Grows and reorganises at random; remembers the canonical chain with its events."""

    rng: random.Random
    blocks: list[Block] = field(default_factory=list)
    events: list[list[ChainEvent]] = field(default_factory=list)
    forks: int = 0

    def grow(self, count: int) -> None:
        for _ in range(count):
            parent = self.blocks[-1] if self.blocks else None
            new = block(100 if parent is None else parent.number + 1, parent, str(self.forks))
            self.blocks.append(new)
            self.events.append([self._event(new, log) for log in range(self.rng.randrange(6))])

    def reorganise(self, depth: int) -> None:
        self.forks += 1
        depth = min(depth, len(self.blocks) - 1)
        del self.blocks[len(self.blocks) - depth :], self.events[len(self.events) - depth :]
        self.grow(self.rng.randrange(depth + 3))

    def _event(self, where: Block, log: int) -> ChainEvent:
        rng = self.rng
        # few names, so that aggregates meet, come twice, and come back after a reorg
        name = rng.randrange(12)
        here, model, task = at(where, log), h("model", name), h("task", name)
        job, number = h("commitment", name), name + 1
        weird = rng.choice(["", "http://x/\0y", "\ud800", "ü", 'a"b\\'])
        huge = rng.choice([where.time, 2**64 - 1])
        match rng.randrange(16):
            case 0:
                return ModelRegistered(
                    here, model, ME, h(1), h(2), h(3), 0, "exact", 7, 9, weird, weird.encode(errors="ignore"), h(4)
                )
            case 1:
                return ModelDisabled(here, model)
            case 2 | 3:
                return TaskOpened(
                    here, task, model, THEM, h(5), b"input", weird, 2**32 - 1, h(6), rng.getrandbits(255), huge
                )
            case 4:
                return TaskTaken(here, task, ME, h(7, where.hash))
            case 5:
                return TaskClosed(here, task, weird)
            case 6 | 7 | 8 | 9:
                return committed(where, name, log, output_uri=weird)  # type: ignore[no-any-return]
            case 10:
                return WindowExtended(here, job, huge)
            case 11:
                return dispute_opened(where, job, number, log, bond=2**256 - 1)  # type: ignore[no-any-return]
            case 12:
                return DisputeClosed(here, number, job, rng.choice(list(DisputeOutcome)), rng.getrandbits(200), 1)
            case 13:
                return demand_opened(where, job, 2**255 + number, log)  # type: ignore[no-any-return]
            case 14:
                return DemandClosed(here, 2**255 + number, job, rng.choice(list(DemandOutcome)), b"answer", 5, 6)
        return JobClosed(here, job, rng.choice(list(JobStatus)))


async def follow(store: Store, source: Forking, rng: random.Random) -> None:
    """What a follower does: back to the common ancestor, then on in ranges of any size."""
    index = store.index()
    cursor = await index.cursor()
    numbers = {known.number: known.hash for known in source.blocks}
    if cursor is not None and numbers.get(cursor.block) != cursor.hash:
        to = cursor.block
        while await index.block_hash(to) != numbers.get(to, b"") or to not in numbers:
            to -= 1
        cursor = await index.rewind(to, cursor)
    start = 0 if cursor is None else next(i for i, b in enumerate(source.blocks) if b.number == cursor.block) + 1
    while start < len(source.blocks):
        stop = min(len(source.blocks), start + rng.randrange(1, 8))
        events = [event for story in source.events[start:stop] for event in story]
        cursor = await index.apply(source.blocks[start:stop], events, cursor)
        start = stop


CHAIN_TABLES = ("blocks", "events", "models", "tasks", "commitments", "disputes", "demands")


async def dump(store: Store) -> dict[str, list[Any]]:
    """All that follows from the chain alone."""
    async with store.read() as view:
        found: dict[str, list[Any]] = {}
        for name in CHAIN_TABLES:
            table = schema.metadata.tables[name]
            found[name] = sorted(tuple(row) for row in await view.connection.execute(select(table)))
        cursors = await view.connection.execute(select(schema.cursors.c.block, schema.cursors.c.hash))
        found["cursor"] = [tuple(row) for row in cursors]
        standing = select(schema.work).where(schema.work.c.state != "orphaned")
        found["work"] = sorted(
            (row.commitment, row.state, row.seen_block, row.seen_opens, row.seen_closes)
            for row in await view.connection.execute(standing)
        )
        return found
