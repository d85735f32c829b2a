"""What each command does: ask a sandboxed worker, print what it says."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from replay.backends import BACKENDS, second_opinion
from replay.cli import Failure, UsageError, render
from replay.cli.folder import drafted
from replay.cli.inputs import MAX_INPUT_BYTES, from_ids, read_bounded, read_input, text_bytes
from replay.errors import InputRejected, LayoutError
from replay.kernels.spec import SPEC_VERSION
from replay.layout import bundle_root, decode_bundle, encode_bundle, merkle_root
from replay.localise import first_difference
from replay.sampling import NAME as SAMPLING
from replay.sampling import TOKENS, Sampling, read_sampling
from replay.sandbox import Completed, Described, Inconclusive, Limits, Reason, Receipt, ReplayPool, ReplayRequest
from replay.shallow import parse_json

_Value = TypeVar("_Value")


def import_(options: argparse.Namespace) -> int:
    with drafted(options.source, options.folder, options.grid) as manifest:
        facts = within_limits(argparse.Namespace(**{**vars(options), "manifest": manifest, "digest": None}), described)
    told = {"manifest": str(options.folder / manifest.name)}
    told |= {name: str(facts[name]) for name in ("grid", "file_digest", "program_root", "artefact_root")}
    print(json.dumps(told)) if options.json else render.pairs(told)
    return 0


def show(options: argparse.Namespace) -> int:
    facts = within_limits(options, described)
    print(json.dumps(facts)) if options.json else render.program(facts)
    return 0


def run(options: argparse.Namespace) -> int:
    receipt, text = within_limits(options, _told)
    outputs = decode_bundle(receipt.output)
    if options.json:
        print(
            json.dumps(
                {
                    "output_root": receipt.output_root.hex(),
                    "outputs": {
                        name: {"dtype": str(array.dtype), "shape": list(array.shape), "data": array.tolist()}
                        for name, array in outputs.items()
                    },
                    "environment": dict(receipt.environment),
                    "seconds": receipt.seconds,
                }
            )
        )
    else:
        render.outputs(outputs, receipt, text)
    return 0


def commit(options: argparse.Namespace) -> int:
    receipt = within_limits(options, _replayed)
    if options.output is not None:
        _write(options.output, receipt.output)
    if options.json:
        print(json.dumps(_receipt(receipt)))
    else:
        render.receipt(receipt)
    return 0


def verify(options: argparse.Namespace) -> int:
    claimed = None if options.leaves is None else _leaves(options.leaves)
    if claimed is not None and merkle_root(claimed) != options.state_root:
        raise UsageError("the leaves given do not hash to the state root given")
    claim = b"" if options.output is None else read_bounded(options.output, MAX_INPUT_BYTES)
    if options.output is not None and _root_of(claim) != options.output_root:
        raise UsageError("the output given does not hash to the output root given")
    verdict = within_limits(options, lambda pool, opts: _verdict(pool, opts, claimed, claim))
    print(json.dumps(verdict)) if options.json else render.verdict(verdict)
    return 0 if verdict["verdict"] == "VALID" else 1


def selftest(options: argparse.Namespace) -> int:
    from replay.errors import BackendRefused, ReplayError
    from replay.kernels.selftest import known_answers

    rows: dict[str, list[tuple[str, bool, str]]] = {}
    failures: dict[str, str] = {}
    absent: dict[str, str] = {}
    for backend in options.backend or BACKENDS:
        try:
            rows[backend] = [(one.name, one.ok, one.detail) for one in known_answers(backend)]
        except BackendRefused as error:  # this machine cannot have it: no failure of those that it has
            (failures if options.backend else absent)[backend] = f"{type(error).__name__}: {error}"
        except (ReplayError, ImportError) as error:
            failures[backend] = f"{type(error).__name__}: {error}"

    async def confined(pool: ReplayPool, _: argparse.Namespace) -> dict[str, str]:
        for backend in rows:
            if (refusal := await pool.warm(backend)) is not None:
                failures.setdefault(backend, f"{refusal.reason}: {refusal.detail}")
        return pool.isolation()

    isolation = within_limits(options, confined)
    good = bool(rows) and not failures and all(ok for answers in rows.values() for _, ok, _ in answers)
    if options.json:
        answers = {
            backend: [{"name": name, "ok": ok, "detail": detail} for name, ok, detail in given]
            for backend, given in rows.items()
        }
        told = {"ok": good, "answers": answers, "failures": failures, "absent": absent, "isolation": isolation}
        print(json.dumps(told))
    else:
        render.selftest(rows, failures, absent, isolation)
    return 0 if good else 1


def bench(options: argparse.Namespace) -> int:
    results = within_limits(options, _timed)
    print(json.dumps(results)) if options.json else render.bench(results)
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "import": import_,
    "show": show,
    "run": run,
    "commit": commit,
    "verify": verify,
    "selftest": selftest,
    "bench": bench,
}


def within_limits(
    options: argparse.Namespace, act: Callable[[ReplayPool, argparse.Namespace], Coroutine[Any, Any, _Value]]
) -> _Value:
    """The value of ``act`` with a pool that has the limits asked for."""
    limits = Limits(
        memory_bytes=options.memory << 20,
        wall_seconds=options.seconds,
        cpu_seconds=options.seconds * options.threads,
        threads=options.threads,
    )

    async def inside() -> _Value:
        async with ReplayPool(limits=limits) as pool:
            return await act(pool, options)

    return asyncio.run(inside())


async def described(pool: ReplayPool, options: argparse.Namespace, backend: str = "numpy") -> dict[str, Any]:
    outcome = await pool.describe(_request(options, b"", backend))
    if isinstance(outcome, Inconclusive):
        raise Failure(f"{outcome.reason}: {outcome.detail}", outcome.reason)
    return outcome.facts


async def _replayed(pool: ReplayPool, options: argparse.Namespace) -> Receipt:
    outcome = await pool.replay(await asked_for(pool, options))
    if isinstance(outcome, Inconclusive):
        raise Failure(f"{outcome.reason}: {outcome.detail}", outcome.reason)
    return outcome.receipt


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all; a device or a pipe is written to as it is. Raises ``Failure``."""
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as opened:
                opened.write(data)
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}", "unwritable") from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


