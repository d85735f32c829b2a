"""An endpoint contradicts the others about a fraud in hand: nothing is filed on it while it does, one record and one alarm
say so, and once it agrees the challenge is filed in time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from challenger.app import opened
from challenger.chain.abi import signature
from challenger.chain.hashing import keccak
from challenger.chain.rpc import Rpc
from challenger.contracts import artifact
from challenger.domain import State
from challenger.errors import EndpointError
from challenger.pipeline.agree import DISAGREED
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.sim.toy import ToyFiles
from challenger.store.inline import passing
from challenger.store.subjects import subject_of
from challenger.telemetry.metrics import DISAGREEMENTS
from tests.integration.test_scheduling import entries
from tests.integration.test_watcher import TASK_OPENED, scene

PARAMS = next(entry for entry in artifact("InferenceMarket").abi if entry.get("name") == "params")
PARAMS_ASKED = "0x" + keccak(signature(PARAMS).encode())[:4].hex()
#: Where the bond of a challenge stands in the answer, among its 32-byte words.
BOND = [part["name"] for part in PARAMS["outputs"][0]["components"]].index("challengeBond")
JOB = next(entry for entry in artifact("InferenceMarket").abi if entry.get("name") == "job")
ASKED = "0x" + keccak(signature(JOB).encode())[:4].hex()
#: Where the close stands in the answer, among its 32-byte words.
CLOSE = [part["name"] for part in JOB["outputs"][0]["components"]].index("windowEnd")


def other_data(method, _params, result):
    """Another digest of the task's input, in the receipt that tells of it."""
    if method != "eth_getTransactionReceipt" or result is None:
        return result
    topic = "0x" + TASK_OPENED.hex()
    changed = [
        log | {"data": "0x" + "ab" * 32 + log["data"][66:]} if log["topics"][0] == topic else log
        for log in result["logs"]
    ]
    return result | {"logs": changed}


def other_word(method, params, result, asked, place, change):
    """One 32-byte word of what a call answers to the selector ``asked``."""
    if method != "eth_call" or not params[0]["data"].startswith(asked):
        return result
    words = [result[2 + at : 66 + at] for at in range(0, len(result) - 2, 64)]
    words[place] = f"{change(int(words[place], 16)):064x}"
    return "0x" + "".join(words)


def other_window(method, params, result):
    """A window that closes a minute later."""
    return other_word(method, params, result, ASKED, CLOSE, lambda close: close + 60)


def other_bond(method, params, result):
    """A challenge costs twice as much as the market says."""
    return other_word(method, params, result, PARAMS_ASKED, BOND, lambda bond: 2 * bond)


def other_code(method, _params, result):
    return "0x6000" if method == "eth_getCode" else result


class Contradicting:
    """An endpoint that shows the chain as it is, except for one thing while it ``lies``; ``told``: how often it did."""

    def __init__(self, inner, lie) -> None:
        self._inner = inner
        self._lie = lie
        self.lies = True
        self.told = 0

    async def make_request(self, method, params):
        answer = await self._inner.make_request(method, params)
        if not self.lies or "result" not in answer:
            return answer
        shown = self._lie(method, params, answer["result"])
        self.told += shown != answer["result"]
        return answer | {"result": shown}


@pytest.mark.parametrize(
    ("lie", "says", "waits"),
    [
        (other_data, "shows another TaskOpened", State.REPLAYED),
        (other_window, "shows a window of", State.CONFIRMED),
        (other_code, "shows other code at", State.CONFIRMED),
    ],
    ids=["data", "window", "code"],
)
async def test_a_contradiction_keeps_a_fraud_from_being_filed_until_it_is_over(tmp_path, lie, says, waits):
    async with scene(tmp_path, cheats=(Kind.NUDGE,), tasks=5, round_size=5) as s:
        s.settings = replace(
            s.settings,
            chain=replace(s.settings.chain, quorum=2),
            telemetry=replace(s.settings.telemetry, metrics="127.0.0.1:0"),
        )
        third = Contradicting(s.devnet.provider, lie)
        first, second = Rpc(s.devnet.provider, name="first"), Rpc(s.devnet.provider, name="second")
        given = {"rpc": first, "others": [second, Rpc(third, name="third")], "workers": s.workers}
        async with opened(s.settings, **given, files=ToyFiles(), engine=passing) as app:
            await s.world.play()
            (job,) = s.jobs(Truth.WRONG)
            alarm = ("disagreement", subject_of(job))

            for _ in range(20):
                await s.turn(app, people=False)
                if alarm in app.telemetry.alerts.active():
                    break
            lied = third.told
            for _ in range(6):
                await s.turn(app, people=False)
                assert alarm in app.telemetry.alerts.active()
                async with app.store.read() as view:
                    assert (await view.work.item(job)).work.state == waits
                    assert await view.transactions.about(job) == []
            assert third.told >= lied + 5, "it was asked again and again"
            assert not await s.accused()
            (entry,) = await entries(app, DISAGREED)
            record = json.loads(entry.payload)
            assert entry.subject == subject_of(job)
            assert record["reason"].startswith(f"quorum: third {says}")
            assert [(one["endpoint"], one["stance"]) for one in record["said"]] == [
                ("first", "agrees"),
                ("second", "agrees"),
                ("third", "contradicts"),
            ]
            await app.telemetry.alerts.deliver()
            told = [one for one in await entries(app, "alert") if json.loads(one.payload)["alert"] == "disagreement"]
            assert [one.subject for one in told] == [subject_of(job)]
            assert app.telemetry.metrics.value(DISAGREEMENTS) == 1

            third.lies = False
            for _ in range(20):
                await s.turn(app, people=False)
                if await s.accused():
                    break
            assert await s.accused() == Counter({job: 1})
            assert alarm not in app.telemetry.alerts.active()
            assert len(await entries(app, DISAGREED)) == 1
            (slack,) = await entries(app, "slack")
            assert json.loads(slack.payload)["seconds"] > 0


@pytest.mark.parametrize("lie", [other_bond, other_code], ids=["bond", "code"])
async def test_what_one_endpoint_shows_of_the_contract_at_the_start_is_not_what_the_watcher_works_by(tmp_path, lie):
    async with scene(tmp_path, cheats=(Kind.NUDGE,), tasks=5, round_size=5) as s:
        s.settings = replace(s.settings, chain=replace(s.settings.chain, quorum=2))
        liar = Contradicting(s.devnet.provider, lie)
        others = [Rpc(s.devnet.provider, name=name) for name in ("second", "third")]
        given = {"others": others, "files": ToyFiles(), "workers": s.workers, "engine": passing}
        async with opened(s.settings, rpc=Rpc(liar, name="first"), **given) as app:
            assert liar.told, "it was asked, and lied"
            liar.lies = False
            await s.world.play()
            (job,) = s.jobs(Truth.WRONG)
            for _ in range(20):
                await s.turn(app, people=False)
                if await s.accused():
                    break
            assert await s.accused() == Counter({job: 1})


async def test_of_two_endpoints_that_show_different_contracts_none_is_believed(tmp_path):
    async with scene(tmp_path, cheats=(Kind.NUDGE,), tasks=1) as s:
        liar = Contradicting(s.devnet.provider, other_bond)
        given = {"others": [Rpc(s.devnet.provider, name="second")], "files": ToyFiles(), "workers": s.workers}
        with pytest.raises(EndpointError, match="do not show one contract: its code or its terms"):
            async with opened(s.settings, rpc=Rpc(liar, name="first"), **given, engine=passing):
                pass
