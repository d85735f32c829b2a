"""Honest settlements give no finding, and each way to break one gives its own, with the right party."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from settlement_stage import (
    PAYER,
    SETTLER,
    Past,
    blob_id,
    dump,
    infer,
    measurement,
    payload,
    root_of,
    sign,
    tee,
)

from challenger.chain.hashing import keccak
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.settlement.check import Limits, findings
from challenger.protocols.opengradient.settlement.fetch import Served
from challenger.protocols.opengradient.settlement.registry import Approved, Revoked, Switched
from challenger.protocols.opengradient.settlement.settled import Inference

ENCLAVE = "0x" + tee(0).hex()


@st.composite
def honest(draw) -> Past:
    """Enclaves that sign only while they may, beat in time, and are settled within the hour, in batches or alone."""
    past = Past()
    fleet = draw(st.integers(1, 3))
    past.enrol(*range(fleet))
    on = dict.fromkeys(range(fleet), True)
    asked = 0
    waiting: list[Inference] = []
    for _ in range(draw(st.integers(1, 6))):
        past.tick(draw(st.integers(1, 1800)))
        for which in range(fleet):
            change = draw(st.sampled_from(["", "", "", "switch", "revoke"]))
            if change == "switch":
                on[which] = not on[which]
                past.change(Switched(tee(which), on=on[which]))
            elif change == "revoke":  # as the contract does it, and back
                alike = [n for n in on if n % 2 == which % 2]
                past.change(*(Switched(tee(n), on=False) for n in alike if on[n]), Revoked(measurement(which % 2), 0))
                on |= dict.fromkeys(alike, False)
                past.change(Approved(measurement(which % 2), 0, None))
        past.beat(*(which for which in on if on[which]))
        for which in on:
            for _ in range(draw(st.integers(0, 2)) if on[which] else 0):
                asked += 1
                waiting.append(infer(which, asked, past.time))
        waiting = draw(st.permutations(waiting))
        past.tick(draw(st.integers(0, 1)))
        if waiting and draw(st.booleans()):
            past.single(waiting.pop())
        if waiting:
            past.batch(waiting)
            waiting = []
    return past


@settings(max_examples=40)
@given(honest())
def test_honest_histories_give_no_finding(past: Past) -> None:
    assert findings(past.evidence()) == []


@settings(max_examples=20)
@given(honest())
def test_without_blobs_there_is_no_finding_either(past: Past) -> None:
    assert findings(replace(past.evidence(), served={})) == []


def ready() -> Past:
    past = Past()
    past.enrol(0, 1)
    past.tick(100)
    past.beat(0, 1)
    return past


def only(past: Past, limits: Limits | None = None) -> Finding:
    found = findings(past.evidence(limits))
    assert len(found) == 1, [one.kind for one in found]
    return found[0]


def batch_of(past: Past, count: int = 3) -> list[Inference]:
    return [infer(n % 2, n, past.time) for n in range(count)]


Break = Callable[[Past], None]


def other_root(past: Past) -> None:
    past.batch(batch_of(past), root=keccak(b"another"), served=Served(dump(batch_of(past)), 2, ""))


def other_size(past: Past) -> None:
    past.batch(batch_of(past), size=4)


def smaller_size(past: Past) -> None:
    past.batch(batch_of(past), size=2)


def lost(past: Past) -> None:
    past.batch(batch_of(past), served=Served(None, 0, "https://a.example: not-found"))


def nothing_published(past: Past) -> None:
    past.batch(batch_of(past), blob=b"")


def garbled(past: Past) -> None:
    past.batch(batch_of(past), served=Served(b'{"format": 1}', 2, ""))


def garbled_by_one(past: Past) -> None:
    past.batch(batch_of(past), served=Served(b"<html>", 1, ""))


def batch_twice(past: Past) -> None:
    batch = batch_of(past)
    past.batch(batch)
    past.tick()
    past.batch(batch)


def across(past: Past) -> None:
    batch = batch_of(past)
    past.batch(batch)
    past.tick()
    past.batch([batch[1], infer(0, 99, past.time)])


def alone_after_batch(past: Past) -> None:
    batch = batch_of(past)
    past.batch(batch)
    past.single(batch[2])


def within(past: Past) -> None:
    batch = batch_of(past)
    past.batch([*batch, batch[0]])


def signed_twice(past: Past) -> None:
    one = infer(0, 1, past.time)
    past.single(one)
    past.single(sign(one, 0))


def signed_twice_in_a_batch(past: Past) -> None:
    one = infer(0, 1, past.time)
    past.batch([one, sign(one, 0)])


def forged(past: Past) -> None:
    past.batch([infer(1, 1, past.time), infer(0, 2, past.time, signer=1)])


def stranger(past: Past) -> None:
    past.batch([infer(1, 1, past.time), infer(2, 2, past.time)])


def early(past: Past) -> None:
    one = infer(2, 1, past.time - 50)
    past.tick(1000)
    past.enrol(2)
    past.batch([one])


def switched_off(past: Past) -> None:
    past.change(Switched(tee(0), on=False))
    past.tick(400)
    one = infer(0, 1, past.time)
    past.tick(400)
    past.batch([one])


def withdrawn(past: Past) -> None:
    past.change(Switched(tee(0), on=False), Revoked(measurement(0), 0))
    past.tick(400)
    past.single(infer(0, 1, past.time))


def quiet(past: Past) -> None:
    past.tick(1800 + 301)
    past.single(infer(0, 1, past.time))


def old(past: Past) -> None:
    one = infer(0, 1, past.time)
    past.tick(3601)
    past.batch([one])


def ahead(past: Past) -> None:
    past.single(infer(0, 1, past.time + 301))


def other_payer(past: Past) -> None:
    one = infer(0, 1, past.time)
    past.single(one, served=Served(payload(one, "0x" + "00" * 20), 2, ""))


BREAKS: dict[str, tuple[Break, str, str, str, Ground, str]] = {
    "another root": (other_root, "batch-root-mismatch", "publication", SETTLER, Ground.PROOF, "another root"),
    "another size": (other_size, "batch-size-mismatch", "settlement", SETTLER, Ground.PROOF, "says 4 .* has 3"),
    "a smaller size": (smaller_size, "batch-size-mismatch", "settlement", SETTLER, Ground.PROOF, "says 2 .* has 3"),
    "a lost blob": (lost, "blob-missing", "publication", SETTLER, Ground.ABSENCE, "not-found"),
    "no blob": (nothing_published, "blob-missing", "publication", SETTLER, Ground.PROOF, "no blob id at all"),
    "rubbish": (garbled, "blob-malformed", "publication", SETTLER, Ground.PROOF, "not standard-v1"),
    "one says rubbish": (garbled_by_one, "blob-malformed", "publication", SETTLER, Ground.ABSENCE, "no JSON"),
    "a batch twice": (batch_twice, "duplicate-settlement", "settlement", SETTLER, Ground.PROOF, "in block 2, log 2"),
    "in two batches": (across, "duplicate-settlement", "settlement", SETTLER, Ground.PROOF, "in block 2, log 2"),
    "batched and alone": (alone_after_batch, "duplicate-settlement", "settlement", SETTLER, Ground.PROOF, "block 2"),
    "twice in a batch": (within, "duplicate-settlement", "settlement", SETTLER, Ground.PROOF, "2 times"),
    "signed twice": (signed_twice, "tuple-signed-twice", "settlement", SETTLER, Ground.PROOF, "or two that are alike"),
    "signed twice in a batch": (
        signed_twice_in_a_batch,
        "tuple-signed-twice",
        "settlement",
        SETTLER,
        Ground.PROOF,
        "another signature in block 2",
    ),
    "forged": (forged, "bad-signature", "settlement", SETTLER, Ground.PROOF, "did not make"),
    "a stranger": (stranger, "signer-unknown", "settlement", SETTLER, Ground.PROOF, "knows nothing"),
    "too early": (early, "signer-unregistered", "signing", "0x" + tee(2).hex(), Ground.PROOF, "not registered yet"),
    "disabled": (switched_off, "signer-disabled", "signing", ENCLAVE, Ground.PROOF, "disabled"),
    "revoked": (withdrawn, "signer-revoked", "signing", ENCLAVE, Ground.PROOF, "revoked"),
    "silent": (quiet, "signer-silent", "signing", ENCLAVE, Ground.PROOF, "heartbeat"),
    "stale": (old, "stale-inference", "settlement", SETTLER, Ground.PROOF, "3601 s old"),
    "ahead of time": (ahead, "future-inference", "signing", ENCLAVE, Ground.PROOF, "301 s after"),
    "another payer": (other_payer, "blob-mismatch", "publication", SETTLER, Ground.PROOF, "another address"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_settlement_is_named_with_hop_and_party(name: str) -> None:
    broken, kind, hop, party, ground, said = BREAKS[name]
    past = ready()
    broken(past)
    found = only(past)
    assert (found.kind, found.hop, found.party, found.ground) == (kind, hop, party, ground)
    assert found.at == past.settlements[-1].at
    assert re.search(said, found.said)
    assert "\n" not in found.said


@settings(max_examples=30)
@given(honest(), st.sampled_from(sorted(set(BREAKS) - {"a stranger", "too early"})))  # enclave 2 may be known
def test_a_break_is_found_after_any_honest_past(past: Past, name: str) -> None:
    past.enrol(0, 1)  # whatever became of them: fresh
    past.change(Approved(measurement(0), 0, None), Approved(measurement(1), 0, None))
    past.tick(4000)
    past.beat(0, 1)
    # what the honest past asked is not asked again
    BREAKS[name][0](past)
    assert BREAKS[name][1] in {one.kind for one in findings(past.evidence())}


@pytest.mark.parametrize("off", [0, 299])
def test_within_the_clocks_skew_nobody_is_blamed(off: int) -> None:
    past = ready()
    past.change(Switched(tee(0), on=False))
    past.single(infer(0, 1, past.time + off))
    past.tick(1800)
    past.single(infer(1, 2, past.time + off))
    assert findings(past.evidence()) == []
    assert {one.kind for one in findings(past.evidence(Limits(skew=0, heartbeat=1000)))} >= {"signer-silent"}


def test_an_enclave_is_named_only_for_what_it_signed() -> None:
    past = ready()
    past.change(Switched(tee(0), on=False))
    past.tick(400)
    past.batch([infer(0, 1, past.time, signer=1)])  # in its name, by another, while it is disabled
    assert only(past).party == SETTLER


def test_what_an_unbound_blob_holds_is_held_against_nobody() -> None:
    past = ready()
    past.batch(batch_of(past), root=keccak(b"x"), served=Served(dump([infer(0, 1, 5, signer=1)]), 1, ""))
    assert only(past).kind == "batch-root-mismatch"


def test_the_leaves_of_an_unsorted_tree_stand_where_the_dump_says() -> None:
    past = ready()
    batch = batch_of(past, 2)
    said = json.loads(dump(batch))
    for entry in said["values"]:
        entry["treeIndex"] = 3 - entry["treeIndex"]
    past.batch(batch, served=Served(json.dumps(said).encode(), 1, ""))  # of two the root is the same either way
    assert findings(past.evidence()) == []


def test_older_leaves_are_counted_and_no_more() -> None:
    past = ready()
    value = ["0x" + keccak(bytes([n])).hex() for n in range(3)]
    said = {"format": "standard-v1", "leafEncoding": ["bytes32"] * 3, "values": [{"value": value, "treeIndex": 0}]}
    root = keccak(keccak(b"".join(keccak(bytes([n])) for n in range(3))))
    data = json.dumps(said).encode()
    past.batch(batch_of(past), root=root, size=1, blob=blob_id(data), served=Served(data, 1, ""))
    assert only(past).kind == "blob-malformed"
    assert only(past).ground is Ground.PROOF
    assert findings(replace(past.evidence(), older_leaves=True)) == []


def test_a_key_that_cannot_be_used_is_nobodys_forgery() -> None:
    past = ready()
    past.single(infer(0, 1, past.time))
    [found] = findings(replace(past.evidence(), keys={tee(0): b"rubbish"}))
    assert (found.kind, found.ground, found.party) == ("key-unusable", Ground.ABSENCE, ENCLAVE)
    assert PAYER not in found.said


def spelt(one: Inference) -> Inference:
    """As older workers wrote it to the chain."""
    return one._replace(signature=base64.b64encode(one.signature))


def test_a_signature_that_is_spelt_in_base64_is_the_enclaves() -> None:
    past = ready()
    one = infer(0, 1, past.time)
    past.single(spelt(one), served=Served(payload(one), 1, ""))
    past.batch([spelt(infer(1, 2, past.time)), infer(0, 3, past.time)])
    lined = infer(0, 4, past.time)
    text = spelt(lined).signature + b"\n"
    past.single(lined._replace(signature=text), served=Served(payload(lined, teeSignature=text.decode()), 1, ""))
    assert findings(past.evidence()) == []


def test_a_spelt_signature_that_does_not_hold_is_a_bad_one() -> None:
    past = ready()
    past.single(spelt(infer(0, 1, past.time, signer=1)), served=Served(payload(infer(0, 1, past.time)), 1, ""))
    assert [one.kind for one in findings(past.evidence())] == ["blob-mismatch", "bad-signature"]


@pytest.mark.parametrize("first", [spelt, Inference])
def test_a_spelt_signature_and_its_bytes_are_one(first: Callable[..., Inference]) -> None:
    """One settlement after the other, and both within one batch: a duplicate, and no second signature."""
    past = ready()
    one = infer(0, 1, past.time)
    forms = [spelt(one), one] if first is spelt else [one, spelt(one)]
    for form in forms:
        past.single(form, served=Served(payload(one), 1, ""))
    past.batch(forms)
    kinds = [(one.kind, one.at.log_index) for one in findings(past.evidence())]
    assert kinds == [("duplicate-settlement", 3), ("duplicate-settlement", 4), ("duplicate-settlement", 4)]


def test_absurd_times_are_times() -> None:
    past = ready()
    past.single(infer(0, 1, 2**256 - 1))
    past.single(infer(0, 2, 0))
    kinds = [one.kind for one in findings(past.evidence())]
    assert kinds == ["signer-silent", "future-inference", "signer-unregistered", "stale-inference"]


def test_the_root_of_a_batch_binds_its_leaves() -> None:
    past = ready()
    batch = batch_of(past)
    past.batch(batch, served=Served(dump(batch[:2]), 2, ""))
    assert only(past).kind == "batch-root-mismatch"
    assert root_of(batch) == past.settlements[0].root


def to_the_second(past: Past, allowed: str) -> None:
    if allowed == "age":
        one = infer(0, 1, past.time)
        past.tick(3600)
        past.single(one)
    elif allowed == "future":
        past.single(infer(0, 1, past.time + 300))
    elif allowed == "heartbeat":
        past.tick(1800 + 300)
        past.single(infer(0, 1, past.time))
    elif allowed == "before":
        one = infer(2, 1, past.time)
        past.tick(300)
        past.enrol(2)
        past.single(one)
    else:
        past.change(Switched(tee(0), on=False))
        past.tick(300)
        past.single(infer(0, 1, past.time))


@pytest.mark.parametrize("allowed", ["age", "future", "heartbeat", "before", "after"])
def test_what_is_allowed_is_allowed_to_the_second(allowed: str) -> None:
    past = ready()
    to_the_second(past, allowed)
    assert findings(past.evidence()) == []
