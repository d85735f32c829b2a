"""When data that does not come is withheld, by what was said at each look."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import Hash32, Part
from challenger.silence import Looks, Refusal, Silence, looks, patient, unheard, withheld
from challenger.substitution import Substitution

WHERE = "https://a.example/x"
ALONE, AMONG = Silence(WHERE, ""), Silence(WHERE, "b.example")
REFUSED, OTHER = Refusal(f"HTTP 503, {WHERE}"), Substitution(9, Hash32(bytes(32)), WHERE)

lays = st.sampled_from([ALONE, AMONG, REFUSED, OTHER])


def told(*said: Silence | Refusal | Substitution, part: Part = Part.OUTPUT) -> list[str]:
    """Newest first, as the record gives them."""
    return [one.detail(part) for one in reversed(said)]


@given(st.lists(lays), st.lists(lays, min_size=1))
def test_a_run_ends_where_another_part_was_missing(before, after):
    run = looks(told(*after) + told(*before, part=Part.INPUT))
    assert run == looks(told(*after))
    assert run.all == len(after)
    assert run.heard == len(after) - after.count(ALONE)


@given(st.lists(lays), st.booleans(), st.booleans())
def test_one_look_more_and_time_passing_never_excuse(said, half, last):
    run = looks(told(*said))
    if withheld(run, half=half, last=last):
        assert withheld(run, half=True, last=last)
        assert withheld(run, half=half, last=True)
        for one in (ALONE, AMONG, REFUSED, OTHER):
            assert withheld(looks(told(*said, one)), half=half, last=last)


def test_what_a_server_says_counts_the_second_time_whatever_came_between():
    gone = ["output"]
    assert not withheld(looks(gone), half=True, last=False)
    assert withheld(looks([*gone, *told(ALONE, REFUSED), *gone]), half=False, last=False)
    assert withheld(looks(told(OTHER, AMONG, OTHER)), half=False, last=False)


def test_a_refusal_has_half_of_the_time_to_pass():
    run = looks(told(REFUSED, REFUSED))
    assert not withheld(run, half=False, last=False)
    assert withheld(run, half=True, last=False)


def test_silence_takes_many_looks_and_others_that_answer():
    assert not withheld(looks(told(*[AMONG] * 50)), half=False, last=False), "the rest of the window is not lost yet"
    assert not withheld(looks(told(*[AMONG] * 11)), half=True, last=False)
    assert withheld(looks(told(*[ALONE] * 6, *[AMONG] * 6)), half=True, last=False)
    assert not withheld(looks(told(*[ALONE] * 45, *[AMONG] * 5)), half=True, last=False)
    assert withheld(looks(told(*[ALONE] * 6)), half=True, last=True)
    assert not withheld(looks(told(*[AMONG] * 5)), half=True, last=True), (
        "a line that loses a third loses five in a row"
    )


def test_silence_is_ours_unless_others_answered():
    assert unheard(looks(told(*[ALONE] * 30, AMONG, AMONG)))
    assert not unheard(looks(told(*[AMONG] * 3, *[ALONE] * 30))), "that it was heard is not forgotten"
    assert not unheard(looks(told(OTHER, ALONE, OTHER)))
    assert not unheard(looks([]))
    assert looks([]) == Looks()


@given(st.sampled_from(list(Part)), lays)
def test_what_may_pass_is_asked_for_without_a_longer_and_longer_pause(part, lay):
    assert patient(lay.detail(part)) == (lay is not OTHER)
    assert lay.detail(part).partition(":")[0] == part
