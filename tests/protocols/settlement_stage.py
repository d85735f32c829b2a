"""Settlements to audit: real RSA keys, blobs as they are published, and pasts without a chain."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from challenger.chain.hashing import keccak
from challenger.domain import Address, At, BlockNumber, Hash32
from challenger.protocols.opengradient.settlement.check import Evidence, Limits
from challenger.protocols.opengradient.settlement.enclaves import Moment, Timeline
from challenger.protocols.opengradient.settlement.fetch import Served
from challenger.protocols.opengradient.settlement.merkle import StandardTree
from challenger.protocols.opengradient.settlement.registry import Approved, Beat, Change, Enclave, Registered
from challenger.protocols.opengradient.settlement.settled import LEAF_ENCODING, Inference
from challenger.protocols.opengradient.settlement.settlements import BatchSettled, IndividualSettled, Settlement
from challenger.protocols.opengradient.settlement.signatures import tee_id

SETTLER = Address("0x" + "5e" * 20)
PAYER = Address("0x" + "9a" * 20)
START = 1_700_000_000
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


@cache
def private(which: int) -> rsa.RSAPrivateKey:
    """One for each enclave, generated once a session."""
    return rsa.generate_private_key(65537, 2048)


@cache
def public(which: int) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private(which).public_key().public_bytes(serialization.Encoding.DER, form)


def tee(which: int) -> bytes:
    return tee_id(public(which))


def measurement(which: int) -> bytes:
    return keccak(b"pcr%d" % which)


def infer(which: int, what: int, time: int, *, signer: int | None = None) -> Inference:
    """The ``what``-th question, answered and signed by an enclave (or in its name, by ``signer``)."""
    plain = Inference(tee(which), keccak(b"in%d" % what), keccak(b"out%d" % what), b"", time)
    return sign(plain, which if signer is None else signer)


def sign(one: Inference, which: int) -> Inference:
    return one._replace(signature=private(which).sign(one.message, _PSS, hashes.SHA256()))


def row(one: Inference) -> list[str]:
    return [*("0x" + part.hex() for part in one[:4]), str(one.timestamp)]


def root_of(batch: Sequence[Inference]) -> bytes:
    return StandardTree(one.leaf for one in batch).root


def dump(batch: Sequence[Inference]) -> bytes:
    """As OpenZeppelin's JavaScript dumps a tree."""
    tree = StandardTree(one.leaf for one in batch)
    free = {place: leaf for place, leaf in enumerate(tree.nodes) if place >= len(batch) - 1}
    values = []
    for one in batch:
        place = next(place for place, leaf in free.items() if leaf == one.leaf)
        del free[place]
        values.append({"value": row(one), "treeIndex": place})
    said = {
        "format": "standard-v1",
        "leafEncoding": list(LEAF_ENCODING),
        "tree": ["0x" + node.hex() for node in tree.nodes],
        "values": values,
    }
    return json.dumps(said, separators=(",", ":")).encode()


def payload(one: Inference, payer: str = PAYER, **other: object) -> bytes:
    """As the worker publishes an individual inference."""
    said = {
        "input": {"model": "m", "messages": []},
        "output": "yes",
        "teeSignature": base64.b64encode(one.signature).decode(),
        "teeId": "0x" + one.tee.hex(),
        "timestamp": str(one.timestamp),
        "ethAddress": payer,
    }
    return json.dumps(said | other).encode()


def blob_id(data: bytes) -> bytes:
    """The text of an id. Walrus's own commits to an erasure code; nothing here depends on how it is made."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")


class Past:
    """A chain's past without a chain; each ``tick`` begins a block. Enclaves 0 to 2 run measurements 0 and 1."""

    def __init__(self) -> None:
        self.time, self.block, self._log = START, 1, 0
        self.changes: list[tuple[Moment, Change]] = []
        self.settlements: list[Settlement] = []
        self.served: dict[tuple[int, int], Served] = {}
        self.times = {1: START}
        self.enclaves = {tee(n): Enclave(public(n), measurement(n % 2)) for n in range(3)}
        self.change(Approved(measurement(0), 0, None), Approved(measurement(1), 0, None))

    def tick(self, seconds: int = 10) -> None:
        self.time += seconds
        self.block += 1
        self._log = 0
        self.times[self.block] = self.time

    def change(self, *changes: Change) -> None:
        for one in changes:
            self.changes.append((Moment(self.time, self.block, self._log), one))
            self._log += 1

    def enrol(self, *which: int) -> None:
        self.change(*(Registered(tee(n), SETTLER, 0) for n in which))

    def beat(self, *which: int) -> None:
        self.change(*(Beat(tee(n), self.time) for n in which))

    def batch(
        self,
        inferences: Sequence[Inference],
        *,
        root: bytes | None = None,
        size: int | None = None,
        blob: bytes | None = None,
        served: Served | None = None,
    ) -> None:
        data = dump(inferences)
        self._settle(
            BatchSettled(
                self._at(),
                root_of(inferences) if root is None else root,
                len(inferences) if size is None else size,
                blob_id(data) if blob is None else blob,
            ),
            Served(data, 1, "") if served is None else served,
        )

    def single(self, one: Inference, *, blob: bytes | None = None, served: Served | None = None) -> None:
        data = payload(one)
        name = blob_id(data) if blob is None else blob
        self._settle(IndividualSettled(self._at(), one, PAYER, name), served or Served(data, 1, ""))

    def evidence(self, limits: Limits | None = None) -> Evidence:
        limits = limits or Limits()
        return Evidence(
            settlements=self.settlements,
            times=self.times,
            settlers={one.at.tx_hash: SETTLER for one in self.settlements},
            served=self.served,
            timeline=Timeline(self.changes, self.enclaves, limits.heartbeat),
            keys={tee: kept.public_key for tee, kept in self.enclaves.items()},
            limits=limits,
        )

    def _at(self) -> At:
        block = Hash32(keccak(b"block%d" % self.block))
        return At(BlockNumber(self.block), block, self._log, Hash32(keccak(b"tx%d/%d" % (self.block, self._log))))

    def _settle(self, settlement: Settlement, served: Served) -> None:
        self.settlements.append(settlement)
        self.served[self.block, self._log] = served
        self._log += 1
