"""Mode confirm at the command line: what waits is listed, and the watcher does what a person says of each filing."""

from __future__ import annotations

import asyncio
import getpass
import json
from collections import Counter

from challenger.cli import main
from challenger.domain import Mode, State
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from tests.integration.test_watcher import scene
from tests.web.test_filings import reachable


async def test_a_person_lists_approves_and_refuses(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # a row is a line
    async with (
        scene(tmp_path, seed=3, tasks=6, cheats=(Kind.NUDGE, Kind.OLDER)) as s,
        s.watcher(mode=Mode.CONFIRM, correlated_providers=100) as app,
        reachable(s.devnet) as url,
    ):
        text = s.folder.config.read_text().replace('mode = "live"', 'mode = "confirm"')
        s.folder.config.write_text(text.replace("[chain]\n", f'[chain]\nrpc = ["{url}"]\n'))

        async def said(*argv: str) -> tuple[int, str, str]:
            code = await asyncio.to_thread(main, [*argv, "-c", str(s.folder.config)])
            return code, *capsys.readouterr()

        assert await said("approvals") == (0, "Nothing waits for a person.\n", "")
        await s.world.play()
        wrong = {"0x" + job.hex() for job in s.jobs(Truth.WRONG)}
        assert len(wrong) == 2
        for _ in range(40):
            await s.turn(app)
            rows = {row["commitment"]: row for row in json.loads((await said("approvals", "--json"))[1])}
            if rows.keys() == wrong:
                break
        assert rows.keys() == wrong
        assert all("a person must decide" in row["decision"] and int(row["bond"]) > 0 for row in rows.values())
        code, out, _ = await said("approvals")
        assert code == 0
        table, ids = out.split("know them:\n")
        lines = {one: line for line in table.splitlines() for one in rows if one[:10] in line}
        assert set(lines) == set(rows)
        assert all("a person must decide" in line and "challenge" in line for line in lines.values())
        assert set(ids.splitlines()) == set(rows), "whole, to be copied"

        yes, no = sorted(wrong)
        code, out, err = await said("approve", yes, "--note", "both roots, on another machine")
        assert (code, err) == (0, "")
        assert out.startswith(f"Approved: challenge against {yes}, bond ")
        code, out, _ = await said("refuse", no, "--note", "not sure of it", "--json")
        assert (code, json.loads(out)["approved"]) == (0, False)
        assert not await s.accused(), "nothing is filed without a word"
        for _ in range(8):
            await s.turn(app)
        assert await s.accused() == Counter([bytes.fromhex(yes[2:])]), "what was approved, and nothing else"

        async with app.store.read() as view:
            kept = await view.work.item(bytes.fromhex(no[2:]))
        why = f"refused by {getpass.getuser()}: not sure of it"
        assert (kept.work.state, kept.work.detail) == (State.CONFIRMED, f"approval: {why}")
        code, out, _ = await said("approvals", "--json")
        left = {row["commitment"]: row["decision"] for row in json.loads(out)}
        assert left == {no: why}

        honest = "0x" + next(iter(s.jobs(Truth.HONEST))).hex()
        for word in ("approve", "refuse"):
            for asked, why in (
                (yes, "nothing is asked about this commitment"),
                (honest, "nothing is asked about this commitment"),
                ("0x" + "99" * 32, "no such commitment"),
                ("0xzz", "a commitment is 0x and 64 hex digits"),
            ):
                code, out, err = await said(word, asked)
                assert (code, out, err.count("\n")) == (2, "", 1)
                assert why in err
        # a person may think better of it
        assert (await said("approve", no))[0] == 0
        for _ in range(8):
            await s.turn(app)
        assert await s.accused() == Counter(bytes.fromhex(job[2:]) for job in wrong)
