"""Whether the way to a server that says nothing was open: others, asked in the same time, have answered.

A server that does not answer may be down, and so may our own line, our resolver or our firewall. From here the two look the
same, but for what else is asked: between two failures of one host another one was reached, or nobody was.
"""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import urlsplit

#: Hosts that are remembered, of each kind.
_KEPT = 1_024


class Routes:
    """What came of the last requests, by host. No clock: what counts is the order."""

    def __init__(self) -> None:
        self._count = 0
        self._answered: OrderedDict[str, int] = OrderedDict()
        self._silent: OrderedDict[str, int] = OrderedDict()

    def answered(self, uri: str) -> None:
        """The host of ``uri`` said something, were it that there is no such thing."""
        host = host_of(uri)
        self._silent.pop(host, None)
        self._note(self._answered, host)

    def silent(self, uri: str) -> str:
        """The host of ``uri`` said nothing. Who else answered since it was silent before; empty when nobody did, or when
        this is the first time."""
        host = host_of(uri)
        before = self._silent.get(host)
        self._note(self._silent, host)
        other = next((one for one in reversed(self._answered) if one != host), "")
        return other if before is not None and other and self._answered[other] > before else ""

    def _note(self, which: OrderedDict[str, int], host: str) -> None:
        self._count += 1
        which[host] = self._count
        which.move_to_end(host)
        if len(which) > _KEPT:
            which.popitem(last=False)


def host_of(uri: str) -> str:
    """Host and port; the whole address where it names none, or does not parse."""
    try:
        return urlsplit(uri).netloc.rpartition("@")[2].lower() or uri
    except ValueError:
        return uri
