"""A model's roots are what a registry promises: what the importer makes of a file must not change unnoticed."""

from __future__ import annotations

import json
import re
from base64 import b64decode

import make_onnx_roots
import onnx
import onnx_conformance
import pytest

ENTRIES = json.loads(make_onnx_roots.PATH.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ENTRIES)
def test_the_lowering_is_the_one_pinned(name):
    """Where this fails, models already registered would be refused as ``program-mismatch``: a lowering that must change
    is a new version of them (docs/onnx.md)."""
    entry = ENTRIES[name]
    wanted = {key: entry[key] for key in ("program_root", "artefact_root")}
    assert make_onnx_roots.roots(make_onnx_roots.load(entry)) == wanted


def test_every_operator_that_passes_a_test_is_pinned():
    table = onnx_conformance.PAGE.read_text(encoding="utf-8").split("## ")[0]
    supported = set(re.findall(r"^\| (\S+) \| \d", table, re.MULTILINE))
    assert len(supported) > 100
    first = [onnx.load_from_string(b64decode(entry["model"])).graph.node[0] for entry in ENTRIES.values()]
    assert supported <= {f"{node.domain}.{node.op_type}" if node.domain else node.op_type for node in first}
