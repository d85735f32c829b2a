"""The committed artifacts: what they are, what they match, and that they are what the sources compile to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from market_evm import signature_of
from market_world import World

from challenger.chain.hashing import keccak
from challenger.contracts import NAMES, ForeignCode, UnknownArtifact, artifact, double

SOURCES = Path(__file__).parents[2] / "challenger" / "contracts"
SAMPLE = Path(__file__).parents[2] / "docs" / "sample-protocol"


def test_every_contract_fits_the_size_limit() -> None:
    for name in NAMES:
        assert len(artifact(name).runtime) <= 24_576


def test_every_double_has_its_artifact_and_fits() -> None:
    sources = {file.stem for file in (SOURCES / "doubles").glob("*.sol")}
    assert sources == {file.stem for file in (SOURCES / "artifacts" / "doubles").glob("*.json")}
    assert all(0 < len(double(name).runtime) <= 24_576 for name in sources)
    with pytest.raises(UnknownArtifact, match="Nothing"):
        double("Nothing")


def test_the_compiler_is_the_one_that_is_pinned() -> None:
    pinned = json.loads((SOURCES / "package.json").read_text())["dependencies"]["solc"]
    assert all(artifact(name).solc.startswith(pinned + "+") for name in NAMES)
    assert all(double(file.stem).solc.startswith(pinned + "+") for file in (SOURCES / "doubles").glob("*.sol"))
    sample = json.loads((SAMPLE / "board_protocol" / "contract.json").read_text())
    assert sample["solc"].startswith(pinned + "+")


def test_deployed_code_matches_whatever_its_immutables_are(world: World) -> None:
    code = world.evm.state.get_code(world.market)
    market = artifact("InferenceMarket")
    assert keccak(code) != market.code_hash
    assert keccak(market.masked(code)) == market.code_hash
    assert market.matches(code)
    words = market.immutable_words(code)
    assert words["_window"] == world.params["window"]
    assert words["_adjudicator"] == int.from_bytes(world.adjudicator, "big")
    assert set(words) == {f"_{field}" for field in world.params}
    assert artifact("SignerAdjudicator").matches(world.evm.state.get_code(world.adjudicator))


def test_other_code_does_not(world: World) -> None:
    market = artifact("InferenceMarket")
    code = bytearray(world.evm.state.get_code(world.market))
    code[100] ^= 1
    assert not market.matches(bytes(code))
    assert not market.matches(b"")
    for wrong in (bytes(code), b"", bytes(code) + b"\0"):
        with pytest.raises(ForeignCode):
            market.immutable_words(wrong)
    # the same immutable with two values was no constructor's doing
    good = bytearray(world.evm.state.get_code(world.market))
    window = next(item for item in market.immutables if item.name == "_window")
    good[window.offsets[0] + 31] ^= 1
    assert market.matches(bytes(good))
    with pytest.raises(ForeignCode, match="two values"):
        market.immutable_words(bytes(good))


def test_an_unknown_contract_is_one_clear_line() -> None:
    with pytest.raises(UnknownArtifact, match="Nothing") as caught:
        artifact("Nothing")
    assert "\n" not in str(caught.value)


def test_the_loader_needs_no_web3() -> None:
    probe = "import sys, challenger.contracts as c; c.artifact('InferenceMarket'); assert 'web3' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


SIGNATURES = {
    "registerModel((bytes32,bytes32,bytes32,uint32,uint8,uint32,uint32,string,bytes,bytes32))",
    "stake()",
    "unstake(uint256)",
    "withdraw()",
    "openTask(bytes32,bytes32,bytes,string,uint32,bytes32,uint64)",
    "take(bytes32)",
    "cancelTask(bytes32)",
    "lapseTask(bytes32)",
    "commit(bytes32,bytes32,bytes32,bytes,string,uint32,bytes32[],bytes32[])",
    "seal(bytes32)",
    "challenge(bytes32,bytes32,bytes32,bytes32,bytes32)",
    "concede(uint256)",
    "settle(uint256)",
    "demand(bytes32,uint8,uint32)",
    "answer(uint256,bytes)",
    "answerTile(uint256,bytes,bytes32[])",
    "claimDemand(uint256)",
    "finalise(bytes32)",
    "retireModel(bytes32)",
}


def test_what_changes_state_is_exactly_the_protocol() -> None:
    entries = [entry for entry in artifact("InferenceMarket").abi if entry["type"] == "function"]
    changing = {signature_of(e) for e in entries if e["stateMutability"] in ("payable", "nonpayable")}
    assert changing == SIGNATURES


@pytest.mark.solc
def test_the_artifacts_are_what_the_sources_compile_to(node: str) -> None:
    done = subprocess.run([node, SOURCES / "build.mjs", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _sample(node: str, source: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The contract of the worked example (docs/protocols.md), which is no part of this package."""
    out = SAMPLE / "board_protocol" / "contract.json"
    argv = [node, SOURCES / "build.mjs", "--only", source, "--out", out, "--check", *more]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.solc
def test_the_samples_contract_is_what_its_source_compiles_to(node: str, tmp_path: Path) -> None:
    done = _sample(node, SAMPLE / "Board.sol")
    assert done.returncode == 0, done.stderr
    other = tmp_path / "Board.sol"
    other.write_text((SAMPLE / "Board.sol").read_text().replace("30 days", "31 days"))
    done = _sample(node, other)
    assert done.returncode == 1
    assert "Board: the artifact is not what the sources compile to" in done.stderr
    done = _sample(node, other, "--nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("usage: ")


@pytest.mark.solc
def test_a_changed_source_is_noticed(node: str, tmp_path: Path) -> None:
    copy = tmp_path / "contracts"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
    source = copy / "EpochAnchor.sol"
    source.write_text(
        source.read_text().replace("AlreadyAnchored(epoch);\n        entry", "AlreadyAnchored(0);\n        entry")
    )
    (copy / "artifacts" / "Stray.json").write_text("{}")
    done = subprocess.run([node, copy / "build.mjs", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "EpochAnchor" in done.stderr
    assert "Stray" in done.stderr
    assert "InferenceMarket" not in done.stderr
