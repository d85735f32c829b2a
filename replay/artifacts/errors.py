"""Why an artefact could not be had. Each error carries a ``reason`` that scripts can switch on and a masked URL."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from urllib.parse import urlsplit

from replay.errors import ReplayError


class ArtifactReason(StrEnum):
    """What went wrong, in one word."""

    NOT_FOUND = "not-found"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    STATUS = "status"
    DIGEST = "digest"
    MANIFEST = "manifest"
    SIZE = "size"
    TILES = "tiles"
    ROOM = "room"
    SCHEME = "scheme"
    ROOTS = "roots"
    ADDRESS = "address"
    REDIRECT = "redirect"
    ENCODING = "encoding"
    GATEWAYS = "gateways"
    DAG = "dag"
    STORE = "store"


#: Nothing was said at all: whoever should serve it may be away, or the way there.
SILENT = frozenset({ArtifactReason.UNREACHABLE, ArtifactReason.TIMEOUT})
#: Something was said, and nothing given: whoever should serve it may be in trouble, or what stands between.
REFUSED = frozenset({ArtifactReason.STATUS, ArtifactReason.ENCODING, ArtifactReason.REDIRECT})
#: Our own disk failed, or what we gave the cache of it is all in use.
OUR_DISK = frozenset({ArtifactReason.STORE, ArtifactReason.ROOM})


class ArtifactError(ReplayError):
    """the artefact could not be had"""

    def __init__(
        self, reason: ArtifactReason, detail: str = "", *, uri: str = "", faults: Collection[ArtifactReason] = ()
    ) -> None:
        """``faults``: of several sources, what went wrong with each. ``meanwhile``: where nothing answered, the host that
        did between this failure and the one before (``routes.py``)."""
        super().__init__(detail)
        self.reason = reason
        self.meanwhile = ""
        self.faults = frozenset(faults)
        self.uri = masked(uri) if uri else ""

    def __str__(self) -> str:
        head = " ".join((type(self).__doc__ or "").split())
        where = f" {self.uri}" if self.uri else ""
        return f"{head}:{where} [{self.reason}]" + (f" {self.detail}" if self.detail else "")


class ArtifactMissing(ArtifactError):
    """the artefact is not to be had"""


class ArtifactMismatch(ArtifactError):
    """the bytes served are not the ones named by the digest"""

    def __init__(
        self, reason: ArtifactReason, detail: str = "", *, uri: str = "", served: bytes = b"", size: int = 0
    ) -> None:
        """``served``: SHA-256 of what was served in their place, ``size`` its bytes; empty where it is the right file and
        says nothing that can be used (reason ``manifest``)."""
        lay = f"{size} bytes of sha256 0x{served.hex()} were served" if served else ""
        super().__init__(reason, "; ".join(filter(None, (detail, lay))), uri=uri)
        self.served = served
        self.size = size


class ArtifactTooLarge(ArtifactError):
    """the artefact is larger than allowed"""


class ArtifactRefused(ArtifactError):
    """the artefact's address is not allowed"""


class ArtifactUnreadable(ArtifactError):
    """the blocks behind the CID are not a file that is read here"""


class ArtifactStoreFailed(ArtifactError):
    """the artefact cache on this machine cannot be used"""


def masked(uri: str, limit: int = 120) -> str:
    """``uri`` without user, password, query and fragment, printable, at most ``limit`` characters.

    >>> masked("https://user:secret@host:8443/a/b?token=1#x")
    'https://host:8443/a/b'
    """
    try:
        parts = urlsplit(uri)
        # a CID tells capitals from small letters, which a host's name does not
        host = (parts.hostname if parts.scheme != "ipfs" else parts.netloc.rpartition("@")[2]) or ""
        port = f":{parts.port}" if parts.scheme != "ipfs" and parts.port else ""
    except ValueError:
        return "(an address that does not parse)"
    bracketed = f"[{host}]" if ":" in host and parts.scheme != "ipfs" else host
    text = f"{parts.scheme}://{bracketed}{port}{parts.path}" if parts.scheme else parts.path
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
