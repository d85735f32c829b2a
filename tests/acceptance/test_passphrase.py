"""A keystore's passphrase typed at a real terminal: asked for, never echoed, and one line where none is typed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from challenger.chain.hashing import keccak
from tests.acceptance.traces import private

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a terminal of this kind")
KEY = keccak(b"a key that only this test uses")
PASSPHRASE = "croquet kaleidoscope 4715"
#: The first terminal that a session's leader opens is the one that it is asked at.
_AT_A_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
from challenger.cli import main
sys.exit(main(["check", "--no-replay", "--json", "-c", sys.argv[1]]))
"""


class Terminal:
    """`challenger check` at a terminal of its own, and a person with patience at the other end."""

    def __init__(self, config: Path) -> None:
        self._person, theirs = os.openpty()
        self._shown = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _AT_A_TERMINAL, str(config)],
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def shows(self, word: bytes) -> None:
        """Returns once the screen shows it."""
        while word not in self._shown:
            assert self._more(), self._shown

    def types(self, keys: bytes) -> None:
        os.write(self._person, keys)

    def ended(self) -> tuple[int, bytes, bytes]:
        """Exit code, standard output, and everything that the screen showed."""
        out, _ = self._process.communicate(timeout=60)
        while self._more():
            pass
        return self._process.returncode, out, self._shown

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        os.close(self._person)

    def _more(self) -> bool:
        """False when nobody is left at the other side."""
        assert select.select([self._person], [], [], 60)[0], "nothing was shown for a minute"
        try:
            read = os.read(self._person, 1 << 12)
        except OSError:  # how Linux tells it
            return False
        self._shown += read
        return bool(read)


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Terminal]:
    """As far as the question."""
    document = json.dumps(Account.encrypt(KEY, PASSPHRASE, iterations=2, kdf="pbkdf2"))
    keystore = private(tmp_path / "keystore.json", document)
    config = tmp_path / "challenger.toml"
    config.write_text(
        f'[chain]\nrpc = ["http://127.0.0.1:9"]\nmarket = "0x{"cd" * 20}"\nchain_id = 1\n'
        f'[store]\nurl = "sqlite:///{tmp_path}/x.sqlite"\n[signer]\nkeystore = "{keystore}"\n'
    )
    terminal = Terminal(config)
    try:
        terminal.shows(f"Passphrase of {keystore}: ".encode())
        yield terminal
    finally:
        terminal.close()


def signer_row(out: bytes) -> dict[str, object]:
    return next(row for row in json.loads(out)["checks"] if row["name"] == "signer")


def test_what_is_typed_opens_the_keystore_and_is_not_echoed(asked: Terminal) -> None:
    asked.types(PASSPHRASE.encode() + b"\n")
    _, out, screen = asked.ended()
    row = signer_row(out)
    assert row["ok"] is True
    assert f"{Account.from_key(KEY).address.lower()} signs" in str(row["detail"])
    for part in (PASSPHRASE, *PASSPHRASE.split()):
        assert part.encode() not in screen + out


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        pytest.param(b"\x04", "no passphrase was typed", id="the end of input"),
        *(
            pytest.param(keys, "the passphrase does not open the keystore", id=name, marks=pytest.mark.slow)
            for keys, name in ((b"\n", "nothing"), (b"another one\n", "another"))
        ),
    ],
)
def test_what_is_no_passphrase_is_one_line(asked: Terminal, keys: bytes, says: str) -> None:
    asked.types(keys)
    code, out, screen = asked.ended()
    row = signer_row(out)
    assert (code, row["ok"]) == (1, False)
    assert says in str(row["detail"])
    assert "\n" not in str(row["detail"])
    assert b"Traceback" not in screen
    assert b"another one" not in screen + out


def test_who_changes_their_mind_at_the_question_is_let_go(asked: Terminal) -> None:
    asked.types(b"\x03")
    code, out, screen = asked.ended()
    assert (code, out) == (130, b"")
    assert screen.endswith(b"challenger: interrupted\r\n")
    assert b"Traceback" not in screen
