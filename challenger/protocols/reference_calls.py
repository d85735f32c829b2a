"""Calls into the reference protocol's contracts, and the identifiers that both sides compute. Pure.

A builder takes values and gives a ``Call``; nothing here asks the chain. Amounts are wei, times UTC seconds, roots and
identifiers 32 bytes. The contracts check everything again: a builder refuses only what could not be encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from eth_abi.abi import encode

from challenger.chain.hashing import keccak
from challenger.domain import (
    Address,
    Call,
    ChainId,
    CommitmentId,
    DemandId,
    DisputeId,
    Hash32,
    ModelId,
    Part,
    TaskId,
    Wei,
)

MODES = ("exact", "tolerance", "token")
PARTS = (Part.INPUT, Part.WEIGHTS, Part.OUTPUT, Part.OPENING)

_SPEC = ("bytes32", "bytes32", "bytes32", "uint32", "uint8", "uint32", "uint32", "string", "bytes", "bytes32")


def _data(name: str, types: Sequence[str], values: Sequence[object]) -> bytes:
    """Selector and arguments."""
    return keccak(f"{name}({','.join(types)})".encode())[:4] + encode(types, values)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a registrar says of a model. ``mode`` is an index into ``MODES``; ``known_input`` an encoded bundle."""

    file_digest: Hash32
    artefact_root: Hash32
    program_root: Hash32
    spec_version: int
    mode: int
    boundaries: int
    artefact_tiles: int
    uri: str
    known_input: bytes
    known_output_root: Hash32


@dataclass(frozen=True, slots=True)
class Claim:
    """What a challenger says is right about a commitment. ``salt`` hides the claim until the challenge opens it."""

    commitment: CommitmentId
    output_root: Hash32
    state_root: Hash32
    evidence: Hash32
    salt: Hash32


# --- identifiers ---------------------------------------------------------------------------------------------------


def model_id(chain: ChainId, market: Address, registrar: Address, spec: ModelSpec) -> ModelId:
    types = ("string", "uint256", "address", "address", *_SPEC)
    return ModelId(keccak(encode(types, ("model/1", chain, market, registrar, *astuple(spec)))))


def job_id(
    chain: ChainId,
    market: Address,
    task: TaskId,
    provider: Address,
    model: ModelId,
    output_root: Hash32,
    state_root: Hash32,
) -> CommitmentId:
    types = ("string", "uint256", "address", "bytes32", "address", "bytes32", "bytes32", "bytes32")
    values = ("job/1", chain, market, task, provider, model, output_root, state_root)
    return CommitmentId(keccak(encode(types, values)))


def seal_digest(challenger: Address, claim: Claim) -> Hash32:
    types = ("string", "address", "bytes32", "bytes32", "bytes32", "bytes32", "bytes32")
    values = ("seal/1", challenger, *astuple(claim))
    return Hash32(keccak(encode(types, values)))


def case_digest(
    commitment: CommitmentId,
    output_root: Hash32,
    state_root: Hash32,
    claimed_output_root: Hash32,
    claimed_state_root: Hash32,
    evidence: Hash32,
) -> Hash32:
    """What the adjudicator rules on: the commitment's roots, the challenger's, and the evidence."""
    types = ("string", *["bytes32"] * 6)
    values = ("case/1", commitment, output_root, state_root, claimed_output_root, claimed_state_root, evidence)
    return Hash32(keccak(encode(types, values)))


def task_seed(chain: ChainId, market: Address, task: TaskId, entropy: Hash32, beacon: Hash32) -> Hash32:
    """``beacon`` is the hash of the block after the one that opened the task."""
    packed = b"seed/1" + chain.to_bytes(32, "big") + bytes.fromhex(market[2:]) + task + entropy + beacon
    return Hash32(hashlib.sha256(packed).digest())


