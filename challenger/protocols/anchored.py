"""An adapter's part in this package's own ``EpochAnchor``: what sampling was bound to, published on the protocol's chain.

The anchor knows nothing of a protocol, so any adapter may have it: a base class, given the address as ``_anchor``.
"""

from __future__ import annotations

from challenger.contracts import artifact
from challenger.domain import Action, Address, Block, Call, Hash32, Intent, UnixTime
from challenger.errors import WrongContract
from challenger.protocols import reference_calls
from challenger.protocols.base import NO_DEADLINE, CodeReader


class Anchored:
    """Publishes where there is an anchor, and nowhere else."""

    #: The adapter's; every intent of ours bears it.
    name: str
    _anchor: Address | None = None

    def anchor(self, epoch: int, commitment: Hash32, deadline: UnixTime) -> Intent | None:
        """Publishes an epoch's commitment, before ``deadline``; None where there is no anchor contract."""
        if self._anchor is None:
            return None
        call = reference_calls.anchor(self._anchor, epoch, commitment)
        return self._about(Action.ANCHOR, epoch, call, deadline)

    def reveal(self, epoch: int, secret: Hash32) -> Intent | None:
        if self._anchor is None:
            return None
        return self._about(Action.REVEAL, epoch, reference_calls.reveal(self._anchor, epoch, secret), NO_DEADLINE)

    async def anchor_checked(self, reader: CodeReader, at: Block) -> tuple[Address, ...]:
        """The anchor, for ``check`` to pin with all else; nothing where there is none. Raises WrongContract."""
        if self._anchor is None:
            return ()
        await stands(reader, self._anchor, "EpochAnchor", at)
        return (self._anchor,)

    def _about(self, action: Action, epoch: int, call: Call, deadline: UnixTime) -> Intent:
        return Intent(self.name, f"epoch/{epoch}", action, call, deadline)


async def stands(reader: CodeReader, address: Address, name: str, at: Block) -> None:
    """Whether this package's contract ``name`` stands there, whatever its immutables are. Raises WrongContract."""
    code = await reader.code(address, at.hash)
    if not code:
        raise WrongContract(f"there is no contract; is this the chain where {name} stands?", address=address)
    if not artifact(name).matches(code):
        raise WrongContract(f"its code is not {name} as this version knows it", address=address)
