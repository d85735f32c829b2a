"""What the reference market's views say at one block, as values. An answer that makes no sense is ``EndpointError``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from challenger.chain.codec import decode_result, encode_call
from challenger.contracts import artifact
from challenger.domain import (
    Address,
    BlockNumber,
    CommitmentId,
    DemandId,
    DemandOutcome,
    DisputeId,
    DisputeOutcome,
    Hash32,
    JobStatus,
    Millionths,
    ModelId,
    Part,
    TaskId,
    UnixTime,
    Wei,
)
from challenger.errors import EndpointError
from challenger.protocols.base import Terms
from challenger.protocols.reference_calls import PARTS
from challenger.protocols.reference_logs import DEMAND_OUTCOMES, DISPUTE_OUTCOMES, JOB_STATUSES

_MARKET = artifact("InferenceMarket").abi
_ADJUDICATOR = artifact("IAdjudicator").abi
_NOBODY = "0x" + "00" * 20
T = TypeVar("T")


class NotThere(EndpointError):
    """the contract, as this endpoint shows it, knows nothing by this identifier"""


class Caller(Protocol):
    """What views need of the chain."""

    async def call(self, to: Address, data: bytes, block: int | bytes | str = "latest") -> bytes: ...


@dataclass(frozen=True, slots=True)
class Params:
    """The market's immutable parameters. Times in seconds, ages in blocks, amounts in wei."""

    window: int
    answer_period: int
    seal_age: int
    max_seal_age: int
    max_disputes: int
    job_collateral: Wei
    model_bond: Wei
    challenge_bond: Wei
    demand_bond: Wei
    bounty: Millionths
    max_inline: int
    adjudicator: Address

    def bounty_of(self, amount: int) -> Wei:
        """The winner's share of a loser's ``amount``; the rest is burnt."""
        return Wei(amount * self.bounty // 1_000_000)

    @property
    def reward(self) -> Wei:
        """What a won dispute brings."""
        return self.bounty_of(self.job_collateral)

    @property
    def burnt(self) -> Wei:
        """What a slashed provider loses even if it challenges itself."""
        return Wei(self.job_collateral - self.reward)

    @property
    def terms(self) -> Terms:
        """Seal, wait, challenge."""
        said = f"window {self.window} s"
        return Terms(
            self.challenge_bond,
            self.reward,
            self.burnt,
            2,
            self.seal_age,
            said,
            self.as_text(),
            fixed=True,
            demands=self.window,
        )

    def as_text(self) -> str:
        """JSON, for the record."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Params:
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Job:
    """``oldest``: the open dispute that comes first, None without one. ``withheld``: nothing new may be opened over it."""

    provider: Address
    committed_at: UnixTime
    status: JobStatus
    open_disputes: int
    open_demands: int
    output_inline: bool
    closes: UnixTime
    withheld: bool
    task: TaskId
    model: ModelId
    output_root: Hash32
    state_root: Hash32
    oldest: DisputeId | None


@dataclass(frozen=True, slots=True)
class Dispute:
    commitment: CommitmentId
    challenger: Address
    opened_at: UnixTime
    outcome: DisputeOutcome
    ruling_by: UnixTime


@dataclass(frozen=True, slots=True)
class Demand:
    commitment: CommitmentId
    demander: Address
    opened_at: UnixTime
    part: Part
    index: int
    outcome: DemandOutcome
    answer_by: UnixTime


class MarketViews:
    """Reads of the market at ``market``; ``block`` is a hash, so that all reads of one decision see one state."""

    def __init__(self, chain: Caller, market: Address) -> None:
        self._chain = chain
        self._market = market

    async def params(self, block: bytes) -> Params:
        raw = await self._ask("params", (), block)
        return Params(
            window=raw["window"],
            answer_period=raw["answerPeriod"],
            seal_age=raw["sealAge"],
            max_seal_age=raw["maxSealAge"],
            max_disputes=raw["maxDisputes"],
            job_collateral=raw["jobCollateral"],
            model_bond=raw["modelBond"],
            challenge_bond=raw["challengeBond"],
            demand_bond=raw["demandBond"],
            bounty=raw["bountyMillionths"],
            max_inline=raw["maxInline"],
            adjudicator=raw["adjudicator"],
        )

    async def job(self, commitment: CommitmentId, block: bytes) -> Job:
        """``NotThere`` for a commitment that is none."""
        raw = _existing(await self._ask("job", (commitment,), block), "provider", "commitment", commitment.hex())
        return _read(
            lambda: Job(
                provider=raw["provider"],
                committed_at=raw["committedAt"],
                status=JOB_STATUSES[raw["status"]],
                open_disputes=raw["openDisputes"],
                open_demands=raw["openDemands"],
                output_inline=raw["outputInline"],
                closes=raw["windowEnd"],
                withheld=raw["withheld"],
                task=raw["task"],
                model=raw["model"],
                output_root=raw["outputRoot"],
                state_root=raw["stateRoot"],
                oldest=DisputeId(raw["queue"] & 0xFFFFFFFF) or None,
            )
        )

    async def dispute(self, dispute: DisputeId, block: bytes) -> Dispute:
        raw = _existing(await self._ask("dispute", (dispute,), block), "challenger", "dispute", dispute)
        return _read(
            lambda: Dispute(
                commitment=raw["job"],
                challenger=raw["challenger"],
                opened_at=raw["openedAt"],
                outcome=DISPUTE_OUTCOMES[raw["outcome"]],
                ruling_by=raw["rulingBy"],
            )
        )

    async def demand(self, demand: DemandId, block: bytes) -> Demand:
        raw = _existing(await self._ask("demand(uint256)", (demand,), block), "demander", "demand", demand)
        return _read(
            lambda: Demand(
                commitment=raw["job"],
                demander=raw["demander"],
                opened_at=raw["openedAt"],
                part=PARTS[raw["part"]],
                index=raw["index"],
                outcome=DEMAND_OUTCOMES[raw["outcome"]],
                answer_by=raw["answerBy"],
            )
        )

    async def demand_of(self, commitment: CommitmentId, part: Part, index: int, block: bytes) -> DemandId | None:
        """The one demand ever made for this part and index of the job."""
        return DemandId(await self._ask("demandOf", (commitment, PARTS.index(part), index), block)) or None

    async def sealed_in(self, challenger: Address, sealed: Hash32, block: bytes) -> BlockNumber | None:
        """The block in which ``challenger`` last sealed this digest, while that is pending."""
        return BlockNumber(await self._ask("sealedIn", (challenger, sealed), block)) or None

    async def balance_of(self, account: Address, block: bytes) -> Wei:
        """What is credited and may be withdrawn."""
        return Wei(await self._ask("balanceOf", (account,), block))

    async def input_inline(self, task: TaskId, block: bytes) -> bool:
        return bool((await self._ask("task", (task,), block))["inputInline"])

    async def fee_held(self, task: TaskId, block: bytes) -> Wei:
        return Wei((await self._ask("task", (task,), block))["fee"])

    async def model_places(self, model: ModelId, block: bytes) -> tuple[int, int, Wei]:
        """Leaves of a state root, leaves of the artefact root, the registrar's bond."""
        raw = await self._ask("model", (model,), block)
        return raw["boundaries"], raw["artefactTiles"], Wei(raw["bond"])

    async def ruling(self, adjudicator: Address, dispute: DisputeId, block: bytes) -> int:
        """0 undecided, 1 the challenger is right, 2 the provider is."""
        data = encode_call(_ADJUDICATOR, "ruling", (self._market, dispute))
        return int(decode_result(_ADJUDICATOR, "ruling", await self._chain.call(adjudicator, data, block)))

    async def _ask(self, name: str, args: Sequence[Any], block: bytes) -> Any:
        answer = await self._chain.call(self._market, encode_call(_MARKET, name, args), block)
        return decode_result(_MARKET, name, answer)


def _existing(raw: Any, owner: str, what: str, identifier: object) -> Any:
    if raw[owner] == _NOBODY:
        raise NotThere(f"{what} {identifier}")
    return raw


def _read(make: Callable[[], T]) -> T:
    """The contract's enums end where ours do: any other value was not read from the contract."""
    try:
        return make()
    except IndexError:
        raise EndpointError("an enum value that the contract does not have") from None
