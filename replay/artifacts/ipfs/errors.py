"""Why something of IPFS is refused. None of these is a transfer that failed: the bytes are here and are not usable."""

from __future__ import annotations

from replay.errors import ReplayError


class IpfsError(ReplayError):
    """the data cannot be read as IPFS data"""


class CidRefused(IpfsError):
    """the text or bytes are not a CID that is read here"""


class UnsupportedCid(CidRefused):
    """the CID is of a kind that is not read here"""


class BlockMismatch(IpfsError):
    """the block is not the one that its CID names"""


class BlockRefused(IpfsError):
    """the block is not canonical dag-pb or UnixFS"""


class DagRefused(IpfsError):
    """the blocks do not make a file that is read here"""


class DagTooLarge(DagRefused):
    """the file behind the CID is larger than allowed"""


class NoSuchEntry(DagRefused):
    """the directory has no such name"""


class UnsupportedUnixfs(DagRefused):
    """UnixFS of this kind is not read here"""


class CarRefused(IpfsError):
    """the CAR file cannot be read"""


class NameRefused(IpfsError):
    """a name cannot stand in a directory"""
