"""A worker whose engine does what the input says: the real process, the real walls, a hostile tenant."""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from replay.sandbox.outcome import Reason, Refusal
from replay.sandbox.protocol import MAX_DESCRIPTION
from replay.trace import Receipt
from replay.worker import main

ROOT = bytes(32)


def attempt(act, argument):
    """What came of an act that ought to be forbidden."""
    try:
        act(argument)
    except BaseException as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "done"


def allocate():
    kept = []
    while True:
        kept.append(bytearray(64 << 20))


def segfault():
    import ctypes

    ctypes.CDLL(None).memset(None, 0, 8)


def burn():
    while True:
        pass


def hang():
    threading.Event().wait()


def rubbish():
    for at in range(3, 16):
        try:
            os.write(at, b"\x00\xffthis is no frame at all" * 40)
        except OSError:
            continue


def huge_frame():
    for at in range(3, 16):
        try:
            os.write(at, b"RPL1" + b"\xff" * 8)
        except OSError:
            continue
    hang()


def endless_description():
    """100 MiB, from a tenant that writes to the channel itself."""
    header, piece = b'{"status":"described"}', b"[]," * (1 << 18)
    told = struct.pack(">II", len(header), 100 << 20) + header + b'{"operators":['
    for at in range(3, 16):
        try:
            os.write(at, b"RPL1" + told)
        except OSError:
            continue
        while True:
            os.write(at, piece)


def out_of_thin_air():
    raise ValueError("an honest mistake")


class Tenant:
    def start(self, backend, models):
        self.backend = backend
        if backend == "broken":
            raise Refusal(Reason.BACKEND_REFUSED, "a known answer came out wrong")
        if backend == "absent":
            import no_such_library  # noqa: F401
        if backend == "mute":
            hang()

    def describe(self, header):
        act = Path(header["manifest"]).name
        if act == "endless":
            endless_description()
        return {"manifest": header["manifest"]} | ({"weights": "w" * MAX_DESCRIPTION} if act == "long" else {})

    def replay(self, header, data):
        order = json.loads(data)
        act, argument = order["act"], order.get("argument")
        acts = {
            "allocate": allocate, "segfault": segfault, "burn": burn, "hang": hang, "rubbish": rubbish,
            "huge frame": huge_frame, "raise": out_of_thin_air, "exit": lambda: os._exit(3),
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "print": lambda: print("chatter on standard output", flush=True),
            "flood": lambda: [print("x" * 100000, file=sys.stderr) for _ in range(100)],
            "refuse": lambda: (_ for _ in ()).throw(Refusal(Reason(argument), "as told")),
            "echo": lambda: None, "environment": lambda: None,
        }  # fmt: skip
        seen = {}
        if act == "probe":
            seen = {name: attempt(PROBES[name], at) for name, at in argument.items()}
        else:
            acts[act]()
        if act == "environment":
            data = json.dumps(dict(os.environ)).encode()
        shown = {"pid": str(os.getpid()), **seen}
        return Receipt(ROOT, ROOT, ROOT, (ROOT, ROOT), data, (ROOT,), (ROOT,), shown, 0.0)


PROBES = {
    "inet socket": lambda port: socket.create_connection(("127.0.0.1", port), 1),
    "unix socket": lambda _: socket.socket(socket.AF_UNIX),
    "udp": lambda _: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "write": lambda at: Path(at).write_text("owned"),
    "append": lambda at: os.open(at, os.O_WRONLY | os.O_APPEND),
    "create": lambda at: os.open(at, os.O_CREAT | os.O_RDONLY),
    "unlink": lambda at: Path(at).unlink(),
    "rename": lambda at: Path(at).rename(at + ".moved"),
    "spawn": lambda _: subprocess.run(["/bin/true"], check=True),
    "fork": lambda _: os.fork(),
    "signal": lambda _: os.kill(os.getppid(), signal.SIGTERM),
    "owner": lambda _: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()),
    "signal number": lambda _: fcntl.fcntl(0, 10, signal.SIGTERM),
    "asynchronous": lambda _: fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC),
    "ioctl": lambda _: fcntl.ioctl(0, 0x8901, struct.pack("i", os.getppid())),
    "lock": lambda at: fcntl.flock(os.open(at, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB),
    "priority": lambda _: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19),
    "affinity": lambda _: os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0)),
    "thread": lambda _: threading.Thread(target=time.monotonic).start(),
    "read": lambda at: Path(at).read_bytes(),
    "environment of the parent": lambda _: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
}


if __name__ == "__main__":
    sys.exit(main(Tenant()))
