"""Who signs the journal's heads, and how a stranger checks the signature: EIP-191 over the head, by the watcher's key."""

from __future__ import annotations

from typing import Protocol

from challenger.domain import Address

#: The name under which a watcher without a key publishes its heads: the publisher's copy still binds them.
UNSIGNED = "unsigned"


class Key(Protocol):
    @property
    def address(self) -> Address: ...
    def sign_message(self, message: bytes) -> bytes: ...


class HeadSigner:
    """Heads in the name of the key's address; without a key they go out unsigned, and say so."""

    def __init__(self, key: Key | None) -> None:
        self._key = key

    @property
    def name(self) -> str:
        return UNSIGNED if self._key is None else self._key.address

    def sign(self, message: bytes) -> bytes:
        return b"" if self._key is None else self._key.sign_message(message)


class Recovered:
    """Accepts a head whose signature recovers to the address that it names. An unsigned head is accepted as such: it
    proves what the publisher's copy proves, no more."""

    def __init__(self) -> None:
        self.unsigned = 0
        self.signers: set[str] = set()

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        if name == UNSIGNED:
            self.unsigned += 1
            return not signature
        from eth_account import Account
        from eth_account.messages import encode_defunct

        try:
            found = Account.recover_message(encode_defunct(message), signature=signature)
        except Exception:  # noqa: BLE001 - the library has no common error for a malformed signature
            return False
        self.signers.add(name)
        return str(found).lower() == name
