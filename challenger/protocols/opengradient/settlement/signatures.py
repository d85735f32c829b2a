"""What an enclave signs, and whether a signature is one. All RSA is the ``cryptography`` library's.

Version 1: the message is keccak(inputHash ‖ outputHash ‖ uint256 timestamp), 32 bytes; RSA-PSS hashes it once more with
SHA-256, MGF1 with SHA-256, and a salt of exactly 32 bytes. An enclave's id is the keccak of its public key as DER
SubjectPublicKeyInfo, so that a key that anyone serves shows by itself whether it is the right one.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from challenger.chain.hashing import keccak
from challenger.errors import Expected
from challenger.protocols.opengradient.settlement.settled import Inference

SALT = 32
#: Below 2048 bits a key protects nothing; above 8192 one check takes as long as a hundred others.
MIN_BITS, MAX_BITS = 2048, 8192
#: A key of 8192 bits takes 1,062 bytes.
MAX_KEY_BYTES = 2048
#: What the chain's own verifier takes (Go's crypto/rsa).
MAX_EXPONENT = 2**31 - 1
#: Far beyond any request; the encoder recurses, and how deep it may is not ours to say.
MAX_DEPTH = 200
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=SALT)


class KeyRefused(Expected):
    """an enclave's public key is none that signatures can be checked with"""


def tee_id(public_key: bytes) -> bytes:
    """32 bytes; ``public_key`` is DER SubjectPublicKeyInfo."""
    return keccak(public_key)


def read_key(public_key: bytes) -> RSAPublicKey:
    """The key in ``public_key`` (DER SubjectPublicKeyInfo, in its one canonical form). ``KeyRefused`` says why not."""
    if len(public_key) > MAX_KEY_BYTES:
        raise KeyRefused(f"{len(public_key)} bytes, at most {MAX_KEY_BYTES} are read")
    try:
        key = serialization.load_der_public_key(public_key)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyRefused("it is no DER SubjectPublicKeyInfo") from None
    if not isinstance(key, RSAPublicKey):
        raise KeyRefused("it is no RSA key")
    if not MIN_BITS <= key.key_size <= MAX_BITS:
        raise KeyRefused(f"{key.key_size} bits, {MIN_BITS} to {MAX_BITS} are taken")
    exponent = key.public_numbers().e
    if exponent < 3 or exponent % 2 == 0 or exponent > MAX_EXPONENT:
        raise KeyRefused("its exponent is not an odd number of 3 to 2**31 - 1")
    canonical = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if canonical != public_key:
        raise KeyRefused("it is not in canonical DER: the same key would have two ids")
    return key


def signed(inference: Inference, key: RSAPublicKey) -> bool:
    """Whether the holder of ``key`` signed ``inference``. What the tuple says of its ``tee`` is not looked at here."""
    try:
        key.verify(inference.signature, inference.message, _PSS, hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def plain(signature: bytes) -> bytes:
    """What ``signature`` spells where it is base64 text, as older workers wrote it to the chain; else itself. 256 random
    bytes that are such text do not come about."""
    try:
        return base64.b64decode(signature.strip(), validate=True)
    except ValueError:
        return signature


def request_bytes(request: Any) -> bytes:
    """A request as it is hashed: JSON with sorted keys, ``", "`` and ``": "`` between, everything beyond ASCII escaped
    (Python's ``json.dumps(request, sort_keys=True)``). Numbers are told apart as Python does: 0 and 0.0 hash differently.
    ``ValueError``: what is not JSON, NaN and infinities, or nests deeper than ``MAX_DEPTH``."""
    _no_deeper(request, MAX_DEPTH)
    try:
        return json.dumps(request, sort_keys=True, allow_nan=False).encode("ascii")
    except TypeError:
        raise ValueError("the request is no JSON: a value or a key of another kind") from None


def input_hash(request: Any) -> bytes:
    """32 bytes. ``ValueError`` as in ``request_bytes``."""
    return keccak(request_bytes(request))


def output_hash(text: str) -> bytes:
    """32 bytes, of the answer's text (of tool calls: of their JSON with sorted keys) in UTF-8."""
    return keccak(text.encode("utf-8"))


def _no_deeper(value: Any, levels: int) -> None:
    layer = [value]
    for _ in range(levels):
        containers = [one for one in layer if isinstance(one, dict | list | tuple)]
        layer = [part for one in containers for part in (one.values() if isinstance(one, dict) else one)]
        if not layer:
            return
    raise ValueError(f"the request is no JSON that is read: it nests deeper than {levels} levels")
