"""Calls and events as values, and back; strictly: what the contracts cannot have written is malformed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.answers import RawLog
from challenger.chain.codec import encode_args
from challenger.chain.hashing import keccak
from challenger.contracts import double
from challenger.errors import MalformedLog
from challenger.protocols.opengradient.numbers import Number, NumberTensor
from challenger.protocols.opengradient.wire import (
    FORM_TOPICS,
    PRECOMPILE,
    RESULT_TOPIC,
    RUN,
    RUN_MODEL,
    Form,
    Inferred,
    MalformedCall,
    Mode,
    ModelInput,
    ModelOutput,
    Reported,
    Request,
    StringTensor,
    Wire,
    output_tuple,
    precompile_call,
    request_tuple,
    run_call,
)

HUB = "0x" + "4b" * 20
WIRE = Wire(HUB)
TENSOR = NumberTensor("x", (Number(15, 1), Number(-(1 << 127), 18)), (1, 2))
REQUEST = Request(Mode.ZKML, "bafy", ModelInput((TENSOR,), (StringTensor("s", ("a", "")),)))
OUTPUT = ModelOutput((TENSOR, NumberTensor("y", (), (0,))), (), (("j", "{}"),), simulated=True)
EVENTS = [entry for entry in double("OpenGradientHub").abi if entry.get("name") == "InferenceResult"]
_TENSORS = "((string,(int128,int128)[],uint32[])[],(string,string[])[]"
_REQUEST_TYPE = f"(uint8,string,{_TENSORS}))"
_OUTPUT_TYPE = f"{_TENSORS},(string,string)[],bool)"


def log(topic: bytes, data: bytes, address: str = PRECOMPILE) -> RawLog:
    return RawLog(address, (topic,), data, 7, b"b" * 32, 3, b"t" * 32)


def full(request: Request = REQUEST, output: ModelOutput = OUTPUT) -> bytes:
    kinds = [{"type": "string"}, _abi("ModelInferenceRequest"), _abi("ModelOutput")]
    return encode_args(kinds, ["an id", request_tuple(request), output_tuple(output)])


def _abi(name: str) -> dict:
    """The struct's type as the compiler spells it."""
    for entry in double("OpenGradientHub").abi:
        for part in (*entry.get("inputs", ()), *entry.get("outputs", ())):
            if part["internalType"] in (f"struct {name}", f"struct {name}[]"):
                return {**part, "type": "tuple"}
    raise AssertionError(name)


def test_selectors_and_topics_are_the_protocols() -> None:
    assert RUN.hex() == "cbf09d80"
    assert RUN_MODEL.hex() == "7289e9c2"
    assert RESULT_TOPIC.hex().startswith("c1396ff6")
    assert FORM_TOPICS[Form.FULL].hex().startswith("1b283af3")
    assert FORM_TOPICS[Form.BRIEF].hex().startswith("3c14b3f0")
    assert keccak(f"ModelInferenceEvent(string,{_REQUEST_TYPE},{_OUTPUT_TYPE})".encode()) == FORM_TOPICS[Form.FULL]
    assert keccak(b"ModelInferenceEvent(string,uint8,string)") == FORM_TOPICS[Form.BRIEF]
    assert keccak(f"InferenceResult({_OUTPUT_TYPE})".encode()) == RESULT_TOPIC


def test_both_forms_and_the_hubs_event() -> None:
    event = WIRE.decode(log(FORM_TOPICS[Form.FULL], full()))
    assert isinstance(event, Inferred)
    assert (event.inference, event.mode, event.model) == ("an id", Mode.ZKML, "bafy")
    assert (event.request, event.output) == (REQUEST, OUTPUT)
    brief = encode_args([{"type": "string"}, {"type": "uint8"}, {"type": "string"}], ["an id", 2, "bafy"])
    event = WIRE.decode(log(FORM_TOPICS[Form.BRIEF], brief))
    assert isinstance(event, Inferred)
    assert (event.mode, event.model, event.request, event.output) == (Mode.TEE, "bafy", None, None)
    said = encode_args(EVENTS[0]["inputs"], [output_tuple(OUTPUT)])
    event = WIRE.decode(log(RESULT_TOPIC, said, HUB))
    assert isinstance(event, Reported)
    assert event.output == OUTPUT


