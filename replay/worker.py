"""The worker process: ``python -m replay.worker``, started by ``replay.sandbox`` and talking through its pipes.

It reads a greeting, confines itself, loads a backend, confines itself further, and then answers one request after
another until its input ends. What libraries print goes to standard error, never into the protocol.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from replay.sandbox import confine
from replay.sandbox.engine import Engine, ModelEngine
from replay.sandbox.outcome import Limits, Reason, Refusal, one_line
from replay.sandbox.protocol import MAX_DESCRIPTION, encode, read_frame, receipt_header

#: What is answered in JSON.
_TOLD: Mapping[str, Callable[[Engine, dict[str, Any], bytes], Mapping[str, Any]]] = {
    "describe": lambda engine, request, _: engine.describe(request),
    "encode": lambda engine, request, data: engine.encode(request, data),
    "decode": lambda engine, request, data: engine.decode(request, data),
    "bench": lambda engine, request, data: engine.bench(request, data),
}


def main(engine: Engine | None = None) -> int:
    """Serve until the input ends; ``engine`` is the seam where tests put one that misbehaves."""
    requests = os.fdopen(0, "rb")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    faulthandler.enable()
    greeting = read_frame(requests, 0)
    if greeting is None:
        return 0
    hello = greeting[0]
    limits = Limits(**hello["limits"])
    confine.die_with_parent(int(hello["parent"]))
    isolation = confine.before_imports(limits)
    serving = engine or ModelEngine()
    try:
        serving.start(str(hello["backend"]), limits.models)
    except Refusal as refusal:
        _send(answers, _refused(refusal.reason, refusal.detail))
        return 1
    except MemoryError as error:
        _send(answers, _refused(Reason.MEMORY, f"the libraries did not fit into the memory allowed {error}"))
        return 1
    except Exception as error:  # noqa: BLE001  whatever a backend dies of, the parent learns that it is no backend
        _send(answers, _refused(Reason.BACKEND_REFUSED, f"{type(error).__name__}: {error}"))
        return 1
    isolation = confine.after_imports(limits, isolation)
    _send(answers, {"status": "ready", "isolation": isolation})
    while (frame := read_frame(requests, limits.answer_bytes)) is not None:
        confine.grant_cpu(limits.cpu_seconds)
        header, body = _answer(serving, *frame, isolation)
        _send(answers, header, body)
        if header.get("reason") == Reason.MEMORY:
            return 1  # what an allocation failure left behind is not to be trusted
    return 0


def _answer(
    engine: Engine, request: dict[str, Any], data: bytes, isolation: dict[str, str]
) -> tuple[dict[str, Any], bytes]:
    try:
        if (tell := _TOLD.get(str(request.get("op")))) is not None:
            return {"status": "described"}, _description(tell(engine, request, data))
        receipt = engine.replay(request, data)
        header = receipt_header(receipt)
        header["environment"] |= {f"isolation.{key}": value for key, value in isolation.items()}
    except Refusal as refusal:
        return _refused(refusal.reason, refusal.detail), b""
    except MemoryError as error:
        return _refused(Reason.MEMORY, f"an allocation failed: {error}"), b""
    except Exception as error:  # noqa: BLE001  a hostile model may provoke any of them; none may look like a verdict
        if "allocate memory" in str(error):  # torch's RuntimeError
            return _refused(Reason.MEMORY, str(error)), b""
        return _refused(Reason.CRASHED, f"{type(error).__name__}: {error} ({_origin(error)})"), b""
    return header, receipt.output


def _description(facts: Mapping[str, Any]) -> bytes:
    text = json.dumps(facts, separators=(",", ":")).encode()
    if len(text) > MAX_DESCRIPTION:
        raise Refusal(Reason.MODEL_REJECTED, f"{len(text)} bytes of description, {MAX_DESCRIPTION} allowed")
    return text


def _origin(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "nowhere"
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _refused(reason: Reason, detail: str) -> dict[str, Any]:
    return {"status": "inconclusive", "reason": reason.value, "detail": one_line(detail)}


def _send(answers: BinaryIO, header: dict[str, Any], body: bytes = b"") -> None:
    answers.write(encode(header, body))
    answers.flush()


if __name__ == "__main__":
    sys.exit(main())
