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


def test_its_own_other_addresses_and_other_silent_hosts_are_no_witnesses() -> None:
    routes = Routes()
    routes.silent(A)
    routes.answered("https://user:word@A.example/other")
    assert routes.silent(A) == "", "it answered meanwhile: this is the first failure again"
    routes.silent(B)
    assert routes.silent(A) == ""


def test_hosts_without_number_do_not_fill_the_memory() -> None:
    routes = Routes()
    for number in range(5_000):
        routes.silent(f"https://{number}.example/")
        routes.answered(f"https://x{number}.example/")
    assert routes.silent("https://4999.example/") == "x4999.example"
    assert routes.silent("https://0.example/") == "", "forgotten, and so it is the first time"
