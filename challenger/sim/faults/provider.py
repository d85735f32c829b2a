"""One endpoint of several, over the one true chain, with faults of its own: at the seam where web3's providers stand.

It raises what the HTTP provider raises and answers what that would hand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp

from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Node
from challenger.errors import EndpointError, RateLimited
from challenger.sim.faults import answers, views
from challenger.sim.faults.engine import Engine
from challenger.sim.faults.kinds import Fault

_SEND = "eth_sendRawTransaction"
#: Seconds after which a client gives an answer up.
PATIENCE = 20.0


class FaultyProvider:
    """Endpoint number ``where`` on ``node``. ``sent``: every raw transaction that anybody handed to it."""

    def __init__(self, node: Node, engine: Engine, where: int, *, batches: bool = True) -> None:
        self.name = f"endpoint-{where}"
        self.sent: list[str] = []
        self._node = node
        self._methods = Methods(node)
        self._engine = engine
        self._where = where
        self._fork: Node | None = None
        self._batches = batches

    async def make_request(self, method: Any, params: Any) -> Any:
        self._before(method, params)
        answer = self._spoiled(method, {"id": 1} | self._answer(method, list(params)))
        self._engine.cross()
        return answer

    async def make_batch_request(self, requests: Sequence[tuple[Any, Any]]) -> Any:
        self._before("batch", None)
        found = [
            self._spoiled(method, {"id": number} | self._answer(method, list(params)))
            for number, (method, params) in enumerate(requests)
        ]
        self._engine.cross()
        if self._strikes(Fault.BATCHES) is None:
            return found
        dice = self._engine.dice(f"batches {self._where}")
        match dice.randrange(3):
            case 0:
                return {"jsonrpc": "2.0", "error": {"code": -32600, "message": "batch requests are not supported"}}
            case 1:
                del found[dice.randrange(len(found)) :]
            case _:
                dice.shuffle(found)
        # the HTTP provider puts answers in the order of their requests, and misses those that are not there
        if len(found) < len(requests):
            raise EndpointError("a batch came back without all of its answers", endpoint=self.name)
        return sorted(found, key=lambda answer: answer["id"])

    # the truth, as this node sees it

    def _answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        if method == _SEND:
            self.sent.append(params[0])
        engine, where = self._engine, self._where
        forked = next(engine.now(Fault.FORKED, where), None)
        if forked is None:
            self._fork = None
        else:
            engine.injected[Fault.FORKED] += 1
            return self._on_fork(forked.depth).handle(method, params)
        behind = next(engine.now(Fault.STALE, where), None)
        if behind is not None and method != _SEND:
            engine.injected[Fault.STALE] += 1
            answer: dict[str, Any] = views.stale(
                self._methods, max(0, self._node.height - behind.depth), method, params
            )
        else:
            answer = self._methods.handle(method, params)
        if (lying := next(engine.now(Fault.LYING, where), None)) is not None:
            told = answers.lie(lying.how, method, answer)
            engine.injected[Fault.LYING] += told != answer
            answer = told
        for one in engine.now(Fault.VETO, where):
            told = answers.veto(one.how, method, params, answer)
            engine.injected[Fault.VETO] += told != answer
            answer = told
        return answer

    def _on_fork(self, depth: int) -> Methods:
        """A branch that parted ``depth`` blocks below the head when the episode began, and grows as the chain does."""
        if self._fork is None:
            self._fork = self._node.branch(depth, fork=1 << 40 | self._where)
        while self._fork.height < self._node.height:
            self._fork.force_next(max(self._fork.head_time + 1, self._node.head_time))
            self._fork.mine()
        return Methods(self._fork)

    # what goes wrong on the way

    def _strikes(self, fault: Fault) -> bool | None:
        return self._engine.strikes(fault, f"{fault} {self._where}", self._where) is not None or None

    def _before(self, method: str, params: Any) -> None:
        engine = self._engine
        engine.cross()
        dice = engine.dice(f"requests {self._where}")
        if self._strikes(Fault.LATENCY):
            engine.spend(dice.uniform(0.2, 9.0))
        if self._strikes(Fault.SERVER):
            if dice.randrange(2):
                raise aiohttp.ServerDisconnectedError
            raise EndpointError(f"HTTP {dice.choice((500, 502, 504))}", endpoint=self.name)
        if self._strikes(Fault.LIMITS) and dice.randrange(2):
            status, wait = dice.choice(((429, None), (429, 30.0), (503, 2.0)))
            raise RateLimited(f"HTTP {status}", retry_after=wait, endpoint=self.name)
        if self._strikes(Fault.TIMEOUT):
            if method == _SEND and dice.randrange(2):  # it arrived, only the answer did not
                self._answer(method, list(params))
            engine.spend(PATIENCE)
            raise TimeoutError

    def _spoiled(self, method: str, answer: dict[str, Any]) -> dict[str, Any]:
        if any(one.how == method for one in self._engine.now(Fault.BROKEN, self._where)):
            self._engine.injected[Fault.BROKEN] += 1
            return answers.broken(answer, self._engine.dice(f"broken {self._where}"))
        if self._strikes(Fault.GARBAGE) and method != _SEND:
            return answers.garbage(answer, self._engine.dice(f"garbage {self._where}"))
        if self._strikes(Fault.LIMITS):
            limit = {"code": -32005, "message": "daily request count exceeded, request rate limited"}
            return {"id": answer.get("id"), "jsonrpc": "2.0", "error": limit}
        return answer
