"""A process that holds a key leaves no image of its memory behind."""

from __future__ import annotations

import ctypes
import resource
import sys

#: prctl(2): whether the process may be dumped, and read by others of its user.
_PR_SET_DUMPABLE = 4


def no_core_dumps() -> list[str]:
    """Forbids core dumps, and on Linux other processes of this user to read this one's memory. What could not be had,
    in words; empty when all holds."""
    missing = []
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    except (OSError, ValueError) as error:
        missing.append(f"core dumps could not be forbidden: {error}")
    if sys.platform != "linux":
        missing.append("this system cannot hide a process's memory from others of its user")
    elif ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        missing.append("the kernel refuses to hide this process's memory from others of its user")
    return missing
