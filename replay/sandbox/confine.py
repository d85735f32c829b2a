"""What a worker does to itself before it sees a hostile byte: limits, no privileges, no network, no writing.

Two steps, because some walls must stand before threads exist (namespaces, Landlock) and others only after the
libraries are loaded (the system-call filter, the bound on address space). Each step returns what is in force, so
that a fingerprint says how isolated a verdict was. Outside Linux only the resource limits hold.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from pathlib import Path

from replay.sandbox import seccomp
from replay.sandbox.outcome import Limits

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SIGKILL = 9
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_CAP_VERSION_3, _CAP_DAC_READ_SEARCH = 0x20080522, 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT, _LANDLOCK_VERSION = 444, 446, 1
#: WRITE_FILE, then REMOVE_DIR … MAKE_SYM of the first version of Landlock's rights
_LANDLOCK_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
#: since version 4: bind and connect TCP; since version 6: abstract sockets and signals, to processes outside
_LANDLOCK_TCP, _LANDLOCK_SCOPES = 0b11, 0b11


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent dies, and leave at once when that has happened already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def before_imports(limits: Limits) -> dict[str, str]:
    """The first step; needs a process with a single thread."""
    os.umask(0o077)
    lower(resource.RLIMIT_CORE, 0)
    lower(resource.RLIMIT_FSIZE, 0)
    lower(resource.RLIMIT_NOFILE, limits.open_files)
    lower(resource.RLIMIT_DATA, limits.memory_bytes)
    force = {"privileges": "unchanged", "network": "open", "files": "size-limit", "memory": "data", "signals": "open"}
    if sys.platform != "linux":
        return force
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
        force["privileges"] = "none-new"
    if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
        force["network"] = "namespace"
    # capabilities belong to threads, so they go while there is one thread
    if force["privileges"] == "none-new" and _drop_capabilities(libc):
        force["privileges"] = "none-new+no-capabilities"
    version = _landlock(libc)
    if version >= 1:
        force["files"] += "+landlock"
    if version >= 6:
        force["signals"] = "landlock"
    return force


def after_imports(limits: Limits, force: dict[str, str]) -> dict[str, str]:
    """The second step, given what the first put in force; from here on the process can read files, compute, and
    answer on its channel."""
    if sys.platform != "linux":
        return force
    # shared mappings escape RLIMIT_DATA, so the address space is bounded too, above what the libraries reserved
    lower(resource.RLIMIT_AS, _address_space() + limits.memory_bytes)
    force = force | {"memory": "data+address-space"}
    if seccomp.install():
        more = {key: "seccomp" if force[key] == "open" else force[key] + "+seccomp" for key in ("network", "signals")}
        force |= {**more, "files": force["files"] + "+seccomp"}
    return force


def grant_cpu(seconds: int) -> None:
    """Allow ``seconds`` of CPU time from now on (SIGXCPU ends the process); the hard limit stays as it is."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    wanted = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def lower(kind: int, value: int) -> None:
    """Set a limit, soft and hard, without ever raising one that is stricter already."""
    hard = resource.getrlimit(kind)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (bound, bound))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _landlock(libc: ctypes.CDLL) -> int:
    """Give up every right to write, create or remove files (no rule grants one back), to trace processes outside and,
    where the kernel can, to connect and to signal them. Reading stays. The kernel's version of Landlock; 0: none."""
    libc.syscall.restype = ctypes.c_long
    version = int(
        libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION))
    )
    if version < 1:
        return 0
    rights = struct.pack("=Q", _LANDLOCK_WRITES)
    if version >= 4:
        rights += struct.pack("=Q", _LANDLOCK_TCP)
    if version >= 6:
        rights += struct.pack("=Q", _LANDLOCK_SCOPES)
    handle = libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), rights, ctypes.c_size_t(len(rights)), ctypes.c_uint32(0))
    if handle < 0:
        return 0
    try:
        done = libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT), ctypes.c_int(handle), ctypes.c_uint32(0)) == 0
        return version if done else 0
    finally:
        os.close(handle)


def _drop_capabilities(libc: ctypes.CDLL) -> bool:
    """Keep at most the right to read: a service run as root must still be able to open its users' models."""
    header = struct.pack("=Ii", _CAP_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) != 0:
        return False
    permitted = struct.unpack("=6I", held.raw)[1] & (1 << _CAP_DAC_READ_SEARCH)
    return bool(libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0)) == 0)
