"""``replay cid``: the CIDs that ``ipfs add -n`` prints, and the blocks behind them as a CAR file."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from replay.artifacts.ipfs.build import KUBO, KUBO_2025, Built, Profile, Sink, build_directory, build_file
from replay.artifacts.ipfs.car import CarWriter
from replay.artifacts.ipfs.cid import Block
from replay.artifacts.ipfs.errors import IpfsError
from replay.cli import Failure, UsageError
from replay.plain import open_plain

_Made = TypeVar("_Made")
#: how deep folders in folders may go
_DEPTH = 64


def cid(options: argparse.Namespace) -> int:
    profile = _profile(options)
    if options.wrap:
        _distinct(options.paths)
    built, around = _built(options, profile, None)
    if options.car is not None:
        roots = [around.cid] if around is not None else list(dict.fromkeys(one.cid for one in built.values()))
        with _whole(options.car) as into:
            writer = _guarded(lambda: CarWriter(into, roots))
            again = _built(options, profile, lambda made, data: writer.add(Block(made, data)))
            if again != (built, around):
                raise Failure("a file changed while it was read", "changed")
    _print(options, built, around)
    return 0


def _profile(options: argparse.Namespace) -> Profile:
    if options.profile is None:
        return Profile(options.cid_version or 0, options.raw_leaves or options.cid_version == 1)
    if options.raw_leaves or options.cid_version is not None:
        raise UsageError("--profile says what --raw-leaves and --cid-version say: give one or the other")
    return KUBO if options.profile == "unixfs-v0-2015" else KUBO_2025


def _built(options: argparse.Namespace, profile: Profile, sink: Sink | None) -> tuple[dict[Path, Built], Built | None]:
    """What each path is, and the directory around them where one is wanted."""
    built = {path: _of(path, profile, sink) for path in options.paths}
    if not options.wrap:
        return built, None
    named = {_name(path): one for path, one in built.items()}
    return built, _guarded(lambda: build_directory(named, profile, sink))


def _of(path: Path, profile: Profile, sink: Sink | None, depth: int = 0) -> Built:
    """A file, or a folder with what is in it, hidden files left out as ``ipfs add`` leaves them out."""
    try:
        if path.is_symlink():
            raise Failure(f"{path} is a symbolic link, which is not added here", "unsupported")
        if not path.is_dir():
            with open_plain(path) as opened:
                return build_file(opened, profile, sink)
        if depth == _DEPTH:
            raise Failure(f"{path} lies deeper than {_DEPTH} folders", "unsupported")
        inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}", "unreadable") from error
    entries: Mapping[str, Built] = {one.name: _of(one, profile, sink, depth + 1) for one in inside}
    return _guarded(lambda: build_directory(entries, profile, sink))


def _distinct(paths: list[Path]) -> None:
    names = [_name(path) for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two paths have the name {twice!r}: a directory holds it once")


def _name(path: Path) -> str:
    return path.name or path.resolve().name


def _guarded(work: Callable[[], _Made]) -> _Made:
    try:
        return work()
    except IpfsError as error:
        raise Failure(str(error), "unsupported") from error


@contextmanager
def _whole(target: Path) -> Iterator[BinaryIO]:
    """A file that has its name once it is whole. Raises ``Failure``."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as opened:
                yield opened
            Path(name).chmod(0o644)
            Path(name).replace(target)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}", "unwritable") from error


def _print(options: argparse.Namespace, built: Mapping[Path, Built], around: Built | None) -> None:
    if options.json:
        paths = [{"path": str(path), "cid": str(one.cid), "size": one.size} for path, one in built.items()]
        print(json.dumps({"paths": paths, "directory": None if around is None else str(around.cid)}))
        return
    for path, one in built.items():
        print(f"{one.cid}  {_printable(str(path))}")
    if around is not None:
        print(f"{around.cid}  (a directory of {'this' if len(built) == 1 else 'these'})")


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in text)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"cid": cid}
