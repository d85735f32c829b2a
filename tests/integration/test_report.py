"""`challenger report` and `challenger findings`, as a person types them, over JSON-RPC."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from challenger.chain.answers import Receipt
from challenger.chain.codec import encode_call
from challenger.chain.devnet.served import RemoteDevnet, ServedDevnet
from challenger.chain.rpc import Rpc
from challenger.cli import main
from challenger.cli.report import PROTOCOLS
from challenger.contracts import double
from challenger.domain import Address, Call, Millionths, UnixTime, Wei
from challenger.errors import EndpointError, WrongChain
from challenger.protocols.findings import Finding
from challenger.reporter import keep_reporting
from challenger.reporting import REPORTS, Report, Wanted
from challenger.settings import EVENTS, Settings, load
from challenger.sim.opengradient.hub import Hub
from challenger.sim.opengradient.nodes import Conduct, Nodes, Served, request, served
from challenger.sim.wallet import Wallet
from challenger.store.engine import open_store
from challenger.store.migrate import upgrade
from challenger.store.unit import View

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))

from opengradient_stage import publish, rows, softmax_model
from settlement_stage import PAYER, infer, measurement, public, tee

RELAY = double("OpenGradientSettlement")
Look = Callable[[View], Awaitable[bool]]
CONDUCTS = (Conduct.CANONICAL, Conduct.OFF, Conduct.SIMULATED)


@dataclass
class Place:
    url: str
    first: int
    config: Path
    model: Served

    async def run(self, *args: str) -> int:
        return await asyncio.to_thread(main, [*args, "-c", str(self.config)])

    async def report(self, *more: str) -> int:
        return await self.run("report", "--protocol", "opengradient", "--from", str(self.first), *more)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A served chain with three inferences, and settings that name it."""
    blocks = tmp_path / "blocks"
    blocks.mkdir()
    model = served(softmax_model(tmp_path / "model"))
    publish(blocks, model)
    async with ServedDevnet() as chain, RemoteDevnet(chain.url) as devnet:
        hub, nodes = await Hub.deploy(Wallet(devnet.rpc, devnet.accounts[0].key, "user")), Nodes()
        for number, conduct in enumerate(CONDUCTS):
            inputs = rows(number)
            await hub.run(request(model, inputs), nodes.answer(model, inputs, conduct))
        config = tmp_path / "challenger.toml"
        config.write_text(
            f'[chain]\nrpc = ["{chain.url}"]\nconfirmations = 1\n'
            f'[store]\nurl = "sqlite:///{tmp_path / "record.sqlite"}"\n'
            f'[replay]\ncache = "{tmp_path / "cache"}"\ngateways = ["{blocks.as_uri()}"]\nbackend = "native"\n'
            f'[opengradient]\nhub = "{hub.address}"\nprecompile = "{hub.precompile}"\n'
        )
        await upgrade(f"sqlite:///{tmp_path / 'record.sqlite'}")
        yield Place(chain.url, hub.start_block, config, model)


