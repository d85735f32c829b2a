"""The shipped rules for Prometheus, evaluated over what a watcher serves: silent while nothing is wrong, and each heard at the
first time that it should be."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from challenger.domain import Action, State
from challenger.telemetry.instruments import Instruments
from challenger.telemetry.metrics import (
    ALERTS_ACTIVE,
    DISAGREEMENTS,
    HEAD_AGE,
    HEAD_BLOCK,
    HOOK_FAILURES,
    LEAST_SLACK,
    NEAREST_DEADLINE,
    PREDICTED_MISSES,
    SELFTESTS,
    SHED,
    SLACK_AT_FILING,
    Prometheus,
)

(GROUP,) = yaml.safe_load((Path(__file__).parents[2] / "docs" / "alerts.rules.yml").read_text(encoding="utf-8"))[
    "groups"
]
RULES: dict[str, str] = {rule["alert"]: rule["expr"] for rule in GROUP["rules"]}

Labels = frozenset[tuple[str, str]]
#: One scrape: when, in seconds, and the value of each series, by name and labels.
Scrape = tuple[float, dict[tuple[str, Labels], float]]
Deed = Callable[[Prometheus], None]

_TERM = re.compile(
    r"(?P<age>time\(\) - )?(?:(?P<function>absent|increase|changes)\()?(?P<name>\w+)(?:\{(?P<labels>[^}]*)\})?"
    r"(?:\[(?P<range>\w+)\])?\)?(?: (?P<sign>[<>]|==) (?P<bar>\d+))?"
)
_SECONDS = {"m": 60, "h": 3_600}


def scraped(metrics: Prometheus, when: float) -> Scrape:
    families = text_string_to_metric_families(metrics.page().decode())
    samples = [sample for family in families for sample in family.samples]
    return when, {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}


def fires(expr: str, scrapes: list[Scrape]) -> bool:
    """Whether ``expr``, of the few forms that the rules have, holds at the last of ``scrapes``."""
    return any(
        _said(one.removeprefix("(").removesuffix(")") if " and " in one else one, scrapes) for one in expr.split(" or ")
    )


def _said(part: str, scrapes: list[Scrape]) -> set[Labels]:
    """Labels of the series for which all of it holds; ``le`` is a histogram's alone."""
    found = [_holds(term.removeprefix("ignoring(le) "), scrapes) for term in part.split(" and ")]
    return set.intersection(
        *({frozenset(one for one in labels if one[0] != "le") for labels in some} for some in found)
    )


def _holds(term: str, scrapes: list[Scrape]) -> set[Labels]:
    read = _TERM.fullmatch(term)
    assert read is not None, term
    wanted, (now, page) = set(re.findall(r'(\w+)="([^"]*)"', read["labels"] or "")), scrapes[-1]
    found = {labels for name, labels in page if name == read["name"] and labels >= wanted}
    if read["function"] == "absent":
        return set() if found else {frozenset()}
    span = int(read["range"][:-1]) * _SECONDS[read["range"][-1]] if read["range"] else 0
    stories = {
        labels: [page[key] for when, page in scrapes if when > now - span and (key := (read["name"], labels)) in page]
        if span
        else [page[read["name"], labels]]
        for labels in found
    }
    return {labels for labels, values in stories.items() if _compares(read, values, now)}


def _compares(read: re.Match[str], values: list[float], now: float) -> bool:
    """A series that is born has grown by nothing."""
    steps, value = list(pairwise(values)), values[-1]
    if read["age"]:
        value = now - value
    elif read["function"] == "increase":
        value = sum(later - before if later >= before else later for before, later in steps)
    elif read["function"] == "changes":
        value = sum(later != before for before, later in steps)
    bar = int(read["bar"])
    return {"<": value < bar, ">": value > bar, "==": value == bar}[read["sign"]]


