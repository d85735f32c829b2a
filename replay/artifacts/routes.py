"""Whether the way to a server that says nothing was open: others, asked in the same time, have answered.

A server that does not answer may be down, and so may our own line, our resolver or our firewall. From here the two look the
same, but for what else is asked: between two failures at one address another was reached (be it of the same host, which then
keeps this one back), or none was. Where nothing else is to be asked, one that answered before is asked again for that alone
(``another``).
"""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import urlsplit

#: Hosts that are remembered, of each kind.
_KEPT = 1_024


class Routes:
    """What came of the last requests: answers by host, failures by address. No clock: what counts is the order."""

    def __init__(self) -> None:
        self._count = 0
        self._answered: OrderedDict[str, int] = OrderedDict()
        self._silent: OrderedDict[str, int] = OrderedDict()
        self._at: dict[str, str] = {}
        self._failed: dict[str, int] = {}
        self._turn = 0

    def answered(self, uri: str) -> None:
        """The host of ``uri`` gave what it was asked for, or said that there is no such thing."""
        host = host_of(uri)
        self._silent.pop(uri, None)
        self._at[host] = uri
        if (gone := self._note(self._answered, host)) is not None:
            self._at.pop(gone, None)
            self._failed.pop(gone, None)

    def silent(self, uri: str) -> str:
        """Nothing was said at ``uri``. Which host answered since it was silent before; empty when none did, or when this is
        the first time."""
        before = self._silent.get(uri)
        self._note(self._silent, uri)
        last = next(reversed(self._answered), "")
        return last if before is not None and last and self._answered[last] > before else ""

    def another(self, uri: str) -> str:
        """An address of another host than that of ``uri``, which answered before and may tell whether our line is up. Those
        that did not fail as a witness since have their turns; where there are none, the one whose failure is longest ago: it
        may have been our line that failed. Empty when no other ever answered."""
        host = host_of(uri)
        others = [one for one in self._answered if one != host]
        well = [one for one in others if self._failed.get(one, 0) < self._answered[one]]
        self._turn += 1
        if well:
            return self._at[well[self._turn % len(well)]]
        return self._at[next(one for one in self._failed if one in others)] if others else ""

    def failed(self, uri: str) -> None:
        """What ``another`` named did not answer: others are asked before it."""
        self._failed.pop(host_of(uri), None)  # the latest last
        self._failed[host_of(uri)] = self._count

    def _note(self, which: OrderedDict[str, int], host: str) -> str | None:
        """Whom that pushed out, if anyone."""
        self._count += 1
        which[host] = self._count
        which.move_to_end(host)
        return which.popitem(last=False)[0] if len(which) > _KEPT else None


def host_of(uri: str) -> str:
    """Host and port; the whole address where it names none, or does not parse."""
    try:
        return urlsplit(uri).netloc.rpartition("@")[2].lower() or uri
    except ValueError:
        return uri
