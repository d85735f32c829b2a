"""What can be said of an inference from the chain alone: pure, nothing is run or fetched.

The chain names no node: inferences come from behind the precompile, whose address stands for whoever computed them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from challenger.domain import Address
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.join import Inference
from challenger.protocols.opengradient.numbers import Floats, NumberRefused, NumberTensor, decode_tensor
from challenger.protocols.opengradient.wire import ModelInput, Request

#: Hand-offs, as findings name them.
REQUEST = "requester → nodes"
RESULT = "nodes → chain"
MODEL = "model registry → nodes"


@dataclass(frozen=True, slots=True)
class Looked:
    """``outputs``: the decoded numbers by name, None where they are not to be compared with anything."""

    findings: tuple[Finding, ...]
    outputs: dict[str, Floats] | None


def look(inference: Inference, nodes: Address) -> Looked:
    """``nodes``: the precompile's address."""
    found = [*_substituted(inference, nodes), *_unreadable_input(inference)]
    output = inference.output
    if output is None and not inference.told:
        return Looked(tuple(found), None)  # the node may have answered whoever called it: no log would say so
    if output is None or (output.empty and not output.simulated):
        found.append(
            finding(
                inference, "no-result", RESULT, nodes, Ground.ABSENCE, f"{named(inference)} has no result on chain."
            )
        )
        return Looked(tuple(found), None)
    if output.simulated:
        said = (
            f"{named(inference)} was committed with the result of a simulation (is_simulation_result), not of a node."
        )
        found.append(finding(inference, "simulated-result", RESULT, nodes, Ground.PROOF, said))
        return Looked(tuple(found), None)
    decoded, refused = _decoded(output.numbers, given=False)
    if refused:
        said = f"{named(inference)} has an output that is no tensor of the protocol: {refused}."
        found.append(finding(inference, "malformed-number", RESULT, nodes, Ground.PROOF, said, tensor=refused))
        return Looked(tuple(found), None)
    return Looked(tuple(found), decoded)


def finding(inference: Inference, kind: str, hop: str, party: str, ground: Ground, said: str, **facts: str) -> Finding:
    """About ``inference``, with what names it among the facts."""
    known = {"inference": inference.inference, "model": inference.model, "mode": inference.mode.name}
    return Finding(kind, inference.subject, hop, party, ground, said, inference.at, known | facts)


def _substituted(inference: Inference, nodes: Address) -> Iterable[Finding]:
    """What the precompile says it was asked is what the transaction asked, where both are shown."""
    asked = inference.asked
    if asked is None:
        return
    words = {"mode": (asked.mode.name, inference.mode.name), "model": (asked.model, inference.model)}
    differing = [name for name, (wanted, served) in words.items() if wanted != served]
    if inference.request is not None and not _same_input(asked, inference.request):
        differing.append("input")
    if differing:
        what = " and ".join(differing)
        said = f"{named(inference)} was asked for with one {what} and served with another."
        facts = {f"asked_{name}": words[name][0] for name in differing if name in words}
        yield finding(inference, "request-substituted", REQUEST, nodes, Ground.PROOF, said, differs=what, **facts)


def _same_input(asked: Request, served: Request) -> bool:
    """Pairs may differ where the floats are the same."""
    if asked.input == served.input:
        return True
    one, other = _decoded(asked.input.numbers, given=True), _decoded(served.input.numbers, given=True)
    if one[1] or other[1] or asked.input.strings != served.input.strings or list(one[0]) != list(other[0]):
        return False
    return all(
        a.shape == b.shape and bool((a == b).all()) for a, b in zip(one[0].values(), other[0].values(), strict=True)
    )


def _unreadable_input(inference: Inference) -> Iterable[Finding]:
    given: ModelInput | None = inference.input
    refused = "" if given is None else _decoded(given.numbers, given=True)[1]
    if refused and inference.sender:
        said = f"{named(inference)} was asked for with an input that is no tensor of the protocol: {refused}."
        yield finding(inference, "malformed-input", REQUEST, inference.sender, Ground.PROOF, said, tensor=refused)


def _decoded(tensors: Iterable[NumberTensor], *, given: bool) -> tuple[dict[str, Floats], str]:
    """By name; and what is wrong with the first that cannot be read, empty when all can."""
    found: dict[str, Floats] = {}
    for tensor in tensors:
        if tensor.name in found:
            return found, f"{tensor.name!r} stands twice"
        try:
            found[tensor.name] = decode_tensor(tensor, given=given)
        except NumberRefused as error:
            return found, f"{tensor.name!r}: {error}"
    return found, ""


def named(inference: Inference) -> str:
    return f"Inference {inference.inference}" if inference.inference else "An inference without an id"
