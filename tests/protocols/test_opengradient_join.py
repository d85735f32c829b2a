"""Which log and which call data belong to which inference: as the doubles write them, and as nobody should."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import groupby

import pytest

from challenger.chain.answers import Called, RawLog
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.protocols.opengradient.join import Joined, join
from challenger.protocols.opengradient.numbers import Number, NumberTensor
from challenger.protocols.opengradient.wire import (
    Form,
    Inferred,
    Mode,
    ModelInput,
    ModelOutput,
    Reported,
    Request,
    Wire,
    run_call,
)
from challenger.sim.opengradient.hub import Hub, Planned
from challenger.sim.wallet import Wallet


def request(number: int, model: str = "bafymodel") -> Request:
    return Request(Mode.VANILLA, model, ModelInput((NumberTensor("x", (Number(number, 1),), (1, 1)),)))


def output(number: int) -> ModelOutput:
    return ModelOutput((NumberTensor("y", (Number(number, 2),), (1,)),))


@pytest.fixture(params=list(Form))
async def hub(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Hub, Form]]:
    async with EmbeddedDevnet() as devnet:
        form = request.param
        yield await Hub.deploy(Wallet(devnet.rpc, devnet.accounts[0].key, "user"), form), form


async def joined(hub: Hub) -> list[Joined]:
    """As an audit reads a chain, transaction by transaction."""
    rpc, wire = hub.wallet.rpc, Wire(hub.address, hub.precompile)
    last = (await rpc.block("latest")).number
    logs = await rpc.logs(wire.emitters, hub.start_block, last, [wire.topics])
    return [await _of(rpc, wire, tx, list(group)) for tx, group in groupby(logs, lambda log: log.tx_hash)]


async def _of(rpc: Rpc, wire: Wire, tx: bytes, logs: list[RawLog]) -> Joined:
    (called,) = await rpc.called([tx])
    events = [event for event in map(wire.decode, logs) if event is not None]
    return join(wire, called, events)


async def test_by_way_of_the_hub_and_past_it(hub: tuple[Hub, Form]) -> None:
    stage, form = hub
    await stage.run(request(3), Planned("first", output(30)))
    await stage.run_past(request(4), Planned("second", output(40)))
    ((first,), (second,)) = [one.inferences for one in await joined(stage)]
    assert (first.inference, first.model, first.sender) == ("first", "bafymodel", stage.wallet.address)
    assert (first.asked, first.input, first.output) == (request(3), request(3).input, output(30))
    assert (second.asked, second.input) == (request(4), request(4).input)
    # past the hub, only the full form shows what came out
    assert second.output == (output(40) if form is Form.FULL else None)
    assert (first.request is None) == (form is Form.BRIEF)
    assert first.subject == keccak(b"first")


async def test_several_in_one_transaction_stay_in_order(hub: tuple[Hub, Form]) -> None:
    """A contract asks: no call data speak for any of them."""
    stage, form = hub
    names = ["a", "b", "c", "d"]
    requests = [request(n, f"bafy{name}") for n, name in enumerate(names)]
    answers = [Planned(name, output(n)) for n, name in enumerate(names)]
    await stage.run_many(requests, answers, through_hub=3)
    (found,) = await joined(stage)
    assert [one.inference for one in found.inferences] == names
    assert [one.model for one in found.inferences] == [f"bafy{name}" for name in names]
    shown = [output(n) for n in range(4)]
    if form is Form.FULL:
        assert [one.input for one in found.inferences] == [one.input for one in requests]
        assert [one.output for one in found.inferences] == shown
        assert found.unjoined == ()
    else:
        assert [one.input for one in found.inferences] == [None] * 4
        assert [one.output for one in found.inferences] == [*shown[:3], None]
        assert len(found.unjoined) == 4
        assert "does not tell its input" in found.unjoined[0].why


async def test_alike_inferences_are_told_apart(hub: tuple[Hub, Form]) -> None:
    stage, _ = hub
    await stage.run_many([request(1)] * 2, [Planned("a", output(1)), Planned("b", output(1))], through_hub=2)
    (found,) = await joined(stage)
    assert [one.inference for one in found.inferences] == ["a", "b"]
    assert len({one.at.log_index for one in found.inferences}) == 2


# --- what no honest deployment writes, as values

HUB, USER = "0x" + "4b" * 20, "0x" + "05" * 20
WIRE = Wire(HUB)


def log(index: int) -> RawLog:
    return RawLog(HUB, (), b"", 9, b"b" * 32, index, b"t" * 32)


def inferred(index: int, output: ModelOutput | None, request: Request | None = None) -> Inferred:
    return Inferred(log(index), Form.FULL, f"id {index}", Mode.VANILLA, "bafy", request, output)


def called(data: bytes, to: str | None = HUB) -> Called:
    return Called(b"t" * 32, USER, to, data)


def test_a_report_without_the_precompiles_event_has_its_call_data() -> None:
    found = join(WIRE, called(run_call(request(5))), [Reported(log(2), output(7))])
    (one,) = found.inferences
    assert (one.inference, one.model, one.asked, one.output) == ("", "bafymodel", request(5), output(7))
    assert one.subject == keccak(b"t" * 32 + (2).to_bytes(8, "big"))
    assert found.unjoined == ()


def test_two_reports_without_the_precompiles_event_are_not_guessed_at() -> None:
    found = join(WIRE, called(run_call(request(5))), [Reported(log(2), output(7)), Reported(log(3), output(7))])
    assert found.inferences == ()
    assert [one.at.log_index for one in found.unjoined] == [2, 2, 3]
    assert "for one inference, and 0" in found.unjoined[0].why


def test_a_report_of_another_output_is_not_joined() -> None:
    found = join(WIRE, called(b"", USER), [inferred(1, output(1), request(1)), Reported(log(2), output(2))])
    assert [one.output for one in found.inferences] == [output(1)]
    assert [one.at.log_index for one in found.unjoined] == [2]


def test_a_report_joins_the_event_right_before_it() -> None:
    both = [inferred(1, output(1), request(1)), inferred(2, None, request(2)), Reported(log(3), output(1))]
    found = join(WIRE, called(b"", USER), both)
    assert [one.output for one in found.inferences] == [output(1), output(1)]
    second = join(WIRE, called(b"", USER), [*both, Reported(log(4), output(1))])
    assert [one.at.log_index for one in second.unjoined] == [4]


def test_call_data_that_are_none_and_a_transaction_that_is_not_known() -> None:
    given = [inferred(1, output(1), request(1))]
    broken = join(WIRE, called(run_call(request(1))[:90]), given)
    assert "call data does not decode" in broken.unjoined[0].why
    assert broken.inferences[0].asked is None
    unknown = join(WIRE, None, given)
    assert unknown.inferences[0].sender == ""
    assert "does not know the transaction" in unknown.unjoined[0].why


@pytest.mark.parametrize("hub", [Form.BRIEF], indirect=True)
async def test_nothing_is_put_together_across_a_log_that_cannot_be_read(hub: tuple[Hub, Form]) -> None:
    """The report after it may be of the inference that it told of: the one before must not be held to that answer."""
    stage, _ = hub
    await stage.run_many([request(1), request(2)], [Planned("a", output(1)), Planned("b", output(2))], through_hub=2)
    rpc, wire = stage.wallet.rpc, Wire(stage.address, stage.precompile)
    last = (await rpc.block("latest")).number
    events = list(map(wire.decode, await rpc.logs(wire.emitters, stage.start_block, last, [wire.topics])))
    assert [type(event) for event in events] == [Inferred, Reported, Inferred, Reported]
    first, _, _, of_the_second = events
    told = join(wire, None, [first, None, of_the_second])
    (alone,) = told.inferences
    assert (alone.inference, alone.output, alone.told) == ("a", None, False)
    assert any("nothing says of which" in one.why for one in told.unjoined)
