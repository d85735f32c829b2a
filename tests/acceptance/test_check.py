"""`challenger check`: ready when everything is there, and each row fails by itself with what to do about it."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from challenger.chain.devnet.served import ServedDevnet
from challenger.cli import check, main, preflight
from challenger.cli.check import isolation
from challenger.domain import Address, Mode, UnixTime, Wei
from challenger.errors import Expected
from challenger.protocols.base import ETHER, Money
from challenger.settings import FilingSettings, Settings, load
from challenger.sim.deploy import MarketParams, deploy
from challenger.sim.wallet import Wallet
from challenger.store import migrate
from challenger.store.engine import open_store

MODEL = "0x" + "ab" * 32


class Place:
    def __init__(self, folder, served, where) -> None:
        self.folder, self.served, self.where = folder, served, where
        self.key = folder / "key"
        self.key.write_text(served.devnet.accounts[5].key.hex())
        self.key.chmod(0o600)
        self.values = {
            "rpc": f'["{served.url}"]',
            "chain_id": "31337",
            "embedded": "true",
            "start_block": str(where.start_block),
            "url": f'"sqlite:///{folder}/x.sqlite"',
            "heads": f'"{folder}/heads.jsonl"',
            "cache": f'"{folder}/cache"',
            "mode": '"live"',
            "exposure": "1000",
            "key_file": f'"{self.key}"',
        }

    def settings_file(self):
        v, path = self.values, self.folder / "c.toml"
        path.write_text(
            f"[chain]\nrpc = {v['rpc']}\nchain_id = {v['chain_id']}\nembedded = {v['embedded']}\n"
            f'start_block = {v["start_block"]}\nmarket = "{self.where.market}"\n'
            f"[store]\nurl = {v['url']}\nheads = {v['heads']}\n[replay]\ncache = {v['cache']}\n"
            f"[filing]\nmode = {v['mode']}\nexposure = {v['exposure']}\n[signer]\nkey_file = {v['key_file']}\n"
        )
        return path

    async def checked(self, capsys, *argv: str, **values: str):
        """(exit code, failed rows by name) after a run through the command line."""
        self.values |= values
        path = str(self.settings_file())
        argv = argv or ("--no-replay",)
        code = await asyncio.to_thread(main, ["check", "--json", "-c", path, *argv])
        rows = json.loads(capsys.readouterr().out)["checks"]
        assert all("\n" not in row["detail"] for row in rows)
        return code, {row["name"].split(" http")[0]: row["detail"] for row in rows if not row["ok"]}


@asynccontextmanager
async def place(folder):
    async with ServedDevnet() as served:
        accounts = served.devnet.accounts
        wallet = Wallet(served.devnet.rpc, accounts[0].key, "deployer")
        where = await deploy(served.devnet.rpc, wallet, [accounts[1].address], MarketParams(quorum=1))
        made = Place(folder, served, where)
        await migrate.upgrade(load(made.settings_file(), {}).store.url)
        yield made


async def test_all_is_well_and_the_table_says_so(tmp_path, capsys):
    async with place(tmp_path) as p:
        assert await p.checked(capsys) == (0, {})
        assert await asyncio.to_thread(main, ["check", "--no-replay", "-c", str(p.settings_file())]) == 0
        shown = capsys.readouterr().out
        for row in (
            "endpoint",
            "history",
            "contract",
            "signer",
            "balance",
            "database",
            "pauses",
            "disk: cache",
            "Ready.",
        ):
            assert row in shown


@pytest.mark.parametrize(
    ("values", "row", "says"),
    [
        ({"rpc": '["http://127.0.0.1:1"]'}, "endpoint", "cannot connect"),
        ({"chain_id": "5"}, "endpoint", "another chain"),
        ({"start_block": "1000000"}, "history", "above the head"),
        ({"exposure": str(10**30)}, "balance", "fund it"),
        ({"url": '"sqlite:////nowhere/x.sqlite"'}, "database", "challenger db upgrade"),
        ({"heads": '"/nowhere/at/all/heads"'}, "journal heads", "set [store] heads"),
        ({"cache": '"/dev/null"'}, "artefact cache", "no directory"),
        ({"key_file": '"/nowhere/key"'}, "signer", "key"),
    ],
)
async def test_each_row_fails_by_itself_and_says_what_to_do(tmp_path, capsys, values, row, says):
    async with place(tmp_path) as p:
        code, failed = await p.checked(capsys, **values)
        assert code == 1
        assert says in failed[row]


async def test_a_database_of_an_older_schema_or_another_deployment(tmp_path, capsys):
    async with place(tmp_path) as p:
        url = load(p.settings_file(), {}).store.url
        async with open_store(url) as store, store.begin(UnixTime(1)) as unit:
            await unit.settings.pin("deployment", "1/0xelsewhere")
        code, failed = await p.checked(capsys)
        assert (code, list(failed)) == (1, ["database"])
        assert "another deployment" in failed["database"]
        await migrate.downgrade(url, "0001")
        code, failed = await p.checked(capsys)
        assert "challenger db upgrade" in failed["database"]


async def test_a_pause_in_force_is_said(tmp_path, capsys):
    async with place(tmp_path) as p:
        async with open_store(load(p.settings_file(), {}).store.url) as store, store.begin(UnixTime(1)) as unit:
            await unit.approvals.pause("correlated", MODEL, "two providers")
        code, failed = await p.checked(capsys)
        assert (code, list(failed)) == (1, ["pauses"])
        assert "challenger resume" in failed["pauses"]


async def test_a_clock_that_is_off(tmp_path, capsys):
    async with place(tmp_path) as p:
        await p.served.devnet.rpc.ask("evm_increaseTime", 10_000)
        await p.served.devnet.rpc.ask("evm_mine")
        assert (await p.checked(capsys))[0] == 0, "an embedded chain has a clock of its own"
        code, failed = await p.checked(capsys, embedded="false", mode='"dry-run"')
        assert (code, list(failed)) == (1, ["endpoint"])
        assert "set the clock" in failed["endpoint"]


async def test_a_damaged_object_of_the_cache(tmp_path, capsys):
    async with place(tmp_path) as p:
        damaged = tmp_path / "cache" / "objects" / "ab" / ("sha256-" + "ab" * 32)
        damaged.parent.mkdir(parents=True)
        damaged.write_bytes(b"not what the name says")
        code, failed = await p.checked(capsys)
        assert (code, list(failed)) == (1, ["artefact cache"])
        assert "damaged" in failed["artefact cache"]


async def test_a_full_disk(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 << 20))
    async with place(tmp_path) as p:
        code, failed = await p.checked(capsys)
        assert code == 1
        assert set(failed) == {"disk: database", "disk: cache", "disk: evidence", "disk: journal heads"}
        assert all("5 MiB are free" in detail for detail in failed.values())


def test_reduced_isolation_is_said():
    full = {
        "network": "namespace+seccomp",
        "files": "landlock+seccomp",
        "memory": "address-space",
        "signals": "seccomp",
    }
    assert isolation(full).startswith("isolation:")
    assert "files without landlock" in isolation(full | {"files": "seccomp"})
    assert isolation({}).startswith("REDUCED")


class Hollow:
    """A key whose signatures are another's."""

    def __init__(self, inner) -> None:
        self._inner = inner
        self.address = Address("0x" + "12" * 20)

    async def sign_transaction(self, fields):
        return await self._inner.sign_transaction(fields)


