"""EIP-712: digests of typed data, which a signature over binds to one program, chain and contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_abi.abi import encode

from challenger.chain.hashing import keccak
from challenger.domain import Address, ChainId, Hash32

_DOMAIN_TYPE = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


@dataclass(frozen=True, slots=True)
class Domain:
    """What a signature is for; ``contract`` verifies it, or is what it is about."""

    name: str
    chain: ChainId
    contract: Address
    version: str = "1"


def typed_digest(domain: Domain, type_text: bytes, types: Sequence[str], values: Sequence[object]) -> Hash32:
    """0x1901 ‖ domain separator ‖ struct hash, keccak. ``types`` are the members' of ``type_text``, of a fixed size each:
    a member of type ``string`` is given as the bytes32 of its keccak."""
    separator = keccak(
        encode(
            ("bytes32", "bytes32", "bytes32", "uint256", "address"),
            (
                keccak(_DOMAIN_TYPE),
                keccak(domain.name.encode()),
                keccak(domain.version.encode()),
                domain.chain,
                domain.contract,
            ),
        )
    )
    struct = keccak(encode(("bytes32", *types), (keccak(type_text), *values)))
    return Hash32(keccak(b"\x19\x01" + separator + struct))


def recovered(digest: Hash32, signature: bytes) -> Address | None:
    """Who signed ``digest`` (r ‖ s ‖ v); None for bytes that are no signature."""
    from eth_keys.datatypes import Signature
    from eth_keys.exceptions import BadSignature
    from eth_utils.exceptions import ValidationError

    try:
        signed = Signature(signature[:64] + bytes([signature[64] - 27]))
        return Address(signed.recover_public_key_from_msg_hash(digest).to_address())
    except (BadSignature, ValidationError, ValueError, IndexError):
        return None