async def _told(pool: ReplayPool, options: argparse.Namespace) -> tuple[Receipt, str | None]:
    """The receipt, and a generation as text where it was asked for in text."""
    receipt = await _replayed(pool, options)
    tokens = decode_bundle(receipt.output).get(TOKENS)
    if options.text is None or options.json or tokens is None:
        return receipt, None
    written = await pool.decode(_request(options, b"", options.backend), tokens.tolist())
    if isinstance(written, Inconclusive):
        raise Failure(f"{written.reason}: {written.detail}", written.reason)
    return receipt, str(written.facts["text"])


async def _tokenised(pool: ReplayPool, options: argparse.Namespace, facts: dict[str, Any]) -> bytes:
    """The bundle of --text. The tokenizer is the model's, so a worker runs it."""
    told = await pool.encode(_request(options, b"", options.backend), text_bytes(options.text, facts["inputs"]))
    if isinstance(told, Inconclusive):
        if told.reason is Reason.INPUT_REJECTED:
            raise UsageError(told.detail)
        raise Failure(f"{told.reason}: {told.detail}", told.reason)
    return from_ids(told.facts["ids"])


async def asked_for(pool: ReplayPool, options: argparse.Namespace) -> ReplayRequest:
    if (options.input is None) == (options.text is None):
        raise UsageError("give INPUT or --text, one of them")
    _sampling_is_used(options)
    facts = await described(pool, options, options.backend)
    if options.input is None:
        data = await _tokenised(pool, options, facts)
    else:
        data = await asyncio.to_thread(read_input, options.input, facts["inputs"])
    if options.generate is not None:
        data = _generating(options, data)
    elif options.seed is not None and options.command != "verify" and not asks_for_text(data):
        raise UsageError("--seed is for --generate")
    return replace(_request(options, data, options.backend), seed=options.seed or bytes(32))


def _generating(options: argparse.Namespace, data: bytes) -> bytes:
    """The input bundle, asking for a generation as the options say."""
    end = -1 if options.end is None else options.end
    try:
        sampling = Sampling(options.generate, options.temperature, options.top_k, options.top_p, end)
        return encode_bundle({**decode_bundle(data), SAMPLING: sampling.tensor()})
    except (InputRejected, LayoutError) as error:
        raise UsageError(error.detail) from error


def _sampling_is_used(options: argparse.Namespace) -> None:
    """Raises ``UsageError`` for an option that only a generation has, where none is asked for by --generate and none can
    be asked for by the input."""
    given = {
        "--temperature": options.temperature != 0,
        "--top-k": options.top_k != 0,
        "--top-p": options.top_p != 1_000_000,
        "--end": options.end is not None,
    }
    if options.generate is None and any(given.values()):
        raise UsageError(f"{next(name for name, is_given in given.items() if is_given)} is for --generate")


def _request(options: argparse.Namespace, data: bytes, backend: str) -> ReplayRequest:
    return ReplayRequest(options.manifest, options.digest, None, None, SPEC_VERSION, data, backend)


def _root_of(bundle: bytes) -> bytes:
    try:
        return bundle_root(bundle)
    except LayoutError as error:
        raise UsageError(f"the output given is no canonical bundle: {error.detail}") from error


