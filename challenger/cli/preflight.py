"""The rows of `challenger check` that ask the chain and the key: each says what it found, or what to do about it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from challenger.cli.common import ether
from challenger.domain import Address, BlockNumber, Mode
from challenger.errors import ChallengerError, Expected, WrongContract
from challenger.hardening import no_core_dumps
from challenger.protocols.base import ETHER, Money, Terms
from challenger.settings import REPORTED, Settings, addresses

if TYPE_CHECKING:
    from challenger.chain.rpc import Rpc
    from challenger.chain.signers import TransactionSigner

#: Seconds by which this machine's clock may differ from the chain's newest block.
SKEW = 120


class Row(NamedTuple):
    name: str
    ok: bool
    detail: str


async def attempt(name: str, look: Callable[[], Awaitable[str]]) -> Row:
    """What ``look`` found; a failed row with its error when it raises one of ours."""
    try:
        return Row(name, ok=True, detail=await look())
    except ChallengerError as error:
        return Row(name, ok=False, detail=str(error))


async def chain_rows(settings: Settings) -> AsyncIterator[Row]:
    """Endpoints and the history behind each, the contract, the key and its account."""
    from challenger.chain.endpoint import connect, mask_url
    from challenger.parts import load_signer

    chain = settings.chain
    async with AsyncExitStack() as stack:
        rpcs: list[Rpc] = []
        for url in chain.rpc:

            async def reach(url: str = url) -> str:
                wanted = chain.chain_id or (None if settings.protocol.name in REPORTED else 0)
                rpc = await stack.enter_async_context(connect(url, chain_id=wanted, timeout=chain.timeout))
                rpcs.append(rpc)
                return await _head(rpc, settings)

            known = len(rpcs)
            yield await attempt(f"endpoint {mask_url(url)}", reach)
            if len(rpcs) > known:
                rpc = rpcs[-1]
                yield await attempt(f"history {mask_url(url)}", partial(_history, rpc, settings))

        terms: list[Terms] = []
        yield await attempt("contract", lambda: _contract(rpcs, settings, terms))
        keys: list[TransactionSigner] = []

        async def signer() -> str:
            key = load_signer(settings)
            if key is None:
                return "none: mode watch"
            await _signs(key)
            keys.append(key)
            # what the system did not let us harden is said, and stops nobody
            return "; ".join([f"{key.address} signs", *no_core_dumps()])

        yield await attempt("signer", signer)
        if keys:
            yield await attempt(
                "balance", lambda: _balance(rpcs, keys[0].address, settings, terms[0].money if terms else ETHER)
            )


async def _head(rpc: Rpc, settings: Settings) -> str:
    head = await rpc.block("latest")
    skew = int(time.time()) - head.time
    if abs(skew) > SKEW and not settings.chain.embedded:
        raise Expected(
            f"block {head.number} is {skew} s off this machine's clock, more than {SKEW}: "
            "set the clock, or use an endpoint that does not lag"
        )
    return f"chain {settings.chain.chain_id}, block {head.number}, clock {skew:+d} s"


async def _history(rpc: Rpc, settings: Settings) -> str:
    """Logs and headers from the first block on, and state as deep as a reorganisation may reach."""
    chain = settings.chain
    market = _places(settings)[0]
    head = await rpc.block("latest")
    if chain.start_block > head.number:
        raise Expected(f"[chain] start_block {chain.start_block} is above the head, {head.number}: correct one of them")
    deep = BlockNumber(max(chain.start_block, head.number - chain.ledger_depth))
    for what, question in (
        (f"the block {chain.start_block}", lambda: rpc.block(chain.start_block)),
        (f"the logs of block {chain.start_block}", lambda: rpc.logs(market, chain.start_block, chain.start_block)),
        (f"the state of block {deep}", lambda: rpc.balance(market, deep)),
    ):
        try:
            await question()
        except Expected as error:
            raise Expected(f"{what} is not served: use an endpoint that keeps it ({error})") from error
    return f"logs from block {chain.start_block}, state {head.number - deep} blocks deep"


def _places(settings: Settings) -> list[Address]:
    """Where the protocol's contracts stand, as the settings say. Raises ConfigError."""
    if settings.protocol.name not in REPORTED:
        return [Address(addresses(settings).chain.market)]
    from challenger.reporting import Report, Wanted

    Report(settings, Wanted(0))  # it says what is missing
    ours = settings.opengradient
    return [Address(place) for place in (ours.hub, ours.settlement, ours.registry) if place]


