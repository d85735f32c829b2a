"""Compiles the C++ beside this module where there is a C++ compiler, once per source, compiler and processor. Loads no torch.

A confined worker can neither start a compiler nor write files: its parent builds, and hands over path and digest in the
environment (``VARIABLE``); the worker loads what has that digest and nothing else.
"""

from __future__ import annotations

import atexit
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

from replay.errors import BackendRefused

VARIABLE = "REPLAY_NATIVE"
SOURCES = tuple(
    Path(__file__).with_name(name)
    for name in ("native.cpp", "native_attention.cpp", "native_dot.cpp", "native_hash.cpp", "native_dot.h")
)
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fopenmp-simd", "-pthread", "-fPIC", "-shared")
#: For the hashes alone. The SHA instructions have no VEX form; beside VEX instructions, on Intel's processors, each change
#: from one kind to the other costs some hundred cycles, which made a root take 40 times as long.
HASH_FLAGS = ("-mno-avx",) if platform.machine() in ("x86_64", "AMD64", "i686") else ()
_COMPILERS = ("c++", "g++", "clang++")
_SECONDS = 120
_DIGEST = ".sha256"
_HASHES = "native_hash.cpp"


@cache
def build() -> tuple[Path, str]:
    """(library, its SHA-256 in hex), compiled now if this machine has not done so yet. Raises ``BackendRefused``."""
    handed = os.environ.get(VARIABLE, "")
    if handed:
        where, _, digest = handed.rpartition(":")
        return Path(where), digest
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise BackendRefused("no C++ compiler found (looked for " + ", ".join(_COMPILERS) + ")", backend="native")
    key = sha256(
        "\n".join([source_digest(), version(compiler), _processor(), *FLAGS, *HASH_FLAGS]).encode()
    ).hexdigest()
    path = _folder() / f"native-{key[:32]}.so"
    try:
        return path, _kept(path) or _compile(compiler, path)
    except OSError as error:
        raise BackendRefused(f"{path.name} cannot be kept: {error.strerror}", backend="native") from error


def _kept(path: Path) -> str | None:
    """The digest of a library built earlier; None where there is none, or where it is not whole (the machine stopped
    while it was written, or somebody changed it): the digest taken when it was built lies beside it."""
    try:
        digest = sha256(path.read_bytes()).hexdigest()
        return digest if path.with_suffix(_DIGEST).read_text(encoding="ascii").strip() == digest else None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def version(compiler: str) -> str:
    """The first line of what the compiler says of itself. Raises ``BackendRefused``."""
    try:
        said = subprocess.run(  # noqa: S603  the compiler that PATH names
            [compiler, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendRefused(f"{compiler} does not run: {error}", backend="native") from error
    return said.stdout.partition("\n")[0].strip()


def _compile(compiler: str, path: Path) -> str:
    """Build ``path`` and its digest beside it; returns the digest. Atomic: several processes may build at once, and each
    puts whole files in place. Who meets the library of one build and the digest of another builds once more."""
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    hashes = Path(name).with_suffix(".o")
    alone = [flag for flag in FLAGS if flag != "-shared"]
    rest = [str(source) for source in SOURCES if source.suffix == ".cpp" and source.name != _HASHES]
    try:
        _run([compiler, *alone, *HASH_FLAGS, "-c", "-o", str(hashes), str(Path(__file__).with_name(_HASHES))])
        _run([compiler, *FLAGS, "-o", name, str(hashes), *rest])
        digest = sha256(Path(name).read_bytes()).hexdigest()
        _put(Path(name), path)
        note = Path(name).with_suffix(_DIGEST)
        note.write_text(digest + "\n", encoding="ascii")
        _put(note, path.with_suffix(_DIGEST))
    except (OSError, subprocess.SubprocessError) as error:
        raise BackendRefused(f"{compiler} failed: {error}", backend="native") from error
    finally:
        for draft in (Path(name), hashes, Path(name).with_suffix(_DIGEST)):
            draft.unlink(missing_ok=True)
    return digest


def _run(command: Sequence[str]) -> None:
    """The compiler that PATH names, on our own source. Raises BackendRefused when it finds fault with it."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603
    if done.returncode != 0:
        first = (done.stderr.strip() or "no reason given").splitlines()[0]
        raise BackendRefused(f"{command[0]} failed: {first}", backend="native")


def _put(draft: Path, path: Path) -> None:
    """Rename, once the bytes are on disk: a name never stands for half a file."""
    handle = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)


def source_digest() -> str:
    """SHA-256 of the sources, in hex."""
    return sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()


def _folder() -> Path:
    """Where libraries are kept; a folder of this process alone where the user has none that can be written."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inference-challenger"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):
            return kept
    except OSError:
        pass
    own = tempfile.mkdtemp(prefix="inference-challenger-")
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return Path(own)


def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return "".join([platform.machine(), *(line for line in lines if line.startswith(("flags", "model name")))][:3])
