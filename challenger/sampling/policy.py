"""The sampling policy: a pure function from journalled inputs to a rate, fixed by digest before the epoch opens."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from challenger.domain import ONE, Millionths, Wei
from challenger.sampling.economics import deterrent_rate


@dataclass(frozen=True, slots=True)
class Policy:
    """All rates in millionths. ``base`` is drawn always; a provider with fewer than ``trusted_after`` sampled
    commitments is drawn at ``newcomer`` or more; one with a fraud on record at ``offender`` or more."""

    base: Millionths = Millionths(50_000)
    newcomer: Millionths = Millionths(250_000)
    trusted_after: int = 60
    offender: Millionths = ONE
    detection: Millionths = Millionths(990_000)
    margin: Millionths = Millionths(100_000)
    version: int = 1

    def digest(self) -> bytes:
        """sha256 of the canonical JSON of every field."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(b"policy/1" + text.encode()).digest()


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the rate depends on, as known *before* the draw: the provider's record with us, and the money."""

    sampled: int
    frauds: int
    fee: Wei
    burnt: Wei

    def as_json(self) -> dict[str, str]:
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: dict[str, str]) -> Inputs:
        """Raises KeyError or ValueError when ``value`` is not what ``as_json`` wrote."""
        return cls(int(value["sampled"]), int(value["frauds"]), Wei(int(value["fee"])), Wei(int(value["burnt"])))


def rate(policy: Policy, inputs: Inputs) -> Millionths:
    """The probability, in millionths, with which this commitment is drawn: never below the deterrent rate."""
    floor = deterrent_rate(inputs.fee, inputs.burnt, policy.detection, policy.margin)
    chosen = max(policy.base, floor)
    if inputs.sampled < policy.trusted_after:
        chosen = max(chosen, policy.newcomer)
    if inputs.frauds > 0:
        chosen = max(chosen, policy.offender)
    return Millionths(min(ONE, chosen))
