"""Which contracts are audited, and what they say of themselves: their limits, and which registries are asked."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from challenger.chain.answers import RawLog, SentTx
from challenger.chain.codec import EventDecoder, decode_result, encode_call
from challenger.domain import Address, At, Block
from challenger.errors import ConfigError, EndpointError, RangeTooLarge, Reverted
from challenger.protocols.opengradient.settlement.check import Limits
from challenger.protocols.opengradient.settlement.registry import event_abi, form_named

#: Questions under way at once.
TOGETHER = 8
_UPDATED = EventDecoder([event_abi("RegistryUpdated(address indexed oldRegistry,address indexed newRegistry)")])
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_BLOCK = re.compile(r"[0-9]{1,18}", re.ASCII)


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
class Registry:
    """``start``: a block not after its first event, nor after it was first asked; ``form``: its generation
    (``registry.FORMS``), which is not guessed: one event means a grace period in one of them and a time in another.
    ``ConfigError`` for a form that there is not."""

    address: Address
    start: int
    form: str = "current"

    def __post_init__(self) -> None:
        # logs carry addresses in lower case, and one that is compared in another matches none of them
        object.__setattr__(self, "address", Address(self.address.lower()))
        form_named(self.form)

    @classmethod
    def parse(cls, text: str) -> Registry:
        """``ADDRESS BLOCK FORM``. ``ConfigError``."""
        match text.split():
            case [address, start, form] if _ADDRESS.fullmatch(address) and _BLOCK.fullmatch(start):
                return cls(Address(address), int(start), form)
        raise ConfigError("a registry is written as ADDRESS BLOCK FORM, with a blank between", given=text)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A settlement contract and the ``registry`` that it is checked against, as in ``Registry``; ``others``: those that
    were asked before it, or will be after it. ``older_leaves``: whether its batches have leaves without signers.
    ``ConfigError`` for a form that there is not."""

    settlement: Address
    registry: Address
    registry_start: int
    form: str = "current"
    older_leaves: bool = False
    others: tuple[Registry, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "settlement", Address(self.settlement.lower()))
        object.__setattr__(self, "registry", Address(self.registry.lower()))
        form_named(self.form)

    @property
    def registries(self) -> tuple[Registry, ...]:
        """The one that is named first is asked where the contracts do not say which."""
        return (Registry(self.registry, self.registry_start, self.form), *self.others)


class UnnamedRegistry(ConfigError):
    """settlements were checked against a registry that the settings do not name"""

    def __init__(self, registry: Address, block: int) -> None:
        """``block``: the first that has such a settlement."""
        said = "what is before that block can be audited; for the rest name it in [opengradient] registries"
        super().__init__(said, registry=registry, block=block)
        self.block = block


class Asked(NamedTuple):
    """What settlements are checked against behind ``place`` (block, log index). ``registry`` is None where the deployment
    does not name the one at ``address``; ``time``: of the block (UTC seconds)."""

    place: tuple[int, int]
    time: int
    address: Address
    registry: Registry | None


async def read_limits(chain: Chain, deployment: Deployment, registry: Registry) -> Limits:
    """What the contracts say at the newest block, and the defaults for what they do not. None of it leaves an event, so
    that what was in force earlier cannot be had from logs."""
    form, stated = form_named(registry.form), Limits()
    verifier = await _verifier(chain, deployment)
    age = await _view(chain, verifier, "MAX_INFERENCE_AGE", "uint256")
    future = await _view(chain, verifier, "FUTURE_TOLERANCE", "uint256")
    beat = await _view(chain, registry.address, "heartbeatMaxAge", "uint256") if form.beats else None
    return Limits(
        heartbeat=(stated.heartbeat if beat is None else beat) if form.beats else None,
        age=stated.age if age is None else age,
        future=stated.future if future is None else future,
        skew=stated.skew if future is None else future,
    )


class Exchanges:
    """What the verifier told of its registry: ``first``, the first block that is audited."""

    def __init__(self, deployment: Deployment, first: int) -> None:
        self._deployment = deployment
        self._begin = min(first, *(registry.start for registry in deployment.registries))
        self._verifier: Address | None = None
        self._told: list[tuple[RawLog, Address, Address]] = []
        self._next = self._begin

    async def asked(self, chain: Chain, last: int) -> list[Asked]:
        """Which registries it asked up to block ``last``, in chain order: under another one honest enclaves are unknown. A
        verifier that says nothing of a registry is taken to ask the one that is named first. ``EndpointError`` when what
        it says contradicts itself."""
        verifier = await _verifier(chain, self._deployment)
        if verifier != self._verifier:
            self._verifier, self._told, self._next = verifier, [], self._begin
        newest = (await chain.block("latest")).number
        told = self._told + [
            (log, event.args["oldRegistry"], event.args["newRegistry"])
            for log in await read_logs(chain, verifier, self._next, newest, _UPDATED.topics)
            if (event := _UPDATED.decode(log)) is not None
        ]
        now = await _view(chain, verifier, "registry", "address")
        if now is None:
            named = self._deployment.registries[0]
            return [Asked((self._begin, -1), 0, named.address, named)]
        addresses = [told[0][1] if told else now, *(new for _, _, new in told)]
        if addresses[-1] != now or any(old != before for (_, old, _), before in zip(told, addresses, strict=False)):
            raise EndpointError("what the verifier says of its registry contradicts itself", verifier=verifier)
        if last >= self._next:
            self._told, self._next = [one for one in told if one[0].block <= last], last + 1
        past = [log for log, _, _ in told if log.block <= last]
        blocks = await chain.blocks(log.block for log in past)
        places = [(log.block, log.log_index) for log in past]
        known = {registry.address: registry for registry in reversed(self._deployment.registries)}
        return [
            Asked(place, time, address, known.get(address))
            for place, time, address in zip(
                [(self._begin, -1), *places], [0, *(block.time for block in blocks)], addresses, strict=False
            )
        ]


def asked_at(asked: Sequence[Asked], at: At) -> int:
    """Which of these, by number, the settlement at this place was checked against."""
    return bisect_left([one.place for one in asked], (at.block, at.log_index)) - 1


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
    """In chain order. Raises as ``pieces``."""
    return [log async for piece in pieces(chain, address, first, last, topics) for log in piece]


async def pieces(
    chain: Chain, address: Address, first: int, last: int, topics: Sequence[bytes]
) -> AsyncIterator[list[RawLog]]:
    """Logs in chain order, over ranges as wide as the endpoint answers; ``RangeTooLarge`` when one block is too wide."""
    width = last - first + 1
    while first <= last:
        until = min(last, first + width - 1)
        try:
            found = await chain.logs([address], first, until, [topics])
        except RangeTooLarge:
            if first == until:
                raise
            width = (until - first + 1) // 2
            continue
        if found:
            yield found
        first = until + 1
