"""The settlement contract's two events, decoded strictly. Pure.

``BatchSettlement`` names a root, a size and a blob; the contract checks none of them. ``IndividualSettlement`` holds the
whole inference; the deployed contract asks a verifier before it writes one.
"""

from __future__ import annotations

from typing import NamedTuple

from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder
from challenger.domain import Address, At
from challenger.protocols.opengradient.settlement.registry import event_abi
from challenger.protocols.opengradient.settlement.settled import Inference

BATCH = "BatchSettlement(bytes32 indexed merkleRoot,uint256 batchSize,bytes walrusBlobId)"
INDIVIDUAL = (
    "IndividualSettlement(bytes32 indexed teeId,address indexed ethAddress,bytes32 inputHash,bytes32 outputHash,"
    "uint256 timestamp,bytes walrusBlobId,bytes signature)"
)


class BatchSettled(NamedTuple):
    """``blob``: the id as the chain holds it (``blobs.blob_name`` reads it)."""

    at: At
    root: bytes
    size: int
    blob: bytes


class IndividualSettled(NamedTuple):
    """``payer``: the ``ethAddress`` that the inference is booked on."""

    at: At
    inference: Inference
    payer: Address
    blob: bytes


Settlement = BatchSettled | IndividualSettled


class SettlementLogs:
    """Logs of the settlement contract at one address."""

    def __init__(self, settlement: Address) -> None:
        self._settlement = settlement
        self._decoder = EventDecoder([event_abi(text) for text in (BATCH, INDIVIDUAL)])
        self.topics = self._decoder.topics

    def decode(self, log: RawLog) -> Settlement | None:
        """None for what is neither; ``MalformedLog`` when it does not hold what it says."""
        event = self._decoder.decode(log) if log.address == self._settlement else None
        if event is None:
            return None
        args = event.args
        if event.name == "BatchSettlement":
            return BatchSettled(log.at, args["merkleRoot"], args["batchSize"], args["walrusBlobId"])
        inference = Inference(
            args["teeId"], args["inputHash"], args["outputHash"], args["signature"], args["timestamp"]
        )
        return IndividualSettled(log.at, inference, args["ethAddress"], args["walrusBlobId"])
