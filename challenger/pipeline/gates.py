"""What stands between a confirmed fraud and money: pure rules, the first that refuses says why.

Nothing here asks the chain or the clock; the caller reads both anew and hands the values in.
"""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import Capability, Millionths, Mode, UnixTime, Wei, Window
from challenger.sampling.economics import Stakes, expected_value

#: More than any gas costs.
NO_CAP = Wei(2**256)


@dataclass(frozen=True, slots=True)
class Limits:
    """Settings of the operator: times in seconds, amounts in wei; those of bonds and their worth in the protocol's money,
    of which ``unit`` is the smallest. ``per_provider`` caps the bonds out against one provider, ``per_day`` those of the
    last 24 hours of chain time (0: no such cap); ``keep_balance`` is never spent; ``max_fee``: wei per gas that the sender
    never exceeds."""

    mode: Mode
    exposure: Wei
    min_value: Wei
    certainty: Millionths
    correlated_providers: int
    safety_seconds: int
    per_provider: Wei = Wei(0)
    per_day: Wei = Wei(0)
    keep_balance: Wei = Wei(0)
    max_fee: Wei = NO_CAP
    unit: str = "wei"


@dataclass(frozen=True, slots=True)
class Purse:
    """What the caps are held against, the bond in question not included; see ``Situation``."""

    outstanding: Wei
    against: Wei
    opened: Wei
    balance: Wei


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds at chain time ``now``. ``accused`` counts the providers of this model found FRAUD within the hour
    whom no person has looked at since. ``pinned``: the contract code is the one pinned. ``spends``: wei that leave the
    account's ``balance`` for this filing, gas and what of the bond is paid.
    ``against``: bonds out against this provider, ``opened``: bonds of the last day, promised ones included.
    ``halted``: who stopped all filing and why, empty while nobody did."""

    now: UnixTime
    window: Window
    capability: Capability
    stakes: Stakes
    spends: Wei
    outstanding: Wei
    balance: Wei
    accused: int
    pinned: bool
    refused: str
    against: Wei = Wei(0)
    opened: Wei = Wei(0)
    halted: str = ""


def refusal(limits: Limits, at: Situation) -> str:
    """Why nothing may be filed now; empty when everything allows it."""
    if why := shut(limits, at.capability, at.halted, at.accused, pinned=at.pinned):
        return why
    if not at.window.open_at(UnixTime(at.now + limits.safety_seconds)):
        return "window: too close to its end for a filing to land"
    if at.refused:
        return f"eligibility: {at.refused}"
    purse = Purse(at.outstanding, at.against, at.opened, at.balance)
    return overdrawn(limits, purse, at.stakes.bond, at.spends) or worthless(limits, at.stakes)


def shut(limits: Limits, capability: Capability, halted: str, accused: int, *, pinned: bool) -> str:
    """The first of the gates, of which the chain need not be asked: see ``Situation``."""
    if limits.mode is Mode.WATCH:
        return "mode: watch files nothing"
    if capability is not Capability.OPEN:
        return f"capability: this protocol's disputes are {capability} to us"
    if halted:
        return f"paused: {halted}"
    if not pinned:
        return "code: the contract's code is not the one pinned at start"
    if accused >= limits.correlated_providers:
        return f"correlated: {accused} providers of this model accused within the hour; a person must approve"
    return ""


def overdrawn(limits: Limits, at: Purse, bond: Wei, spends: Wei) -> str:
    """Which cap has no room for one bond more, or that the balance does not cover what the filing ``spends``; empty when
    all have."""
    if at.outstanding + bond > limits.exposure:
        return f"exposure: bonds of {at.outstanding} + {bond} {limits.unit} exceed the cap of {limits.exposure}"
    if limits.per_provider and at.against + bond > limits.per_provider:
        return (
            f"provider: bonds of {at.against} + {bond} {limits.unit} exceed the {limits.per_provider} for one provider"
        )
    if limits.per_day and at.opened + bond > limits.per_day:
        return f"day: bonds of {at.opened} + {bond} {limits.unit} exceed the {limits.per_day} for 24 hours"
    if at.balance < spends + limits.keep_balance:
        kept = f" beside the {limits.keep_balance} to be kept" if limits.keep_balance else ""
        return f"balance: {at.balance} wei do not cover the {spends} that it takes{kept}"
    return ""


def worthless(limits: Limits, stakes: Stakes) -> str:
    """Why it would not pay; empty when it would."""
    value = expected_value(stakes, limits.certainty)
    if value < limits.min_value:
        return f"value: the expected value of {value} {limits.unit} is below {limits.min_value}"
    return ""


def temporary(reason: str) -> bool:
    """Whether a refusal may pass while the window is open (all but the ones that time makes worse)."""
    return not reason.startswith(("window:", "capability:", "mode:"))
