"""k of n signers: only their own fresh, ordered, canonical signatures over this very case count."""

from __future__ import annotations

from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from market_evm import CallReverted, Evm, abi_of
from market_world import HALF_ORDER, ORDER, RULING, World, account, bench, sign, word

ERRORS = {
    "BadSigners",
    "BadPeriod",
    "CaseExists",
    "UnknownCase",
    "AlreadyRuled",
    "TooLate",
    "TooFewSignatures",
    "BadSignature",
    "NotASigner",
    "SignersNotAscending",
}


@pytest.fixture
def dispute(world: World) -> int:
    return world.challenge(world.job())


def rule(world: World, dispute: int, fraud: bool, signatures: list[bytes], market: bytes | None = None) -> Any:
    return world.evm.send(
        account("other"), world.adjudicator, "rule", market or world.market, dispute, fraud, signatures
    )


def fails(error: str, outcome: Any) -> None:
    assert not outcome.ok
    assert outcome.error == error


def test_all_errors_of_the_abi_are_tested_here() -> None:
    assert {entry["name"] for entry in abi_of("SignerAdjudicator").errors.values()} == ERRORS


@pytest.mark.parametrize("fraud", [True, False])
def test_k_signers_rule(world: World, dispute: int, fraud: bool) -> None:
    outcome = rule(world, dispute, fraud, world.signatures(dispute, fraud))
    assert outcome.log("Ruled")["fraud"] is fraud
    assert world.evm.view(world.adjudicator, "ruling", world.market, dispute) == (1 if fraud else 2)
    fails("AlreadyRuled", rule(world, dispute, fraud, world.signatures(dispute, fraud)))
    fails("AlreadyRuled", rule(world, dispute, not fraud, world.signatures(dispute, not fraud)))


def test_all_n_may_sign_and_any_k_suffice(world: World, dispute: int) -> None:
    other = world.challenge(world.job(tag="b"))
    assert rule(world, dispute, True, world.signatures(dispute, True, world.keys)).ok
    assert rule(world, other, True, world.signatures(other, True, [world.keys[0], world.keys[2]])).ok


def test_the_digest_is_eip_712(world: World, dispute: int) -> None:
    docket = world.evm.view(world.adjudicator, "docketOf", world.market, dispute)
    typed = encode_typed_data(
        {
            "name": "SignerAdjudicator",
            "version": "1",
            "chainId": world.chain_id,
            "verifyingContract": "0x" + world.adjudicator.hex(),
        },
        {
            "Ruling": [
                {"name": "market", "type": "address"},
                {"name": "dispute", "type": "uint256"},
                {"name": "digest", "type": "bytes32"},
                {"name": "fraud", "type": "bool"},
            ]
        },
        {"market": "0x" + world.market.hex(), "dispute": dispute, "digest": docket["digest"], "fraud": True},
    )
    signatures = [bytes(Account.from_key(key.to_bytes()).sign_message(typed).signature) for key in world.keys[:2]]
    assert rule(world, dispute, True, signatures).ok


def test_too_few_the_same_twice_and_the_wrong_order(world: World, dispute: int) -> None:
    one, two, _ = world.signatures(dispute, True, world.keys)
    fails("TooFewSignatures", rule(world, dispute, True, [one]))
    fails("TooFewSignatures", rule(world, dispute, True, []))
    fails("SignersNotAscending", rule(world, dispute, True, [one, one]))
    fails("SignersNotAscending", rule(world, dispute, True, [two, one]))
    fails("SignersNotAscending", rule(world, dispute, True, [one, two, two]))
    assert rule(world, dispute, True, [one, two]).ok


def test_a_stranger_does_not_count(world: World, dispute: int) -> None:
    stranger = bench(4)
    keys = [key for key in stranger if key not in world.keys]
    fails("NotASigner", rule(world, dispute, True, world.signatures(dispute, True, [world.keys[0], *keys])))
    # a signature over the other verdict recovers to nobody's address
    fails("NotASigner", rule(world, dispute, True, world.signatures(dispute, False)))


