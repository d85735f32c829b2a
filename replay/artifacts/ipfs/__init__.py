"""IPFS without trusting anybody: CIDs, the blocks they name, and the files that blocks make.

Every block is checked against its CID before it is looked at; who served it does not matter.
"""

from replay.artifacts.ipfs.build import KUBO, KUBO_2025, KUBO_RAW, KUBO_V1, Built, Profile, directory_cid, file_cid
from replay.artifacts.ipfs.cid import Cid
from replay.artifacts.ipfs.errors import IpfsError

__all__ = [
    "KUBO",
    "KUBO_2025",
    "KUBO_RAW",
    "KUBO_V1",
    "Built",
    "Cid",
    "IpfsError",
    "Profile",
    "directory_cid",
    "file_cid",
]