def test_whose_event_it_is_matters() -> None:
    """Anyone can write a log of any form: only hub and precompile are believed, each of its own event."""
    assert WIRE.decode(log(FORM_TOPICS[Form.FULL], full(), HUB)) is None
    assert WIRE.decode(log(RESULT_TOPIC, b"", PRECOMPILE)) is None
    assert WIRE.decode(log(FORM_TOPICS[Form.FULL], full(), "0x" + "01" * 20)) is None
    assert WIRE.decode(replace_topics(())) is None


def replace_topics(topics: tuple[bytes, ...]) -> RawLog:
    return log(RESULT_TOPIC, b"")._replace(topics=topics)


def test_a_deployment_has_the_forms_that_were_named() -> None:
    only = Wire(HUB, forms=(Form.FULL,))
    assert FORM_TOPICS[Form.BRIEF] not in only.topics
    brief = encode_args([{"type": "string"}, {"type": "uint8"}, {"type": "string"}], ["an id", 0, "bafy"])
    assert only.decode(log(FORM_TOPICS[Form.BRIEF], brief)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        full()[:-64],
        full()[:32] + b"\xff" * 32 + full()[64:],  # the request lies beyond the data
        full().replace(b"\x00" * 31 + b"\x01", b"\x00" * 31 + b"\x03", 1),
    ],
)
def test_what_no_contract_can_have_written_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedLog):
        WIRE.decode(log(FORM_TOPICS[Form.FULL], data))


def test_a_mode_that_there_is_not_is_malformed() -> None:
    for mode in (3, 255):
        kinds = [{"type": "string"}, {"type": "uint8"}, {"type": "string"}]
        with pytest.raises(MalformedLog, match="not a valid Mode"):
            WIRE.decode(log(FORM_TOPICS[Form.BRIEF], encode_args(kinds, ["an id", mode, "bafy"])))


def test_an_int128_beyond_its_range_is_malformed() -> None:
    good = full()
    where = good.index((15).to_bytes(32, "big"))
    with pytest.raises(MalformedLog, match="int128"):
        WIRE.decode(log(FORM_TOPICS[Form.FULL], good[:where] + (1 << 127).to_bytes(32, "big") + good[where + 32 :]))


def test_calls_to_hub_and_precompile() -> None:
    assert WIRE.asked(HUB, run_call(REQUEST)) == REQUEST
    assert WIRE.asked(PRECOMPILE, precompile_call(REQUEST)) == REQUEST
    assert WIRE.asked(HUB, precompile_call(REQUEST)) is None
    assert WIRE.asked("0x" + "01" * 20, run_call(REQUEST)) is None
    assert WIRE.asked(None, run_call(REQUEST)) is None
    assert WIRE.asked(HUB, b"") is None
    with pytest.raises(MalformedCall, match="cbf09d80"):
        WIRE.asked(HUB, run_call(REQUEST)[:100])


numbers = st.builds(Number, st.integers(-(1 << 127), (1 << 127) - 1), st.integers(-(1 << 127), (1 << 127) - 1))
plain = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
tensors = st.builds(
    NumberTensor,
    plain,
    st.lists(numbers, max_size=4).map(tuple),
    st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
)
strings = st.builds(StringTensor, plain, st.lists(plain, max_size=3).map(tuple))
inputs = st.builds(ModelInput, st.lists(tensors, max_size=3).map(tuple), st.lists(strings, max_size=2).map(tuple))
requests = st.builds(Request, st.sampled_from(Mode), plain, inputs)


@given(requests)
def test_calls_come_back(request: Request) -> None:
    """Whatever ABI types can say crosses, whether or not it makes sense: sense is for those who read the numbers."""
    assert WIRE.asked(HUB, run_call(request)) == request
    event = WIRE.decode(log(FORM_TOPICS[Form.FULL], full(request)))
    assert isinstance(event, Inferred)
    assert event.request == request


@given(st.data())
def test_bytes_turned_over_are_malformed_or_say_something_else(data: st.DataObject) -> None:
    good = bytearray(full())
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        event = WIRE.decode(log(FORM_TOPICS[Form.FULL], bytes(good)))
    except MalformedLog:
        return
    assert isinstance(event, Inferred)


def test_an_output_says_whether_it_is_empty() -> None:
    assert ModelOutput(()).empty
    assert not replace(OUTPUT, numbers=()).empty
