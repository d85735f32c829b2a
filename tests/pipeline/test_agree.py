"""Before money moves every endpoint must show the same commitment; each way to disagree is named."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from challenger.chain.answers import RawLog, Receipt
from challenger.domain import Address, At, Block, BlockNumber, CommitmentId, Committed, Hash32, TaskId, UnixTime, Wei
from challenger.errors import EndpointError, MalformedLog
from challenger.pipeline.agree import Endpoints

BLOCK, TX, ROOT = Hash32(b"\x01" * 32), Hash32(b"\x02" * 32), Hash32(b"\x03" * 32)
JOB, TASK, PROVIDER = CommitmentId(b"\x04" * 32), TaskId(b"\x05" * 32), Address("0x" + "66" * 20)


def committed(**changes) -> Committed:
    at = At(BlockNumber(9), BLOCK, 0, TX)
    whole = Committed(at, JOB, TASK, b"m" * 32, PROVIDER, ROOT, ROOT, b"", "", 0, UnixTime(1), UnixTime(2))
    return replace(whole, **changes)


@dataclass
class Witness:
    """An endpoint that shows ``event`` in a receipt, in a block that it calls canonical or not."""

    name: str
    event: Committed | None
    block_hash: Hash32 = BLOCK
    canonical: Hash32 = BLOCK
    knows: bool = True
    reachable: bool = True

    async def receipt(self, tx_hash: bytes) -> Receipt | None:
        if not self.reachable:
            raise EndpointError("cannot connect")
        if not self.knows:
            return None
        log = RawLog(Address("0x" + "77" * 20), (), b"", BlockNumber(9), self.block_hash, 0, TX)
        SHOWN[id(log)] = self.event
        LOGS.append(log)
        return Receipt(TX, BlockNumber(9), self.block_hash, True, 1, Wei(1), None, (log,))

    async def block(self, which) -> Block:
        return Block(BlockNumber(9), self.canonical, Hash32(bytes(32)), UnixTime(1))


SHOWN: dict[int, Committed | None] = {}
LOGS: list[RawLog] = []


class Decoder:
    def decode(self, log: RawLog) -> Committed:
        event = SHOWN[id(log)]
        if event is None:
            raise MalformedLog("rubbish")
        return event


async def asked(*witnesses: Witness) -> str:
    return await Endpoints(witnesses, Decoder()).disagreement([committed()])


async def test_endpoints_that_show_the_same_agree():
    assert await asked(Witness("a", committed()), Witness("b", committed())) == ""
    assert await asked(Witness("a", committed())) == ""


@pytest.mark.parametrize(
    ("second", "says"),
    [
        (Witness("b", committed(output_root=Hash32(b"x" * 32))), "b shows another Committed"),
        (Witness("b", committed(provider=Address("0x" + "99" * 20))), "b shows another Committed"),
        (Witness("b", committed(commitment=CommitmentId(b"x" * 32))), "b shows another Committed"),
        (Witness("b", None), "b shows another Committed"),
        (Witness("b", committed(), canonical=Hash32(b"y" * 32)), "b shows another Committed"),
        (Witness("b", committed(), Hash32(b"y" * 32), Hash32(b"y" * 32)), "b shows another Committed"),
        (Witness("b", committed(model=b"x" * 32)), "b shows another Committed"),
        (Witness("b", committed(), knows=False), "b does not know the transaction"),
        (Witness("b", committed(), reachable=False), "b cannot say: cannot connect"),
    ],
)
async def test_each_way_to_disagree_is_named(second, says):
    assert says in await asked(Witness("a", committed()), second)
