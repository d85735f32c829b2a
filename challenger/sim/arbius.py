"""Puts the Arbius double on a chain, and its people to work: requesters, solvers, validators who vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from challenger.chain.codec import encode_args, encode_deploy
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.contracts import double
from challenger.domain import Address, BlockNumber, Call, ChainId, Hash32, ModelId, TaskId, Wei
from challenger.protocols.arbius.calls import EngineCalls, commitment_of, model_id
from challenger.protocols.arbius.cid import input_cid
from challenger.protocols.arbius.logs import EngineLogs
from challenger.sim.wallet import GAS, Wallet

TOKEN = 10**18
#: What lies in the engine at the start, of a million: the rest is in circulation and makes slash and stakes.
IN_ENGINE = 597_000 * TOKEN
#: What each validator stakes: several slashes above the least, in every generation.
STAKE = 20 * TOKEN
TEMPLATE = b'{"meta":{"title":"a model"},"input":[{"variable":"prompt","type":"string"}]}'


@dataclass(frozen=True, slots=True)
class ArbiusDeployment:
    """``registry``: of master contesters, None before generation 6."""

    chain: ChainId
    engine: Address
    token: Address
    registry: Address | None
    start_block: BlockNumber
    generation: int


async def deploy_arbius(rpc: Rpc, wallet: Wallet, generation: int) -> ArbiusDeployment:
    """Token, engine and, from generation 6 on, the registry; ``wallet`` owns them and holds what tokens the engine has not."""
    token, first = await wallet.create(double("ArbiusToken").bytecode)
    source = double("ArbiusEngine")
    engine, _ = await wallet.create(encode_deploy(source.bytecode, source.abi, [token, generation]))
    await wallet.transact(transfer(token, engine, IN_ENGINE))
    registry = None
    if generation == 6:
        registry, _ = await wallet.create(double("ArbiusContesters").bytecode)
        await wallet.transact(plain(engine, "setMasterContesterRegistry", ("address", registry)))
    return ArbiusDeployment(await rpc.chain_id(), engine, token, registry, first.block, generation)


def plain(to: Address, name: str, *args: tuple[str, object]) -> Call:
    """A call of ``name`` with arguments of value types, each with its type."""
    selector = keccak(f"{name}({','.join(kind for kind, _ in args)})".encode())[:4]
    return Call(to, selector + encode_args([{"type": kind} for kind, _ in args], [value for _, value in args]), Wei(0))


def transfer(token: Address, to: Address, amount: int) -> Call:
    return plain(token, "transfer", ("address", to), ("uint256", amount))


def approve(token: Address, spender: Address) -> Call:
    return plain(token, "approve", ("address", spender), ("uint256", 2**256 - 1))


def elect(registry: Address, contester: Address) -> Call:
    return plain(registry, "emergencyAddMasterContester", ("address", contester))


async def fund(owner: Wallet, there: ArbiusDeployment, wallets: Sequence[Wallet], stake: int = STAKE) -> None:
    """Gives each of ``wallets`` tokens and makes it a validator with ``stake`` units; none with 0."""
    calls = EngineCalls(there.engine)
    for wallet in wallets:
        if wallet is not owner:
            await owner.transact(transfer(there.token, wallet.address, stake + 100 * TOKEN))
        await wallet.transact(approve(there.token, there.engine))
        if stake:
            await wallet.transact(calls.deposit(wallet.address, stake))


async def register(wallet: Wallet, there: ArbiusDeployment, template: bytes = TEMPLATE) -> ModelId:
    """A model that costs nothing beyond what a task offers."""
    await wallet.transact(EngineCalls(there.engine).register_model(wallet.address, 0, template))
    return model_id(wallet.address, wallet.address, 0, input_cid(template))


async def order(
    wallet: Wallet, there: ArbiusDeployment, model: ModelId, data: bytes, *, fee: int = TOKEN, count: int = 1
) -> list[TaskId]:
    """Submits ``count`` tasks with one input, in one transaction."""
    calls = EngineCalls(there.engine)
    single = calls.submit_task(wallet.address, model, fee, data)
    call = single if count == 1 else calls.submit_tasks(wallet.address, model, fee, data, count)
    receipt = await wallet.settled(await wallet.send(call, _gas(count)), call)
    submitted = EngineLogs(there.engine).topic("TaskSubmitted")
    return [TaskId(log.topics[1]) for log in receipt.logs if log.topics[:1] == (submitted,)]


async def solve(wallet: Wallet, there: ArbiusDeployment, tasks: Sequence[TaskId], cids: Sequence[bytes]) -> Hash32:
    """Signals in one block each and submits in a later one; the transaction that submitted."""
    calls = EngineCalls(there.engine)
    for task, cid in zip(tasks, cids, strict=True):
        await wallet.transact(calls.signal(commitment_of(wallet.address, task, cid)))
    call = calls.solve(tasks[0], cids[0]) if len(tasks) == 1 else calls.solve_all(tasks, cids)
    return (await wallet.settled(await wallet.send(call, _gas(len(tasks))), call)).tx_hash


def _gas(count: int) -> int:
    """Enough for so many tasks or solutions in one transaction."""
    return GAS + 250_000 * count
