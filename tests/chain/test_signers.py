"""Keys sign, and are never shown."""

import copy
import json
import logging
import os
import pickle
import traceback
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from challenger.chain import signers
from challenger.chain.hashing import keccak
from challenger.chain.signers import KeyUnusable, LocalSigner

KEY = keccak(b"a key that only these tests use")
SECRET = KEY.hex()
ADDRESS = Account.from_key(KEY).address.lower()
PASSPHRASE = "correct horse battery staple"
FIELDS = {
    "chainId": 7,
    "nonce": 3,
    "to": "0x" + "ab" * 20,
    "value": 5,
    "data": b"\x01\x02",
    "gas": 50_000,
    "maxFeePerGas": 10,
    "maxPriorityFeePerGas": 1,
}


def private(path: Path, content: str) -> Path:
    path.write_text(content)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def keystore() -> str:
    # a light work factor: what is tested is ours, not scrypt
    return json.dumps(Account.encrypt(KEY, PASSPHRASE, kdf="pbkdf2", iterations=2))


async def test_a_signed_transaction_recovers_to_the_address_and_hashes_to_its_hash() -> None:
    signer = signers.from_key(KEY)
    signed = await signer.sign_transaction(FIELDS)
    assert signed.raw[0] == 2
    assert Account.recover_transaction(signed.raw).lower() == signer.address == ADDRESS
    assert keccak(signed.raw) == signed.hash
    assert (await signer.sign_transaction(FIELDS)) == signed  # deterministic: a re-signing after a crash is no rival


def test_messages_and_digests_recover_to_the_address() -> None:
    signer = signers.from_key(KEY)
    signature = signer.sign_message(b"head 12")
    assert Account.recover_message(encode_defunct(b"head 12"), signature=signature).lower() == ADDRESS
    digest = keccak(b"a ruling")
    assert Account._recover_hash(digest, signature=signer.sign_digest(digest)).lower() == ADDRESS
    with pytest.raises(ValueError, match="32 bytes"):
        signer.sign_digest(b"short")


def test_secrets_derive_from_key_and_label_alone() -> None:
    one, again, other = signers.from_key(KEY), signers.from_key(KEY), signers.from_key(keccak(b"other"))
    assert one.derive_secret(b"salt") == again.derive_secret(b"salt")
    assert len({one.derive_secret(b"salt"), one.derive_secret(b"epoch"), other.derive_secret(b"salt")}) == 3


def test_every_place_gives_the_same_signer(tmp_path: Path, keystore: str) -> None:
    file = private(tmp_path / "key", f"0x{SECRET}\n")
    store = private(tmp_path / "keystore.json", keystore)
    passphrase = private(tmp_path / "passphrase", PASSPHRASE + "\n")
    made = [
        signers.from_key_file(file),
        signers.from_environment("KEY", {"KEY": SECRET}),
        signers.from_keystore(store, passphrase),
    ]
    assert {signer.address for signer in made} == {ADDRESS}


def bad_places(tmp_path: Path, keystore: str) -> dict[str, tuple[str, object]]:
    """What may be wrong with a key's place, and a word that the error must say."""
    good = private(tmp_path / "good", PASSPHRASE)
    store = private(tmp_path / "store.json", keystore)
    loose = tmp_path / "loose"
    loose.write_text(SECRET)
    loose.chmod(0o640)
    fifo = tmp_path / "directory"
    fifo.mkdir()
    damaged = json.loads(keystore)
    damaged["crypto"]["ciphertext"] = SECRET
    return {
        "loose": ("chmod 600", lambda: signers.from_key_file(loose)),
        "loose passphrase": ("chmod 600", lambda: signers.from_keystore(store, loose)),
        "missing": ("No such file", lambda: signers.from_key_file(tmp_path / "nowhere")),
        "directory": ("directory", lambda: signers.from_key_file(fifo)),
        "short": ("64 hex", lambda: signers.from_key_file(private(tmp_path / "short", SECRET[:-2]))),
        "not hex": ("64 hex", lambda: signers.from_key_file(private(tmp_path / "nothex", SECRET[:-1] + "z"))),
        "long": ("longer than", lambda: signers.from_key_file(private(tmp_path / "long", SECRET * 2000))),
        "zero": ("64 hex", lambda: signers.from_environment("KEY", {"KEY": "00" * 32})),
        "beyond the order": ("64 hex", lambda: signers.from_environment("KEY", {"KEY": "ff" * 32})),
        "not ascii": ("64 hex", lambda: signers.from_environment("KEY", {"KEY": SECRET[:-1] + "é"})),
        "unset": ("not set", lambda: signers.from_environment("KEY", {})),
        "wrong passphrase": ("does not open", lambda: signers.from_keystore(store, private(tmp_path / "p", SECRET))),
        "not utf-8": ("UTF-8", lambda: signers.from_keystore(store, _bytes(tmp_path / "latin", b"\xff" + KEY))),
        "damaged": (
            "does not open",
            lambda: signers.from_keystore(private(tmp_path / "d.json", json.dumps(damaged)), good),
        ),
        "not json": ("not JSON", lambda: signers.from_keystore(private(tmp_path / "n.json", SECRET), good)),
        "not an object": (
            "JSON object",
            lambda: signers.from_keystore(private(tmp_path / "a.json", f'["{SECRET}"]'), good),
        ),
        "other document": (
            "does not open",
            lambda: signers.from_keystore(private(tmp_path / "o.json", f'{{"key": "{SECRET}"}}'), good),
        ),
    }


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def test_a_bad_place_is_one_line_that_says_what_to_do_and_nothing_of_the_key(
    tmp_path: Path, keystore: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, (word, load) in bad_places(tmp_path, keystore).items():
        with pytest.raises(KeyUnusable) as caught:
            load()  # type: ignore[operator]
        line = str(caught.value)
        assert word in line, (name, line)
        assert "\n" not in line
        told = "".join(traceback.format_exception(caught.value, chain=True)) + repr(caught.value)
        for secret in (SECRET, SECRET[:20], PASSPHRASE, KEY.decode("latin-1")):
            assert secret not in told, name
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert SECRET[:20] not in caplog.text


def test_a_signer_shows_its_address_only() -> None:
    signer = signers.from_key(KEY)
    shown = f"{signer!r} {signer} {[signer]} {getattr(signer, '__dict__', '')}"
    assert ADDRESS in shown
    assert SECRET not in shown
    for leak in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as caught:
            leak(signer)
        assert SECRET not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = private(tmp_path / "key", SECRET)
    os.chown(file, 12345, 12345)
    with pytest.raises(KeyUnusable, match="another user"):
        signers.from_key_file(file)
    os.chown(file, 0, 0)
    assert isinstance(signers.from_key_file(file), LocalSigner)