async def _contract(rpcs: list[Rpc], settings: Settings, terms: list[Terms]) -> str:
    """Every endpoint must show the code that this version knows, and the same as the others; of a protocol that is only
    reported on any; ``terms`` is told what holds there."""
    from challenger.parts import adapter_of, protocol_of
    from challenger.pipeline.views import same_contract

    places = _places(settings)
    if settings.protocol.name in REPORTED:
        if not rpcs:
            raise Expected("no endpoint to ask: see the rows above")
        for rpc in rpcs:
            for place in places:
                if not await rpc.code(place):
                    raise WrongContract("there is no contract; is this the right chain?", address=place)
        return f"{settings.protocol.name}: contracts at {', '.join(places)}; it has no disputes: audited and reported"
    protocol_of(settings)  # what is wrong in the settings is said whatever answers
    if not rpcs:
        raise Expected("no endpoint to ask: see the rows above")
    adapter = None
    for rpc in rpcs:
        first, adapter = adapter, adapter_of(settings, rpc)
        try:
            await adapter.check()
        except WrongContract as error:  # of several endpoints a person has to know which
            raise WrongContract(error.detail, **error.context, endpoint=rpc.name) from error
        if first is not None and first.pins != adapter.pins:
            others = first.pins.items() ^ adapter.pins.items()
            where = ", ".join(sorted({place for place, _ in others}))
            raise WrongContract(
                "two endpoints show different code: find out which is wrong", address=where, endpoint=rpc.name
            )
        if first is not None and not same_contract(first, adapter):
            here, there = adapter.terms.text, first.terms.text
            raise WrongContract(
                "two endpoints show different terms: find out which is wrong",
                endpoint=rpc.name,
                shows=here,
                before=there,
            )
    assert adapter is not None
    terms.append(adapter.terms)
    return f"{settings.protocol.name}: code as expected; {adapter.terms.said}"


async def _signs(key: TransactionSigner) -> None:
    """Has it sign a transaction that no chain takes (it has no gas), and sees who signed it."""
    from eth_account import Account

    never = {"chainId": 1, "nonce": 0, "to": key.address, "value": 0, "data": b"", "gas": 0}
    signed = await key.sign_transaction({**never, "maxFeePerGas": 0, "maxPriorityFeePerGas": 0})
    sent = Account.recover_transaction(signed.raw)
    if sent.lower() != key.address:
        raise Expected("what it signs is not signed by its address: check [signer]", address=key.address)


async def _balance(rpcs: list[Rpc], account: Address, settings: Settings, money: Money) -> str:
    if not rpcs:
        raise Expected("no endpoint to ask: see the rows above")
    balance, wanted = await rpcs[0].balance(account), settings.filing.exposure
    if not money.paid:  # how much stake there is, and how much it must be, the contract knows
        if settings.mode in (Mode.LIVE, Mode.CONFIRM) and not balance:
            raise Expected(f"{account} holds no ETH for gas: fund it")
        return f"{ether(balance)} ETH for gas, exposure {ether(wanted)} {money.whole}"
    if settings.mode in (Mode.LIVE, Mode.CONFIRM) and balance < wanted:
        raise Expected(
            f"{account} holds {ether(balance)} ETH, less than the exposure of {ether(wanted)} ETH: "
            "fund it, or lower [filing] exposure"
        )
    return f"{ether(balance)} ETH, exposure {ether(wanted)} ETH"
