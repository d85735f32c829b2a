"""A thin JSON-RPC client: typed reads, raw sends, bounded time, and one clear error for every way to go wrong.

It stands on anything with web3's ``make_request(method, params) -> {"result": …} | {"error": …}``: the HTTP endpoint
(``endpoint.py``), the embedded devnet, a recording. No middleware and no formatters: answers are JSON-RPC's own hex.

Reads are retried after endpoint errors and rate limits. A transaction is never sent twice by this module: an answer
that did not come says nothing about whether the transaction was taken.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from copy import copy
from functools import partial
from typing import Any, Protocol, Self, TypeVar

import aiohttp

from challenger.chain import wire
from challenger.chain.answers import (
    Called,
    Count,
    FeeHistory,
    RawLog,
    Receipt,
    SentTx,
    parse_called,
    parse_fee_history,
    parse_logs,
    parse_receipt,
    parse_sent_tx,
)
from challenger.chain.receipts import Header, parse_header
from challenger.chain.refusals import refusal
from challenger.chain.words import lower, upper
from challenger.domain import Address, Block, ChainId, Hash32, Wei
from challenger.errors import (
    AnswerTooLarge,
    EndpointError,
    NoAnswer,
    RangeTooLarge,
    RateLimited,
    Reverted,
    RpcError,
    UnknownBlock,
)

T = TypeVar("T")
#: A block number, a 32-byte hash, or a tag (``latest``, ``pending``, ``safe``, ``finalized``, ``earliest``).
BlockRef = int | bytes | str
#: One entry per indexed position: one topic, any of several, or anything.
Topics = Sequence[bytes | Sequence[bytes] | None]
Request = tuple[str, list[Any]]
#: What makes a value of a result; ``ValueError`` where it makes no sense, ``UnknownBlock`` where that is what it says.
Parse = Callable[[Any], Any]


class Provider(Protocol):
    """What carries one request. A provider that can batch also has ``make_batch_request``; one that can ask another
    endpoint when an answer makes no sense has ``make_read`` and ``make_batch_read``, whose results are parsed, and
    ``make_words``, the same of every host, and ``views``."""

    async def make_request(self, method: Any, params: Any) -> Any: ...


class Rpc:
    """Typed calls over one ``provider``.

    ``name`` stands for the endpoint in errors (a masked URL); ``timeout`` is the most seconds one attempt may take;
    ``attempts`` the tries of a read; ``backoff`` the seconds before the second try, doubling, with jitter (0 in tests);
    ``patience`` the longest ``Retry-After`` waited for here (beyond it the caller plans: ``RateLimited``); ``batch`` the
    most requests in one batch (0: none; it shrinks when the endpoint refuses batches).

    Every method raises ``EndpointError`` (no answer, or one that makes no sense) or ``RpcError`` (a refusal).
    """

    def __init__(
        self,
        provider: Provider,
        *,
        name: str = "rpc",
        timeout: float = 10.0,
        attempts: int = 3,
        backoff: float = 0.2,
        patience: float = 5.0,
        batch: int = 100,
    ) -> None:
        self.provider = provider
        self.name = name
        self._timeout = timeout
        self._attempts = attempts
        self._backoff = backoff
        self._patience = patience
        self._batch = batch if hasattr(provider, "make_batch_request") else 0
        self._elsewhere: Any = provider if hasattr(provider, "make_read") else None
        self._insists = True

    def hasty(self) -> Self:
        """The same endpoint for whoever can ask another: a try that ran into its time is the last one (``NoAnswer``). What
        fails at once is tried again as ever."""
        other = copy(self)
        other._insists = False  # noqa: SLF001 - one of ours
        return other

    def views(self) -> list[AbstractContextManager[None]]:
        """Each lets the task that enters it read from one endpoint alone, of each other host than the one that is read from:
        none where the provider knows no others."""
        views: list[AbstractContextManager[None]] = [] if self._elsewhere is None else self._elsewhere.views()
        return views

    # blocks and logs

    async def chain_id(self) -> ChainId:
        return ChainId(await self._read("eth_chainId", [], wire.quantity))

    async def block(self, which: BlockRef) -> Block:
        """The header; ``UnknownBlock`` when the endpoint has none by that number, hash or tag."""
        method, params = _block_request(which)
        return await self._read(method, params, partial(_block, which))

    async def blocks(self, which: Iterable[int | bytes]) -> list[Block]:
        """Headers of these numbers or hashes, in their order, batched. ``UnknownBlock`` when one is not there."""
        wanted = list(which)
        return await self._read_many([_block_request(one) for one in wanted], [partial(_block, one) for one in wanted])

    async def logs(
        self, addresses: Address | Sequence[Address], first: int, last: int, topics: Topics | None = None
    ) -> list[RawLog]:
        """Logs of ``addresses`` in blocks ``first ≤ n ≤ last``, in chain order. ``RangeTooLarge`` asks to split.

        Logs outside what was asked for are an ``EndpointError``; which *fork* they are of is the caller's to check.
        """
        emitters = _emitters(addresses)
        query = {"address": emitters, "fromBlock": hex(first), "toBlock": hex(last)} | _topics(topics)
        try:
            return await self._read("eth_getLogs", [query], partial(_logs_between, emitters, first, last))
        except AnswerTooLarge as error:
            raise RangeTooLarge(error.detail, method="eth_getLogs", endpoint=self.name) from None

    async def logs_in(
        self, addresses: Address | Sequence[Address], blocks: Sequence[Block], topics: Topics | None = None
    ) -> list[RawLog]:
        """Logs of exactly these ``blocks``, asked for by hash: an endpoint that has not got the block must say so
        (an error), where a range would come back silently short."""
        emitters = _emitters(addresses)
        queries = [{"address": emitters, "blockHash": wire.to_hex(b.hash)} | _topics(topics) for b in blocks]
        parses = [partial(_logs_of_block, emitters, block) for block in blocks]
        served = await self._read_many([("eth_getLogs", [query]) for query in queries], parses)
        return [log for logs in served for log in logs]

    # state

    async def call(
        self, to: Address, data: bytes, block: BlockRef = "latest", *, sender: Address | None = None, value: int = 0
    ) -> bytes:
        """``Reverted`` (with its data) when the call reverts."""
        tx = _transaction(to, data, sender, value)
        return await self._read("eth_call", [tx, wire.block_ref(block)], wire.blob)

    async def estimate_gas(self, to: Address, data: bytes, *, sender: Address, value: int = 0) -> int:
        """``Reverted`` (with its data) when the transaction would."""
        return await self._read("eth_estimateGas", [_transaction(to, data, sender, value)], wire.quantity)

    async def simulate(self, to: Address, data: bytes, *, sender: Address, value: int = 0) -> None:
        """``Reverted`` (with its data) when the transaction would now, as most endpoints say: one alone keeps nothing back.
        What is sent although it reverts costs its gas, and nothing of its value."""
        await self._words("eth_call", [_transaction(to, data, sender, value), "latest"], wire.blob)

    async def estimates(self, to: Address, data: bytes, *, sender: Address, value: int = 0) -> list[int]:
        """The gas that each endpoint expects, at least one; ``Reverted`` as ``simulate``."""
        return await self._words("eth_estimateGas", [_transaction(to, data, sender, value)], wire.quantity)

    async def code(self, address: Address, block: BlockRef = "latest") -> bytes:
        return await self._read("eth_getCode", [address, wire.block_ref(block)], wire.blob)

    async def balance(self, address: Address, block: BlockRef = "latest") -> Wei:
        """Of two words the higher: what is not covered is refused when it is sent, what is not sent is missed."""
        return Wei(upper(await self._words("eth_getBalance", [address, wire.block_ref(block)], _u256)))

    async def nonce(self, address: Address, block: BlockRef = "latest") -> int:
        """Transactions sent from ``address`` up to ``block``; the tag ``pending`` counts waiting ones."""
        return await self._read("eth_getTransactionCount", [address, wire.block_ref(block)], wire.quantity)

    async def count(self, address: Address, block: BlockRef = "latest") -> Count:
        """As ``nonce``, of several endpoints. Of two words the lower: a nonce that is used by now is found out, one that the
        chain never comes to is not."""
        said = await self._words("eth_getTransactionCount", [address, wire.block_ref(block)], wire.quantity)
        return Count(lower(said), max(said))

    async def storage(self, address: Address, slot: int, block: BlockRef = "latest") -> bytes:
        """32 bytes."""
        return await self._read("eth_getStorageAt", [address, hex(slot), wire.block_ref(block)], _word)

    # fees

    async def gas_price(self) -> Wei:
        """Of two words the lower: by the higher one a filing would seem not to pay, and the fee cap bounds what it costs."""
        return Wei(lower(await self._words("eth_gasPrice", [], _u256)))

    async def base_fee(self) -> Wei:
        """Of the next block. Of two words the higher: more is offered than is paid, and with less no block takes it."""
        params = [hex(1), "latest", []]
        return Wei(
            upper([told.base_fees[-1] for told in await self._words("eth_feeHistory", params, parse_fee_history)])
        )

    async def priority_fee(self) -> Wei:
        return Wei(await self._read("eth_maxPriorityFeePerGas", [], _u256))

    async def fee_history(
        self, blocks: int, newest: BlockRef = "latest", percentiles: Sequence[float] = ()
    ) -> FeeHistory:
        params = [hex(blocks), wire.block_ref(newest), list(percentiles)]
        return await self._read("eth_feeHistory", params, parse_fee_history)

    # transactions

    async def send_raw(self, raw: bytes) -> Hash32:
        """Sends once. ``RpcError`` is a refusal; after ``EndpointError`` the outcome is *uncertain*, not failed."""
        answer = await self._once("eth_sendRawTransaction", [wire.to_hex(raw)])
        return self._parsed("eth_sendRawTransaction", answer, wire.hash32)

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        """None while the transaction is not mined, or not known."""
        return await self._read("eth_getTransactionReceipt", [wire.to_hex(tx_hash)], partial(parse_receipt, tx_hash))

    async def transaction(self, tx_hash: bytes) -> SentTx | None:
        """None when the endpoint does not know it."""
        return await self._read("eth_getTransactionByHash", [wire.to_hex(tx_hash)], partial(parse_sent_tx, tx_hash))

    async def called(self, which: Iterable[bytes]) -> list[Called | None]:
        """What these transactions asked for, in their order, batched; None for one that the endpoint does not know."""
        wanted = list(which)
        requests: list[Request] = [("eth_getTransactionByHash", [wire.to_hex(one)]) for one in wanted]
        return await self._read_many(requests, [partial(parse_called, one) for one in wanted])

    async def ask(self, method: str, *params: Any) -> Any:
        """Any other method, once, unparsed (a devnet's controls)."""
        return await self._once(method, list(params))

    async def headers(self, which: Iterable[int | bytes]) -> list[Header]:
        """As ``blocks``, with what the hash binds."""
        return [header for header, _ in await self.headers_served(which)]

    async def headers_served(self, which: Iterable[int | bytes]) -> list[tuple[Header, dict[str, Any]]]:
        """As ``headers``, each with the endpoint's own words."""
        wanted = list(which)
        return await self._read_many([_block_request(one) for one in wanted], [partial(_served, one) for one in wanted])

    async def read(self, method: str, params: list[Any], parse: Callable[[Any], T]) -> T:
        """Any other read, as persistent as the typed ones; a ``ValueError`` of ``parse`` is an ``EndpointError``."""
        return await self._read(method, params, parse)

    # how a request goes

    async def _read(self, method: str, params: list[Any], parse: Callable[[Any], T]) -> T:
        if self._elsewhere is None:
            return self._parsed(method, await self._ask(method, params), parse)
        return await self._persistently(lambda: self._once_elsewhere(method, params, parse))

    async def _words(self, method: str, params: list[Any], parse: Callable[[Any], T]) -> list[T]:
        """As ``_read``, by each host that answers where the provider knows several; at least one. ``Reverted`` when most of
        them say that it would; other refusals are no word."""
        said: list[T] = []
        reverts: list[Reverted] = []
        if self._elsewhere is not None:
            ask = partial(self._elsewhere.make_words, method, params, parse)
            for answer in await self._persistently(lambda: self._bounded(method, ask())):
                try:
                    said.append(self._result(method, answer))
                except Reverted as error:
                    reverts.append(error)
                except RpcError:
                    continue
        if len(reverts) > len(said):
            raise reverts[0]
        return said or [await self._read(method, params, parse)]

    async def _once_elsewhere(self, method: str, params: list[Any], parse: Callable[[Any], T]) -> T:
        found: T = self._result(method, await self._bounded(method, self._elsewhere.make_read(method, params, parse)))
        return found

    async def _read_many(self, requests: list[Request], parses: Sequence[Callable[[Any], T]]) -> list[T]:
        """In the order of the requests, batched."""
        results: list[T] = []
        while len(results) < len(requests):
            at = len(results)
            if not self._batch:
                few = zip(requests[at : at + 8], parses[at : at + 8], strict=True)
                results += await asyncio.gather(*(self._read(*request, parse) for request, parse in few))
                continue
            chunk = slice(at, at + self._batch)
            try:
                results += await self._read_batch(requests[chunk], parses[chunk])
            except _BatchRefused:
                self._batch //= 2
        return results

    async def _read_batch(self, chunk: list[Request], parses: Sequence[Callable[[Any], T]]) -> list[T]:
        answers = await self._persistently(partial(self._once_batch, chunk, parses))
        if self._elsewhere is not None:
            return answers
        return [self._parsed(method, a, parse) for (method, _), a, parse in zip(chunk, answers, parses, strict=True)]

    def _parsed(self, what: str, answer: Any, parse: Callable[[Any], T]) -> T:
        try:
            return parse(answer)
        except ValueError as error:
            raise EndpointError(f"nonsense in answer to {what}: {error}", endpoint=self.name) from None
        except UnknownBlock as error:
            raise UnknownBlock(error.detail, endpoint=self.name) from None

    async def _ask(self, method: str, params: list[Any]) -> Any:
        return await self._persistently(lambda: self._once(method, params))

    async def _persistently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for tried in range(1, self._attempts + 1):
            try:
                return await attempt()
            except (AnswerTooLarge, UnknownBlock):
                raise
            except (EndpointError, RateLimited) as error:
                if isinstance(error, NoAnswer) and not self._insists:
                    raise
                asked = getattr(error, "retry_after", None)
                if tried == self._attempts or (asked is not None and asked > self._patience):
                    raise
                # jitter, so that many clients of one endpoint do not come back together
                pause = self._backoff * 2 ** (tried - 1) * random.uniform(0.5, 1.0)  # noqa: S311
                await asyncio.sleep(asked if asked is not None else pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(self, method: str, params: list[Any]) -> Any:
        return self._result(method, await self._bounded(method, self.provider.make_request(method, params)))

    async def _once_batch(self, chunk: list[Request], parses: Sequence[Parse]) -> list[Any]:
        batch: Any = self.provider
        if self._elsewhere is not None:
            request = batch.make_batch_read(chunk, parses)
        else:
            request = batch.make_batch_request(chunk)
        answers = await self._bounded(f"a batch of {chunk[0][0]}", request)
        if isinstance(answers, dict):
            error = refusal("batch", answers.get("error"), self.name)
            if isinstance(error, RateLimited):
                raise error
            raise _BatchRefused(error.detail, endpoint=self.name)
        if not isinstance(answers, list) or len(answers) != len(chunk):
            raise EndpointError("a batch came back with the wrong number of answers", endpoint=self.name)
        return [self._result(method, answer) for (method, _), answer in zip(chunk, answers, strict=True)]

    async def _bounded(self, what: str, request: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._timeout):
                return await request
        except TimeoutError:
            raise NoAnswer(f"no answer to {what} within {self._timeout:g} s", endpoint=self.name) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # only the kind: the text may hold the full URL, and with it a key
            raise EndpointError(f"{what} failed: {type(error).__name__}", endpoint=self.name) from None

    def _result(self, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict):
            raise EndpointError(f"the answer to {method} is not a JSON-RPC answer", endpoint=self.name)
        if answer.get("error") is not None:
            raise refusal(method, answer["error"], self.name)
        if "result" not in answer:
            raise EndpointError(f"the answer to {method} has neither result nor error", endpoint=self.name)
        return answer["result"]


class _BatchRefused(RpcError):
    """the JSON-RPC endpoint refuses a batch of this size"""


def _block_request(which: BlockRef) -> Request:
    if isinstance(which, bytes):
        return "eth_getBlockByHash", [wire.to_hex(which), False]
    return "eth_getBlockByNumber", [wire.block_ref(which), False]


def _block(which: BlockRef, answer: Any) -> Block:
    if answer is None:
        raise UnknownBlock(wire.to_hex(which) if isinstance(which, bytes) else str(which))
    block = wire.block(answer)
    if (isinstance(which, int) and block.number != which) or (isinstance(which, bytes) and block.hash != which):
        raise ValueError(f"another block than the one asked for ({block.number})")
    return block


def _served(which: int | bytes, answer: Any) -> tuple[Header, dict[str, Any]]:
    _block(which, answer)
    return parse_header(answer), answer


def _emitters(addresses: Address | Sequence[Address]) -> list[str]:
    return [addresses.lower()] if isinstance(addresses, str) else [one.lower() for one in addresses]


def _topics(topics: Topics | None) -> dict[str, Any]:
    if topics is None:
        return {}

    def term(topic: bytes | Sequence[bytes] | None) -> Any:
        if topic is None or isinstance(topic, bytes):
            return None if topic is None else wire.to_hex(topic)
        return [wire.to_hex(one) for one in topic]

    return {"topics": [term(topic) for topic in topics]}


def _logs_between(emitters: list[str], first: int, last: int, answer: Any) -> list[RawLog]:
    logs = parse_logs(answer)
    for log in logs:
        if not first <= log.block <= last or log.address not in emitters:
            raise ValueError(f"a log of block {log.block} by {log.address} was not asked for")
    return logs


def _logs_of_block(emitters: list[str], block: Block, answer: Any) -> list[RawLog]:
    logs = _logs_between(emitters, block.number, block.number, answer)
    if any(log.block_hash != block.hash for log in logs):
        raise ValueError(f"a log of another block {block.number} than the one asked for")
    return logs


def _transaction(to: Address, data: bytes, sender: Address | None, value: int) -> dict[str, str]:
    tx = {"to": to, "data": wire.to_hex(data), "value": hex(value)}
    return tx if sender is None else {"from": sender} | tx


def _u256(answer: Any) -> int:
    return wire.quantity(answer, wire.MAX_U256)


def _word(answer: Any) -> bytes:
    data = wire.blob(answer)
    if len(data) > 32:
        raise ValueError("a storage word of more than 32 bytes")
    return data.rjust(32, b"\0")
