"""When data that does not come is withheld, by what was said at each look."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from challenger.domain import Hash32, Part, UnixTime, VerdictKind
from challenger.silence import Looks, Refusal, Silence, host_of_silence, looks, patient, unheard, withheld
from challenger.substitution import Substitution

WHERE = "https://a.example/x"
ALONE, AMONG = Silence(WHERE, ""), Silence(WHERE, "b.example")
REFUSED, BESIDE = Refusal("HTTP 503", WHERE), Refusal("HTTP 503", WHERE, "b.example")
OTHER = Substitution(9, Hash32(bytes(32)), WHERE)
ALL = [ALONE, AMONG, REFUSED, BESIDE, OTHER]
STEP = 60
GONE = VerdictKind.UNAVAILABLE

lays = st.sampled_from(ALL)


def said(*lays: Silence | Refusal | Substitution, part: Part = Part.OUTPUT) -> list[tuple[VerdictKind, str, UnixTime]]:
    """Newest first, as the record gives them: one a minute."""
    return [(GONE, one.detail(part), UnixTime(STEP * number)) for number, one in enumerate(lays)][::-1]


def run(*lays: Silence | Refusal | Substitution) -> Looks:
    return looks(said(*lays))


@given(st.lists(lays), st.lists(lays, min_size=1))
def test_a_run_ends_where_another_part_was_missing(before, after):
    found = looks(said(*after) + said(*before, part=Part.INPUT))
    assert found == run(*after)
    assert found.all == len(after)
    assert found.heard == len(after) - after.count(ALONE) - after.count(REFUSED)
    assert found.lasted == STEP * (len(after) - 1)


@given(
    st.lists(lays), st.sampled_from(["disk: full", "crashed: signal 9", "gateways: unreachable", "our weights: gone"])
)
def test_losses_between_which_it_was_served_are_no_run(told, why):
    between = [(VerdictKind.INCONCLUSIVE, why, UnixTime(0))]
    assert looks([*said(OTHER), *between, *said(*told)]) == Looks(said=1)


@given(st.lists(lays), st.booleans(), st.booleans())
def test_one_look_more_and_time_passing_never_excuse(told, half, last):
    if withheld(run(*told), half=half, last=last):
        assert withheld(run(*told), half=True, last=last)
        assert withheld(run(*told), half=half, last=True)
        for one in ALL:
            assert withheld(run(*told, one), half=half, last=last)


def test_what_a_server_says_counts_the_second_time_whatever_came_between():
    assert not withheld(run(OTHER), half=True, last=False)
    assert withheld(run(OTHER, ALONE, REFUSED, OTHER), half=False, last=False)
    assert not withheld(run(OTHER, OTHER), half=True, last=False, pause=2 * STEP), (
        "its block went: looked for anew at once"
    )
    assert withheld(run(OTHER, OTHER), half=False, last=True, pause=2 * STEP)
    assert withheld(run(OTHER, OTHER, OTHER), half=False, last=False, pause=2 * STEP)
    gone = [(GONE, "output", UnixTime(0))]
    assert withheld(looks([*gone, *said(AMONG), *gone]), half=False, last=False)


def test_a_refusal_has_half_of_the_time_to_pass_and_may_be_that_of_a_portal_of_ours():
    assert not withheld(run(*[BESIDE] * 4), half=False, last=False)
    assert withheld(run(*[BESIDE] * 4), half=True, last=False)
    assert not withheld(run(*[BESIDE] * 3), half=True, last=True), "it may start anew"
    assert withheld(run(*[BESIDE] * 3), half=True, last=False, outage=120), "where there is no more time"
    assert not withheld(run(*[REFUSED] * 20), half=True, last=False)
    assert unheard(run(*[REFUSED] * 20))


def test_silence_takes_many_looks_and_others_that_answer():
    assert not withheld(run(*[AMONG] * 50), half=False, last=False), "the rest of the window is not lost yet"
    assert not withheld(run(*[AMONG] * 11), half=True, last=False)
    assert withheld(run(*[ALONE] * 6, *[AMONG] * 6), half=True, last=False)
    assert not withheld(run(*[ALONE] * 45, *[AMONG] * 5), half=True, last=False)


def test_at_the_last_look_fewer_are_enough_where_they_lasted():
    assert withheld(run(*[ALONE] * 6), half=True, last=True)
    assert not withheld(run(*[AMONG] * 5), half=True, last=True), "a line that loses a third loses five in a row"
    soon = [(GONE, ALONE.detail(Part.OUTPUT), UnixTime(12 * number)) for number in range(12)][::-1]
    assert not withheld(looks(soon), half=True, last=True), "a server that starts anew is away for as long"


def test_silence_is_ours_unless_others_answered():
    assert unheard(run(*[ALONE] * 30, AMONG, AMONG))
    assert not unheard(run(*[AMONG] * 3, *[ALONE] * 30)), "that it was heard is not forgotten"
    assert not unheard(run(OTHER, ALONE, OTHER))
    assert not unheard(looks([]))
    assert looks([]) == Looks()


@given(st.sampled_from(list(Part)), lays)
def test_what_may_pass_is_asked_for_without_a_longer_and_longer_pause(part, lay):
    assert patient(lay.detail(part)) == (lay is not OTHER)
    assert lay.detail(part).partition(":")[0] == part
    assert host_of_silence(lay.detail(part)) == ("a.example" if lay in (ALONE, REFUSED) else "")
