"""OpenGradient's on-chain inferences as the chain has them: call data and events, strictly read, as values.

The hub's ``run`` hands its call on to the precompile, whose event names inference and model; the hub's own event has the
output and names neither. The precompile's event comes in two forms of one name: the full one holds request and response,
the brief one (of other deployments) the id, the mode and the model alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from challenger.chain.abi import Component, compile_tuple, signature
from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder, encode_call
from challenger.chain.hashing import keccak
from challenger.domain import Address
from challenger.errors import Expected, MalformedLog
from challenger.protocols.opengradient.numbers import NumberTensor, numbers_of

#: Where the inference precompile stands, on every deployment that is known.
PRECOMPILE = Address("0x00000000000000000000000000000000000000f4")


class MalformedCall(Expected):
    """call data does not decode as the call that its selector names"""


class Mode(IntEnum):
    """How the nodes back an inference, as the request asks for it."""

    VANILLA = 0
    ZKML = 1
    TEE = 2


class Form(StrEnum):
    """Forms of the precompile's event."""

    FULL = "full"
    BRIEF = "brief"


@dataclass(frozen=True, slots=True)
class StringTensor:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelInput:
    numbers: tuple[NumberTensor, ...]
    strings: tuple[StringTensor, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """``jsons``: name and JSON text. ``simulated``: that it comes from a simulation of the transaction, not of a node."""

    numbers: tuple[NumberTensor, ...]
    strings: tuple[StringTensor, ...] = ()
    jsons: tuple[tuple[str, str], ...] = ()
    simulated: bool = False

    @property
    def empty(self) -> bool:
        return not (self.numbers or self.strings or self.jsons)


@dataclass(frozen=True, slots=True)
class Request:
    """``model`` is the CID under which it is registered."""

    mode: Mode
    model: str
    input: ModelInput


@dataclass(frozen=True, slots=True)
class Inferred:
    """The precompile's event. ``request`` and ``output`` are None in the brief form."""

    log: RawLog
    form: Form
    inference: str
    mode: Mode
    model: str
    request: Request | None
    output: ModelOutput | None


@dataclass(frozen=True, slots=True)
class Reported:
    """The hub's event: an output, and of which inference nothing says."""

    log: RawLog
    output: ModelOutput


def _part(kind: str, name: str, components: Sequence[Component] = ()) -> Component:
    return {"type": kind, "name": name, **({"components": components} if components else {})}


_NUMBER = [_part("int128", "value"), _part("int128", "decimals")]
_NUMBERS = [_part("string", "name"), _part("tuple[]", "values", _NUMBER), _part("uint32[]", "shape")]
_STRINGS = [_part("string", "name"), _part("string[]", "values")]
_JSON = [_part("string", "name"), _part("string", "value")]
_INPUT = [_part("tuple[]", "numbers", _NUMBERS), _part("tuple[]", "strings", _STRINGS)]
_OUTPUT = [*_INPUT, _part("tuple[]", "jsons", _JSON), _part("bool", "is_simulation_result")]
_REQUEST = [_part("uint8", "mode"), _part("string", "modelCID"), _part("tuple", "input", _INPUT)]
_RUN = {
    "type": "function",
    "name": "run",
    "inputs": [_part("string", "modelId"), _part("uint8", "inferenceMode"), _part("tuple", "modelInput", _INPUT)],
}
_RUN_MODEL = {"type": "function", "name": "runModelInference", "inputs": [_part("tuple", "request", _REQUEST)]}


def _event(name: str, *inputs: Component) -> Component:
    return {"type": "event", "name": name, "inputs": inputs}


_ID = _part("string", "inferenceID")
_RESULT = _event("InferenceResult", _part("tuple", "output", _OUTPUT))
_FORMS: Mapping[Form, Component] = {
    Form.FULL: _event(
        "ModelInferenceEvent", _ID, _part("tuple", "request", _REQUEST), _part("tuple", "response", _OUTPUT)
    ),
    Form.BRIEF: _event("ModelInferenceEvent", _ID, _part("uint8", "mode"), _part("string", "modelCID")),
}


def _hash(entry: Component) -> bytes:
    return keccak(signature(entry).encode())


RESULT_TOPIC = _hash(_RESULT)
FORM_TOPICS: Mapping[Form, bytes] = {form: _hash(event) for form, event in _FORMS.items()}
RUN, RUN_MODEL = _hash(_RUN)[:4], _hash(_RUN_MODEL)[:4]
_CALLS = {
    RUN: compile_tuple([_part("string", "modelCID"), _part("uint8", "mode"), _part("tuple", "input", _INPUT)]),
    RUN_MODEL: compile_tuple([_part("tuple", "request", _REQUEST)]),
}


class Wire:
    """The events of one deployment. ``forms``: those that its precompile writes; others are not looked for."""

    def __init__(self, hub: Address, precompile: Address = PRECOMPILE, forms: Sequence[Form] = tuple(Form)) -> None:
        # logs carry addresses in lower case
        self.hub = Address(hub.lower())
        self.precompile = Address(precompile.lower())
        self.emitters: tuple[Address, ...] = (self.hub, self.precompile)
        self.topics = (RESULT_TOPIC, *(FORM_TOPICS[form] for form in forms))
        self._hub = EventDecoder([_RESULT])
        self._precompile = EventDecoder([_FORMS[form] for form in forms])
        self._by_topic = {FORM_TOPICS[form]: form for form in forms}

    def decode(self, log: RawLog) -> Inferred | Reported | None:
        """None for any other log; ``MalformedLog`` for what these contracts cannot have written."""
        if log.address == self.hub:
            event = self._hub.decode(log)
            return None if event is None else Reported(log, _output(event.args["output"]))
        event = self._precompile.decode(log) if log.address == self.precompile else None
        if event is None:
            return None
        args, form = event.args, self._by_topic[log.topics[0]]
        try:
            if form is Form.BRIEF:
                return Inferred(log, form, args["inferenceID"], Mode(args["mode"]), args["modelCID"], None, None)
            request = _request(args["request"])
        except ValueError as error:
            raise MalformedLog(str(error), event=event.name, block=log.block, log=log.log_index) from None
        output = _output(args["response"])
        return Inferred(log, form, args["inferenceID"], request.mode, request.model, request, output)

    def asked(self, to: Address | None, data: bytes) -> Request | None:
        """What a transaction to the hub or the precompile asked for; None for any other. Raises ``MalformedCall``."""
        selector = data[:4]
        if (to, selector) not in {(self.hub, RUN), (self.precompile, RUN_MODEL)}:
            return None
        try:
            raw: Any = _CALLS[selector](data[4:])
            return _request(raw["request"] if selector == RUN_MODEL else raw)
        except ValueError as error:
            raise MalformedCall(str(error), selector="0x" + selector.hex()) from None


def run_call(request: Request) -> bytes:
    """Call data for the hub."""
    return encode_call([_RUN], "run", (request.model, int(request.mode), input_tuple(request.input)))


def precompile_call(request: Request) -> bytes:
    """Call data for the precompile."""
    return encode_call([_RUN_MODEL], "runModelInference", (request_tuple(request),))


def request_tuple(request: Request) -> tuple[Any, ...]:
    """As the ABI encodes it."""
    return int(request.mode), request.model, input_tuple(request.input)


def input_tuple(given: ModelInput | ModelOutput) -> tuple[Any, ...]:
    """As the ABI encodes it."""
    numbers = [(one.name, [tuple(pair) for pair in one.values], list(one.shape)) for one in given.numbers]
    return numbers, [(one.name, list(one.values)) for one in given.strings]


def output_tuple(output: ModelOutput) -> tuple[Any, ...]:
    """As the ABI encodes it."""
    return (*input_tuple(output), list(output.jsons), output.simulated)


def _request(raw: Any) -> Request:
    return Request(Mode(raw["mode"]), raw["modelCID"], ModelInput(*_tensors(raw["input"])))


def _output(raw: Any) -> ModelOutput:
    jsons = tuple((one["name"], one["value"]) for one in raw["jsons"])
    return ModelOutput(*_tensors(raw), jsons, raw["is_simulation_result"])


def _tensors(raw: Any) -> tuple[tuple[NumberTensor, ...], tuple[StringTensor, ...]]:
    numbers = tuple(NumberTensor(one["name"], numbers_of(one["values"]), tuple(one["shape"])) for one in raw["numbers"])
    return numbers, tuple(StringTensor(one["name"], tuple(one["values"])) for one in raw["strings"])
