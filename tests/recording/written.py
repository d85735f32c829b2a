"""Chain recordings written by hand, as docs/recordings.md has them: a market without an EVM, thousands of jobs a second.

The model is a real one (two dense layers), its inputs are small and stand inline, and every ``cheat``-th answer has a
wrong bit. A job is closed when its window is over: final, or as a fraud that somebody else has proved. Blocks come every
twelve seconds and their hashes are made up, so there are no proofs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from eth_abi import encode
from eth_utils import event_abi_to_log_topic

from challenger.chain.codec import encode_call
from challenger.contracts import artifact
from challenger.domain import Address, BlockNumber, ChainId
from challenger.recording.lines import PART, Answer, Deployment
from replay.layout import bundle_root, decode_bundle, encode_bundle
from replay.model import load_model
from replay.recording import RecordingWriter
from replay.recording.runs import embed_model
from replay.run import prepare
from replay.trace import commit
from tests.replay.small_model import dense_model, digest

MARKET, ADJUDICATOR = "0x" + "42" * 20, "0x" + "43" * 20
GENESIS_TIME, BLOCK_TIME, WINDOW = 1_700_000_000, 12, 3_600
_ABI = artifact("InferenceMarket").abi
_EVENTS = {entry["name"]: entry for entry in _ABI if entry["type"] == "event"}
_SLOTS = (
    0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC,
    0xA3F0AD74E5423AEBFD80D3EF4346578335A9A72AEAEE59FF6CB3582B35133D50,
)
#: As ``InferenceMarket.params`` has them: window, answer period, seal ages, disputes, collateral, bonds, bounty, inline.
PARAMS = (WINDOW, 900, 2, 200, 8, 10**18, 10**17, 10**17, 10**16, 500_000, 4_096)


@dataclass(frozen=True)
class Job:
    number: int
    block: int
    provider: bytes
    honest: bool

    @property
    def commitment(self) -> bytes:
        return sha256(b"job %d" % self.number).digest()


def jobs(count: int, *, per_block: int, first: int, cheat: int, providers: int) -> Iterator[Job]:
    for number in range(count):
        provider = (1 + number % providers).to_bytes(20, "big")
        yield Job(number, first + number // per_block, provider, cheat == 0 or number % cheat != cheat - 1)


def write(
    path: Path,
    folder: Path,
    count: int = 40,
    *,
    per_block: int = 4,
    cheat: int = 10,
    providers: int = 5,
    tail: int = 30,
) -> list[Job]:
    """A recording of ``count`` jobs at ``path`` (the model is made in ``folder``), and ``tail`` blocks after the last."""
    manifest = dense_model(folder)
    model = load_model(manifest)
    prepared = prepare(model, "numpy")
    known = encode_bundle({"x": np.ones((1, 4), np.float32)})
    first = 10
    made = list(jobs(count, per_block=per_block, first=first + 1, cheat=cheat, providers=providers))
    last = made[-1].block + tail
    identity = sha256(b"model").digest()
    spec = (
        digest(manifest),
        model.artefact_root,
        model.program.root,
        model.program.spec_version,
        0,
        4,
        1,
        "https://models.example/dense/manifest.json",
        known,
        commit(prepared, decode_bundle(known)).output_root,
    )
    with RecordingWriter(path, ["chain"]) as writer:
        embed_model(writer, manifest)
        with writer.lines(PART) as add:
            deployment = Deployment(
                "reference", ChainId(31337), Address(MARKET), Address(""), BlockNumber(first), BlockNumber(last), False
            )
            add(deployment.as_line())
            for answer in _answers():
                add(answer.as_line())
            add(_block(3, [_event("ModelRegistered", [identity, bytes(20)], [spec], 3, 0)]))
            add(_block(first - 1, []))
            waiting, closing = iter(made), iter(made)
            job, done = next(waiting, None), next(closing, None)
            for number in range(first, last + 1):
                logs: list[dict[str, Any]] = []
                while job is not None and job.block == number:
                    logs += _logs(job, identity, prepared, len(logs))
                    job = next(waiting, None)
                while done is not None and time_of(done.block) + WINDOW <= time_of(number):
                    logs.append(_event("JobClosed", [done.commitment], [1 if done.honest else 2], number, len(logs)))
                    done = next(closing, None)
                add(_block(number, logs))
    return made


def _logs(job: Job, model: bytes, prepared: Any, at: int) -> list[dict[str, Any]]:
    given = np.full((1, 4), job.number % 977, np.float32) / 7
    given[0, 1] = job.number // 977
    data = encode_bundle({"x": given})
    receipt = commit(prepared, decode_bundle(data))
    output, state = receipt.output_root, receipt.state_root
    if not job.honest:
        output = bytes([output[0] ^ 1]) + output[1:]
    task = sha256(b"task %d" % job.number).digest()
    closes = time_of(job.block) + WINDOW
    result = receipt.output if job.honest else b""
    uri = "" if job.honest else f"https://data.example/{job.number}"
    length = len(receipt.output)
    opened = [bundle_root(data), data, "", len(data), bytes(32), 10**15, 2_000_000_000]
    said = [model, output, state, result, uri, length, time_of(job.block), closes]
    return [
        _event("TaskOpened", [task, model, bytes(19) + b"\x09"], opened, job.block, at),
        _event("TaskTaken", [task, job.provider], [bytes(32)], job.block, at + 1),
        _event("Committed", [job.commitment, task, job.provider], said, job.block, at + 2),
    ]


def time_of(number: int) -> int:
    return GENESIS_TIME + BLOCK_TIME * number


def block_hash(number: int) -> str:
    return "0x" + sha256(b"block %d" % number).hexdigest()


def _block(number: int, logs: list[dict[str, Any]]) -> dict[str, Any]:
    header = {
        "number": hex(number),
        "hash": block_hash(number),
        "parentHash": block_hash(number - 1),
        "timestamp": hex(time_of(number)),
    }
    return {"block": header, "logs": logs} if logs else {"block": header}


def _event(name: str, indexed: list[bytes], values: list[Any], block: int, at: int) -> dict[str, Any]:
    entry = _EVENTS[name]
    types = [_type(one) for one in entry["inputs"] if not one["indexed"]]
    return {
        "address": MARKET,
        "topics": [
            topic(name),
            *("0x" + topic.rjust(32, b"\0").hex() for topic in indexed),
        ],
        "data": "0x" + encode(types, values).hex(),
        "logIndex": hex(at),
        "transactionHash": "0x" + sha256(b"tx %d %d" % (block, at)).hexdigest(),
    }


def topic(event: str) -> str:
    return "0x" + event_abi_to_log_topic(_EVENTS[event]).hex()


def _type(entry: dict[str, Any]) -> str:
    if entry["type"] == "tuple":
        return f"({','.join(_type(one) for one in entry['components'])})"
    return str(entry["type"])


def _answers() -> Iterator[Answer]:
    params = encode(["uint64"] * 4 + ["uint8"] + ["uint256"] * 4 + ["uint32"] * 2 + ["address"], [*PARAMS, ADJUDICATOR])
    call = {"to": MARKET, "data": "0x" + encode_call(_ABI, "params", ()).hex()}
    yield Answer("eth_call", (call,), "0x" + params.hex())
    for address, name in ((MARKET, "InferenceMarket"), (ADJUDICATOR, "SignerAdjudicator")):
        yield Answer("eth_getCode", (address,), "0x" + artifact(name).runtime.hex())
        for slot in _SLOTS:
            yield Answer("eth_getStorageAt", (address, hex(slot)), "0x" + "00" * 32)
