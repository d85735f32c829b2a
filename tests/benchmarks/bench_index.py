"""Logs indexed per second end to end (RPC → decode → committed rows), beside web3.py's `get_logs` + `process_log`.

Both read the same 20,000 logs (5,000 jobs: opened, taken, committed, closed) in the same ranges from the same loopback
server, which has every answer ready. web3.py keeps nothing; ours ends with blocks, events, projections, work rows and a
hash-chained journal in SQLite with synchronous=FULL.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from aiohttp import web
from eth_abi import encode

from challenger.parts import tune_collector

JOBS = 5_000
PER_BLOCK = 10
RANGE = 500
MARKET = "0x" + "42" * 20
FIRST = 100
TARGET = 5.0


def number(value: int) -> bytes:
    return value.to_bytes(32, "big")


def block_hash(height: int) -> str:
    return "0x" + (height.to_bytes(4, "big") * 8).hex()


def make_logs(jobs: int) -> list[dict]:
    """Logs as a node gives them, in chain order."""
    from challenger.contracts import artifact

    topics = {}
    for entry in artifact("InferenceMarket").abi:
        if entry["type"] == "event":
            topics[entry["name"]] = _topic(entry)
    provider, requester = b"\x11" * 20, b"\x22" * 20
    model, data = b"\x33" * 32, b"\x01\x01x\x01\x01" + (64).to_bytes(4, "big") + bytes(256)
    bodies = []
    for job in range(jobs):
        task, commitment = number(job + 1), number((1 << 200) + job)
        opened = encode(
            ["bytes32", "bytes", "string", "uint32", "bytes32", "uint256", "uint64"],
            [b"\x44" * 32, data, "", len(data), b"\x55" * 32, 10**15, 2_000_000_000],
        )
        committed = encode(
            ["bytes32", "bytes32", "bytes32", "bytes", "string", "uint32", "uint64", "uint64"],
            [model, b"\x66" * 32, b"\x77" * 32, data[:49], "", 49, 1_700_000_000, 1_700_003_600],
        )
        bodies += [
            ("TaskOpened", [task, model, requester.rjust(32, b"\0")], opened),
            ("TaskTaken", [task, provider.rjust(32, b"\0")], encode(["bytes32"], [b"\x88" * 32])),
            ("Committed", [commitment, task, provider.rjust(32, b"\0")], committed),
            ("JobClosed", [commitment], encode(["uint8"], [1])),
        ]
    logs = []
    for index, (name, indexed, body) in enumerate(bodies):
        height = FIRST + index // PER_BLOCK
        logs.append(
            {
                "address": MARKET,
                "topics": [topics[name], *("0x" + topic.hex() for topic in indexed)],
                "data": "0x" + body.hex(),
                "blockNumber": hex(height),
                "blockHash": block_hash(height),
                "transactionHash": "0x" + number(index).hex(),
                "transactionIndex": hex(index % PER_BLOCK),
                "logIndex": hex(index % PER_BLOCK),
                "removed": False,
            }
        )
    return logs


def _topic(entry: dict) -> str:
    from eth_utils import event_abi_to_log_topic

    return "0x" + event_abi_to_log_topic(entry).hex()


def header(height: int) -> dict:
    return {
        "number": hex(height),
        "hash": block_hash(height),
        "parentHash": block_hash(height - 1),
        "timestamp": hex(1_700_000_000 + 12 * height),
    }


def serve(logs: list[dict], pipe: Connection) -> None:
    by_block: dict[int, list[str]] = {}
    for log in logs:
        by_block.setdefault(int(log["blockNumber"], 16), []).append(json.dumps(log))
    tip = max(by_block) + 1

    def result(request: dict) -> str:
        method, params = request["method"], request["params"]
        if method == "eth_getLogs":
            query = params[0]
            if "blockHash" in query:
                heights = [int(query["blockHash"][2:10], 16)]
            else:
                heights = range(int(query["fromBlock"], 16), int(query["toBlock"], 16) + 1)
            return "[" + ",".join(",".join(by_block[h]) for h in heights if h in by_block) + "]"
        if method == "eth_getBlockByNumber":
            return json.dumps(header(tip if params[0] == "latest" else int(params[0], 16)))
        if method == "eth_getBlockByHash":
            return json.dumps(header(int(params[0][2:10], 16)))
        return '"0x7a69"'

    async def answer(request: web.Request) -> web.Response:
        asked = json.loads(await request.read())
        many = asked if isinstance(asked, list) else [asked]
        parts = [f'{{"jsonrpc":"2.0","id":{json.dumps(one["id"])},"result":{result(one)}}}' for one in many]
        text = "[" + ",".join(parts) + "]" if isinstance(asked, list) else parts[0]
        return web.Response(text=text, content_type="application/json")

    async def main() -> None:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        pipe.send((runner.addresses[0][1], tip))
        await asyncio.Event().wait()

    asyncio.run(main())


async def ours(url: str, folder: Path, expect: int) -> float:
    from challenger.chain.endpoint import connect
    from challenger.chain.follower import Follower, Options
    from challenger.chain.span import Span
    from challenger.protocols.reference_logs import MarketLogs
    from challenger.store import migrate
    from challenger.store.engine import open_store

    database = f"sqlite:///{folder}/index.sqlite"
    await migrate.upgrade(database)
    async with connect(url) as rpc, open_store(database) as store:
        follower = Follower(
            rpc, store.index(), MarketLogs(MARKET), Options(start=FIRST, depth=1), span=Span(RANGE, RANGE)
        )
        began = time.perf_counter()
        while await follower.step():
            pass
        seconds = time.perf_counter() - began
        async with store.read() as view:
            counts = await view.work.counts()
        assert sum(counts.values()) * 4 == expect, counts
    return seconds


def theirs(url: str, tip: int, expect: int) -> float:
    from web3 import HTTPProvider, Web3

    from challenger.contracts import artifact

    w3 = Web3(HTTPProvider(url))
    contract = w3.eth.contract(address=Web3.to_checksum_address(MARKET), abi=artifact("InferenceMarket").abi)
    names = ("TaskOpened", "TaskTaken", "Committed", "JobClosed")
    events = {_topic(contract.events[name]().abi): contract.events[name]() for name in names}
    began, seen, first = time.perf_counter(), 0, FIRST
    while first <= tip:
        last = min(first + RANGE - 1, tip)
        for log in w3.eth.get_logs({"address": contract.address, "fromBlock": first, "toBlock": last}):
            event = events["0x" + log["topics"][0].hex().removeprefix("0x")].process_log(log)
            seen += "task" in event["args"] or "job" in event["args"]
        first = last + 1
    seconds = time.perf_counter() - began
    assert seen == expect, seen
    return seconds


def main() -> None:
    jobs, rounds = (JOBS, 3) if "--quick" in sys.argv else (JOBS, 5)
    logs = make_logs(jobs)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(logs, there), daemon=True)
    server.start()
    port, tip = here.recv()
    url = f"http://127.0.0.1:{port}/"
    tune_collector()  # as `challenger run` does; web3.py's share of the run has it too
    pairs = []
    try:
        for _ in range(rounds):
            with tempfile.TemporaryDirectory() as folder:
                mine = asyncio.run(ours(url, Path(folder), len(logs)))
            pairs.append((mine, theirs(url, tip, len(logs))))
    finally:
        server.terminate()
        server.join()
    ratio = statistics.median(their / mine for mine, their in pairs)
    print(
        json.dumps(
            {
                "benchmark": "index",
                "logs": len(logs),
                "ours_logs_per_second": round(len(logs) / statistics.median(mine for mine, _ in pairs)),
                "web3_logs_per_second": round(len(logs) / statistics.median(their for _, their in pairs)),
                "ratio": round(ratio, 2),
                "target": TARGET,
                "rounds": rounds,
            }
        )
    )


if __name__ == "__main__":
    main()
