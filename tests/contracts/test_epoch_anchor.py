"""Written once, by its owner, in order."""

from __future__ import annotations

import pytest
from market_evm import Evm, abi_of
from market_world import account, word

ME, YOU = account("me"), account("you")


@pytest.fixture
def evm() -> Evm:
    return Evm()


@pytest.fixture
def anchor(evm: Evm) -> bytes:
    return evm.deploy("EpochAnchor")


def test_anchor_then_reveal(evm: Evm, anchor: bytes) -> None:
    logs = evm.send(ME, anchor, "anchor", 7, word("c")).log("Anchored")
    assert logs == {"watcher": "0x" + ME.hex(), "epoch": 7, "commitment": word("c")}
    height = evm.block
    evm.mine(5)
    assert evm.send(ME, anchor, "reveal", 7, word("s")).log("Revealed")["secret"] == word("s")
    entry = evm.view(anchor, "entryOf", ME, 7)
    expected = {"commitment": word("c"), "secret": word("s"), "anchoredBlock": height, "revealedBlock": height + 5}
    assert entry == expected


def test_each_rule(evm: Evm, anchor: bytes) -> None:
    assert evm.send(ME, anchor, "anchor", 1, bytes(32)).error == "EmptyValue"
    assert evm.send(ME, anchor, "reveal", 1, word("s")).error == "NotAnchored"
    assert evm.send(ME, anchor, "anchor", 1, word("c")).ok
    assert evm.send(ME, anchor, "anchor", 1, word("d")).error == "AlreadyAnchored"
    assert evm.send(ME, anchor, "reveal", 1, bytes(32)).error == "EmptyValue"
    assert evm.send(YOU, anchor, "reveal", 1, word("s")).error == "NotAnchored"
    assert evm.send(YOU, anchor, "anchor", 1, word("c")).ok
    assert evm.send(ME, anchor, "reveal", 1, word("s")).ok
    assert evm.send(ME, anchor, "reveal", 1, word("t")).error == "AlreadyRevealed"
    assert evm.send(ME, anchor, "anchor", 1, word("d")).error == "AlreadyAnchored"


def test_no_other_errors() -> None:
    names = {entry["name"] for entry in abi_of("EpochAnchor").errors.values()}
    assert names == {"EmptyValue", "AlreadyAnchored", "NotAnchored", "AlreadyRevealed"}
