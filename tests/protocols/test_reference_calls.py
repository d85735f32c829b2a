"""Our encodings beside the ABI's own: every builder calls a function that exists, with the arguments it takes."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from challenger.chain.codec import encode_call
from challenger.contracts import artifact
from challenger.domain import Address, Call, CommitmentId, DemandId, DisputeId, Hash32, ModelId, Part, TaskId, Wei
from challenger.protocols import reference_calls
from challenger.protocols.reference_calls import Claim, MarketCalls, ModelSpec

MARKET = Address("0x" + "ab" * 20)
CALLS = MarketCalls(MARKET)
ID = b"\x01" * 32
HASH = Hash32(b"\x02" * 32)
JOB = CommitmentId(b"\x03" * 32)
TASK = TaskId(b"\x04" * 32)
CLAIM = Claim(JOB, HASH, HASH, HASH, HASH)
SPEC = ModelSpec(HASH, HASH, HASH, 0, 2, 3, 4, "file:///m", b"known", HASH)
BUILT: list[tuple[Call, str, list[object], int]] = [
    (CALLS.seal(HASH), "seal", [HASH], 0),
    (CALLS.challenge(CLAIM, Wei(9)), "challenge", list(astuple(CLAIM)), 9),
    (CALLS.settle(DisputeId(5)), "settle", [5], 0),
    (CALLS.demand(JOB, Part.OPENING, 6, Wei(7)), "demand(bytes32,uint8,uint32)", [JOB, 3, 6], 7),
    (CALLS.demand(JOB, Part.INPUT, 0, Wei(7)), "demand(bytes32,uint8,uint32)", [JOB, 0, 0], 7),
    (CALLS.claim_demand(DemandId(8)), "claimDemand", [8], 0),
    (CALLS.finalise(JOB), "finalise", [JOB], 0),
    (CALLS.withdraw(), "withdraw", [], 0),
    (CALLS.register_model(SPEC, Wei(11)), "registerModel", [astuple(SPEC)], 11),
    (CALLS.stake(Wei(3)), "stake", [], 3),
    (CALLS.unstake(Wei(3)), "unstake", [3], 0),
    (
        CALLS.open_task(ModelId(ID), HASH, b"data", "", 4, HASH, 99, Wei(2)),
        "openTask",
        [ID, HASH, b"data", "", 4, HASH, 99],
        2,
    ),
    (CALLS.take(TASK), "take", [TASK], 0),
    (CALLS.cancel_task(TASK), "cancelTask", [TASK], 0),
    (CALLS.lapse_task(TASK), "lapseTask", [TASK], 0),
    (
        CALLS.commit(TASK, HASH, HASH, b"", "http://x", 5, (ID, HASH), [HASH]),
        "commit",
        [TASK, HASH, HASH, b"", "http://x", 5, [ID, HASH], [HASH]],
        0,
    ),
    (CALLS.concede(DisputeId(5)), "concede", [5], 0),
    (CALLS.answer(DemandId(5), b"bundle"), "answer", [5, b"bundle"], 0),
    (CALLS.answer_tile(DemandId(5), ID, [HASH]), "answerTile", [5, ID, [HASH]], 0),
]


@pytest.mark.parametrize(
    ("call", "name", "args", "value"), BUILT, ids=lambda item: item if isinstance(item, str) else ""
)
def test_a_builder_encodes_what_the_abi_encodes(call: Call, name: str, args: list[object], value: int) -> None:
    assert call == Call(MARKET, encode_call(artifact("InferenceMarket").abi, name, args), Wei(value))


def test_the_other_contracts_calls() -> None:
    there = Address("0x" + "cd" * 20)
    made = reference_calls.rule(there, MARKET, DisputeId(4), True, [b"s" * 65])
    args = [MARKET, 4, True, [b"s" * 65]]
    assert made == Call(there, encode_call(artifact("SignerAdjudicator").abi, "rule", args), Wei(0))
    abi = artifact("EpochAnchor").abi
    assert reference_calls.anchor(there, 7, HASH).data == encode_call(abi, "anchor", [7, HASH])
    assert reference_calls.reveal(there, 7, HASH).data == encode_call(abi, "reveal", [7, HASH])
