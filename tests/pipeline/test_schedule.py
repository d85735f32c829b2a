from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import CommitmentId, UnixTime
from challenger.pipeline.learned import ENOUGH, SAFETY, action_of, predict
from challenger.pipeline.schedule import Ahead, Item, admit, crowded, demand_by, due, look_again, order, readmit, slack

NOW = UnixTime(1_000)

items = st.builds(
    Item,
    st.binary(min_size=32, max_size=32).map(CommitmentId),
    st.integers(1_000, 1_500).map(UnixTime),
    st.integers(0, 9),
    st.builds(Ahead, *[st.integers(0, 40).map(float)] * 4),
    st.sampled_from("abc"),
)
queues = st.lists(items, max_size=12, unique_by=lambda i: i.commitment)
alike = st.lists(
    st.builds(
        Item,
        st.binary(min_size=32, max_size=32).map(CommitmentId),
        st.integers(1_010, 1_090).map(UnixTime),
        st.integers(0, 9),
        st.just(Ahead(10, 0, 0, 0)),
    ),
    max_size=8,
    unique_by=lambda i: i.commitment,
)


def fits(queue, workers, busy=0.0) -> bool:
    """Whether list scheduling in this order has every replay over when it is due; ``busy`` comes first."""
    free = [busy] + [0.0] * (workers - 1)
    for item in queue:
        at = free.index(min(free))
        free[at] += item.ahead.replay
        if NOW + free[at] > due(item):
            return False
    return True


@given(queues)
def test_the_order_is_total_and_the_hopeless_come_last(queue):
    ordered = order(queue, NOW)
    assert ordered == order(ordered[::-1], NOW)
    assert sorted(i.commitment for i in ordered) == sorted(i.commitment for i in queue)
    late = [slack(i, NOW) < 0 for i in ordered]
    assert late == sorted(late)
    ahead = [due(i) for i, hopeless in zip(ordered, late, strict=True) if not hopeless]
    assert ahead == sorted(ahead)


@given(queues, st.integers(1, 3), st.sampled_from([0.0, 30.0]))
def test_what_is_kept_fits_and_nothing_is_lost(queue, workers, busy):
    kept, shed, hopeless = admit(queue, NOW, workers, busy)
    assert sorted(i.commitment for i in kept + shed + hopeless) == sorted(i.commitment for i in queue)
    assert kept == [i for i in order(queue, NOW) if i in kept]
    assert fits(kept, workers, busy)
    assert all(slack(i, NOW) < 0 for i in hopeless)


@given(alike)
def test_of_equal_work_the_least_value_possible_is_shed(queue):
    kept, shed, hopeless = admit(queue, NOW, 1)
    savable = order([i for i in queue if i not in hopeless], NOW)
    best = max(
        sum(i.value for i in some)
        for size in range(len(savable) + 1)
        for some in combinations(savable, size)
        if fits(some, 1)
    )
    assert sum(i.value for i in kept) == best
    assert sum(i.value for i in shed) == sum(i.value for i in savable) - best


@given(queues)
def test_nothing_is_shed_that_any_order_could_save(queue):
    savable = order([i for i in queue if slack(i, NOW) >= 0], NOW)
    if fits(savable, 1):
        assert admit(queue, NOW, 1)[1] == []


def test_long_and_short_replays_mix():
    long = Item(CommitmentId(b"l" * 32), UnixTime(NOW + 100), 1, Ahead(90, 0, 0, 0))
    short = Item(CommitmentId(b"s" * 32), UnixTime(NOW + 20), 1, Ahead(1, 0, 0, 0))
    assert slack(long, NOW) < slack(short, NOW), "by slack alone the short one would come too late"
    assert admit([long, short], NOW, 1) == ([short, long], [], [])


def test_the_least_valuable_is_shed_first():
    ahead = Ahead(10, 0, 0, 0)
    cheap = Item(CommitmentId(b"a" * 32), UnixTime(NOW + 15), 1, ahead)
    dear = Item(CommitmentId(b"b" * 32), UnixTime(NOW + 16), 9, ahead)
    assert slack(cheap, NOW) == 5
    assert admit([dear, cheap], NOW, 1) == ([dear], [cheap], [])
    assert admit([dear, cheap], NOW, 2) == ([cheap, dear], [], [])


def test_who_floods_the_queue_pushes_out_its_own_work():
    ahead = Ahead(10, 0, 0, 0)
    flood = [Item(CommitmentId(bytes([n]) * 32), UnixTime(NOW + 50), 12, ahead, "flooder") for n in range(8)]
    other = Item(CommitmentId(b"z" * 32), UnixTime(NOW + 50), 10, ahead, "other")
    kept, shed, _ = admit(crowded([*flood, other], NOW), NOW, 1)
    assert other in kept
    assert {i.provider for i in shed} == {"flooder"}


@given(queues, queues, st.integers(1, 3))
def test_what_comes_back_fits_beside_what_is_kept(queue, away, workers):
    taken = {i.commitment for i in queue}
    aside = [i for i in away if i.commitment not in taken]
    kept = admit(queue, NOW, workers)[0]
    back = readmit(kept, aside, NOW, workers)
    assert all(i in aside for i in back)
    assert admit([*kept, *back], NOW, workers)[1:] == ([], [])


def test_shed_work_comes_back_once_there_is_room():
    aside = [Item(CommitmentId(b"a" * 32), UnixTime(NOW + 100), 1, Ahead(10, 0, 0, 0))]
    full = [Item(CommitmentId(bytes([n]) * 32), UnixTime(NOW + 100), 5, Ahead(10, 0, 0, 0)) for n in range(8)]
    assert readmit(full, aside, NOW, 1) == []
    assert readmit(full[:3], aside, NOW, 1) == aside


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 86_400))
def test_another_look_comes_soon_and_in_time(now, until, tries, first):
    again = look_again(UnixTime(now), UnixTime(until), tries, first)
    assert now <= again <= now + 32 * first
    assert again <= max(now, until)
    if until - now >= 64 * first:
        assert again >= now + first


def test_a_demand_leaves_time_for_its_way():
    assert demand_by(UnixTime(5_000), Ahead(9, 9, 100, 36), 60) == 4_804


def test_predictions_are_careful_until_there_are_enough_samples():
    assert predict(5.0, None) == 5.0
    assert predict(5.0, (1, 1.0)) == 5.0
    assert predict(5.0, (ENOUGH - 1, 7.0)) == SAFETY * 7.0
    assert predict(5.0, (ENOUGH, 1.0)) == 1.0
    assert len(action_of("confirm", b"\xaa" * 32, "native-int8")) <= 40
