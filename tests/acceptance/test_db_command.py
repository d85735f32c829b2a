"""`challenger db backup` and `db restore` over a live record: the copy is whole, and nothing is overwritten unasked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

from challenger.cli import main
from challenger.sim.files import HEADS
from challenger.sim.scenario import Kind
from challenger.sim.scoreboard import Truth
from challenger.store.engine import create_engine
from tests.integration.test_watcher import scene


async def test_a_live_record_is_copied_put_elsewhere_and_holds(tmp_path, capsys):
    async def said(*argv: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [*argv])
        return code, *capsys.readouterr()

    async with scene(tmp_path, seed=3, tasks=4, cheats=(Kind.NUDGE,)) as s:
        config, copy = str(s.folder.config), str(tmp_path / "copy.sqlite")
        there = tmp_path / "there"
        there.mkdir()
        moved = there / "challenger.toml"
        text = s.folder.config.read_text().replace(str(s.folder.database), str(there / "new.sqlite"))
        moved.write_text(text.replace(str(s.folder.path / HEADS), str(there / HEADS)))
        async with s.watcher(correlated_providers=100, engine=create_engine) as app:
            await s.until_quiet(app)
            await s.world.play()
            await s.turn(app)
            # a writer is in the middle of something while the copy is taken, and goes on afterwards
            async with app.store.begin((await s.devnet.rpc.block("latest")).time) as unit:
                await unit.journal.write(unit.now, "note", "test", {"half": "written"})
                code, out, err = await said("db", "backup", copy, "-c", config, "--json")
                assert (code, err) == (0, "")
                taken = json.loads(out)
            await s.until_quiet(app)
            assert await s.accused() == Counter(dict.fromkeys(s.jobs(Truth.WRONG), 1))
            code, out, err = await said("db", "backup", copy, "-c", config)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert "the file is there already: name another, or give --force" in err
            code, out, _ = await said("db", "backup", copy + ".late", "-c", config, "--json")
            late = json.loads(out)
            assert late["entries"] > taken["entries"] + 1, "what was written between is in the later one alone"

        code, out, err = await said("db", "restore", copy, "-c", str(moved))
        assert (code, err) == (0, "")
        assert out == f"restored from {copy}: {taken['bytes']} bytes, {taken['entries']} journal entries, verified\n"
        code, out, _ = await said("audit", "verify", "-c", str(moved), "--json")
        assert (code, json.loads(out)["holds"]) == (0, True)
        code, out, _ = await said("audit", "journal", "-c", str(moved), "--json")
        told = json.loads(out)
        assert (code, told["holds"], told["entries"]) == (0, True, taken["entries"] + 1)
        before = (there / "new.sqlite").read_bytes()
        code, out, err = await said("db", "restore", copy + ".late", "-c", str(moved))
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "holds a record already" in err
        assert (there / "new.sqlite").read_bytes() == before
