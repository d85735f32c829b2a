"""A neutral chain event as a row of ``events`` and back, losing nothing.

The one bulk field an event may have (annotated ``bytes``) goes to the column ``data``, so that it is stored once and
as it is; the subject goes to its column; all others make the payload: JSON with bytes as ``0x`` hex and
integers as decimal strings (wei do not fit a JSON number everywhere). The rules are read off the annotations once, at
import: an index encodes many.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
from json.encoder import encode_basestring_ascii as quoted
from operator import attrgetter
from typing import Any, NamedTuple, get_args, get_type_hints

from challenger.domain import At, BlockNumber, ChainEvent, Hash32

#: Which field identifies the aggregate whose row is folded from the event, the most telling first.
_SUBJECTS = ("dispute", "demand", "commitment", "task", "model")


class EventRow(NamedTuple):
    """``events`` in the order of its columns."""

    block: int
    log_index: int
    kind: str
    subject: bytes
    block_hash: bytes
    tx_hash: bytes
    payload: str
    data: bytes


#: The same as a plain tuple: an index makes many, and these cost a third of the time and nothing to collect.
Columns = tuple[int, int, str, bytes, bytes, bytes, str, bytes]


def subject_bytes(identity: bytes | int) -> bytes:
    """The id of an aggregate as ``events.subject`` holds it: numbers become 32 big-endian bytes."""
    return identity.to_bytes(32, "big") if isinstance(identity, int) else identity


def _unhex(value: str) -> bytes:
    return bytes.fromhex(value[2:])


def _several(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """``attrgetter`` that gives a tuple for one name and for none, too."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda event: tuple(getattr(event, name) for name in names)


class _Form:
    """How one class of events is written: all texts, then all numbers, then all hashes, each kind in one go."""

    def __init__(self, cls: type[Any]) -> None:
        hints = get_type_hints(cls)
        self.cls = cls
        self.kind = cls.__name__
        names = [field.name for field in fields(cls) if field.name != "at"]
        self.aggregate = next(name for name in _SUBJECTS if name in names)
        self.bulk = next((name for name in names if hints[name] is bytes), None)
        self._numbered = _base(hints[self.aggregate]) is int
        inner = [name for name in names if name not in (self.bulk, self.aggregate)]
        texts = [name for name in inner if issubclass(_base(hints[name]), str)]
        numbers = [name for name in inner if _base(hints[name]) is int]
        hashes = [name for name in inner if _base(hints[name]) is bytes]
        if len(texts) + len(numbers) + len(hashes) != len(inner):
            raise TypeError(f"a field of {cls.__name__} is neither text, number nor hash")
        self._texts, self._numbers, self._hashes = _several(texts), _several(numbers), _several(hashes)
        members = [f'"{name}":%s' for name in texts]
        members += [f'"{name}":"%d"' for name in numbers] + [f'"{name}":"0x%s"' for name in hashes]
        self._template = "{" + ",".join(members) + "}"
        self._read: dict[str, Callable[[str], Any]] = {name: _base(hints[name]) for name in texts}
        self._read |= dict.fromkeys(numbers, int) | dict.fromkeys(hashes, _unhex)

    def row(self, event: Any) -> Columns:
        at = event.at
        subject = getattr(event, self.aggregate)
        values = (*map(quoted, self._texts(event)), *self._numbers(event), *map(bytes.hex, self._hashes(event)))
        return (
            at.block,
            at.log_index,
            self.kind,
            subject_bytes(subject) if self._numbered else subject,
            at.block_hash,
            at.tx_hash,
            self._template % values,
            getattr(event, self.bulk) if self.bulk is not None else b"",
        )

    def event(self, row: EventRow) -> Any:
        values = json.loads(row.payload)
        known = {name: read(values[name]) for name, read in self._read.items()}
        known[self.aggregate] = self.key(row.subject)
        if self.bulk is not None:
            known[self.bulk] = row.data
        at = At(BlockNumber(row.block), Hash32(row.block_hash), row.log_index, Hash32(row.tx_hash))
        return self.cls(at=at, **known)

    def key(self, subject: bytes) -> bytes | int:
        return int.from_bytes(subject, "big") if self._numbered else subject


def _base(hint: Any) -> type[Any]:
    base: type[Any] = getattr(hint, "__supertype__", hint)
    return base


_FORMS: dict[type[Any], _Form] = {cls: _Form(cls) for cls in get_args(ChainEvent)}
_BY_KIND = {form.kind: form for form in _FORMS.values()}
#: Aggregate (the name of its id field) → the kinds of event that fold into its row.
KINDS: dict[str, tuple[str, ...]] = {
    name: tuple(form.kind for form in _FORMS.values() if form.aggregate == name) for name in _SUBJECTS
}
#: Class of event → the aggregate it folds into: model, task, commitment, dispute or demand.
AGGREGATE: dict[type[Any], str] = {cls: form.aggregate for cls, form in _FORMS.items()}


def aggregate_of(kind: str) -> str:
    """The aggregate that events of this kind fold into."""
    return _BY_KIND[kind].aggregate


def key(aggregate: str, subject: bytes) -> bytes | int:
    """The id of an aggregate, from ``events.subject``."""
    return _BY_KIND[KINDS[aggregate][0]].key(subject)


def encode(events: Iterable[ChainEvent]) -> list[Columns]:
    """Rows of ``events``, in the order given."""
    return [_FORMS[type(event)].row(event) for event in events]


def decode(row: Iterable[Any]) -> ChainEvent:
    """The event that ``row`` (the columns of ``events``) was made of."""
    known = EventRow(*row)
    event: ChainEvent = _BY_KIND[known.kind].event(known)
    return event
