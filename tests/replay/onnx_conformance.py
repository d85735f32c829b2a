"""ONNX's own node tests run through the importer: what passes, what is refused and why.

``python tests/replay/onnx_conformance.py`` writes docs/onnx.md; ``… NAME`` shows one operator's tests.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from replay.errors import InputRejected, ReplayError, UnsupportedOperator
from replay.importers.manifest import ModelFiles
from replay.importers.onnx import RULES, import_onnx
from replay.run import execute, load_backend, prepare_with

PAGE = Path(__file__).parents[2] / "docs" / "onnx.md"

#: Inputs whose values decide a shape: by operator and position. They are bound to the test's own value at import.
BOUND: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Squeeze", "Unsqueeze", "Split", "TopK", "OneHot", "Trilu"), (1,)),
    **dict.fromkeys(("CumSum", "CumProd", "Compress", "CenterCropPad", "AffineGrid"), (1,)),
    **dict.fromkeys(("ConstantOfShape", "BlackmanWindow", "HammingWindow", "HannWindow"), (0,)),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "Resize": (1, 2, 3),
    "Col2Im": (1, 2),
    "Dropout": (1, 2),
    "DFT": (1, 2),
    "MaxUnpool": (2,),
    **{
        f"Reduce{kind}": (1,)
        for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
    },
}


#: What the table cannot say.
NOTES = """## Where implementations differ

Refused, because no two implementations agree: pools with SAME padding and dilations or ceil_mode; ConvTranspose with SAME
padding and a stride beyond the kernel or an output_padding; Resize by a scale whose product with the size has another
whole part in single than in double precision; tree classifiers of two classes other than one score of class 0 (positive
weights, or any with LOGISTIC), and of more classes where some leaf gives a class no score.

Resize with align_corners or pytorch_half_pixel and a scale that gives no whole size follows ONNX's tests, which keep the
fraction; onnxruntime drops it. An index outside its axis makes a run not finite, and so does every value that is not.
Attention's rows with nothing allowed are 0. softmax_precision changes nothing: weights are exact to float32.

## Lowerings, version 1

What the importer makes of a file decides its program root, which is what a registry promises; so the lowerings are part of
spec version 1, their version is 1, and they do not change under it. `tests/replay/onnx_roots_v1.json` has the roots of two
models of each operator above that passes a test and of models as scikit-learn's exporter writes them; a test holds the
importer to them. A lowering that must change (because it is wrong, say) is a new version of both and a line in the
changelog. Until its model is registered anew, what was committed under the old root is `INCONCLUSIVE` with the reason
`program-mismatch`, never FRAUD. A form that was refused and is supported from now on changes no root."""


@dataclass(frozen=True)
class Case:
    """One node test. ``data``: (inputs, expected outputs), each in the order of the graph."""

    name: str
    operator: str
    model: Any
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """``state``: passed, refused (with the reason) or WRONG."""

    name: str
    operator: str
    state: str
    reason: str = ""


@cache
def cases() -> tuple[Case, ...]:
    """All node tests that ONNX makes itself; the expanded ones say the same in other words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    made = []
    for test in tests:
        if "_expanded" in test.name or test.model is None:
            continue
        node = test.model.graph.node[0]
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        made.append(Case(test.name, operator, test.model, test.data_sets, test.rtol, test.atol))
    return tuple(sorted(made, key=lambda case: case.name))


def bound_names(case: Case) -> set[str]:
    node = case.model.graph.node[0]
    return {node.input[place] for place in BOUND.get(case.operator, ()) if place < len(node.input)} - {""}


def run(case: Case, backends: Sequence[str] = ("numpy",), kept: int | None = None) -> Outcome:
    """Import once per set of data (bound inputs differ), run on each backend, compare by the test's own tolerance.

    ``kept``: the one input that stays an input; all others become constants, as in an exported model.
    """
    names = [value.name for value in case.model.graph.input]
    wanted = bound_names(case) if kept is None else set(names) - {names[kept]}
    source = ModelFiles("onnx", {"model.onnx": bytearray(case.model.SerializeToString())}, {})
    for inputs, expected in case.data:
        given = dict(zip(names, inputs, strict=False))
        try:
            model = import_onnx(source, {name: given[name] for name in wanted if name in given})
            ports = {port.name: given[port.name] for port in model.program.inputs}
            arrays = {name: np.asarray(array).reshape(np.shape(array) or (1,)) for name, array in ports.items()}
            runs = [execute(prepare_with(load_backend(name), model), arrays) for name in backends]
        except ReplayError as error:
            return Outcome(case.name, case.operator, "refused", reason(error))
        for done in runs:
            if done.nonfinite is not None:
                bad = any(not np.isfinite(array).all() for array in expected if np.asarray(array).dtype.kind == "f")
                state = "refused" if bad else "WRONG"
                return Outcome(case.name, case.operator, state, "the result is not finite")
            if why := difference(list(done.outputs.values()), expected, case):
                return Outcome(case.name, case.operator, "WRONG", why)
        if len({b"".join(array.tobytes() for array in done.outputs.values()) for done in runs}) > 1:
            return Outcome(case.name, case.operator, "WRONG", "the backends differ")
    return Outcome(case.name, case.operator, "passed")


