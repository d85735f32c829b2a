"""What only the running watcher knows: read from its own ``/metrics`` and ``/readyz``, or said not to be known."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from challenger.telemetry.metrics import ALERTS_ACTIVE, HEAD_AGE, HEAD_BLOCK, NEAREST_DEADLINE, PREFIX, Metric
from challenger.telemetry.serve import loopback

_SECONDS = 2.0
_MOST_BYTES = 4 << 20
#: For so long one look serves all who ask.
_FRESH = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """``known`` False: nothing but ``why`` is to be had. ``standing``: alerts whose condition lasts, by name;
    ``samples``: every series of the watcher's, by name and labels, for the page of operations."""

    known: bool
    why: str
    ready: bool | None = None
    trouble: str = ""
    standing: dict[str, int] = field(default_factory=dict)
    head_block: int | None = None
    head_age: float | None = None
    nearest_deadline: float | None = None
    samples: dict[str, float] = field(default_factory=dict)


UNKNOWN = "[telemetry] metrics is not set: what only the running watcher knows is not known here"


class Watcher:
    """``address``: the watcher's ``[telemetry] metrics``; empty where it serves none."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._base = ""
        if address:
            host, port = loopback(address)
            self._base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._clock = clock
        self._last: tuple[float, Health] | None = None
        self._one = asyncio.Lock()

    async def health(self) -> Health:
        """As of now, or of a moment ago."""
        if not self._base:
            return Health(known=False, why=UNKNOWN)
        async with self._one:
            now = self._clock()
            if self._last is None or now - self._last[0] > _FRESH:
                self._last = (now, await self._ask())
            return self._last[1]

    async def _ask(self) -> Health:
        limit = aiohttp.ClientTimeout(total=_SECONDS)
        try:
            async with aiohttp.ClientSession(timeout=limit, max_line_size=1 << 16) as client:
                async with client.get(f"{self._base}/readyz") as answer:
                    ready, said = (
                        answer.status == 200,
                        (await answer.content.read(1_000)).decode(errors="replace").strip(),
                    )
                async with client.get(f"{self._base}/metrics") as answer:
                    page = (await answer.content.read(_MOST_BYTES)).decode()
            samples = _samples(page)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            return Health(known=False, why=f"the watcher does not answer at {self._base}: {type(error).__name__}")
        head = _one(samples, HEAD_BLOCK)
        return Health(
            known=True,
            why="",
            ready=ready,
            trouble="" if ready else said,
            standing=_standing(samples),
            head_block=None if head is None else int(head),
            head_age=_one(samples, HEAD_AGE),
            nearest_deadline=_one(samples, NEAREST_DEADLINE),
            samples={_name(name, labels): value for (name, labels), value in samples.items()},
        )


_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _samples(page: str) -> _Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
        and abs(sample.value) < float("inf")  # JSON has no others; NaN is none of these
    }


def _one(samples: _Samples, metric: Metric) -> float | None:
    return samples.get((PREFIX + metric.name, ()))


def _standing(samples: _Samples) -> dict[str, int]:
    name = PREFIX + ALERTS_ACTIVE.name
    return {dict(labels)["name"]: int(n) for (there, labels), n in samples.items() if there == name and n > 0}


def _name(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    return name + ("{" + ",".join(f'{key}="{value}"' for key, value in labels) + "}" if labels else "")
