"""Evidence bundles of a real watcher's life on a real EVM: what they show, and when there is none."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from lives import canonical, checked, life

from challenger.chain.rpc import Rpc
from challenger.domain import CommitmentId
from challenger.errors import BundleRefused, NoEvidence
from challenger.evidence.opened import named
from challenger.evidence.seal import decode, encode
from challenger.sim.scoreboard import Truth

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
        assert decode(canonical(raw)).signer == account.address.lower()
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        twin = bytes(signed.signature[:32]) + (order - signed.s).to_bytes(32, "big") + bytes([55 - signed.v])
        raw["signature"]["signature"] = "0x" + twin.hex()
        with pytest.raises(BundleRefused, match="signature"):
            decode(canonical(raw))
