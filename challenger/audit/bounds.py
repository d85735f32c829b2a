"""How many of a provider's answers may have been bad, whoever looks whenever: an upper bound from the draws. Pure.

Let answer j be bad or not (f_j, chosen by a provider that knows everything but the draw to come) and be looked at with
probability p, independently of all that. For every λ in (0, 1) the product over answers of

    (1 − λ)^(looked at and bad) / (1 − λ·p)^(bad)

is a martingale that starts at 1, so with probability 1 − α it never reaches 1/α, however long one goes on and whenever one
stops to look (Ville's inequality). The same holds of any average over λ. With S bad ones among those looked at, the number
F of bad ones among all is therefore below the least F at which that average reaches 1/α. Nothing is assumed of the
provider: it may cheat now and then, more or less often, and answer to what it sees of earlier draws. What is assumed is
that it cannot foresee a draw.

For S = 0 and λ → 1 this is F < ln(1/α) / −ln(1 − p), the rule of three.
"""

from __future__ import annotations

import math

from challenger.domain import ONE, Millionths

#: One-sided 95 %.
ALPHA = 0.05
#: 1 − λ, and its weight in the average. The best for S seen of F is S/(F·p): the last is for nothing seen, the first for much.
_SHRUNK = (0.98, 0.95, 0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.03, 1e-6)
_WEIGHTS = (*(0.04,) * (len(_SHRUNK) - 1), 0.6)


def most(bad: int, looked: int, total: int, rate: Millionths, alpha: float = ALPHA) -> int:
    """The most that may be bad of ``total`` answers, with confidence 1 − ``alpha`` at all times together: ``bad`` of the
    ``looked`` ones are, and each was looked at with probability ``rate``. Never more than is possible."""
    possible = total - looked + bad
    if rate <= 0 or bad >= possible:
        return possible
    if rate >= ONE:
        return bad
    p = rate / ONE
    low, high = bad, possible  # the average is below 1/α at low (it is at most 1 there) …
    if _average(bad, high, p) < math.log(1 / alpha):
        return possible
    while high - low > 1:  # … and not at high
        middle = (low + high) // 2
        if _average(bad, middle, p) < math.log(1 / alpha):
            low = middle
        else:
            high = middle
    return low


def _average(seen: int, bad: int, p: float) -> float:
    """Logarithm of the weighted average of the martingales."""
    terms = [
        math.log(weight) + seen * math.log(shrunk) - bad * math.log1p(-(1.0 - shrunk) * p)
        for shrunk, weight in zip(_SHRUNK, _WEIGHTS, strict=True)
    ]
    top = max(terms)
    return top + math.log(math.fsum(math.exp(term - top) for term in terms))
