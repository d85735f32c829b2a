"""One of the k-of-n signers who judge a dispute: pure rules and a key.

A signer replays the disputed task for itself and compares roots. It signs ``fraud`` iff the commitment's roots differ
from its own; whether the *challenger's* claim is right does not matter, since a commitment that is wrong is wrong
whoever says so. A signer that could not replay signs nothing: without k rulings in time the dispute expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.chain.typed import Domain, typed_digest
from challenger.domain import Address, Call, ChainId, DisputeId, Hash32
from challenger.protocols import reference_calls

_RULING_TYPE = b"Ruling(address market,uint256 dispute,bytes32 digest,bool fraud)"


class Key(Protocol):
    """What a ruling needs of a signer."""

    @property
    def address(self) -> Address: ...

    def sign_digest(self, digest: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """Where rulings are given: the ``SignerAdjudicator`` at ``contract``, for disputes of ``market``."""

    chain: ChainId
    contract: Address
    market: Address


@dataclass(frozen=True, slots=True)
class Ruling:
    """``digest`` is the case digest that the market handed to the adjudicator; ``signature`` is r ‖ s ‖ v."""

    dispute: DisputeId
    digest: Hash32
    fraud: bool
    signer: Address
    signature: bytes


def is_fraud(
    committed_output: Hash32, committed_state: Hash32, own_output: Hash32 | None, own_state: Hash32 | None
) -> bool | None:
    """Whether the committed roots are wrong; None when the own replay did not come to roots (then nothing is signed)."""
    if own_output is None or own_state is None:
        return None
    return (committed_output, committed_state) != (own_output, own_state)


def ruling_digest(bench: Bench, dispute: DisputeId, digest: Hash32, *, fraud: bool) -> Hash32:
    """The EIP-712 digest of a ruling."""
    domain = Domain("SignerAdjudicator", bench.chain, bench.contract)
    return typed_digest(
        domain, _RULING_TYPE, ("address", "uint256", "bytes32", "bool"), (bench.market, dispute, digest, fraud)
    )


def sign(bench: Bench, key: Key, dispute: DisputeId, digest: Hash32, *, fraud: bool) -> Ruling:
    signature = key.sign_digest(ruling_digest(bench, dispute, digest, fraud=fraud))
    return Ruling(dispute, digest, fraud, key.address, signature)


def rule(bench: Bench, rulings: Iterable[Ruling], quorum: int) -> Call | None:
    """The call that hands in ``quorum`` agreeing rulings on one dispute; None while fewer than that agree.

    ``ValueError`` when the rulings are of several disputes or cases: they would not verify together.
    """
    given = {ruling.signer: ruling for ruling in rulings}
    if len({(ruling.dispute, ruling.digest) for ruling in given.values()}) > 1:
        raise ValueError("rulings on different cases cannot be handed in together")
    for fraud in (True, False):
        agreeing = sorted((r for r in given.values() if r.fraud is fraud), key=_by_signer)[:quorum]
        if len(agreeing) == quorum:
            return reference_calls.rule(bench.contract, bench.market, agreeing[0].dispute, fraud, _signatures(agreeing))
    return None


def _by_signer(ruling: Ruling) -> int:
    return int(ruling.signer, 16)


def _signatures(rulings: Sequence[Ruling]) -> list[bytes]:
    return [ruling.signature for ruling in rulings]
