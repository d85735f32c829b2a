"""The faults there are, and when each of them strikes: a pure plan, the same for the same seed.

Heights are blocks since the world's beginning. An ``Episode`` with a ``rate`` strikes that share (per cent) of the
requests, statements or runs that pass it; the others hold for every block of theirs.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    LATENCY = "latency"  # answers take seconds, in which blocks come
    TIMEOUT = "timeout"  # no answer in time; a transaction may have been taken all the same
    LIMITS = "limits"  # 429 and 503 with Retry-After, -32005
    SERVER = "server"  # 5xx, refused connections
    BATCHES = "batches"  # truncated, reordered and refused batch answers
    GARBAGE = "garbage"  # JSON values that make no sense
    STALE = "stale"  # a node k blocks behind
    FORKED = "forked"  # a node on another branch
    LYING = "lying"  # missing or altered logs, wrong receipts, wrong block hashes
    DROPPED = "dropped"  # the mempool forgets our transactions
    SPIKE = "spike"  # base fee × 20
    CENSOR = "censor"  # blocks that exclude our transactions
    REORG = "reorg"  # of depth 1 to 12, with and without keeping our transactions
    SKEW = "skew"  # the chain's clock jumps, and the date of the watcher's machine is wrong
    OUTAGE = "outage"  # the database answers nothing
    SLOW_DISK = "slow-disk"  # commits take seconds, in which blocks come
    FULL_DISK = "full-disk"  # nothing can be written
    WORKERS = "workers"  # replay workers die
    CRASH = "crash"  # the watcher's process dies, anywhere, and is started again
    # these last, since each kind draws after those before it, and a seed is to keep the weather that it had
    CUT_OFF = "cut-off"  # no server of data answers us: our line, resolver or firewall
    BROKEN = "broken"  # a node that answers one method with errors
    VETO = "veto"  # a node that speaks against every transaction


#: Faults of one endpoint of several.
OF_ENDPOINTS = (
    Fault.LATENCY,
    Fault.TIMEOUT,
    Fault.LIMITS,
    Fault.SERVER,
    Fault.BATCHES,
    Fault.GARBAGE,
    Fault.STALE,
    Fault.FORKED,
    Fault.LYING,
    Fault.BROKEN,
    Fault.VETO,
)
#: Of these, the ones under which an endpoint says what is not so: never more than one endpoint at a time.
ROGUE = (Fault.STALE, Fault.FORKED, Fault.LYING, Fault.VETO)
#: What a broken endpoint cannot answer: one of them.
READS = (
    "eth_call",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getCode",
    "eth_getLogs",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
)
LIES = ("missing", "altered", "receipts", "hashes")
#: How an endpoint keeps everything back, if it is believed: one of them.
VETOES = ("reverts", "price", "count", "balance")
NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Episode:
    """``fault`` from block ``first`` to ``last``, both included. ``where``: the endpoint, or NOWHERE. ``rate``: per
    cent. ``depth``: blocks (stale, forked, reorg). ``how``: which lie, veto or method."""

    fault: Fault
    first: int
    last: int
    where: int = NOWHERE
    rate: int = 100
    depth: int = 0
    how: str = ""

    def at(self, height: int) -> bool:
        return self.first <= height <= self.last


def draw(
    seed: int, faults: Iterable[Fault], *, endpoints: int, horizon: int, beyond: int, all_of: bool
) -> tuple[Episode, ...]:
    """The episodes of one world. Every one ends by ``horizon``, except in one world of five, where any may last until
    ``beyond``, and of a node that is broken or speaks against all, which may in any. With ``all_of`` each fault strikes;
    otherwise about one in three does."""
    dice = random.Random(f"weather {seed}")  # noqa: S311  a plan, not a secret
    rogue = dice.randrange(endpoints)
    end = beyond if dice.randrange(5) == 0 else horizon
    episodes: list[Episode] = []
    for fault in Fault:
        strikes = dice.randrange(100) < 35
        if fault not in set(faults) or not (strikes or all_of):
            continue
        episodes += [_episode(fault, dice, endpoints, rogue, end, beyond) for _ in range(dice.randint(1, 3))]
    return tuple(sorted(episodes, key=lambda one: (one.first, one.fault, one.where)))


def _episode(fault: Fault, dice: random.Random, endpoints: int, rogue: int, end: int, beyond: int) -> Episode:
    first = dice.randint(1, max(1, end - 2))
    last = min(end, first + dice.choice((0, 2, 5, 10, 20, 40)))
    where, rate, depth, how = NOWHERE, 100, 0, ""
    if fault in OF_ENDPOINTS:
        where = rogue if fault in (*ROGUE, Fault.BROKEN) else dice.randrange(endpoints)
        rate = dice.choice((5, 20, 60, 100))
    if fault is Fault.VETO:
        rate, how = 100, dice.choice(VETOES)
        last = beyond if dice.randrange(2) else last
    elif fault in ROGUE:
        rate, depth = 100, dice.randint(1, 12)
        how = dice.choice(LIES) if fault is Fault.LYING else ""
    elif fault is Fault.BROKEN:
        rate, how = 100, dice.choice(READS)
        last = beyond if dice.randrange(2) else last  # until somebody mends it: two are well meanwhile
    elif fault is Fault.REORG:
        depth, last = dice.randint(1, 12), first
        how = dice.choice(("keep", "drop"))
    elif fault in (Fault.SPIKE, Fault.SKEW, Fault.DROPPED):
        last = first
    elif fault in (Fault.WORKERS, Fault.OUTAGE, Fault.SLOW_DISK, Fault.FULL_DISK, Fault.CUT_OFF):
        rate = dice.choice((5, 30, 100))
    elif fault is Fault.CRASH:
        rate = dice.choice((20, 60))
    return Episode(fault, first, last, where, rate, depth, how)


def parse(text: str) -> tuple[Fault, ...]:
    """``all``, ``none`` or a comma-separated list. ``ValueError`` names what is unknown."""
    if text in ("all", "none"):
        return tuple(Fault) if text == "all" else ()
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in set(Fault)]
    if unknown or not names:
        raise ValueError(f"unknown fault {', '.join(unknown)}; there are {', '.join(Fault)}")
    return tuple(Fault(name) for name in names)


def shown(faults: Collection[Fault]) -> str:
    return "all" if len(set(faults)) == len(Fault) else ",".join(faults) or "none"
