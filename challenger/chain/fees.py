"""EIP-1559 fees on a schedule steered by slack. Pure; every amount is wei per gas.

With time in hand a transaction offers ``2 × base fee + tip`` (room for six full blocks of rising base fee, EIP-1559's
+12.5 % each); as the slack melts, both parts of the offer grow, up to ``4 × base fee + 4 × tip``. A replacement adds
at least 12.5 %: nodes ask for 10 %, of both fields, and the rest is for their rounding. ``floor ≤ max fee ≤ cap``.
"""

from __future__ import annotations

from dataclasses import dataclass

from challenger.domain import Wei
from challenger.errors import ConfigError

#: What a node demands of a replacement, of both fields (geth's and its kin's price bump): 10 %.
NODE_STEP = 100_000
#: The least step settings may name: 10 %.
MIN_STEP = NODE_STEP
_ONE = 1_000_000


@dataclass(frozen=True, slots=True)
class Fees:
    """``max_fee`` (maxFeePerGas) and ``tip`` (maxPriorityFeePerGas), wei per gas; ``0 ≤ tip ≤ max_fee``."""

    max_fee: Wei
    tip: Wei


@dataclass(frozen=True, slots=True)
class FeePolicy:
    """``floor`` and ``cap`` bound maxFeePerGas; ``tip`` is what is offered with time in hand; ``step`` (millionths) is
    the least bump. ``horizon`` seconds before its deadline a transaction begins to be urgent. A stuck transaction is
    replaced after ``patience`` seconds, sooner when urgent, but never sooner than ``haste``."""

    floor: Wei = Wei(10**6)
    cap: Wei = Wei(500 * 10**9)
    tip: Wei = Wei(10**9)
    step: int = 125_000
    horizon: int = 1800
    patience: int = 36
    haste: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.cap:
            raise ConfigError(
                "fees: the floor must be above zero and not above the cap", floor=self.floor, cap=self.cap
            )
        if not 0 <= self.tip <= self.cap:
            raise ConfigError("fees: the tip must lie between zero and the cap", tip=self.tip, cap=self.cap)
        if self.step < MIN_STEP:
            raise ConfigError("fees: nodes refuse a step below 10 % (100000 millionths)", step=self.step)
        if self.horizon <= 0 or not 0 < self.haste <= self.patience:
            raise ConfigError(
                "fees: horizon must be above zero, and 0 < haste ≤ patience",
                horizon=self.horizon,
                haste=self.haste,
                patience=self.patience,
            )


def urgency(policy: FeePolicy, slack: int) -> int:
    """0 (a horizon or more of slack left) … 1,000,000 (none left), linear between."""
    return (policy.horizon - max(0, min(slack, policy.horizon))) * _ONE // policy.horizon


def offer(policy: FeePolicy, base_fee: Wei, slack: int) -> Fees:
    """What a transaction should offer now: the first offer, and the least that a replacement makes."""
    urgent = urgency(policy, slack)
    tip = policy.tip * (_ONE + 3 * urgent) // _ONE
    room = base_fee * (2 * _ONE + 2 * urgent) // _ONE
    max_fee = min(max(room + tip, policy.floor), policy.cap)
    return Fees(Wei(max_fee), Wei(min(tip, max_fee)))


def bump(policy: FeePolicy, last: Fees, base_fee: Wei, slack: int) -> Fees | None:
    """A replacement's fees: one step above ``last`` or the present offer, whichever is higher, field by field.

    None when the cap leaves no room for the 10 % that a node demands: the transaction then waits as it is.
    """
    now = offer(policy, base_fee, slack)
    least = _raised(last.max_fee, NODE_STEP)
    if least > policy.cap:
        return None
    max_fee = min(max(_raised(last.max_fee, policy.step), now.max_fee), policy.cap)
    tip = min(max(_raised(last.tip, policy.step), now.tip), max_fee)
    return None if tip < _raised(last.tip, NODE_STEP) else Fees(Wei(max_fee), Wei(tip))


def waits(policy: FeePolicy, slack: int) -> int:
    """Seconds that a sent transaction may stay unmined before it is replaced: ``patience``, less when urgent."""
    return max(policy.haste, policy.patience - (policy.patience - policy.haste) * urgency(policy, slack) // _ONE)


def _raised(amount: int, step: int) -> int:
    """``amount`` raised by ``step`` millionths, rounded up, by 1 wei at least."""
    return amount + max(1, -(-amount * step // _ONE))
