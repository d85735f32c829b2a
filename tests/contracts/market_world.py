"""A market with people in it: accounts, a signer bench, and one line for each step of the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import plain_layout as layout
from eth_abi import encode
from eth_keys import keys
from market_evm import CallReverted, Evm, Outcome

from challenger.chain.hashing import keccak

ETH = 10**18
WINDOW, ANSWER, RULING = 3600, 600, 1800
DEAD = bytes.fromhex("000000000000000000000000000000000000dead")
INPUT, WEIGHTS, OUTPUT, OPENING = range(4)
CHALLENGER, PROVIDER, EXPIRED, MOOT = 1, 2, 3, 4
ANSWERED, LOST, DEMAND_MOOT = 1, 2, 3
JOB_OPEN, FINAL, FRAUD, VOID = range(4)
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

DEFAULTS: dict[str, Any] = {
    "window": WINDOW,
    "answerPeriod": ANSWER,
    "sealAge": 1,
    "maxSealAge": 50,
    "maxDisputes": 3,
    "jobCollateral": ETH,
    "modelBond": 2 * ETH,
    "challengeBond": ETH // 10,
    "demandBond": ETH // 100,
    "bountyMillionths": 400_000,
    "maxInline": 4096,
}


def account(name: str) -> bytes:
    return keccak(b"account" + name.encode())[12:]


def word(text: str) -> bytes:
    return keccak(b"word" + text.encode())


@cache
def signer(index: int) -> tuple[keys.PrivateKey, bytes]:
    key = keys.PrivateKey(word(f"signer{index}"))
    return key, key.public_key.to_canonical_address()


def bench(count: int) -> list[keys.PrivateKey]:
    """``count`` keys in ascending order of their addresses."""
    return [key for key, _ in sorted((signer(i) for i in range(count)), key=lambda pair: pair[1])]


def sign(key: keys.PrivateKey, digest: bytes) -> bytes:
    raw = key.sign_msg_hash(digest).to_bytes()
    return raw[:64] + bytes([raw[64] + 27])


@dataclass(frozen=True)
class Data:
    """A bundle of one tensor, and what is known of it."""

    name: str

    @property
    def tensors(self) -> dict[bytes, layout.Tensor]:
        return {b"x": (1, (2, 3), (self.name.encode() * 24)[:24])}

    @property
    def data(self) -> bytes:
        return layout.bundle(self.tensors)

    @property
    def root(self) -> bytes:
        return layout.bundle_root(self.tensors)


BOUNDARIES = 5
TILES = [bytes([i]) * 1024 for i in range(6)]
TILE_LEAVES = [layout.tile(tile) for tile in TILES]


@dataclass
class Run:
    """What a provider commits to: its leaves from input to output."""

    leaves: list[bytes]

    @property
    def state_root(self) -> bytes:
        return layout.root(self.leaves)

    def path(self, index: int) -> list[bytes]:
        return layout.path(self.leaves, index)


def run_of(given: Data, result: Data, salt: str = "") -> Run:
    middle = [word(f"{given.name}/{result.name}/{salt}/{i}") for i in range(BOUNDARIES - 2)]
    return Run([given.root, *middle, result.root])


@dataclass
class World:
    """Deployed contracts and the steps that people take. Names stand for accounts; amounts are wei."""

    overrides: dict[str, Any] = field(default_factory=dict)
    signers: int = 3
    k: int = 2
    ruling_period: int = RULING
    chain_id: int = 31337

    def __post_init__(self) -> None:
        self.evm = Evm(self.chain_id)
        self.keys = bench(self.signers)
        addresses = [key.public_key.to_canonical_address() for key in self.keys]
        self.adjudicator = self.evm.deploy("SignerAdjudicator", addresses, self.k, self.ruling_period)
        self.params = {**DEFAULTS, "adjudicator": self.adjudicator, **self.overrides}
        self.market = self.evm.deploy("InferenceMarket", tuple(self.params.values()))
        self.people: list[str] = []
        self._salt = 0
        for name in ("registrar", "requester", "provider", "challenger", "other"):
            self.enter(name)

    def enter(self, name: str) -> bytes:
        """Gives ``name`` an account with 1,000 ether."""
        if name not in self.people:
            self.people.append(name)
            self.evm.fund(account(name), 1000 * ETH)
        return account(name)

    # --- plain calls ---

    def send(self, who: str, function: str, *args: Any, value: int = 0) -> Outcome:
        return self.evm.send(self.enter(who), self.market, function, *args, value=value)

    def do(self, who: str, function: str, *args: Any, value: int = 0) -> Outcome:
        """The call must succeed."""
        outcome = self.send(who, function, *args, value=value)
        if not outcome.ok:
            raise CallReverted(f"{who}.{function}: {outcome.error}{outcome.error_args}")
        return outcome

    def fails(self, error: str, who: str, function: str, *args: Any, value: int = 0) -> tuple[Any, ...]:
        """The call must revert with ``error``; its arguments."""
        outcome = self.send(who, function, *args, value=value)
        assert not outcome.ok, f"{who}.{function} went through, {error} expected"
        assert outcome.error == error, f"{who}.{function}: {outcome.error}{outcome.error_args}, {error} expected"
        return outcome.error_args

    def view(self, function: str, *args: Any) -> Any:
        return self.evm.view(self.market, function, *args)

    def balance(self, who: str) -> int:
        return int(self.view("balanceOf", account(who)))

    def free(self, who: str) -> int:
        return int(self.view("freeStake", account(who)))

    def wealth(self, who: str) -> int:
        """Everything that is ``who``'s: ether outside, credit, stake (free and locked)."""
        locked = self.view("openWork", account(who)) * self.params["jobCollateral"]
        return self.evm.balance(account(who)) + self.balance(who) + self.free(who) + locked

    def wait(self, seconds: int) -> None:
        self.evm.mine(1, seconds)

    def wait_until(self, time: int) -> None:
        self.evm.mine(1, time - self.evm.time)

    # --- steps ---

    def spec(self, **changes: Any) -> tuple[Any, ...]:
        fields = {
            "fileDigest": word("file"),
            "artefactRoot": layout.root(TILE_LEAVES),
            "programRoot": word("program"),
            "specVersion": 0,
            "mode": 0,
            "boundaries": BOUNDARIES,
            "artefactTiles": len(TILES),
            "uri": "file:model",
            "knownInput": Data("known").data,
            "knownOutputRoot": word("known output"),
        }
        return tuple({**fields, **changes}.values())

    def register(self, who: str = "registrar", **changes: Any) -> bytes:
        value = self.params["modelBond"]
        return bytes.fromhex(self.do(who, "registerModel", self.spec(**changes), value=value).output.hex())

    def open_task(
        self,
        model: bytes,
        given: Data,
        *,
        who: str = "requester",
        uri: bool = False,
        fee: int = ETH // 2,
        lifetime: int = 1000,
        entropy: str = "entropy",
    ) -> bytes:
        data, place = (b"", "file:input") if uri else (given.data, "")
        deadline = self.evm.time + lifetime
        args = (model, given.root, data, place, len(given.data), word(entropy), deadline)
        return self.do(who, "openTask", *args, value=fee).output

    def take(self, task: bytes, who: str = "provider") -> bytes:
        """Waits for the beacon, stakes what is missing and takes; the seed."""
        opened = self.view("task", task)["openedBlock"]
        if self.evm.block < opened + 2:
            self.evm.mine(opened + 2 - self.evm.block)
        missing = self.params["jobCollateral"] - self.free(who)
        if missing > 0:
            self.do(who, "stake", value=missing)
        return bytes(self.do(who, "take", task).log("TaskTaken")["seed"])

    def commit_args(self, task: bytes, result: Data, run: Run, *, uri: bool = False) -> tuple[Any, ...]:
        data, place = (b"", "file:output") if uri else (result.data, "")
        first, last = run.path(0), run.path(BOUNDARIES - 1)
        return task, result.root, run.state_root, data, place, len(result.data), first, last

    def commit(self, task: bytes, result: Data, run: Run, *, who: str = "provider", uri: bool = False) -> bytes:
        return bytes(self.do(who, "commit", *self.commit_args(task, result, run, uri=uri)).output)

    def job(
        self,
        *,
        model: bytes | None = None,
        who: str = "provider",
        requester: str = "requester",
        input_uri: bool = False,
        output_uri: bool = False,
        tag: str = "",
        fee: int = ETH // 2,
    ) -> bytes:
        """A commitment from nothing (honest: its roots are ``run_of(...)`` without salt)."""
        model = model if model is not None else self.register(uri=f"file:{tag}")
        given, result = Data("in" + tag), Data("out" + tag)
        task = self.open_task(model, given, who=requester, uri=input_uri, fee=fee)
        self.take(task, who)
        return self.commit(task, result, run_of(given, result), who=who, uri=output_uri)

    def claim(self, job: bytes, name: str = "other answer") -> tuple[bytes, ...]:
        self._salt += 1
        return job, word(name), word(name + "/state"), word("evidence"), word(f"salt{self._salt}")

    def sealed(self, who: str, claim: tuple[bytes, ...]) -> bytes:
        types = ["string", "address", *["bytes32"] * 5]
        return keccak(encode(types, ["seal/1", account(who), *claim]))

    def seal(self, who: str, claim: tuple[bytes, ...]) -> None:
        self.do(who, "seal", self.sealed(who, claim))

    def challenge(self, job: bytes, who: str = "challenger", *, blocks: int = 1, seconds: int = 12) -> int:
        """Seals, waits and challenges; the dispute's id."""
        claim = self.claim(job)
        self.seal(who, claim)
        self.evm.mine(blocks, seconds)
        outcome = self.do(who, "challenge", *claim, value=self.params["challengeBond"])
        return int.from_bytes(outcome.output, "big")

    def signatures(self, dispute: int, fraud: bool, keys_: list[Any] | None = None) -> list[bytes]:
        digest = self.evm.view(self.adjudicator, "rulingDigest", self.market, dispute, fraud)
        return [sign(key, digest) for key in (keys_ if keys_ is not None else self.keys[: self.k])]

    def rule(self, dispute: int, fraud: bool) -> None:
        signatures = self.signatures(dispute, fraud)
        outcome = self.evm.send(account("other"), self.adjudicator, "rule", self.market, dispute, fraud, signatures)
        if not outcome.ok:
            raise CallReverted(f"rule: {outcome.error}{outcome.error_args}")

    def settle(self, dispute: int, who: str = "other") -> dict[str, Any]:
        return self.do(who, "settle", dispute).log("Settled")

    def demand(self, job: bytes, part: int, index: int = 0, who: str = "challenger") -> int:
        outcome = self.do(who, "demand", job, part, index, value=self.params["demandBond"])
        return int.from_bytes(outcome.output, "big")

    def split(self, amount: int) -> tuple[int, int]:
        """What the winner gets of a loser's ``amount``, and what is burnt."""
        paid = amount * self.params["bountyMillionths"] // 1_000_000
        return paid, amount - paid
