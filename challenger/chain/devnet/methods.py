"""The JSON-RPC face of the devnet's node. Wording and codes of errors follow geth where clients read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from challenger.chain import wire
from challenger.chain.codec import decode_revert
from challenger.chain.devnet.base import CHAIN_ID
from challenger.chain.devnet.evm import Failed, Mined
from challenger.chain.devnet.node import Node, NodeError
from challenger.chain.devnet.render import Json, block_json, transaction_json

_TIP = 10**9
_ERROR = bytes.fromhex("08c379a0")  # Error(string)


class Methods:
    """``handle`` answers one request; the methods it knows are those of this class that bear a JSON-RPC name."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._methods: dict[str, Callable[..., Any]] = {
            name: getattr(self, name)
            for name in dir(self)
            if name.startswith(("eth_", "net_", "web3_", "evm_", "devnet_"))
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The methods there are."""
        return tuple(self._methods)

    def handle(self, method: Any, params: Any) -> Json:
        """The answer, without ``id``: ``{"jsonrpc", "result"}`` or ``{"jsonrpc", "error"}``."""
        try:
            if not isinstance(method, str) or method not in self._methods:
                raise NodeError(f"the method {method} does not exist/is not available", -32601)  # noqa: TRY301
            if not isinstance(params, list | tuple):
                raise NodeError("params must be a list", -32602)  # noqa: TRY301
            return {"jsonrpc": "2.0", "result": self._methods[method](*params)}
        except NodeError as error:
            answer: Json = {"code": error.code, "message": str(error)}
            if error.data is not None:
                answer["data"] = wire.to_hex(error.data)
            return {"jsonrpc": "2.0", "error": answer}
        except (ValueError, TypeError) as error:  # wrong number or form of parameters
            return {"jsonrpc": "2.0", "error": {"code": -32602, "message": f"invalid argument: {error}"}}

    # the chain

    def eth_chainId(self) -> str:  # noqa: N802 - the methods bear JSON-RPC's names
        return hex(CHAIN_ID)

    def net_version(self) -> str:
        return str(CHAIN_ID)

    def web3_clientVersion(self) -> str:  # noqa: N802
        return "challenger-devnet/py-evm"

    def eth_syncing(self) -> bool:
        return False

    def eth_accounts(self) -> list[str]:
        return []  # nothing is signed here

    def eth_blockNumber(self) -> str:  # noqa: N802
        return hex(self._node.height)

    def eth_getBlockByNumber(self, number: Any, full: bool = False) -> Json | None:  # noqa: N802
        block = self._find(number)
        return None if block is None else block_json(block, full=full)

    def eth_getBlockByHash(self, block_hash: Any, full: bool = False) -> Json | None:  # noqa: N802
        height = self._node.chain.number_of(wire.hash32(block_hash))
        return None if height is None else block_json(self._node.chain.blocks[height], full=full)

    # transactions

    def eth_getTransactionByHash(self, tx_hash: Any) -> Json | None:  # noqa: N802
        key = wire.hash32(tx_hash)
        if place := self._node.place(key):
            block, index = place
            return transaction_json(block.transactions[index], block, index)
        waiting = self._node.pool.find(key)
        return None if waiting is None else transaction_json(waiting, None)

    def eth_getTransactionReceipt(self, tx_hash: Any) -> Json | None:  # noqa: N802
        place = self._node.place(wire.hash32(tx_hash))
        return None if place is None else self._node.receipts[place[0].header.block_number][place[1]]

    def eth_getBlockReceipts(self, where: Any) -> list[Json] | None:  # noqa: N802
        if isinstance(where, str) and len(where) == 66:  # a hash, as a number never is
            height = self._node.chain.number_of(wire.hash32(where))
        else:
            height = self._height(where)
        return self._node.receipts[height] if height is not None and height <= self._node.height else None

    def eth_sendRawTransaction(self, raw: Any) -> str:  # noqa: N802
        return wire.to_hex(self._node.send(wire.blob(raw)))

    # logs

    def eth_getLogs(self, query: Any) -> list[Json]:  # noqa: N802
        first, last = self._log_range(query)
        emitters, topics = _emitters(query.get("address")), _topics(query.get("topics"))
        found: list[Json] = []
        for height in range(first, last + 1):
            found += [
                log
                for log in self._node.logs.get(height, ())
                if (emitters is None or log["address"] in emitters) and _matches(log["topics"], topics)
            ]
            if self._node.options.log_results and len(found) > self._node.options.log_results:
                raise NodeError(f"query returned more than {self._node.options.log_results} results", -32005)
        return found

    def _log_range(self, query: Any) -> tuple[int, int]:
        if not isinstance(query, dict):
            raise NodeError("invalid argument 0: not a filter", -32602)
        if (pinned := query.get("blockHash")) is not None:
            height = self._node.chain.number_of(wire.hash32(pinned))
            if height is None:
                raise NodeError("unknown block")
            return height, height
        head = self._node.height
        first, last = (self._height(query.get(name, "latest")) for name in ("fromBlock", "toBlock"))
        if first > last:
            raise NodeError("invalid block range params", -32602)
        if self._node.options.log_range and last - first >= self._node.options.log_range:
            raise NodeError(f"exceed maximum block range: {self._node.options.log_range}", -32602)
        return first, min(last, head)

    # state

    def eth_call(self, call: Any, where: Any = "latest", *_overrides: Any) -> str:
        sender, to, data, value, gas = _message(call)
        try:
            return wire.to_hex(self._node.chain.call(self._header(where), sender, to, data, value, gas))
        except Failed as failed:
            raise _call_error(failed) from None

    def eth_estimateGas(self, call: Any, where: Any = "latest", *_overrides: Any) -> str:  # noqa: N802
        sender, to, data, value, _gas = _message(call)
        try:
            return hex(self._node.chain.estimate_gas(self._header(where), sender, to, data, value))
        except Failed as failed:
            raise _call_error(failed) from None

    def eth_getBalance(self, address: Any, where: Any = "latest") -> str:  # noqa: N802
        return hex(self._state(where).get_balance(_address(address)))

    def eth_getCode(self, address: Any, where: Any = "latest") -> str:  # noqa: N802
        return wire.to_hex(self._state(where).get_code(_address(address)))

    def eth_getStorageAt(self, address: Any, slot: Any, where: Any = "latest") -> str:  # noqa: N802
        value = self._state(where).get_storage(_address(address), wire.quantity(slot, wire.MAX_U256))
        return wire.to_hex(value.to_bytes(32, "big"))

    def eth_getTransactionCount(self, address: Any, where: Any = "latest") -> str:  # noqa: N802
        sender = _address(address)
        nonce = int(self._state(where).get_nonce(sender))
        return hex(self._node.pool.next_nonce(sender, nonce) if where == "pending" else nonce)

    # fees

    def eth_gasPrice(self) -> str:  # noqa: N802
        return hex(self._node.chain.next_header(self._node.next_time()).base_fee_per_gas + _TIP)

    def eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return hex(_TIP)

    def eth_feeHistory(self, count: Any, newest: Any = "latest", percentiles: Any = ()) -> Json:  # noqa: N802
        wanted = _count(count)
        last = self._height(newest)
        blocks = self._node.chain.blocks[max(0, last + 1 - min(wanted, 1024)) : last + 1]
        after = self._node.chain.next_header(blocks[-1].header.timestamp + 1, blocks[-1])
        answer: Json = {
            "oldestBlock": hex(blocks[0].header.block_number),
            "baseFeePerGas": [hex(block.header.base_fee_per_gas) for block in blocks] + [hex(after.base_fee_per_gas)],
            "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        }
        if percentiles:
            answer["reward"] = [[hex(_reward(block, share)) for share in percentiles] for block in blocks]
        return answer

    # controls

    def evm_mine(self, blocks: Any = 1) -> str:
        self._node.mine(_count(blocks))
        return "0x0"

    def evm_setAutomine(self, on: Any) -> bool:  # noqa: N802
        self._node.automine(bool(on))
        return True

    def evm_increaseTime(self, seconds: Any) -> str:  # noqa: N802
        return hex(max(self._node.travel(_count(seconds)), 0))

    def evm_setNextBlockTimestamp(self, at: Any) -> str:  # noqa: N802
        self._node.force_next(_count(at))
        return hex(_count(at))

    def evm_snapshot(self) -> str:
        return hex(self._node.snapshot())

    def evm_revert(self, snapshot: Any) -> bool:
        return self._node.revert(wire.quantity(snapshot))

    def devnet_reorg(self, depth: Any, blocks: Any = None, keep: bool = False) -> str:
        dropped = _count(depth)
        self._node.reorg(dropped, dropped + 1 if blocks is None else _count(blocks), keep=bool(keep))
        return self.eth_blockNumber()

    def devnet_accounts(self) -> list[Json]:
        return [{"address": one.address, "key": wire.to_hex(one.key)} for one in self._node.accounts]

    # where in the chain

    def _find(self, where: Any) -> Mined | None:
        height = self._height(where)
        return self._node.chain.blocks[height] if height < len(self._node.chain.blocks) else None

    def _height(self, where: Any) -> int:
        """Of a number, a tag or an EIP-1898 object; may lie beyond the head."""
        head = self._node.height
        if isinstance(where, dict):
            if "blockNumber" in where:
                return wire.quantity(where["blockNumber"])
            height = self._node.chain.number_of(wire.hash32(where.get("blockHash")))
            if height is None:
                raise NodeError("header for hash not found")
            return height
        tags = {
            "latest": head,
            "pending": head,
            "earliest": 0,
            "safe": max(0, head - self._node.options.finality // 2),
            "finalized": max(0, head - self._node.options.finality),
        }
        return tags[where] if where in tags else wire.quantity(where)

    def _header(self, where: Any) -> Any:
        if where == "pending":
            return self._node.chain.next_header(self._node.next_time())
        return self._known(where).header

    def _state(self, where: Any) -> Any:
        return self._node.chain.state(self._known(where))

    def _known(self, where: Any) -> Mined:
        block = self._find(where)
        if block is None:
            raise NodeError("header not found")
        return block


def _call_error(failed: Failed) -> NodeError:
    if not failed.reverted:
        return NodeError(str(failed))
    reason = decode_revert(failed.data) if failed.data[:4] == bytes.fromhex("08c379a0") else ""
    return NodeError("execution reverted" + (f": {reason}" if reason else ""), 3, failed.data)


def _message(call: Any) -> tuple[bytes | None, bytes, bytes, int, int | None]:
    """Sender, target (empty: creation), data, value, gas."""
    if not isinstance(call, dict):
        raise NodeError("invalid argument 0: not a transaction", -32602)
    sender, to, value, gas = (call.get(name) for name in ("from", "to", "value", "gas"))
    return (
        None if sender is None else _address(sender),
        b"" if to is None else _address(to),
        wire.blob(call.get("input", call.get("data", "0x"))),
        0 if value is None else wire.quantity(value, wire.MAX_U256),
        None if gas is None else wire.quantity(gas),
    )


def _count(value: Any) -> int:
    """A number given as hex or as JSON's own."""
    if type(value) is int and value >= 0:
        return value
    return wire.quantity(value)


def _address(value: Any) -> bytes:
    return bytes.fromhex(wire.address(value)[2:])


def _emitters(address: Any) -> frozenset[str] | None:
    if address is None:
        return None
    return frozenset(wire.address(one) for one in (address if isinstance(address, list) else [address]))


def _topics(topics: Any) -> list[frozenset[str] | None]:
    terms: list[frozenset[str] | None] = []
    for term in topics or ():
        allowed = None if term is None or term == [] else [term] if isinstance(term, str) else term
        terms.append(None if allowed is None else frozenset(wire.to_hex(wire.hash32(topic)) for topic in allowed))
    return terms


def _matches(topics: list[str], terms: list[frozenset[str] | None]) -> bool:
    if len(terms) > len(topics):
        return False
    return all(term is None or topic in term for topic, term in zip(topics, terms, strict=False))


def _reward(block: Mined, percentile: float) -> int:
    """Tip at this percentile, by transaction (a node weighs by gas; nobody's fee depends on that here)."""
    base = block.header.base_fee_per_gas
    tips = sorted(min(tx.max_priority_fee_per_gas, tx.max_fee_per_gas - base) for tx in block.transactions)
    return tips[min(int(len(tips) * percentile / 100), len(tips) - 1)] if tips else 0