def difference(got: Sequence[Any], expected: Sequence[Any], case: Case) -> str:
    if len(got) != len(expected):
        return f"{len(got)} outputs, not {len(expected)}"
    for ours, theirs in zip(got, map(np.asarray, expected), strict=True):
        if ours.dtype != theirs.dtype or ours.shape != (theirs.shape or (1,)):
            return f"{ours.dtype}{list(ours.shape)}, not {theirs.dtype}{list(theirs.shape)}"
        if not np.allclose(ours, theirs.reshape(ours.shape), rtol=case.rtol, atol=case.atol, equal_nan=True):
            return f"off by {np.abs(ours.astype(float) - theirs.reshape(ours.shape)).max():.1e}"
    return ""


def reason(error: ReplayError) -> str:
    """A refusal without the names of this one test."""
    if isinstance(error, InputRejected):
        return "an input holds NaN or infinity" if "NaN" in error.detail else error.detail
    if isinstance(error, UnsupportedOperator):
        return error.detail or "not supported"
    return error.detail


# ---- the page ----------------------------------------------------------------------------------------------------------


def page(outcomes: Sequence[Outcome]) -> str:
    by_operator: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_operator[outcome.operator].append(outcome)
    passed = sum(outcome.state == "passed" for outcome in outcomes)
    wrong = sum(outcome.state == "WRONG" for outcome in outcomes)
    whole = {name for name, group in by_operator.items() if all(one.state == "passed" for one in group)}
    part = {name for name, group in by_operator.items() if any(one.state == "passed" for one in group)} - whole
    lines = [
        "# ONNX operators",
        "",
        "Generated by `tests/replay/onnx_conformance.py` from ONNX's own node tests (onnx.backend.test, the expanded",
        "ones aside); a test makes this page again and compares. A test passes when every output has the dtype and shape",
        "that ONNX expects and lies within the test's own tolerance, with the same bits on every backend. Everything else",
        "is refused at import, by name; an answer that is not ONNX's would be a fault.",
        "",
        f"**{len(outcomes)} tests: {passed} pass, {len(outcomes) - passed - wrong} are refused, {wrong} are wrong.**",
        f"{len(whole)} operators pass all their tests, {len(part)} some.",
        "",
        "Inputs that decide a shape (of Reshape the shape, of Slice starts and ends, …) are constants in exported models;",
        "in these tests they are inputs, so they are bound at import: `import_onnx(source, bound={name: array})`.",
        "",
        "| operator | pass | of | refused because |",
        "|---|---|---|---|",
    ]
    for name in sorted(whole | part, key=str.lower):
        group = by_operator[name]
        lines.append(f"| {name} | {sum(one.state == 'passed' for one in group)} | {len(group)} | {_reasons(group)} |")
    untested = sorted(set(RULES) - whole - part, key=str.lower)
    lines += ["", f"Supported too, tested elsewhere or by no test that passes here: {', '.join(untested)}.", "", NOTES]
    lines += ["", "## Refused altogether", "", "| operator | tests | because |", "|---|---|---|"]
    for name in sorted(set(by_operator) - whole - part, key=str.lower):
        lines.append(f"| {name} | {len(by_operator[name])} | {_reasons(by_operator[name])} |")
    return "\n".join(lines) + "\n"


def _reasons(group: Sequence[Outcome]) -> str:
    count: dict[str, int] = defaultdict(int)
    for one in group:
        if one.state != "passed":
            count[("WRONG: " if one.state == "WRONG" else "") + re.sub(r"\s+", " ", one.reason).replace("|", "/")] += 1
    return "; ".join(f"{why} ({times})" for why, times in sorted(count.items(), key=lambda item: (-item[1], item[0])))


def main(names: Sequence[str]) -> None:
    if not names:
        outcomes = [run(case, ("numpy", "torch")) for case in cases()]
        PAGE.write_text(page(outcomes), encoding="utf-8")
        return
    for case in cases():
        if case.operator in names or case.name in names:
            print(run(case, ("numpy",)))


if __name__ == "__main__":
    main(sys.argv[1:])
