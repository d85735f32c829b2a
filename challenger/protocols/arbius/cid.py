"""What a solution commits to: the CID of a folder of files, as ``ipfs add --wrap-with-directory`` makes it.

The solvers' software adds with CIDs of version 0, chunks of 256 KiB and no raw leaves; the engine holds the multihash,
``0x1220`` and the SHA-256 of the folder's block. Any bytes may stand there, though: the engine checks none of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from challenger.chain.hashing import keccak
from challenger.domain import Hash32
from replay.artifacts.ipfs.build import KUBO, KUBO_2025, KUBO_RAW, KUBO_V1, Profile, directory_cid, file_cid
from replay.artifacts.ipfs.cid import DAG_PB, Cid
from replay.artifacts.ipfs.errors import CidRefused, UnsupportedCid

#: The engine computes an input's CID itself, as one block; more than this it refuses.
MAX_INPUT = 65_536


#: What ``ipfs add`` can be asked for beside what the solvers' software asks for.
_FORMS = (KUBO_RAW, KUBO_V1, Profile(1), KUBO_2025)


def solution_digest(files: Mapping[str, bytes], like: Hash32 | None = None) -> Hash32:
    """The digest in the CID of a folder with these files: in the solvers' form, or ``like`` where that is their digest in
    another form, which names the same files. Raises ``NameRefused``."""
    usual = Hash32(directory_cid(files, KUBO).digest)
    if like is None or like == usual or all(directory_cid(files, form).digest != like for form in _FORMS):
        return usual
    return like


def solution_cid(digest: Hash32) -> bytes:
    """As the engine holds it."""
    return Cid(0, DAG_PB, digest).multihash


def input_cid(data: bytes) -> bytes:
    """The CID that the engine computes of a task's input, or of a model's template: at most ``MAX_INPUT`` bytes."""
    return file_cid(data).multihash


def output_root(cid: bytes) -> Hash32:
    """The digest inside ``cid``; of what is none, its keccak, which is no folder's digest."""
    try:
        return Hash32(Cid.from_bytes(cid).digest)
    except CidRefused:
        return Hash32(keccak(cid))


def foreign(cid: bytes) -> str:
    """Why nothing can be said of a solution by this CID: it may name the right files in a way that is not computed here.
    Empty for a folder's CID, and for what is no CID at all, which names no files."""
    if cid[:1] not in (b"\x12", b"\x01"):
        return ""  # of neither version
    try:
        found = Cid.from_bytes(cid)
    except UnsupportedCid as error:
        return str(error)
    except CidRefused:
        return ""
    return "" if found.codec == DAG_PB else "it names a raw block, not a folder"
