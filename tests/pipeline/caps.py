"""Cases that are found, let through, sent, mined, failed, taken back and settled in any order, beside what each cap is for.

The filing stage, the store and its index are the real ones; protocol and chain are a few dictionaries behind their seams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from challenger.domain import (
    ONE,
    Action,
    Call,
    Capability,
    DemandClosed,
    DemandOpened,
    DemandOutcome,
    DisputeClosed,
    DisputeOpened,
    DisputeOutcome,
    Intent,
    JobStatus,
    Mode,
    Part,
    State,
    TxState,
    Verdict,
    VerdictKind,
    Wei,
    Window,
)
from challenger.errors import EndpointError
from challenger.pipeline.bonds import Bonds
from challenger.pipeline.file import Filer
from challenger.pipeline.gates import Limits
from challenger.pipeline.learned import Course, Learned
from challenger.pipeline.obstacles import Patience
from challenger.pipeline.pursue import Pursuer
from challenger.protocols.base import Aid, Money, Prospect, Standing
from challenger.store import migrate, open_store, subject_of
from challenger.telemetry.alerts import Alerts
from challenger.telemetry.instruments import Instruments
from tests.store.chains import block, committed, demand_opened, dispute_opened, h

ME = "0x" + "aa" * 20
PROVIDERS = tuple("0x" + f"{n:02x}" * 20 for n in (1, 2, 3))
BOND, DEMAND = 50, 7
KEPT, LOOSE, TIGHT = 1_000, 10_000, 120
FOREVER = 2**40
CHALLENGER = DisputeOutcome.CHALLENGER
_LIVE = (TxState.INTENT, TxState.SIGNED, TxState.SENT, TxState.MINED, TxState.FINAL)
_BONDED = (Action.CHALLENGE, Action.DEMAND)


_BEGINS, _ENDS = (DisputeOpened, DemandOpened), (DisputeClosed, DemandClosed)


@cache
def empty_database() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "empty.sqlite")
        asyncio.run(migrate.upgrade(f"sqlite+aiosqlite:///{path}"))
        return path.read_bytes()


def _key(event: Any) -> tuple[str, int]:
    about = isinstance(event, DisputeOpened | DisputeClosed)
    return ("dispute", event.dispute) if about else ("demand", event.demand)


@dataclass
class Toy:
    """A protocol of one rule: who accuses seals first. It always lets everything through: only the caps are asked."""

    funds: int
    name: str = "toy"
    capability: Capability = Capability.OPEN
    sealed: set[bytes] = field(default_factory=set)
    unreadable: set[bytes] = field(default_factory=set)
    credited: bool = False
    paid: bool = True
    refused: str = ""
    aids: Action | None = None
    closes: int = FOREVER
    as_pinned: bool = True
    blocks: list[Any] = field(default_factory=list)

    async def pinned(self) -> bool:
        return self.as_pinned

    async def window(self, commitment: Any) -> Window:
        return Window(0, self.closes, frozen=True)

    async def hydrate(self, commitment: Any) -> Standing:
        window = Window(0, self.closes, frozen=True)
        return Standing(self.blocks[-1], commitment, JobStatus.COMMITTED, PROVIDERS[0], h(0), h(0), window, 0)

    async def eligibility(self, accusation: Any, lead: int) -> str:
        return self.refused

    async def aid(self, accusation: Any, lead: int) -> Aid | None:
        if self.aids is None:
            return None
        call = Call(PROVIDERS[0], b"", Wei(0))
        about = subject_of(accusation.commitment, self.aids.value)
        bond = BOND if self.aids is Action.VOTE else 0
        return Aid(
            Intent(self.name, about, self.aids, call, FOREVER), Prospect(Wei(bond), Wei(10_000 if bond else 0), ONE)
        )

    async def demand_eligibility(self, commitment: Any, part: Part, index: int, lead: int) -> str:
        return ""

    async def prospect(self, commitment: Any) -> Prospect:
        if commitment in self.unreadable:
            raise EndpointError("no answer")
        return Prospect(Wei(BOND), Wei(10_000), ONE)

    async def demand_prospect(self, commitment: Any, part: Part) -> Prospect:
        return Prospect(Wei(DEMAND), Wei(10_000), ONE)

    async def open_dispute(self, accusation: Any) -> Intent:
        about = accusation.commitment
        action, bond = (Action.CHALLENGE, BOND * self.paid) if about in self.sealed else (Action.SEAL, 0)
        return Intent(self.name, subject_of(about), action, Call(PROVIDERS[0], b"", Wei(bond)), FOREVER)

    async def open_demand(self, commitment: Any, part: Part, index: int) -> Intent:
        about = subject_of(commitment, part.value, index)
        return Intent(self.name, about, Action.DEMAND, Call(PROVIDERS[0], b"", Wei(DEMAND)), FOREVER)

    async def advance(self, dispute: Any) -> None:
        return None

    async def advance_demand(self, demand: Any) -> None:
        return None

    async def collect(self, occasion: str) -> Intent | None:
        call = Call(PROVIDERS[0], b"", Wei(0))
        return Intent(self.name, occasion, Action.WITHDRAW, call, FOREVER) if self.credited else None

    async def balance(self, address: str) -> Wei:
        return Wei(self.funds)

    async def gas_price(self) -> Wei:
        return Wei(0)

    def views(self) -> list[Any]:
        return []

    async def refusal(self, row: Any, head: Any) -> str:
        return ""


@dataclass
class Signed:
    hash: bytes
    nonce: int
    signed_at: int
    gas: int = 1
    max_fee: int = 1
    tip: int = 1
    raw: bytes = b"x"


class Caps(RuleBasedStateMachine):
    #: whether bonds are the value of their transactions
    paid = True
    patience = Patience(0, 1, 3_600)
    #: seconds before a close after which nothing is filed, and when windows close
    margin = 0
    closes = FOREVER

    @initialize(tight=st.sampled_from(("exposure", "provider", "day", "funds")))
    def start(self, tight: str) -> None:
        self.caps = dict.fromkeys(("exposure", "provider", "day", "funds"), LOOSE) | {tight: TIGHT}
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.telemetry = Instruments(alerts=Alerts(clock=lambda: self.seconds))
        self.blocks: list[Any] = [block(1)]
        self.toy = self.toy_of(KEPT + self.caps["funds"])
        self.toy.blocks = self.blocks
        self.nonce, self.names, self.forks = 0, 0, 0
        self.number, self.most, self.seconds = 0, dict[str, int](), 0.0
        self.story: list[list[Any]] = [[]]
        self.owner: dict[bytes, str] = {}
        self.loop.run_until_complete(self._open())

    def toy_of(self, funds: int) -> Toy:
        return Toy(funds, paid=self.paid)

    async def _open(self) -> None:
        url = f"sqlite+aiosqlite:///{Path(self.folder.name)}/caps.sqlite"
        Path(self.folder.name, "caps.sqlite").write_bytes(empty_database())  # noqa: ASYNC240
        self.context = open_store(url)
        self.store = await self.context.__aenter__()
        caps = (Wei(self.caps[name]) for name in ("provider", "day"))
        limits = Limits(
            Mode.LIVE, Wei(self.caps["exposure"]), Wei(0), ONE, 1_000, self.margin, *caps, Wei(KEPT), Wei(1)
        )
        learned = self.learned = Learned(self.store, Course(2, 1, 2), ("torch", "numpy"))
        toy = self.toy
        money = Money(paid=self.paid)
        self.filer = Filer(self.store, toy, toy, ME, limits, self.patience, learned, self.telemetry, toy, money)
        self.bonds = Bonds(self.store, toy, ME, money)
        self.pursuer = Pursuer(self.store, toy, ME, depth=2, telemetry=self.telemetry)
        self.cursor = await self.store.index().apply(self.blocks, [], None)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.context.__aexit__(None, None, None))
            self.loop.close()
            self.folder.cleanup()

    # events of the chain

    async def _grow(self, *events: Any) -> Any:
        new = block(self.blocks[-1].number + 1, self.blocks[-1], str(self.forks))
        placed = [replace(e, at=replace(e.at, block=new.number, block_hash=new.hash)) for e in events]
        self.cursor = await self.store.index().apply([new], placed, self.cursor)
        self.blocks.append(new)
        self.story.append(placed)
        return new

    async def _case(self, provider: str, *, fraud: bool) -> None:
        self.names += 1
        event = committed(self.blocks[-1], self.names, provider=provider, closes=self.closes)
        await self._grow(event)
        self.owner[event.commitment] = provider
        async with self.store.begin(self._now()) as unit:
            await unit.work.move(event.commitment, State.OBSERVED, State.SAMPLED)
            if not fraud:
                verdict = Verdict(VerdictKind.UNAVAILABLE, "output", "torch", None, None, {}, 0.0)
                one = await unit.verdicts.add(event.commitment, verdict, fresh=False)
                await unit.work.move(
                    event.commitment, State.SAMPLED, State.UNAVAILABLE, verdict=one, detail="output", attempts=2
                )
                return
        await self._accused(event.commitment)

    async def _accused(self, commitment: Any) -> None:
        verdict = Verdict(VerdictKind.FRAUD, "output", "torch", h(1), h(2), {}, 0.0)
        async with self.store.begin(self._now()) as unit:
            one = await unit.verdicts.add(commitment, verdict, fresh=False)
            two = await unit.verdicts.add(commitment, replace(verdict, backend="numpy"), fresh=True)
            await unit.work.move(commitment, State.SAMPLED, State.REPLAYED, verdict=one)
            await unit.work.move(commitment, State.REPLAYED, State.CONFIRMED, confirmation=two)

    @rule(provider=st.sampled_from(PROVIDERS), fraud=st.booleans(), count=st.integers(1, 3))
    def found(self, provider: str, fraud: bool, count: int) -> None:
        for _ in range(count):
            self._run(self._case(provider, fraud=fraud or not self.paid))

    @rule()
    def look(self) -> None:
        self._run(self.filer.step(self.blocks[-1]))

    @rule()
    def pursue(self) -> None:
        self._run(self.pursuer.step(self.blocks[-1]))

    @rule()
    def time(self) -> None:
        self._run(self._grow())

    # what becomes of transactions

    def _waiting(self) -> list[Any]:
        return [row for row in self._run(self._rows()) if row.state in (TxState.INTENT, TxState.SIGNED, TxState.SENT)]

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), whole=st.booleans())
    def mined(self, data: st.DataObject, whole: bool) -> None:
        """As far as its block, and final; or not as far as that."""
        self._run(self._mine(data.draw(st.sampled_from(self._waiting())), whole=whole))

    @precondition(lambda self: self._waiting())
    @rule()
    def all_mined(self) -> None:
        """As it mostly goes: without it few orders come as far as a settlement."""
        for row in self._waiting():
            self._run(self._mine(row, whole=True))
        self.look()

    async def _mine(self, row: Any, *, whole: bool) -> None:
        about = bytes.fromhex(row.intent.subject[2:66])
        made = Signed(h("tx", self.nonce), self.nonce, self._now())
        self.nonce += 1
        async with self.store.begin(self._now()) as unit:
            await unit.transactions.signed(row.id, made)
        if not whole and row.state is TxState.INTENT:
            return  # signed only: it may be mined at any time
        self.number += 1
        event: Any = None
        if row.intent.action is Action.SEAL:
            self.toy.sealed.add(about)
        elif row.intent.action is Action.CHALLENGE:
            event = dispute_opened(self.blocks[-1], about, self.number, challenger=ME, bond=BOND)
        else:
            event = demand_opened(self.blocks[-1], about, self.number, demander=ME, bond=DEMAND)
        if event is not None:
            event = replace(event, at=replace(event.at, tx_hash=made.hash))
        new = await self._grow(*([event] if event is not None else []))
        async with self.store.begin(self._now()) as unit:
            await unit.transactions.mined(row.id, made.hash, new.number, new.hash, 1)
            if whole:
                await unit.transactions.closed(row.id, TxState.FINAL, "")

    @precondition(lambda self: self._waiting())
    @rule(data=st.data(), how=st.sampled_from((TxState.ABANDONED, TxState.REVERTED, TxState.REPLACED)))
    def failed(self, data: st.DataObject, how: TxState) -> None:
        self._run(self._close(data.draw(st.sampled_from(self._waiting())), how))

    async def _close(self, row: Any, how: TxState) -> None:
        async with self.store.begin(self._now()) as unit:
            await unit.transactions.closed(row.id, how, "as it goes")

    def _open_ones(self) -> list[Any]:
        told = self._told()
        ended = {_key(e) for e in told if isinstance(e, _ENDS)}
        return [e for e in told if isinstance(e, _BEGINS) and _key(e) not in ended]

    @precondition(lambda self: self._open_ones())
    @rule(data=st.data(), won=st.booleans())
    def settled(self, data: st.DataObject, won: bool) -> None:
        one = data.draw(st.sampled_from(self._open_ones()))
        if isinstance(one, DisputeOpened):
            how = DisputeOutcome.CHALLENGER if won else DisputeOutcome.EXPIRED
            self._run(self._grow(DisputeClosed(one.at, one.dispute, one.commitment, how, 0, 0)))
        else:
            outcome = DemandOutcome.LOST if won else DemandOutcome.ANSWERED
            self._run(self._grow(DemandClosed(one.at, one.demand, one.commitment, outcome, b"", 0, 0)))

    @precondition(lambda self: len(self.blocks) > 5)
    @rule(depth=st.integers(1, 4))
    def taken_back(self, depth: int) -> None:
        """A reorganisation that takes commitments, openings and settlements with it. A settlement's puts a bond out again
        that was in hand, and what was signed for its room is in the world: no cap can foresee that. But from there it only
        goes down."""
        self._run(self._back(depth))
        self.most = {of: max(self._cap(of), amount) for of, amount in self._amounts().items()}

    async def _back(self, depth: int) -> None:
        self.forks += 1
        del self.blocks[-depth:], self.story[-depth:]
        self.cursor = await self.store.index().rewind(self.blocks[-1].number, self.cursor)
        await self._grow()

    # what must hold

    @invariant()
    def caps_hold(self) -> None:
        if not hasattr(self, "store"):
            return
        for of, amount in self._amounts().items():
            assert amount <= self.most.get(of, self._cap(of)), of
            self.most[of] = max(self._cap(of), amount)
        if not self.forks:
            for of, amount in self._amounts(self._run(self._promised())).items():
                assert amount <= self._cap(of), of

    def _cap(self, of: str) -> int:
        return self.caps[of.split(maxsplit=1)[0]]

    def _amounts(self, promised: Sequence[bytes] = ()) -> dict[str, int]:
        """What each cap is for, ``promised`` accusations included."""
        out = self._run(self._out()) + [(commitment, BOND, False) for commitment in promised]
        amounts = {
            "exposure": sum(bond for _, bond, _ in out),
            "funds": sum(bond for _, bond, paid in out if not paid) * self.paid,
            "day": self._run(self._day()) + BOND * len(promised),
        }
        for one in PROVIDERS:
            amounts[f"provider {one}"] = sum(bond for about, bond, _ in out if self.owner[about] == one)
        return amounts

    async def _out(self) -> list[tuple[bytes, int, bool]]:
        """(commitment, bond, whether it was paid): on chain, and on its way."""
        found = [(e.commitment, e.bond, True) for e in self._open_ones()]
        shown = {e.at.tx_hash for e in self._told() if isinstance(e, _BEGINS)}
        for row in await self._rows():
            about = bytes.fromhex(row.intent.subject[2:66])
            live = row.intent.action in _BONDED and row.state in _LIVE
            if live and not any(attempt.hash in shown for attempt in row.attempts):
                found.append((about, _bond_of(row), False))
        return found

    async def _promised(self) -> list[bytes]:
        """Accusations let through of which no challenge is on its way."""
        live = [r for r in await self._rows() if r.intent.action is Action.CHALLENGE and r.state in _LIVE]
        busy = {bytes.fromhex(row.intent.subject[2:66]) for row in live}
        async with self.store.read() as view:
            filing = await view.work.items([State.FILING], limit=1_000)
        cases = [item.work for item in filing if item.work.confirmation is not None]
        return [work.commitment for work in cases if work.commitment not in busy]

    async def _day(self) -> int:
        """Bonds ever asked for and not come to nothing: no day ends here."""
        live = [r for r in await self._rows() if r.intent.action in _BONDED and r.state in _LIVE]
        return sum(map(_bond_of, live))

    # small things

    async def _rows(self) -> list[Any]:
        async with self.store.read() as view:
            return await view.transactions.in_states(list(TxState), limit=10_000)

    def _told(self) -> list[Any]:
        return [event for events in self.story for event in events]

    def _now(self) -> Any:
        return self.blocks[-1].time

    def _run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)


def _bond_of(row: Any) -> int:
    return BOND if row.intent.action is Action.CHALLENGE else DEMAND


class Staked(Caps):
    """A protocol whose bonds are stakes that lie there before: no transaction has one as its value, and none demands data."""

    paid = False
