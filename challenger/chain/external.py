"""A key in another process: a signer that is asked over JSON-RPC, and whose answers are checked, not believed.

It signs transactions and nothing else. The secret behind the salts is this machine's own, from a private file: a
signature that anyone with access to the signer may ask for again hides nothing, and two signers need not sign alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import rlp
from eth_account import Account

from challenger.chain import wire
from challenger.chain.endpoint import mask_url
from challenger.chain.hashing import keccak
from challenger.chain.signers import KeyUnusable, SignedTx, SignerLied, read_private
from challenger.domain import Address, Hash32
from challenger.errors import ConfigError, Expected

#: What each kind of signer calls it. Both take one transaction object.
METHODS = {"web3signer": "eth_signTransaction", "clef": "account_signTransaction"}
#: An answer is a transaction, in hex, twice at most.
_MAX_ANSWER = 1 << 20
#: The order of an EIP-1559 envelope's fields before its access list.
_FIELDS = ("chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to", "value", "data")


class SignerUnavailable(Expected):
    """the external signer did not sign"""


class ExternalSigner:
    """``seconds``: of one request; a person may have to approve it."""

    def __init__(self, url: str, address: Address, style: str, secret_file: Path, seconds: float) -> None:
        if not mask_url(url).startswith(("http://", "https://")):
            raise ConfigError("[signer] url must be an http:// or https:// URL", url=mask_url(url))
        self.address = Address(address.lower())
        self.name = mask_url(url)
        self._url = url
        self._method = METHODS[style]
        self._seconds = seconds
        self._secret = _secret(secret_file)

    def __repr__(self) -> str:
        return f"ExternalSigner({self.address}, {self.name})"

    def derive_secret(self, label: bytes) -> bytes:
        """32 bytes that only the holder of the secret file can make again."""
        return hashlib.sha256(b"challenger/secret-file/1:" + self._secret + label).digest()

    async def sign_transaction(self, fields: Mapping[str, Any]) -> SignedTx:
        """Raises SignerUnavailable when it refuses or does not answer, SignerLied when it signs something else."""
        quantities = {key: hex(value) for key, value in fields.items() if isinstance(value, int)}
        wanted = {**quantities, "from": self.address, "data": "0x" + bytes(fields["data"]).hex()}
        if fields.get("to"):
            wanted["to"] = fields["to"]
        answer = await self._ask(wanted)
        raw = answer.get("raw") if isinstance(answer, dict) else answer
        try:
            signed = wire.blob(raw)
        except (ValueError, TypeError):
            raise SignerLied("its answer is no transaction", signer=self.name) from None
        _verify(signed, fields, self.address, self.name)
        return SignedTx(signed, Hash32(keccak(signed)))

    async def _ask(self, wanted: dict[str, Any]) -> Any:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": self._method, "params": [wanted]}).encode()
        headers = {"Content-Type": "application/json"}
        try:
            async with (
                asyncio.timeout(self._seconds),
                aiohttp.ClientSession() as session,
                session.post(self._url, data=body, headers=headers, allow_redirects=False) as response,
            ):
                raw = await response.content.read(_MAX_ANSWER + 1)
                while len(raw) <= _MAX_ANSWER and not response.content.at_eof():
                    raw += await response.content.read(_MAX_ANSWER + 1 - len(raw))
                status = response.status
        except TimeoutError:
            raise SignerUnavailable(f"no answer within {self._seconds} s", signer=self.name) from None
        except (aiohttp.ClientError, OSError) as error:
            raise SignerUnavailable(f"the connection failed: {type(error).__name__}", signer=self.name) from None
        if len(raw) > _MAX_ANSWER:
            raise SignerUnavailable(f"an answer of more than {_MAX_ANSWER} bytes", signer=self.name)
        try:
            answer = wire.parse_json(raw)
        except ValueError:
            raise SignerUnavailable(f"HTTP {status}, and the answer is not JSON", signer=self.name) from None
        if isinstance(answer, dict) and isinstance(refusal := answer.get("error"), dict):
            said = " ".join(str(refusal.get("message", "")).split())[:200]
            raise SignerUnavailable(f"it refuses: {said}", signer=self.name)
        if not isinstance(answer, dict) or answer.get("result") is None:
            raise SignerUnavailable(f"HTTP {status}, without a result", signer=self.name)
        return answer["result"]


def _verify(raw: bytes, fields: Mapping[str, Any], address: Address, name: str) -> None:
    """Raises SignerLied unless ``raw`` is exactly what was asked for, signed by ``address``."""
    try:
        items = rlp.decode(raw[1:], strict=True)
        signed = dict(zip(_FIELDS, items[:8], strict=True))
        rest = items[8:]
        plain = raw[0] == 2 and len(rest) == 4 and rest[0] == []
        owner = str(Account.recover_transaction(raw)).lower() if plain else ""
    except Exception:  # noqa: BLE001 - the libraries have no common error for bytes that are no transaction
        plain = False
    if not plain:
        raise SignerLied("its answer is no EIP-1559 transaction without an access list", signer=name)
    for key in _FIELDS:
        if signed[key] != _encoded(fields.get(key, "")):
            raise SignerLied(f"it signed another {key}", signer=name)
    if owner != address:
        raise SignerLied("it signed with another key", signer=name, wanted=address, got=owner)


def _encoded(value: Any) -> bytes:
    if isinstance(value, int):
        return value.to_bytes((value.bit_length() + 7) // 8)
    return bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)


def _secret(path: Path) -> bytes:
    try:
        secret = bytes.fromhex(read_private(path).decode("ascii").strip().removeprefix("0x"))
    except ValueError:
        secret = b""
    if len(secret) != 32:
        raise KeyUnusable(
            "it must hold 64 random hex digits, the same on every machine: openssl rand -hex 32", path=path
        )
    return secret
