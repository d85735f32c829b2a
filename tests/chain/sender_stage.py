"""A sender, its store and a chain whose mempool, history and answers obey: what the sender's tests play on."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from challenger.chain import signers
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.node import Options
from challenger.chain.devnet.pool import Pool
from challenger.chain.fees import FeePolicy
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.chain.sender import Sender
from challenger.chain.step import Report, SenderPolicy
from challenger.contracts import artifact
from challenger.domain import Action, Address, Call, ChainId, Hash32, Intent, TxState, UnixTime, Wei
from challenger.errors import EndpointError
from challenger.protocols import reference_calls
from challenger.protocols.reference import explain
from challenger.sim.wallet import Wallet
from challenger.store.engine import Store, create_engine, normalise
from challenger.store.outbox import Outbox
from challenger.store.rows import TransactionRow
from challenger.store.schema import metadata

GWEI = 10**9
START = 1_700_000_000
POLICY = SenderPolicy(ChainId(31337), fees=FeePolicy(cap=Wei(100 * GWEI)))


class Died(BaseException):
    """The process is gone: nothing may catch this."""


@dataclass(slots=True)
class Unreliable:
    """An endpoint in front of the chain. ``before`` and ``after`` say whether a call fails before it reaches the chain
    or after the chain has done it; ``swallow`` makes it answer sends that it does not pass on."""

    rpc: Rpc
    before: Callable[[str], bool] = lambda _method: False
    after: Callable[[str], bool] = lambda _method: False
    swallow: bool = False
    sends: list[bytes] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.rpc, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            if self.before(name):
                raise EndpointError("the line went dead before", method=name)
            if name == "send_raw":
                self.sends.append(args[0])
                if self.swallow:
                    return Hash32(keccak(args[0]))
            answer = await real(*args, **kwargs)
            if self.after(name):
                raise EndpointError("the line went dead after", method=name)
            return answer

        return call


@dataclass(slots=True)
class Stage:
    """Account 2 is the sender's. Its intents anchor epochs, which the contract lets each account do once."""

    devnet: EmbeddedDevnet
    store: Store
    anchor: Address
    node: Unreliable
    policy: SenderPolicy = POLICY
    lives: int = 0

    @property
    def key(self) -> bytes:
        return self.devnet.accounts[2].key

    @property
    def account(self) -> Address:
        return self.devnet.accounts[2].address

    async def sender(
        self,
        crossing: Callable[[str], None] = lambda _name: None,
        policy: SenderPolicy | None = None,
        *,
        dry: bool = False,
        node: Any = None,
    ) -> Sender:
        """As after a start of the process: nothing is known but what the store holds."""
        self.lives += 1
        now = (await self.devnet.rpc.block("latest")).time
        outbox = await Outbox.claim(self.store, self.account, f"life {self.lives}", now)
        signer = None if dry else signers.from_key(self.key)
        return Sender(
            node or self.node,
            outbox,
            self.account,
            policy or self.policy,
            signer=signer,
            explain=explain,
            crossing=crossing,
        )

    async def intent(self, epoch: int, *, lasts: int = 100_000, value: int = 0) -> Intent:
        now = (await self.devnet.rpc.block("latest")).time
        call = reference_calls.anchor(self.anchor, epoch, Hash32(b"\x01" * 32))
        return Intent(
            "reference", f"epoch/{epoch}", Action.ANCHOR, Call(call.to, call.data, Wei(value)), UnixTime(now + lasts)
        )

    async def propose(self, *epochs: int, lasts: int = 100_000) -> None:
        async with self.store.begin(UnixTime(START)) as unit:
            for epoch in epochs:
                await unit.transactions.propose(await self.intent(epoch, lasts=lasts), self.account)

    async def row(self, epoch: int) -> TransactionRow:
        async with self.store.read() as view:
            found = await view.transactions.find("reference", f"epoch/{epoch}", Action.ANCHOR)
        assert found is not None
        return found

    async def states(self, *epochs: int) -> list[TxState]:
        return [(await self.row(epoch)).state for epoch in epochs]

    async def own_rows(self) -> list[TransactionRow]:
        async with self.store.read() as view:
            rows = await view.transactions.in_states(list(TxState))
        return [row for row in rows if row.intent.protocol == "sender"]

    async def mined(self) -> Counter[int]:
        """How often each epoch's call of ours is mined, reverted or not, in the chain as it stands."""
        head = await self.devnet.rpc.block("latest")
        found: Counter[int] = Counter()
        for number in range(head.number + 1):
            block = await self.devnet.rpc.ask("eth_getBlockByNumber", hex(number), True)
            for tx in block["transactions"]:
                if tx["from"].lower() == self.account and (tx["to"] or "").lower() == self.anchor:
                    found[int(tx["input"][10:74], 16)] += 1
        return found

    async def mine_without_us(self, blocks: int = 1, seconds: int = 12) -> None:
        """Blocks that leave everything in the mempool where it is."""
        pool = await self.devnet.run(lambda m: self._swap(m, Pool()))
        for _ in range(blocks):
            await self.devnet.time_travel(by=seconds)
        await self.devnet.run(lambda m: self._swap(m, pool))

    async def drop(self) -> None:
        """Empties the mempool."""
        await self.devnet.run(lambda m: self._swap(m, Pool()))

    @staticmethod
    def _swap(methods: Any, pool: Pool) -> Pool:
        old: Pool = methods._node.pool
        methods._node.pool = pool
        return old

    async def finish(self, sender: Sender, steps: int = 40) -> list[Report]:
        """Steps and blocks until nothing of the sender's is open."""
        reports = []
        for _ in range(steps):
            reports.append(await sender.step())
            async with self.store.read() as view:
                if not await view.transactions.unfinished(self.account):
                    return reports
            await self.devnet.time_travel(by=12)
        raise AssertionError(f"still open after {steps} steps: {reports[-1]}")


async def new_store(path: Path) -> Store:
    engine = create_engine(normalise(f"sqlite:///{path}"))
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    return Store(engine, str(path))


@asynccontextmanager
async def stage(path: Path) -> AsyncIterator[Stage]:
    async with EmbeddedDevnet(options=Options(clock=lambda: float(START))) as devnet, await new_store(path) as store:
        wallet = Wallet(devnet.rpc, devnet.accounts[0].key, "deployer")
        anchor, _ = await wallet.create(artifact("EpochAnchor").bytecode)
        await devnet.automine(False)
        yield Stage(devnet, store, anchor, Unreliable(devnet.rpc))


def dies_at(count: int) -> Callable[[str], None]:
    """Dies at the ``count``-th crossing, counted from 1."""
    left = count

    def crossing(_name: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Died

    return crossing


def seeded(seed: int, rate: float, only: frozenset[str] | None = None) -> Callable[[str], bool]:
    source = random.Random(seed)

    def fails(method: str) -> bool:
        return (only is None or method in only) and source.random() < rate

    return fails
