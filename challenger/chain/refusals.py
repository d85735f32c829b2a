"""What an endpoint's JSON-RPC error means. Codes overlap between providers (-32005 is a log-range limit at one and a
quota at another), so the wording decides first and the code only where the wording says nothing."""

from __future__ import annotations

import re
from typing import Any

from challenger.errors import RangeTooLarge, RateLimited, Reverted, RpcError, printable

_QUOTA = re.compile(
    r"rate.?limit|too many (?:requests|connections)|quota|requests? (?:rate|count|limit)|per second|per day|daily|"
    r"compute units|capacity|throughput|credits|throttl|back ?off",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"(?:block|blocks|height|log|logs|query|getlogs|max\w*|results?|response|size)\b.{0,60}?"
    r"\b(?:range|limit\w*|exceed\w*|large|larger|greater|big|wide|smaller than|more than|up to|at most|max\w*|too many)|"
    r"\b(?:range|ranges)\b.{0,40}?(?:large|wide|limit|exceed|max|over|not supported|big|than)|"
    r"(?:exceed\w*|too many|limited? to|at most|more than|up to|over).{0,40}?"
    r"(?:block|blocks|range|results?|logs|entries|response|size)|"
    r"query timeout|(?:query|request|execution) timed? ?out|timeout exceeded",
    re.IGNORECASE,
)
_REVERT = re.compile(r"revert", re.IGNORECASE)
_CALLS = frozenset({"eth_call", "eth_estimateGas"})


def refusal(method: str, error: Any, endpoint: str) -> RpcError | Reverted:
    """The exception for the ``error`` member of an answer to ``method``; total over any JSON value."""
    code, message, data = 0, "", b""
    if isinstance(error, dict):
        code = error["code"] if type(error.get("code")) is int else 0
        message = str(error.get("message", ""))
        data = _revert_data(error.get("data"))
    else:
        message = str(error)
    # the words of a refusal end up in the record: no lone surrogate may keep a transaction's row from being written
    line = printable(" ".join(message.split())[:300]) or "no message"
    if method in _CALLS and (code == 3 or data or _REVERT.search(message)):
        return Reverted(line, data=data)
    kind: type[RpcError] = RpcError
    if code == 429 or _QUOTA.search(message):
        kind = RateLimited
    elif method == "eth_getLogs" and _RANGE.search(message):
        kind = RangeTooLarge
    elif code == -32005:  # "limit exceeded" and no word of which limit
        kind = RateLimited
    return kind(line, method=method, code=code, endpoint=endpoint)


def _revert_data(data: Any) -> bytes:
    """Most nodes give the hex itself, others an object that holds it."""
    if isinstance(data, dict):
        data = data.get("data", data.get("result"))
    if not isinstance(data, str):
        return b""
    text = data.removeprefix("Reverted ").removeprefix("0x")
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
