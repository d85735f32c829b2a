"""Recordings that somebody has tampered with, in every way that keeps them recordings: refused with one line, or replayed
to their end. Nothing else happens, and what is refused leaves nothing behind."""

from __future__ import annotations

import copy
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.errors import ChallengerError
from challenger.recording.lines import PART
from replay.recording import RecordingError, open_recording
from tests.recording import written
from tests.recording.test_chain_replay import HereWorkers, replayed, rewritten

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 2**70),
    st.sampled_from(
        ["", "0x", "0x0", "0xffffffffffffffff", "0x" + "ff" * 32, "0x" + "00" * 20, "latest", "\n", "é" * 80]
    ),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.sampled_from(["number", "hash", "logs", "root"]), st.integers(0, 3), max_size=2),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    path = folder / "chain.tar"
    written.write(path, folder / "model", 6, cheat=3, tail=6)
    with open_recording(path) as recording:
        return path, [*recording.lines(PART)]


@st.composite
def tampering(draw):
    """What is done to which line, as numbers: the lines are there when it is done."""
    return (
        draw(st.sampled_from(["replace", "drop", "twice", "swap", "put", "delete"])),
        draw(st.randoms(use_true_random=False)),
        draw(_ODD),
    )


def tampered(lines, how, random, odd):
    lines = copy.deepcopy(lines)
    at = random.randrange(len(lines))
    if how == "drop":
        del lines[at]
    elif how == "twice":
        lines.insert(random.randrange(len(lines)), copy.deepcopy(lines[at]))
    elif how == "swap":
        other = random.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "put":
        lines[at][random.choice(["block", "logs", "receipts", "data", "answer", "deployment", "x"])] = odd
    else:
        here = lines[at]
        while True:
            keys = list(here) if isinstance(here, dict) else list(range(len(here)))
            if not keys:
                return lines
            key = random.choice(keys)
            if isinstance(here[key], dict | list) and here[key] and random.random() < 0.8:
                here = here[key]
                continue
            if how == "delete":
                del here[key]
            else:
                here[key] = odd
            return lines
    return lines


@given(tampering())
async def test_whatever_is_done_to_its_lines(small, what) -> None:
    path, lines = small
    how, random, odd = what
    changed = tampered(lines, how, random, odd)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        target = rewritten(path, folder / "tampered.tar", lambda _: changed)
        said = ""
        try:
            async with replayed(target, folder / "run", HereWorkers()) as watch:
                assert (await watch.play()).entries > 0
        except RecordingError as error:
            said = str(error)
            left = [*(folder / "run").iterdir()]
        except ChallengerError as error:
            # it has the form, and its contract is another one or says nothing where it is asked
            said, left = str(error), []
        assert "\n" not in said
        assert not said or not left


def test_every_byte_of_it_is_bound(small, tmp_path) -> None:
    """One bit of the file, anywhere: another recording, or none."""
    path, lines = small
    whole = path.read_bytes()
    told = json.dumps(lines, sort_keys=True)
    for at in range(0, len(whole), 211):
        (tmp_path / "bit.tar").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with suppress(RecordingError), open_recording(tmp_path / "bit.tar") as recording:
            assert json.dumps([*recording.lines(PART)], sort_keys=True) == told, f"byte {at} changed what it says"
