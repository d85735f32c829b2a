"""Evidence bundles that somebody changed, or that never were any: refused, or found out."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lives import canonical, checked, failing, life

from challenger.audit.journal import UNSIGNED
from challenger.chain.proofs import proven_log
from challenger.domain import CommitmentId, Committed, Hash32
from challenger.errors import BundleRefused, NoEvidence
from challenger.evidence.check import Checked
from challenger.evidence.form import Evidence, as_json
from challenger.evidence.seal import FORMAT, decode, encode
from challenger.protocols.reference_logs import MarketLogs
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyWorkers
from challenger.store.journal import link
from challenger.store.rows import HeadRow
from replay.layout import encode_bundle


async def test_a_bundle_with_any_byte_changed_is_refused(tmp_path):
    async with life(tmp_path) as one:
        raw = await one.bundle(one.job(Truth.WRONG))
    rng = random.Random(7)
    for _ in range(500):
        at = rng.randrange(len(raw))
        wrong = raw[:at] + bytes([raw[at] ^ rng.randrange(1, 256)]) + raw[at + 1 :]
        with pytest.raises(BundleRefused):
            decode(wrong)
    signature = raw.index(b'"signature":{"signature":"0x')
    for at in range(signature, signature + 200):
        digit = rng.choice(b"0123456789abcdef".replace(raw[at : at + 1], b""))
        with pytest.raises(BundleRefused):
            decode(raw[:at] + bytes([digit]) + raw[at + 1 :])
    end = raw.index(b'"', signature + 30)
    for at in (end - 2, end - 1):  # the byte that says how the signature is to be read
        for digit in set(b"0123456789abcdef") - {raw[at]}:
            with pytest.raises(BundleRefused):
                decode(raw[:at] + bytes([digit]) + raw[at + 1 :])
    for wrong in (raw[:-1], raw + b"\n", raw[: len(raw) // 2], b" " + raw, b"", b"{}", b"[" * 100_000, b"\xff\xfe"):
        with pytest.raises(BundleRefused):
            decode(wrong)


def changed(evidence: Evidence, part: str) -> Evidence:
    """As somebody would forge it who seals it anew."""
    said = evidence.of(evidence.verdict)
    others = tuple(row for row in evidence.verdicts if row.id != said.id)
    committed = _committed(evidence)
    log = evidence.logs[committed]
    draws = evidence.sampling
    entry = next(entry for entry in evidence.journal if entry.kind == "verdict")
    x = bytes([1]) * 32
    match part:
        case "another verdict":
            return replace(evidence, verdicts=(*others, said._replace(kind="VALID", detail="")))
        case "other roots":
            return replace(evidence, verdicts=(*others, said._replace(output_root=x)))
        case "no verdict":
            return replace(evidence, verdicts=others)
        case "another's verdict":
            return replace(evidence, verdicts=(*others, said._replace(commitment=CommitmentId(x))))
        case "confirmed by itself":
            return replace(evidence, confirmation=said.id)
        case "no log":
            return replace(evidence, logs=evidence.logs[:committed] + evidence.logs[committed + 1 :])
        case "twice the log":
            return replace(evidence, logs=(*evidence.logs, log))
        case "another header":
            header = {**log.proof.header, "timestamp": "0x1"}
            return _with_log(evidence, committed, replace(log.proof, header=header))
        case "another receipt":
            return _with_log(evidence, committed, replace(log.proof, transaction=log.proof.transaction + 1))
        case "another node":
            nodes = (*log.proof.nodes[:-1], log.proof.nodes[-1][:-1] + bytes([log.proof.nodes[-1][-1] ^ 1]))
            return _with_log(evidence, committed, replace(log.proof, nodes=nodes))
        case "no such position":
            return _with_log(evidence, committed, replace(log.proof, position=9))
        case "another market":
            return replace(evidence, market="0x" + "11" * 20)
        case "another commitment":
            return replace(evidence, commitment=CommitmentId(x))
        case "another input":
            return replace(evidence, input=evidence.input._replace(data=encode_bundle({"x": _seven()})))
        case "another output":
            return replace(evidence, output=evidence.output._replace(data=encode_bundle({"y": _seven()})))
        case "another model":
            return replace(evidence, files={"manifest.json": b"{}", "weights": b""})
        case "another computed output":
            return replace(evidence, observed=evidence.observed._replace(output=b"\1"))
        case "another difference":
            return replace(evidence, difference=replace(evidence.difference, element=evidence.difference.element + 1))
        case "no difference":
            return replace(evidence, difference=None)
        case "another rate":
            return replace(evidence, sampling=draws._replace(p=draws.p - 1))
        case "another policy":
            policy = json.loads(draws.policy)
            return replace(evidence, sampling=draws._replace(policy=json.dumps({**policy, "base": 7})))
        case "no policy":
            return replace(evidence, sampling=draws._replace(policy="[]"))
        case "another draw block":
            return replace(evidence, sampling=draws._replace(draw_block=draws.draw_block + 1))
        case "another secret":
            return replace(evidence, sampling=draws._replace(secret=Hash32(x)))
        case "another draw":
            return replace(evidence, sampling=draws._replace(drawn=Hash32(x)))
        case "not drawn":
            return replace(evidence, sampling=draws._replace(selected=False))
        case "another entry":
            wrong = entry._replace(payload=entry.payload.replace("FRAUD", "VALID"))
            return replace(evidence, journal=tuple(wrong if one is entry else one for one in evidence.journal))
        case "no entry":
            return replace(evidence, journal=tuple(one for one in evidence.journal if one.kind != "verdict"))
        case "another head":
            return replace(evidence, heads=tuple(head._replace(seq=head.seq + 1) for head in evidence.heads))
        case "another's head":
            last = evidence.journal[-1]
            return replace(evidence, heads=(HeadRow(last.seq, Hash32(x), UNSIGNED, b"", last.time),))
        case "an entry put between":
            at = next(at for at, (one, two) in enumerate(pairwise(evidence.journal), 1) if two.seq == one.seq + 1)
            wrong = evidence.journal[at]._replace(prev=Hash32(x))
            wrong = wrong._replace(hash=Hash32(link(wrong.prev, wrong.seq, wrong[3:])))
            return replace(evidence, journal=(*evidence.journal[:at], wrong, *evidence.journal[at + 1 :]))
        case "another order":
            return replace(evidence, journal=(evidence.journal[1], evidence.journal[0], *evidence.journal[2:]))
    raise AssertionError(part)


def _committed(evidence: Evidence) -> int:
    """The number of the commitment's log."""
    logs = [proven_log(one.proof, one.log_index, one.tx_hash)[1] for one in evidence.logs]
    told = [MarketLogs(evidence.market).decode(log) for log in logs]
    return next(at for at, event in enumerate(told) if isinstance(event, Committed))


