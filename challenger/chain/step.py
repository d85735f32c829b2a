"""What one step of the sender is told, sees and tells: values, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from challenger.chain import fees
from challenger.chain.fees import FeePolicy, Fees
from challenger.chain.outbox import Attempt, Row
from challenger.domain import Block, ChainId, Intent, TxState, UnixTime, Wei
from challenger.errors import ConfigError

#: Rows under this name are the sender's own: each gives up one nonce.
OWN_PROTOCOL = "sender"
#: Gas of a transfer without data (Ethereum yellow paper, G_transaction).
TRANSFER_GAS = 21_000
NEVER = UnixTime(2**62)
UNMINED = frozenset({TxState.SIGNED, TxState.SENT})


@dataclass(frozen=True, slots=True)
class SenderPolicy:
    """``confirmations``: blocks, the transaction's own included, after which it counts as final. ``gas_margin``:
    millionths added to an estimate. ``gas_limit``: no transaction asks for more. ``in_flight``: the most unmined ones."""

    chain: ChainId
    confirmations: int = 3
    gas_margin: int = 300_000
    gas_limit: int = 5_000_000
    in_flight: int = 10
    fees: FeePolicy = field(default_factory=FeePolicy)

    def __post_init__(self) -> None:
        if self.confirmations < 1 or self.gas_margin < 0 or self.gas_limit < TRANSFER_GAS or self.in_flight < 1:
            raise ConfigError("sender: confirmations and in_flight are at least 1, gas_limit at least 21000")


@dataclass(frozen=True, slots=True)
class Moved:
    """A row's change of state in this step."""

    row: int
    intent: Intent
    old: TxState
    new: TxState
    detail: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands in a row's way (``row`` 0: in everyone's). ``kind``: endpoint, refused, fees, funds, foreign,
    gap, reorg, reverts, planted."""

    row: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """What one step did."""

    head: Block
    moved: tuple[Moved, ...]
    troubles: tuple[Trouble, ...]


@dataclass(slots=True)
class View:
    """The chain and the rows at the start of a step. ``taken``: nonces used on chain; ``pending``: with the mempool's;
    ``claimed``: by the endpoint that counts most of them, be it alone. Kept up to date within the step: ``states``, and
    ``costs``, the most wei that each unmined row can still take."""

    head: Block
    base_fee: Wei
    taken: int
    pending: int
    claimed: int
    rows: Sequence[Row]
    states: dict[int, TxState]
    costs: dict[int, int]
    moved: list[Moved] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def slack(self, nonce: int) -> int:
        """Seconds to the nearest deadline of all that this nonce keeps waiting, itself included."""
        behind = (r.intent.deadline for r in self.rows if r.nonce is None or r.nonce >= nonce)
        return min((d - self.head.time for d in behind if d > self.head.time), default=NEVER)

    def trouble(self, row: Row | None, kind: str, detail: object) -> None:
        self.troubles.append(Trouble(0 if row is None else row.id, kind, str(detail)))

    def cancelling(self, nonce: int) -> bool:
        """Whether an empty transaction with this nonce is signed already."""
        return any(row.intent.protocol == OWN_PROTOCOL and row.nonce == nonce and row.attempts for row in self.rows)


def cost(row: Row, attempt: Attempt) -> int:
    """The most wei that this version can take."""
    return row.intent.call.value + attempt.gas * attempt.max_fee


def replacement(view: View, row: Row, nonce: int, policy: FeePolicy) -> Fees | None:
    """Higher fees for a transaction that is the next to be mined, or too cheap for this block, and has waited enough."""
    last, slack = row.attempts[-1], view.slack(nonce)
    waited = view.head.time - (last.sent_at or last.signed_at)
    if (nonce != view.taken and last.max_fee >= view.base_fee) or waited < fees.waits(policy, slack):
        return None
    offer = fees.bump(policy, Fees(last.max_fee, last.tip), view.base_fee, slack)
    if offer is None:
        view.trouble(row, "fees", f"unmined for {waited} s, and the fee cap leaves no room for a replacement")
    return offer


def outbid(view: View, nonce: int, policy: FeePolicy) -> Fees:
    """What an empty transaction must offer in place of all that is signed with its nonce. Where the cap leaves no room
    it offers the cap: a node that has forgotten the other one takes it."""
    slack = view.slack(nonce)
    best = fees.offer(policy, view.base_fee, slack)
    for rival in view.rows:
        # a row that has no nonce at present may have had this one, at a former try
        if signed := [one for one in rival.attempts if one.nonce == nonce]:
            last = Fees(signed[-1].max_fee, signed[-1].tip)
            raised = fees.bump(policy, last, view.base_fee, slack) or Fees(policy.cap, last.tip)
            best = Fees(max(best.max_fee, raised.max_fee), max(best.tip, raised.tip))
    return best
