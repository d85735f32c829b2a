"""In mode confirm a person decides each filing: what waits, what exactly would be done, and the person's word on it.

The terms are worked out from the rows and, for the bond, from the chain; for the command line and the served pages alike.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from challenger.domain import Action, Address, CommitmentId, Hash32, ModelId, Part, State, UnixTime, Wei
from challenger.errors import NotInRecord
from challenger.parts import adapter_of
from challenger.pipeline.approval import WAITING, Terms, decide, terms_of, unapproved, withheld
from challenger.protocols.base import Adapter
from challenger.reach import reached
from challenger.settings import Settings, addresses
from challenger.store.engine import Store
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.store.work import Item

_ASKED = (State.CONFIRMED, State.UNAVAILABLE)


class Filing(NamedTuple):
    """What would be filed. ``part``: what a demand is for, empty for a challenge; ``differs``: the first root that does;
    ``key`` is of these terms and no others; ``decision``: what is wanted, or that it was approved or refused."""

    commitment: CommitmentId
    action: Action
    part: str
    provider: Address
    model: ModelId
    differs: str
    committed_output: Hash32
    our_output: Hash32 | None
    committed_state: Hash32
    our_state: Hash32 | None
    bond: Wei
    reward: Wei
    closes: UnixTime
    gate: str
    decision: str
    seconds_left: int
    key: str


@asynccontextmanager
async def _protocol(settings: Settings) -> AsyncIterator[tuple[Adapter, UnixTime]]:
    """The protocol read through the first endpoint that answers, and chain time."""
    addresses(settings)
    async with reached(settings) as (rpc, now):
        adapter = adapter_of(settings, rpc)
        await adapter.check()
        yield adapter, now


async def waiting(store: Store, settings: Settings) -> list[Filing]:
    """What is asked of a person, the window that closes first coming first. Raises EndpointError when no endpoint
    answers."""
    async with _protocol(settings) as (adapter, now), store.read() as view:
        rows = []
        for item in await view.work.items(list(_ASKED), closes_after=now, limit=1_000):
            if withheld(item) is Part.WEIGHTS:
                continue
            terms = await terms_of(view, adapter, item)
            rows.append(await _filing(view, item, terms, now))
        return rows


async def decided(
    store: Store, settings: Settings, commitment: CommitmentId, *, approved: bool, person: str, note: str, key: str = ""
) -> Filing:
    """Keeps ``person``'s word on the terms as they stand; ``key``: those that were shown, others are refused.

    Raises NotInRecord where nothing is asked, StaleRow when it moved on, EndpointError when no endpoint answers."""
    async with _protocol(settings) as (adapter, now):
        # the chain is asked before anything is locked: the watcher writes meanwhile, for its lease too
        async with store.read() as view:
            item = await _item(view, commitment)
            terms = await terms_of(view, adapter, item)
        if key and key != terms.key:
            raise TermsChanged(commitment=subject_of(commitment))
        async with store.begin(now) as unit:
            await decide(unit, item, terms, approved=approved, person=person, note=note)
            return await _filing(unit, item, terms, now)


class TermsChanged(NotInRecord):
    """the terms are no longer those that were shown: look again"""


async def _item(view: View, commitment: CommitmentId) -> Item:
    item = await view.work.item(commitment)
    if item is None:
        raise NotInRecord("no such commitment", asked=subject_of(commitment))
    if item.work.state not in _ASKED:
        raise NotInRecord("nothing is asked about this commitment", asked=subject_of(commitment), state=item.work.state)
    return item


async def _filing(view: View, item: Item, terms: Terms, now: UnixTime) -> Filing:
    accusation, row = terms.accusation, item.commitment
    differs = ""
    if accusation is not None:
        differs = "output" if accusation.output_root != row.output_root else "state"
    wanting = await unapproved(view, terms)
    return Filing(
        terms.commitment,
        terms.action,
        "" if terms.part is None else terms.part.value,
        row.provider,
        row.model,
        differs,
        row.output_root,
        None if accusation is None else accusation.output_root,
        row.state_root,
        None if accusation is None else accusation.state_root,
        terms.prospect.bond,
        terms.prospect.reward,
        row.closes,
        item.work.detail,
        wanting.removeprefix(WAITING).strip() or "approved",
        row.closes - now,
        terms.key,
    )
