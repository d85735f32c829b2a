"""A small system-call filter (Linux seccomp-bpf) for a worker that computes and does nothing else.

It denies sockets, new processes, signals to others (also those a descriptor would send on its owner's behalf), file
locks, tracing, io_uring (which would bypass the rest), opening files for writing and changing the file system, and the
priorities and memory of other processes. Unknown architectures get no filter, and the caller reports that.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}

# name: (x86_64, aarch64); None where the architecture lacks the call. Sources: the kernel's syscall tables.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "sendto": (44, 206), "sendmsg": (46, 211),
    "bind": (49, 200), "listen": (50, 201), "socketpair": (53, 199), "accept4": (288, 242), "sendmmsg": (307, 269),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "creat": (85, None), "truncate": (76, 45), "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276),
    "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36),
    "mknod": (133, None), "mknodat": (259, 33), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
    "fchmodat2": (452, 452), "chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "removexattr": (197, 14),
    "lremovexattr": (198, 15), "fremovexattr": (199, 16), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268),
    "unshare": (272, 97), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "init_module": (175, 105),
    "finit_module": (313, 273), "kexec_load": (246, 104), "reboot": (169, 142), "swapon": (167, 224),
    "open_by_handle_at": (304, 265), "setuid": (105, 146), "setgid": (106, 144), "setsid": (112, 157),
    "setpgid": (109, 154), "syslog": (103, 116), "acct": (163, 89), "sethostname": (170, 161),
    "open_tree_attr": (467, 467), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "setxattrat": (463, 463), "removexattrat": (466, 466), "file_setattr": (469, 469), "flock": (73, 32),
    "shmat": (30, 196), "shmctl": (31, 195), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192),
    "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187), "mq_unlink": (241, 181),
    "setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "kexec_file_load": (320, 294), "delete_module": (176, 106), "swapoff": (168, 225), "quotactl": (179, 60),
    "fanotify_init": (300, 262), "setdomainname": (171, 162), "clock_settime": (227, 112), "settimeofday": (164, 170),
}  # fmt: skip
#: taken through a structure in memory, which a filter cannot read; libraries fall back when these are "not there"
_ABSENT = {"clone3": (435, 435), "openat2": (437, 437)}
_OPEN, _OPENAT, _CLONE, _KILL, _TGKILL, _PRLIMIT = (2, None), (257, 56), (56, 220), (62, 129), (234, 131), (302, 261)
_AFFINITY, _FCNTL, _IOCTL = (203, 122), (72, 25), (16, 29)
#: all that fcntl may do: copy a descriptor, read and set its flags. Owners, signals, leases and locks reach others.
_FCNTL_ALLOWED = {"F_DUPFD": 0, "F_GETFD": 1, "F_SETFD": 2, "F_GETFL": 3, "F_DUPFD_CLOEXEC": 1030}
_F_SETFL, _O_ASYNC = 4, 0x2000
#: signals at input or output, and typing into a terminal
_IOCTL_DENIED = {"FIOASYNC": 0x5452, "FIOSETOWN": 0x8901, "SIOCSPGRP": 0x8902, "TIOCSTI": 0x5412, "TIOCLINUX": 0x541C}

_CLONE_THREAD = 0x00010000
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_LD, _JEQ, _JSET, _JGE, _RET = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARGUMENTS = 0, 4, 16
_X32 = 0x40000000
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1


def rules(machine: str, pid: int) -> bytes:
    """The filter program for a process ``pid`` on ``machine``: 8-byte BPF instructions, first match decides."""
    column = list(_ARCHES).index(machine)
    out: list[tuple[int, int, int, int]] = [
        (_LD, 0, 0, _ARCH),
        (_JEQ, 1, 0, _ARCHES[machine]),
        (_RET, 0, 0, _KILL_PROCESS),
        (_LD, 0, 0, _NR),
    ]
    if machine == "x86_64":
        out += [(_JGE, 0, 1, _X32), (_RET, 0, 0, _KILL_PROCESS)]
    for table, number in ((_DENIED, errno.EPERM), (_ABSENT, errno.ENOSYS)):
        for numbers in table.values():
            if (call := numbers[column]) is not None:
                out += [(_JEQ, 0, 1, call), (_RET, 0, 0, _ERRNO | number)]

    def when(call: int | None, argument: int, test: int, value: int, *, allow_if: bool) -> None:
        # nr == call ? the low half of one argument decides : go on
        if call is None:
            return
        yes, no = (_ALLOW, _ERRNO | errno.EPERM) if allow_if else (_ERRNO | errno.EPERM, _ALLOW)
        load = (_LD, 0, 0, _ARGUMENTS + 8 * argument)
        out.extend([(_JEQ, 0, 4, call), load, (test, 0, 1, value), (_RET, 0, 0, yes), (_RET, 0, 0, no)])

    when(_OPEN[column], 1, _JSET, _WRITES, allow_if=False)
    when(_OPENAT[column], 2, _JSET, _WRITES, allow_if=False)
    when(_CLONE[column], 0, _JSET, _CLONE_THREAD, allow_if=True)
    when(_KILL[column], 0, _JEQ, pid, allow_if=True)
    when(_TGKILL[column], 0, _JEQ, pid, allow_if=True)
    when(_PRLIMIT[column], 0, _JEQ, 0, allow_if=True)
    when(_AFFINITY[column], 0, _JEQ, 0, allow_if=True)
    denied = _ERRNO | errno.EPERM
    # fcntl: the command's low half is loaded once; what is not listed is denied
    flags = [(_JEQ, 0, 4, _F_SETFL), (_LD, 0, 0, _ARGUMENTS + 16), (_JSET, 0, 1, _O_ASYNC), (_RET, 0, 0, denied)]
    inside = [(_LD, 0, 0, _ARGUMENTS + 8), *_each(_FCNTL_ALLOWED, _ALLOW), *flags, (_RET, 0, 0, _ALLOW)]
    out += [(_JEQ, 0, len(inside) + 1, _FCNTL[column]), *inside, (_RET, 0, 0, denied)]
    inside = [(_LD, 0, 0, _ARGUMENTS + 8), *_each(_IOCTL_DENIED, denied)]
    out += [(_JEQ, 0, len(inside) + 1, _IOCTL[column]), *inside, (_RET, 0, 0, _ALLOW)]
    out.append((_RET, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *one) for one in out)


def _each(values: dict[str, int], verdict: int) -> list[tuple[int, int, int, int]]:
    """Instructions that give ``verdict`` where the accumulator holds one of ``values``."""
    return [step for value in values.values() for step in ((_JEQ, 0, 1, value), (_RET, 0, 0, verdict))]


def install() -> bool:
    """Put the filter on every thread of this process, for good. Needs PR_SET_NO_NEW_PRIVS. False: not possible."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHES:
        return False
    program = rules(machine, os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(
        ctypes.c_long(_SECCOMP_CALL[machine]),
        ctypes.c_ulong(_SET_MODE_FILTER),
        ctypes.c_ulong(_FLAG_TSYNC),
        ctypes.c_char_p(header),
    )
    return bool(answer == 0)
