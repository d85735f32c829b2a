"""The audit, end to end on the embedded chain: honest nodes, nodes that are off, and what was never a node's answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from opengradient_stage import Stage, keep, publish, rows, softmax_model, stage

from challenger.chain.hashing import keccak
from challenger.errors import OwnDisk
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.audit import Checked, Standing
from challenger.protocols.opengradient.join import Inference, Unjoined
from challenger.protocols.opengradient.numbers import Number, NumberTensor
from challenger.protocols.opengradient.replaying import Ran, Replayer
from challenger.protocols.opengradient.wire import Form, Mode, ModelInput, Request, StringTensor
from challenger.sim.opengradient.hub import Planned
from challenger.sim.opengradient.nodes import Conduct, request, served
from replay.artifacts.ipfs.build import file_cid
from replay.artifacts.ipfs.cid import Cid

C, S = Conduct, Standing


@pytest.fixture
async def full(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as made:
        yield made


def told(found: list[Checked | Unjoined]) -> dict[str, Checked]:
    return {one.inference.inference: one for one in found if isinstance(one, Checked)}


def only(checked: Checked) -> Finding:
    (found,) = checked.findings
    assert found.subject == keccak(checked.inference.inference.encode())
    assert found.at == checked.inference.at
    assert found.facts["model"] == checked.inference.model
    return found


@pytest.mark.parametrize("form", list(Form))
async def test_every_conduct_as_the_audit_finds_it(tmp_path: Path, form: Form) -> None:
    async with stage(tmp_path, form) as s:
        ids = {conduct: await s.ask(conduct) for conduct in C}
        found = await s.audit()
        assert not [one for one in found if isinstance(one, Unjoined)]
        stands = told(found)
        assert list(stands) == list(ids.values())
        for conduct in (C.HONEST, C.CANONICAL):
            assert stands[ids[conduct]].standing in (S.EQUAL, S.WITHIN)
            assert stands[ids[conduct]].findings == ()
        assert stands[ids[C.CANONICAL]].standing is S.EQUAL
        nodes = s.hub.precompile
        expected = {
            C.ROUNDED: ("distant-output", Ground.DISTANCE, "nodes → chain", nodes),
            C.TWIN: ("distant-output", Ground.DISTANCE, "nodes → chain", nodes),
            C.OFF: ("distant-output", Ground.DISTANCE, "nodes → chain", nodes),
            C.SIMULATED: ("simulated-result", Ground.PROOF, "nodes → chain", nodes),
            C.MISSING: ("no-result", Ground.ABSENCE, "nodes → chain", nodes),
            C.MALFORMED: ("malformed-number", Ground.PROOF, "nodes → chain", nodes),
        }
        for conduct, (kind, ground, hop, party) in expected.items():
            one = only(stands[ids[conduct]])
            assert (one.kind, one.ground, one.hop, one.party) == (kind, ground, hop, party)
        # the model that was served is another one than was asked for, and nobody published it
        substituted, missing = stands[ids[C.SWAPPED]].findings
        assert (substituted.kind, substituted.ground) == ("request-substituted", Ground.PROOF)
        assert substituted.facts["asked_model"] == s.model.cid
        assert substituted.hop == "requester → nodes"
        assert (missing.kind, missing.ground) == ("model-unavailable", Ground.ABSENCE)
        off = only(stands[ids[C.OFF]])
        assert "'p': 6 of 6 differ" in off.facts["distance"]
        assert off.facts["tolerance"] == "0.0001 + 0.001·|ours|"
        assert off.facts["tolerance"] in off.said


async def test_an_ordinary_run_is_never_called_wrong_and_a_declared_one_is(full: Stage) -> None:
    """Where canonical numerics are declared, the last bit counts; everywhere else it is a distance."""
    await full.ask(C.CANONICAL)
    await full.ask(C.ROUNDED)
    plain = told(await full.audit())
    assert [one.standing for one in plain.values()] == [S.EQUAL, S.BEYOND]
    assert {one.ground for checked in plain.values() for one in checked.findings} == {Ground.DISTANCE}
    honest, rounded = told(await full.audit(full.terms([full.model.cid]))).values()
    assert (honest.standing, honest.findings) == (S.EQUAL, ())
    assert rounded.standing is S.WRONG
    one = only(rounded)
    assert (one.kind, one.ground, one.facts["confirmed"]) == ("wrong-output", Ground.PROOF, "numpy")


async def test_past_the_hub_and_within_a_contract(full: Stage) -> None:
    inside = [full.nodes.answer(full.model, rows(n), C.CANONICAL) for n in (1, 2)]
    await full.hub.run_many([request(full.model, rows(n)) for n in (1, 2)], inside, through_hub=1)
    await full.ask(C.OFF, past=True)
    stands = list(told(await full.audit()).values())
    assert [one.standing for one in stands] == [S.EQUAL, S.EQUAL, S.BEYOND]


async def test_two_of_one_model_at_once_prepare_it_once(full: Stage) -> None:
    inside = [full.nodes.answer(full.model, rows(n), C.CANONICAL) for n in (1, 2)]
    await full.hub.run_many([request(full.model, rows(n)) for n in (1, 2)], inside, through_hub=1)
    stands = list(told(await full.audit(together=2)).values())
    assert [one.standing for one in stands] == [S.EQUAL, S.EQUAL]


class Failing:
    """A store whose first answers are trouble of our own."""

    def __init__(self, stage: Stage, times: int) -> None:
        self._stage = stage
        self.left = times
        self.asked = 0

    async def fetch_cid(self, uri: str, max_bytes: int = 1 << 20) -> Path:
        self.asked += 1
        await asyncio.sleep(0)  # so that the others come in between
        if self.left:
            self.left -= 1
            raise OwnDisk("no room")
        return await self._stage.store.fetch_cid(uri, max_bytes)


async def test_a_preparation_that_fails_is_tried_again_by_the_next(full: Stage) -> None:
    await full.ask(C.CANONICAL)
    (checked,) = told(await full.audit()).values()
    models = Failing(full, 1)
    async with Replayer(models, full.pool, full.folder / "again", model_bytes=1 << 20) as replayer:
        ran = await asyncio.gather(
            *(replayer.run(checked.inference, "numpy") for _ in range(3)), return_exceptions=True
        )
    assert [type(one) for one in ran] == [OwnDisk, Ran, Ran]
    assert models.asked == 2


async def test_a_disk_that_fails_is_ours_and_no_end(full: Stage) -> None:
    """The file is gone between fetch and use."""
    await full.ask(C.CANONICAL)
    (checked,) = told(await full.audit()).values()

    class Gone:
        async def fetch_cid(self, uri: str, max_bytes: int = 1 << 20) -> Path:
            return full.folder / uri / str(max_bytes)

    async with Replayer(Gone(), full.pool, full.folder / "again", model_bytes=1 << 20) as replayer:
        for _ in range(2):
            with pytest.raises(OwnDisk):
                await replayer.run(checked.inference, "numpy")


async def test_the_brief_form_within_a_contract_tells_no_input(tmp_path: Path) -> None:
    async with stage(tmp_path, Form.BRIEF) as s:
        inside = [s.nodes.answer(s.model, rows(1), C.CANONICAL)]
        await s.hub.run_many([request(s.model, rows(1))], inside, through_hub=1)
        await s.ask(C.CANONICAL, past=True)
        left, inner, outer = await s.audit()
        assert isinstance(left, Unjoined)
        assert isinstance(inner, Checked)
        assert (inner.standing, inner.said, inner.findings) == (S.OPEN, "its input is not on chain", ())
        # nothing on chain would show what came out: a node that answered its caller is not accused of silence
        assert isinstance(outer, Checked)
        assert (outer.standing, outer.findings) == (S.NO_OUTPUT, ())


async def test_a_model_that_nobody_has(full: Stage) -> None:
    unknown = served(softmax_model(full.folder / "unknown", 7))
    await full.ask(C.CANONICAL, model=unknown)
    (missing,) = told(await full.audit()).values()
    assert missing.standing is S.NO_MODEL
    one = only(missing)
    assert (one.kind, one.ground, one.hop) == ("model-unavailable", Ground.ABSENCE, "model registry → nodes")
    assert one.party == "0x" + Cid.parse(unknown.cid).binary.hex()
    publish(full.blocks, unknown)
    (there,) = told(await full.audit()).values()
    assert (there.standing, there.findings) == (S.EQUAL, ())


async def test_a_model_whose_bytes_are_others(full: Stage) -> None:
    """They are never run; that everything we were served is something else is told, and proves nothing."""
    other = served(softmax_model(full.folder / "unknown", 7))
    await full.ask(C.CANONICAL, model=other)
    (full.blocks / other.cid).write_bytes((full.blocks / full.model.cid).read_bytes())
    (differs,) = told(await full.audit()).values()
    assert differs.standing is S.NO_MODEL
    one = only(differs)
    assert (one.kind, one.ground) == ("model-differs", Ground.ABSENCE)


async def test_a_draw_leaves_out_the_replay_and_none_of_the_looks(full: Stage) -> None:
    for conduct in (C.OFF, C.OFF, C.SIMULATED, C.MALFORMED):
        await full.ask(conduct)
    drawn: list[Inference] = []

    def draw(inference: Inference) -> bool:
        drawn.append(inference)
        return len(drawn) == 2

    stands = list(told(await full.audit(drawn=draw)).values())
    assert [one.standing for one in stands] == [S.UNDRAWN, S.BEYOND, S.NO_OUTPUT, S.NO_OUTPUT]
    assert [len(one.findings) for one in stands] == [0, 1, 1, 1]
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (ModelInput((), (StringTensor("x", ("a",)),)), "strings"),
        (ModelInput((NumberTensor("other", (Number(1, 0),) * 4, (1, 4)),)), "the model wants ['x']"),
        (ModelInput((NumberTensor("x", (Number(1, 0),) * 5, (1, 5)),)), "input-rejected"),
        (ModelInput((NumberTensor("x", (Number(1, 0),), ()),)), "dimension"),
    ],
)
async def test_what_cannot_be_run_is_open_and_nobodys_fault(full: Stage, given: ModelInput, why: str) -> None:
    answer = full.nodes.answer(full.model, rows(1), C.CANONICAL)
    await full.hub.run(Request(Mode.VANILLA, full.model.cid, given), answer)
    (one,) = told(await full.audit()).values()
    assert (one.standing, one.findings) == (S.OPEN, ())
    assert why in one.said


async def test_an_input_that_is_no_tensor_is_the_requesters(full: Stage) -> None:
    answer = full.nodes.answer(full.model, rows(1), C.CANONICAL)
    given = ModelInput((NumberTensor("x", (Number(1, 19),) * 4, (1, 4)),))
    await full.hub.run(Request(Mode.VANILLA, full.model.cid, given), answer)
    (one,) = told(await full.audit()).values()
    found = only(one)
    assert (found.kind, found.hop, found.party) == ("malformed-input", "requester → nodes", full.hub.wallet.address)
    assert one.standing is S.OPEN


async def test_a_model_that_is_no_model_is_open(full: Stage) -> None:
    for content in (b"", b"no model at all" * 100):
        bogus = full.folder / "bogus"
        bogus.mkdir(exist_ok=True)
        (bogus / "model.onnx").write_bytes(content)
        cid = file_cid(content, sink=partial(keep, full.blocks))
        answer = Planned(f"bogus-{len(content)}", full.nodes.answer(full.model, rows(1), C.CANONICAL).output)
        await full.hub.run(Request(Mode.VANILLA, str(cid), request(full.model, rows(1)).input), answer)
    stands = told(await full.audit())
    assert [(one.standing, one.findings) for one in stands.values()] == [(S.OPEN, ())] * 2
    await full.hub.run(
        Request(Mode.VANILLA, "no CID", request(full.model, rows(1)).input), Planned("nameless", answer.output)
    )
    assert told(await full.audit())["nameless"].standing is S.OPEN
