"""Plain files only: opening a pipe or a device could wait for ever, or read what has no end."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path


class NotPlain(OSError):
    """A pipe, a socket, a device or a folder where a file was expected."""

    def __str__(self) -> str:
        return f"{self.filename} is no plain file"


def open_plain(path: Path) -> BufferedReader:
    """``path`` opened for reading without ever waiting. Raises ``NotPlain``, ``OSError``."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    plain = stat.S_ISREG(os.fstat(handle).st_mode)
    if not plain:
        os.close(handle)
        raise NotPlain(None, "not a plain file", str(path))
    return os.fdopen(handle, "rb")
