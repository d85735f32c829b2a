"""A record over time, and how long things take."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from challenger.audit.speed import Speed, speeds
from challenger.audit.trend import Change, Range, change, periods
from challenger.domain import Address, Millionths, ModelId, State, UnixTime, VerdictKind
from challenger.store.records import Tally, Took

WHO, MODEL, OTHER = Address("0x" + "01" * 20), ModelId(b"m" * 32), ModelId(b"n" * 32)
WEEK, RATE = 604_800, Millionths(200_000)
K = VerdictKind


def tally(week: int, answers: int, verdict: VerdictKind | None, *, drawn: bool = True, model: ModelId = MODEL) -> Tally:
    start = UnixTime(week * WEEK)
    return Tally(WHO, model, State.FINALISED, True, drawn, drawn, verdict, verdict is K.FRAUD, answers, start)


def week(number: int, answers: int, looked: int, bad: int) -> list[Tally]:
    return [
        tally(number, looked - bad, K.VALID),
        tally(number, bad, K.FRAUD),
        tally(number, answers - looked, None, drawn=False),
    ]


def told(*weeks: list[Tally]) -> Change | None:
    return change(periods([row for rows in weeks for row in rows], RATE)[WHO, None], WEEK)


def test_periods_are_apart_by_time_and_by_model() -> None:
    rows = [*week(10, 50, 10, 0), *week(12, 60, 12, 3), tally(12, 5, K.VALID, model=OTHER)]
    found = periods(rows, RATE)
    assert set(found) == {(WHO, None), (WHO, MODEL), (WHO, OTHER)}
    assert [(p.start // WEEK, p.record.answers, p.record.looked, p.record.bad) for p in found[WHO, None]] == [
        (10, 50, 10, 0),
        (12, 65, 17, 3),
    ]
    assert [p.record.answers for p in found[WHO, OTHER]] == [5]


def test_a_provider_that_turns_bad_is_said_to_and_one_that_mends_too() -> None:
    steady = [week(number, 1_000, 200, 0) for number in range(5)]
    worse = told(*steady, week(5, 1_000, 200, 100))
    assert worse is not None
    assert (worse.what, worse.start) == ("worse", 5 * WEEK)
    assert 100 < worse.last.least < 500 < worse.last.most < 1_000
    assert worse.before.least == 0
    bad = [week(number, 1_000, 200, 150) for number in range(5)]
    better = told(*bad, week(5, 1_000, 200, 0))
    assert better is not None
    assert better.what == "better"


def test_chance_and_little_data_show_no_change() -> None:
    steady = [week(number, 1_000, 200, 2) for number in range(5)]
    for bad in (0, 2, 5):
        found = told(*steady, week(5, 1_000, 200, bad))
        assert found is not None
        assert found.what == "none", bad
    one = told(week(0, 5, 1, 0), week(1, 5, 1, 1))
    assert one is not None
    assert one.what == "none", "one of one says nothing"


def test_what_may_still_be_judged_makes_nobody_worse() -> None:
    """In a window that was extended; the bound counts it as bad, the least must not."""
    steady = [week(number, 1_000, 200, 0) for number in range(5)]
    waiting = [*week(5, 900, 100, 0), tally(5, 100, None)._replace(extended=True)]
    found = told(*steady, waiting)
    assert found is not None
    assert (found.what, found.last.least) == ("none", 0)
    assert found.last.most > 100


def test_there_is_nothing_to_compare_with_one_period_or_none_seen() -> None:
    assert told(week(3, 100, 20, 1)) is None
    assert told(week(3, 100, 20, 1), [tally(4, 50, None, drawn=False)]) is None
    assert change([], WEEK) is None
    gap = told(week(3, 100, 20, 1), [tally(4, 50, None, drawn=False)], week(9, 100, 20, 1))
    assert gap is not None
    assert (gap.start, gap.before.closed) == (9 * WEEK, 150)


def test_everything_looked_at_leaves_no_doubt() -> None:
    rows = [*week(0, 10, 10, 0), *week(1, 10, 10, 1)]
    found = change(periods(rows, Millionths(1_000_000))[WHO, None], WEEK)
    assert found == Change("worse", UnixTime(WEEK), Range(1, 1, 10), Range(0, 0, 10))
    assert (str(found.last), str(found.before)) == ("10 %", "0 %")
    assert str(Range(1, 30, 1_000)) == "0.1 % to 3 %"


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3])
def test_a_steady_provider_is_almost_never_called_worse_however_often_one_looks(share: float) -> None:
    """Looked at after each of 30 weeks, in 200 lives: wrong in at most 5 % of the lives."""
    rng = random.Random(7)
    wrong = 0
    for _ in range(200):
        rows: list[Tally] = []
        said = set()
        for number in range(30):
            counts = Counter((rng.random() < 0.2, rng.random() < share) for _ in range(60))
            looked, bad = counts[True, False] + counts[True, True], counts[True, True]
            rows += week(number, 60, looked, bad)
            found = change(periods(rows, RATE)[WHO, None], WEEK)
            said.add("none" if found is None else found.what)
        wrong += said != {"none"}
    assert wrong <= 10


def test_speeds_are_ranks_of_what_was_measured() -> None:
    took = [Took(WHO, MODEL, 5, 94), Took(WHO, MODEL, 60, 5), Took(WHO, MODEL, 900, 1), Took(WHO, OTHER, 3, 1)]
    found = speeds(took)
    assert found[WHO, MODEL] == Speed(100, 5, 60)
    assert found[WHO, OTHER] == Speed(1, 3, 3)
    assert found[WHO, None] == Speed(101, 5, 60)
    assert speeds([]) == {}
    for low, high in pairwise(range(1, 41)):
        rows = speeds([Took(WHO, MODEL, seconds, 1) for seconds in range(low, high + 20)])
        spread = sorted(range(low, high + 20))
        assert rows[WHO, MODEL].median == spread[(len(spread) + 1) // 2 - 1]
