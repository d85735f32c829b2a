"""When a window has closed for good: nothing is given up before chain and index both say so, for that is final.

A closed window opens again when a demand over the job is answered, or a slot of a full house falls free. Only the
contract knows the present close: the index may not have read of an extension yet, and where windows are live there is
nothing to read. Only the index knows what is open until when; and what rests on one of its blocks is taken back
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from challenger.domain import BlockNumber, CommitmentId, DemandOutcome, DisputeOutcome, JobStatus, UnixTime
from challenger.errors import StaleRow
from challenger.protocols.base import Standing
from challenger.store.engine import Store
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.store.work import Waiting
from challenger.wording import numbered

#: What is said of a draw that was not judged in time.
UNJUDGED = "the window closed before it was judged"
#: How a late case says what kept it back while its window was open.
_BEFORE = "; before that, "
#: What a verdict of fraud says, the root that differs: it keeps nothing back.
_ROOTS = ("", "output", "state")


class Chain(Protocol):
    """What is asked of the protocol's adapter."""

    async def hydrate(self, commitment: CommitmentId) -> Standing: ...


@dataclass(frozen=True, slots=True)
class Outlook:
    """``open``: the window is, by the chain's own word. ``why`` a closed one is not given up yet; empty where nothing can
    open it again, which then rests on block ``on`` of the index."""

    open: bool
    why: str
    on: BlockNumber


class Closing:
    """``chain`` None: it is a recording, which answers nothing beyond what the index reads of it."""

    def __init__(self, store: Store, chain: Chain | None) -> None:
        self._store = store
        self._chain = chain
        self._longer: dict[CommitmentId, UnixTime] = {}
        #: How often the chain has named a later close.
        self.news = 0

    def prolonged(self, rows: Sequence[Waiting]) -> Sequence[Waiting]:
        """``rows`` with the closes that the chain has named since, where they are later than the index's."""
        if not self._longer:
            return rows
        return [row._replace(closes=max(row.closes, self._longer.get(row.commitment, row.closes))) for row in rows]

    async def look(self, commitment: CommitmentId, now: UnixTime) -> Outlook:
        """At a window that seems to be over. Raises what the adapter's reads raise, and StaleRow for a commitment that
        the chain does not show (now)."""
        standing = None if self._chain is None else await self._chain.hydrate(commitment)
        async with self._store.read() as view:
            head = await view.chain.head()
            row = await view.chain.commitment(commitment)
            if head is None or row is None:
                raise StaleRow(commitment=subject_of(commitment))
            closes = row.closes if standing is None else standing.window.closes
            why = "" if closes > now else await _open_over(view, commitment, standing, head.time)
        if closes > now:
            self.news += 1
            self._longer = {one: until for one, until in self._longer.items() if until > now} | {commitment: closes}
            return Outlook(open=True, why="", on=head.number)
        if not why and (head.time < closes or (standing is not None and standing.block.number < head.number)):
            why = "index and endpoint have not both come as far as its close"
        return Outlook(open=False, why=why, on=head.number)


async def _open_over(view: View, commitment: CommitmentId, standing: Standing | None, read: UnixTime) -> str:
    """What of the job is open and may open its window again. ``read``: the time up to which events are."""
    if standing is not None and standing.status is not JobStatus.COMMITTED:
        return f"the job is {standing.status}: its events will tell how it ended"
    disputes = await view.chain.disputes(commitment=commitment, outcome=DisputeOutcome.OPEN)
    demands = await view.chain.demands(commitment=commitment, outcome=DemandOutcome.OPEN)
    if disputes:
        return f"dispute {numbered(disputes[-1].dispute)} over it is open, and may open it again"
    for demand in demands:
        if read < demand.answer_by:
            return f"demand {numbered(demand.demand)} over it is open, and its answer opens it again"
    if standing is not None and (standing.open_disputes or standing.open_demands > len(demands)):
        return "something over it is open that the index has not read of"
    return ""


def kept(detail: str) -> str:
    """What kept a case back while its window was open, by what its row says."""
    said, _, before = detail.partition(_BEFORE)
    return before or ("" if said in _ROOTS or said.startswith("window:") else said)


def besides(detail: str, why: str) -> str:
    """``detail``, which up to a colon names the part that is away, with what keeps it from being demanded."""
    return f"{detail}{'; ' if ':' in detail else ': '}{why}"


def late(said: str, gate: str) -> str:
    """``said`` of a case whose time is over, with what kept it back before."""
    return f"{said}{_BEFORE}{gate}" if gate else said
