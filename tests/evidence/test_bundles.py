"""Evidence bundles of a real watcher's life on a real EVM: what they show, and what becomes of them when they are changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st
from lives import checked, failing, life

from challenger.chain.proofs import proven_log
from challenger.chain.rpc import Rpc
from challenger.cli import main
from challenger.domain import CommitmentId, Committed, Hash32
from challenger.errors import BundleRefused, NoEvidence
from challenger.evidence.check import Checked
from challenger.evidence.form import Evidence, as_json
from challenger.evidence.opened import named
from challenger.evidence.seal import FORMAT, decode, encode
from challenger.protocols.reference_logs import MarketLogs
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyWorkers
from replay.layout import encode_bundle

SHOWN = ("signature", "chain", "verdict", "confirmation", "dispute", "input", "output", "replay", "sampling", "journal")


async def test_a_verdict_is_shown_from_the_file_and_the_model_alone(tmp_path):
    async with life(tmp_path, until_revealed=True) as one:
        for job in one.scene.jobs(Truth.WRONG):
            found = await checked(await one.bundle(job))
            told = {finding.part: finding.holds for finding in found.findings}
            assert told == dict.fromkeys(SHOWN, True) | {"sampling": None}, found.findings
            assert found.proved
            assert [f.what for f in found.findings if f.part == "replay"] == [
                "torch: FRAUD output",
                "numpy: FRAUD output",
            ]
            hashes = {
                block.number: block.hash
                for block in await one.scene.devnet.rpc.blocks([b.number for b in found.blocks])
            }
            assert {block.number: block.hash for block in found.blocks} == hashes
        for truth, said in ((Truth.HONEST, "VALID"), (Truth.WITHHELD, "UNAVAILABLE")):
            sealed = decode(await one.bundle(one.job(truth), signed=False))
            found = await checked(sealed)
            told = {finding.part: finding.holds for finding in found.findings}
            assert sealed.evidence.of(sealed.evidence.verdict).kind == said
            assert found.holds
            assert told["signature"] is None, "nobody signed it"
            assert told["verdict"] is (True if said == "VALID" else None), "no file shows what was away"
            assert ("replay" in told) == (said == "VALID")


async def test_a_bundle_carries_what_lay_in_place_of_the_output(tmp_path):
    other = b"rubbish of an hour ago"
    async with life(tmp_path, instead=other) as one:
        raw = await one.bundle(one.job(Truth.WITHHELD))
        evidence = decode(raw).evidence
        said = evidence.of(evidence.verdict)
        found = await checked(raw)
    lay = f"{len(other)} bytes of sha256 0x{hashlib.sha256(other).hexdigest()} at file:///"
    assert said.kind == "UNAVAILABLE"
    assert said.detail.startswith(f"output: substituted, {lay}")
    assert evidence.output.data is None
    assert lay in evidence.output.why
    assert found.holds, found.findings
    told = {finding.part: finding.holds for finding in found.findings}
    assert told["verdict"] is None, "what we alone were served is no proof"


async def test_a_bundle_before_the_reveal_says_what_it_cannot_show_yet(tmp_path):
    async with life(tmp_path) as one:
        raw = await one.bundle(one.job(Truth.WRONG))
        found = await checked(raw)
        sampling = next(finding for finding in found.findings if finding.part == "sampling")
        assert found.holds
        assert sampling.holds is None
        assert "not revealed" in sampling.what
        async with one.sources.store.read() as view:
            secrets = [epoch.secret for epoch in await view.epochs.all() if epoch.revealed_at is None]
        assert secrets
        assert not any(secret.hex().encode() in raw for secret in secrets)


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
    "no entry": "journal", "another head": "journal",
}  # fmt: skip


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


async def test_where_there_is_no_verdict_there_is_no_bundle(tmp_path):
    async with life(tmp_path) as one:
        with pytest.raises(NoEvidence, match="does not hold the commitment"):
            await one.bundle(CommitmentId(bytes(32)))
        job = one.job(Truth.WRONG)
        assert await named(one.sources.store, job.hex()[:12]) == job


class WithoutReceipts:
    """An endpoint that serves none."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def make_request(self, method: str, params: Any) -> Any:
        if "Receipt" in method:
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}
        return await self._inner.make_request(method, params)


async def test_logs_without_receipts_are_said_to_be_an_endpoints_word(tmp_path):
    async with life(tmp_path) as one:
        chain = Rpc(WithoutReceipts(one.scene.devnet.provider), attempts=1)
        raw = await one.bundle(one.job(Truth.WRONG), chain=chain)
    found = await checked(raw)
    assert found.holds
    assert not found.blocks
    assert not found.proved
    unsure = [finding.what for finding in found.findings if finding.part == "chain" and finding.holds is None]
    words = [what for what in unsure if "endpoint's word" in what]
    assert "0 logs proved by the hashes of 0 blocks" in unsure
    assert len(words) == len(decode(raw).evidence.logs)


