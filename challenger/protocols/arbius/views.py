"""What the Arbius engine says at one block, as values. An answer that makes no sense is ``EndpointError``.

Generations are told apart by what they answer to: the engine's own number stood still from V1 to V3, and V5 to V5.2 share
one. A function that a generation lacks reverts without data, and nothing else is read into a refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain.codec import decode_result, encode_call
from challenger.domain import Address, Hash32, ModelId, TaskId, UnixTime
from challenger.errors import EndpointError, Reverted
from challenger.protocols.arbius.abi import REGISTRY, TOKEN, VIEWS

NOBODY = Address("0x" + "00" * 20)
#: By which function each generation from the second on is known.
_SIGNS = (
    (2, "solutionsStakeAmount"),
    (3, "contestationVoteExtensionTime"),
    (4, "veRewards"),
    (5, "solutionModelFeePercentage"),
    (6, "masterContesterVoteAdder"),
)
#: The most voters of one side that are read: a vote costs a slash, so that more would be a fortune.
MOST_VOTERS = 10_000


class NotThere(EndpointError):
    """the engine, as this endpoint shows it, knows nothing by this identifier"""


class NoGeneration(EndpointError):
    """the contract, as this endpoint shows it, is no Arbius engine of any generation"""


class Caller(Protocol):
    """What views need of the chain."""

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How one generation judges, and its times in seconds as they are now. ``adder``: votes that a contestation has before
    anybody votes (V6). ``slash``, ``least``: units of the token. ``registry``: of master contesters, from V6 on."""

    generation: int
    version: int
    paused: bool
    claim_time: int
    vote_period: int
    extension: int
    stake_since: int
    slash: int
    least: int
    adder: int
    registry: Address | None


@dataclass(frozen=True, slots=True)
class Model:
    fee: int
    addr: Address
    rate: int
    cid: bytes


@dataclass(frozen=True, slots=True)
class Task:
    model: ModelId
    fee: int
    owner: Address
    blocktime: UnixTime
    version: int
    cid: bytes


@dataclass(frozen=True, slots=True)
class Solution:
    validator: Address
    blocktime: UnixTime
    claimed: bool
    cid: bytes


@dataclass(frozen=True, slots=True)
class Stake:
    """Units of the token: ``staked`` of which ``pending`` waits for withdrawal; ``since``: when it last reached the least."""

    staked: int
    pending: int
    since: UnixTime


@dataclass(frozen=True, slots=True)
class Contest:
    """A contestation with all its votes. ``paid``: how many places of the winners' list have been gone through."""

    challenger: Address
    blocktime: UnixTime
    paid: int
    slash: int
    yeas: tuple[Address, ...]
    nays: tuple[Address, ...]

    def upheld(self, rules: Rules) -> bool:
        """Whether the contester wins as the votes stand: a tie goes to the accused."""
        return len(self.yeas) + rules.adder > len(self.nays)

    def winners(self, rules: Rules) -> tuple[Address, ...]:
        return self.yeas if self.upheld(rules) else self.nays

    def settled(self, rules: Rules) -> bool:
        """Whether everybody on the winning side is paid."""
        return self.paid >= len(self.winners(rules)) > 0

    def last_vote(self, rules: Rules) -> UnixTime:
        """The last second in which a vote counts; each vote moves it on from V3 on."""
        more = rules.extension * (len(self.yeas) + len(self.nays))
        return UnixTime(self.blocktime + rules.vote_period + more)


