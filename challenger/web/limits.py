"""How much one client may ask: a bucket of requests that fills again at a steady rate."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

from challenger.web.problems import Problem

#: Clients remembered; of more the one that asked longest ago is forgotten.
_MOST = 10_000


class Limits:
    """``rate``: requests a minute for each client; a quarter of a minute's may come at once."""

    def __init__(self, rate: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = rate / 60
        self._burst = max(1.0, rate / 4)
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float = 1) -> None:
        """Counts a request of ``client``. Raises Problem 429 with the seconds to wait."""
        now = self._clock()
        left, at = self._left.get(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        if left < 1:
            wait = max(1, math.ceil((1 - left) / self._per_second))
            raise Problem(429, f"too many requests: wait {wait} s", headers={"Retry-After": str(wait)})
        self._left[client] = (left - cost, now)
        self._left.move_to_end(client)
        while len(self._left) > _MOST:
            self._left.popitem(last=False)


def client_of(request: web.Request) -> str:
    """The address that the connection comes from: a header that names another may be forged."""
    return request.remote or "?"
