"""A recorded chain behind the seam where an endpoint stands: JSON-RPC requests in, recorded answers out.

The newest block is the newest of the simulated time: what came later does not exist yet. Whatever a recording cannot
answer it refuses, as an endpoint refuses a method that it has not got; it never makes up an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from challenger.chain import wire
from challenger.recording.lines import STATE
from challenger.recording.spool import Spool


class RecordedProvider:
    """``clock``: simulated seconds since 1970."""

    def __init__(self, spool: Spool, clock: Callable[[], float]) -> None:
        self._spool = spool
        self._clock = clock
        self._newest: tuple[float, int | None] | None = None

    async def make_request(self, method: Any, params: Any) -> Any:
        return self._answer(method, params)

    async def make_batch_request(self, batch_requests: Sequence[tuple[Any, Any]]) -> Any:
        return [self._answer(method, params) for method, params in batch_requests]

    def _answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        try:
            result = self._result(method, params)
        except NotRecorded as error:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": str(error)}}
        return {"jsonrpc": "2.0", "id": 1, "result": result}

    def _result(self, method: str, params: list[Any]) -> Any:
        spool, head = self._spool, self._head()
        match method, params:
            case "eth_chainId", []:
                return hex(spool.deployment.chain_id)
            case "eth_blockNumber", []:
                return hex(-1 if head is None else head)
            case "eth_getBlockByNumber", [where, *_]:
                return self._seen(spool.header(self._number(where)))
            case "eth_getBlockByHash", [digest, *_]:
                return self._seen(spool.header_of(wire.blob(digest)))
            case "eth_getLogs", [query]:
                return self._logs(query)
            case "eth_getBlockReceipts", [digest]:
                known = self._seen(spool.header_of(wire.blob(digest)))
                found = None if known is None else spool.receipts(wire.blob(digest))
                if known is not None and found is None:
                    raise NotRecorded("the recording holds no receipts of this block")
                return found
            case "eth_getTransactionReceipt", [digest]:
                there = spool.receipt(wire.blob(digest))
                return None if there is None or head is None or there[0] > head else there[1]
            case _ if method in STATE and params:
                result = spool.answer(method, params[:-1])
                if result is not None:
                    return result
        raise NotRecorded(f"the recording does not answer {method}")

    def _head(self) -> int | None:
        now = self._clock()
        if self._newest is None or self._newest[0] != now:
            self._newest = now, self._spool.head(now)
        return self._newest[1]

    def _number(self, where: Any) -> int:
        """-1, which is no block, before the first one."""
        head = self._head()
        if where in ("latest", "safe", "finalized", "pending"):
            return -1 if head is None else head
        return wire.quantity(where)

    def _seen(self, header: dict[str, Any] | None) -> dict[str, Any] | None:
        """None for a block that is yet to come. Which transactions it holds was not recorded."""
        head = self._head()
        if header is None or head is None or wire.quantity(header["number"]) > head:
            return None
        return {**header, "transactions": []}

    def _logs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        head, market = self._head(), self._spool.deployment.market
        wanted = query.get("address", market)
        emitters = [wanted] if isinstance(wanted, str) else wanted
        if head is None or market not in [one.lower() for one in emitters]:
            return []
        if "blockHash" in query:
            header = self._seen(self._spool.header_of(wire.blob(query["blockHash"])))
            if header is None:
                raise NotRecorded("the recording has no such block")
            first = last = wire.quantity(header["number"])
        else:
            first, last = self._number(query["fromBlock"]), min(self._number(query["toBlock"]), head)
        rest = query.get("topics") or [None]
        if len(rest) > 1:
            raise NotRecorded("the recording chooses logs by their first topic only")
        topics = None if rest[0] is None else [rest[0]] if isinstance(rest[0], str) else rest[0]
        chosen = None if topics is None else [wire.blob(one) for one in topics]
        return self._spool.logs(first, last, chosen)


class NotRecorded(Exception):
    """the recording does not say"""
