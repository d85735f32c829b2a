"""What is settled: one inference as an enclave signs it, and its leaf in a batch. Pure.

The leaf is that of OpenZeppelin's StandardMerkleTree over ``(bytes32 teeId, bytes32 inputHash, bytes32 outputHash, bytes
signature, uint256 timestamp)``: the ABI encoding, hashed twice, so that no inner node of a tree can pass for a leaf.
"""

from __future__ import annotations

from typing import NamedTuple

from challenger.chain.hashing import keccak

#: As the published tree spells the columns of a leaf.
LEAF_ENCODING = ("bytes32", "bytes32", "bytes32", "bytes", "uint256")
_HEAD = 5 * 32


class Inference(NamedTuple):
    """``tee``: keccak of the enclave's public key. The hashes are of the request and of the answer, 32 bytes each;
    ``timestamp``: UTC seconds by the enclave's own clock, below 2**256; ``signature``: as it was handed over."""

    tee: bytes
    input_hash: bytes
    output_hash: bytes
    signature: bytes
    timestamp: int

    @property
    def tuple_key(self) -> bytes:
        """32 bytes: what is signed, and by whom. The signature is not part of it: RSA-PSS signs the same in many ways."""
        return keccak(self.tee + self.message)

    @property
    def message(self) -> bytes:
        """32 bytes: keccak(inputHash ‖ outputHash ‖ uint256 timestamp)."""
        return keccak(self.input_hash + self.output_hash + self.timestamp.to_bytes(32, "big"))

    @property
    def leaf(self) -> bytes:
        """32 bytes."""
        size = len(self.signature)
        encoded = b"".join(
            (
                self.tee,
                self.input_hash,
                self.output_hash,
                _HEAD.to_bytes(32, "big"),
                self.timestamp.to_bytes(32, "big"),
                size.to_bytes(32, "big"),
                self.signature,
                bytes(-size % 32),
            )
        )
        return keccak(keccak(encoded))
