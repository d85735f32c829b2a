"""A bundle as a file: canonical bytes, their digest, and the watcher's signature over it.

The bytes are the canonical JSON (ASCII, keys sorted, no spaces) of ``format``, ``body``, ``digest`` and ``signature``, and a
line feed. There is one way to write a bundle, so that no byte of a file can be another and mean the same.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from challenger.chain.hashing import keccak
from challenger.chain.typed import Domain, recovered, typed_digest
from challenger.domain import Address, Hash32
from challenger.errors import BundleRefused
from challenger.evidence.form import Evidence, as_json, from_json
from challenger.evidence.reader import Member
from replay.shallow import parse_json

FORMAT = "challenger-evidence/1"
#: Larger files are not read.
MAX_BYTES = 128 << 20
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_TYPE = b"Evidence(bytes32 digest,bytes32 commitment,string verdict)"


class Key(Protocol):
    @property
    def address(self) -> Address: ...
    def sign_digest(self, digest: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sealed:
    """``digest`` names the bundle; ``signer`` None: nobody signed it."""

    evidence: Evidence
    digest: Hash32
    signer: Address | None


def encode(evidence: Evidence, key: Key | None) -> bytes:
    """The file. Without ``key`` it is unsigned, and says so."""
    body = as_json(evidence)
    digest = _digest(body)
    signature = None
    if key is not None:
        signed = key.sign_digest(signing_digest(evidence, digest))
        signature = {"signer": key.address, "signature": "0x" + signed.hex()}
    return _canonical({"format": FORMAT, "body": body, "digest": "0x" + digest.hex(), "signature": signature}) + b"\n"


def decode(raw: bytes) -> Sealed:
    """What the file says, once its form, digest and signature hold. Raises BundleRefused with the reason."""
    if len(raw) > MAX_BYTES:
        raise BundleRefused(f"it is longer than {MAX_BYTES} bytes")
    try:
        document = parse_json(raw)
        again = _canonical(document) + b"\n"
    except (ValueError, RecursionError) as error:
        raise BundleRefused(f"it is not JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleRefused(f"it is not of the format {FORMAT}")
    if again != raw:
        raise BundleRefused(f"it is not in canonical form, from byte {_first_difference(again, raw)} on")
    _, body, digest, signature = Member(document, "bundle").fields("format", "body", "digest", "signature")
    claimed = digest.hash()
    if _digest(document["body"]) != claimed:
        raise BundleRefused("its digest is not that of its body: it was changed after it was made")
    evidence = from_json(body)
    return Sealed(evidence, claimed, None if signature.absent else _signer(evidence, claimed, signature))


def signing_digest(evidence: Evidence, digest: Hash32) -> Hash32:
    """What is signed (EIP-712), under the market's address: the bundle's digest, and what a person should see of it."""
    said = evidence.of(evidence.verdict)
    domain = Domain("challenger evidence", evidence.chain, evidence.market)
    shown = keccak(("" if said is None else f"{said.kind} {said.detail}".rstrip()).encode())
    return typed_digest(domain, _TYPE, ("bytes32", "bytes32", "bytes32"), (digest, evidence.commitment, shown))


def _signer(evidence: Evidence, digest: Hash32, member: Member) -> Address:
    signer, signature = member.fields("signer", "signature")
    named, signed = signer.address(), signature.hex(65)
    # of the ways to write one signature a single one is taken: low s, v 27 or 28
    plain = int.from_bytes(signed[32:64], "big") <= _HALF_ORDER and signed[64] in (27, 28)
    if not plain or recovered(signing_digest(evidence, digest), signed) != named:
        raise BundleRefused(f"its signature is not that of {named}")
    return named


def _digest(body: Any) -> Hash32:
    return Hash32(hashlib.sha256(b"evidence-bundle/1" + _canonical(body)).digest())


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _first_difference(one: bytes, other: bytes) -> int:
    short = min(len(one), len(other))
    return next((at for at in range(short) if one[at] != other[at]), short)
