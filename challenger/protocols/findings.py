"""What an audit of a protocol without disputes finds: which hand-off broke, at whose hands, and how one knows.

A finding accuses nobody on chain; there is nowhere to file it. It is made whole or not at all: a fault names the party.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from challenger.domain import At


class Ground(StrEnum):
    """How one knows. ``PROOF``: anyone with the chain and the published bytes comes to the same. ``DISTANCE``: an ordinary
    run differs from ours by more than was stated; no proof of anything, since such runs differ between machines.
    ``ABSENCE``: what should be there could not be had by us."""

    PROOF = "proof"
    DISTANCE = "distance"
    ABSENCE = "absence"


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: a word of the protocol's vocabulary (``duplicate-settlement``). ``subject``: 32 bytes that name what it is
    about (a batch root, the keccak of an inference's id, a transaction). ``hop``: which hand-off; ``party``: who is
    responsible, an address or ``0x`` identifier, as the protocol names it. ``said``: one plain sentence. ``at``: where the
    chain shows it. ``facts``: what it rests on, as text, for the record."""

    kind: str
    subject: bytes
    hop: str
    party: str
    ground: Ground
    said: str
    at: At
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a finding that names no kind, hop, party or sentence, or whose subject is not 32 bytes."""
        missing = [name for name in ("kind", "hop", "party", "said") if not getattr(self, name)]
        if missing or len(self.subject) != 32:
            raise ValueError(f"a finding is whole or not at all: {', '.join(missing) or 'its subject is not 32 bytes'}")
