"""What the pipeline may ask of any protocol and Arbius has not: demands for withheld data, credits, an anchor."""

from __future__ import annotations

from challenger.domain import CommitmentId, DemandId, Hash32, Intent, Millionths, Part, UnixTime, Wei
from challenger.errors import FilingRefused
from challenger.protocols.arbius.views import NotThere
from challenger.protocols.base import DemandStanding, Prospect

_NO_DEMANDS = "Arbius has no demand for withheld data"


class Absent:
    """Answers for what is not there."""

    async def demand_eligibility(self, commitment: CommitmentId, part: Part, index: int, lead: int) -> str:  # noqa: ARG002
        return _NO_DEMANDS

    async def demand_prospect(self, commitment: CommitmentId, part: Part) -> Prospect:  # noqa: ARG002
        return Prospect(Wei(0), Wei(0), Millionths(0))

    async def open_demand(self, commitment: CommitmentId, part: Part, index: int) -> Intent:  # noqa: ARG002
        raise FilingRefused(_NO_DEMANDS)

    async def demand_status(self, demand: DemandId) -> DemandStanding:
        raise NotThere(f"demand {demand}: {_NO_DEMANDS}")

    async def advance_demand(self, demand: DemandId) -> Intent | None:  # noqa: ARG002
        return None

    async def collect(self, occasion: str) -> Intent | None:  # noqa: ARG002
        """Nothing waits to be fetched: the count pays into the stake and the account's own hands."""
        return None

    def anchor(self, epoch: int, commitment: Hash32, deadline: UnixTime) -> Intent | None:  # noqa: ARG002
        return None

    def reveal(self, epoch: int, secret: Hash32) -> Intent | None:  # noqa: ARG002
        return None
