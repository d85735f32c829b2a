"""Keys that sign: one small interface, three places a key may come from.

A key never leaves the object that holds it: not by ``repr``, not by pickling, not in an error. What a loader says
about a bad key names the place (path or variable), never the content. eth-account does the cryptography.

Transactions are signed by an awaitable, so that a signer in another process can stand behind the same interface;
messages and digests (journal heads, rulings) are signed by keys at hand.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from challenger.domain import Address, Hash32
from challenger.errors import ChallengerError, ConfigError

#: No key, keystore or passphrase file is longer than this.
MAX_FILE_BYTES = 64 * 1024


class KeyUnusable(ConfigError):
    """the signing key cannot be used"""


class SignerLied(ChallengerError):
    """the signer gave back something else than what it was asked to sign"""


@dataclass(frozen=True, slots=True)
class SignedTx:
    """``raw`` is the typed envelope as it goes to ``eth_sendRawTransaction``; ``hash`` is what a receipt is asked by."""

    raw: bytes
    hash: Hash32


class TransactionSigner(Protocol):
    """What the sender needs of a key."""

    @property
    def address(self) -> Address: ...

    async def sign_transaction(self, fields: Mapping[str, Any]) -> SignedTx:
        """Sign an EIP-1559 transaction: chainId, nonce, to, value, data, gas, maxFeePerGas, maxPriorityFeePerGas.
        ``to`` is a lower-case address, or left out where a contract is created."""
        ...


class WatcherKey(TransactionSigner, Protocol):
    """What a watcher needs: a key that signs transactions, and a secret for its salts."""

    def derive_secret(self, label: bytes) -> bytes:
        """32 bytes, the same whenever and on whatever machine they are asked for; ``label`` names the purpose."""
        ...


class MessageSigner(Protocol):
    """What journal heads and rulings need of a key."""

    @property
    def address(self) -> Address: ...

    def sign_message(self, message: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over the EIP-191 hash of ``message``."""
        ...

    def sign_digest(self, digest: bytes) -> bytes:
        """65 bytes r ‖ s ‖ v over a 32-byte digest that already binds its domain (EIP-712)."""
        ...


class LocalSigner:
    """A key in this process. Both interfaces above."""

    __slots__ = ("_account", "address")

    def __init__(self, account: LocalAccount) -> None:
        self._account = account
        self.address = Address(account.address.lower())

    def __repr__(self) -> str:
        return f"LocalSigner({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is not to be pickled or copied: it holds a key")

    async def sign_transaction(self, fields: Mapping[str, Any]) -> SignedTx:
        typed = {**fields, "type": 2}
        if isinstance(typed.get("to"), str):
            typed["to"] = bytes.fromhex(typed["to"][2:])  # as text the library wants it checksummed
        signed = self._account.sign_transaction(typed)
        return SignedTx(bytes(signed.raw_transaction), Hash32(bytes(signed.hash)))

    def sign_message(self, message: bytes) -> bytes:
        return bytes(self._account.sign_message(encode_defunct(message)).signature)

    def sign_digest(self, digest: bytes) -> bytes:
        if len(digest) != 32:
            raise ValueError(f"a digest is 32 bytes, not {len(digest)}")
        return bytes(Account.unsafe_sign_hash(digest, self._account.key).signature)

    def derive_secret(self, label: bytes) -> bytes:
        """32 bytes that only the holder of this key can make again: the hash of a deterministic (RFC 6979) signature.

        ``label`` must name the purpose; the signature itself is never published, or the secret would be with it.
        """
        return hashlib.sha256(self.sign_message(b"challenger/secret/1:" + label)).digest()


def from_key(key: bytes) -> LocalSigner:
    """A signer of 32 raw bytes (tests, the embedded chain). ``KeyUnusable`` when they are no secp256k1 key."""
    return _signer(key, "the key given")


def from_key_file(path: Path) -> LocalSigner:
    """A signer of a file that holds the key as 64 hex digits, readable by its owner only."""
    return _signer(read_private(path), str(path))


def from_environment(name: str, environ: Mapping[str, str] = os.environ) -> LocalSigner:
    """A signer of the variable ``name`` (64 hex digits)."""
    value = environ.get(name, "")
    if not value:
        raise KeyUnusable("the variable is not set: set it, or name a keystore instead", variable=name)
    return _signer(value.encode("utf-8", "replace"), f"${name}")


def from_keystore(path: Path, passphrase_file: Path | None) -> LocalSigner:
    """A signer of an encrypted keystore (Web3 Secret Storage). Takes a second or so, by design: call it at start.
    Without ``passphrase_file`` a person at the terminal is asked."""
    passphrase = _asked(path) if passphrase_file is None else _passphrase(passphrase_file)
    try:
        document = json.loads(_read(path))
    except ValueError:
        raise KeyUnusable("the keystore is not JSON", path=path) from None
    if not isinstance(document, dict):
        raise KeyUnusable("the keystore is not a JSON object", path=path)
    try:
        key = bytes(Account.decrypt(document, passphrase))
    except Exception:  # noqa: BLE001 - whatever the libraries say may quote the passphrase
        raise KeyUnusable("the passphrase does not open the keystore, or it is damaged", path=path) from None
    return _signer(key, str(path))


def _passphrase(path: Path) -> str:
    try:
        return read_private(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise KeyUnusable("the passphrase file is not UTF-8 text", path=path) from None


def _asked(path: Path) -> str:
    if not sys.stdin.isatty():
        raise KeyUnusable("nobody is at the terminal to type the passphrase: set [signer] passphrase_file", path=path)
    try:
        with _interruptible():
            return getpass.getpass(f"Passphrase of {path}: ")
    except EOFError:
        raise KeyUnusable("no passphrase was typed", path=path) from None


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends the question: an event loop's own way with it waits until the question is answered."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _signer(key: bytes, where: str) -> LocalSigner:
    try:
        raw = key if len(key) == 32 else bytes.fromhex(key.decode("ascii").strip().removeprefix("0x"))
        return LocalSigner(Account.from_key(raw))  # refuses other lengths, zero and what is beyond the curve's order
    except Exception:  # noqa: BLE001 - whatever the libraries say of a key may quote it
        raise KeyUnusable("it must be 64 hex digits of a secp256k1 key", where=where) from None


def read_private(path: Path) -> bytes:
    """The file's bytes, if nobody but its owner may read it and its owner is us (or root)."""
    return _read(path, private=True)


def _read(path: Path, *, private: bool = False) -> bytes:
    try:
        with path.open("rb") as file:
            # asked of the open file, so that it cannot be exchanged between the check and the reading
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise KeyUnusable("this is not a regular file", path=path)
            if private and info.st_mode & 0o077:
                raise KeyUnusable(f"others may read this file: chmod 600 {path}", mode=f"{info.st_mode & 0o777:o}")
            if private and info.st_uid not in (os.geteuid(), 0):
                raise KeyUnusable("this file belongs to another user", path=path)
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeyUnusable(f"the file cannot be read: {error.strerror}", path=path) from None
    if len(content) > MAX_FILE_BYTES:
        raise KeyUnusable(f"the file is longer than {MAX_FILE_BYTES} bytes", path=path)
    return content
