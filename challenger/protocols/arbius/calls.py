"""Calls into the Arbius engine, and the identifiers that both sides compute. Pure.

Amounts are units of the stake token, 10¹⁸ to one; no call carries ether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_abi.abi import encode

from challenger.chain.codec import encode_call
from challenger.chain.hashing import keccak
from challenger.domain import Address, Call, Hash32, ModelId, TaskId, Wei
from challenger.protocols.arbius.abi import CALLS

#: The most that one piece of a count may name: a uint32.
MAX_PIECE = 2**32 - 1


def commitment_of(validator: Address, task: TaskId, cid: bytes) -> Hash32:
    """What a solver signals in an earlier block, so that nobody can copy its solution."""
    return Hash32(keccak(encode(("address", "bytes32", "bytes"), (validator, task, cid))))


def task_id(sender: Address, previous: Hash32, model: ModelId, fee: int, cid: bytes) -> TaskId:
    """``previous``: the id of the engine's task before this one; ``cid``: of the input."""
    types = ("address", "bytes32", "bytes32", "uint256", "bytes")
    return TaskId(keccak(encode(types, (sender, previous, model, fee, cid))))


def model_id(sender: Address, addr: Address, fee: int, cid: bytes) -> ModelId:
    """``cid``: of the template."""
    return ModelId(keccak(encode(("address", "address", "uint256", "bytes"), (sender, addr, fee, cid))))


@dataclass(frozen=True, slots=True)
class EngineCalls:
    """Calls to one engine."""

    engine: Address

    def _call(self, name: str, *args: object) -> Call:
        return Call(self.engine, encode_call(CALLS, name, args), Wei(0))

    # the challenger's

    def contest(self, task: TaskId) -> Call:
        return self._call("submitContestation", task)

    def suggest(self, task: TaskId) -> Call:
        return self._call("suggestContestation", task)

    def vote(self, task: TaskId, yea: bool) -> Call:
        return self._call("voteOnContestation", task, yea)

    def finish(self, task: TaskId, pieces: int) -> Call:
        """Counts, and pays the next ``pieces`` voters of the side that won."""
        return self._call("contestationVoteFinish", task, pieces)

    def claim(self, task: TaskId) -> Call:
        return self._call("claimSolution", task)

    # the other sides'

    def deposit(self, validator: Address, amount: int) -> Call:
        return self._call("validatorDeposit", validator, amount)

    def withdraw(self, amount: int) -> Call:
        """Announces it; the tokens can be had later."""
        return self._call("initiateValidatorWithdraw", amount)

    def register_model(self, addr: Address, fee: int, template: bytes) -> Call:
        return self._call("registerModel", addr, fee, template)

    def submit_task(self, owner: Address, model: ModelId, fee: int, data: bytes, version: int = 0) -> Call:
        return self._call("submitTask", version, owner, model, fee, data)

    def submit_tasks(self, owner: Address, model: ModelId, fee: int, data: bytes, count: int, version: int = 0) -> Call:
        """``count`` tasks with one input, each for ``fee``."""
        return self._call("bulkSubmitTask", version, owner, model, fee, data, count)

    def signal(self, commitment: Hash32) -> Call:
        return self._call("signalCommitment", commitment)

    def solve(self, task: TaskId, cid: bytes) -> Call:
        return self._call("submitSolution", task, cid)

    def solve_all(self, tasks: Sequence[TaskId], cids: Sequence[bytes]) -> Call:
        return self._call("bulkSubmitSolution", list(tasks), list(cids))