def lived(*deeds: Deed, before: int = 32, after: int = 1, follows: bool = True) -> set[str]:
    """The rules that fire for a watcher that is scraped every two minutes: ``before`` the deeds, after each, and ``after`` them."""
    metrics, scrapes, start = Prometheus(), list[Scrape](), time.time()
    for number, deed in enumerate([None] * before + list(deeds) + [None] * after):
        if follows:
            metrics.set(HEAD_BLOCK, number)
            metrics.set(HEAD_AGE, 3)
        if deed is not None:
            deed(metrics)
        scrapes.append(scraped(metrics, start + 120 * number))
    return {name for name, expr in RULES.items() if fires(expr, scrapes)}


def filed(spare: float, action: Action = Action.CHALLENGE) -> Deed:
    def file(metrics: Prometheus) -> None:
        metrics.observe(SLACK_AT_FILING, spare, action=action.value)
        metrics.set(LEAST_SLACK, spare)

    return file


def missed(state: State) -> Deed:
    return lambda metrics: Instruments(metrics).missed("0x", state, "it closed")


#: What each rule is for.
DEEDS: dict[str, list[Deed]] = {
    "ChallengerChainStandsStill": [lambda metrics: metrics.set(HEAD_AGE, 181)],
    "ChallengerPredictsMisses": [lambda metrics: metrics.set(PREDICTED_MISSES, 1)],
    "ChallengerDeadlineNear": [lambda metrics: metrics.set(NEAREST_DEADLINE, 299)],
    "ChallengerFiledLate": [
        filed(spare, action) for spare in (-5, 119) for action in (Action.CHALLENGE, Action.DEMAND)
    ],
    "ChallengerMissed": [
        missed(state) for state in (State.SAMPLED, State.REPLAYED, State.CONFIRMED, State.FILING, State.UNAVAILABLE)
    ],
    "ChallengerSheds": [lambda metrics: metrics.count(SHED)],
    "ChallengerEndpointsDisagree": [lambda metrics: metrics.count(DISAGREEMENTS)],
    "ChallengerSelfTestMissed": [lambda metrics: metrics.count(SELFTESTS, outcome="missed")],
    "ChallengerCondition": [lambda metrics: metrics.set(ALERTS_ACTIVE, 1, name="shed")],
    "ChallengerHooksFail": [lambda metrics: metrics.count(HOOK_FAILURES)],
}


def test_a_fresh_watcher_alone_is_said_to_be_away_until_it_reads_the_chain() -> None:
    assert lived(follows=False) == {"ChallengerAway"}
    for before in (0, 1, 32):
        assert lived(before=before, after=10) == set()


def test_what_went_well_is_silent() -> None:
    fine: list[Deed] = [
        filed(900),
        lambda metrics: metrics.set(NEAREST_DEADLINE, 900),
        lambda metrics: metrics.set(PREDICTED_MISSES, 0),
        lambda metrics: metrics.count(SELFTESTS, outcome="caught"),
        lambda metrics: metrics.set(ALERTS_ACTIVE, 0, name="shed"),
    ]
    assert lived(*fine) == set()


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"ChallengerAway"}))
def test_each_rule_is_heard_at_the_first_time(rule: str) -> None:
    """Also where it is before the first scrape: a start after an outage finds at once what was missed."""
    for deed in DEEDS[rule]:
        for before in (32, 1, 0):
            assert lived(deed, before=before, after=rule != "ChallengerChainStandsStill") == {rule}


@pytest.mark.parametrize("rule", sorted(rule for rule, expr in RULES.items() if "increase(" in expr))
def test_what_was_counted_is_news_for_a_while(rule: str) -> None:
    for before in (0, 32):
        assert rule not in lived(*DEEDS[rule][:1], before=before, after=31)


def test_a_deadline_that_is_over_is_no_longer_said() -> None:
    near: Deed = lambda metrics: metrics.set(NEAREST_DEADLINE, 20)  # noqa: E731
    assert lived(near) == {"ChallengerDeadlineNear"}
    assert lived(near, lambda metrics: metrics.set(NEAREST_DEADLINE, None)) == set()
