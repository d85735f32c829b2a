"""Which contracts are audited, and what they say of themselves: their limits, and which registry is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain.answers import RawLog, SentTx
from challenger.chain.codec import EventDecoder, decode_result, encode_call
from challenger.domain import Address, Block
from challenger.errors import ConfigError, RangeTooLarge, Reverted
from challenger.protocols.opengradient.settlement.check import Limits
from challenger.protocols.opengradient.settlement.registry import event_abi, form_named

_UPDATED = EventDecoder([event_abi("RegistryUpdated(address indexed oldRegistry,address indexed newRegistry)")])


class Chain(Protocol):
    """What is asked of the JSON-RPC client (``chain.rpc.Rpc`` answers it)."""

    async def block(self, which: int | bytes | str) -> Block: ...
    async def blocks(self, which: Iterable[int | bytes]) -> list[Block]: ...
    async def logs(
        self, addresses: Sequence[Address], first: int, last: int, topics: Sequence[Sequence[bytes]]
    ) -> list[RawLog]: ...
    async def call(self, to: Address, data: bytes) -> bytes: ...
    async def transaction(self, tx_hash: bytes) -> SentTx | None: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployed pair of contracts. ``registry_start``: a block not after the registry's first event; ``form``: the
    registry's generation (``registry.FORMS``); ``older_leaves``: whether its batches have leaves without signers."""

    settlement: Address
    registry: Address
    registry_start: int
    form: str = "current"
    older_leaves: bool = False

    def __post_init__(self) -> None:
        # logs carry addresses in lower case, and one that is compared in another matches none of them
        object.__setattr__(self, "settlement", Address(self.settlement.lower()))
        object.__setattr__(self, "registry", Address(self.registry.lower()))


async def read_limits(chain: Chain, deployment: Deployment) -> Limits:
    """What the contracts say at the newest block, and the defaults for what they do not. None of it leaves an event, so
    that what was in force earlier cannot be had from logs."""
    form, stated = form_named(deployment.form), Limits()
    verifier = await _verifier(chain, deployment)
    age = await _view(chain, verifier, "MAX_INFERENCE_AGE", "uint256")
    future = await _view(chain, verifier, "FUTURE_TOLERANCE", "uint256")
    beat = await _view(chain, deployment.registry, "heartbeatMaxAge", "uint256") if form.beats else None
    return Limits(
        heartbeat=(stated.heartbeat if beat is None else beat) if form.beats else None,
        age=stated.age if age is None else age,
        future=stated.future if future is None else future,
        skew=stated.skew if future is None else future,
    )


async def same_registry(chain: Chain, deployment: Deployment, first: int, last: int) -> None:
    """``ConfigError`` unless the settlements of ``first ≤ n ≤ last`` were checked against this registry: under another one
    honest enclaves are unknown. A verifier that says nothing of a registry is let pass."""
    verifier = await _verifier(chain, deployment)
    asked = await _view(chain, verifier, "registry", "address")
    if asked is None:
        return
    newest = (await chain.block("latest")).number
    for log in reversed(await read_logs(chain, verifier, first, newest, _UPDATED.topics)):
        event = _UPDATED.decode(log)
        if event is None:
            continue
        if log.block <= last:
            raise ConfigError(
                "the settlements' registry was exchanged within these blocks: audit up to that block, and from it on",
                block=log.block,
                before=event.args["oldRegistry"],
                after=event.args["newRegistry"],
            )
        asked = event.args["oldRegistry"]
    if asked != deployment.registry:
        raise ConfigError(
            "the settlements of these blocks were checked against another registry",
            given=deployment.registry,
            asked=asked,
        )


async def _verifier(chain: Chain, deployment: Deployment) -> Address:
    """The contract that the settlement asks; itself when it names none."""
    named = await _view(chain, deployment.settlement, "SETTLEMENT_CONTRACT", "address")
    return deployment.settlement if named is None else Address(named)


async def _view(chain: Chain, contract: Address, name: str, kind: str) -> Any:
    """None when the contract has no such view."""
    abi = [{"type": "function", "name": name, "inputs": [], "outputs": [{"name": "", "type": kind}]}]
    try:
        answer = await chain.call(contract, encode_call(abi, name, []))
    except Reverted:
        return None
    return decode_result(abi, name, answer) if answer else None


async def read_logs(chain: Chain, address: Address, first: int, last: int, topics: Sequence[bytes]) -> list[RawLog]:
    """In chain order, over ranges as wide as the endpoint answers; ``RangeTooLarge`` when one block is too wide."""
    found: list[RawLog] = []
    width = last - first + 1
    while first <= last:
        until = min(last, first + width - 1)
        try:
            found += await chain.logs([address], first, until, [topics])
        except RangeTooLarge:
            if first == until:
                raise
            width = (until - first + 1) // 2
            continue
        first = until + 1
    return found
