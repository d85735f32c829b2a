"""The board for inference-challenger: ``[protocol] name = "board"``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from board_protocol.adapter import BoardAdapter, explain
from challenger.domain import Capability
from challenger.pipeline.engine import Engine, Replays
from challenger.plugins.registry import Means, Place, no_options


class Board:
    """What the entry point names."""

    name = "board"
    capability = Capability.OPEN
    summary = "a board of answers with collateral, one judge: the worked example of docs/protocols.md"

    def options(self, raw: Mapping[str, Any], source: str) -> None:
        no_options(raw, source)

    def adapter(self, place: Place) -> BoardAdapter:
        return BoardAdapter(place)

    def engine(self, means: Means, options: None) -> Replays:  # noqa: ARG002
        """The board registers models as this engine needs them."""
        return Engine(means.files, means.workers, model_bytes=means.model_bytes, bundle_bytes=means.bundle_bytes)

    def explain(self, data: bytes) -> str:
        return explain(data)


PLUGIN = Board()
