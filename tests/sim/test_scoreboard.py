"""The scoreboard on histories written by hand: each thing it must notice, and each coin it must count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from challenger.chain.answers import RawLog
from challenger.chain.codec import Event
from challenger.domain import Address, BlockNumber, Hash32, Wei
from challenger.sim.report import judge
from challenger.sim.scoreboard import Label, Scoreboard, Truth, read_labels, score, write_labels
from tests.sim.watchman import Audited, Sight

ALICE, BOB, CAROL, WATCH = (Address("0x" + digit * 40) for digit in "abcd")
TIMES = {number: 1_000 + 12 * number for number in range(1, 400)}
BOND = Wei(1_000)


def event(block: int, name: str, **args: Any) -> Event:
    nowhere = Hash32(bytes(32))
    return Event(name, args, RawLog(Address("0x" + "e" * 40), (), b"", BlockNumber(block), nowhere, 0, nowhere))


def job(number: int) -> bytes:
    return bytes([number]) * 32


def committed(block: int, number: int, provider: Address = ALICE, fee: int = 7) -> list[Event]:
    opened = event(block, "TaskOpened", task=job(100 + number), model=b"m", requester=CAROL, fee=fee)
    ends = TIMES[block] + 3_600
    made = event(block, "Committed", job=job(number), task=job(100 + number), provider=provider, windowEnd=ends)
    return [opened, made]


def challenged(block: int, number: int, dispute: int, challenger: Address = WATCH) -> Event:
    return event(block, "Challenged", dispute=dispute, job=job(number), challenger=challenger, bond=50)


def won(block: int, number: int, dispute: int) -> list[Event]:
    closed = event(block, "JobClosed", job=job(number), status=2)
    return [closed, event(block, "Settled", dispute=dispute, job=job(number), outcome=1, paid=40, burnt=60)]


def labels(**truths: Truth) -> list[Label]:
    return [
        Label(job(int(name[1:])), job(100), ALICE, "alder", "digits", "honest", truth) for name, truth in truths.items()
    ]


def scored(events: list[Event], **truths: Truth) -> Scoreboard:
    return score(events, TIMES, labels(**truths), BOND)


def test_a_fraud_that_lost_a_dispute_is_caught_and_its_slack_is_measured() -> None:
    events = [*committed(1, 1), challenged(11, 1, 1), *won(15, 1, 1)]
    board = scored(events, j1=Truth.WRONG)
    assert (board.caught, board.missed, board.false) == ((job(1),), (), ())
    assert (board.slack_min, board.slack_median) == (3_600 - 120, 3_600 - 120)
    assert (board.money.slashed, board.money.bounties, board.money.fees_returned) == (100, 40, 7)


def test_a_fraud_that_nobody_challenged_is_missed_whether_it_is_final_or_still_open() -> None:
    events = [*committed(1, 1), *committed(1, 2), event(300, "JobClosed", job=job(1), status=1)]
    board = scored(events, j1=Truth.WRONG, j2=Truth.WRONG)
    assert board.missed == (job(1), job(2))
    assert board.money.fees_paid == 7


def test_slack_counts_from_the_window_as_it_stood_at_filing() -> None:
    longer = event(5, "WindowExtended", job=job(1), windowEnd=TIMES[1] + 9_000)
    board = scored([*committed(1, 1), longer, challenged(11, 1, 1)], j1=Truth.WRONG)
    assert board.slack == (9_000 - 120,)


def test_a_challenge_of_what_is_right_is_false_even_when_it_failed_or_the_data_was_withheld() -> None:
    lost = event(20, "Settled", dispute=1, job=job(1), outcome=2, paid=20, burnt=30)
    events = [*committed(1, 1), *committed(1, 2), challenged(9, 1, 1), lost, challenged(9, 2, 2)]
    board = scored(events, j1=Truth.HONEST, j2=Truth.WITHHELD)
    assert board.false == (job(1), job(2))
    assert board.money.bonds_lost == 50


def demanded(block: int, number: int, outcome: int) -> list[Event]:
    asked = event(block, "Demanded", demand=number, job=job(number), demander=WATCH, part=2, bond=5)
    paid, burnt = (45, 55) if outcome == 2 else (0, 0)
    ends = [event(block + 50, "JobClosed", job=job(number), status=2)] if outcome == 2 else []
    closed = event(block + 50, "DemandClosed", demand=number, job=job(number), outcome=outcome, paid=paid, burnt=burnt)
    return [asked, *ends, closed]


def test_a_withheld_output_ends_by_demand_and_an_honest_one_that_lost_a_demand_is_a_false_accusation() -> None:
    events = [*committed(1, 1), *committed(1, 2), *committed(1, 3), *demanded(5, 1, 2), *demanded(5, 2, 2)]
    events += demanded(5, 3, 1)
    board = scored(events, j1=Truth.WITHHELD, j2=Truth.HONEST, j3=Truth.HONEST)
    assert board.ended_by_demand == (job(1),)
    assert board.false == (job(2),)  # the answered demand of the third accused nobody
    assert board.money.slashed == 200


def test_the_same_challenger_twice_over_one_job_is_repeated_another_one_is_not() -> None:
    events = [*committed(1, 1), challenged(5, 1, 1), challenged(6, 1, 2, BOB), challenged(7, 1, 3)]
    assert scored(events, j1=Truth.WRONG).repeated == (job(1),)


def test_money_is_counted_for_each_party() -> None:
    events = [
        event(1, "ModelRegistered", model=b"m", registrar=CAROL),
        event(1, "Staked", provider=ALICE, amount=500),
        *committed(2, 1),
        challenged(5, 1, 1),
        event(6, "Credited", account=WATCH, amount=50),
        event(6, "Credited", account=WATCH, amount=40),
        *won(6, 1, 1),
        event(6, "Burnt", amount=60),
        event(7, "Withdrawn", account=WATCH, amount=90),
    ]
    board = scored(events, j1=Truth.WRONG)
    watch, alice, carol = (board.parties[one] for one in (WATCH, ALICE, CAROL))
    assert (watch.paid_in, watch.credited, watch.withdrawn, watch.bounties) == (50, 90, 90, 40)
    assert (alice.paid_in, alice.slashed, alice.fees) == (500, 100, 0)
    assert carol.paid_in == BOND + 7
    assert board.money.held == 1_000 + 500 + 7 + 50 - 60 - 90


def judged(board: Scoreboard, truths: dict[str, Truth], sights: list[Sight], *, every_one: bool = True) -> list[str]:
    report = judge(board, labels(**truths), sights, Audited(), every_one=every_one, market_holds=board.money.held)
    return list(report.broken)


def test_a_watcher_that_looked_and_did_not_see_breaks_the_report_one_that_did_not_look_does_not() -> None:
    truths = {"j1": Truth.WRONG}
    board = scored(committed(1, 1), **truths)
    assert "not caught" in judged(board, truths, [Sight(job(1), True, "FRAUD")])[0]
    assert not judged(board, truths, [Sight(job(1), False)], every_one=False)
    assert "not drawn" in judged(board, truths, [Sight(job(1), False)])[0]


def test_wrong_verdicts_break_the_report_even_where_nothing_was_filed() -> None:
    truths = {"j1": Truth.HONEST}
    board = scored(committed(1, 1), **truths)
    assert "fraudulent, which is right" in judged(board, truths, [Sight(job(1), True, "FRAUD")])[0]
    assert not judged(board, truths, [Sight(job(1), True, "VALID")])


def test_money_that_the_market_should_hold_and_does_not_breaks_the_report() -> None:
    board = scored(committed(1, 1), j1=Truth.HONEST)
    report = judge(
        board,
        labels(j1=Truth.HONEST),
        [Sight(job(1), True)],
        Audited(),
        every_one=True,
        market_holds=board.money.held - 1,
    )
    assert "should hold 7 wei and holds 6" in report.broken[0]


def test_sampling_that_does_not_hold_breaks_the_report() -> None:
    board = scored(committed(1, 1), j1=Truth.HONEST)
    audit = Audited(1, ("epoch 0: one was skipped",))
    report = judge(board, labels(j1=Truth.HONEST), [Sight(job(1), True)], audit, every_one=True, market_holds=7)
    assert report.broken == ("epoch 0: one was skipped",)


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    planted = labels(j1=Truth.WRONG, j2=Truth.WITHHELD)
    write_labels(tmp_path / "labels.json", planted, {"market": "0xaa"})
    assert read_labels(tmp_path / "labels.json") == ({"market": "0xaa"}, planted)
