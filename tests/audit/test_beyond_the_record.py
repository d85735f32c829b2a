"""The audit of sampling where record and endpoint do not end at the same block: a watcher that is running, or stopped."""

from __future__ import annotations

from typing import Any

from drawing import AT, DELAY, Watch, said, watch
from sqlalchemy import update

from challenger.audit.sampling import audit_epoch
from challenger.sampling.audit import Report
from challenger.store.schema import cursors
from tests.store.chains import block, chain, committed

LAST = AT + DELAY


async def asked(one: Watch) -> Report:
    async with one.store.read() as view:
        row = await view.epochs.get(0)
        assert row is not None
        return await audit_epoch(view, row, "", one.served, one.served)


def grown(one: Watch, *names: Any) -> None:
    """As many blocks more as there are names, with a commitment in each that has one."""
    more = chain(LAST + 1, LAST + len(names), one.blocks[-1])
    events = [committed(where, name) for where, name in zip(more, names, strict=True) if name is not None]
    one.served.__init__([*one.blocks, *more], [one.event, *events])  # type: ignore[misc]


async def test_what_was_committed_after_the_record_was_read_is_not_held_against_it(tmp_path: Any) -> None:
    async with watch(tmp_path) as one:
        grown(one, "later", None)
        report = await asked(one)
        assert said(report) == []
        assert report.commitments == 1
        note = (
            f"the record ends at block {LAST} and the chain at {LAST + 2}: what was committed between is not looked at"
        )
        assert note in report.notes
        grown(one)
        assert not any("the record ends" in note for note in (await asked(one)).notes)


async def test_what_was_committed_before_that_is(tmp_path: Any) -> None:
    async with watch(tmp_path) as one:
        one.served.shown.append(committed(one.blocks[-1], "never indexed"))
        assert said(await asked(one)) == ["on chain in this epoch, yet never recorded"]


async def test_a_cursor_set_back_hides_nothing_below_what_is_recorded(tmp_path: Any) -> None:

    async with watch(tmp_path) as one:
        one.served.shown.append(committed(one.blocks[AT - 2], "never indexed"))
        async with one.store.begin(0) as unit:  # type: ignore[arg-type]
            await unit.connection.execute(update(cursors).values(block=1))
        assert said(await asked(one)) == ["on chain in this epoch, yet never recorded"]


async def test_an_endpoint_that_lags_condemns_nobody(tmp_path: Any) -> None:
    async with watch(tmp_path) as one:
        one.served.__init__(one.blocks[: AT - 2], [])  # type: ignore[misc]
        report = await asked(one)
        assert said(report) == []
        note = f"the endpoint's chain ends at block {AT - 2}, before the record: 1 commitments are not looked at"
        assert note in report.notes


async def test_a_reorganisation_that_the_watcher_has_not_followed_yet_is_named(tmp_path: Any) -> None:
    async with watch(tmp_path) as one:
        one.served.canonical[LAST] = block(LAST, one.blocks[-2], fork="b")
        report = await asked(one)
        assert (
            f"block {LAST}, the record's last, is not the chain's: the watcher has not followed that reorganisation yet"
            in (report.notes)
        )
