"""`challenger check`: tries everything a watcher needs before it watches, and says what to do about what fails."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import random
import shutil
import tempfile
from functools import partial
from pathlib import Path

from challenger.cli.common import print_json, print_table, settings_of
from challenger.cli.preflight import Row, attempt, chain_rows
from challenger.errors import ConfigError, Expected
from challenger.settings import Settings

#: Free space below which a check fails, in bytes.
_DISK = 1 << 30
#: Objects of the cache that are read and hashed, and the bytes after which no more are.
_SAMPLE, _SAMPLE_BYTES = 20, 256 << 20
#: What a fully isolated worker reports; where one of these is missing the kernel offers less.
_FULL = {
    "network": ("namespace", "seccomp"),
    "files": ("landlock", "seccomp"),
    "memory": ("address-space",),
    "signals": ("seccomp",),
}


def arguments(_: str, sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--no-replay", action="store_true", help="leave out the kernels' known-answer tests")


def run(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    rows = asyncio.run(_all(settings, replay=not options.no_replay))
    fine = all(row.ok for row in rows)
    if options.json:
        print_json({"ok": fine, "checks": [row._asdict() for row in rows]})
    else:
        print_table("Checks", ["what", "", "detail"], [(r.name, "ok" if r.ok else "FAILED", r.detail) for r in rows])
        print("Ready." if fine else "Not ready: see the rows marked FAILED.")
    return 0 if fine else 1


async def _all(settings: Settings, *, replay: bool) -> list[Row]:
    rows = [Row("mode", ok=True, detail=str(settings.mode))]
    rows += [row async for row in chain_rows(settings)]
    database = await attempt("database", lambda: _database(settings))
    rows.append(database)
    if database.ok:
        rows.append(await attempt("pauses", lambda: _pauses(settings)))
    rows.append(await attempt("notifications", lambda: _notifications(settings)))
    rows.append(await attempt("journal heads", lambda: asyncio.to_thread(_heads, settings)))
    for name, place in _places(settings).items():
        rows.append(await attempt(f"disk: {name}", partial(asyncio.to_thread, _disk, place)))
    rows.append(await attempt("artefact cache", lambda: asyncio.to_thread(_cache, settings)))
    if replay:
        for backend in (settings.replay.backend, settings.replay.confirm_backend):
            rows.append(await attempt(f"kernels: {backend}", partial(_kernels, settings, backend)))
    return rows


async def _database(settings: Settings) -> str:
    """There, migrated (the error names the command), and of this deployment."""
    from challenger.store.engine import open_store

    wanted = f"{settings.chain.chain_id}/{settings.chain.market}"
    async with open_store(settings.store.url) as store, store.read() as view:
        belongs = await view.settings.get("deployment")
        if belongs not in (None, wanted):
            raise ConfigError("it belongs to another deployment: use another file", stored=belongs, asked=wanted)
        return f"{store.where}, schema up to date"


async def _pauses(settings: Settings) -> str:
    from challenger.store.engine import open_store
    from challenger.store.keep import scope_of

    async with open_store(settings.store.url) as store, store.read() as view:
        pauses = await view.approvals.active()
    if pauses:
        about = "; ".join(f"{scope_of(pause.subject)}, {pause.reason}: {pause.detail}" for pause in pauses)
        raise Expected(f"paused: {about}: look, then `challenger resume`")
    return "none in force"


async def _notifications(settings: Settings) -> str:
    """Whether they could be sent; `challenger notify` sends one."""
    from challenger.telemetry.notify import look, services

    wanted = settings.telemetry
    await look(wanted.notify, wanted.notify_on)
    names = [service.name for service in services(wanted.notify, "", wanted.alert_seconds)]
    return f"{', '.join(names)}; `challenger notify` sends a test message" if names else "none"


def _heads(settings: Settings) -> str:
    """Tried by writing beside the file, since a mode or an owner says little of what a mount permits."""
    target = settings.store.heads.absolute()
    if not target.parent.is_dir():
        raise ConfigError("the directory does not exist: make it, or set [store] heads", directory=target.parent)
    if target.exists() and not (target.is_file() and os.access(target, os.W_OK)):
        raise ConfigError("is not a file that can be written: correct its mode, or set [store] heads", file=target)
    try:
        with tempfile.TemporaryFile(dir=target.parent) as probe:
            probe.write(b"\n")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}; set [store] heads", directory=target.parent) from error
    return str(settings.store.heads)


def _places(settings: Settings) -> dict[str, Path]:
    from challenger.store.engine import normalise

    places = {
        "cache": settings.replay.cache,
        "journal heads": settings.store.heads,
        "evidence": settings.store.evidence,
    }
    try:
        url = normalise(settings.store.url)
    except ConfigError:
        return places  # its own row says so
    if url.get_backend_name() == "sqlite" and url.database:
        places = {"database": Path(url.database)} | places
    return places


def _disk(place: Path) -> str:
    folder = place.absolute()
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < _DISK:
        raise Expected(
            f"only {free >> 20} MiB are free, at least {_DISK >> 20} are wanted: make room", directory=folder
        )
    return f"{free >> 30} GiB free at {folder}"


def _cache(settings: Settings) -> str:
    """The size, and whether a few objects chosen at random are what their names say."""
    folder = settings.replay.cache.absolute()
    if folder.exists() and not folder.is_dir():
        raise ConfigError("is no directory: set [replay] cache", file=folder)
    objects = [path for path in (folder / "objects").glob("*/sha256-*") if path.is_file()]
    size = sum(path.stat().st_size for path in objects)
    read = looked = 0
    for path in random.sample(objects, min(_SAMPLE, len(objects))):
        read += path.stat().st_size
        if read > _SAMPLE_BYTES:
            break
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if path.name != f"sha256-{found}":
            raise Expected("an object is damaged: delete it, it is fetched again; and look at the disk", file=path)
        looked += 1
    return f"{settings.replay.cache}: {len(objects)} objects, {size >> 20} MiB, {looked} re-hashed"


async def _kernels(settings: Settings, backend: str) -> str:
    from challenger.parts import replay_pool

    async with replay_pool(settings) as pool:
        failed = await pool.warm(backend)
        if failed is not None:
            raise Expected(f"{failed.reason}: {failed.detail}; run `replay selftest`")
        found = pool.isolation()
    return f"known answers hold; {isolation(found)}"


def isolation(found: dict[str, str]) -> str:
    """What confines a worker; begins with REDUCED, and names what is missing, where the kernel offers less than all."""
    missing = [
        f"{key} without {part}" for key, parts in _FULL.items() for part in parts if part not in found.get(key, "")
    ]
    told = ", ".join(f"{key} {value}" for key, value in sorted(found.items()))
    return f"REDUCED isolation ({', '.join(missing)}): {told}" if missing else f"isolation: {told}"