# --- the challenger's calls ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MarketCalls:
    """Calls to one ``InferenceMarket``."""

    market: Address

    def _call(self, name: str, types: Sequence[str] = (), values: Sequence[object] = (), value: int = 0) -> Call:
        return Call(self.market, _data(name, types, values), Wei(value))

    def seal(self, sealed: Hash32) -> Call:
        return self._call("seal", ("bytes32",), (sealed,))

    def challenge(self, claim: Claim, bond: Wei) -> Call:
        return self._call(
            "challenge", ("bytes32", "bytes32", "bytes32", "bytes32", "bytes32"), astuple(claim), value=bond
        )

    def settle(self, dispute: DisputeId) -> Call:
        return self._call("settle", ("uint256",), (dispute,))

    def demand(self, commitment: CommitmentId, part: Part, index: int, bond: Wei) -> Call:
        return self._call("demand", ("bytes32", "uint8", "uint32"), (commitment, PARTS.index(part), index), value=bond)

    def claim_demand(self, demand: DemandId) -> Call:
        return self._call("claimDemand", ("uint256",), (demand,))

    def finalise(self, commitment: CommitmentId) -> Call:
        return self._call("finalise", ("bytes32",), (commitment,))

    def withdraw(self) -> Call:
        return self._call("withdraw")

    # the other sides' calls

    def register_model(self, spec: ModelSpec, bond: Wei) -> Call:
        return self._call("registerModel", ("(" + ",".join(_SPEC) + ")",), (astuple(spec),), value=bond)

    def stake(self, amount: Wei) -> Call:
        return self._call("stake", value=amount)

    def unstake(self, amount: Wei) -> Call:
        return self._call("unstake", ("uint256",), (amount,))

    def open_task(
        self,
        model: ModelId,
        input_root: Hash32,
        input_data: bytes,
        input_uri: str,
        input_length: int,
        entropy: Hash32,
        deadline: int,
        fee: Wei,
    ) -> Call:
        """Exactly one of ``input_data`` (inline) and ``input_uri`` is given; ``input_length`` is the bundle's length."""
        types = ("bytes32", "bytes32", "bytes", "string", "uint32", "bytes32", "uint64")
        values = (model, input_root, input_data, input_uri, input_length, entropy, deadline)
        return self._call("openTask", types, values, value=fee)

    def take(self, task: TaskId) -> Call:
        return self._call("take", ("bytes32",), (task,))

    def cancel_task(self, task: TaskId) -> Call:
        return self._call("cancelTask", ("bytes32",), (task,))

    def lapse_task(self, task: TaskId) -> Call:
        return self._call("lapseTask", ("bytes32",), (task,))

    def commit(
        self,
        task: TaskId,
        output_root: Hash32,
        state_root: Hash32,
        output_data: bytes,
        output_uri: str,
        output_length: int,
        first_path: Sequence[bytes],
        last_path: Sequence[bytes],
    ) -> Call:
        """``first_path`` and ``last_path`` prove the state root's first and last leaf, siblings from the leaves up."""
        types = ("bytes32", "bytes32", "bytes32", "bytes", "string", "uint32", "bytes32[]", "bytes32[]")
        values = (
            task,
            output_root,
            state_root,
            output_data,
            output_uri,
            output_length,
            list(first_path),
            list(last_path),
        )
        return self._call("commit", types, values)

    def concede(self, dispute: DisputeId) -> Call:
        return self._call("concede", ("uint256",), (dispute,))

    def answer(self, demand: DemandId, data: bytes) -> Call:
        """The whole bundle, for a demanded input or output."""
        return self._call("answer", ("uint256", "bytes"), (demand, data))

    def answer_tile(self, demand: DemandId, leaf: bytes, path: Sequence[bytes]) -> Call:
        """A 1024-byte weight tile, or a 32-byte leaf of the state root, with its path."""
        return self._call("answerTile", ("uint256", "bytes", "bytes32[]"), (demand, leaf, list(path)))


def rule(adjudicator: Address, market: Address, dispute: DisputeId, fraud: bool, signatures: Sequence[bytes]) -> Call:
    """``signatures`` stand in ascending order of their signers' addresses."""
    types = ("address", "uint256", "bool", "bytes[]")
    data = _data("rule", types, (market, dispute, fraud, list(signatures)))
    return Call(adjudicator, data, Wei(0))


def anchor(contract: Address, epoch: int, commitment: Hash32) -> Call:
    return Call(contract, _data("anchor", ("uint64", "bytes32"), (epoch, commitment)), Wei(0))


def reveal(contract: Address, epoch: int, secret: Hash32) -> Call:
    return Call(contract, _data("reveal", ("uint64", "bytes32"), (epoch, secret)), Wei(0))
