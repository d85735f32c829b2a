"""Text by a model's own tokenizer: in a confined worker, whatever the tokenizer's file asks for."""

import json
from hashlib import sha256

import pytest
import tokenizers

from replay import tokens
from replay.errors import FileMismatch, InputRejected, MalformedFile, UnsupportedModel
from replay.sandbox import Described, Inconclusive, Limits, Reason, ReplayPool, ReplayRequest

CHARACTERS = {"type": "characters", "vocabulary": "\nabc"}


def folder(path, document):
    """(manifest, its digest) of a folder with this tokenizer; only the tokenizer is ever looked at."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    (path / "tokenizer.json").write_bytes(data)
    manifest = path / "manifest.json"
    manifest.write_text(json.dumps({"files": {"tokenizer.json": sha256(data).hexdigest()}}))
    return manifest, sha256(manifest.read_bytes()).digest()


def words():
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "one": 7, "two": 8}, "[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made


def doubling(times):
    """A few hundred bytes a step, and each step doubles the text."""
    made = words()
    step = tokenizers.normalizers.Replace("a", "aa")
    made.normalizer = tokenizers.normalizers.Sequence([step] * times)
    return made.to_str().encode()


def test_sentences_become_token_ids_by_the_models_own_tokenizer(tmp_path):
    made = words()
    made.enable_padding(length=20)
    made.enable_truncation(2)
    named = folder(tmp_path, made.to_str().encode())
    assert tokens.encode(*named, "one two three") == ([7, 8, 0], f"tokenizers {tokenizers.__version__}")
    assert tokens.decode(*named, [7, 8]) == "one two"
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(FileMismatch, match="digest differs"):
        tokens.encode(*named, "one")
    with pytest.raises(FileMismatch, match="manifest's digest"):
        tokens.encode(named[0], bytes(32), "one")


def test_text_becomes_the_ids_of_its_characters(tmp_path):
    named = folder(tmp_path, CHARACTERS)
    assert tokens.encode(*named, "cab\n") == ([3, 1, 2, 0], "characters")
    assert tokens.decode(*named, [3, 1, 9]) == "ca\ufffd"
    with pytest.raises(InputRejected, match=r"'\\xe9'"):
        tokens.encode(*named, "ab\u00e9")
    for document in (CHARACTERS | {"vocabulary": ["a"]}, {"type": "letters"}, {"model": []}, [], b"{", b"\xff"):
        with pytest.raises(MalformedFile):
            tokens.encode(*folder(tmp_path, document), "a")
    (tmp_path / "manifest.json").write_text('{"files":{"model.onnx":"' + "0" * 64 + '"}}')
    with pytest.raises(InputRejected, match="needs a model with"):
        tokens.encode(tmp_path / "manifest.json", sha256((tmp_path / "manifest.json").read_bytes()).digest(), "a")


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "dropout": 3}, "merges": ["a b"]}


def described(**changes):
    return json.loads(words().to_str()) | {"model": BPE} | changes


def sequence(kind, inside):
    return {"type": "Sequence", kind: [{"type": "Sequence", kind: [inside]}]}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (described(model=BPE | {"dropout": 0.5}), "dropout"),
        (described(model={"vocab": BPE["vocab"], "merges": ["a b"], "dropout": 1e-9}), "dropout"),
        (described(decoder=sequence("decoders", {"type": "Fuse", "dropout": 0.1})), "dropout"),
        (described(model=BPE | {"type": "Sampled"}), "'Sampled'"),
        (described(model={"type": ["BPE"]}), "model"),
        (described(decoder={"type": {}}), "decoder"),
        (described(decoder=[[]]), "decoder"),
        (described(normalizer={"type": "Noise"}), "'Noise'"),
        (described(pre_tokenizer=sequence("pretokenizers", {"type": "Shuffle"})), "'Shuffle'"),
        (described(post_processor={"type": "Sequence", "processors": [{"single": []}]}), "None"),
        # which of two names one id has is drawn by a process when it reads the file
        (described(model=BPE | {"vocab": {"a": 0, "b": 1, "ab": 2, "c": 2}}), "one id"),
    ],
)
def test_a_tokenizer_that_could_say_something_else_the_next_time_is_refused(document, why):
    with pytest.raises(UnsupportedModel, match=why):
        tokens.read_tokenizer(json.dumps(document).encode())


@pytest.mark.parametrize("model", [BPE, BPE | {"dropout": None}, BPE | {"dropout": 0.0}])
def test_a_tokenizer_without_anything_drawn_is_read(model):
    normalizer = sequence("normalizers", {"type": "NFC"})
    made = tokens.read_tokenizer(json.dumps(described(model=model, normalizer=normalizer)).encode())
    assert made.encode("ab") == [2]


def test_a_member_given_twice_is_refused():
    """Which of the two counts is the library's to know."""
    doubled = json.dumps(described(model=BPE | {"dropout": 0.5})).replace(
        '"dropout": 0.5', '"dropout": 0.5, "dropout": null'
    )
    with pytest.raises(MalformedFile, match="twice"):
        tokens.read_tokenizer(doubled.encode())


@pytest.mark.slow
async def test_a_hostile_tokenizer_ends_at_the_limits_of_its_worker(tmp_path):
    limits = Limits(memory_bytes=1 << 30, cpu_seconds=30, wall_seconds=30)

    def request(document):
        (tmp_path / str(len(document))).mkdir()
        manifest, digest = folder(tmp_path / str(len(document)), document)
        return ReplayRequest(manifest, digest, None, None, 1, b"", "numpy")

    good = request(json.dumps(CHARACTERS).encode())
    async with ReplayPool(limits=limits) as pool:
        assert await pool.encode(good, b"abc") == Described({"ids": [1, 2, 3], "by": "characters"})
        assert await pool.decode(good, [1, 2]) == Described({"text": "ab"})
        for bad in (request(doubling(34)), request(doubling(40))):
            outcome = await pool.encode(bad, b"aaaa")
            assert isinstance(outcome, Inconclusive)
            assert outcome.reason in (Reason.MEMORY, Reason.TIMEOUT), outcome
            assert "\n" not in outcome.detail
        assert (await pool.encode(request(b'{"version":"9"}'), b"a")).reason is Reason.MODEL_REJECTED
        assert (await pool.encode(good, "\u00e9".encode())).reason is Reason.INPUT_REJECTED
        assert await pool.encode(good, b"abc") == Described({"ids": [1, 2, 3], "by": "characters"})