def _with_log(evidence: Evidence, at: int, proof: Any) -> Evidence:
    logs = list(evidence.logs)
    logs[at] = logs[at]._replace(proof=proof)
    return replace(evidence, logs=tuple(logs))


def _seven() -> Any:
    return np.full((1, 8), 7, np.float32)


FORGED = {
    "another verdict": "verdict", "other roots": "replay", "no verdict": "verdict", "another's verdict": "verdict",
    "confirmed by itself": "confirmation", "no log": "chain", "twice the log": "chain", "another header": "chain",
    "another receipt": "chain", "another node": "chain", "no such position": "chain", "another market": "chain",
    "another commitment": "chain", "another input": "input", "another output": "output",
    "another model": "model", "another computed output": "observed", "another difference": "difference", "no difference": "difference",
    "another rate": "sampling", "another policy": "sampling", "no policy": "sampling", "another draw block": "sampling",
    "another secret": "sampling", "another draw": "sampling", "not drawn": "sampling", "another entry": "journal",
    "no entry": "journal", "another head": "journal", "another's head": "journal", "an entry put between": "journal",
    "another order": "journal",
}  # fmt: skip


@pytest.mark.slow
async def test_whoever_forges_a_bundle_and_seals_it_anew_is_found_out(tmp_path):
    # data lie behind addresses, so that they stand in the bundle
    async with life(tmp_path, until_revealed=True, by_uri=100) as one:
        bundles = [decode(await one.bundle(job)).evidence for job in sorted(one.scene.jobs(Truth.WRONG))]
        evidence = next(e for e in bundles if e.input.data and e.output.data and e.difference)
    assert failing(await checked(encode(evidence, None))) == []
    for forged, part in FORGED.items():
        found = await checked(encode(changed(evidence, forged), None))
        assert any(line.startswith(part) for line in failing(found)), (forged, found.findings)


async def test_a_replay_that_comes_to_something_else_does_not_bear_it_out(tmp_path):
    async with life(tmp_path) as one:
        raw = await one.bundle(one.job(Truth.WRONG))
        for backend in ("torch", "numpy"):
            found = await checked(raw, ToyWorkers(lies={backend}))
            assert not found.replayed
            said = [finding for finding in found.findings if finding.part == "replay" and not finding.holds]
            # its known answer fails here: this machine has no say, which is nothing against the bundle
            assert [(one.holds, one.what.partition(" ")[0]) for one in said] == [(None, backend)]
        one.scene.workers.lies = {"torch"}
        with pytest.raises(NoEvidence):  # what is made from now on would not hold
            await one.bundle(one.job(Truth.HONEST))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("0x" + "00" * 32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["format", "body", "digest", "signature"]), anything))
def test_rubbish_is_refused_and_nothing_else_happens(document: dict[str, Any]):
    for raw in (canonical(document), canonical({**document, "format": FORMAT})):
        with pytest.raises(BundleRefused):
            decode(raw)


@pytest.mark.slow
async def test_a_bundle_with_rubbish_anywhere_in_it_is_refused_or_does_not_hold(tmp_path):
    """Each member of the body in turn is replaced by values of other forms, and the whole is sealed anew."""
    async with life(tmp_path, until_revealed=True) as one:
        body = as_json(decode(await one.bundle(one.job(Truth.WRONG))).evidence)
    rng = random.Random(3)
    rubbish = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "",
        "0x",
        "0xzz",
        "\ud800",
        "é",
        [],
        [[]],
        {},
        {"a": 1},
        "0x" + "ff" * 32,
        "{" * 80,
    ]
    outcomes: list[Checked | None] = []
    places = list(_places(body))
    for path in rng.sample(places, min(len(places), 400)):
        document = _sealed(_replaced(body, path, rng.choice(rubbish)))
        try:
            outcomes.append(await checked(document))
        except BundleRefused:
            outcomes.append(None)
    assert outcomes.count(None) > 200
    assert any(found is not None and not found.holds for found in outcomes)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Any:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(value[path[0]], path[1:], by)
    return copy


def _sealed(body: Any) -> bytes:
    text = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    digest = "0x" + hashlib.sha256(b"evidence-bundle/1" + text).hexdigest()
    return canonical({"format": FORMAT, "body": body, "digest": digest, "signature": None})


@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 1_000_000, b'["' + b"x" * 4_000_000 + b'"]', b'{"a":"' + b"\\\\" * 1_000_000]
)
def test_long_rubbish_is_refused_in_a_moment(raw: bytes):
    with pytest.raises(BundleRefused):
        decode(raw)
