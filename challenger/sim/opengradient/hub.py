"""The doubles of hub and precompile on a chain: answers are planned, then asked for as users do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from challenger.chain.answers import Receipt
from challenger.chain.codec import decode_result, encode_args, encode_call, encode_deploy
from challenger.contracts import double
from challenger.domain import Address, BlockNumber, Call, Wei
from challenger.protocols.opengradient.wire import (
    Form,
    ModelOutput,
    Request,
    output_tuple,
    precompile_call,
    request_tuple,
    run_call,
)
from challenger.sim.wallet import Wallet

_ABI = double("OpenGradientHub").abi
_OUTPUT = next(entry for entry in _ABI if entry.get("name") == "InferenceResult")["inputs"]


@dataclass(frozen=True, slots=True)
class Planned:
    """What the nodes will answer. ``model``: the one that their event names, empty for the one asked for."""

    inference: str
    output: ModelOutput
    model: str = ""


class Hub:
    """One deployment; everything is sent from ``wallet``, on a chain that mines by itself."""

    def __init__(self, wallet: Wallet, address: Address, precompile: Address, start_block: BlockNumber) -> None:
        self.wallet = wallet
        self.address = address
        self.precompile = precompile
        self.start_block = start_block

    @classmethod
    async def deploy(cls, wallet: Wallet, form: Form = Form.FULL) -> Hub:
        made = encode_deploy(double("OpenGradientHub").bytecode, _ABI, [form is Form.BRIEF])
        address, receipt = await wallet.create(made)
        raw = await wallet.rpc.call(address, encode_call(_ABI, "precompile", ()))
        return cls(wallet, address, Address(decode_result(_ABI, "precompile", raw)), receipt.block)

    async def plan(self, answer: Planned) -> None:
        output = encode_args(_OUTPUT, [output_tuple(answer.output)])
        await self._send(self.address, encode_call(_ABI, "plan", (answer.inference, answer.model, output)))

    async def run(self, request: Request, answer: Planned) -> Receipt:
        """By way of the hub."""
        await self.plan(answer)
        return await self._send(self.address, run_call(request))

    async def run_past(self, request: Request, answer: Planned) -> Receipt:
        """Of the precompile itself."""
        await self.plan(answer)
        return await self._send(self.precompile, precompile_call(request))

    async def run_many(self, requests: Sequence[Request], answers: Sequence[Planned], through_hub: int) -> Receipt:
        """In one transaction, by a contract: the first ``through_hub`` by way of the hub."""
        for answer in answers:
            await self.plan(answer)
        asked = [request_tuple(one) for one in requests]
        return await self._send(self.address, encode_call(_ABI, "ask", (asked, through_hub)))

    async def _send(self, to: Address, data: bytes) -> Receipt:
        return await self.wallet.transact(Call(to, data, Wei(0)))
