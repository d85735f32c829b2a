"""Every persisted transition is a named crash point: a hook is told its names just before and just after the commit.

A writing transaction is named by what it writes: the arrows of ``work`` and ``transactions``, the kinds of the journal,
the index. Beside these stand the two acts that no transaction can hold: handing a signed transaction to a node, and
publishing a journal head. ``every_name`` lists them all; the crash matrix dies at each of them.

Without a hook nothing is named and nothing is kept: the cost is one comparison a transaction.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from challenger.domain import TRANSITIONS, State, TxState
from challenger.errors import ConfigError

#: ``name#k`` or ``name#k@before``: the process kills itself at the k-th crossing of that name.
VARIABLE = "CHALLENGER_CRASH_AT"

BROADCAST = "broadcast"
HEADS = "heads-file"
#: Journal kinds that are no arrow of ``work`` or ``transactions``.
KINDS = frozenset(
    {
        "note",
        "verdict",
        "fence",
        "setting",
        "alert",
        "endpoints-disagree",
        "slack",
        "paused",
        "resumed",
        "decided",
        "epoch-opened",
        "epoch-anchored",
        "epoch-revealed",
        "chain-window-extended",
        "chain-dispute-opened",
        "chain-dispute-closed",
        "chain-demand-opened",
        "chain-demand-closed",
        "chain-job-closed",
        "orphaned",
        "restored",
        "draw-orphaned",
        "taken-back",
        "rewound",
        "adopted",
        "selftest-planted",
        "selftest-ended",
        "audit-verdict",
        "finding",
        "reported",
    }
)
#: What writes without a journal entry and says so itself (``Unit.mark``).
_MARKS = frozenset({"index:apply", "index:rewind", "heads-row"})
_STATES = frozenset(state.value for state in State)


class Moment(StrEnum):
    """A death before the commit loses the transaction, one after it keeps it."""

    BEFORE = "before"
    AFTER = "after"


#: Told the names of what one transaction (or act) does.
Hook = Callable[[tuple[str, ...], Moment], None]


def every_name() -> frozenset[str]:
    """All names there are."""
    arrows = {f"work:{old}->{new}" for old, news in TRANSITIONS.items() if old is not State.ORPHANED for new in news}
    ours = {f"tx:{state}" for state in TxState}
    return KINDS | _MARKS | arrows | ours | {"work:observed", BROADCAST, HEADS}


def name_of(kind: str, payload: str) -> str:
    """The name of what the journal's entry of this kind records."""
    if kind.startswith("tx-"):
        return f"tx:{kind[3:]}"
    if kind == State.OBSERVED.value:
        return "work:observed"
    if kind in _STATES and kind != State.ORPHANED.value:
        return f"work:{json.loads(payload)['from']}->{kind}"
    return kind


def names_of(entries: Iterable[tuple[str, str]], marks: Iterable[str]) -> tuple[str, ...]:
    """The names of a transaction with these (kind, payload) and marks, each once, in the order of writing."""
    return tuple(dict.fromkeys([*marks, *(name_of(kind, payload) for kind, payload in entries)]))


def killer(environment: Mapping[str, str], *, embedded: bool) -> Hook | None:
    """The hook that the environment asks for, None where it asks for none.

    Raises ConfigError for a name that does not exist, and on any chain but an embedded one: a watcher that guards
    money cannot be told to die.
    """
    wanted = environment.get(VARIABLE)
    if wanted is None:
        return None
    if not embedded:
        raise ConfigError(f"{VARIABLE} is for tests on a devnet ([chain] embedded = true); unset it")
    place, _, moment = wanted.partition("@")
    name, _, count = place.partition("#")
    if name not in every_name() or moment not in ("", *Moment) or not (count or "1").isdecimal():
        raise ConfigError(f"{VARIABLE} must be NAME, NAME#K or NAME#K@before", got=wanted)
    return _dies_at(name, int(count or 1), Moment(moment or Moment.AFTER))


def after_act(hook: Hook | None, wanted: str) -> Callable[[str], None]:
    """For those that name what they have done by a word: ``wanted`` is told to ``hook``, the rest is not."""

    def told(name: str) -> None:
        if hook is not None and name == wanted:
            hook((wanted,), Moment.AFTER)

    return told


def _dies_at(name: str, count: int, at: Moment) -> Hook:
    left = count

    def hook(names: tuple[str, ...], moment: Moment) -> None:
        nonlocal left
        if moment is at and name in names:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return hook
