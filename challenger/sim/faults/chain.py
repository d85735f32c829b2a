"""The devnet without a thread of its own, mined only through here: where the faults of a chain are done to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Self

from challenger.chain.devnet.base import FUNDS, Account, accounts
from challenger.chain.devnet.controls import Controls
from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Node, Options
from challenger.chain.rpc import Rpc

#: When simulated worlds begin.
BIRTH = 1_800_000_000


class Direct:
    """A provider that asks a node at once, in the caller's own turn."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def make_request(self, method: Any, params: Any) -> Any:
        return {"id": 1} | self._methods.handle(method, params)

    async def make_batch_request(self, requests: Any) -> Any:
        return [{"id": i} | self._methods.handle(method, params) for i, (method, params) in enumerate(requests)]


async def _nothing() -> None:
    return


class InlineDevnet(Controls):
    """An embedded devnet for simulations that own the event loop: requests are answered without a change of thread, and
    the same calls make the same chain, to the last hash. ``before`` and ``after`` are run around every block."""

    def __init__(self, count: int = 20, funds: int = FUNDS) -> None:
        self._accounts = accounts(count)
        self.node = Node(self._accounts, funds, Options(clock=lambda: BIRTH))
        self._provider = Direct(Methods(self.node))
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], Awaitable[None]] = _nothing
        super().__init__(Rpc(self._provider, name="truth", backoff=0.0))

    @property
    def provider(self) -> Direct:
        return self._provider

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._accounts

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.before()
            self.node.mine()
            await self.after()
