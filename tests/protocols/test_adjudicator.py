"""A signer rules on roots alone, and a quorum is k agreeing signers in order."""

from __future__ import annotations

import pytest
from eth_account import Account

from challenger.adjudicator import Bench, is_fraud, rule, ruling_digest, sign
from challenger.chain import signers
from challenger.chain.hashing import keccak
from challenger.domain import Address, ChainId, DisputeId, Hash32
from challenger.protocols import reference_calls

BENCH = Bench(ChainId(7), Address("0x" + "0a" * 20), Address("0x" + "0b" * 20))
KEYS = [signers.from_key(keccak(b"judge %d" % i)) for i in range(3)]
DIGEST = Hash32(b"\x0d" * 32)
A, B = Hash32(b"\x01" * 32), Hash32(b"\x02" * 32)
CASE = DisputeId(4)


def test_fraud_is_any_committed_root_that_differs_from_ones_own() -> None:
    assert is_fraud(A, B, A, B) is False
    assert is_fraud(A, B, B, B) is True
    assert is_fraud(A, B, A, A) is True
    assert is_fraud(A, B, None, B) is None
    assert is_fraud(A, B, A, None) is None


def test_the_digest_is_eip_712s() -> None:
    """Beside eth-account's own encoder of the same typed data."""
    from eth_account.messages import encode_typed_data

    typed = encode_typed_data(
        domain_data={
            "name": "SignerAdjudicator",
            "version": "1",
            "chainId": BENCH.chain,
            "verifyingContract": BENCH.contract,
        },
        message_types={
            "Ruling": [
                {"name": "market", "type": "address"},
                {"name": "dispute", "type": "uint256"},
                {"name": "digest", "type": "bytes32"},
                {"name": "fraud", "type": "bool"},
            ]
        },
        message_data={"market": BENCH.market, "dispute": CASE, "digest": DIGEST, "fraud": True},
    )
    assert ruling_digest(BENCH, CASE, DIGEST, fraud=True) == keccak(b"\x19" + typed.version + typed.header + typed.body)
    ruling = sign(BENCH, KEYS[0], CASE, DIGEST, fraud=True)
    assert Account.recover_message(typed, signature=ruling.signature).lower() == KEYS[0].address


def test_k_agreeing_rulings_make_a_call_with_ascending_signers() -> None:
    rulings = [
        sign(BENCH, key, CASE, DIGEST, fraud=fraud) for key, fraud in zip(KEYS, (True, False, True), strict=True)
    ]
    assert rule(BENCH, rulings[:2], 2) is None
    assert rule(BENCH, [rulings[0], rulings[0]], 2) is None  # one signer is one voice
    agreeing = sorted((rulings[0], rulings[2]), key=lambda r: int(r.signer, 16))
    wanted = reference_calls.rule(BENCH.contract, BENCH.market, CASE, True, [r.signature for r in agreeing])
    assert rule(BENCH, rulings, 2) == wanted
    assert rule(BENCH, rulings, 3) is None
    with pytest.raises(ValueError, match="different cases"):
        rule(BENCH, [rulings[0], sign(BENCH, KEYS[1], DisputeId(5), DIGEST, fraud=True)], 2)
