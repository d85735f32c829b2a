"""Code is pinned through every proxy: what a call would run is what is hashed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from challenger.chain.hashing import keccak
from challenger.domain import Address
from challenger.errors import EndpointError
from challenger.protocols.base import BEACON_IMPLEMENTATION, BEACON_SLOT, IMPLEMENTATION_SLOT, code_hashes, subject

A, B, C, D = (Address("0x" + digit * 40) for digit in "abcd")


def word(address: str) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:])


@dataclass
class Chain:
    """Code and storage, and beacons that answer implementation()."""

    codes: dict[str, bytes]
    slots: dict[tuple[str, int], bytes] = field(default_factory=dict)
    beacons: dict[str, str] = field(default_factory=dict)

    async def code(self, address: Address, block: object = "latest") -> bytes:
        return self.codes.get(address, b"")

    async def storage(self, address: Address, slot: int, block: object = "latest") -> bytes:
        return self.slots.get((address, slot), bytes(32))

    async def call(self, to: Address, data: bytes, block: object = "latest") -> bytes:
        assert data == BEACON_IMPLEMENTATION
        return word(self.beacons[to])


async def test_slots_are_erc_1967s() -> None:
    for slot, name in ((IMPLEMENTATION_SLOT, b"implementation"), (BEACON_SLOT, b"beacon")):
        assert slot == int.from_bytes(keccak(b"eip1967.proxy." + name), "big") - 1
    assert keccak(b"implementation()")[:4] == BEACON_IMPLEMENTATION


async def test_a_plain_contract_is_itself() -> None:
    assert await code_hashes(Chain({A: b"a"}), [A], b"") == {A: keccak(b"a")}


async def test_implementations_and_beacons_are_followed_to_the_end() -> None:
    chain = Chain({A: b"a", B: b"b", C: b"c", D: b"d"})
    chain.slots[A, IMPLEMENTATION_SLOT] = word(B)
    chain.slots[B, BEACON_SLOT] = word(C)
    chain.beacons[C] = D
    before = await code_hashes(chain, [A], b"")
    assert set(before) == {A, B, C, D}
    chain.beacons[C] = A  # an upgrade behind the beacon, back to a contract that is known: no endless walk
    after = await code_hashes(chain, [A], b"")
    assert after != before
    chain.beacons[C] = D
    chain.codes[D] = b"evil"
    assert (await code_hashes(chain, [A], b""))[D] != before[D]


async def test_a_way_of_proxies_that_never_ends_is_no_contracts() -> None:
    """An endpoint may name another implementation for whatever it is asked."""

    class Endless(Chain):
        async def storage(self, address: Address, slot: int, block: object = "latest") -> bytes:
            return bytes(12) + keccak(address.encode())[:20] if slot == IMPLEMENTATION_SLOT else bytes(32)

    with pytest.raises(EndpointError, match="proxies"):
        await code_hashes(Endless({}), [A], b"")


def test_subjects_of_one_commitment_share_its_prefix() -> None:
    assert subject(b"\x01" * 32, "output", 0) == "0x" + "01" * 32 + "/output/0"
