"""The recording format: what is written is read, a version-1 file loads for ever, and what was changed is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replay.recording import (
    RecordingDamaged,
    RecordingError,
    RecordingExists,
    RecordingMalformed,
    RecordingTooLarge,
    RecordingUnreadable,
    RecordingVersion,
    RecordingWriter,
    open_recording,
)
from replay.recording.manifest import LINES, canonical

FIRST = Path(__file__).parent / "data" / "recording_v1.tar"
LINE = {"run": 0, "text": "ü", "big": 2**70}
ARRAYS = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.array([1, -1], np.int32), "on": np.array([True])}


def written(path):
    with RecordingWriter(path, ["runs"]) as writer:
        with writer.lines("runs.jsonl.zst") as add:
            for number in range(3):
                add({**LINE, "run": number})
        writer.tensors("tensors/000000.safetensors.zst", ARRAYS)
        writer.raw("model/model.bin", [b"ab", b"", b"c"])
    return path


def everything(path):
    """All that a recording says: what a consumer would have believed."""
    with open_recording(path) as recording:
        said = []
        for name, part in recording.manifest.parts.items():
            said += list(recording.lines(name)) if part.media == LINES else [b"".join(recording.unpacked(name))]
        return said


def refused(path, kind=RecordingError):
    with pytest.raises(kind) as caught:
        everything(path)
    line = str(caught.value)
    assert line.isprintable()
    return line


def by_hand(folder, files, **changed):
    """A recording as somebody without this package writes it. ``files``: name → (media, plain bytes or what is stored)."""
    folder.mkdir()
    parts = []
    for name, (media, plain) in files.items():
        stored = zstandard.ZstdCompressor().compress(plain) if name.endswith(".zst") else plain
        (folder / name).write_bytes(stored)
        parts.append(
            {
                "name": name,
                "media": media,
                "length": len(stored),
                "sha256": sha256(stored).hexdigest(),
                "plain": len(plain),
            }
        )
    for key in ("length", "plain", "sha256", "name", "media"):
        if key in changed:
            parts[0][key] = changed[key]
    document = {"format": "inference-recording", "version": 1, "kinds": ["runs"], "creator": "hand", "parts": parts}
    document |= {key: value for key, value in changed.items() if key in document}
    document["digest"] = sha256(canonical(document)).hexdigest()
    (folder / "manifest.json").write_bytes(json.dumps(document, indent=1).encode())
    return folder


@pytest.mark.parametrize("name", ["folder", "file.tar"])
def test_what_is_written_is_read(tmp_path, name):
    path = written(tmp_path / name)
    with open_recording(path) as recording:
        assert recording.manifest.kinds == ("runs",)
        one, other = recording.lines("runs.jsonl.zst"), recording.lines("runs.jsonl.zst")
        assert [next(one), next(other), *one, *other] == [{**LINE, "run": n} for n in (0, 0, 1, 2, 1, 2)]
        arrays = recording.tensors("tensors/000000.safetensors.zst")
        assert b"".join(recording.raw("model/model.bin")) == b"abc"
    assert set(arrays) == set(ARRAYS)
    for key, array in ARRAYS.items():
        assert arrays[key].dtype == array.dtype
        assert np.array_equal(arrays[key], array)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_equal_contents_have_equal_bytes_and_one_identity(tmp_path):
    one, two, folder = (written(tmp_path / name) for name in ("a.tar", "b.tar", "c"))
    assert one.read_bytes() == two.read_bytes()
    subprocess.run(["tar", "cf", tmp_path / "d.tar", "-C", folder, "."], check=True)
    digests = set()
    for path in (one, folder, tmp_path / "d.tar"):
        with open_recording(path) as recording:
            digests.add(recording.manifest.digest)
    assert len(digests) == 1


def test_a_version_1_recording_loads_for_ever():
    """The file is committed: it must never be written anew."""
    assert sha256(FIRST.read_bytes()).hexdigest() == "c122b595edd5ae110851f92dc7cf7d4b8b9e26f23cb18e6f6cd754409937545e"
    with open_recording(FIRST) as recording:
        assert recording.manifest.version == 1
        assert list(recording.lines("runs.jsonl.zst")) == [{**LINE, "run": n} for n in range(3)]
        assert recording.tensors("tensors/000000.safetensors.zst")["ids"].tolist() == [1, -1]
        assert b"".join(recording.raw("model/model.bin")) == b"abc"


def test_nothing_is_written_over_and_an_exception_leaves_nothing(tmp_path):
    for name in ("folder", "file.tar"):
        path = tmp_path / name
        with pytest.raises(ZeroDivisionError), RecordingWriter(path, ["runs"]) as writer:
            writer.raw("a.bin", [b"1"])
            1 / 0  # noqa: B018
        assert list(tmp_path.iterdir()) == []
        written(path)
        before = everything(path)
        with pytest.raises(RecordingExists), RecordingWriter(path, ["runs"]):
            pass
        assert everything(path) == before
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        with pytest.raises(RecordingExists), RecordingWriter(path, ["runs"]) as writer:
            path.mkdir()
            (path / "other").touch()
        shutil.rmtree(path)


def test_a_recording_written_by_hand_is_read(tmp_path):
    files = {"runs.jsonl.zst": (LINES, b'{"run": 0}\n{}\n'), "notes.txt": ("application/octet-stream", b"hello")}
    assert everything(by_hand(tmp_path / "hand", files)) == [{"run": 0}, {}, b"hello"]


@pytest.mark.parametrize(
    ("plain", "changed", "kind", "why"),
    [
        (b"{}\n", {"version": 2}, RecordingVersion, "2; known are 1"),
        (b"{}\n", {"version": True}, RecordingMalformed, "version"),
        (b"{}\n", {"format": "zip"}, RecordingMalformed, "format"),
        (b"{}\n", {"kinds": []}, RecordingMalformed, "kinds"),
        (b"{}\n", {"sha256": "0" * 64}, RecordingDamaged, "sha256"),
        (b"{}\n", {"length": 1}, RecordingDamaged, "the manifest says 1"),
        (b"{}\n", {"length": 1 << 40}, RecordingTooLarge, "1099511627776"),
        (b"{}\n", {"plain": 2}, RecordingDamaged, "more than the 2 bytes"),
        (b"{}\n", {"plain": 4}, RecordingDamaged, "unpacks to 3 bytes and declares 4"),
        (bytes(1 << 24), {"plain": 100}, RecordingDamaged, "more than the 100 bytes"),
        (b"[" + b" " * (17 << 20) + b"]\n", {}, RecordingTooLarge, "a line of more than"),
        (b"{}", {}, RecordingMalformed, "the last line has no end (part=a.jsonl.zst, line=1)"),
        (b'{}\n{"a":1,"a":2}\n', {}, RecordingMalformed, "a key stands twice"),
        (b"[]\n", {}, RecordingMalformed, "not a JSON object"),
        (b"[" * 100 + b"\n", {}, RecordingMalformed, "not JSON"),
        (b"{}\n", {"name": "../a.jsonl.zst"}, RecordingMalformed, "no usable name"),
        (b"{}\n", {"name": "/a.jsonl.zst"}, RecordingMalformed, "no usable name"),
        (b"{}\n", {"name": "manifest.json"}, RecordingMalformed, "no usable name"),
        (b"{}\n", {"media": "text/html"}, RecordingMalformed, "media type"),
    ],
)
def test_lies_and_bombs_are_refused(tmp_path, plain, changed, kind, why):
    folder = by_hand(tmp_path / "r", {"a.jsonl.zst": (LINES, plain)}, **changed)
    if changed.get("name", "").endswith("zst"):
        shutil.copy(folder / "a.jsonl.zst", tmp_path / "a.jsonl.zst")
    assert why in refused(folder, kind)


def test_what_the_manifest_does_not_name_is_refused(tmp_path):
    folder = written(tmp_path / "r")
    (folder / "more").write_bytes(b"")
    assert "the manifest does not name it (part=more)" in refused(folder, RecordingMalformed)
    (folder / "more").unlink()
    (folder / "runs.jsonl.zst").rename(tmp_path / "elsewhere")
    assert "it is missing" in refused(folder, RecordingDamaged)
    (folder / "runs.jsonl.zst").symlink_to(tmp_path / "elsewhere")
    assert "a link" in refused(folder, RecordingMalformed)
    assert "No such file" in refused(tmp_path / "nothing", RecordingUnreadable)


def test_a_member_twice_and_a_link_in_a_tar_are_refused(tmp_path):
    folder, path = written(tmp_path / "r"), tmp_path / "r.tar"
    subprocess.run(["tar", "cf", path, "-C", folder, "manifest.json", "model", "runs.jsonl.zst", "tensors"], check=True)
    assert len(everything(path)) == 5
    subprocess.run(["tar", "rf", path, "-C", folder, "runs.jsonl.zst"], check=True)
    assert "stands twice" in refused(path, RecordingMalformed)
    path.unlink()
    (folder / "link").symlink_to("manifest.json")
    subprocess.run(["tar", "cf", path, "-C", folder, "."], check=True)
    assert "a link" in refused(path, RecordingMalformed)


def test_a_compressed_tar_is_no_recording(tmp_path):
    subprocess.run(["tar", "czf", tmp_path / "r.tar", "-C", written(tmp_path / "r"), "."], check=True)
    assert "no tar header at byte 0" in refused(tmp_path / "r.tar", RecordingMalformed)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_or_a_cut_is_refused_or_changes_nothing(tmp_path, data):
    whole = FIRST.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(-1, 7))
    changed = bytearray(whole[:at] if bit < 0 else whole)
    if bit >= 0:
        changed[at] ^= 1 << bit
    path = tmp_path / "changed.tar"
    path.write_bytes(changed)
    try:
        said = everything(path)
    except RecordingError as error:
        said = [str(error).isprintable()]
    assert said in ([True], everything(FIRST))  # padding behind a file's end, or a cut in the end mark


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(max_size=700), kind=st.sampled_from(["a.jsonl.zst", "a.safetensors.zst", "manifest.json", "a.tar"])
)
def test_noise_is_refused(tmp_path, noise, kind):
    folder = tmp_path / "r"
    shutil.rmtree(folder, ignore_errors=True)
    if kind == "a.tar":
        (tmp_path / kind).write_bytes(noise)
        assert refused(tmp_path / kind)
    elif kind == "manifest.json":
        folder.mkdir()
        (folder / kind).write_bytes(noise)
        assert refused(folder)
    elif kind == "a.jsonl.zst":
        by_hand(folder, {kind: (LINES, noise)})
        if noise:
            assert refused(folder)
    else:
        by_hand(folder, {kind: ("application/safetensors+zstd", noise)})
        with open_recording(folder) as recording, pytest.raises(RecordingMalformed, match="no safetensors file"):
            recording.tensors(kind)


@pytest.mark.parametrize("stored", [b"", b"\x28\xb5\x2f\xfd", b"junk"])
def test_what_is_no_zstd_is_refused(tmp_path, stored):
    folder = by_hand(
        tmp_path / "r", {"a.jsonl.zst": (LINES, b"{}\n")}, length=len(stored), sha256=sha256(stored).hexdigest()
    )
    (folder / "a.jsonl.zst").write_bytes(stored)
    refused(folder)


def test_memory_is_constant_in_the_length(tmp_path):
    """12,000 lines, 60 MB unpacked, written and read in far less."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom replay.recording import RecordingWriter, open_recording\n"
        "path = Path(sys.argv[1])\nline = {'text': 'x' * 5000}\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "with RecordingWriter(path, ['runs']) as w, w.lines('a.jsonl.zst') as add:\n"
        "    for _ in range(12_000): add(line)\n"
        "with open_recording(path) as r: assert sum(1 for _ in r.lines('a.jsonl.zst')) == 12_000\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "long.tar"], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 40 << 10  # KiB


def test_the_page_is_run(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "recordings.md").read_text(encoding="utf-8")
    code = page.split("### In Python")[1].split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out == "hello\n"
