"""Why a recording is refused. One line that says what and where; nothing of a refused recording has been handed on."""

from __future__ import annotations

from replay.errors import ReplayError


class RecordingError(ReplayError):
    """the recording is refused"""

    #: One word for scripts.
    reason = "recording"

    def __init__(self, detail: str = "", *, part: str = "", line: int = 0) -> None:
        """``part``: the file inside the recording; ``line``: its line, from 1 (0: no line)."""
        where = {"part": ascii(part[:120])[1:-1]} if part else {}
        super().__init__(detail, **where, **({"line": line} if line else {}))
        self.part = part
        self.line = line


class RecordingUnreadable(RecordingError):
    """the recording cannot be read"""

    reason = "unreadable"


class RecordingMalformed(RecordingError):
    """the recording is not in the format"""

    reason = "malformed"


class RecordingDamaged(RecordingError):
    """the recording is not the one its manifest names"""

    reason = "damaged"


class RecordingTooLarge(RecordingError):
    """the recording is larger than this reader accepts"""

    reason = "too-large"


class RecordingVersion(RecordingError):
    """the recording is of a version that this reader does not know"""

    reason = "version"


class RecordingExists(RecordingError):
    """a recording is never written over"""

    reason = "exists"
