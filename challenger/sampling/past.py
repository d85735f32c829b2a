"""The draws that one commitment has had, as its entries in the journal tell them. Pure.

A reorganisation voids a draw: another block stands where the draw block stood, or the commitment came back elsewhere, and
it is drawn anew. Once money is on its way it leaves the draw in force, for money must be followed (``store/reorgs.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from challenger.domain import BlockNumber, CommitmentId, Hash32, Millionths, State, TxState, VerdictKind
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.policy import Inputs, Policy, rate

#: Kinds of entries after which money may be on its way.
_SPENT = frozenset({State.FILING, State.FILED, State.DISPUTING, State.WON, State.LOST, State.WITHDRAWN, "adopted"}) | {
    f"tx-{state}" for state in (TxState.SIGNED, TxState.SENT, TxState.MINED, TxState.FINAL)
}
_DRAWN = frozenset({State.SAMPLED, State.SKIPPED})
_JUDGED = frozenset({VerdictKind.VALID, VerdictKind.FRAUD})


class Entry(Protocol):
    """The journal's, about the commitment or a part of it."""

    @property
    def seq(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def payload(self) -> str: ...


@dataclass(slots=True)
class PastDraw:
    """``block``: where the commitment stood when it was drawn. ``judged``: ids of the verdicts VALID and FRAUD that were
    found while the draw was in force. ``voided``: the entry that ended it, 0 while none has.

    Where it was left in force since money was on its way: ``moved`` is the entry by which the commitment came back in
    another block, 0 where it did not; ``replaced``: the blocks that took the draw block's place, each with its entry."""

    block: BlockNumber | None
    epoch: int
    inputs: Inputs
    p: Millionths
    draw_block: BlockNumber
    draw_hash: Hash32
    selected: bool
    judged: set[int] = field(default_factory=set)
    voided: int = 0
    moved: int = 0
    replaced: dict[Hash32, int] = field(default_factory=dict)

    def in_place(self, epoch: Epoch) -> bool:
        """Whether it was made with the promised block, as the commitment stood then."""
        block = self.block
        return block is not None and epoch.opens <= block < epoch.closes and self.draw_block == epoch.draw_block(block)

    def as_promised(self, epoch: Epoch, policy: Policy, commitment: CommitmentId) -> bool:
        """Whether block, rate and decision are those that ``epoch`` had promised for it."""
        value = draw(epoch.secret, commitment, self.draw_hash)
        return self.in_place(epoch) and rate(policy, self.inputs) == self.p and selects(value, self.p) == self.selected


def past_draws(entries: Iterable[Entry]) -> list[PastDraw]:
    """The oldest first. ``entries``: all of the journal's about one commitment, in their order.

    Raises ValueError, KeyError, TypeError, AttributeError or ArithmeticError where one is nothing of ours."""
    found: list[PastDraw] = []
    now: PastDraw | None = None
    block: BlockNumber | None = None
    rated: dict[str, Any] = {}
    spent = False
    for entry in entries:
        told = json.loads(entry.payload)
        spent |= entry.kind in _SPENT
        match entry.kind:
            case State.OBSERVED:
                block = BlockNumber(_number(told["block"]))
            case "note" if "draw_block" in told:
                rated = told
            case kind if kind in _DRAWN and "draw_hash" in told:
                now = _made(block, rated, told)
                found.append(now)
            case "verdict" if now is not None and told["kind"] in _JUDGED:
                now.judged.add(told["id"])
            case "draw-orphaned" if told["kept"]:
                if now is not None and spent and _hash(told["was"]) == now.draw_hash:
                    now.replaced[_hash(told["is"])] = entry.seq
            case "restored" if "before" not in told:
                if now is not None and spent and not told["same_facts"]:
                    now.moved = entry.seq
            case "draw-orphaned" | "restored":
                if now is not None:
                    now.voided = entry.seq
                now, rated, spent = None, {}, False
    return found


def _made(block: BlockNumber | None, rated: dict[str, Any], told: dict[str, Any]) -> PastDraw:
    return PastDraw(
        block,
        _number(rated["epoch"]),
        Inputs.from_json(rated["inputs"]),
        Millionths(_number(rated["p_millionths"])),
        BlockNumber(_number(rated["draw_block"])),
        _hash(told["draw_hash"]),
        bool(told["selected"]),
    )


def _number(value: object) -> int:
    if type(value) is not int:
        raise ValueError("not a number")
    return value


def _hash(value: str) -> Hash32:
    return Hash32(bytes.fromhex(value[2:]))
