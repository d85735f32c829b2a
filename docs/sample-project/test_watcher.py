"""What a challenger makes of a market, on a chain inside the test."""

from dataclasses import replace

from challenger.domain import Mode, VerdictKind
from challenger.pytest_plugin import DevnetWorld


async def test_a_cheat_is_accused_and_nobody_else(devnet_world: DevnetWorld) -> None:
    async with devnet_world(["nudge"]) as world, world.challenger() as challenger:
        await world.play()
        await challenger.until_quiet()
        assert await challenger.filings() == list(world.frauds)


async def test_in_watch_mode_fraud_is_seen_and_nothing_filed(devnet_world: DevnetWorld) -> None:
    async with devnet_world(["truncate"]) as world:
        watching = replace(world.settings, filing=replace(world.settings.filing, mode=Mode.WATCH))
        async with world.challenger(watching) as challenger:
            await world.play()
            await challenger.until_quiet()
            verdicts = await challenger.verdicts()
            assert {one for one, kind in verdicts.items() if kind is VerdictKind.FRAUD} == world.frauds
            assert await challenger.filings() == []
