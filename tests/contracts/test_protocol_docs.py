"""docs/protocol.md says what the contracts do: the gas table, the events, the parameters, the views."""

from __future__ import annotations

from pathlib import Path

import gas
import pytest
from market_world import DEFAULTS

from challenger.contracts import artifact

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_gas_table_is_within_five_per_cent() -> None:
    rows = [line.strip("| ").split(" | ") for line in TEXT.split("<!-- gas -->")[1].splitlines()[3:-1]]
    documented = {name: int(used.replace(",", "")) for name, used in rows}
    measured = gas.measure()
    assert list(documented) == list(measured)
    off = {
        name: (documented[name], used) for name, used in measured.items() if abs(documented[name] - used) > used / 20
    }
    assert not off


def test_every_event_parameter_and_view_is_named() -> None:
    entries = artifact("InferenceMarket").abi
    names = {entry["name"] for entry in entries if entry["type"] == "event"}
    names |= {e["name"] for e in entries if e["type"] == "function" and not e["name"].isupper()}
    names |= set(DEFAULTS)
    missing = {name for name in names if f"`{name}" not in TEXT and f"{name}(" not in TEXT}
    assert not missing
