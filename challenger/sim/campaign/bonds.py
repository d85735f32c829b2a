"""Bonds of one account that are out at each block, read from the chain's own logs, through every reorganisation."""

from __future__ import annotations

from challenger.chain.answers import parse_logs
from challenger.chain.codec import EventDecoder
from challenger.chain.devnet.node import Node
from challenger.contracts import artifact
from challenger.domain import Address, Wei
from challenger.sim.deploy import MarketParams


class Bonds:
    """``most``: the highest sum that ever stood in a block, also in blocks that left the chain."""

    def __init__(self, account: Address, params: MarketParams) -> None:
        self.most = Wei(0)
        self._account = account
        self._params = params
        self._decoder = EventDecoder(artifact("InferenceMarket").abi)
        self._known: list[tuple[bytes, frozenset[tuple[str, int]]]] = []

    def look(self, node: Node) -> None:
        blocks = node.chain.blocks
        del self._known[len(blocks) :]
        while self._known and self._known[-1][0] != blocks[len(self._known) - 1].hash:
            self._known.pop()
        for block in blocks[len(self._known) :]:
            standing = self._known[-1][1] if self._known else frozenset()
            standing = self._after(standing, node.logs.get(block.header.block_number, []))
            self._known.append((block.hash, standing))
            self.most = max(self.most, self._sum(standing))

    def _after(self, standing: frozenset[tuple[str, int]], logs: list[dict[str, object]]) -> frozenset[tuple[str, int]]:
        now = set(standing)
        for event in map(self._decoder.decode, parse_logs(logs)):
            if event is None:
                continue
            args = event.args
            if event.name == "Challenged" and args["challenger"] == self._account:
                now.add(("dispute", args["dispute"]))
            elif event.name == "Demanded" and args["demander"] == self._account:
                now.add(("demand", args["demand"]))
            elif event.name == "Settled":
                now.discard(("dispute", args["dispute"]))
            elif event.name == "DemandClosed":
                now.discard(("demand", args["demand"]))
        return frozenset(now)

    def _sum(self, standing: frozenset[tuple[str, int]]) -> Wei:
        each = {"dispute": self._params.challenge_bond, "demand": self._params.demand_bond}
        return Wei(sum(each[kind] for kind, _ in standing))
