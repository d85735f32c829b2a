"""Pipes and devices where a file belongs: refused at once, by every reader."""

import os

import pytest

from replay.cli import Failure
from replay.cli.inputs import read_bounded
from replay.errors import MalformedFile
from replay.importers.manifest import read_manifest, write_manifest
from replay.plain import NotPlain, open_plain
from replay.sandbox.engine import ModelEngine
from replay.sandbox.outcome import Refusal


@pytest.fixture(params=["fifo", "device", "folder"])
def odd(request, tmp_path):
    """Reading any of these to its end would wait, or never end."""
    path = tmp_path / "odd"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


def test_only_plain_files_are_opened(odd):
    with pytest.raises(NotPlain, match="odd is no plain file"):
        open_plain(odd)
    with pytest.raises(FileNotFoundError):
        open_plain(odd.with_name("nothing"))
    plain = odd.with_name("plain")
    plain.write_bytes(b"abc")
    with open_plain(plain) as opened:
        assert opened.read() == b"abc"


def test_an_input_or_a_manifest_that_is_no_plain_file_is_refused_in_one_line(odd):
    with pytest.raises(Failure, match="is no plain file"):
        read_bounded(odd, 100)
    with pytest.raises(MalformedFile, match="not a plain file"):
        read_manifest(odd)
    with pytest.raises(Refusal, match="cannot be read"):
        ModelEngine().describe({"manifest": str(odd), "file_digest": None, "spec_version": 1})


def test_a_model_file_that_is_no_plain_file_is_refused(odd):
    model = odd.with_name("model.onnx")
    model.write_bytes(b"x")
    manifest = write_manifest(odd.parent, "onnx", ["model.onnx"])
    model.unlink()
    odd.rename(model)
    with pytest.raises(MalformedFile, match="not a plain file"):
        read_manifest(manifest)
