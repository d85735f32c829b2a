"""A signer in another process: asked in its own dialect, and never believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from eth_account import Account

from challenger.chain import signers
from challenger.chain.external import METHODS, ExternalSigner, SignerUnavailable
from challenger.chain.hashing import keccak
from challenger.chain.signers import KeyUnusable, SignerLied
from challenger.errors import ConfigError

KEY = keccak(b"the key in the other process")
OTHER = keccak(b"another key")
ADDRESS = Account.from_key(KEY).address.lower()
FIELDS = {
    "chainId": 7,
    "nonce": 0,
    "to": "0x" + "ab" * 20,
    "value": 5,
    "data": b"\x01\x02",
    "gas": 50_000,
    "maxFeePerGas": 10,
    "maxPriorityFeePerGas": 1,
}


@dataclass
class Box:
    """A signing server built on eth-account. ``change`` alters what it signs, ``answer`` what it says."""

    style: str
    key: bytes = KEY
    change: dict[str, Any] = field(default_factory=dict)
    answer: Callable[[bytes], Any] | None = None
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        assert body["method"] == METHODS[self.style]
        (wanted,) = body["params"]
        assert wanted["from"] == ADDRESS
        numbers = ("chainId", "nonce", "value", "gas", "maxFeePerGas", "maxPriorityFeePerGas")
        fields = {name: int(wanted[name], 16) for name in numbers}
        fields |= {"data": wanted["data"], "to": bytes.fromhex(wanted["to"][2:]), "type": 2} | self.change
        raw = bytes(Account.from_key(self.key).sign_transaction(fields).raw_transaction)
        if self.answer is not None:
            result = self.answer(raw)
            if isinstance(result, web.StreamResponse):
                return result
        else:
            result = "0x" + raw.hex()
            result = {"raw": result, "tx": {}} if self.style == "clef" else result
        return web.json_response({"jsonrpc": "2.0", "id": body["id"], "result": result})


@asynccontextmanager
async def served(box: Box) -> AsyncIterator[Box]:
    app = web.Application()
    app.router.add_post("/", box.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield box
    finally:
        await runner.cleanup()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("5a" * 32 + "\n")
    path.chmod(0o600)
    return path


def client(box: Box, secret: Path, seconds: float = 10.0) -> ExternalSigner:
    return ExternalSigner(box.url, signers.from_key(KEY).address, box.style, secret, seconds)


@pytest.mark.parametrize("style", sorted(METHODS))
async def test_both_dialects_sign_what_a_key_at_hand_would(secret: Path, style: str) -> None:
    async with served(Box(style)) as box:
        for fields in (FIELDS, {**FIELDS, "nonce": 300, "value": 0, "data": b""}):
            assert await client(box, secret).sign_transaction(fields) == await signers.from_key(KEY).sign_transaction(
                fields
            )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chainId", 8),
        ("nonce", 1),
        ("to", b"\xcd" * 20),
        ("value", 6),
        ("data", "0x0103"),
        ("gas", 50_001),
        ("maxFeePerGas", 11),
        ("maxPriorityFeePerGas", 2),
    ],
)
async def test_another_field_than_asked_for_is_a_lie(secret: Path, name: str, value: object) -> None:
    async with served(Box("web3signer", change={name: value})) as box:
        with pytest.raises(SignerLied, match=f"another {name}"):
            await client(box, secret).sign_transaction(FIELDS)


async def test_another_key_an_access_list_or_no_transaction_at_all_is_a_lie(secret: Path) -> None:
    entry = {"address": "0x" + "cd" * 20, "storageKeys": []}
    lies: dict[str, Box] = {
        "another key": Box("web3signer", key=OTHER),
        "access list": Box("web3signer", change={"accessList": [entry]}),
        "no transaction": Box("web3signer", answer=lambda _raw: 7),
        "no EIP-1559": Box("web3signer", answer=lambda raw: "0x" + raw[:-3].hex()),
        "EIP-1559": Box("web3signer", answer=lambda raw: "0x01" + raw[1:].hex()),
        "without": Box("web3signer", answer=lambda raw: "0x" + raw.hex() + "00"),
    }
    for word, box in lies.items():
        async with served(box):
            with pytest.raises(SignerLied, match=word) as caught:
                await client(box, secret).sign_transaction(FIELDS)
            assert "\n" not in str(caught.value)


async def test_a_refusal_or_silence_is_one_line_and_bounded(secret: Path) -> None:
    refusal = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "denied\nby  the rules" * 90}}
    never = asyncio.Event()
    answers: dict[str, Any] = {
        "denied by the rules": lambda _raw: web.json_response(refusal),
        "not JSON": lambda _raw: web.Response(text="<html>", status=502),
        "without a result": lambda _raw: web.json_response({"id": 1}, status=500),
        "more than": lambda _raw: web.Response(body=b" " * (1 << 21)),
    }
    for word, answer in answers.items():
        async with served(Box("web3signer", answer=answer)) as box:
            with pytest.raises(SignerUnavailable, match=word) as caught:
                await client(box, secret).sign_transaction(FIELDS)
            assert "\n" not in str(caught.value)
            assert len(str(caught.value)) < 400

    class Hanging(Box):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            await never.wait()
            return web.Response()

    async with served(Hanging("clef")) as box:
        with pytest.raises(SignerUnavailable, match="no answer within"):
            await client(box, secret, 0.1).sign_transaction(FIELDS)
        gone = box.url
        never.set()
    with pytest.raises(SignerUnavailable, match="connection failed"):
        await client(Box("clef", url=gone), secret).sign_transaction(FIELDS)


def test_secrets_come_from_the_file_alone_and_never_show(secret: Path, tmp_path: Path) -> None:
    box = Box("clef", url="http://user:token@localhost:1/path")
    one, again = client(box, secret), client(box, secret)
    assert one.derive_secret(b"salt") == again.derive_secret(b"salt") != one.derive_secret(b"other")
    assert len(one.derive_secret(b"salt")) == 32
    for hidden in ("5a5a", "token", "user", "path"):
        assert hidden not in repr(one)
    with pytest.raises(ConfigError, match="http"):
        client(Box("clef", url="ipc:/clef"), secret)
    for content in ("5a" * 31, "zz" * 32, ""):
        bad = tmp_path / "bad"
        bad.write_text(content)
        bad.chmod(0o600)
        with pytest.raises(KeyUnusable, match="64 random hex"):
            client(box, bad)
    secret.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        client(box, secret)