async def test_the_signature_is_that_of_typed_data_as_wallets_make_it(tmp_path):
    async with life(tmp_path) as one:
        sealed = decode(await one.bundle(one.job(Truth.WRONG)))
        account = Account.from_key(one.scene.devnet.accounts[0].key)
        evidence = sealed.evidence
        said = evidence.of(evidence.verdict)
        message = encode_typed_data(
            {
                "name": "challenger evidence",
                "version": "1",
                "chainId": evidence.chain,
                "verifyingContract": evidence.market,
            },
            {
                "Evidence": [
                    {"name": n, "type": t}
                    for n, t in (("digest", "bytes32"), ("commitment", "bytes32"), ("verdict", "string"))
                ]
            },
            {"digest": sealed.digest, "commitment": evidence.commitment, "verdict": f"{said.kind} {said.detail}"},
        )
        signed = account.sign_message(message)
        raw = json.loads(encode(evidence, None))
        raw["signature"] = {
            "signature": "0x" + signed.signature.hex().removeprefix("0x"),
            "signer": account.address.lower(),
        }
        assert decode(_canonical(raw)).signer == account.address.lower()
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        twin = bytes(signed.signature[:32]) + (order - signed.s).to_bytes(32, "big") + bytes([55 - signed.v])
        raw["signature"]["signature"] = "0x" + twin.hex()
        with pytest.raises(BundleRefused, match="signature"):
            decode(_canonical(raw))


def _canonical(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("0x" + "00" * 32),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["format", "body", "digest", "signature"]), anything))
def test_rubbish_is_refused_and_nothing_else_happens(document: dict[str, Any]):
    for raw in (_canonical(document), _canonical({**document, "format": FORMAT})):
        with pytest.raises(BundleRefused):
            decode(raw)


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
    return _canonical({"format": FORMAT, "body": body, "digest": digest, "signature": None})


async def test_the_command_verifies_shows_and_refuses(tmp_path, capsys):
    async with life(tmp_path) as one:
        job = one.job(Truth.WRONG)
        raw = await one.bundle(job)
    file = tmp_path / "evidence.json"
    file.write_bytes(raw)
    assert await _main("evidence", "verify", str(file)) == 1, "it holds, and was not reproduced"
    said = capsys.readouterr().out
    assert "not run: the bundle does not hold the model" in said
    assert "nothing in the bundle speaks against it, and it was NOT reproduced here" in said
    assert await _main("evidence", "show", str(file)) == 0
    assert "0x" + job.hex() in capsys.readouterr().out
    assert await _main("evidence", "show", str(file), "--json") == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "FRAUD"
    assert await _main("evidence", "verify", str(file), "--model", str(tmp_path)) == 2
    assert "--model must be a folder with a manifest.json" in capsys.readouterr().err
    file.write_bytes(raw.replace(b"FRAUD", b"VALID", 1))
    assert await _main("evidence", "verify", str(file)) == 1
    assert "its digest is not that of its body" in capsys.readouterr().err
    assert await _main("evidence", "verify", str(tmp_path / "away.json")) == 1
    assert "No such file" in capsys.readouterr().err


async def _main(*words: str) -> int:
    return await asyncio.to_thread(main, list(words))


@pytest.mark.parametrize(
    "raw", [b'"' + b'\\"' * 1_000_000, b'["' + b"x" * 4_000_000 + b'"]', b'{"a":"' + b"\\\\" * 1_000_000]
)
def test_long_rubbish_is_refused_in_a_moment(raw: bytes):
    with pytest.raises(BundleRefused):
        decode(raw)


async def test_what_a_bundle_says_is_never_a_terminals_command(tmp_path, capsys):
    async with life(tmp_path) as one:
        evidence = decode(await one.bundle(one.job(Truth.WRONG))).evidence
    said = evidence.of(evidence.verdict)
    evil = said._replace(detail="\x1b[2J\x1b[HFRAUD output: reproduced here, bit for bit.")
    others = tuple(row for row in evidence.verdicts if row.id != said.id)
    file = tmp_path / "evil.json"
    file.write_bytes(encode(replace(evidence, verdicts=(*others, evil)), None))
    for word in ("verify", "show"):
        await _main("evidence", word, str(file))
        assert "\x1b" not in capsys.readouterr().out
    with pytest.raises(BundleRefused, match="is no verdict"):
        decode(encode(replace(evidence, verdicts=(*others, said._replace(kind="PROVEN FRAUD"))), None))
    for wrong in (
        replace(evidence, input=evidence.input._replace(root=Hash32(bytes(32)))),
        replace(evidence, output=evidence.output._replace(root=Hash32(bytes(32)))),
        replace(evidence, observed=evidence.observed._replace(state_root=Hash32(bytes(32)))),
    ):
        assert failing(await checked(encode(wrong, None)))


async def test_another_market_than_one_insists_on_is_refused(tmp_path, capsys):
    async with life(tmp_path) as one:
        raw = await one.bundle(one.job(Truth.WRONG))
    (tmp_path / "e.json").write_bytes(raw)
    market = decode(raw).evidence.market
    await _main("evidence", "verify", str(tmp_path / "e.json"), "--market", market)
    assert "market       DOES NOT HOLD" not in capsys.readouterr().out
    assert await _main("evidence", "verify", str(tmp_path / "e.json"), "--market", "0x" + "11" * 20) == 1
    assert "market       DOES NOT HOLD" in capsys.readouterr().out
