"""A board on a chain of the test's own, and somebody to play every part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from board_protocol import PLUGIN
from board_protocol.adapter import ABI, CONTRACT

from challenger.chain.codec import EventDecoder, encode_call, encode_deploy
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Call, DisputeId, Hash32, Wei
from challenger.plugins.registry import Disputed, Place
from challenger.protocols.base import Accusation
from challenger.sim.wallet import Wallet

WINDOW = 3_600
OWNER, PROVIDER, OURS, RIVAL, JUDGE = range(5)
_DECODER = EventDecoder(ABI)


@dataclass(slots=True)
class BoardStage:
    """``challenger.plugins.kit.Stage``. The owner registers and asks as well."""

    devnet: EmbeddedDevnet
    wallets: list[Wallet]
    place: Place
    plugin: Disputed = PLUGIN
    model: Hash32 = Hash32(b"")
    questions: int = 0

    @property
    def rpc(self) -> Rpc:
        return self.devnet.rpc

    # what the kit asks for

    async def commit(self, *, honest: bool) -> Accusation:
        self.questions += 1
        right, wrong = _root("right", self.questions), _root("wrong", self.questions)
        task = await self.ask(_root("input", self.questions), b"question")
        answer = await self.answer(task, right if honest else wrong, right, b"answer")
        return Accusation(answer, right, right, _root("evidence", 0))

    async def send(self, call: Call) -> None:
        await self.wallets[OURS].transact(call)

    async def mine(self, seconds: int = 0) -> None:
        if seconds:
            await self.devnet.time_travel(to=(await self.rpc.block("latest")).time + seconds)
        else:
            await self.devnet.mine()

    async def decide(self, dispute: DisputeId, *, for_us: bool) -> None:
        await self.act(JUDGE, "rule", dispute, for_us)

    async def rival(self, accusation: Accusation) -> Address:
        roots = (accusation.output_root, accusation.state_root, accusation.evidence)
        await self.act(RIVAL, "dispute", accusation.commitment, *roots, value=5 * 10**16)
        return self.wallets[RIVAL].address

    # the other parts

    async def register(self, facts: dict[str, Any]) -> None:
        self.model = await self.act(OWNER, "register", facts)

    async def ask(self, root: Hash32, question: bytes) -> Any:
        """Returns the task's id."""
        return await self.act(OWNER, "ask", self.model, root, question, value=10**15)

    async def answer(self, task: Any, output_root: Hash32, state_root: Hash32, output: bytes) -> Any:
        """Returns the answer's id."""
        return await self.act(PROVIDER, "answer", task, output_root, state_root, output, value=10**17)

    async def act(self, who: int, name: str, *args: Any, value: int = 0) -> Any:
        """Calls the board; returns the first argument of the first event that came of it, None where none did."""
        call = Call(self.place.contract, encode_call(ABI, name, args), Wei(value))
        receipt = await self.wallets[who].transact(call)
        events = [event for log in receipt.logs if (event := _DECODER.decode(log)) is not None]
        return next(iter(events[0].args.values())) if events else None


def _root(what: str, number: int) -> Hash32:
    return Hash32(f"{what} {number}".encode().rjust(32, b"."))


MODEL = {
    "fileDigest": _root("file", 0),
    "artefactRoot": _root("artefact", 0),
    "programRoot": _root("program", 0),
    "specVersion": 1,
    "uri": "file:///nowhere",
    "knownInput": b"question",
    "knownOutputRoot": _root("known", 0),
}


@asynccontextmanager
async def board_stage(facts: dict[str, Any] | None = None) -> AsyncIterator[BoardStage]:
    async with EmbeddedDevnet() as devnet:
        wallets = [Wallet(devnet.rpc, account.key, f"account {i}") for i, account in enumerate(devnet.accounts[:5])]
        code = encode_deploy(bytes.fromhex(CONTRACT["bytecode"][2:]), ABI, [wallets[JUDGE].address, WINDOW])
        board, _ = await wallets[OWNER].create(code)
        place = Place(devnet.rpc, await devnet.rpc.chain_id(), board, wallets[OURS].address)
        stage = BoardStage(devnet, wallets, place)
        await stage.register(facts or MODEL)
        yield stage
