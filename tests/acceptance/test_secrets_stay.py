"""Real commands with a known key, passphrase and secret, in good and in bad days: nothing they write shows any of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from eth_account import Account

from challenger.chain.hashing import keccak
from challenger.cli import main
from tests.acceptance.traces import forms, private, traces

KEY = keccak(b"the key whose traces are looked for")
PASSPHRASE = "unmistakable passphrase 4711"
TOKEN = "unmistakable-token-4712"
COMMANDS = (
    ("check", "--no-replay"),
    ("check", "--no-replay", "--json"),
    ("notify",),
    ("run",),
    ("run", "--json"),
    ("status",),
    ("status", "--json"),
    ("commitments", "0xzz"),
    ("audit", "journal", "--json"),
)


NEEDLES = [*forms(KEY), *forms(KEY[:12]), *forms(PASSPHRASE.encode()), TOKEN.encode()]


def signer(folder: Path, kind: str) -> str:
    """The [signer] table of this kind of place, some of them bad ones."""
    keystore = private(
        folder / "keystore.json", json.dumps(Account.encrypt(KEY, PASSPHRASE, iterations=2, kdf="pbkdf2"))
    )
    passphrase = private(folder / "passphrase", PASSPHRASE)
    key = private(folder / "key", KEY.hex())
    return {
        "key file": f'key_file = "{key}"',
        "environment": 'key_env = "THE_KEY"',
        "keystore": f'keystore = "{keystore}"\npassphrase_file = "{passphrase}"',
        "no passphrase": f'keystore = "{keystore}"',
        "wrong passphrase": f'keystore = "{keystore}"\npassphrase_file = "{key}"',
        "key as passphrase file": f'keystore = "{key}"\npassphrase_file = "{passphrase}"',
        "passphrase as key": f'key_file = "{passphrase}"',
        "two places": f'key_file = "{key}"\nkey_env = "THE_KEY"',
        "external": f'url = "http://127.0.0.1:9/{KEY.hex()}"\naddress = "0x{"ab" * 20}"\nsecret_file = "{key}"',
    }[kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["key file", "environment", "keystore", "no passphrase", "wrong passphrase",
                                  "key as passphrase file", "passphrase as key", "two places", "external"])  # fmt: skip
def test_no_command_shows_a_key_whatever_goes_wrong(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "watcher"
    folder.mkdir()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    config = folder / "challenger.toml"
    config.write_text(
        f"""
[chain]
rpc = ["http://127.0.0.1:9/one", "http://127.0.0.1:9/two"]
chain_id = 31337
market = "0x{"cd" * 20}"
timeout = 1
[store]
url = "sqlite:///{folder}/watcher.sqlite"
heads = "{folder}/heads.jsonl"
[telemetry]
notify = ["json://{TOKEN}:{TOKEN}@127.0.0.1:9/{TOKEN}"{', "tgram://' + TOKEN + '"' if kind == "environment" else ""}]
[signer]
{signer(secrets, kind)}
"""
    )
    env = os.environ | {"THE_KEY": KEY.hex(), "PYTHONASYNCIODEBUG": "1", "PYTHONFAULTHANDLER": "1"}
    said = b""
    subprocess.run([sys.executable, "-m", "challenger", "db", "upgrade", "-c", config], env=env, check=False)
    wanted = COMMANDS if kind == "key file" else COMMANDS[1:4]
    for command in wanted:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-m", "challenger", *command, "-c", config],
            env=env,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode in (0, 1, 2), done.stderr
        said += done.stdout + done.stderr
    assert said
    config_text = config.read_bytes()
    config.unlink()
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert traces(NEEDLES, said) == []
    assert traces(NEEDLES, written) == []
    assert b"[signer]" in config_text


def test_without_a_terminal_a_keystore_without_its_passphrase_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "challenger.toml"
    config.write_text(
        f'[chain]\nmarket = "0x{"cd" * 20}"\nchain_id = 1\n[signer]\n{signer(tmp_path, "no passphrase")}\n'
    )
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["check", "--no-replay", "-c", str(config), "--json"]) == 1
    rows = {row["name"]: row["detail"] for row in json.loads(capsys.readouterr().out)["checks"]}
    assert "nobody is at the terminal" in rows["signer"]


_HARDENED = """
import ctypes, json, resource, sys
from pathlib import Path
from challenger.errors import ChallengerError
from challenger.parts import load_signer
from challenger.settings import load
libc, hard = ctypes.CDLL(None), resource.getrlimit(resource.RLIMIT_CORE)[1]
told = {}
for file in sys.argv[1:]:
    settings = load(Path(file))
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
    before = libc.prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
    try:
        load_signer(settings)
        ended = ""
    except ChallengerError as error:
        ended = type(error).__name__
    told[file] = [before, ended, resource.getrlimit(resource.RLIMIT_CORE)[0], libc.prctl(3, 0, 0, 0, 0)]
print(json.dumps([hard, told]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's switch is Linux's")
def test_a_process_that_was_given_a_key_leaves_no_core(tmp_path: Path) -> None:
    """Wherever the key comes from, and where it cannot be used as well: its passphrase was in memory by then."""
    kinds = {"key file": "", "environment": "", "keystore": "", "external": "", "wrong passphrase": "KeyUnusable"}
    files = {}
    for kind in (*kinds, "none"):
        folder = tmp_path / kind
        folder.mkdir()
        file = folder / "challenger.toml"
        table = "" if kind == "none" else f"[signer]\n{signer(folder, kind)}\n"
        file.write_text(f'[chain]\nmarket = "0x{"cd" * 20}"\nchain_id = 1\n{table}')
        files[kind] = str(file)
    done = subprocess.run(
        [sys.executable, "-c", _HARDENED, *files.values()],
        env=os.environ | {"THE_KEY": KEY.hex()},
        capture_output=True,
        text=True,
        check=True,
    )
    hard, told = json.loads(done.stdout)
    assert told.pop(files["none"]) == [1, "", hard, 1], "without a key a dump does no harm, and helps"
    assert told == {files[kind]: [1, ended, 0, 0] for kind, ended in kinds.items()}
