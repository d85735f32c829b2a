"""The proof of a block's logs: py-evm's own roots and headers are met, and whatever is altered, left out or moved is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import trie as reference_trie
from chain_echo import deploy_echo, mined, sign, topic
from eth.vm.forks.prague.blocks import PragueBlockHeader
from hypothesis import given
from hypothesis import strategies as st
from rlp import encode

from challenger.chain import wire
from challenger.chain.devnet.base import Devnet
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.receipts import Header, at_once, header_hash, may_hold, parse_header, prove, proven_logs
from challenger.chain.rpc import Rpc
from challenger.chain.trie import branch, followed, integer, ordered_root, rlp
from challenger.domain import Block, BlockNumber, Hash32, UnixTime
from challenger.errors import EndpointError, RpcError, Unproven

items = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=12)


@given(items)
def test_rlp_is_that_of_the_rlp_library(item: Any):
    assert rlp(item) == encode(item)


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=40))
def test_the_root_is_that_of_the_trie_library(values: list[bytes]):
    tree = reference_trie.HexaryTrie({})
    for index, value in enumerate(values):
        tree[encode(index)] = value
    assert ordered_root(values) == tree.root_hash


@pytest.mark.parametrize("count", [127, 128, 129, 255, 256, 257, 400])
def test_roots_at_the_edges_of_the_keys(count: int):
    values = [integer(index + 1) * (index % 40 + 1) for index in range(count)]
    tree = reference_trie.HexaryTrie({})
    for index, value in enumerate(values):
        tree[encode(index)] = value
    assert ordered_root(values) == tree.root_hash


@given(st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=300), st.data())
def test_a_branch_leads_to_its_value_and_to_no_other(values: list[bytes], data: st.DataObject):
    root, index = ordered_root(values), data.draw(st.integers(0, len(values) - 1))
    nodes = branch(values, index)
    assert followed(root, index, nodes) == values[index]
    other, at = data.draw(st.integers(0, 400)), data.draw(st.integers(0, len(nodes) - 1))
    try:  # values that are short share the node that holds them
        assert followed(root, other, nodes) == values[other]
    except ValueError:
        assert other != index
    byte = data.draw(st.integers(0, len(nodes[at]) - 1))
    altered = nodes[at][:byte] + bytes([nodes[at][byte] ^ 1]) + nodes[at][byte + 1 :]
    for way in (nodes[:at], [*nodes, nodes[-1]], [*nodes[:at], altered, *nodes[at + 1 :]]):
        with pytest.raises(ValueError, match="proof"):
            followed(root, index, way)


def sized(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


numbers = st.integers(0, 2**63 - 1)


@given(
    difficulty=st.integers(0, 2**255), block_number=numbers, gas_limit=numbers, gas_used=numbers, timestamp=numbers,
    coinbase=sized(20), parent_hash=sized(32), uncles_hash=sized(32), state_root=sized(32), transaction_root=sized(32),
    receipt_root=sized(32), bloom=st.integers(0, 2**2048 - 1), extra_data=st.binary(max_size=32), mix_hash=sized(32),
    nonce=sized(8), base_fee_per_gas=numbers, withdrawals_root=sized(32), blob_gas_used=numbers,
    excess_blob_gas=numbers, parent_beacon_block_root=sized(32), requests_hash=sized(32),
)  # fmt: skip
def test_the_header_hash_is_that_of_py_evm(**fields: Any):
    header = PragueBlockHeader(**fields)
    renamed = {
        "parent_hash": "parentHash", "uncles_hash": "sha3Uncles", "coinbase": "miner", "state_root": "stateRoot",
        "transaction_root": "transactionsRoot", "receipt_root": "receiptsRoot", "block_number": "number",
        "gas_limit": "gasLimit", "gas_used": "gasUsed", "extra_data": "extraData", "mix_hash": "mixHash",
        "base_fee_per_gas": "baseFeePerGas", "withdrawals_root": "withdrawalsRoot", "blob_gas_used": "blobGasUsed",
        "excess_blob_gas": "excessBlobGas", "parent_beacon_block_root": "parentBeaconBlockRoot",
        "requests_hash": "requestsHash",
    }  # fmt: skip
    answer = {renamed.get(k, k): hex(v) if isinstance(v, int) else wire.to_hex(v) for k, v in fields.items()}
    answer["logsBloom"] = wire.to_hex(answer.pop("bloom") and fields["bloom"].to_bytes(256, "big"))
    assert header_hash(answer) == header.hash


async def busy(devnet: Devnet) -> tuple[Any, str]:
    """A block of five transactions with and without logs, of types 0, 1 and 2, one of which reverts; and the emitter."""
    echo = await deploy_echo(devnet, devnet.accounts[0])
    await devnet.automine(False)
    old = {"type": 0, "gasPrice": 20 * 10**9, "maxFeePerGas": None, "maxPriorityFeePerGas": None}
    kinds: list[dict[str, Any]] = [{}, old, old | {"type": 1, "accessList": []}, {}, {}]
    words = [topic("a") + b"one", topic("a"), topic("b") + bytes(100), bytes(32) + b"no", b""]
    raws = []
    for account, kind, word in zip(devnet.accounts[1:], kinds, words, strict=False):
        raw = sign_as(account, kind, echo if word else account.address, word)
        raws.append(await devnet.rpc.send_raw(raw))
    await devnet.mine()
    receipt = await devnet.rpc.receipt(raws[0])
    assert receipt is not None
    return await devnet.rpc.block(receipt.block), echo


def sign_as(account: Any, kind: dict[str, Any], to: str, data: bytes) -> bytes:
    from chain_echo import CHAIN_ID, EthAccount, to_checksum_address

    if not kind:
        return sign(account, 0, to, data)
    tx = {"chainId": CHAIN_ID, "nonce": 0, "to": to_checksum_address(to), "data": data, "value": 0, "gas": 200_000}
    tx |= {name: value for name, value in kind.items() if value is not None and (name, value) != ("type", 0)}
    return bytes(EthAccount.sign_transaction(tx, account.key).raw_transaction)


async def test_every_devnet_serves_blocks_that_prove_their_logs(devnet: Devnet):
    block, echo = await busy(devnet)
    logs = await prove(devnet.rpc, block)
    assert logs == await devnet.rpc.logs_in([echo], [block])
    assert len(logs) == 3
    answer = await devnet.rpc.ask("eth_getBlockByNumber", hex(block.number), False)
    assert parse_header(answer).bound
    bloom = parse_header(answer).bloom
    assert may_hold(bloom, [echo], [topic("a")])
    assert not may_hold(bloom, [echo], [topic("never said")])
    assert not may_hold(bloom, [devnet.accounts[19].address], [topic("a")])


async def test_empty_blocks_are_proven_empty(devnet: Devnet):
    await mined(devnet, sign(devnet.accounts[0], 0, devnet.accounts[1].address))
    await devnet.mine()
    assert await prove(devnet.rpc, await devnet.rpc.block("latest")) == []
    assert await prove(devnet.rpc, await devnet.rpc.block(1)) == []


class Changed:
    """An endpoint whose answers to some methods are changed on their way."""

    def __init__(self, inner: Any, **changes: Any) -> None:
        self.inner = inner
        self.changes = changes

    async def make_request(self, method: Any, params: Any) -> Any:
        answer = copy.deepcopy(await self.inner.make_request(method, params))
        change = self.changes.get(method)
        if change is not None:
            answer = change(answer)
        return answer


def without_block_receipts(_answer: Any) -> Any:
    return {"error": {"code": -32601, "message": "the method eth_getBlockReceipts does not exist"}}


async def test_receipts_one_by_one_prove_the_same(embedded: EmbeddedDevnet):
    block, echo = await busy(embedded)
    plain = Rpc(Changed(embedded.provider, eth_getBlockReceipts=without_block_receipts), attempts=1)
    assert await prove(plain, block) == await embedded.rpc.logs_in([echo], [block])
    with pytest.raises(RpcError):
        await prove(plain, block, at_once)


def drop_log(result: list[Any]) -> None:
    result[0]["logs"].clear()


def alter_data(result: list[Any]) -> None:
    result[0]["logs"][0]["data"] = "0x00"


def alter_emitter(result: list[Any]) -> None:
    result[0]["logs"][0]["address"] = "0x" + "77" * 20


def alter_status(result: list[Any]) -> None:
    result[3]["status"] = "0x1"


def alter_gas(result: list[Any]) -> None:
    result[0]["cumulativeGasUsed"] = "0x1"


def alter_type(result: list[Any]) -> None:
    result[0]["type"] = "0x1"


def drop_receipt(result: list[Any]) -> None:
    del result[4]


def swap(result: list[Any]) -> None:
    result[3], result[4] = result[4], result[3]


def renumber(result: list[Any]) -> None:
    result[0]["logs"][0]["logIndex"] = "0x7"


@pytest.mark.parametrize(
    "spoil",
    [drop_log, alter_data, alter_emitter, alter_status, alter_gas, alter_type, drop_receipt, swap, renumber],
)
async def test_whatever_is_changed_in_the_receipts_shows(embedded: EmbeddedDevnet, spoil: Any):
    block, _ = await busy(embedded)

    def change(answer: Any) -> Any:
        spoil(answer["result"])
        return answer

    with pytest.raises(Unproven):
        await prove(Rpc(Changed(embedded.provider, eth_getBlockReceipts=change), attempts=1), block)


@pytest.mark.parametrize("field", ["receiptsRoot", "logsBloom", "stateRoot", "gasUsed", "extraData", "requestsHash"])
async def test_whatever_is_changed_in_the_header_shows(embedded: EmbeddedDevnet, field: str):
    block, _ = await busy(embedded)

    def change(answer: Any) -> Any:
        text = answer["result"][field]
        answer["result"][field] = text[:-1] + ("1" if text[-1] != "1" else "2") if text != "0x" else "0x01"
        return answer

    with pytest.raises(Unproven, match="header"):
        await prove(Rpc(Changed(embedded.provider, eth_getBlockByHash=change), attempts=1), block)


@given(st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda i: st.lists(i) | st.dictionaries(st.sampled_from(["logs", "type", "status"]), i)))  # fmt: skip
def test_nonsense_instead_of_receipts_is_refused(answer: Any):
    block = Block(BlockNumber(1), Hash32(bytes(32)), Hash32(bytes(32)), UnixTime(1))
    with pytest.raises(ValueError):
        proven_logs(Header(block, bound=True, bloom=bytes(256), receipts_root=bytes(32), transactions=()), answer)


async def test_an_endpoint_without_the_block_says_so(embedded: EmbeddedDevnet):
    await embedded.mine()
    lost = await embedded.rpc.block("latest")
    await embedded.reorg(1)
    with pytest.raises(EndpointError):
        await prove(embedded.rpc, lost)
