"""An account that is a contract: it passes calls on, and does as it likes when it is paid."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from challenger.domain import Address, Call


class OnPayment(StrEnum):
    """What such an account does when it receives ether without a call."""

    TAKES = "takes"
    REVERTS = "reverts"
    BURNS = "burns all gas"


#: CALLDATASIZE; ISZERO; jump to the end. Else the target stands in the first 20 bytes: the rest of the calldata and the
#: value are passed on to it, and a failure is handed back with its data.
_PASSES_ON = "3615602757601436038060145f375f5f915f345f3560601c5af115601f57005b3d5f5f3e3d5ffd5b"
_PAID = {OnPayment.TAKES: "00", OnPayment.REVERTS: "5f5ffd", OnPayment.BURNS: "fe"}


def creation_code(paid: OnPayment) -> bytes:
    """Code that deploys the account."""
    return deploying(bytes.fromhex(_PASSES_ON + _PAID[paid]))


def deploying(runtime: bytes) -> bytes:
    """Creation code of a contract with this ``runtime`` (at most 255 bytes)."""
    # PUSH1 length; DUP1; PUSH1 11; PUSH1 0; CODECOPY; PUSH1 0; RETURN
    return bytes([0x60, len(runtime)]) + bytes.fromhex("80600b6000396000f3") + runtime


@dataclass(frozen=True, slots=True)
class Forwarder:
    """The account at ``address``; whoever calls it acts as it."""

    address: Address

    def through(self, call: Call) -> Call:
        return Call(self.address, bytes.fromhex(call.to[2:]) + call.data, call.value)
