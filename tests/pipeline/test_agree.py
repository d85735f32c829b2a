"""Before money moves enough independent endpoints must show the same case; each way to contradict is named, and silence
is none of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.domain import Address, Block, ChainEvent, CommitmentId, Hash32, ModelDisabled, ModelId, UnixTime, Window
from challenger.errors import MalformedLog
from challenger.pipeline.quorum import Outcome, Quorum, Source, Stance
from challenger.protocols.base import IMPLEMENTATION_SLOT
from tests.chain.chain_echo import deploy_echo, sign, topic

WINDOW = Window(UnixTime(1), UnixTime(9), frozen=True)
UNKNOWN = {"error": {"code": -32601, "message": "the method does not exist"}}


class Contract:
    """Each log of the echo is an event whose text is its data."""

    def __init__(self, pins: dict[Address, Hash32]) -> None:
        self.pins = pins

    async def shown(self, reader: Any, log: Any) -> ChainEvent:
        if not log.data:
            raise MalformedLog("empty")
        return ModelDisabled(log.at, ModelId(log.data))

    async def window_at(self, reader: Any, commitment: CommitmentId, block: Hash32) -> Window:
        return WINDOW


class Faulty:
    """A real endpoint whose answers to ``method`` go through ``change``; with ``height`` it knows no newer block."""

    def __init__(self, inner: Any, method: str = "", change: Any = None, height: int | None = None) -> None:
        self.inner, self.method, self.change, self.height = inner, method, change, height

    async def make_request(self, method: Any, params: Any) -> Any:
        if self.height is not None:
            if method == "eth_getBlockByNumber" and int(params[0], 16) > self.height:
                return {"result": None}
            if method == "eth_getTransactionReceipt":
                return {"result": None}
        answer = await self.inner.make_request(method, params)
        if method == "eth_getStorageAt" and params[1] != hex(IMPLEMENTATION_SLOT):
            return answer
        return self.change(answer) if method == self.method else answer


@pytest.fixture
async def scene(embedded: EmbeddedDevnet):
    echo = await deploy_echo(embedded, embedded.accounts[0])
    tx = await embedded.rpc.send_raw(sign(embedded.accounts[0], 1, echo, topic("said") + b"a model"))
    receipt = await embedded.rpc.receipt(tx)
    await embedded.mine(3)
    assert receipt is not None
    contract = Contract({echo: Hash32(keccak(await embedded.rpc.code(echo)))})
    return embedded, contract, await contract.shown(None, receipt.logs[0]), await embedded.rpc.block(3)


@pytest.fixture
async def embedded():
    async with EmbeddedDevnet() as devnet:
        yield devnet


async def ask(scene: Any, *others: Faulty, needed: int = 2, hosts: tuple[str, ...] = ("a", "b", "c")) -> Outcome:
    devnet, contract, event, at = scene
    providers = [devnet.provider, *others]
    rpcs = [Rpc(one, name=f"node {n}", attempts=1) for n, one in enumerate(providers)]
    sources = [Source(rpc, host) for rpc, host in zip(rpcs, hosts, strict=False)]
    return await Quorum(sources, contract, needed).ask([event], at, WINDOW)


async def test_two_that_agree_are_a_quorum_and_one_is_none(scene: Any):
    inner = scene[0].provider
    assert (await ask(scene, Faulty(inner))).reason == ""
    assert "1 of 2 independent endpoints agree" in (await ask(scene)).reason
    assert (await ask(scene, needed=1)).reason == ""


async def test_two_names_of_one_host_are_one(scene: Any):
    outcome = await ask(scene, Faulty(scene[0].provider), hosts=("a", "a"))
    assert "1 of 2 independent endpoints agree" in outcome.reason
    assert not outcome.against


def altered_log(answer: Any) -> Any:
    logs = [log | {"data": "0x00"} for log in answer["result"]["logs"]]
    return {"result": answer["result"] | {"logs": logs}}


def missing_log(answer: Any) -> Any:
    return {"result": answer["result"] | {"logs": []}}


def other_block(answer: Any) -> Any:
    return {"result": answer["result"] | {"hash": "0x" + "77" * 32}}


@pytest.mark.parametrize(
    ("method", "change", "says"),
    [
        ("eth_getTransactionReceipt", altered_log, "node 1 shows another ModelDisabled"),
        ("eth_getTransactionReceipt", missing_log, "node 1 shows another ModelDisabled"),
        ("eth_getBlockByNumber", other_block, "node 1 has another block"),
        ("eth_getCode", lambda _a: {"result": "0x6000"}, "node 1 shows other code"),
        ("eth_getStorageAt", lambda _a: {"result": "0x" + "33" * 32}, "node 1 shows other code"),
    ],
)
async def test_one_that_contradicts_stops_it_however_many_agree(scene: Any, method: str, change: Any, says: str):
    inner = scene[0].provider
    outcome = await ask(scene, Faulty(inner, method, change), Faulty(inner))
    assert says in outcome.reason
    assert outcome.against
    stances = [one.stance for one in outcome.statements]
    assert stances == [Stance.AGREES, Stance.CONTRADICTS, Stance.AGREES]


def away(_answer: Any) -> Any:
    raise OSError("connection refused")


@pytest.mark.parametrize("silent", [{"height": 0}, {"height": 2}, {"method": "eth_getCode", "change": away}])
async def test_one_that_lags_or_is_away_gives_no_answer_and_is_not_held_to_contradict(scene: Any, silent: Any):
    inner = scene[0].provider
    alone = await ask(scene, Faulty(inner, **silent))
    assert "1 of 2 independent endpoints agree (node 1" in alone.reason
    assert not alone.against
    assert (await ask(scene, Faulty(inner, **silent), Faulty(inner))).reason == ""


async def test_a_receipt_that_is_not_there_is_no_answer(scene: Any):
    pruned = Faulty(scene[0].provider, "eth_getTransactionReceipt", lambda _a: {"result": None})
    outcome = await ask(scene, pruned)
    assert "has the block but not the receipt" in outcome.reason
    assert not outcome.against


async def test_what_all_show_but_no_block_holds_is_not_proved(scene: Any):
    devnet, contract, event, at = scene
    # both endpoints tell the same lie in their receipts; the block's own hash does not
    lies = [Faulty(devnet.provider, "eth_getTransactionReceipt", altered_log) for _ in range(2)]
    sources = [Source(Rpc(one, name=f"liar {n}", attempts=1), str(n)) for n, one in enumerate(lies)]
    outcome = await Quorum(sources, contract, 2).ask([replace(event, model=ModelId(b"\0"))], at, WINDOW)
    assert outcome.reason.startswith("proof: block 2 does not hold the ModelDisabled")
    assert outcome.unproven


async def test_blocks_that_nobody_can_prove_stop_it(scene: Any):
    class Header:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def make_request(self, method: Any, params: Any) -> Any:
            answer = await self.inner.make_request(method, params)
            if method == "eth_getBlockByHash":
                return {"result": answer["result"] | {"receiptsRoot": "0x" + "11" * 32}}
            return answer

    devnet, contract, event, at = scene
    sources = [Source(Rpc(Header(devnet.provider), name="x", attempts=1), str(n)) for n in range(2)]
    outcome = await Quorum(sources, contract, 2).ask([event], at, WINDOW)
    assert "proof: " in outcome.reason
    assert "does not fit the block's hash" in outcome.reason
    assert isinstance(at, Block)
