"""Whether others answered while a host was silent."""

from __future__ import annotations

from replay.artifacts import Routes

A, B, C = "https://a.example/1", "https://b.example/2", "http://c.example:8080/3"


def test_silence_is_the_hosts_where_another_answered_between_two_of_its_failures() -> None:
    routes = Routes()
    routes.answered(B)
    assert routes.silent(A) == "", "what was before says nothing of now"
    assert routes.silent(A) == ""
    routes.answered(C)
    assert routes.silent(A) == "c.example:8080"
    assert routes.silent(A) == "", "once for each answer"


def test_its_host_at_another_address_is_a_witness_and_other_silent_ones_are_none() -> None:
    routes = Routes()
    routes.silent(A)
    routes.answered("https://user:word@A.example/other")
    assert routes.silent(A) == "a.example", "it keeps this one back"
    routes.silent(B)
    assert routes.silent(A) == ""
    routes.answered(A)
    routes.answered(C)
    assert routes.silent(A) == "", "it was there meanwhile: this is the first failure again"


def test_hosts_without_number_do_not_fill_the_memory() -> None:
    routes = Routes()
    for number in range(5_000):
        routes.silent(f"https://{number}.example/")
        routes.answered(f"https://x{number}.example/")
    assert routes.silent("https://4999.example/") == "x4999.example"
    assert routes.silent("https://0.example/") == "", "forgotten, and so it is the first time"


def test_a_witness_answered_before_is_another_host_and_each_has_its_turn() -> None:
    routes = Routes()
    assert routes.another(A) == ""
    routes.answered(A)
    assert routes.another("https://a.example/2") == ""
    routes.answered(B)
    routes.answered("http://c.example:8080/2")
    routes.answered(C)
    assert {routes.another(A) for _ in range(4)} == {B, C}
    routes.silent("http://c.example:8080/lost")
    assert {routes.another(A) for _ in range(4)} == {B, C}, "what was lost once, and never asked for again, bars nobody"
    routes.failed(C)
    assert {routes.another(A) for _ in range(4)} == {B}
    routes.failed(B)
    assert {routes.another(A) for _ in range(4)} == {C}, "it may have been our line that failed, and be well by now"
    routes.failed(C)
    assert {routes.another(A) for _ in range(4)} == {B}
    routes.answered(C)
    assert {routes.another(A) for _ in range(4)} == {C}
    routes.answered(B)
    assert {routes.another(A) for _ in range(4)} == {B, C}


def test_many_that_answer_once_are_no_more_than_their_number_among_the_witnesses() -> None:
    routes = Routes()
    for number in range(50):
        routes.answered(f"https://{number}.example/")
    for number in range(16):
        routes.answered(f"https://{number}.evil/")
    assert len({routes.another(A) for _ in range(66)}) == 66
