"""Writes the bundle on each confirmed fraud while its data and receipts can still be had, on time that no replay wants.

A bundle has its name once it is whole on the disk. What is missing is seen by the names in the folder alone, so that a crash
costs nothing but the work; a bundle that cannot be made now is tried again later, and keeps no other one waiting.

After a reorganisation each is looked at again, and one that rests on a block which the record has no more is written anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from pathlib import Path

from challenger.chain.proofs import proven_log
from challenger.domain import BlockNumber, CommitmentId, Hash32
from challenger.errors import BundleRefused, Expected, NoEvidence, StoreError
from challenger.evidence.form import Evidence
from challenger.evidence.gather import Sources, gather
from challenger.evidence.seal import Key, decode, encode
from challenger.pipeline.idle import Idle
from challenger.store.subjects import subject_of
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.logs import LOGGER, say
from challenger.whole import whole_file

#: Frauds that are looked up at once.
_PAGE = 500
#: Looks after which a bundle that could not be made is tried again, doubled each time up to the last.
_PATIENCE, _MOST = 16, 4_096


class Keeper:
    """``folder`` is made when the first bundle is written. ``key`` None: bundles are unsigned, and say so."""

    def __init__(self, sources: Sources, folder: Path, key: Key | None, idle: Idle, telemetry: Instruments) -> None:
        self._sources = sources
        self._folder = folder
        self._key = key
        self._idle = idle
        self._telemetry = telemetry
        #: Every confirmed fraud up to this verdict has its bundle, or waits.
        self._seen = 0
        #: The last reorganisation that the journal tells of, 0 for none.
        self._rewound = 0
        #: What the bundles of these names rest on: each is read once.
        self._blocks: dict[str, frozenset[tuple[BlockNumber, Hash32]]] = {}
        self._waiting: dict[tuple[CommitmentId, int], int] = {}
        self._tries: dict[tuple[CommitmentId, int], int] = {}
        self._look = 0
        self._changes = -1
        self._unread = ""

    async def step(self) -> bool:
        """Writes one bundle if one is missing and nobody else wants the workers; True when it did."""
        try:
            await self._find()
            self._unread = ""
        except OSError as error:
            if self._unread != str(error):  # the same trouble is said once
                self._unread = str(error)
                say("evidence-not-kept", level=logging.WARNING, folder=str(self._folder), error=str(error))
            return False
        self._look += 1
        due = next((case for case, at in self._waiting.items() if at <= self._look), None)
        if due is None or not self._idle.free:
            return False
        try:
            raw = await self._idle.lend(self._made(*due))
            if raw is None:
                return False  # the time was taken back
            path = await asyncio.to_thread(write, self._folder / name_of(*due), raw)
        except (Expected, NoEvidence, StoreError, OSError) as error:
            self._later(due, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - a fault of ours over one bundle must not end the watch over all else
            self._telemetry.alerts.alert("bug", about="evidence", commitment=subject_of(due[0]), error=repr(error))
            LOGGER.debug("while making evidence", exc_info=error)
            self._later(due, repr(error))
            return False
        del self._waiting[due]
        self._blocks.pop(path.name, None)
        self._tries.pop(due, None)
        say("evidence", commitment=subject_of(due[0]), file=str(path), bytes=len(raw))
        return True

    async def _find(self) -> None:
        changes = self._sources.store.changes
        if changes == self._changes:
            return  # no row was written since the last look
        async with self._sources.store.read() as view:
            rewound = await view.journal.latest(["rewound"])
            if rewound != self._rewound:
                self._rewound, self._seen = rewound, 0
            found = await view.verdicts.confirmed(self._seen, _PAGE)
        there = await asyncio.to_thread(_names, self._folder) if found else frozenset()
        for commitment, confirmation in found:
            name = name_of(commitment, confirmation)
            if name not in there or (rewound and await self._is_stale(name)):
                self._waiting[commitment, confirmation] = 0
            self._seen = confirmation
        self._changes = -1 if len(found) == _PAGE else changes

    async def _is_stale(self, name: str) -> bool:
        """Whether a bundle rests on a block of which the record has no event; so does one that cannot be read."""
        if name not in self._blocks:
            try:
                raw = await asyncio.to_thread((self._folder / name).read_bytes)
                self._blocks[name] = await asyncio.to_thread(rests_on, raw)
            except BundleRefused:
                return True
        blocks = self._blocks[name]
        async with self._sources.store.read() as view:
            return not blocks <= await view.chain.blocks_of_events([number for number, _ in blocks])

    async def _made(self, commitment: CommitmentId, confirmation: int) -> bytes:
        evidence = await gather(self._sources, commitment)
        path = self._folder / name_of(commitment, confirmation)
        return encode(await asyncio.to_thread(_with_data_of, path, evidence), self._key)

    def _later(self, case: tuple[CommitmentId, int], why: str) -> None:
        tries = self._tries.get(case, 0)
        self._tries[case] = tries + 1
        self._waiting[case] = self._look + min(_MOST, _PATIENCE << min(tries, 16))
        if not tries:
            say("evidence-not-kept", level=logging.WARNING, commitment=subject_of(case[0]), error=why)


def name_of(commitment: CommitmentId, confirmation: int) -> str:
    """A bundle's file: the commitment, and the id of the verdict that bore the fraud out."""
    return f"evidence-{subject_of(commitment)}-{confirmation}.json"


def rests_on(raw: bytes) -> frozenset[tuple[BlockNumber, Hash32]]:
    """Number and hash of each block that the logs of a bundle are in. Raises BundleRefused."""
    found = set()
    for one in decode(raw).evidence.logs:
        try:
            log = one.log if one.proof is None else proven_log(one.proof, one.log_index, one.tx_hash)[1]
        except ValueError as error:
            raise BundleRefused(f"a log is not proved: {error}") from None
        assert log is not None, "the form has one or the other"
        found.add((log.block, log.block_hash))
    return frozenset(found)


def _with_data_of(path: Path, evidence: Evidence) -> Evidence:
    """``evidence``, with what the bundle that it replaces could have and this one cannot: data, and the replay of it."""
    try:
        before = decode(path.read_bytes()).evidence
    except (FileNotFoundError, BundleRefused):
        return evidence
    same = (before.commitment, before.of(before.verdict)) == (evidence.commitment, evidence.of(evidence.verdict))
    if evidence.observed is not None or before.observed is None or not same:
        return evidence
    return replace(
        evidence,
        input=before.input,
        output=before.output,
        files=evidence.files or before.files,
        observed=before.observed,
        difference=before.difference,
    )


def write(target: Path, raw: bytes) -> Path:
    """``raw`` under its name, whole or not at all. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as file:
        file.write(raw)
    return target


def kept(folder: Path, commitment: CommitmentId) -> list[Path]:
    """The bundles on a commitment, the newest verdict last."""
    found = [path for path in folder.glob(f"evidence-{subject_of(commitment)}-*.json") if _number(path)]
    return sorted(found, key=lambda path: int(_number(path)))


def _number(path: Path) -> str:
    """The verdict's id in its name; empty for a file that somebody else put there."""
    digits = path.stem.rpartition("-")[2]
    return digits if digits.isascii() and digits.isdigit() and len(digits) < 19 else ""


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return frozenset()