async def _verdict(
    pool: ReplayPool, options: argparse.Namespace, claimed: tuple[bytes, ...] | None, claim: bytes
) -> dict[str, Any]:
    """VALID when this machine computes both roots; FRAUD when a fresh process on the other backend, which shares no
    kernel code with the first, computes the same other roots; INCONCLUSIVE otherwise."""
    request = replace(await asked_for(pool, options), claim=claim)
    if _draws(request.input) and options.seed is None:
        raise UsageError("the text is drawn: give the task's --seed; another seed's text would look like fraud")
    first = await pool.replay(request)
    if isinstance(first, Inconclusive):
        return {"verdict": "INCONCLUSIVE", "reason": first.reason.value, "detail": first.detail}
    mine = first.receipt
    said = {
        "backends": [options.backend],
        "input_root": mine.input_root.hex(),
        "output_root": mine.output_root.hex(),
        "state_root": mine.state_root.hex(),
    }
    asked = claimed[0] if claimed and options.input_root is None else options.input_root
    if asked not in (None, mine.input_root):
        detail = f"the commitment answers the input 0x{asked.hex()}, not the one given here"
        return {"verdict": "INCONCLUSIVE", "reason": "another-input", "detail": detail, **said}
    if (mine.output_root, mine.state_root) == (options.output_root, options.state_root):
        return {"verdict": "VALID", **said}
    other = second_opinion(options.backend)
    second = await pool.replay(replace(request, backend=other, fresh=True))
    if not isinstance(second, Completed):
        detail = f"{options.backend} finds a difference, {other} cannot confirm it: {second.reason}: {second.detail}"
        return {"verdict": "INCONCLUSIVE", "reason": second.reason.value, "detail": detail, **said}
    if second.receipt.leaves != mine.leaves:
        return {"verdict": "INCONCLUSIVE", "reason": "backends-disagree", "detail": "the backends disagree", **said}
    said["backends"] = [options.backend, other]
    differs = "output" if mine.output_root != options.output_root else "state"
    leaf = None if claimed is None else first_difference(mine.leaves, claimed)
    return {"verdict": "FRAUD", "differs": differs, "leaf": leaf, "leaves": len(mine.leaves), **said}


def _draws(data: bytes) -> bool:
    """Whether the input asks for a text whose tokens hang on the seed."""
    try:
        asked = decode_bundle(data).get(SAMPLING)
        return asked is not None and read_sampling(asked).temperature > 0
    except (InputRejected, LayoutError):
        return False  # the worker says what is wrong with it


def asks_for_text(data: bytes) -> bool:
    """Whether the input may ask for a generation itself."""
    try:
        return SAMPLING in decode_bundle(data)
    except LayoutError:
        return True  # the worker says what is wrong with it


async def _timed(pool: ReplayPool, options: argparse.Namespace) -> dict[str, Any]:
    """A fresh worker for each backend; one that cannot be had is left out, unless it was asked for by name."""
    facts = await described(pool, options)
    data = sample(facts, options.size)
    clipped = {name: most for name, most in facts["symbols"].items() if most < options.size}
    results: dict[str, Any] = {"size": options.size, "threads": options.threads, "rounds": options.repeat}
    results |= {"clipped": clipped, "backends": {}, "refused": {}}
    for backend in options.backend or BACKENDS:
        outcome = await pool.bench(replace(_request(options, data, backend), fresh=True), options.repeat)
        if isinstance(outcome, Described):
            results["backends"][backend] = outcome.facts
        elif options.backend or outcome.reason is not Reason.BACKEND_REFUSED:
            raise Failure(f"{backend}: {outcome.reason}: {outcome.detail}", outcome.reason)
        else:
            results["refused"][backend] = outcome.detail
    return results


def sample(facts: dict[str, Any], size: int) -> bytes:
    """An input of the model with every symbol at ``size`` (at most what the model allows): ids 1, 2, 3 … below the
    smallest table's rows, floats from a fixed ramp."""
    tables = {w["name"]: _shape(w["type"])[0] for w in facts["weights"]}
    rows = [tables[op["weights"][0]] for op in facts["operators"] if op["kind"] == "embedding"]
    arrays = {}
    for port in facts["inputs"]:
        shape = [min(size, facts["symbols"][d]) if isinstance(d, str) else d for d in _shape(port["type"])]
        ramp = np.arange(1, int(np.prod(shape)) + 1)
        arrays[port["name"]] = (
            (ramp % min(rows, default=2)).astype(np.int32).reshape(shape)
            if port["type"].startswith("int32")
            else np.sin(ramp).astype(np.float32).reshape(shape)
        )
    return encode_bundle(arrays)


def _shape(described: str) -> list[Any]:
    """The dimensions in ``"float32[T, 384]"``."""
    inner = described.partition("[")[2].rstrip("]")
    return [int(part) if part.strip().isdecimal() else part.strip() for part in inner.split(",")]


def _receipt(receipt: Receipt) -> dict[str, Any]:
    return {
        "input_root": receipt.input_root.hex(),
        "output_root": receipt.output_root.hex(),
        "state_root": receipt.state_root.hex(),
        "leaves": [leaf.hex() for leaf in receipt.leaves],
        "first_path": [one.hex() for one in receipt.first_path],
        "last_path": [one.hex() for one in receipt.last_path],
        "output": receipt.output.hex(),
        "environment": dict(receipt.environment),
        "seconds": receipt.seconds,
    }


def _leaves(path: Path) -> tuple[bytes, ...]:
    try:
        document = parse_json(read_bounded(path, MAX_INPUT_BYTES))
        listed = document["leaves"] if isinstance(document, dict) else document
        leaves = tuple(bytes.fromhex(leaf) for leaf in listed)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} holds no leaves: write what commit --json prints") from error
    if not leaves or any(len(leaf) != 32 for leaf in leaves):
        raise UsageError(f"{path} holds leaves that are not 32 bytes long")
    return leaves