async def test_a_report_is_recorded_once(place: Place, capsys) -> None:
    assert await place.report("--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["standing"] for one in told["inferences"]] == ["equal", "beyond", "no-output"]
    assert [one["kind"] for one in told["findings"]] == ["distant-output", "simulated-result"]
    assert [one["ground"] for one in told["findings"]] == ["distance", "proof"]
    assert told["capability"] == "report_only"
    assert (told["new"], told["chain"], told["unjoined"], told["fine"]) == (2, 31337, [], False)
    assert await place.report("--json", "--to", str(told["to"])) == 1
    assert json.loads(capsys.readouterr().out)["new"] == 0
    assert await place.run("findings", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["findings"]
    assert [row["kind"] for row in rows] == ["distant-output", "simulated-result"]
    assert rows[0]["facts"]["tolerance"] == "0.0001 + 0.001·|ours|"
    assert rows[0]["subject"] == told["findings"][0]["subject"]


async def test_as_tables(place: Place, capsys) -> None:
    assert await place.report() == 1
    out = capsys.readouterr().out
    assert "2 findings, 2 of them new to the record; nothing is filed over any of it." in out
    assert "3 inferences: 1 equal, 1 beyond, 1 no-output." in out
    assert await place.run("findings", "--protocol", "opengradient", "--limit", "1") == 0
    out = capsys.readouterr().out
    assert "simulated-result" in out
    assert "distant-output" not in out


async def test_a_part_is_drawn_and_the_draw_can_be_repeated(place: Place, capsys) -> None:
    seed = "11" * 32
    answers = []
    for _ in range(2):
        await place.report("--rate", "0.5", "--seed", seed, "--no-record", "--json")
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["new"] is None
    assert answers[0]["seed"] == "0x" + seed
    assert await place.report("--rate", "0", "--no-record") == 1  # what needs no replay is seen all the same
    out = capsys.readouterr().out
    assert "3 inferences: 2 not-drawn, 1 no-output." in out
    assert "Drawn with the seed" in out
    await place.run("findings")
    assert "No findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--from", "5", "--to", "4"), 2, "go in order"),
        (("--from", "1", "--rate", "2"), 2, "0 to 1"),
        (("--from", "1", "--seed", "12"), 2, "64 hex digits"),
        (("--from", "1", "--rpc", "http://127.0.0.1:9"), 1, "none answers"),
        (("--to", "1"), 2, "--from"),
    ],
)
def test_what_makes_no_sense_is_one_line(tmp_path: Path, capsys, args, code, says) -> None:
    config = tmp_path / "challenger.toml"
    config.write_text(f'[opengradient]\nhub = "0x{"4b" * 20}"\n')
    command = ["report", "--protocol", "opengradient", "--no-record", *args, "-c", str(config)]
    try:
        got = main(command)
    except SystemExit as stop:
        got = stop.code
    assert got == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('exact = ["QmNotThere"]', "[opengradient] exact: "),
        ('registry_form = "newest"', "newest"),
        ('registries = ["0x12"]', "ADDRESS BLOCK FORM"),
        ('aggregators = ["ftp://host"]', "an aggregator is"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_told_before_anything_is_asked(tmp_path: Path, capsys, line, says) -> None:
    config = tmp_path / "c.toml"
    word = "4b" * 20
    config.write_text(f'[opengradient]\nhub = "0x{word}"\nsettlement = "0x{word}"\nregistry = "0x{word}"\n{line}\n')
    nobody = ["--no-record", "--rpc", "http://127.0.0.1:9"]
    assert main(["report", "--protocol", "opengradient", "--from", "1", "-c", str(config), *nobody]) == 2
    assert says in capsys.readouterr().err


async def test_without_addresses_or_a_database_it_says_so(place: Place, capsys, tmp_path: Path) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text("")
    command = ["report", "--protocol", "opengradient", "--from", "1", "--rpc", place.url]
    assert await asyncio.to_thread(main, [*command, "-c", str(bare)]) == 2
    assert "neither hub nor settlement" in capsys.readouterr().err
    place.config.write_text(place.config.read_text().replace("record.sqlite", "other.sqlite"))
    assert await place.report() == 1
    assert "challenger db upgrade" in capsys.readouterr().err
    assert await place.report("--no-record", "--to", "99999") == 2
    assert "a block that there is not yet" in capsys.readouterr().err


async def test_settlements_are_part_of_it(place: Place, capsys, tmp_path: Path) -> None:
    """A batch that names no blob, settled in front of our eyes."""
    abi = double("OpenGradientSettlement").abi
    async with RemoteDevnet(place.url) as devnet:
        wallet = Wallet(devnet.rpc, devnet.accounts[1].key, "settler")
        contract, receipt = await wallet.create(double("OpenGradientSettlement").bytecode)
        await wallet.transact(Call(contract, encode_call(abi, "batchSettle", (b"\x07" * 32, 2, b"")), Wei(0)))
    (tmp_path / "blobs").mkdir()
    more = f'settlement = "{contract}"\nregistry = "{contract}"\nregistry_start = {receipt.block}\n'
    more += f'aggregators = ["{(tmp_path / "blobs").as_uri()}"]\n'
    place.config.write_text(place.config.read_text() + more)
    assert await place.report("--rate", "0", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["kind"] for one in told["findings"]} == {"simulated-result", "blob-missing"}
    assert told["new"] == 2


def test_what_stands_twice_is_the_same() -> None:
    assert set(PROTOCOLS) == set(REPORTS)
    from challenger.protocols.opengradient.settlement.registry import FORMS
    from challenger.protocols.opengradient.wire import PRECOMPILE, Form

    ours = Settings().opengradient
    assert tuple(Form) == EVENTS == ours.events
    assert ours.precompile == PRECOMPILE
    assert ours.registry_form in FORMS


async def test_run_goes_on_from_where_it_was_and_says_what_it_finds(place: Place, caplog) -> None:
    """Where there is no dispute `challenger run` reports, block after block, and a restart begins where the last one ended."""
    config = place.config.read_text()
    place.config.write_text(
        config.replace("confirmations = 1", f"confirmations = 1\npoll = 0.05\nstart_block = {place.first}")
        + '[protocol]\nname = "opengradient"\n[sampling]\nbase = 1000000\n'
    )
    settings = load(place.config, {})

    async def until(entries: int) -> list[Any]:
        stop = asyncio.Event()
        going = asyncio.create_task(keep_reporting(settings, stop))
        try:
            async with asyncio.timeout(120), open_store(settings.store.url) as store:
                while True:
                    async with store.read() as view:
                        told = [e for e in await view.journal.after(0) if e.kind == "reported"]
                    if len(told) >= entries or going.done():
                        return told
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await stop.wait()
        finally:
            stop.set()
            await going

    with caplog.at_level("INFO", logger="challenger"):
        (entry,) = await until(1)
        payload = json.loads(entry.payload)
        assert (payload["first"], payload["inferences"]) == (place.first, 3)
        async with RemoteDevnet(place.url) as devnet:
            head = await devnet.rpc.block("latest")
            assert payload["last"] == head.number
            await devnet.mine()
        again = await until(2)
        assert json.loads(again[1].payload)["first"] == head.number + 1
    said = [record.fields for record in caplog.records if getattr(record, "action", "") == "finding"]
    assert [one["kind"] for one in said] == ["distant-output", "simulated-result"]
    assert await place.run("findings", "--json") == 0


class Moving:
    """The chain's endpoint, that has other hashes for some blocks once inferences were read."""

    def __init__(self, provider: Any, moved: Callable[[int], bool]) -> None:
        self._provider = provider
        self._moved = moved
        self._read = False

    async def make_request(self, method: Any, params: Any) -> Any:
        self._read |= method == "eth_getTransactionByHash"
        answer = await self._provider.make_request(method, params)
        if method == "eth_getBlockByNumber" and self._read and self._moved(int(answer["result"]["number"], 16)):
            answer["result"]["hash"] = "0x" + "66" * 32
        return answer


@pytest.mark.parametrize("which", ["the last block", "the finding's own"])
async def test_what_was_found_on_a_chain_that_moved_is_not_kept(place: Place, which: str, caplog) -> None:
    """The end of the range is another than it was, or the endpoint served logs of a block that is none of the chain's."""
    settings = load(place.config, {})
    async with RemoteDevnet(place.url) as devnet:
        last = (await devnet.rpc.block("latest")).number
        moved = {"the last block": lambda block: block == last, "the finding's own": lambda block: block < last}[which]
        told: list[Finding] = []
        rpc = Rpc(Moving(devnet.rpc.provider, moved))
        with pytest.raises(EndpointError, match="reorganised"):
            async for _ in Report(settings, Wanted(place.first, last), rpc=rpc, kept=told.append).results():
                pass
        async with open_store(settings.store.url) as store, store.read() as view:
            assert await view.findings.all() == []
        assert told == []
        report = Report(settings, Wanted(place.first, last), rpc=devnet.rpc, kept=told.append)
        assert len([one async for one in report.results()]) == 3
    assert [one.kind for one in told] == ["distant-output", "simulated-result"]
    async with open_store(settings.store.url) as store, store.read() as view:
        assert [row.subject for row in await view.findings.all()] == [one.subject for one in told]


async def test_what_was_found_of_inferences_is_kept_whatever_holds_up_the_settlements(settled: Settled, capsys) -> None:
    await settled.forge(0, 1)
    more = f'settlement = "{settled.relay}"\nregistry = "{settled.relay}"\nregistry_start = {settled.start + 8}\n'
    settled.place.config.write_text(settled.place.config.read_text() + more)
    assert await settled.place.report() == 2
    assert "begin at an earlier block" in capsys.readouterr().err
    assert await settled.place.run("findings", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["findings"]
    assert [row["kind"] for row in rows] == ["distant-output", "simulated-result"]


@dataclass
class Settled:
    """A relay on the place's chain, with a registry of enclaves 0 and 1 in it, and settings that name it."""

    place: Place
    wallet: Wallet
    relay: Address
    start: int

    async def act(self, name: str, *args: object, to: Address | None = None) -> Receipt:
        return await self.wallet.transact(Call(to or self.relay, encode_call(RELAY.abi, name, args), Wei(0)))

    async def registry(self) -> tuple[Address, int]:
        """Another one, that keeps enclave 1."""
        address, receipt = await self.wallet.create(RELAY.bytecode)
        await enrol(self, 1, address)
        return address, receipt.block

    async def forge(self, which: int, number: int) -> bytes:
        """An individual settlement in the name of one enclave, by the other; its subject."""
        now = (await self.wallet.rpc.block("latest")).time
        one = infer(which, number, now, signer=1 - which)
        fields = (one.tee, one.input_hash, one.output_hash, one.timestamp, PAYER, b"A" * 43, one.signature)
        await self.act("settleIndividual", *fields)
        return one.tuple_key

    def settings(self, more: str = "") -> Settings:
        text = self.place.config.read_text()
        text = text.replace("confirmations = 1", f"confirmations = 1\npoll = 0.05\nstart_block = {self.place.first}")
        text += f'settlement = "{self.relay}"\nregistry = "{self.relay}"\nregistry_start = {self.start}\n{more}'
        config = self.place.config.with_name("going.toml")
        config.write_text(text + '[protocol]\nname = "opengradient"\n[sampling]\nbase = 0\n')
        return load(config, {})


async def enrol(settled: Settled, which: int, registry: Address) -> None:
    await settled.act("approvePCR", measurement(which), 0, "v1", to=registry)
    await settled.act("register", public(which), measurement(which), 0, to=registry)


@pytest.fixture
async def settled(place: Place) -> AsyncIterator[Settled]:
    async with RemoteDevnet(place.url) as devnet:
        wallet = Wallet(devnet.rpc, devnet.accounts[1].key, "settler")
        relay, receipt = await wallet.create(RELAY.bytecode)
        made = Settled(place, wallet, relay, receipt.block)
        for which in (0, 1):
            await enrol(made, which, relay)
        yield made


@asynccontextmanager
async def going(settings: Settings, **seams: Any) -> AsyncIterator[Callable[[Look], Awaitable[None]]]:
    """`keep_reporting` meanwhile; what comes out waits until a look at the record holds."""
    stop = asyncio.Event()
    task = asyncio.create_task(keep_reporting(settings, stop, **seams))
    async with asyncio.timeout(120), open_store(settings.store.url) as store:

        async def until(look: Look) -> None:
            while not task.done():
                async with store.read() as view:
                    if await look(view):
                        return
                await asyncio.wait([task], timeout=0.05)
            await task
            raise AssertionError("the report has ended")

        try:
            yield until
        finally:
            stop.set()
            await task


async def found(view: View, kind: str) -> list[bytes]:
    return [row.subject for row in await view.findings.all() if row.kind == kind]


async def reported(view: View, settlement: bool) -> list[Any]:
    """Of each range of this part, what the journal has of it."""
    entries = [one for one in await view.journal.after(0) if one.kind == "reported"]
    return [json.loads(one.payload) for one in entries if ("/settlement/" in one.subject) == settlement]


async def test_a_registry_that_is_exchanged_holds_up_the_settlements_alone_until_it_is_named(
    settled: Settled, caplog
) -> None:
    before = await settled.forge(0, 1)
    registry, start = await settled.registry()
    await settled.act("setRegistry", registry)
    after = await settled.forge(1, 2)
    block = (await settled.wallet.rpc.block("latest")).number

    async def held_up(view: View) -> bool:
        inferences, settlements = await reported(view, False), await reported(view, True)
        told = [record.fields for record in caplog.records if getattr(record, "action", "") == "trouble"]
        return bool(
            inferences
            and inferences[-1]["last"] >= block
            and settlements
            and settlements[-1]["last"] == block - 1
            and any(registry in one["error"] and f"block={block}" in one["error"] for one in told)
        )

    async def goes_on(view: View) -> bool:
        return (await reported(view, False))[-1]["last"] > block

    with caplog.at_level("INFO", logger="challenger"):
        for _ in range(2):  # a restart changes nothing
            caplog.clear()
            async with going(settled.settings()) as until:
                await until(held_up)
        async with going(settled.settings()) as until:
            await settled.act("enableTEE", tee(0))
            await until(goes_on)

            async def same(view: View) -> bool:
                return await found(view, "bad-signature") == [before]

            await until(same)

    async def caught_up(view: View) -> bool:
        return await found(view, "bad-signature") == [before, after]

    async with going(settled.settings(f'registries = ["{registry} {start} current"]\n')) as until:
        await until(caught_up)


async def test_settings_that_hold_up_settlements_leave_the_inferences_alone(settled: Settled, caplog) -> None:
    """Whatever is wrong with the one part, the other goes on; corrected, it begins where it stood."""
    subject = await settled.forge(0, 1)

    async def inferences(view: View) -> bool:
        told = [record.fields for record in caplog.records if getattr(record, "action", "") == "trouble"]
        return bool(await reported(view, False)) and any("begin at an earlier block" in one["error"] for one in told)

    late = settled.settings()
    late = replace(late, opengradient=replace(late.opengradient, registry_start=settled.start + 8))
    with caplog.at_level("INFO", logger="challenger"):
        async with going(late) as until:
            await until(inferences)

    async def settlements(view: View) -> bool:
        return await found(view, "bad-signature") == [subject]

    async with going(settled.settings()) as until:
        await until(settlements)


class Broken:
    """A store of models that has a fault of its own."""

    async def fetch_cid(self, uri: str, max_bytes: int = 0) -> Path:
        raise KeyError(uri, max_bytes)


async def test_a_fault_in_one_part_is_said_and_ends_neither(settled: Settled, caplog) -> None:
    subject = await settled.forge(0, 1)

    async def settlements(view: View) -> bool:
        told = [record for record in caplog.records if getattr(record, "action", "") == "trouble"]
        return await found(view, "bad-signature") == [subject] and any(
            "KeyError" in one.fields["error"] for one in told
        )

    settings = settled.settings()
    settings = replace(settings, sampling=replace(settings.sampling, base=Millionths(1_000_000)))
    with caplog.at_level("INFO", logger="challenger"):
        async with going(settings, models=Broken()) as until:
            await until(settlements)
    assert [one.levelname for one in caplog.records if one.getMessage() == "trouble"] == ["ERROR"]


async def test_settlements_begin_where_both_were_when_they_went_together(settled: Settled) -> None:
    await settled.forge(0, 1)
    head = (await settled.wallet.rpc.block("latest")).number
    settings = settled.settings()
    async with open_store(settings.store.url) as store, store.begin(UnixTime(0)) as unit:
        await unit.settings.put("reported/opengradient", str(head + 1))
    subject = await settled.forge(1, 2)

    async def both(view: View) -> bool:
        return bool(await reported(view, False) and await reported(view, True))

    async with going(settings) as until:
        await until(both)
    async with open_store(settings.store.url) as store, store.read() as view:
        assert await found(view, "bad-signature") == [subject]
        assert (await reported(view, True))[0]["first"] == head + 1


async def test_what_repeats_a_settlement_of_an_earlier_range_is_a_duplicate(settled: Settled) -> None:
    now = (await settled.wallet.rpc.block("latest")).time
    one = infer(0, 1, now)
    fields = (one.tee, one.input_hash, one.output_hash, one.timestamp, PAYER, b"A" * 43, one.signature)
    first = await settled.act("settleIndividual", *fields)

    async def read(view: View) -> bool:
        return any(entry["last"] >= first.block for entry in await reported(view, True))

    async def duplicate(view: View) -> bool:
        return await found(view, "duplicate-settlement") == [one.tuple_key]

    async with going(settled.settings()) as until:
        await until(read)
        await settled.act("settleIndividual", *fields)
        await until(duplicate)


async def test_another_chain_is_told_at_the_start(settled: Settled) -> None:
    settings = settled.settings()
    with pytest.raises(WrongChain):
        await keep_reporting(replace(settings, chain=replace(settings.chain, chain_id=5)), asyncio.Event())


def test_run_of_reports_without_anything_to_report_on_says_so(tmp_path: Path, capsys) -> None:
    config = tmp_path / "c.toml"
    url = f"sqlite+aiosqlite:///{tmp_path}/c.sqlite"
    config.write_text(f'[protocol]\nname = "opengradient"\n[store]\nurl = "{url}"\n')
    asyncio.run(upgrade(url))
    assert main(["run", "-c", str(config)]) == 2
    assert "[opengradient] names neither hub nor settlement" in capsys.readouterr().err


async def test_what_needs_disputes_says_that_there_are_none(place: Place, capsys) -> None:
    place.config.write_text(
        place.config.read_text().replace("[store]", f'chain_id = 31337\nmarket = "0x{"11" * 20}"\n[store]')
        + '[protocol]\nname = "opengradient"\n'
    )
    assert await place.run("approvals") == 2
    assert "opengradient has no disputes" in capsys.readouterr().err


async def test_check_knows_a_protocol_that_is_only_reported_on(place: Place, capsys) -> None:
    config = place.config.read_text()
    place.config.write_text(f'{config}[protocol]\nname = "opengradient"\n')
    assert await place.run("check", "--no-replay", "--json") == 0, capsys.readouterr().out
    capsys.readouterr()
    hub = config.partition('hub = "')[2][:42]
    place.config.write_text(f'{config}[protocol]\nname = "opengradient"\n'.replace(hub, "0x" + "5e" * 20))
    assert await place.run("check", "--no-replay", "--json") == 1
    assert "there is no contract" in capsys.readouterr().out
