"""What should lie in the account, and the alert that says when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from challenger.domain import ONE, Address, Mode, UnixTime, Wei
from challenger.errors import EndpointError
from challenger.pipeline.gates import Limits
from challenger.pipeline.obstacles import DISPUTE_GAS
from challenger.pipeline.purse import Purse, wanted
from challenger.store import migrate, open_store
from challenger.telemetry.instruments import Instruments
from tests.store.chains import block

ME = Address("0x" + "0a" * 20)
LIMITS = Limits(Mode.LIVE, Wei(1_000), Wei(0), ONE, 2, 60, keep_balance=Wei(7), max_fee=Wei(50))


@pytest.mark.parametrize(
    ("outstanding", "filings", "expected"),
    [
        (0, 3, 7 + 3 * 120),
        (800, 3, 7 + 2 * 120),
        (899, 3, 7 + 120),
        (901, 3, 7 + 20),
        (5_000, 3, 7 + 20),
        (0, 0, 7 + 20),
        (0, 100, 7 + 10 * 120),
    ],
)
def test_as_many_bonds_as_exposure_leaves_room_for(outstanding: int, filings: int, expected: int) -> None:
    assert wanted(LIMITS, Wei(100), Wei(20), Wei(outstanding), filings) == expected


def test_a_protocol_without_bonds_wants_gas_alone() -> None:
    assert wanted(LIMITS, Wei(0), Wei(20), Wei(0), 3) == 67


class Chain:
    def __init__(self) -> None:
        self.funds, self.price, self.away, self.asked = 0, 30, False, 0

    async def balance(self, _address: str) -> Wei:
        self.asked += 1
        if self.away:
            raise EndpointError("away")
        return Wei(self.funds)

    async def gas_price(self) -> Wei:
        return Wei(self.price)


async def test_the_alert_comes_and_goes_with_the_balance(tmp_path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/purse.sqlite"
    await migrate.upgrade(url)
    telemetry, chain = Instruments(), Chain()
    one = block(1)

    def at(seconds: int):
        return replace(one, time=UnixTime(one.time + seconds))

    async with open_store(url) as store:
        purse = Purse(store, chain, ME, LIMITS, Wei(100), 3, telemetry)
        enough = wanted(LIMITS, Wei(100), Wei(50 * DISPUTE_GAS), Wei(0), 3)  # the cap, and not twice 30
        chain.away = True
        with pytest.raises(EndpointError):
            await purse.step(at(0))
        chain.away, chain.funds = False, enough - 1
        assert not await purse.step(at(0)), "a look that failed is made again"
        assert telemetry.alerts.active() == [("gas-low", "")]
        chain.funds = enough
        await purse.step(at(59))
        assert telemetry.alerts.active() == [("gas-low", "")], "not looked at again so soon"
        await purse.step(at(60))
        assert telemetry.alerts.active() == []
        chain.funds = 0
        await purse.step(at(-1_000))
        assert telemetry.alerts.active() == [("gas-low", "")], "a clock that went back stops no look"
        assert chain.asked == 4
