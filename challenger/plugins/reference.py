"""The reference protocol as ``[protocol] name`` chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from challenger.domain import Capability
from challenger.pipeline.engine import Engine, Replays
from challenger.plugins.registry import Means, Place, no_options
from challenger.protocols.reference import ReferenceAdapter, explain


class Reference:
    """``InferenceMarket`` of this package."""

    name = "reference"
    capability = Capability.OPEN
    summary = "the protocol of this package: bonded disputes over exact commitments, k-of-n adjudicators"

    def options(self, raw: Mapping[str, Any], source: str) -> None:
        no_options(raw, source)

    def adapter(self, place: Place) -> ReferenceAdapter:
        return ReferenceAdapter(
            place.chain,
            place.chain_id,
            place.contract,
            account=place.account,
            secret=place.secret,
            anchor=place.anchor,
        )

    def engine(self, means: Means, options: Any) -> Replays:  # noqa: ARG002
        return Engine(means.files, means.workers, model_bytes=means.model_bytes, bundle_bytes=means.bundle_bytes)

    def explain(self, data: bytes) -> str:
        return explain(data)


PLUGIN = Reference()
