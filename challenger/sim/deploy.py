"""Puts the reference protocol on a chain: adjudicator, market, and the notebook for sampling secrets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from challenger.chain.codec import encode_deploy
from challenger.chain.rpc import Rpc
from challenger.contracts import artifact
from challenger.domain import Address, BlockNumber, ChainId, Wei
from challenger.sim.wallet import Wallet

_MILLI = 10**15


@dataclass(frozen=True, slots=True)
class MarketParams:
    """The market's rules (``MarketTypes.sol``) and the bench's. Seconds, blocks, wei. The burnt half of a collateral is
    what makes cheating unprofitable even for a provider that challenges itself."""

    window: int = 3_600
    answer_period: int = 600
    seal_age: int = 1
    max_seal_age: int = 50
    max_disputes: int = 3
    job_collateral: Wei = Wei(100 * _MILLI)
    model_bond: Wei = Wei(1_000 * _MILLI)
    challenge_bond: Wei = Wei(50 * _MILLI)
    demand_bond: Wei = Wei(5 * _MILLI)
    bounty_millionths: int = 500_000
    max_inline: int = 16_384
    quorum: int = 2
    ruling_period: int = 1_800


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where the contracts stand. ``start_block`` is the first that holds any of their logs."""

    chain: ChainId
    market: Address
    adjudicator: Address
    anchor: Address
    start_block: BlockNumber
    params: MarketParams


async def deploy(rpc: Rpc, wallet: Wallet, signers: Sequence[Address], params: MarketParams) -> Deployment:
    """Deploys all three from ``wallet``; ``signers`` (any order) judge disputes, ``params.quorum`` of them at a time."""
    bench = artifact("SignerAdjudicator")
    ascending = sorted(signers, key=lambda one: int(one, 16))
    code = encode_deploy(bench.bytecode, bench.abi, [ascending, params.quorum, params.ruling_period])
    adjudicator, first = await wallet.create(code)
    rules = {
        "window": params.window,
        "answerPeriod": params.answer_period,
        "sealAge": params.seal_age,
        "maxSealAge": params.max_seal_age,
        "maxDisputes": params.max_disputes,
        "jobCollateral": params.job_collateral,
        "modelBond": params.model_bond,
        "challengeBond": params.challenge_bond,
        "demandBond": params.demand_bond,
        "bountyMillionths": params.bounty_millionths,
        "maxInline": params.max_inline,
        "adjudicator": adjudicator,
    }
    source = artifact("InferenceMarket")
    market, _ = await wallet.create(encode_deploy(source.bytecode, source.abi, [rules]))
    anchor, _ = await wallet.create(artifact("EpochAnchor").bytecode)
    return Deployment(await rpc.chain_id(), market, adjudicator, anchor, first.block, params)
