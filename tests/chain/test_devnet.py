"""One conformance suite over every devnet: what a sender, a follower and the simulator rely on."""

from __future__ import annotations

import pytest
from chain_echo import ECHO_RUNTIME, deploy_echo, mined, sign, topic

from challenger.chain.devnet.base import CHAIN_ID, ETHER, FUNDS, Devnet, DevnetError, accounts
from challenger.errors import Reverted, RpcError, UnknownBlock

SOMEONE = "0x" + "11" * 20


async def test_accounts_are_the_same_everywhere_and_funded(devnet: Devnet):
    assert devnet.accounts == accounts()
    assert await devnet.rpc.chain_id() == CHAIN_ID
    assert await devnet.rpc.balance(devnet.accounts[-1].address) == FUNDS
    assert "key" not in repr(devnet.accounts[0])


async def test_automine_puts_each_transaction_into_a_block_of_its_own(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    before = await rpc.block("latest")
    receipts = [await mined(devnet, sign(sender, n, SOMEONE, value=ETHER)) for n in range(2)]
    assert [r.block for r in receipts] == [before.number + 1, before.number + 2]
    assert all(r.succeeded and r.gas_used == 21_000 and r.gas_price > 0 for r in receipts)
    assert await rpc.nonce(sender.address) == 2
    assert await rpc.balance(SOMEONE) == 2 * ETHER
    assert await rpc.balance(SOMEONE, before.number) == 0
    blocks = await rpc.blocks([before.number, before.number + 1, before.number + 2])
    assert [b.parent for b in blocks[1:]] == [b.hash for b in blocks[:-1]]
    assert blocks[0].time <= blocks[1].time <= blocks[2].time


async def test_transactions_wait_until_a_block_is_mined_on_demand(devnet: Devnet):
    first, second = devnet.accounts[:2]
    rpc = devnet.rpc
    await devnet.automine(False)
    late = await rpc.send_raw(sign(first, 1, SOMEONE, value=1))  # waits for nonce 0
    hashes = [await rpc.send_raw(sign(first, 0, SOMEONE, value=1)), await rpc.send_raw(sign(second, 0, SOMEONE))]
    assert [await rpc.receipt(one) for one in hashes] == [None, None]
    waiting = await rpc.transaction(late)
    assert waiting is not None
    assert (waiting.block, waiting.nonce, waiting.sender) == (None, 1, first.address)
    assert (await rpc.nonce(first.address), await rpc.nonce(first.address, "pending")) == (0, 2)
    await devnet.mine()
    blocks = {r.block for one in [late, *hashes] if (r := await rpc.receipt(one))}
    assert len(blocks) == 1
    assert await rpc.nonce(first.address) == 2


async def test_turning_automine_on_mines_what_waited(devnet: Devnet):
    await devnet.automine(False)
    tx_hash = await devnet.rpc.send_raw(sign(devnet.accounts[0], 0, SOMEONE))
    await devnet.automine(True)
    await mined(devnet, sign(devnet.accounts[1], 0, SOMEONE))  # anvil mines a moment after it has answered
    assert await devnet.rpc.receipt(tx_hash) is not None


async def test_the_pool_refuses_in_words_that_senders_know(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    await mined(devnet, sign(sender, 0, SOMEONE))
    await devnet.automine(False)
    raw = sign(sender, 1, SOMEONE)
    await rpc.send_raw(raw)
    for wrong, words in [
        (raw, "already known|already imported"),
        (sign(sender, 0, SOMEONE), "nonce too low"),
        (sign(sender, 1, SOMEONE, value=1), "replacement transaction underpriced"),
        (sign(sender, 2, SOMEONE, value=2 * FUNDS), "(?i)insufficient funds"),
        (sign(sender, 2, SOMEONE, gas=20_000), "intrinsic gas too low"),
        (sign(sender, 2, SOMEONE, chainId=1), "(?i)invalid chain id|invalid sender"),
    ]:
        with pytest.raises(RpcError, match=words):
            await rpc.send_raw(wrong)


async def test_a_transaction_is_replaced_by_one_that_pays_a_tenth_more(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    await devnet.automine(False)
    old = await rpc.send_raw(sign(sender, 0, SOMEONE, value=1))
    new = await rpc.send_raw(
        sign(sender, 0, SOMEONE, value=2, maxFeePerGas=22 * 10**9, maxPriorityFeePerGas=11 * 10**8)
    )
    await devnet.mine()
    assert await rpc.receipt(old) is None
    assert await rpc.transaction(old) is None
    assert await rpc.receipt(new) is not None
    assert await rpc.balance(SOMEONE) == 2


async def test_logs_by_range_topic_and_block(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    echo = await deploy_echo(devnet, sender)
    assert await rpc.code(echo) == ECHO_RUNTIME
    start = (await rpc.block("latest")).number
    await devnet.automine(False)
    for nonce, name in enumerate(["a", "b", "a"], start=1):
        await rpc.send_raw(sign(sender, nonce, echo, topic(name) + name.encode() * 100))
    await devnet.mine()
    await rpc.send_raw(sign(sender, 4, echo, topic("c")))
    await devnet.mine(2)
    block = await rpc.block(start + 1)
    logs = await rpc.logs(echo, start, start + 3)
    assert [log.data for log in logs] == [b"a" * 100, b"b" * 100, b"a" * 100, b""]
    assert [(log.block, log.log_index) for log in logs] == [
        (start + 1, 0),
        (start + 1, 1),
        (start + 1, 2),
        (start + 2, 0),
    ]
    assert logs[0].block_hash == block.hash
    assert logs[0].topics == (topic("a"),)
    assert len(await rpc.logs(echo, start + 2, start + 3)) == 1
    assert len(await rpc.logs([echo], start, start + 3, [topic("a")])) == 2
    assert len(await rpc.logs(echo, start, start + 3, [[topic("a"), topic("b")]])) == 3
    assert await rpc.logs(SOMEONE, start, start + 3) == []
    assert await rpc.logs_in(echo, [block, await rpc.block(start + 2)]) == logs
    receipt = await rpc.receipt(logs[1].tx_hash)
    assert receipt is not None
    assert list(receipt.logs) == [logs[1]]


async def test_a_failed_transaction_costs_gas_and_leaves_no_log(devnet: Devnet):
    sender = devnet.accounts[0]
    echo = await deploy_echo(devnet, sender)
    receipt = await mined(devnet, sign(sender, 1, echo, bytes(32) + b"why"))
    assert not receipt.succeeded
    assert receipt.logs == ()
    assert receipt.gas_used > 21_000


async def test_calls_and_estimates_show_the_revert_data(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    echo = await deploy_echo(devnet, sender)
    assert await rpc.call(echo, topic("x")) == b""
    gas = await rpc.estimate_gas(echo, topic("x") + b"data", sender=sender.address)
    receipt = await mined(devnet, sign(sender, 1, echo, topic("x") + b"data", gas=gas))
    assert receipt.succeeded
    for act in (rpc.call(echo, bytes(32) + b"why"), rpc.estimate_gas(echo, bytes(32) + b"why", sender=sender.address)):
        with pytest.raises(Reverted) as caught:
            await act
        assert caught.value.data == b"why"


async def test_time_obeys(devnet: Devnet):
    rpc = devnet.rpc
    start = await rpc.block("latest")
    await devnet.next_time(start.time + 1000)
    await devnet.mine()
    assert (await rpc.block("latest")).time == start.time + 1000
    await devnet.mine()
    assert start.time + 1000 <= (await rpc.block("latest")).time < start.time + 1100
    await devnet.time_travel(by=3600)
    later = (await rpc.block("latest")).time
    assert start.time + 4600 <= later < start.time + 4800
    await devnet.time_travel(to=later + 86_400)
    assert (await rpc.block("latest")).time == later + 86_400
    with pytest.raises(DevnetError):
        await devnet.next_time(later)
    with pytest.raises(DevnetError):
        await devnet.time_travel()


async def test_snapshots_bring_everything_back_once(devnet: Devnet):
    sender, rpc = devnet.accounts[0], devnet.rpc
    head = await rpc.block("latest")
    snapshot = await devnet.snapshot()
    tx_hash = (await mined(devnet, sign(sender, 0, SOMEONE, value=5))).tx_hash
    await devnet.mine(3)
    await devnet.revert(snapshot)
    assert await rpc.block("latest") == head
    assert await rpc.receipt(tx_hash) is None
    assert await rpc.balance(SOMEONE) == 0
    assert await rpc.nonce(sender.address) == 0
    with pytest.raises(UnknownBlock):
        await rpc.block(head.number + 1)
    with pytest.raises(DevnetError):
        await devnet.revert(snapshot)


@pytest.mark.parametrize("keep", [False, True])
async def test_a_reorg_replaces_blocks_and_drops_or_keeps_their_transactions(devnet: Devnet, keep: bool):
    sender, rpc = devnet.accounts[0], devnet.rpc
    echo = await deploy_echo(devnet, sender)
    await devnet.mine()
    root = await rpc.block("latest")
    tx_hash = (await mined(devnet, sign(sender, 1, echo, topic("x")))).tx_hash
    await devnet.mine(2)
    old = await rpc.blocks(range(root.number, root.number + 4))
    await devnet.reorg(3, keep=keep)
    new = await rpc.blocks(range(root.number, root.number + 5))
    assert new[0] == root
    assert {b.hash for b in old[1:]}.isdisjoint(b.hash for b in new[1:])
    assert [b.parent for b in new[1:]] == [b.hash for b in new[:-1]]
    with pytest.raises(UnknownBlock):
        await rpc.block(root.number + 5)
    with pytest.raises(RpcError):
        await rpc.logs_in(echo, [old[1]])
    receipt = await rpc.receipt(tx_hash)
    logs = await rpc.logs(echo, root.number, root.number + 4)
    assert await rpc.nonce(sender.address) == 1 + keep
    if keep:
        assert receipt is not None
        assert receipt.block_hash == new[1].hash
        assert [log.block_hash for log in logs] == [new[1].hash]
    else:
        assert receipt is None
        assert logs == []
    with pytest.raises(DevnetError):
        await devnet.reorg(10_000)
