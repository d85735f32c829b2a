"""Damaged ONNX files: whatever a byte becomes, the importer gives a program or refuses with an error of its own."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from onnx.backend.test.loader import load_model_tests

from replay.errors import ReplayError
from replay.importers.manifest import ModelFiles
from replay.importers.onnx import import_onnx

#: bytes that are ends of a range to protobuf's varints
_ENDS = (0x00, 0x01, 0x7F, 0x80, 0xFF)


@pytest.fixture(scope="module")
def files() -> tuple[bytes, ...]:
    """The small models of the onnx package's node tests, one for each kind of operator and variant of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the package, while it makes its tests
        tests = [test for test in load_model_tests(kind="node") if "expanded" not in test.name]
    return tuple(sorted({test.model.SerializeToString() for test in tests if test.model is not None}))


@st.composite
def damaged(draw: st.DrawFn, files: tuple[bytes, ...]) -> bytes:
    """A model of the onnx package with up to four bytes changed, and perhaps its end cut off or doubled."""
    data = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        flipped = st.integers(0, 7).map(lambda bit, at=at: data[at] ^ (1 << bit))
        data[at] = draw(st.sampled_from(_ENDS) | flipped | st.integers(0, 255))
    end = draw(st.just(len(data)) | st.integers(0, len(data)))
    return bytes(data[:end]) + (bytes(data[end // 2 : end]) if draw(st.booleans()) else b"")


@given(given_=st.data())
def test_a_damaged_file_is_a_program_or_a_typed_refusal(files, given_):
    data = given_.draw(damaged(files))
    try:
        model = import_onnx(ModelFiles("onnx", {"model.onnx": bytearray(data)}, {"model.onnx": "0" * 64}, "hi"))
    except ReplayError as refusal:
        event(type(refusal).__name__)
    else:
        event("a program")
        model.program.validate()
        assert len(model.program_root) == len(model.artefact_root) == 32
