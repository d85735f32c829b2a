"""What cheating pays, and what a filing is worth: exact integers throughout.

Sources: the deterrence bound p* = G(1+η)/(q·βS) and the filing gate are those of the verdict science: a provider that
challenges itself gets the unburnt part of its slash back, so only the burnt share βS deters.
"""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import ONE, Millionths, Wei


def deterrent_rate(gain: Wei, burnt: Wei, detection: Millionths, margin: Millionths) -> Millionths:
    """The lowest sampling rate, in millionths, that makes cheating unprofitable; ``ONE`` where no rate does.

    ``gain`` G in wei, ``burnt`` βS in wei, ``detection`` q (one replay finds a fraud), ``margin`` η.
    """
    if gain <= 0:
        return Millionths(0)
    if burnt <= 0 or detection <= 0:
        return ONE
    numerator = gain * (ONE + margin) * ONE
    return Millionths(min(ONE, -(-numerator // (burnt * detection))))


@dataclass(frozen=True, slots=True)
class Stakes:
    """What one filing puts at stake, in wei; ``win`` is P(win | fraud) as the protocol adapter states it."""

    bond: Wei
    reward: Wei
    gas: Wei
    win: Millionths


def expected_value(stakes: Stakes, certainty: Millionths) -> int:
    """Expected value of filing in wei: P·reward − (1 − P)·bond − gas with P = certainty·P(win)."""
    chance = certainty * stakes.win
    whole = ONE * ONE
    return (chance * stakes.reward - (whole - chance) * stakes.bond) // whole - stakes.gas
