"""The variable that kills: only on a devnet, only at names that exist."""

from __future__ import annotations

import pytest

from challenger.errors import ConfigError
from challenger.store.crossing import VARIABLE, Moment, every_name, killer, names_of


def test_without_the_variable_there_is_no_hook() -> None:
    assert killer({}, embedded=True) is None
    assert killer({}, embedded=False) is None


@pytest.mark.parametrize("wanted", ["", "no-such-name", "fence#x", "fence#1@never", "fence@"])
def test_what_makes_no_sense_is_refused_in_one_line(wanted: str) -> None:
    if wanted == "fence@":
        assert killer({VARIABLE: wanted}, embedded=True) is not None
        return
    with pytest.raises(ConfigError) as caught:
        killer({VARIABLE: wanted}, embedded=True)
    assert "\n" not in str(caught.value)


def test_a_watcher_that_guards_money_cannot_be_told_to_die() -> None:
    with pytest.raises(ConfigError, match="devnet"):
        killer({VARIABLE: "tx:signed"}, embedded=False)


def test_the_hook_counts_its_own_crossings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    blows: list[int] = []
    monkeypatch.setattr("os.kill", lambda _pid, number: blows.append(number))
    hook = killer({VARIABLE: "tx:signed#2@before"}, embedded=True)
    assert hook is not None
    for moment in (Moment.BEFORE, Moment.AFTER):
        hook(("tx:signed",), moment)
        hook(("tx:sent",), moment)
    assert not blows
    hook(("work:observed", "tx:signed"), Moment.BEFORE)
    assert blows == [9]


def test_a_transaction_is_named_by_what_it_writes() -> None:
    entries = [("filing", '{"from":"confirmed"}'), ("tx-intent", "{}"), ("observed", "{}"), ("tx-intent", "{}")]
    names = names_of(entries, ["index:apply"])
    assert names == ("index:apply", "work:confirmed->filing", "tx:intent", "work:observed")
    assert set(names) <= every_name()
