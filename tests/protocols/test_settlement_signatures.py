"""Signatures of enclaves: what holds, what does not, and which keys are none."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.hashing import keccak
from challenger.protocols.opengradient.settlement.settled import Inference
from challenger.protocols.opengradient.settlement.signatures import (
    KeyRefused,
    input_hash,
    output_hash,
    read_key,
    request_bytes,
    signed,
    tee_id,
)

SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="session")
def private() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def der(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(*SPKI)


def sign(private: rsa.RSAPrivateKey, one: Inference, *, salt: int = 32, mgf=hashes.SHA256, digest=hashes.SHA256):
    pss = padding.PSS(mgf=padding.MGF1(mgf()), salt_length=salt)
    return one._replace(signature=private.sign(one.message, pss, digest()))


def plain(public: bytes) -> Inference:
    return Inference(tee_id(public), keccak(b"in"), keccak(b"out"), b"", 1_700_000_000)


def test_a_signature_holds_for_what_was_signed_and_for_nothing_else(private) -> None:
    public = der(private)
    key = read_key(public)
    one = sign(private, plain(public))
    assert signed(one, key)
    again = sign(private, plain(public))
    assert signed(again, key)
    assert again.signature != one.signature
    flipped = bytes([one.signature[0] ^ 1]) + one.signature[1:]
    for other in (
        one._replace(input_hash=one.output_hash),
        one._replace(output_hash=one.input_hash),
        one._replace(timestamp=one.timestamp + 1),
        one._replace(signature=flipped),
        one._replace(signature=one.signature[:-1]),
        one._replace(signature=one.signature + b"\0"),
        one._replace(signature=b""),
    ):
        assert not signed(other, key)


@pytest.mark.parametrize("wrong", [{"salt": 20}, {"salt": 222}, {"mgf": hashes.SHA1}, {"digest": hashes.SHA512}])
def test_other_parameters_are_another_signature(private, wrong) -> None:
    public = der(private)
    assert not signed(sign(private, plain(public), **wrong), read_key(public))


def test_the_older_padding_is_none(private) -> None:
    public = der(private)
    one = plain(public)
    one = one._replace(signature=private.sign(one.message, padding.PKCS1v15(), hashes.SHA256()))
    assert not signed(one, read_key(public))


def test_keys_that_are_none_say_why(private) -> None:
    good = der(private)
    small = der(rsa.generate_private_key(65537, 1024))
    curve = der(ec.generate_private_key(ec.SECP256R1()))
    for public, why in (
        (b"", "no DER"),
        (good[:-1], "no DER"),
        (good + b"\0", "DER"),
        (b"\x30\x80" + good[4:] + b"\0\0", "DER"),  # BER's indefinite length
        (bytes(5000), "5000 bytes"),
        (small, "1024 bits"),
        (curve, "no RSA"),
    ):
        with pytest.raises(KeyRefused, match=why) as caught:
            read_key(public)
        assert "\n" not in str(caught.value)


def test_the_same_key_in_another_coding_is_refused() -> None:
    algorithm, bare = bytes.fromhex("300d06092a864886f70d0101010500"), bytes.fromhex("300b06092a864886f70d010101")
    body = der(rsa.generate_private_key(65537, 2048))[4:]
    assert body.startswith(algorithm)
    body = bare + body[len(algorithm) :]  # its parameters left out, which readers of keys forgive
    with pytest.raises(KeyRefused, match="canonical DER"):
        read_key(b"\x30\x82" + len(body).to_bytes(2, "big") + body)


@given(st.binary(max_size=400))
def test_rubbish_is_refused_and_never_more(data: bytes) -> None:
    with pytest.raises(KeyRefused):
        read_key(data)


@given(st.data())
def test_a_broken_key_is_refused_or_has_another_id(private, data) -> None:
    good = der(private)
    at = data.draw(st.integers(0, len(good) - 1))
    broken = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    assert tee_id(broken) != tee_id(good)
    try:
        key = read_key(broken)
    except KeyRefused:
        return
    assert not signed(sign(private, plain(good)), key)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_the_order_of_keys_does_not_matter(request_: object) -> None:
    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(one) for one in value] if isinstance(value, list) else value

    assert request_bytes(turned(request_)) == request_bytes(request_)
    assert json.loads(request_bytes(request_)) == request_


def test_the_request_is_hashed_as_the_gateway_writes_it() -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "grüß\n"}], "temperature": 0.0}
    text = r'{"messages": [{"content": "gr\u00fc\u00df\n", "role": "user"}], "model": "m", "temperature": 0.0}'
    assert request_bytes(request) == text.encode()
    assert input_hash(request) == keccak(text.encode())
    assert input_hash({**request, "temperature": 0}) != input_hash(request)
    assert output_hash("grüß") == keccak("grüß".encode())


def test_no_json_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (float("nan"), {1, 2}, {"a": float("inf")}, {1: 2, "a": 3}, deep):
        with pytest.raises(ValueError, match=r"JSON|not JSON compliant"):
            request_bytes(value)
