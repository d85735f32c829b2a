"""Alerts in words that a person understands at three in the morning: what, how much time is left, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from challenger.telemetry.notice import Notice, Severity

#: Most services take this much; what is more urgent stands first.
_LONGEST = 1_800
#: Of one field of an alert.
_FIELD = 200
#: Of the things that one alert is about, when there are many.
_NAMED = 5
_ORDER = (Severity.CRITICAL, Severity.WARNING, Severity.INFO)
#: How apprise calls them.
_KIND = {Severity.CRITICAL: "failure", Severity.WARNING: "warning", Severity.INFO: "info"}


class Words(NamedTuple):
    """``about``: what the alert is about, as a noun; the other two as the table in ``docs/operators.md`` has them."""

    about: str
    what: str
    do: str


WORDS = {
    "fraud-found": Words(
        "commitment",
        "a fraud: an answer is not what its model computes, and a second backend says so too",
        "in the modes `live` and `confirm` it is filed by itself or waits for your word; in the others nobody files it: `challenger commitments ID`, and switch to `live` while the window is open if it should be",
    ),
    "filed": Words(
        "commitment",
        "a challenge or a demand of ours stands on chain; its bond is out",
        "nothing; `challenger disputes` shows how it goes",
    ),
    "won": Words(
        "commitment",
        "a dispute or demand of ours was won; bond and reward are collected by themselves",
        "nothing",
    ),
    "lost": Words(
        "commitment",
        "a dispute of ours was lost: the bond is gone, and filing against this model's providers is paused, since the error may be ours",
        "compare our roots with the ruling (`challenger commitments ID`), run `replay selftest`; `challenger resume MODEL` only when it is understood: see *When it pauses*",
    ),
    "no-ruling": Words(
        "commitment",
        "a dispute of ours ended without a ruling on it: nobody decided in time, or the job ended otherwise first",
        "look whether the protocol's adjudicator works; the bond comes back by itself",
    ),
    "slack-low": Words(
        "commitment",
        "a commitment in hand has little time to spare beyond what its work is predicted to take (`telemetry.low_slack`)",
        "`challenger commitments ID` says what it waits for: a person, an endpoint, data, a worker; after it comes `predicted-miss`",
    ),
    "gas-low": Words(
        "",
        "the account does not cover the bonds and gas of the next filings (`telemetry.low_filings`)",
        "send ether to the account; what the balance does not cover is not filed",
    ),
    "stalled": Words(
        "",
        "the chain is not read: no look at it came to its end for `telemetry.stale_seconds`",
        "look for action=trouble in the log; check the endpoints and the database; a restart is safe at any time",
    ),
    "predicted-miss": Words(
        "commitment",
        "a commitment in hand has less time left than its work is predicted to take",
        "look at the backlog and at the workers; more of them, or a smaller rate, for the next epoch",
    ),
    "missed": Words(
        "commitment",
        "a window closed over a fraud in hand or over work that had begun",
        "read its journal: `challenger commitments ID` names what it waited for",
    ),
    "shed": Words(
        "",
        "the backlog exceeds the slack: the least valuable work was put aside",
        "more workers, or a smaller rate, for the next epoch; what was put aside comes back when there is room",
    ),
    "stale-head": Words(
        "",
        "the newest block is much older than this machine's clock: the endpoint lags, the chain stands still or the clock is wrong",
        "check the endpoint and the clock",
    ),
    "endpoint": Words(
        "endpoint",
        "an endpoint fails, lags, asks to rest or serves another chain; others are read from",
        "look at it if it lasts; too few of them, and nothing is filed",
    ),
    "false-logs": Words(
        "endpoint",
        "an endpoint left out, altered or invented logs: they do not fit the block's hash; it is not read from for a while",
        "replace it",
    ),
    "disagreement": Words(
        "commitment",
        "endpoints do not agree on the chain data under an accusation; it is not filed",
        "find out which one lies or lags; add an independent endpoint",
    ),
    "approval": Words(
        "commitment",
        "mode confirm: a filing waits for a person and its window runs",
        "`challenger approvals`, then `challenger approve ID` or `challenger refuse ID`",
    ),
    "cut-off": Words(
        "",
        "several servers of data are silent and none answered meanwhile: our own line may be down, so nothing is demanded of them",
        "check this machine's line, resolver and firewall; `challenger commitments ID` names the addresses",
    ),
    "paused": Words(
        "model",
        "filing against the providers of one model stands still until a person resumes it; others are filed against",
        "look at the evidence (`challenger commitments`), run `replay selftest`, then `challenger resume MODEL`: see *When it pauses*",
    ),
    "selftest-missed": Words(
        "planted fraud",
        "a planted fraud was not caught: replays or judging on this machine cannot be relied on",
        "run `replay selftest`, look at the machine's memory and at what was updated last: see *Forced errors*. Stands until the next start",
    ),
    "selftest-undecided": Words(
        "",
        "three planted frauds in a row came to no verdict",
        "the alert says why: a worker that dies, weights that are away, too little time; real cases fare no better",
    ),
    "planted-filing": Words(
        "",
        "something tried to file a planted item or what an audit found; it was refused, nothing was sent",
        "report it with the log; `challenger pause` until it is understood",
    ),
    "bug": Words(
        "commitment",
        "one commitment made the program itself fail, judged or planted as a self-test; the others go on",
        "report it with the log",
    ),
    "crashed": Words(
        "part",
        "a part of the watcher (`chain`, `replay`, `data`, `self-test`, `evidence`) failed in a way that nobody foresaw; it is tried again at every turn, and the others go on",
        "report it with the log, where `action=crashed` has the traceback; `challenger status` says what is due; a restart is safe at any time",
    ),
}


class Message(NamedTuple):
    """``kind``: as apprise has them."""

    title: str
    body: str
    kind: str


def message(notices: Sequence[Notice], whom: str) -> Message:
    """One message of at least one notice: a paragraph for each kind of alert, the worst first. ``whom``: which watcher."""
    kinds: dict[str, list[Notice]] = {}
    for notice in sorted(notices, key=lambda one: _ORDER.index(one.severity)):
        kinds.setdefault(notice.name, []).append(notice)
    worst = next(iter(kinds.values()))[0]
    title = worst.name if len(notices) == 1 else f"{len(notices)} alerts, {', '.join(kinds)}"
    paragraphs = [_paragraph(alike) for alike in kinds.values()]
    body, left = paragraphs[0][:_LONGEST], 0
    for paragraph in paragraphs[1:]:
        if left or len(body) + len(paragraph) > _LONGEST:
            left += 1
        else:
            body += "\n\n" + paragraph
    if left:
        body += f"\n\nOf {left} other kinds of alert the log tells (action=alert)."
    return Message(_line(f"challenger {whom}: {title}")[:_FIELD], body, _KIND[worst.severity])


def _paragraph(alike: Sequence[Notice]) -> str:
    first = alike[0]
    words = WORDS.get(first.name, Words("", f"alert {first.name}", "read the log (action=alert)"))
    told = [f"{first.severity.upper()}: {words.what}."]
    subjects = list(dict.fromkeys(_line(one.about) for one in alike if one.about))
    if subjects:
        told.append(f"{(words.about or 'about').capitalize()} {', '.join(subjects[:_NAMED])}")
        told[-1] += f" and {len(subjects) - _NAMED} more." if len(subjects) > _NAMED else "."
    elif len(alike) > 1:
        told.append(f"{len(alike)} times.")
    of_first = "Of the first: " if len(subjects) > 1 else ""
    if time := _time_left(first.fields):
        told.append(f"{of_first}{time}.")
    facts = ", ".join(
        f"{name} {_line(value)}" for name, value in first.fields.items() if name not in ("closes", "left")
    )
    if facts:
        told.append(f"{of_first}{facts}.")
    told.append(f"What to do: {words.do} (docs/operators.md, Alerts, {first.name}).")
    return " ".join(told)


def _time_left(fields: Mapping[str, Any]) -> str:
    """From ``left``, seconds at the time of the alert, and ``closes``, chain time."""
    told = []
    if isinstance(left := fields.get("left"), int):
        told.append("the window is over" if left <= 0 else f"{_span(left)} left")
    if isinstance(closes := fields.get("closes"), int) and 0 <= closes < 1 << 36:
        told.append(f"the window closes {datetime.fromtimestamp(closes, UTC):%Y-%m-%d %H:%M} UTC")
    return ", ".join(told)


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7_200 else f"{seconds // 3_600} h {seconds % 3_600 // 60} min"


def _line(value: object) -> str:
    """What may come from outside, as part of one line."""
    text = str(value)
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return plain if len(plain) <= _FIELD else plain[:_FIELD] + "…"