async def test_a_signer_that_signs_for_somebody_else_is_refused(tmp_path):
    from challenger.chain.signers import from_key

    key = from_key(bytes(31) + b"\x07")
    await preflight._signs(key)
    with pytest.raises(Expected, match="not signed by its address"):
        await preflight._signs(Hollow(key))
    assert check.Row is preflight.Row


class Holds:
    def __init__(self, balance: int) -> None:
        self._balance = balance

    async def balance(self, address: str) -> int:
        return self._balance


async def test_where_bonds_are_stakes_in_a_token_the_balance_is_for_gas_alone() -> None:
    made = replace(Settings(), filing=FilingSettings(mode=Mode.LIVE, exposure=Wei(10**19)))
    tokens = Money(paid=False, whole="tokens")
    said = await preflight._balance([Holds(10**16)], "0x1", made, tokens)
    assert said == "0.01 ETH for gas, exposure 10 tokens"
    with pytest.raises(Expected, match="no ETH for gas"):
        await preflight._balance([Holds(0)], "0x1", made, tokens)
    with pytest.raises(Expected, match="less than the exposure of 10 ETH"):
        await preflight._balance([Holds(10**16)], "0x1", made, ETHER)


@pytest.mark.parametrize("command", [("run",), ("check", "--no-replay")])
def test_a_protocol_that_is_none_is_told_whatever_answers(tmp_path, capsys, command) -> None:
    file = tmp_path / "c.toml"
    where = f"sqlite+aiosqlite:///{tmp_path}/c.sqlite"
    file.write_text(f"""
[chain]
rpc = ["http://127.0.0.1:9"]
chain_id = 1
market = "0x{"11" * 20}"
[protocol]
name = "arbiuss"
[store]
url = "{where}"
""")
    assert main([*command, "-c", str(file), "--json"]) in (1, 2)
    told = capsys.readouterr()
    assert "there is no protocol 'arbiuss'" in told.out + told.err
