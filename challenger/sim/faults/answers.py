"""How answers are spoiled: pure functions from one JSON-RPC answer to another."""

from __future__ import annotations

import hashlib
import random
from typing import Any

Json = dict[str, Any]
_DEAR = 10**15
GARBAGE: tuple[Any, ...] = ("0x", "latest", -1, 10**80, [], {}, True, "0xzz", [[]], {"number": "0x1"}, "\x00", 1.5)

#: What nodes say under -32000 when something of theirs is broken.
BROKEN = (
    "missing trie node 5f2a (path ) state 0x12 is not available",
    "failed to load receipts: database closed",
    "header not found",
    "request failed",
    "leveldb: closed",
)


def broken(answer: Json, dice: random.Random) -> Json:
    """The error of a node that cannot do what it is asked."""
    error = {"code": -32000, "message": dice.choice(BROKEN)}
    return {"id": answer.get("id"), "jsonrpc": "2.0", "error": error}


def garbage(answer: Json, dice: random.Random) -> Json:
    """The result replaced by something that makes no sense, or the answer without either member."""
    if dice.randrange(4) == 0:
        return {key: value for key, value in answer.items() if key not in ("result", "error")}
    return {"id": answer.get("id"), "jsonrpc": "2.0", "result": dice.choice(GARBAGE)}


def lie(how: str, method: str, answer: Json) -> Json:
    """The answer as a lying node gives it: always the same lie for the same truth. ``missing``: every other log is
    left out; ``altered``: the first word of every other log's data is another; ``receipts``: half of the transactions
    have failed; ``hashes``: every third block bears another hash."""
    found = answer.get("result")
    if found is None:
        return answer
    if how in ("missing", "altered"):
        if method == "eth_getLogs" and isinstance(found, list):
            return answer | {"result": _logs(how, found)}
        if method == "eth_getTransactionReceipt":
            return answer | {"result": found | {"logs": _logs(how, found["logs"])}}
    elif how == "receipts" and method == "eth_getTransactionReceipt" and _picked(found["transactionHash"], 2):
        return answer | {"result": found | {"status": "0x0" if found["status"] == "0x1" else "0x1", "logs": []}}
    elif how == "hashes" and method.startswith("eth_getBlockBy") and _picked(found["hash"], 3):
        return answer | {"result": found | {"hash": _flipped(found["hash"])}}
    return answer


def veto(how: str, method: str, params: list[Any], answer: Json) -> Json:
    """The answer of a node that speaks against every transaction. ``reverts``: it would fail; ``price``: a unit of gas costs a
    thousandth of an ether; ``count``: three more were sent; ``balance``: nothing is there to pay it with."""
    if answer.get("error") is not None:
        return answer
    if how == "reverts" and (method == "eth_estimateGas" or (method == "eth_call" and "from" in params[0])):
        told = {key: value for key, value in answer.items() if key != "result"}
        return told | {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
    found = answer.get("result")
    if how == "price" and method == "eth_gasPrice":
        return answer | {"result": hex(_DEAR)}
    if how == "price" and method == "eth_feeHistory" and isinstance(found, dict):
        return answer | {"result": found | {"baseFeePerGas": [hex(_DEAR) for _ in found["baseFeePerGas"]]}}
    if how == "count" and method == "eth_getTransactionCount" and isinstance(found, str):
        return answer | {"result": hex(int(found, 16) + 3)}
    if how == "balance" and method == "eth_getBalance":
        return answer | {"result": "0x0"}
    return answer


def _logs(how: str, logs: list[Json]) -> list[Json]:
    if how == "missing":
        return [log for log in logs if not _picked(log["transactionHash"] + log["logIndex"], 2)]
    return [_altered(log) if _picked(log["transactionHash"] + log["logIndex"], 2) else log for log in logs]


def _altered(log: Json) -> Json:
    data = log["data"]
    return log | {"data": _flipped(data)} if len(data) >= 66 else log


def _flipped(text: str) -> str:
    """The last bit of the first 32 bytes is another."""
    return text[:65] + f"{int(text[65], 16) ^ 1:x}" + text[66:]


def _picked(text: str, share: int) -> bool:
    return hashlib.sha256(text.encode()).digest()[0] % share == 0
