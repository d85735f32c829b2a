from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from challenger.domain import ONE, BlockNumber, CommitmentId, Hash32, Millionths, State, Wei
from challenger.sampling.audit import Anchor, Drawn, check_epoch
from challenger.sampling.draw import Epoch, draw, selects
from challenger.sampling.economics import Stakes, deterrent_rate, expected_value
from challenger.sampling.policy import Inputs, Policy, rate

POLICY = Policy()
EPOCH = Epoch(3, BlockNumber(100), BlockNumber(200), 2, bytes(range(32)), POLICY.digest())
wei = st.integers(0, 10**24).map(Wei)
rates = st.integers(0, ONE).map(Millionths)


@given(wei, wei, rates, rates)
@settings(deadline=None)
def test_the_deterrent_rate_makes_cheating_unprofitable_and_is_the_lowest_that_does(gain, burnt, q, margin):
    p = deterrent_rate(gain, burnt, q, margin)
    if p < ONE:
        assert p * burnt * q >= gain * (ONE + margin) * ONE
    if p > 0 and burnt and q:
        assert (p - 1) * burnt * q < gain * (ONE + margin) * ONE


@given(wei, wei, wei, rates, rates)
@settings(deadline=None)
def test_expected_value_agrees_with_its_formula_in_rationals(bond, reward, gas, win, certainty):
    from fractions import Fraction

    chance = Fraction(win * certainty, ONE * ONE)
    exact = chance * reward - (1 - chance) * bond - gas
    assert expected_value(Stakes(bond, reward, gas, win), certainty) == math.floor(exact)


@given(st.integers(0, 1000), st.integers(0, 3), wei, wei)
@settings(deadline=None)
def test_the_rate_never_falls_below_base_or_deterrence(sampled, frauds, fee, burnt):
    p = rate(POLICY, Inputs(sampled, frauds, fee, burnt))
    assert POLICY.base <= p <= ONE
    assert p >= deterrent_rate(fee, burnt, POLICY.detection, POLICY.margin)
    if frauds:
        assert p == ONE


def test_newcomers_are_looked_at_more_often():
    small = Wei(10**9), Wei(10**18)
    assert rate(POLICY, Inputs(0, 0, *small)) == POLICY.newcomer
    assert rate(POLICY, Inputs(POLICY.trusted_after, 0, *small)) == POLICY.base


def test_selection_at_the_ends_of_the_range():
    top = (1 << 256) - 1
    assert not selects(0, Millionths(0))
    assert selects(top, ONE)
    assert selects(0, Millionths(1))
    assert not selects(top, Millionths(999_999))


def test_the_draw_is_the_named_hmac():
    # computed with: openssl dgst -sha256 -mac HMAC -macopt hexkey:00..1f over 64 bytes of 0x11, 0x22
    import hashlib
    import hmac

    identity, block = CommitmentId(b"\x11" * 32), Hash32(b"\x22" * 32)
    want = hmac.digest(EPOCH.secret, identity + block, hashlib.sha256)
    assert draw(EPOCH.secret, identity, block) == int.from_bytes(want, "big")


def test_the_share_drawn_is_the_rate():
    p, n = Millionths(100_000), 20_000
    hits = sum(selects(draw(EPOCH.secret, CommitmentId(i.to_bytes(32, "big")), Hash32(bytes(32))), p) for i in range(n))
    assert abs(hits - n * 0.1) < 5 * math.sqrt(n * 0.1 * 0.9)  # deterministic: fixed secret


def test_a_commitment_binds_secret_delay_policy_and_number():
    seen = {
        EPOCH.commitment(),
        replace(EPOCH, secret=bytes(32)).commitment(),
        replace(EPOCH, delay=3).commitment(),
        replace(EPOCH, policy_digest=bytes(32)).commitment(),
        replace(EPOCH, number=4).commitment(),
    }
    assert len(seen) == 5


def honest_record(n: int = 40):
    on_chain, rows, hashes = {}, [], {}
    for i in range(n):
        identity, block = CommitmentId(i.to_bytes(32, "big")), BlockNumber(100 + i)
        inputs = Inputs(i, 0, Wei(10**9), Wei(10**18))
        p, at = rate(POLICY, inputs), EPOCH.draw_block(block)
        hashes[at] = Hash32(at.to_bytes(32, "little"))
        chosen = selects(draw(EPOCH.secret, identity, hashes[at]), p)
        state = State.REPLAYED if chosen else State.SKIPPED
        on_chain[identity] = block
        rows.append(Drawn(identity, block, inputs, p, at, hashes[at], chosen, state, frozenset({i} if chosen else ())))
    return on_chain, rows, hashes


def audit(on_chain, rows, hashes, *, epoch=EPOCH, policy=POLICY, anchor=True):
    found = Anchor(EPOCH.commitment(), BlockNumber(90)) if anchor else None
    return check_epoch(epoch, policy, EPOCH.commitment(), on_chain, rows, hashes, found)


def test_an_honest_epoch_holds():
    report = audit(*honest_record())
    assert report.holds
    assert report.anchored
    assert report.commitments == 40
    assert 0 < report.selected < 40
    assert not report.notes


def test_without_an_anchor_it_says_so():
    report = audit(*honest_record(), anchor=False)
    assert report.holds
    assert not report.anchored
    assert any("unanchored" in note for note in report.notes)


def flip(row):
    return replace(row, selected=not row.selected)


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda c, r, h: r.__setitem__(5, flip(r[5])), "against the draw"),
        (lambda c, r, h: r.pop(7), "never recorded"),
        (lambda c, r, h: r.__setitem__(9, replace(r[9], p=Millionths(1))), "not the policy's"),
        (lambda c, r, h: r.__setitem__(9, replace(r[9], draw_block=BlockNumber(1))), "promised was"),
        (lambda c, r, h: h.__setitem__(r[3].draw_block, Hash32(b"x" * 32)), "not the draw block's"),
        (lambda c, r, h: c.pop(r[2].commitment), "not on chain"),
        (lambda c, r, h: r.__setitem__(4, replace(r[4], block=BlockNumber(150))), "on chain in block"),
        (lambda c, r, h: r.__setitem__(4, replace(r[4], inputs=None)), "without recorded"),
    ],
)
def test_each_tampering_is_named(tamper, says):
    on_chain, rows, hashes = honest_record()
    tamper(on_chain, rows, hashes)
    report = audit(on_chain, rows, hashes)
    assert not report.holds
    assert any(says in finding.what for finding in report.findings)


def test_a_drawn_commitment_may_not_be_skipped_nor_an_undrawn_one_replayed():
    on_chain, rows, hashes = honest_record()
    rows = [replace(row, state=State.SKIPPED, judged=frozenset({1})) for row in rows]
    what = {finding.what for finding in audit(on_chain, rows, hashes).findings}
    assert what == {"drawn, yet skipped", "replayed although it was not drawn"}


def test_another_secret_or_policy_is_found_out():
    record = honest_record()
    assert not audit(*record, epoch=replace(EPOCH, secret=b"z" * 32)).holds
    assert not audit(*record, policy=Policy(base=Millionths(1))).holds


def test_a_late_anchor_is_counted():
    on_chain, rows, hashes = honest_record()
    report = check_epoch(
        EPOCH, POLICY, EPOCH.commitment(), on_chain, rows, hashes, Anchor(EPOCH.commitment(), BlockNumber(110))
    )
    assert report.holds
    assert report.before_anchor == 9
