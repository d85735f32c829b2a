"""How many blocks the next log query may cover: halved when refused, doubled when quick and light, under a ceiling
it learns."""

from __future__ import annotations

#: An answer within so many seconds is quick; anchors elsewhere use the same figure.
QUICK = 2.0
#: Logs in one answer that are plenty: the ledger writes them in one transaction, and others wait for it meanwhile.
PLENTY = 4_000
#: Successes at the ceiling after which it is tried a little higher.
_CALM = 8


class Span:
    """``blocks`` is the present width, between 1 and ``widest``."""

    def __init__(self, blocks: int = 1000, widest: int = 10_000) -> None:
        self._widest = widest
        self._ceiling = widest
        self._calm = 0
        self.blocks = min(max(blocks, 1), widest)

    def refused(self, width: int) -> None:
        """A query over ``width`` blocks was too much: half of it next, and not near it again for a while."""
        self._ceiling = max(1, width * 3 // 4)
        self._calm = 0
        self.blocks = max(1, width // 2)

    def failed(self) -> None:
        """A query was not answered, perhaps because it was too much."""
        self.blocks = max(1, self.blocks // 2)

    def answered(self, width: int, seconds: float, logs: int) -> None:
        """A query over ``width`` blocks was answered with so many ``logs``."""
        if logs > PLENTY:
            self.blocks = max(1, width * PLENTY // logs)
            return
        if width < self.blocks:
            return  # the chain's end was near: this says nothing about the endpoint
        if self.blocks >= self._ceiling:
            self._calm += 1
            if self._calm >= _CALM:
                self._ceiling = min(self._widest, self._ceiling * 5 // 4 + 1)
                self._calm = 0
        if seconds < QUICK and logs <= PLENTY // 2:
            self.blocks = min(self._ceiling, self.blocks * 2)
        elif seconds > 2 * QUICK:
            self.blocks = max(1, self.blocks // 2)
