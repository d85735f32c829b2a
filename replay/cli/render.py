"""What people see. Strings that come from a model are escaped: they may hold markup or control characters."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replay.layout import Array
from replay.sandbox import Receipt

_COLOURS = {"VALID": "green", "FRAUD": "red", "INCONCLUSIVE": "yellow"}


def program(facts: Mapping[str, Any]) -> None:
    """Roots first, then one line per operator: number, value, kind, what it reads, type; boundaries are marked."""
    console = _console()
    _pairs(
        console,
        {
            "file digest": facts["file_digest"],
            "program root": facts["program_root"],
            "artefact root": facts["artefact_root"],
            "artefact tiles": facts["artefact_tiles"],
            "state leaves": facts["boundaries"],
            "spec, grid": f"{facts['spec_version']}, {facts['grid']}",
            "symbols": ", ".join(f"{name} ≤ {most}" for name, most in facts["symbols"].items()) or "none",
            "inputs": ", ".join(f"{one['name']}: {one['type']}" for one in facts["inputs"]),
            "outputs": ", ".join(f"{one['name']} = {one['value']}" for one in facts["outputs"]),
            "weights": f"{len(facts['weights'])} tensors",
        },
    )
    table = Table("#", "value", "operator", "reads", "type", box=None, pad_edge=False)
    for number, op in enumerate(facts["operators"]):
        attributes = " ".join(f"{name}={value}" for name, value in sorted(op["attributes"].items()))
        table.add_row(
            str(number),
            _safe(op["output"]) + (" [bold]●[/bold]" if op["boundary"] else ""),
            _safe(f"{op['kind']} {attributes}".strip()),
            _safe(", ".join([*op["inputs"], *op["weights"]])),
            _safe(op["type"]),
        )
    console.print(table)
    console.print("● stands in the state root")


def pairs(told: Mapping[str, str]) -> None:
    """One line each; an underscore in a name is a space."""
    _pairs(_console(), {name.replace("_", " "): value for name, value in told.items()})


def outputs(tensors: Mapping[str, Array], receipt: Receipt, text: str | None = None) -> None:
    """``text``: the tokens as text, where there are any."""
    console = _console()
    if text is not None:
        console.print(_safe(repr(text)), highlight=False)
    for name, array in tensors.items():
        shown = np.array2string(array, threshold=64, edgeitems=4, max_line_width=100)
        console.print(_safe(f"{name}: {array.dtype}{list(array.shape)}"), highlight=False)
        console.print(escape(shown), highlight=False)
    _pairs(console, {"output root": receipt.output_root.hex(), "seconds": f"{receipt.seconds:.4f}"})


def receipt(given: Receipt) -> None:
    _pairs(
        _console(),
        {
            "input root": given.input_root.hex(),
            "output root": given.output_root.hex(),
            "state root": given.state_root.hex(),
            "state leaves": len(given.leaves),
            "output bytes": len(given.output),
            "seconds": f"{given.seconds:.4f}",
            "backend": given.environment.get("backend", "?"),
        },
    )


def verdict(said: Mapping[str, Any]) -> None:
    """One word, then why, then the roots computed here."""
    console = _console()
    kind = said["verdict"]
    colour = _COLOURS[kind]
    if kind == "VALID":
        why = f"both roots recomputed by {said['backends'][0]}"
    elif kind == "FRAUD":
        where = f", first at state leaf {said['leaf']} of {said['leaves']}" if said["leaf"] is not None else ""
        why = f"the {said['differs']} root differs{where}; agreed by {' and '.join(said['backends'])}"
    else:
        why = f"{said['reason']}: {said['detail']}"
    console.print(f"[{colour}]{kind}[/{colour}] {_safe(why)}", highlight=False)
    roots = {name: said[name] for name in ("input_root", "output_root", "state_root") if name in said}
    _pairs(console, {name.replace("_", " ") + " here": root for name, root in roots.items()})


def selftest(
    rows: Mapping[str, Sequence[tuple[str, bool, str]]],
    failures: Mapping[str, str],
    absent: Mapping[str, str],
    isolation: Mapping[str, str],
) -> None:
    console = _console()
    table = Table("known answer", *rows, box=None, pad_edge=False)
    by_name: dict[str, dict[str, tuple[bool, str]]] = {}
    for backend, answers in rows.items():
        for name, ok, detail in answers:
            by_name.setdefault(name, {})[backend] = (ok, detail)
    for name, given in by_name.items():
        cells = [given.get(backend, (False, "not run")) for backend in rows]
        table.add_row(
            _safe(name), *("[green]ok[/green]" if ok else f"[red]WRONG[/red] {_safe(said)}" for ok, said in cells)
        )
    console.print(table)
    for backend, failure in failures.items():
        console.print(f"[red]refused[/red] {_safe(f'{backend}: {failure}')}")
    for backend, why in absent.items():
        console.print(f"[yellow]not on this machine[/yellow] {_safe(f'{backend}: {why}')}")
    _pairs(console, {f"isolation: {name}": value for name, value in isolation.items()})


def bench(results: Mapping[str, Any]) -> None:
    console = _console()
    peers = ("torch_fp32_mkl", "torch_fp32_onednn")
    columns = ("backend", "grid", "execute s", "replay s", "replays/s", *(f"÷ {peer}" for peer in peers), "output root")
    table = Table(*columns, box=None, pad_edge=False)
    for backend, found in results["backends"].items():
        for grid, row in found["grids"].items():
            table.add_row(
                backend,
                grid,
                f"{row['execute_seconds']:.4f}",
                f"{row['replay_seconds']:.4f}",
                f"{row['replays_per_second']:.1f}",
                *(f"{row['cost'][peer]:.2f}" if peer in row["cost"] else "-" for peer in peers),
                row["output_root"][:16],
            )
    console.print(table)
    for backend, found in results["backends"].items():
        seconds = ", ".join(f"{peer} {taken:.4f} s" for peer, taken in found["ordinary_seconds"].items())
        _pairs(console, {f"beside {backend}": seconds or "no ordinary torch"})
        _pairs(console, {f"{backend}, {what} left out": why for what, why in found["refused"].items()})
    _pairs(console, {f"{backend} refused": why for backend, why in results["refused"].items()})
    _pairs(
        console, {f"{name} is at most": f"{most}, not {results['size']}" for name, most in results["clipped"].items()}
    )
    console.print(
        f"÷: times the same program in ordinary torch fp32, linear layers by the library named; "
        f"size {results['size']}, {results['threads']} thread(s), medians of {results['rounds']} rounds",
        highlight=False,
    )


def _console() -> Console:
    # into a pipe or a file nothing is folded: a line per operator stays a line
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else 400)


def _pairs(console: Console, pairs: Mapping[str, object]) -> None:
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        console.print(f"{_safe(name.ljust(width))}  {_safe(str(value))}", highlight=False)


def _safe(text: str) -> str:
    return escape("".join(c if c.isprintable() else "?" for c in text))
