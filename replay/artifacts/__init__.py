"""Content-addressed artefacts: fetched from ``file:``, ``http(s):`` and ``ipfs:``, verified before they get a name, cached."""

from replay.artifacts.errors import (
    OUR_DISK,
    REFUSED,
    SILENT,
    ArtifactError,
    ArtifactMismatch,
    ArtifactMissing,
    ArtifactReason,
    ArtifactRefused,
    ArtifactStoreFailed,
    ArtifactTooLarge,
    ArtifactUnreadable,
)
from replay.artifacts.manifest import manifest_files
from replay.artifacts.routes import Routes
from replay.artifacts.store import ArtifactStore

__all__ = [
    "OUR_DISK",
    "REFUSED",
    "SILENT",
    "ArtifactError",
    "ArtifactMismatch",
    "ArtifactMissing",
    "ArtifactReason",
    "ArtifactRefused",
    "ArtifactStore",
    "ArtifactStoreFailed",
    "ArtifactTooLarge",
    "ArtifactUnreadable",
    "Routes",
    "manifest_files",
]
