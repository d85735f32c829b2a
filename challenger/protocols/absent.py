"""Answers for what a protocol lacks, as a base class of its adapter: the watcher may ask any protocol for it."""

from __future__ import annotations

from challenger.domain import CommitmentId, DemandId, Intent, Millionths, Part, Wei
from challenger.errors import EndpointError, FilingRefused
from challenger.protocols.base import Accusation, Aid, DemandStanding, Prospect


class NoDemands:
    """Nobody can demand withheld data there."""

    #: Why, in one sentence.
    no_demands = "this protocol has no demands for withheld data"

    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str:  # noqa: ARG002
        return self.no_demands

    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect:  # noqa: ARG002
        return Prospect(Wei(0), Wei(0), Millionths(0))

    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent:  # noqa: ARG002
        raise FilingRefused(self.no_demands)

    async def demand_status(self, demand: DemandId) -> DemandStanding:
        raise EndpointError(f"demand {demand}: {self.no_demands}")

    async def advance_demand(self, demand: DemandId) -> Intent | None:  # noqa: ARG002
        return None


class NoAid:
    """Whoever cannot dispute there can do nothing else either."""

    async def aid(self, accusation: Accusation, lead: int) -> Aid | None:  # noqa: ARG002
        return None


class NoCredits:
    """Nothing waits to be fetched there: whoever wins is paid at once."""

    async def collect(self, occasion: str) -> Intent | None:  # noqa: ARG002
        return None
