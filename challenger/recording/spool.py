"""A recorded chain laid out on disk for random access: a temporary SQLite file that lives as long as the replay.

Everything is read and checked before anybody sees any of it, and memory does not grow with the recording: the pipeline
asks for blocks of long ago (where a model was registered), and for any of them by number, hash or transaction.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from challenger.chain import wire
from challenger.chain.answers import RawLog
from challenger.domain import Block, Hash32, UnixTime
from challenger.recording.lines import PART, Answer, Data, Deployment, RecordedBlock, deployment_of, recorded_lines
from replay.recording import Recording, RecordingMalformed

_TABLES = """
CREATE TABLE blocks (number INTEGER PRIMARY KEY, hash BLOB UNIQUE, time INTEGER, header TEXT, receipts BLOB);
CREATE TABLE logs (block INTEGER, position INTEGER, topic BLOB, log TEXT, PRIMARY KEY (block, position)) WITHOUT ROWID;
CREATE TABLE receipts (hash BLOB PRIMARY KEY, block INTEGER, position INTEGER) WITHOUT ROWID;
CREATE TABLE answers (question TEXT PRIMARY KEY, result TEXT) WITHOUT ROWID;
CREATE TABLE data (root BLOB PRIMARY KEY, content BLOB, away TEXT, part TEXT) WITHOUT ROWID;
"""
_BLOCK = "SELECT header FROM blocks WHERE "


class Spool:
    """A context manager. Raises ``RecordingError`` on entering; what is read afterwards has been checked."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="recording-")
        self._base = sqlite3.connect(Path(self._folder.name) / "chain.sqlite", isolation_level=None)
        try:
            for setting in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -8192"):
                self._base.execute(f"PRAGMA {setting}")
            self._base.executescript(_TABLES)
            self.deployment: Deployment = deployment_of(self._recording)
            self._base.execute("BEGIN")
            for line in recorded_lines(self._recording):
                try:
                    self._take(line)
                except sqlite3.IntegrityError:
                    what = f"block {line.block.number}" if isinstance(line, RecordedBlock) else "a line"
                    raise RecordingMalformed(f"{what} has a hash that an earlier one has", part=PART) from None
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self.close()
            raise OSError(f"the temporary folder: {error}") from error
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._base.close()
        self._folder.cleanup()

    def _take(self, line: Answer | RecordedBlock | Data) -> None:
        put = self._base.execute
        match line:
            case Answer():
                put("INSERT OR REPLACE INTO answers VALUES (?, ?)", (question(line.method, line.params), line.result))
            case Data():
                if line.part and line.part not in self._recording.manifest.parts:
                    raise RecordingMalformed("data is in a part that is not there", part=line.part)
                put("INSERT OR IGNORE INTO data VALUES (?, ?, ?, ?)", (line.root, line.content, line.away, line.part))
            case RecordedBlock():
                block, receipts = line.block, zlib.compress(_json(line.receipts).encode(), 1) if line.receipts else None
                put(
                    "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)",
                    (block.number, block.hash, block.time, _json(line.header), receipts),
                )
                for log in line.logs:
                    first = log.topics[0] if log.topics else b""
                    put("INSERT INTO logs VALUES (?, ?, ?, ?)", (block.number, log.log_index, first, _log(log)))
                for position, receipt in enumerate(line.receipts):
                    digest = wire.hash32(receipt["transactionHash"])
                    put("INSERT OR REPLACE INTO receipts VALUES (?, ?, ?)", (digest, block.number, position))

    # what the provider asks

    def head(self, now: float) -> int | None:
        """The number of the newest block at ``now``; None before the first."""
        # times ascend with numbers: a search over the primary key
        low, high = self._ends()
        if self.time(low) > now:
            return None
        while low < high:
            row = self._base.execute(
                "SELECT number, time FROM blocks WHERE number >= ? ORDER BY number LIMIT 1", ((low + high + 1) // 2,)
            ).fetchone()
            if row[1] <= now:
                low = row[0]
            else:
                below = "SELECT max(number) FROM blocks WHERE number < ?"
                (high,) = self._base.execute(below, (row[0],)).fetchone()
        return low

    def _ends(self) -> tuple[int, int]:
        low, high = self._base.execute("SELECT min(number), max(number) FROM blocks").fetchone()
        return low, high

    def time(self, number: int) -> UnixTime:
        """Of a block that is there."""
        (time,) = self._base.execute("SELECT time FROM blocks WHERE number = ?", (number,)).fetchone()
        return UnixTime(time)

    def time_after(self, now: float) -> UnixTime | None:
        """Of the first block that is newer than ``now``."""
        head = self.head(now)
        (low, _) = self._ends()
        following = "SELECT time FROM blocks WHERE number >= ? ORDER BY number LIMIT 1"
        row = self._base.execute(following, (low if head is None else head + 1,)).fetchone()
        return None if row is None else UnixTime(row[0])

    def header(self, number: int) -> dict[str, Any] | None:
        return self._object(_BLOCK + "number = ?", number)

    def header_of(self, digest: bytes) -> dict[str, Any] | None:
        return self._object(_BLOCK + "hash = ?", digest)

    def logs(self, first: int, last: int, topics: Sequence[bytes] | None) -> list[dict[str, Any]]:
        """In chain order; ``topics``: first topics to choose by, None for all."""
        chosen = "" if topics is None else f" AND topic IN ({','.join('?' * len(topics))})"
        query = f"SELECT log FROM logs WHERE block BETWEEN ? AND ?{chosen} ORDER BY block, position"  # noqa: S608
        return [json.loads(log) for (log,) in self._base.execute(query, (first, last, *(topics or ())))]

    def receipts(self, digest: bytes) -> list[dict[str, Any]] | None:
        """All receipts of the block with this hash; None where there is no such block, or none were recorded."""
        row = self._base.execute("SELECT receipts FROM blocks WHERE hash = ?", (digest,)).fetchone()
        if row is None or row[0] is None:
            return None
        found: list[dict[str, Any]] = json.loads(zlib.decompress(row[0]))
        return found

    def receipt(self, tx_hash: bytes) -> tuple[int, dict[str, Any]] | None:
        """The block's number and the receipt."""
        row = self._base.execute(
            "SELECT r.block, r.position, b.receipts FROM receipts r JOIN blocks b ON b.number = r.block WHERE r.hash = ?",
            (tx_hash,),
        ).fetchone()
        return None if row is None else (row[0], json.loads(zlib.decompress(row[2]))[row[1]])

    def answer(self, method: str, params: Sequence[Any]) -> str | None:
        row = self._base.execute(
            "SELECT result FROM answers WHERE question = ?", (question(method, params),)
        ).fetchone()
        return None if row is None else row[0]

    def data(self, root: bytes) -> Data | None:
        """None where the recording says nothing of it."""
        row = self._base.execute("SELECT content, away, part FROM data WHERE root = ?", (root,)).fetchone()
        return None if row is None else Data(Hash32(root), row[0], row[1], row[2])

    def below(self, number: int) -> Iterator[Block]:
        """The blocks before ``number``, in order."""
        for (header,) in self._base.execute(_BLOCK + "number < ? ORDER BY number", (number,)):
            yield wire.block(json.loads(header))

    def _object(self, query: str, key: Any) -> dict[str, Any] | None:
        row = self._base.execute(query, (key,)).fetchone()
        return None if row is None else json.loads(row[0])


def question(method: str, params: Sequence[Any]) -> str:
    """What was asked, in one way: addresses in lower case, of a call what it calls and with what."""
    told: list[Any] = []
    for param in params:
        if isinstance(param, dict):
            told.append({"to": str(param.get("to", "")).lower(), "data": param.get("data", param.get("input", "0x"))})
        else:
            told.append(param.lower() if isinstance(param, str) else param)
    return _json([method, told])


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _log(log: RawLog) -> str:
    told = {
        "address": log.address,
        "topics": [wire.to_hex(topic) for topic in log.topics],
        "data": wire.to_hex(log.data),
        "blockNumber": hex(log.block),
        "blockHash": wire.to_hex(log.block_hash),
        "logIndex": hex(log.log_index),
        "transactionHash": wire.to_hex(log.tx_hash),
        "removed": False,
    }
    return _json(told)
