"""How each enclave stood at any moment, rebuilt from the registry's events alone: a pure fold.

Nothing is kept between calls, so that a reorganisation is no case of its own: other events give another timeline.

An enclave is ``OK`` when the registry itself would have called it active: registered, enabled, its measurement approved,
and its last heartbeat (its registration counts as the first) no longer ago than the limit. When several things were amiss,
the first of these is named: unknown, unregistered, revoked, disabled, silent.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from challenger.protocols.opengradient.settlement.registry import (
    Approved,
    Beat,
    Change,
    Enclave,
    Registered,
    Revoked,
    Switched,
)

S = TypeVar("S")


class Status(StrEnum):
    """``UNKNOWN``: the events tell of no such enclave; ``UNREGISTERED``: only later; ``REVOKED``: its measurement is."""

    OK = "ok"
    UNKNOWN = "unknown"
    UNREGISTERED = "unregistered"
    REVOKED = "revoked"
    DISABLED = "disabled"
    SILENT = "silent"


class Moment(NamedTuple):
    """Of a change: its block's time (UTC seconds), its block and the log's index. Ordered as the chain is."""

    time: int
    block: int
    log: int


class _Standing(NamedTuple):
    """``beat``: time of the last heartbeat, or of the registration."""

    kind: int
    enabled: bool
    beat: int


class _Approval(NamedTuple):
    """``ends``: from when on it does not count though it is ``active``; None without an end."""

    active: bool
    ends: int | None

    def holds(self, time: int) -> bool:
        return self.active and (self.ends is None or time < self.ends)


class _Track(Generic[S]):
    """What something was from each of its changes on."""

    def __init__(self) -> None:
        self._moments: list[Moment] = []
        self._states: list[S] = []

    def add(self, moment: Moment, state: S) -> None:
        self._moments.append(moment)
        self._states.append(state)

    def pop(self) -> None:
        self._moments.pop()
        self._states.pop()

    @property
    def last(self) -> S | None:
        return self._states[-1] if self._states else None

    @property
    def last_but_one(self) -> S | None:
        return self._states[-2] if len(self._states) > 1 else None

    def before(self, end: tuple[int, ...]) -> S | None:
        """After every change before ``end`` (the beginning of a second, or a place in one)."""
        past = bisect_left(self._moments, end)
        return self._states[past - 1] if past else None

    def between(self, first: int, last: int) -> list[Moment]:
        """Of the changes from one time to another, both included."""
        return self._moments[bisect_left(self._moments, (first,)) : bisect_left(self._moments, (last + 1,))]


class Timeline:
    """``changes``: all of a registry's, from its first block on, in any order. ``enclaves``: what the registry keeps of
    each (one that is missing is never called revoked). ``heartbeat``: seconds a heartbeat is good for; None where the
    registry knows none.

    The current form's ``PCRRevoked`` does not say for which kind of enclaves. Where a measurement is approved for several
    kinds it is not taken as a revocation of any: the enclaves it is about are disabled by events of their own.
    """

    def __init__(
        self, changes: Iterable[tuple[Moment, Change]], enclaves: Mapping[bytes, Enclave], heartbeat: int | None
    ) -> None:
        self._enclaves = enclaves
        self._heartbeat = heartbeat
        self._standing: defaultdict[bytes, _Track[_Standing]] = defaultdict(_Track)
        self._approvals: defaultdict[bytes, defaultdict[int | None, _Track[_Approval]]]
        self._approvals = defaultdict(lambda: defaultdict(_Track))
        self.take(changes)

    def take(self, changes: Iterable[tuple[Moment, Change]]) -> None:
        """What came after all that is there."""
        for moment, change in sorted(changes, key=lambda pair: pair[0]):
            self._take(moment, change)

    @property
    def registered(self) -> frozenset[bytes]:
        """Ids of every enclave that was ever registered."""
        return frozenset(self._standing)

    def status_at(self, tee: bytes, time: int, place: tuple[int, int] | None = None) -> Status:
        """After all that happened up to ``time``; with ``place`` (block, log index) of what happened in that very second
        only what came before it."""
        track = self._standing.get(tee)
        if track is None:
            return Status.UNKNOWN
        end = (time + 1,) if place is None else (time, *place)
        standing = track.before(end)
        if standing is None:
            return Status.UNREGISTERED
        approval = self._approval(tee, standing.kind)
        state = approval.before(end) if approval else None
        if state is not None and not state.holds(time):
            return Status.REVOKED
        if not standing.enabled:
            return Status.DISABLED
        if self._heartbeat is not None and time - standing.beat > self._heartbeat:
            return Status.SILENT
        return Status.OK

    def ever_ok(self, tee: bytes, first: int, last: int) -> bool:
        """Whether there was a moment from ``first`` to ``last`` (both included) when it was ``OK``."""
        # it becomes so by a change only: what merely passes is never for the better
        return self.status_at(tee, first, (0, 0)) is Status.OK or any(
            self.status_at(tee, one.time, (one.block, one.log + 1)) is Status.OK
            for track in self._tracks(tee)
            for one in track.between(first, last)
        )

    def _take(self, moment: Moment, change: Change) -> None:
        match change:
            case Registered(tee, _, kind):
                self._standing[tee].add(moment, _Standing(kind, enabled=True, beat=moment.time))
            case Switched(tee, on):
                if (last := self._last(tee)) is not None:
                    self._standing[tee].add(moment, last._replace(enabled=on))
            case Beat(tee, _):
                self._beat(moment, tee)
            case Approved(measurement, kind_or_all, until):
                self._approvals[measurement][kind_or_all].add(moment, _Approval(active=True, ends=until))
            case Revoked(measurement, grace):
                self._revoke(moment, measurement, grace)

    def _beat(self, moment: Moment, tee: bytes) -> None:
        """Between two beats no further apart than the limit a third one changes nothing, and is forgotten."""
        if self._heartbeat is None or (last := self._last(tee)) is None:
            return
        track, state = self._standing[tee], last._replace(beat=moment.time)
        before = track.last_but_one
        if (
            before is not None
            and before == last._replace(beat=before.beat)
            and moment.time - before.beat <= self._heartbeat
        ):
            track.pop()
        track.add(moment, state)

    def _revoke(self, moment: Moment, measurement: bytes, grace: int) -> None:
        active = [track for track in self._approvals[measurement].values() if track.last and track.last.active]
        if len(active) != 1:
            return
        track = active[0]
        ends = moment.time + grace if grace else None
        track.add(moment, _Approval(active=bool(grace), ends=ends))

    def _last(self, tee: bytes) -> _Standing | None:
        track = self._standing.get(tee)
        return track.last if track else None

    def _approval(self, tee: bytes, kind: int) -> _Track[_Approval] | None:
        enclave = self._enclaves.get(tee)
        if enclave is None or (kinds := self._approvals.get(enclave.measurement)) is None:
            return None
        return kinds.get(kind) or kinds.get(None)

    def _tracks(self, tee: bytes) -> Iterator[_Track[Any]]:
        """All that bears on it."""
        if tee in self._standing:
            yield self._standing[tee]
        enclave = self._enclaves.get(tee)
        if enclave is not None and enclave.measurement in self._approvals:
            yield from self._approvals[enclave.measurement].values()
