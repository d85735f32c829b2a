"""Content identifiers: what a block's bytes must hash to, and how to read them.

Read are version 0 (``Qm…``) and version 1 (base32 ``b…``, base58btc ``z…``, base16 ``f…``) over the codecs raw and dag-pb with
SHA-256. Everything else is refused by name. Each CID has one binary form and, per base, one text: no other spelling is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Self

from replay.artifacts.ipfs import varint
from replay.artifacts.ipfs.errors import BlockMismatch, CidRefused, UnsupportedCid

RAW = 0x55
DAG_PB = 0x70
SHA2_256 = 0x12
_CODECS = {RAW: "raw", DAG_PB: "dag-pb"}
#: a multihash's head: SHA-256, 32 bytes
_HEAD = bytes((SHA2_256, 32))
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
#: no spelling of a CID that is read here has so many characters; base58 takes quadratic time
_MAX_TEXT = 128
#: of the multicodec table, for a refusal that says what it met
_OTHER_CODECS = {
    0x51: "cbor",
    0x71: "dag-cbor",
    0x72: "libp2p-key",
    0x78: "git-raw",
    0x0129: "dag-json",
    0x0200: "json",
}
_OTHER_HASHES = {0x00: "identity", 0x11: "sha1", 0x13: "sha2-512", 0x14: "sha3-512", 0x16: "sha3-256", 0x1B: "keccak-256", 0x1E: "blake3", 0xB220: "blake2b-256"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cid:
    """``digest``: SHA-256 of the block, 32 bytes; ``codec``: RAW or DAG_PB, version 0 has DAG_PB alone."""

    version: int
    codec: int
    digest: bytes

    def __post_init__(self) -> None:
        if self.version not in (0, 1) or self.codec not in _CODECS or len(self.digest) != 32:
            raise CidRefused(f"version {self.version}, codec {self.codec:#x}, a digest of {len(self.digest)} bytes")
        if self.version == 0 and self.codec != DAG_PB:
            raise CidRefused("version 0 is dag-pb alone")

    @classmethod
    def of(cls, block: bytes | memoryview, codec: int = DAG_PB, version: int = 1) -> Self:
        return cls(version, codec, hashlib.sha256(block).digest())

    @classmethod
    def parse(cls, text: str) -> Self:
        """From text. Raises ``CidRefused``, for a kind that is not read here ``UnsupportedCid``."""
        if len(text) > _MAX_TEXT or not text.isascii():
            raise CidRefused(f"{text[:80]!a} is too long or not ASCII")
        if text.startswith("Qm") and len(text) == 46:
            made = cls.from_bytes(_from_base58(text))
            if made.version:
                raise CidRefused(f"{text} is no CID of version 0")
            return made
        base, rest = text[:1], text[1:]
        if base == "b":
            data = _from_base32(rest)
        elif base == "z":
            data = _from_base58(rest)
        elif base == "f":
            data = _from_base16(rest)
        else:
            raise CidRefused(f"{text!a} begins neither with Qm nor with b (base32), z (base58btc) or f (base16)")
        made = cls.from_bytes(data)
        if made.version == 0:
            raise CidRefused(f"{text}: version 0 is written without a base")
        return made

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> Self:
        """From the binary form, and nothing after it. Raises as ``parse``."""
        made, end = cls.read(data)
        if end != len(data):
            raise CidRefused(f"{len(data) - end} bytes follow the CID")
        return made

    @classmethod
    def read(cls, data: bytes | memoryview, at: int = 0) -> tuple[Self, int]:
        """The CID whose binary form begins at ``at``, and where it ends. Raises as ``parse``."""
        if data[at : at + 2] == _HEAD:
            return cls(0, DAG_PB, _digest(data, at + 2)), at + 34
        try:
            version, at = varint.decode(data, at)
            if version != 1:
                raise UnsupportedCid(f"version {version}")
            codec, at = varint.decode(data, at)
            function, at = varint.decode(data, at)
            length, at = varint.decode(data, at)
        except ValueError as error:
            raise CidRefused(str(error)) from error
        if codec not in _CODECS:
            raise UnsupportedCid(f"codec {_OTHER_CODECS.get(codec, hex(codec))}; read are raw and dag-pb")
        if function != SHA2_256:
            raise UnsupportedCid(f"hash {_OTHER_HASHES.get(function, hex(function))}; read is sha2-256")
        if length != 32:
            raise UnsupportedCid(f"a sha2-256 of {length} bytes; read are 32")
        return cls(1, codec, _digest(data, at)), at + 32

    @classmethod
    def from_multihash(cls, data: bytes, version: int = 0) -> Self:
        """Of ``0x1220 ‖ digest``, 34 bytes, which is how contracts hold the CID of a dag-pb block. Raises as ``parse``."""
        if len(data) != 34 or data[:2] != _HEAD:
            raise CidRefused(f"{len(data)} bytes; a SHA-256 multihash is 0x1220 and 32 bytes")
        return cls(version, DAG_PB, bytes(data[2:]))

    @property
    def multihash(self) -> bytes:
        """``0x1220 ‖ digest``: version and codec are not in it."""
        return _HEAD + self.digest

    @property
    def binary(self) -> bytes:
        return self.multihash if self.version == 0 else bytes((1, self.codec)) + self.multihash

    def __str__(self) -> str:
        if self.version == 0:
            return _to_base58(self.binary)
        return "b" + base64.b32encode(self.binary).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that were checked against their CID: there is no other way to make one. Raises ``BlockMismatch``."""

    cid: Cid
    data: bytes

    def __post_init__(self) -> None:
        if hashlib.sha256(self.data).digest() != self.cid.digest:
            raise BlockMismatch(f"{self.cid}, {len(self.data)} bytes")


def _digest(data: bytes | memoryview, at: int) -> bytes:
    digest = bytes(data[at : at + 32])
    if len(digest) != 32:
        raise CidRefused("the digest is cut short")
    return digest


def _from_base16(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if data.hex() != text or not text:
        raise CidRefused(f"{text!a} is not lower-case base16")
    return data


def _from_base32(text: str) -> bytes:
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error:
        data = b""
    if base64.b32encode(data).decode().rstrip("=").lower() != text or not text:
        raise CidRefused(f"{text!a} is not canonical lower-case base32")
    return data


def _from_base58(text: str) -> bytes:
    value = 0
    for sign in text:
        digit = _BASE58.find(sign)
        if digit < 0:
            raise CidRefused(f"{text!a} is not base58: {sign!a}")
        value = value * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")


def _to_base58(data: bytes) -> str:
    value = int.from_bytes(data, "big")
    signs = []
    while value:
        value, digit = divmod(value, 58)
        signs.append(_BASE58[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(signs))
