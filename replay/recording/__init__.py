"""Recordings: one documented, versioned format of plain files for recorded runs and recorded chain traffic.

A recording is a folder, or the same folder in one uncompressed ``.tar`` (plain ustar) file that is read where it lies.
``manifest.json`` names every other file with its length and SHA-256; ``docs/recordings.md`` is the specification.
``open_recording`` reads and ``RecordingWriter`` writes; neither knows what the lines mean.
"""

from replay.recording.errors import (
    RecordingDamaged,
    RecordingError,
    RecordingExists,
    RecordingMalformed,
    RecordingTooLarge,
    RecordingUnreadable,
    RecordingVersion,
)
from replay.recording.manifest import FORMAT, VERSION, Manifest, Part
from replay.recording.reader import Recording, open_recording
from replay.recording.writer import RecordingWriter

__all__ = [
    "FORMAT",
    "VERSION",
    "Manifest",
    "Part",
    "Recording",
    "RecordingDamaged",
    "RecordingError",
    "RecordingExists",
    "RecordingMalformed",
    "RecordingTooLarge",
    "RecordingUnreadable",
    "RecordingVersion",
    "RecordingWriter",
    "open_recording",
]
