"""What each step costs, in whole transactions on the in-process chain: ``python tests/contracts/gas.py`` prints the table.

The model has the shape of the sentence encoder of the demo: three int32[1, 128] inputs (1.6 KiB), one float32[1, 384]
output (1.6 KiB), eight boundaries, 88,000 weight tiles. 2 of 3 signers rule.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import plain_layout as layout
from eth_abi import encode
from market_world import ANSWER, DEFAULTS, ETH, INPUT, OPENING, OUTPUT, RULING, WEIGHTS, WINDOW, Run, bench, sign, word

from challenger.chain.hashing import keccak
from challenger.contracts import artifact

BOUNDARIES, TILES = 8, 88_000
GAS_LIMIT = 25_000_000


def tensors(seed: int, count: int, width: int) -> dict[bytes, layout.Tensor]:
    data = b"".join(keccak(bytes([seed, i % 256, i // 256])) for i in range(width // 8))
    return {f"tensor.{i}".encode(): (2, (1, width), data) for i in range(count)}


GIVEN, RESULT = tensors(1, 3, 128), tensors(2, 1, 384)
LARGE = {b"large": (1, (43, 256), (bytes(range(1, 256)) * 173)[: 43 * 1024])}
WORST = {b"worst": (1, (11_000, 1), (bytes(range(1, 256)) * 173)[:44_000])}
TILE = bytes(range(256)) * 4
TILE_PATH = [word(f"sibling{i}") for i in range((TILES - 1).bit_length())]


def artefact_root() -> bytes:
    node = layout.tile(TILE)
    for sibling in TILE_PATH:
        node = layout.node(node, sibling)
    return node


class Bill:
    """A chain with the contracts deployed; every transaction's gas is written down under a name."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from web3 import EthereumTesterProvider, Web3

            self.provider = EthereumTesterProvider()
            self.w3 = Web3(self.provider)
        self.gas: dict[str, int] = {}
        accounts = self.w3.eth.accounts
        self.registrar, self.requester, self.taker, self.challenger, self.other = accounts[:5]
        self.keys = bench(3)
        signers = [key.public_key.to_checksum_address() for key in self.keys]
        self.adjudicator = self.deploy("SignerAdjudicator", signers, 2, RULING)
        params = {**DEFAULTS, "maxInline": 45_056, "adjudicator": self.adjudicator.address}
        self.market = self.deploy("InferenceMarket", tuple(params.values()))
        self.anchor = self.deploy("EpochAnchor")
        self.tag = 0

    def deploy(self, name: str, *args: Any) -> Any:
        built = artifact(name)
        factory = self.w3.eth.contract(abi=built.abi, bytecode=built.bytecode)
        sent = factory.constructor(*args).transact({"from": self.w3.eth.accounts[0], "gas": GAS_LIMIT})
        receipt = self.w3.eth.wait_for_transaction_receipt(sent)
        self.gas[f"deploy {name}"] = receipt["gasUsed"]
        return self.w3.eth.contract(address=receipt["contractAddress"], abi=built.abi)

    def send(self, who: str, signature: str, *args: Any, value: int = 0, note: str = "", on: Any = None) -> Any:
        call = (on or self.market).get_function_by_signature(signature)(*args)
        sent = call.transact({"from": who, "gas": GAS_LIMIT, "value": value})
        receipt = self.w3.eth.wait_for_transaction_receipt(sent)
        assert receipt["status"] == 1, signature
        if note:
            self.gas[note] = receipt["gasUsed"]
        return receipt

    def log(self, receipt: Any, event: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (found,) = self.market.events[event]().process_receipt(receipt)
        return found["args"]

    def now(self) -> int:
        return int(self.w3.eth.get_block("latest")["timestamp"])

    def wait(self, seconds: int) -> None:
        self.provider.ethereum_tester.time_travel(self.now() + seconds)

    def mine(self, blocks: int) -> None:
        self.provider.ethereum_tester.mine_blocks(blocks)

    # --- steps ---

    def model(self, note: str = "") -> bytes:
        self.tag += 1
        spec = (
            word("file"), artefact_root(), word("program"), 0, 0, BOUNDARIES, TILES,
            f"https://models.example/{self.tag}/manifest.json", layout.bundle(GIVEN), layout.bundle_root(RESULT),
        )  # fmt: skip
        types = "(bytes32,bytes32,bytes32,uint32,uint8,uint32,uint32,string,bytes,bytes32)"
        receipt = self.send(self.registrar, f"registerModel({types})", spec, value=2 * ETH, note=note)
        return bytes(self.log(receipt, "ModelRegistered")["model"])

    def task(self, model: bytes, given: dict[bytes, layout.Tensor], *, uri: bool = False, note: str = "") -> bytes:
        data = layout.bundle(given)
        place = ("", "https://data.example/input")[uri]
        args = (model, layout.bundle_root(given), b"" if uri else data, place, len(data), word("e"), self.now() + 1000)
        signature = "openTask(bytes32,bytes32,bytes,string,uint32,bytes32,uint64)"
        return bytes(self.log(self.send(self.requester, signature, *args, value=ETH, note=note), "TaskOpened")["task"])

    def take(self, task: bytes, note: str = "") -> None:
        self.send(self.taker, "stake()", value=ETH)
        self.mine(2)
        self.send(self.taker, "take(bytes32)", task, note=note)

    def job(
        self,
        given: dict[bytes, layout.Tensor] = GIVEN,
        *,
        model: bytes | None = None,
        uri: bool = False,
        note: str = "",
    ) -> tuple[bytes, Run]:
        task = self.task(model or self.model(), given, uri=uri)
        self.take(task)
        run = Run([layout.bundle_root(given), *map(word, "abcdef"), layout.bundle_root(RESULT)])
        data = layout.bundle(RESULT)
        place = ("", "https://data.example/output")[uri]
        args = (
            task, layout.bundle_root(RESULT), run.state_root, b"" if uri else data, place, len(data),
            run.path(0), run.path(BOUNDARIES - 1),
        )  # fmt: skip
        signature = "commit(bytes32,bytes32,bytes32,bytes,string,uint32,bytes32[],bytes32[])"
        receipt = self.send(self.taker, signature, *args, note=note)
        return bytes(self.log(receipt, "Committed")["job"]), run

    def dispute(self, job: bytes, note: bool = False) -> int:
        self.tag += 1
        claim = (job, word("o"), word("s"), word("e"), word(f"salt{self.tag}"))
        types = ["string", "address", *["bytes32"] * 5]
        sealed = keccak(encode(types, ["seal/1", self.challenger, *claim]))
        self.send(self.challenger, "seal(bytes32)", sealed, note="seal" if note else "")
        signature = "challenge(bytes32,bytes32,bytes32,bytes32,bytes32)"
        receipt = self.send(self.challenger, signature, *claim, value=ETH // 10, note="challenge" if note else "")
        return int(self.log(receipt, "Challenged")["dispute"])

    def rule(self, dispute: int, fraud: bool, note: str = "") -> None:
        digest = self.adjudicator.functions.rulingDigest(self.market.address, dispute, fraud).call()
        signatures = [sign(key, digest) for key in self.keys[:2]]
        args = (self.market.address, dispute, fraud, signatures)
        self.send(self.other, "rule(address,uint256,bool,bytes[])", *args, note=note, on=self.adjudicator)

    def settle(self, dispute: int, note: str) -> None:
        self.send(self.other, "settle(uint256)", dispute, note=note)

    def demand(self, job: bytes, part: int, index: int = 0, note: str = "") -> int:
        args = (job, part, index)
        receipt = self.send(self.challenger, "demand(bytes32,uint8,uint32)", *args, value=ETH // 100, note=note)
        return int(self.log(receipt, "Demanded")["demand"])

    def answer(self, demand: int, data: bytes, note: str) -> None:
        self.send(self.other, "answer(uint256,bytes)", demand, data, note=note)


def _models_and_tasks(bill: Bill) -> None:
    model = bill.model("registerModel")
    spare = bill.model()
    bill.send(bill.registrar, "retireModel(bytes32)", spare, note="retireModel, bond back")
    task = bill.task(model, GIVEN, note="openTask, 1.6 KiB inline")
    bill.send(bill.requester, "cancelTask(bytes32)", task, note="cancelTask")
    bill.task(model, GIVEN, uri=True, note="openTask, by URI")
    bill.task(model, LARGE, note="openTask, 43 KiB inline")
    bill.send(bill.other, "stake()", value=ETH, note="stake, first")
    bill.send(bill.other, "unstake(uint256)", ETH, note="unstake")
    bill.send(bill.other, "withdraw()", note="withdraw")
    late = bill.task(model, GIVEN)
    bill.take(late, "take")
    bill.wait(2000)
    bill.send(bill.other, "lapseTask(bytes32)", late, note="lapseTask")


def _disputes(bill: Bill) -> None:
    job, _ = bill.job(note="commit, 1.6 KiB inline")
    first = bill.dispute(job, note=True)
    bill.rule(first, fraud=False, note="rule, 2 of 3 signers")
    bill.settle(first, "settle, provider right")
    second, third = bill.dispute(job), bill.dispute(job)
    bill.rule(second, fraud=True)
    bill.settle(second, "settle, challenger right")
    bill.settle(third, "settle, moot")
    job, _ = bill.job()
    bill.send(bill.taker, "concede(uint256)", bill.dispute(job), note="concede")
    job, _ = bill.job()
    expired = bill.dispute(job)
    bill.wait(RULING)
    bill.settle(expired, "settle, expired")
    bill.wait(WINDOW)
    bill.send(bill.other, "finalise(bytes32)", job, note="finalise, VOID")
    job, _ = bill.job()
    bill.wait(WINDOW)
    bill.send(bill.other, "finalise(bytes32)", job, note="finalise, FINAL")


def _demands(bill: Bill) -> None:
    job, run = bill.job(uri=True, note="commit, by URI")
    given = bill.demand(job, INPUT, note="demand")
    bill.answer(given, layout.bundle(GIVEN), "answer, 1.6 KiB")
    weights, opening = bill.demand(job, WEIGHTS), bill.demand(job, OPENING, 3)
    signature = "answerTile(uint256,bytes,bytes32[])"
    bill.send(bill.registrar, signature, weights, TILE, TILE_PATH, note="answerTile, weights")
    bill.send(bill.taker, signature, opening, run.leaves[3], run.path(3), note="answerTile, opening")
    for given_tensors, note in [(LARGE, "answer, 43 KiB in rows of 1 KiB"), (WORST, "answer, 43 KiB in rows of 4 B")]:
        job, _ = bill.job(given_tensors, uri=True)
        bill.answer(bill.demand(job, INPUT), layout.bundle(given_tensors), note)
    parts: list[tuple[int, str]] = [(INPUT, "input"), (WEIGHTS, "weights"), (OUTPUT, "output")]
    for part, name in parts:
        job, _ = bill.job(uri=True)
        demand = bill.demand(job, part)
        bill.wait(ANSWER)
        bill.send(bill.other, "claimDemand(uint256)", demand, note=f"claimDemand, {name} lost")


def _anchors(bill: Bill) -> None:
    bill.send(bill.other, "anchor(uint64,bytes32)", 1, word("c"), note="anchor", on=bill.anchor)
    bill.send(bill.other, "reveal(uint64,bytes32)", 1, word("s"), note="reveal", on=bill.anchor)


def measure() -> dict[str, int]:
    """Gas used by each step, in the order in which they were taken."""
    bill = Bill()
    steps: list[Callable[[Bill], None]] = [_models_and_tasks, _disputes, _demands, _anchors]
    for step in steps:
        step(bill)
    return bill.gas


def table(gas: dict[str, int]) -> str:
    rows = [f"| {name} | {used:,} |" for name, used in gas.items()]
    return "\n".join(["| step | gas |", "|---|---|", *rows])


if __name__ == "__main__":
    print(table(measure()))