class EngineViews:
    """Reads of the engine at ``engine``; ``block`` is a hash, so that all reads of one decision see one state."""

    def __init__(self, chain: Caller, engine: Address) -> None:
        self._chain = chain
        self._engine = engine

    async def generation(self, block: bytes) -> int:
        """1 to 6. ``NoGeneration`` where the signs of two generations contradict each other."""
        has = await asyncio.gather(*(self._has(name, block) for _, name in _SIGNS))
        found, gap = 1, ""
        for (number, name), there in zip(_SIGNS, has, strict=True):
            if there and gap:
                raise NoGeneration(f"it has {name} but lacks {gap}", address=self._engine)
            found, gap = (number, gap) if there else (found, gap or name)
        return found

    async def rules(self, block: bytes) -> Rules:
        generation = await self.generation(block)

        async def since(first: int, name: str, otherwise: Any) -> Any:
            return await self._ask(name, (), block) if generation >= first else otherwise

        asked = [
            since(1, "version", 0),
            since(1, "paused", otherwise=False),
            since(1, "minClaimSolutionTime", 0),
            since(1, "minContestationVotePeriodTime", 0),
            since(3, "contestationVoteExtensionTime", 0),
            since(1, "maxContestationValidatorStakeSince", 0),
            since(1, "getSlashAmount", 0),
            since(1, "getValidatorMinimum", 0),
            since(6, "masterContesterVoteAdder", 0),
            since(6, "masterContesterRegistry", None),
        ]
        return Rules(generation, *await asyncio.gather(*asked))

    async def claim_time(self, block: bytes) -> int:
        return int(await self._ask("minClaimSolutionTime", (), block))

    async def token(self, block: bytes) -> Address:
        return Address(await self._ask("baseToken", (), block))

    async def model(self, model: ModelId, block: bytes) -> Model:
        """``NotThere`` for a model that is none."""
        raw = await self._ask("models", (model,), block)
        if raw["addr"] == NOBODY:
            raise NotThere(f"model 0x{model.hex()}")
        return Model(raw["fee"], raw["addr"], raw["rate"], raw["cid"])

    async def task(self, task: TaskId, block: bytes) -> Task:
        raw = await self._ask("tasks", (task,), block)
        if not any(raw["model"]):
            raise NotThere(f"task 0x{task.hex()}")
        return Task(
            ModelId(raw["model"]),
            raw["fee"],
            raw["owner"],
            UnixTime(raw["blocktime"]),
            raw["version"],
            raw["cid"],
        )

    async def solution(self, task: TaskId, block: bytes) -> Solution:
        raw = await self._ask("solutions", (task,), block)
        if raw["validator"] == NOBODY:
            raise NotThere(f"a solution of task 0x{task.hex()}")
        return Solution(raw["validator"], UnixTime(raw["blocktime"]), raw["claimed"], raw["cid"])

    async def signalled(self, commitment: Hash32, block: bytes) -> int:
        """The block in which this commitment was signalled, 0 for none; on Arbitrum its own number, not Ethereum's."""
        return int(await self._ask("commitments", (commitment,), block))

    async def stake(self, account: Address, block: bytes) -> Stake:
        raw = await self._ask("validators", (account,), block)
        pending = await self._ask("validatorWithdrawPendingAmount", (account,), block)
        return Stake(raw["staked"], pending, UnixTime(raw["since"]))

    async def beside_solution(self, task: TaskId, block: bytes, rules: Rules) -> int:
        """Units that lie beside a solution as its own stake, from V2 on."""
        return int(await self._ask("solutionsStake", (task,), block)) if rules.generation >= 2 else 0

    async def last_loss(self, account: Address, block: bytes, rules: Rules) -> UnixTime:
        """When ``account`` last lost a contestation over a solution of its own; 0 for never, and before V2."""
        found = await self._ask("lastContestationLossTime", (account,), block) if rules.generation >= 2 else 0
        return UnixTime(found)

    async def contested_by(self, task: TaskId, block: bytes) -> Address | None:
        """Who contests it; None while nobody does."""
        raw = await self._ask("contestations", (task,), block)
        return None if raw["validator"] == NOBODY else Address(raw["validator"])

    async def contest(self, task: TaskId, block: bytes) -> Contest:
        """``NotThere`` where nobody contests it."""
        raw = await self._ask("contestations", (task,), block)
        if raw["validator"] == NOBODY:
            raise NotThere(f"a contestation of task 0x{task.hex()}")
        return Contest(
            raw["validator"],
            UnixTime(raw["blocktime"]),
            raw["finish_start_index"],
            raw["slashAmount"],
            await self._voters("contestationVoteYeas", task, block),
            await self._voters("contestationVoteNays", task, block),
        )

    async def can_vote(self, account: Address, task: TaskId, block: bytes) -> int:
        """0, or the code under which the engine refuses: see ``adapter.VOTE_REFUSALS``."""
        return int(await self._ask("validatorCanVote", (account, task), block))

    async def is_contester(self, registry: Address, account: Address, block: bytes) -> bool:
        """V6: whether ``account`` is a master contester. Nobody is one while there is no registry."""
        if registry == NOBODY:
            return False
        data = encode_call(REGISTRY, "isMasterContester", (account,))
        return bool(decode_result(REGISTRY, "isMasterContester", await self._chain.call(registry, data, block)))

    async def tokens(self, token: Address, account: Address, block: bytes) -> int:
        data = encode_call(TOKEN, "balanceOf", (account,))
        return int(decode_result(TOKEN, "balanceOf", await self._chain.call(token, data, block)))

    async def _voters(self, name: str, task: TaskId, block: bytes) -> tuple[Address, ...]:
        """The list has no length to ask for: it ends where the engine refuses."""
        found: list[Address] = []
        while len(found) < MOST_VOTERS:
            try:
                found.append(await self._ask(name, (task, len(found)), block))
            except Reverted:
                return tuple(found)
        raise EndpointError(f"more than {MOST_VOTERS} voters on one side of a contestation")

    async def _has(self, name: str, block: bytes) -> bool:
        try:
            await self._ask(name, (), block)
        except Reverted as error:
            if error.data:
                raise EndpointError(f"{name}, which takes nothing, reverts with data") from None
            return False
        return True

    async def _ask(self, name: str, args: Sequence[Any], block: bytes) -> Any:
        answer = await self._chain.call(self._engine, encode_call(VIEWS, name, args), block)
        return decode_result(VIEWS, name, answer)
