"""What a node sees that is behind the others: requests and answers cut at a height below the head."""

from __future__ import annotations

from typing import Any

from challenger.chain.devnet.methods import Methods

#: Place of the block parameter in methods that read a state.
_STATE = {
    "eth_call": 1,
    "eth_estimateGas": 1,
    "eth_getCode": 1,
    "eth_getBalance": 1,
    "eth_getTransactionCount": 1,
    "eth_getStorageAt": 2,
    "eth_feeHistory": 1,
}
_TAGS = ("latest", "pending")


def stale(methods: Methods, head: int, method: str, params: list[Any]) -> Any:
    """The answer of a node whose newest block is ``head``."""
    if method == "eth_blockNumber":
        return {"jsonrpc": "2.0", "result": hex(head)}
    if method == "eth_getBlockByNumber":
        params = [_seen(params[0], head), *params[1:]]
    elif method in _STATE:
        place = _STATE[method]
        params = [*params, *["latest"] * (place + 1 - len(params))]
        params[place] = _seen(params[place], head)
        if _number(params[place]) > head:
            return _error("header not found")
    elif method == "eth_getLogs" and "blockHash" not in params[0]:
        query = dict(params[0])
        for key in ("fromBlock", "toBlock"):
            query[key] = _seen(query.get(key, "latest"), head)
        if _number(query["fromBlock"]) > head:
            return {"jsonrpc": "2.0", "result": []}  # as many nodes do: silently short
        query["toBlock"] = hex(min(_number(query["toBlock"]), head))
        params = [query]
    answer = methods.handle(method, params)
    found = answer.get("result")
    if method == "eth_getLogs" and "blockHash" in params[0]:
        return _error("unknown block") if any(int(log["blockNumber"], 16) > head for log in found or ()) else answer
    if isinstance(found, dict):
        at = found.get("blockNumber") or (found.get("number") if method.startswith("eth_getBlock") else None)
        if at is not None and int(at, 16) > head:
            return {"jsonrpc": "2.0", "result": None}
    return answer


def _seen(where: Any, head: int) -> Any:
    return hex(head) if where in _TAGS else where


def _number(where: Any) -> int:
    return int(where, 16) if isinstance(where, str) and where.startswith("0x") else 0


def _error(message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": {"code": -32000, "message": message}}
