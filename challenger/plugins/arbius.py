"""Arbius as ``[protocol] name`` chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from challenger.domain import Capability
from challenger.pipeline.engine import Replays
from challenger.pipeline.recipes import RecipeEngine, TextWorkers
from challenger.plugins.arbius_options import Options, read_options
from challenger.plugins.registry import Means, Place
from challenger.protocols.arbius.adapter import ArbiusAdapter, explain


class Arbius:
    """Its engine, V1 to V6."""

    name = "arbius"
    capability = Capability.OPEN
    summary = "Arbius: solutions by CID that staked validators contest and vote on, engine V1 to V6"

    def options(self, raw: Mapping[str, Any], source: str) -> Options:
        return read_options(raw, source)

    def adapter(self, place: Place) -> ArbiusAdapter:
        options: Options = place.options
        return ArbiusAdapter(
            place.chain,
            place.chain_id,
            place.contract,
            token_price=options.token_price,
            account=place.account,
            start=options.start,
            votes_from=options.votes_from,
            anchor=place.anchor,
        )

    def engine(self, means: Means, options: Options) -> Replays:
        workers = cast("TextWorkers", means.workers)
        return RecipeEngine(
            means.files,
            workers,
            options.recipes,
            model_bytes=means.model_bytes,
            bundle_bytes=means.bundle_bytes,
        )

    def explain(self, data: bytes) -> str:
        return explain(data)


PLUGIN = Arbius()
