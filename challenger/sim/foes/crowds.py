"""What is done to blocks and mempool: stuffing, and looking over a challenger's shoulder."""

from __future__ import annotations

from dataclasses import dataclass, field

from challenger.chain.hashing import keccak
from challenger.domain import Address, Call, CommitmentId, Hash32, Wei
from challenger.protocols.reference_calls import Claim, MarketCalls, seal_digest
from challenger.sim.faults.chain import InlineDevnet
from challenger.sim.foes.arena import Party
from challenger.sim.foes.forwarder import deploying

#: INVALID: takes all gas that it is given, at once.
_BURNER = deploying(b"\xfe")
_SEAL = keccak(b"seal(bytes32)")[:4]
_CHALLENGE = keccak(b"challenge(bytes32,bytes32,bytes32,bytes32,bytes32)")[:4]


@dataclass(slots=True)
class Stuffer:
    """Fills block after block with gas that is burnt at once, at a tip of ``tip`` wei per gas: each full block raises the
    base fee by an eighth, and whoever tips less finds no room. ``room``: gas that it leaves in each block."""

    devnet: InlineDevnet
    party: Party
    tip: int
    room: int = 100_000
    _burner: Address = Address("")
    _nonce: int = 0
    blocks: int = 0

    async def ready(self) -> None:
        await self.devnet.automine(True)
        self._burner, _ = await self.party.wallet.create(_BURNER)
        await self.devnet.automine(False)
        self._nonce = await self.devnet.rpc.nonce(self.party.address)

    async def fill(self) -> None:
        """One block's worth, into the mempool."""
        chain = self.devnet.node.chain
        base = chain.next_header(self.devnet.node.next_time()).base_fee_per_gas
        left = self.devnet.node.options.gas_limit - self.room
        while left > 0:
            gas = min(left, 15_000_000)
            fields = {
                "chainId": await self.devnet.rpc.chain_id(),
                "nonce": self._nonce,
                "to": self._burner,
                "value": 0,
                "data": b"",
                "gas": gas,
                "maxFeePerGas": 3 * base + self.tip,
                "maxPriorityFeePerGas": self.tip,
            }
            signed = await self.party.wallet.signer.sign_transaction(fields)
            await self.devnet.rpc.send_raw(signed.raw)
            self._nonce += 1
            left -= gas
        self.blocks += 1


@dataclass(slots=True)
class CopyCat:
    """Watches the mempool for what ``victim`` sends to the market. A seal it repeats as it is; of an opened claim it makes
    one of its own, sealed at once with the higher tip, and opens that as soon as it may."""

    devnet: InlineDevnet
    calls: MarketCalls
    party: Party
    victim: Address
    bond: Wei
    seen: set[bytes] = field(default_factory=set)
    claims: list[tuple[Claim, int]] = field(default_factory=list)
    copied_seals: int = 0
    opened: list[Hash32] = field(default_factory=list)

    async def look(self) -> None:
        """Before a block is mined: everything that waits is open to everyone."""
        height = self.devnet.node.height
        for claim, since in [one for one in self.claims if height > one[1]]:
            self.claims.remove((claim, since))
            self.opened.append(await self.party.wallet.send(self.calls.challenge(claim, self.bond)))
        for tx in list(self.devnet.node.pool):
            if "0x" + tx.sender.hex() != self.victim or bytes(tx.hash) in self.seen:
                continue
            self.seen.add(bytes(tx.hash))
            data = bytes(tx.data)
            if data[:4] == _SEAL:
                self.copied_seals += 1
                await self.party.wallet.send(Call(self.calls.market, data, Wei(0)))
            elif data[:4] == _CHALLENGE:
                await self._steal(data[4:], height)

    async def _steal(self, body: bytes, height: int) -> None:
        words = [Hash32(body[at : at + 32]) for at in range(0, 160, 32)]
        theirs = Claim(CommitmentId(words[0]), *words[1:])
        # as it stands first: nothing was sealed by this account, so it is refused
        self.opened.append(await self.party.wallet.send(self.calls.challenge(theirs, self.bond)))
        await self.party.wallet.send(self.calls.seal(seal_digest(self.party.address, theirs)))
        self.claims.append((theirs, height + 1))
