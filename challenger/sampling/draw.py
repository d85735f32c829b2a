"""The draw: HMAC-SHA256(epoch secret, commitment id ‖ hash of the draw block) < p·2²⁵⁶."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from challenger.domain import ONE, BlockNumber, CommitmentId, Hash32, Millionths


@dataclass(frozen=True, slots=True)
class Epoch:
    """Blocks ``opens ≤ b < closes``; a commitment in block b is drawn with the hash of block ``b + delay``.
    ``secret`` is hidden until the epoch's windows have closed."""

    number: int
    opens: BlockNumber
    closes: BlockNumber
    delay: int
    secret: bytes
    policy_digest: bytes

    def commitment(self) -> Hash32:
        """What is recorded and anchored before the epoch opens; hides the secret, binds delay and policy."""
        body = self.delay.to_bytes(4, "big") + self.policy_digest + self.secret
        return Hash32(hashlib.sha256(b"epoch/1" + self.number.to_bytes(8, "big") + body).digest())

    def draw_block(self, block: BlockNumber) -> BlockNumber:
        return BlockNumber(block + self.delay)


def draw(secret: bytes, commitment: CommitmentId, draw_hash: Hash32) -> int:
    """A uniform integer in [0, 2²⁵⁶)."""
    return int.from_bytes(hmac.new(secret, commitment + draw_hash, hashlib.sha256).digest(), "big")


def selects(value: int, p: Millionths) -> bool:
    """Whether ``value`` falls below p·2²⁵⁶, decided in integers: p = 0 never selects, p = 1 always does."""
    return value * ONE < (p << 256)
