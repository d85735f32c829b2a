"""The devnet inside this process: no socket, no child; the EVM runs in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from web3.providers.async_base import AsyncBaseProvider

from challenger.chain.devnet.base import ACCOUNTS, FUNDS, Account, accounts
from challenger.chain.devnet.controls import Controls
from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Node, Options
from challenger.chain.rpc import Rpc
from challenger.errors import EndpointError

T = TypeVar("T")


class EmbeddedProvider(AsyncBaseProvider):
    """web3's async provider over a node in this process (an ``AsyncWeb3`` may stand on it)."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self._run = run

    async def make_request(self, method: Any, params: Any) -> Any:
        return await self._run(lambda methods: {"id": 1} | methods.handle(method, params))

    async def make_batch_request(self, requests: Sequence[tuple[Any, Any]]) -> Any:
        return await self._run(
            lambda methods: [{"id": i} | methods.handle(method, params) for i, (method, params) in enumerate(requests)]
        )

    async def is_connected(self, show_traceback: bool = False) -> bool:  # noqa: ARG002 - web3's signature
        return True


class EmbeddedDevnet(Controls):
    """``count`` accounts hold ``funds`` wei each at genesis."""

    def __init__(self, *, count: int = ACCOUNTS, funds: int = FUNDS, options: Options | None = None) -> None:
        self._accounts = accounts(count)
        self._funds = funds
        self._options = options or Options()
        self._thread: ThreadPoolExecutor | None = None
        self._methods: Methods | None = None
        self._provider = EmbeddedProvider(self.run)
        super().__init__(Rpc(self._provider, name="devnet", timeout=60.0, backoff=0.0))

    @property
    def provider(self) -> EmbeddedProvider:
        return self._provider

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._accounts

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="devnet")
        loop = asyncio.get_running_loop()
        self._methods = await loop.run_in_executor(self._thread, self._build)
        return self

    async def __aexit__(self, *exc: object) -> None:
        thread, self._thread, self._methods = self._thread, None, None
        if thread is not None:
            thread.shutdown(wait=True)

    async def run(self, task: Callable[[Methods], T]) -> T:
        """Runs ``task`` in the node's thread."""
        if self._thread is None or self._methods is None:
            raise EndpointError("the devnet is not running", endpoint="devnet")
        return await asyncio.get_running_loop().run_in_executor(self._thread, task, self._methods)

    def _build(self) -> Methods:
        return Methods(Node(self._accounts, self._funds, self._options))
