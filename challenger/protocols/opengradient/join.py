"""One transaction's call data, precompile logs and hub logs put together into its inferences, in the chain's order.

What belongs together is decided by what the contracts do, never by likeness: the hub calls the precompile and reports right
after it, so a report belongs to the precompile's event before it, and where both tell an output it must be one. Call data
speaks for an inference only where the transaction was sent to hub or precompile itself and holds no other one. Whatever that
leaves over is ``Unjoined``, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from challenger.chain.answers import Called
from challenger.chain.hashing import keccak
from challenger.domain import Address, At
from challenger.protocols.opengradient.wire import (
    Inferred,
    MalformedCall,
    Mode,
    ModelInput,
    ModelOutput,
    Reported,
    Request,
    Wire,
)


@dataclass(frozen=True, slots=True)
class Inference:
    """``inference`` is empty where no event names it. ``asked``: what the call data say, where they speak for it;
    ``request``: what the precompile says it was asked. ``output`` is None where the chain shows none; ``told``: whether it
    would, were there one: the brief form of the event has no place for it, and only the hub reports beside it."""

    at: At
    sender: Address
    inference: str
    mode: Mode
    model: str
    asked: Request | None
    request: Request | None
    output: ModelOutput | None
    told: bool = True

    @property
    def subject(self) -> bytes:
        """32 bytes: keccak of the id, or of the place on chain where there is none."""
        if self.inference:
            return keccak(self.inference.encode())
        return keccak(self.at.tx_hash + self.at.log_index.to_bytes(8, "big"))

    @property
    def input(self) -> ModelInput | None:
        """As the precompile had it, else as it was asked for; None where the chain shows none."""
        known = self.request or self.asked
        return None if known is None else known.input


@dataclass(frozen=True, slots=True)
class Unjoined:
    """A log, or call data, of which the chain does not say to which inference it belongs."""

    at: At
    why: str


@dataclass(frozen=True, slots=True)
class Joined:
    inferences: tuple[Inference, ...]
    unjoined: tuple[Unjoined, ...]


def join(wire: Wire, called: Called | None, events: Sequence[Inferred | Reported | None]) -> Joined:
    """``events`` of one transaction, in the order of their logs, at least one; None stands for a log that could not be read,
    across which nothing is put together. ``called``: the transaction, None where the endpoint does not know it."""
    first, unjoined = next(event.log.at for event in events if event is not None), []
    sender = Address("") if called is None else called.sender
    asked = None
    if called is None:
        unjoined.append(Unjoined(first, "the endpoint does not know the transaction: its call data are missing"))
    else:
        try:
            asked = wire.asked(called.to, called.data)
        except MalformedCall as error:
            unjoined.append(Unjoined(first, str(error)))
    pairs, alone = _paired(events)
    if not pairs and len(alone) == 1 and asked is not None:
        said = alone.pop()
        only = Inference(said.log.at, sender, "", asked.mode, asked.model, asked, None, said.output)
        return Joined((only,), tuple(unjoined))
    if asked is not None and len(pairs) != 1:
        unjoined.append(Unjoined(first, f"call data for one inference, and {len(pairs)} in the transaction"))
        asked = None
    reports = None not in events and called is not None and called.to == wire.hub
    made = []
    for inferred, reported in pairs:
        output = inferred.output if reported is None else reported.output
        told = reports or inferred.request is not None or reported is not None
        known = (inferred.inference, inferred.mode, inferred.model, asked, inferred.request, output, told)
        made.append(Inference(inferred.log.at, sender, *known))
        if made[-1].input is None:
            why = "no call data speak for it, and this form of the precompile's event does not tell its input"
            unjoined.append(Unjoined(inferred.log.at, why))
    nameless = "the hub reports an output, and nothing says of which inference"
    unjoined += [Unjoined(report.log.at, nameless) for report in alone]
    return Joined(tuple(made), tuple(unjoined))


def _paired(
    events: Sequence[Inferred | Reported | None],
) -> tuple[list[tuple[Inferred, Reported | None]], list[Reported]]:
    """Each precompile event with the hub's report that comes right after it, and the reports that are left over."""
    pairs: list[tuple[Inferred, Reported | None]] = []
    alone: list[Reported] = []
    waiting = False
    for event in events:
        if event is None:
            waiting = False
        elif isinstance(event, Inferred):
            pairs.append((event, None))
            waiting = True
        elif waiting and pairs[-1][0].output in (None, event.output):
            pairs[-1] = (pairs[-1][0], event)
            waiting = False
        else:
            alone.append(event)
            waiting = False
    return pairs, alone
