"""The system-call filter, instruction by instruction: an interpreter of the few BPF instructions it uses."""

import errno
import os
import struct

import pytest

from replay.sandbox import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
PID = 4321


def decide(program, arch, call, *arguments):
    """What the kernel would return for one system call."""
    data = struct.pack("=IIQ6Q", call, arch, 0, *(*arguments, *[0] * (6 - len(arguments))))
    at, accumulator = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x06:
            return k
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, k)[0]
        else:
            holds = {0x15: accumulator == k, 0x45: accumulator & k != 0, 0x35: accumulator >= k}[code]
            at += yes if holds else no


def refused(number):
    return 0x00050000 | number


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_the_filter_lets_through(machine):
    program = seccomp.rules(machine, PID)
    assert len(program) % 8 == 0
    assert len(program) // 8 <= 4096
    arch = seccomp._ARCHES[machine]
    column = list(seccomp._ARCHES).index(machine)

    def ask(call, *arguments):
        return decide(program, arch, call, *arguments)

    for numbers in seccomp._DENIED.values():
        if numbers[column] is not None:
            assert ask(numbers[column]) == refused(errno.EPERM)
    for numbers in seccomp._ABSENT.values():
        assert ask(numbers[column]) == refused(errno.ENOSYS)
    # read, write, mmap, munmap, brk or its neighbours, futex, exit_group
    for call in {"x86_64": (0, 1, 9, 11, 12, 202, 231), "aarch64": (63, 64, 222, 215, 214, 98, 94)}[machine]:
        assert ask(call) == ALLOW
    openat, clone, kill, tgkill, prlimit = (
        one[column] for one in (seccomp._OPENAT, seccomp._CLONE, seccomp._KILL, seccomp._TGKILL, seccomp._PRLIMIT)
    )
    assert ask(openat, 3, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_RDONLY | os.O_CREAT):
        assert ask(openat, 3, 0, flags) == refused(errno.EPERM)
    assert ask(clone, 0x3D0F00) == ALLOW
    assert ask(clone, 0x1200011) == refused(errno.EPERM)
    for call in (kill, tgkill):
        assert ask(call, PID) == ALLOW
        assert ask(call, 1) == refused(errno.EPERM)
        assert ask(call, (1 << 64) - 1) == refused(errno.EPERM)
    assert ask(prlimit, 0) == ALLOW
    assert ask(prlimit, 1) == refused(errno.EPERM)
    assert decide(program, arch ^ 1, 0) == KILL
    if machine == "x86_64":
        assert ask(0x40000000 | 41) == KILL


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_descriptor_can_be_made_to_signal_or_lock_nobody(machine):
    program = seccomp.rules(machine, PID)
    arch, column = seccomp._ARCHES[machine], list(seccomp._ARCHES).index(machine)
    fcntl, ioctl = seccomp._FCNTL[column], seccomp._IOCTL[column]

    def ask(call, *arguments):
        return decide(program, arch, call, *arguments)

    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
    assert {ask(fcntl, 3, command, 0x2000) for command in (0, 1, 2, 3, 1030)} == {ALLOW}
    assert ask(fcntl, 3, 4, os.O_NONBLOCK | os.O_RDWR) == ALLOW
    assert ask(fcntl, 3, 4, os.O_NONBLOCK | 0x2000) == refused(errno.EPERM)
    # locks, F_SETOWN, F_SETSIG, F_SETOWN_EX, open-file locks, F_SETLEASE, F_NOTIFY; and what may come
    for command in (6, 7, 8, 10, 15, 37, 38, 1024, 1026, 5000):
        assert ask(fcntl, 3, command, PID) == refused(errno.EPERM)
    for request in (0x5452, 0x8901, 0x8902, 0x5412):
        assert ask(ioctl, 3, request, 1) == refused(errno.EPERM)
        assert ask(ioctl, 3, request | 1 << 32, 1) == refused(errno.EPERM)
    # isatty, FIONREAD, FIONBIO, FIOCLEX
    assert {ask(ioctl, 3, request, 1) for request in (0x5401, 0x541B, 0x5421, 0x5451)} == {ALLOW}
    assert ask(467, -100 & 0xFFFFFFFF) == refused(errno.EPERM)


def test_an_unknown_machine_gets_no_filter(monkeypatch):
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "pdp11")
    assert seccomp.install() is False
