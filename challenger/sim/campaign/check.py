"""What must be true of a world that is over, whatever was done to it: from chain events, SQL and what was sent."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from challenger.audit.handoffs import ledger_of
from challenger.audit.hops import Role
from challenger.audit.journal import Recovered
from challenger.audit.rows import audit_rows
from challenger.audit.sampling import audit_epoch
from challenger.chain.abi import signature
from challenger.chain.codec import Event
from challenger.chain.follower import Follower, Options
from challenger.chain.hashing import keccak
from challenger.contracts import artifact
from challenger.domain import NEVER, Action, CommitmentId, State, UnixTime
from challenger.pipeline.closing import UNJUDGED, kept
from challenger.protocols.reference import ReferenceAdapter
from challenger.sim.campaign.bonds import signatures
from challenger.sim.campaign.plan import MARGIN, MOMENTARY, REDO
from challenger.sim.campaign.play import Played
from challenger.sim.scoreboard import Label, Truth
from challenger.store import schema
from challenger.store.engine import Store, open_store
from challenger.store.heads import FilePublisher, verify
from challenger.store.rows import TransactionRow
from challenger.store.unit import View
from challenger.store.work import Item

#: Tables that follow from the chain alone.
CHAIN_TABLES = ("events", "models", "tasks", "commitments", "disputes", "demands")
_CHALLENGE, _DEMAND = (
    keccak(signature(entry).encode())[:4]
    for name in ("challenge", "demand")
    for entry in artifact("InferenceMarket").abi
    if entry.get("name") == name and entry["stateMutability"] == "payable"
)
#: How a row says that its case is over, and nothing more.
_OVER = (UNJUDGED, "the job is ")
_BLAMELESS = (Role.REQUESTER, Role.REGISTRAR, Role.CHALLENGER)


@dataclass(slots=True)
class Findings:
    """``broken``: invariants that do not hold, a line each. ``inside``: commitments that had to be filed, ``on_time`` those
    that were; ``outside``: what stood in the way of the others; ``late``: of these the ones that were not filed."""

    broken: list[str] = field(default_factory=list)
    honest: int = 0
    false: int = 0
    filings: int = 0
    inside: int = 0
    on_time: int = 0
    outside: int = 0
    outside_filed: int = 0
    late: Counter[str] = field(default_factory=Counter)
    digest: str = ""


async def check(p: Played, template: Path) -> Findings:
    """``template``: an empty database for the clean index."""
    found = Findings()
    if p.restless:
        found.broken.append("the watcher never came to rest")
    found.broken += [f"bug: {' '.join(bug.split())[-300:]}" for bug in p.life.bugs]
    p.bonds.look(p.devnet.node)
    if p.bonds.most > p.plan.exposure:
        found.broken.append(f"exposure: {p.bonds.most} wei of bonds were out, the cap is {p.plan.exposure}")
    p.world.reread()
    await p.world.refresh()
    async with open_store(p.settings.store.url) as store:
        async with store.read() as view:
            items = {item.work.commitment: item for item in await view.work.listing(limit=1_000)}
            told = {job: list(await view.transactions.about(job)) for job in items}
        _filed(p, found, items, told)
        await _signed(p, found, store)
        await _nonces(p, found, store)
        await _index(p, found, store, template)
        heads = await FilePublisher(p.settings.store.heads).published()
        report = await verify(store, heads, Recovered())
        if report.broken is not None:
            found.broken.append(f"journal: entry {report.broken}: {report.why}")
        async with store.read() as view:
            await _handoffs(p, found, view)
            found.broken += [f"rows: {one.table}: {one.about}: {one.what}" for one in await audit_rows(view)]
            await _sampling(p, found, view, report.vouched)
        found.digest = await _digest(p, store)
    _twice(p, found)
    return found


# what was filed, and what was not


def _filed(
    p: Played, found: Findings, items: Mapping[CommitmentId, Item], told: Mapping[CommitmentId, list[TransactionRow]]
) -> None:
    ours = "0x" + p.account.hex()
    events = p.world.history.events
    accused = Counter(e.args["job"] for e in events if e.name == "Challenged" and e.args["challenger"] == ours)
    asked = Counter(e.args["job"] for e in events if e.name == "Demanded" and e.args["demander"] == ours)
    labels = {label.job: label for label in p.world.labels}
    found.filings = accused.total() + asked.total()
    for job, times in (accused + asked).items():
        if max(accused[job], asked[job]) > 1:
            found.broken.append(f"filed {times} times over one commitment: {job.hex()[:12]}")
        if job not in labels:
            found.broken.append(f"filed over a commitment that nobody made: {job.hex()[:12]}")
    for job, item in items.items():
        untouched = job in p.world.market.jobs and not accused[job] and not asked[job]
        if untouched and item.work.state == State.EXPIRED and item.work.updated < p.world.market.jobs[job].closes:
            found.broken.append(f"given up before its window closed: {job.hex()[:12]}, {item.work.detail}")
    committed = {e.args["job"]: e for e in events if e.name == "Committed"}
    for job, event in committed.items():
        label = labels.get(job)
        if label is None:
            continue
        if label.truth is Truth.HONEST:
            found.honest += 1
            if accused[job] or asked[job]:
                found.false += 1
                found.broken.append(f"an honest provider was accused: {label.name}, {job.hex()[:12]}")
            continue
        was_filed = bool(accused[job] if label.truth is Truth.WRONG else asked[job])
        _judge(p, found, label, event, was_filed, items.get(job), told.get(job, []))


def _judge(
    p: Played,
    found: Findings,
    label: Label,
    event: Event,
    was_filed: bool,
    item: Item | None,
    rows: list[TransactionRow],
) -> None:
    hindrances = hindered(p, p.world.history.times[event.log.block], event.args["windowEnd"])
    if not hindrances:
        found.inside += 1
        found.on_time += was_filed
        if not was_filed:
            state = "not indexed" if item is None else f"{item.work.state}: {item.work.detail}"
            found.broken.append(f"missed inside the envelope: {label.kind}, {label.job.hex()[:12]}, {state}")
        return
    found.outside += 1
    found.outside_filed += was_filed
    if was_filed:
        return
    found.late["+".join(sorted(hindrances))] += 1
    if item is not None and item.work.state == State.FILED_BY_OTHER:
        return
    # that it is over is no gate: what stood in the way while the window was open is
    gates = [] if item is None else [kept(item.work.detail), *(row.error for row in rows)]
    if all(gate.startswith(_OVER) for gate in gates if gate):
        state = "not indexed" if item is None else f"{item.work.state}: {item.work.detail}"
        found.broken.append(f"missed without naming its gate: {label.kind}, {label.job.hex()[:12]}, {state}")


def hindered(p: Played, committed_at: int, closes: int) -> frozenset[str]:
    """What stood in the way until less than the margin was left; empty: nothing did, and it had to be filed."""
    last = frozenset({"window"}) if closes - committed_at < MARGIN else frozenset()
    for time, gates in p.hindered:
        if committed_at - 60 <= time < closes:
            last |= {gate for gate in gates if closes - time < (REDO if gate in MOMENTARY else MARGIN)}
    return last | ({"exposure"} if p.plan.tight else frozenset())


# what was signed and sent


async def _signed(p: Played, found: Findings, store: Store) -> None:
    async with store.read() as view:
        rows = (await view.connection.execute(select(schema.journal).order_by(schema.journal.c.seq))).all()
    for seq, bonds in signatures(rows):
        if bonds > p.plan.exposure:
            found.broken.append(f"exposure: {bonds} wei with what entry {seq} signs, the cap is {p.plan.exposure}")


async def _nonces(p: Played, found: Findings, store: Store) -> None:
    node = p.devnet.node
    async with store.read() as view:
        query = select(schema.attempts.c.hash, schema.attempts.c.nonce, schema.attempts.c.transaction)
        kept = {row.hash: row for row in await view.connection.execute(query)}
        actions = {
            row.id: row.action
            for row in await view.connection.execute(select(schema.transactions.c.id, schema.transactions.c.action))
        }
    payloads: dict[int, dict[tuple[Any, ...], set[str]]] = defaultdict(lambda: defaultdict(set))
    for raw in sorted({raw for provider in p.life.providers for raw in provider.sent}):
        tx = node.chain.decode(bytes.fromhex(raw[2:]))
        if tx.hash not in kept:
            found.broken.append(f"sent, but not on record: nonce {tx.nonce}")
            continue
        payloads[tx.nonce][tx.to, tx.value, tx.data].add(actions[kept[tx.hash].transaction])
    for nonce, different in payloads.items():
        uses = set().union(*different.values())
        if len(different) > 1 and Action.CANCEL.value not in uses:
            found.broken.append(f"{len(different)} payloads for nonce {nonce}: {sorted(uses)}")
    left = [tx.nonce for tx in node.pool if tx.sender == p.account]
    taken = node.chain.state(node.chain.head).get_nonce(p.account)
    if left and min(left) > taken:
        found.broken.append(f"a gap in the nonces: the next is {taken}, waiting are {sorted(left)}")


def _twice(p: Played, found: Findings) -> None:
    """What was opened already, and sent all the same: it reverted, so that no event tells of it."""
    opened: dict[bytes, int] = {}
    node = p.devnet.node
    for block, receipts in zip(node.chain.blocks, node.receipts, strict=True):
        for tx, receipt in zip(block.transactions, receipts, strict=True):
            if tx.sender != p.account or tx.data[:4] not in (_CHALLENGE, _DEMAND):
                continue
            # a job is challenged once, whatever is claimed of it; of each of its parts one demand is made
            about = bytes(tx.data[:36] if tx.data[:4] == _CHALLENGE else tx.data)
            if about in opened:
                found.broken.append(f"sent again at nonce {tx.nonce} what nonce {opened[about]} had opened")
            if receipt["status"] == "0x1":
                opened[about] = tx.nonce


# the record


async def _handoffs(p: Played, found: Findings, view: View) -> None:
    """Requester and registrar are honest here, and so are providers whose answers are; the watcher accuses truly."""
    honest = {label.job for label in p.world.labels if label.truth is Truth.HONEST}
    async for story in view.handoffs.between(UnixTime(0), NEVER):
        for hop in ledger_of(story).hops:
            if hop.responsible is None:
                continue
            role, about = hop.responsible.role, story.identity
            if role in _BLAMELESS or (role is Role.PROVIDER and about in honest):
                found.broken.append(f"hand-offs: {about.hex()[:12]}: an honest party is named: {hop.said}")


async def _sampling(p: Played, found: Findings, view: View, bound: int) -> None:
    """Every draw as the chain that is left has it, whatever reorganisations came between."""
    where = p.world.deployment
    adapter = ReferenceAdapter(p.devnet.rpc, where.chain, where.market)
    for row in await view.epochs.all():
        audited = await audit_epoch(view, row, where.anchor, p.devnet.rpc, adapter, bound=bound)
        for one in audited.findings:
            about = "" if one.commitment is None else f"{one.commitment.hex()[:12]}: "
            found.broken.append(f"sampling: epoch {row.number}: {about}{one.what}")


async def _index(p: Played, found: Findings, store: Store, template: Path) -> None:
    path = template.with_name("clean.sqlite")
    shutil.copyfile(template, path)
    where = p.world.deployment
    adapter = ReferenceAdapter(p.devnet.rpc, where.chain, where.market)
    await adapter.check()
    async with open_store(f"sqlite+aiosqlite:///{path}") as clean:
        follower = Follower(p.devnet.rpc, clean.index(), adapter, Options(start=where.start_block, depth=256))
        while await follower.step():
            pass
        for name in CHAIN_TABLES:
            if await _rows(store, name) != await _rows(clean, name):
                found.broken.append(f"index: table {name} is not that of a clean index")


async def _rows(store: Store, name: str) -> list[tuple[Any, ...]]:
    async with store.read() as view:
        return sorted(map(tuple, await view.connection.execute(select(schema.metadata.tables[name]))), key=repr)


async def _digest(p: Played, store: Store) -> str:
    """Of all that happened: the chain's events and the journal, but for the names of processes."""
    digest = hashlib.sha256()
    for event in p.world.history.events:
        digest.update(repr((event.log.block, event.log.block_hash, event.name, event.args)).encode())
    async with store.read() as view:
        query = select(schema.journal.c.time, schema.journal.c.kind, schema.journal.c.subject, schema.journal.c.payload)
        for row in await view.connection.execute(query.order_by(schema.journal.c.seq)):
            if row.kind not in ("setting", "fence"):
                digest.update(repr(tuple(row)).encode())
    return digest.hexdigest()