def test_signatures_of_another_form_are_refused(world: World, dispute: int) -> None:
    one, two = world.signatures(dispute, True)
    flipped = (ORDER - int.from_bytes(one[32:64], "big")).to_bytes(32, "big")
    assert int.from_bytes(flipped, "big") > HALF_ORDER
    malleable = one[:32] + flipped + bytes([55 - one[64]])
    for bad in (
        malleable,
        one[:64],
        one + b"\0",
        one[:64] + bytes([one[64] - 27]),
        one[:64] + b"\x1d",
        b"",
        bytes(64) + b"\x1b",  # recovers to the zero address
        b"\xff" * 32 + one[32:],  # r is no coordinate
    ):
        fails("BadSignature", rule(world, dispute, True, [bad, two]))
        fails("BadSignature", rule(world, dispute, True, [one, bad]))


def test_a_signature_counts_for_one_dispute_market_contract_and_chain(world: World, dispute: int) -> None:
    signatures = world.signatures(dispute, True)
    other = world.challenge(world.job(tag="b"))
    fails("NotASigner", rule(world, other, True, signatures))
    fails("UnknownCase", rule(world, dispute, True, signatures, market=account("another market")))
    elsewhere = World(chain_id=5)
    same = elsewhere.challenge(elsewhere.job())
    assert (elsewhere.adjudicator, elsewhere.market, same) == (world.adjudicator, world.market, dispute)
    fails("NotASigner", rule(elsewhere, same, True, signatures))
    addresses = [key.public_key.to_canonical_address() for key in world.keys]
    twin = world.evm.deploy("SignerAdjudicator", addresses, 2, RULING)
    case = (dispute, word("job"), account("p"), account("c"), word("digest"))
    opened = world.evm.send(world.market, twin, "opened", case)
    assert opened.log("Opened")["rulingBy"] == world.evm.time + RULING
    fails("NotASigner", world.evm.send(account("o"), twin, "rule", world.market, dispute, True, signatures))


def test_a_case_is_opened_once_and_belongs_to_its_market(world: World, dispute: int) -> None:
    case = (dispute, word("job"), account("p"), account("c"), word("digest"))
    fails("CaseExists", world.evm.send(world.market, world.adjudicator, "opened", case))
    assert world.evm.send(account("stranger"), world.adjudicator, "opened", case).ok  # its own docket, nobody else's
    assert world.evm.view(world.adjudicator, "ruling", world.market, dispute) == 0


def test_a_ruling_after_its_time_is_refused(world: World, dispute: int) -> None:
    world.wait(RULING - 1)
    late = world.challenge(world.job(tag="b"))
    signatures = world.signatures(dispute, True)
    world.wait_until(world.view("dispute", dispute)["rulingBy"])
    fails("TooLate", rule(world, dispute, True, signatures))
    world.wait_until(world.view("dispute", late)["rulingBy"] - 1)
    assert rule(world, late, True, world.signatures(late, True)).ok


def test_unknown_cases_have_no_ruling(world: World) -> None:
    fails("UnknownCase", rule(world, 99, True, []))
    assert world.evm.view(world.adjudicator, "ruling", world.market, 99) == 0


def test_the_bench_can_be_read(world: World) -> None:
    addresses = ["0x" + key.public_key.to_canonical_address().hex() for key in world.keys]
    assert list(world.evm.view(world.adjudicator, "signers")) == addresses
    assert world.evm.view(world.adjudicator, "k") == 2
    assert world.evm.view(world.adjudicator, "rulingPeriod") == RULING


def test_absurd_benches_are_refused() -> None:
    one, two = (key.public_key.to_canonical_address() for key in bench(2))
    evm = Evm()
    for signers, k in [([], 0), ([one], 0), ([one], 2), ([two, one], 1), ([one, one], 1), ([bytes(20), one], 1)]:
        with pytest.raises(CallReverted, match="BadSigners"):
            evm.deploy("SignerAdjudicator", signers, k, RULING)
    many = [bytes(18) + (i + 1).to_bytes(2, "big") for i in range(65)]
    with pytest.raises(CallReverted, match="BadSigners"):
        evm.deploy("SignerAdjudicator", many, 1, RULING)
    for period in (0, 91 * 86400):
        with pytest.raises(CallReverted, match="BadPeriod"):
            evm.deploy("SignerAdjudicator", [one, two], 1, period)
    evm.deploy("SignerAdjudicator", many[:64], 64, RULING)


def test_high_s_never_comes_from_our_own_signers(world: World, dispute: int) -> None:
    digest = world.evm.view(world.adjudicator, "rulingDigest", world.market, dispute, True)
    for key in world.keys:
        assert int.from_bytes(sign(key, digest)[32:64], "big") <= HALF_ORDER
