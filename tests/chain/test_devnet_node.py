"""What only our own devnet promises: geth's pool rules, determinism, limits, and an answer to every request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from chain_echo import deploy_echo, sign, topic
from hypothesis import example, given
from hypothesis import strategies as st
from web3 import AsyncWeb3

from challenger.chain.codec import encode_call
from challenger.chain.devnet.base import ETHER, accounts
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.methods import Methods
from challenger.chain.devnet.node import Node, Options
from challenger.chain.devnet.served import RemoteDevnet, ServedDevnet, serve
from challenger.chain.endpoint import connect
from challenger.errors import ConfigError, RangeTooLarge, Reverted, RpcError

SOMEONE = "0x" + "11" * 20
GWEI = 10**9


async def test_a_replacement_raises_both_fees_by_a_tenth(embedded: EmbeddedDevnet):
    sender, rpc = embedded.accounts[0], embedded.rpc
    await embedded.automine(False)
    await rpc.send_raw(sign(sender, 0, SOMEONE))
    for fee, tip in [
        (20 * GWEI, 2 * GWEI),
        (30 * GWEI, GWEI),
        (22 * GWEI - 1, 2 * GWEI),
        (22 * GWEI, 11 * GWEI // 10 - 1),
    ]:
        with pytest.raises(RpcError, match="replacement transaction underpriced"):
            await rpc.send_raw(sign(sender, 0, SOMEONE, value=1, maxFeePerGas=fee, maxPriorityFeePerGas=tip))
    await rpc.send_raw(sign(sender, 0, SOMEONE, maxFeePerGas=22 * GWEI, maxPriorityFeePerGas=11 * GWEI // 10))


async def test_a_fee_below_the_base_fee_waits_for_cheaper_blocks(embedded: EmbeddedDevnet):
    rpc = embedded.rpc
    base = (await rpc.fee_history(1)).base_fees[-1]
    cheap = await rpc.send_raw(sign(embedded.accounts[0], 0, SOMEONE, maxFeePerGas=base // 2, maxPriorityFeePerGas=1))
    stuck = await rpc.send_raw(sign(embedded.accounts[0], 1, SOMEONE))  # behind it
    await embedded.mine()
    assert (await rpc.receipt(cheap), await rpc.receipt(stuck)) == (None, None)
    await embedded.mine(12)  # empty blocks lower the base fee by an eighth each
    assert await rpc.receipt(cheap) is not None
    assert await rpc.receipt(stuck) is not None


async def test_the_higher_tip_goes_first_and_a_full_block_leaves_the_rest():
    async with EmbeddedDevnet(options=Options(gas_limit=75_000)) as devnet:
        rpc = devnet.rpc
        await devnet.automine(False)
        tips = [1, 5, 3, 4, 2]
        hashes = [
            await rpc.send_raw(sign(account, 0, SOMEONE, gas=30_000, maxPriorityFeePerGas=tip * GWEI))
            for account, tip in zip(devnet.accounts, tips, strict=False)
        ]
        await devnet.mine()
        mined = [tip for one, tip in zip(hashes, tips, strict=True) if await rpc.receipt(one)]
        assert sorted(mined) == [3, 4, 5]
        await devnet.mine()
        assert all([await rpc.receipt(one) for one in hashes])


async def test_a_dropped_transaction_can_be_sent_again_after_a_reorg(embedded: EmbeddedDevnet):
    rpc = embedded.rpc
    raw = sign(embedded.accounts[0], 0, SOMEONE, value=ETHER)
    tx_hash = await rpc.send_raw(raw)
    await embedded.reorg(1)
    assert await rpc.transaction(tx_hash) is None
    assert await rpc.send_raw(raw) == tx_hash
    assert await rpc.receipt(tx_hash) is not None


async def test_a_waiting_transaction_outlives_a_reorg(embedded: EmbeddedDevnet):
    rpc = embedded.rpc
    await embedded.mine()
    await embedded.automine(False)
    tx_hash = await rpc.send_raw(sign(embedded.accounts[0], 0, SOMEONE))
    await embedded.reorg(1)
    assert await rpc.receipt(tx_hash) is None
    await embedded.mine()
    assert await rpc.receipt(tx_hash) is not None


async def test_the_same_clock_and_transactions_give_the_same_chain():
    async def head() -> object:
        async with EmbeddedDevnet(options=Options(clock=lambda: 1_700_000_000)) as devnet:
            echo = await deploy_echo(devnet, devnet.accounts[0])
            await devnet.rpc.send_raw(sign(devnet.accounts[0], 1, echo, topic("x")))
            return await devnet.rpc.block("latest")

    assert await head() == await head()


async def test_pinned_reads_and_pending_reads(embedded: EmbeddedDevnet):
    rpc, sender = embedded.rpc, embedded.accounts[0]
    first = await rpc.block("latest")
    await rpc.send_raw(sign(sender, 0, SOMEONE, value=7))
    assert (await rpc.balance(SOMEONE, first.hash), await rpc.balance(SOMEONE)) == (0, 7)
    await embedded.reorg(1)
    await rpc.send_raw(sign(sender, 0, SOMEONE, value=8))
    lost = await rpc.block("latest")
    await embedded.reorg(1)
    with pytest.raises(RpcError, match="header for hash not found"):
        await rpc.balance(SOMEONE, lost.hash)
    await embedded.mine(20)
    head = (await rpc.block("latest")).number
    assert (await rpc.block("finalized")).number == head - 8
    assert (await rpc.block("safe")).number == head - 4


async def test_log_limits_are_refused_in_words_that_ask_to_split():
    async with EmbeddedDevnet(options=Options(log_range=5, log_results=2)) as devnet:
        echo = await deploy_echo(devnet, devnet.accounts[0])
        for nonce in range(1, 5):
            await devnet.rpc.send_raw(sign(devnet.accounts[0], nonce, echo, topic("x")))
        with pytest.raises(RangeTooLarge):
            await devnet.rpc.logs(echo, 0, 5)
        with pytest.raises(RangeTooLarge):
            await devnet.rpc.logs(echo, 1, 5)
        assert len(await devnet.rpc.logs(echo, 2, 3)) == 2


async def test_web3_itself_stands_on_the_provider(embedded: EmbeddedDevnet):
    echo = await deploy_echo(embedded, embedded.accounts[0])
    tx_hash = await embedded.rpc.send_raw(sign(embedded.accounts[0], 1, echo, topic("x") + b"data"))
    w3 = AsyncWeb3(embedded.provider)
    assert await w3.is_connected()
    receipt = await w3.eth.get_transaction_receipt(tx_hash)
    block = await w3.eth.get_block("latest", full_transactions=True)
    logs = await w3.eth.get_logs({"fromBlock": 0, "toBlock": "latest"})
    assert block["transactions"][0]["hash"] == receipt["transactionHash"]
    assert bytes(logs[0]["data"]) == b"data"


async def test_reverts_with_a_reason_say_it(embedded: EmbeddedDevnet):
    echo = await deploy_echo(embedded, embedded.accounts[0])
    error = {"type": "function", "name": "Error", "inputs": [{"type": "string", "name": "reason"}]}
    with pytest.raises(Reverted, match="not your task"):
        await embedded.rpc.call(echo, bytes(32) + encode_call([error], "Error", ["not your task"]))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.sampled_from(["0x", "0x0", "latest", SOMEONE]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["to", "data", "fromBlock"]), inner),
    max_leaves=6,
)
_NODE = Methods(Node(accounts(1), ETHER, Options(clock=lambda: 1_700_000_000)))
_METHODS = sorted(name for name in _NODE.names if name not in {"evm_mine", "devnet_reorg"})


@example(method="eth_call", params=[{}])
@given(method=st.sampled_from(_METHODS) | json_values, params=st.lists(json_values, max_size=3) | json_values)
def test_every_request_is_answered(method: object, params: object):
    answer = _NODE.handle(method, params)
    assert ("result" in answer) != ("error" in answer)
    json.dumps(answer)


@given(raw=st.binary(max_size=200), kind=st.sampled_from([b"", b"\x01", b"\x02", b"\x03", b"\x04"]))
def test_bytes_that_are_no_transaction_are_refused(raw: bytes, kind: bytes):
    assert _NODE.handle("eth_sendRawTransaction", ["0x" + (kind + raw).hex()])["error"]["code"] == -32000


@given(at=st.integers(0, 500), flip=st.integers(1, 255))
def test_a_damaged_transaction_is_refused(at: int, flip: int):
    raw = bytearray(sign(accounts(1)[0], 5, SOMEONE))
    raw[at % len(raw)] ^= flip
    # when it decodes at all, it is somebody else's, and they have no money
    assert _NODE.handle("eth_sendRawTransaction", ["0x" + raw.hex()])["error"]["code"] == -32000


async def test_the_server_answers_batches_and_refuses_nonsense():
    async with ServedDevnet() as served, aiohttp.ClientSession() as http:

        async def post(body: bytes) -> object:
            async with http.post(served.url, data=body) as response:
                assert response.status == 200
                return await response.json()

        chain = {"jsonrpc": "2.0", "id": 7, "method": "eth_chainId", "params": []}
        assert await post(json.dumps(chain).encode()) == {"id": 7, "jsonrpc": "2.0", "result": "0x7a69"}
        answers = await post(json.dumps([chain, {"id": 8}, chain | {"method": "no_such"}]).encode())
        assert [answer.get("error", {}).get("code") for answer in answers] == [None, -32600, -32601]
        for body, code in [(b"{", -32700), (b"[]", -32600), (b"3", -32600), (b"[" * 50_000, -32700)]:
            assert (await post(body))["error"]["code"] == code


async def test_one_served_chain_many_clients():
    async with ServedDevnet() as served, RemoteDevnet(served.url) as first, RemoteDevnet(served.url) as second:
        await first.rpc.send_raw(sign(first.accounts[0], 0, SOMEONE, value=1))
        assert await second.rpc.balance(SOMEONE) == 1


async def test_serve_mines_at_intervals_until_cancelled():
    ready: asyncio.Future[ServedDevnet] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, interval=0.01, ready=ready.set_result))
    served = await ready
    async with asyncio.timeout(10), connect(served.url) as rpc:
        tx_hash = await rpc.send_raw(sign(served.devnet.accounts[0], 0, SOMEONE))
        while await rpc.receipt(tx_hash) is None:
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@asynccontextmanager
async def _port_taken() -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_it_says_where_it_cannot_be_served():
    with pytest.raises(ConfigError, match="loopback"):
        ServedDevnet("0.0.0.0")
    async with _port_taken() as port:
        with pytest.raises(ConfigError, match="cannot listen"):
            async with ServedDevnet(port=port):
                pass


def test_the_manual_names_every_method():
    manual = (Path(__file__).parents[2] / "docs" / "devnet.md").read_text()
    assert [name for name in _NODE.names if f"`{name}" not in manual] == []
