"""Histories made by hand, for plays whose end one can work out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256

from challenger.backtest.choices import Choice, choices
from challenger.backtest.past import History, Past, Truth
from challenger.domain import Address, BlockNumber, CommitmentId, ModelId, UnixTime, Wei
from challenger.pipeline.learned import ENOUGH, Course, Predictions, action_of
from challenger.protocols.reference_views import Params
from challenger.settings import Settings

WINDOW, BLOCK, START = 3_600, 12, 1_700_000_000
MODEL = ModelId(sha256(b"model").digest())
PARAMS = Params(
    window=WINDOW,
    answer_period=900,
    seal_age=2,
    max_seal_age=200,
    max_disputes=8,
    job_collateral=Wei(10**18),
    model_bond=Wei(10**17),
    challenge_bond=Wei(10**17),
    demand_bond=Wei(10**16),
    bounty=500_000,  # type: ignore[arg-type]
    max_inline=4_096,
    adjudicator=Address("0x" + "43" * 20),
)
BACKENDS = ("torch", "numpy")
DRAW_ALL = "all:base=1000000,correlated_providers=1000"


def past(number: int, at: int, truth: Truth = Truth.RIGHT, provider: int = 1, rival: int | None = None) -> Past:
    """The ``number``-th commitment, ``at`` seconds after the start; ``rival`` likewise."""
    return Past(
        CommitmentId(sha256(b"job %d" % number).digest()),
        MODEL,
        Address(f"0x{provider:040x}"),
        Wei(0),
        UnixTime(START + at),
        UnixTime(START + at + WINDOW),
        truth,
        None if rival is None else UnixTime(START + rival),
    )


def history(pasts: Sequence[Past], replay: float = 10.0, confirm: float = 30.0) -> History:
    """In which a transaction takes one block, and none is doubted."""
    samples = {
        action_of("replay", MODEL, BACKENDS[0]): (ENOUGH, replay),
        action_of("confirm", MODEL, BACKENDS[1]): (ENOUGH, confirm),
        "inclusion": (ENOUGH, float(BLOCK)),
        "depth": (ENOUGH, 0.0),
    }
    predicted = Predictions(Course(2, 2, 0), BACKENDS, samples, float(BLOCK))
    ordered = sorted(pasts, key=lambda one: one.committed_at)
    return History("by hand", BlockNumber(0), BlockNumber(len(ordered)), PARAMS, predicted, ordered, 0)


def choice(text: str = DRAW_ALL, settings: Settings | None = None) -> Choice:
    given = settings or Settings()
    given = replace(given, replay=replace(given.replay, retry_seconds=60))
    return choices(given, [text])[1]
