"""The whole audit on a chain: the double of the contracts, blobs in a folder, findings out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest
from settlement_stage import PAYER, blob_id, dump, infer, measurement, payload, public, root_of, sign, tee

from challenger.chain.answers import RawLog, Receipt
from challenger.chain.codec import decode_result, encode_call
from challenger.chain.devnet.embedded import EmbeddedDevnet
from challenger.chain.devnet.node import Options
from challenger.contracts import double
from challenger.domain import Address, At, Block, BlockNumber, Call, Hash32, Wei
from challenger.errors import ConfigError, EndpointError, FetchRefused, MalformedLog, UnknownBlock
from challenger.protocols.findings import Finding, Ground
from challenger.protocols.opengradient.settlement.audit import Blobs, Known, audited, settlement_findings
from challenger.protocols.opengradient.settlement.check import Limits
from challenger.protocols.opengradient.settlement.enclaves import Moment, Status, Timeline
from challenger.protocols.opengradient.settlement.fetch import BlobSources, Served
from challenger.protocols.opengradient.settlement.registry import Enclave, RegistryLogs, form_named
from challenger.protocols.opengradient.settlement.seen import First, Seen
from challenger.protocols.opengradient.settlement.settled import Inference
from challenger.protocols.opengradient.settlement.terms import Deployment, Registry, UnnamedRegistry, read_limits
from challenger.sim.wallet import ActorFailed, Wallet

ABI = double("OpenGradientSettlement").abi


@dataclass(slots=True)
class Stage:
    """Account 0 owns the enclaves 0 and 1 (measurements 0 and 1), account 1 settles; blobs lie in ``folder``."""

    devnet: EmbeddedDevnet
    deployment: Deployment
    owner: Wallet
    settler: Wallet
    folder: Path

    async def act(self, name: str, *args: object, by: Wallet | None = None) -> Receipt:
        to = self.deployment.settlement
        return await (by or self.owner).transact(Call(to, encode_call(ABI, name, args), Wei(0)))

    async def now(self) -> int:
        return (await self.devnet.rpc.block("latest")).time

    def publish(self, data: bytes) -> bytes:
        name = blob_id(data)
        (self.folder / name.decode()).write_bytes(data)
        return name

    async def batch(
        self,
        batch: Sequence[Inference],
        *,
        root: bytes | None = None,
        size: int | None = None,
        blob: bytes | None = None,
    ) -> Receipt:
        name = self.publish(dump(batch)) if blob is None else blob
        root = root_of(batch) if root is None else root
        return await self.act("batchSettle", root, len(batch) if size is None else size, name, by=self.settler)

    async def single(self, one: Inference) -> Receipt:
        name = self.publish(payload(one))
        fields = (one.tee, one.input_hash, one.output_hash, one.timestamp, PAYER, name, one.signature)
        return await self.act("settleIndividual", *fields, by=self.settler)

    async def beat(self) -> None:
        for which in (0, 1):
            await self.act("heartbeat", tee(which), await self.now())

    async def audit(self, limits: Limits | None = None, first: int = 0, **changes: object) -> list[Finding]:
        last = (await self.devnet.rpc.block("latest")).number
        deployment = replace(self.deployment, **changes)  # type: ignore[arg-type]
        async with BlobSources(folder=self.folder) as blobs:
            return await settlement_findings(self.devnet.rpc, deployment, first, last, blobs, limits)


@asynccontextmanager
async def staged(folder: Path, options: Options | None = None) -> AsyncIterator[Stage]:
    async with EmbeddedDevnet(options=options) as devnet:
        owner, settler = (Wallet(devnet.rpc, account.key, "actor") for account in devnet.accounts[:2])
        address, receipt = await owner.create(double("OpenGradientSettlement").bytecode)
        deployment = Deployment(address, address, receipt.block)
        stage = Stage(devnet, deployment, owner, settler, folder)
        for which in (0, 1):
            await stage.act("approvePCR", measurement(which), 0, "v1")
            await stage.act("register", public(which), measurement(which), 0)
        yield stage


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as made:
        yield made


def told(found: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return [(one.kind, one.party, str(one.ground)) for one in found]


async def test_an_honest_history_gives_no_finding(stage: Stage) -> None:
    for round_ in range(3):
        await stage.beat()
        now = await stage.now()
        await stage.batch([infer(n % 2, 10 * round_ + n, now) for n in range(1 + 3 * round_)])
        await stage.single(infer(0, 1000 + round_, now))
        await stage.devnet.time_travel(by=1000)
    await stage.act("disableTEE", tee(0))
    await stage.act("revokePCR", measurement(1), 0)
    assert await stage.audit() == []


async def test_a_broken_history_gives_exactly_its_findings(stage: Stage) -> None:
    await stage.beat()
    now = await stage.now()
    good = [infer(n % 2, n, now) for n in range(4)]
    await stage.batch(good)
    await stage.batch(good, root=b"\7" * 32)
    await stage.batch([infer(0, 20, now)], size=2)
    await stage.batch([infer(0, 21, now)], blob=blob_id(b"nowhere"))
    again = await stage.single(good[0])
    await stage.single(sign(good[1], 1))
    await stage.single(infer(0, 30, now, signer=1))
    await stage.single(infer(2, 22, now))
    await stage.act("revokePCR", measurement(0), 0)
    await stage.act("disableTEE", tee(1))
    await stage.devnet.time_travel(by=600)
    await stage.batch([infer(0, 23, await stage.now()), infer(1, 24, await stage.now())])
    await stage.devnet.time_travel(by=600)
    await stage.act("enableTEE", tee(1))
    await stage.act("heartbeat", tee(1), await stage.now())
    one = infer(1, 25, await stage.now())
    await stage.devnet.time_travel(by=4000)
    await stage.single(one)
    await stage.single(infer(1, 26, await stage.now()))

    settler, enclaves = stage.settler.address, ["0x" + tee(n).hex() for n in (0, 1)]
    found = await stage.audit()
    assert told(found) == [
        ("batch-root-mismatch", settler, "absence"),
        ("batch-size-mismatch", settler, "proof"),
        ("blob-missing", settler, "absence"),
        ("duplicate-settlement", settler, "proof"),
        ("tuple-signed-twice", settler, "proof"),
        ("bad-signature", settler, "proof"),
        ("signer-unknown", settler, "proof"),
        ("signer-revoked", enclaves[0], "proof"),
        ("signer-disabled", enclaves[1], "proof"),
        ("stale-inference", settler, "proof"),
        ("signer-silent", enclaves[1], "proof"),
    ]
    duplicate = found[3]
    assert duplicate.subject == good[0].tuple_key
    assert (duplicate.at.block, duplicate.at.tx_hash) == (again.block, again.tx_hash)
    assert duplicate.facts["tee"] == enclaves[0]
    late = await stage.audit(first=again.block + 1)
    assert told(late) == told([one for one in found if one.at.block > again.block and one.kind != "tuple-signed-twice"])


class Body(bytes):
    """Of a blob; how many there are at once is counted."""

    alive = most = 0

    def __new__(cls, data: bytes) -> Self:
        cls.alive += 1
        cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, data)

    def __del__(self) -> None:
        type(self).alive -= 1


class Heavy:
    """Blobs by name, each time a body of its own."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self._bodies = bodies
        self.asked = 0

    async def fetch(self, name: str, fits: Callable[[bytes], bool]) -> Served:
        self.asked += 1
        data = Body(self._bodies[name])
        await asyncio.to_thread(fits, data)
        return Served(data, 1, "")


@pytest.mark.parametrize("different", [True, False])
async def test_of_many_settlements_few_blobs_are_held_at_once(stage: Stage, different: bool) -> None:
    """One large blob that is settled again and again, or as many as there are settlements."""
    await stage.beat()
    now = await stage.now()
    batches = [[infer(0, n, now, signer=1), infer(1, 100 + n, now)] for n in range(40 if different else 1)]
    bodies = {blob_id(data).decode(): data for data in map(dump, batches)}
    for name, batch in list(zip(bodies, batches, strict=True)) * (40 // len(batches)):
        await stage.act("batchSettle", root_of(batch), 2, name.encode())
    last = (await stage.devnet.rpc.block("latest")).number
    Body.most = Body.alive
    heavy = Heavy(bodies)
    found = await settlement_findings(stage.devnet.rpc, stage.deployment, 0, last, heavy)
    assert heavy.asked == 40
    kinds = ["bad-signature"] * 40 if different else ["bad-signature", *["duplicate-settlement"] * 39]
    assert [one.kind for one in found] == kinds
    assert Body.most <= 24


async def test_without_blobs_the_chain_alone_is_held_against_itself(stage: Stage) -> None:
    await stage.beat()
    batch = [infer(0, 1, await stage.now())]
    await stage.batch(batch, blob=b"")
    await stage.batch(batch)
    await stage.single(infer(0, 2, await stage.now(), signer=1))
    last = (await stage.devnet.rpc.block("latest")).number
    found = await settlement_findings(stage.devnet.rpc, stage.deployment, 0, last)
    assert [one.kind for one in found] == ["blob-missing", "duplicate-settlement", "bad-signature"]
    assert found[0].ground is Ground.PROOF


async def test_limits_are_read_from_the_contracts(stage: Stage) -> None:
    await stage.act("setHeartbeatMaxAge", 60)
    (registry,) = stage.deployment.registries
    assert await read_limits(stage.devnet.rpc, stage.deployment, registry) == Limits(60, 3600, 300, 300)
    older = replace(registry, form="precompile")
    assert await read_limits(stage.devnet.rpc, stage.deployment, older) == Limits(None, 3600, 300, 300)
    nowhere = replace(stage.deployment, settlement=Address("0x" + "77" * 20))
    elsewhere = replace(registry, address=Address("0x" + "78" * 20))
    assert await read_limits(stage.devnet.rpc, nowhere, elsewhere) == Limits()
    await stage.devnet.time_travel(by=400)
    await stage.single(infer(0, 1, await stage.now()))
    assert [one.kind for one in await stage.audit()] == ["signer-silent"]
    assert await stage.audit(Limits()) == []


async def test_a_reorganisation_leaves_nothing_behind(stage: Stage) -> None:
    await stage.beat()
    before = await stage.devnet.rpc.block("latest")
    await stage.act("disableTEE", tee(0))
    await stage.devnet.time_travel(by=400)
    await stage.single(infer(0, 1, await stage.now()))
    assert [one.kind for one in await stage.audit()] == ["signer-disabled"]
    head = await stage.devnet.rpc.block("latest")
    await stage.devnet.reorg(head.number - before.number)
    stage.settler.forget()
    await stage.single(infer(0, 2, await stage.now()))
    assert await stage.audit() == []


class Ranges:
    """The stage's chain audited range after range, with what is known of the ones before."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._known = Known()
        self.next = 0
        self.asked: list[tuple[Address, int]] = []

    async def go_on(self, blobs: Blobs | None = None, first: int | None = None) -> list[Finding]:
        """To the newest block, from where it came (or ``first``)."""
        rpc = self._stage.devnet.rpc
        last = (await rpc.block("latest")).number
        audit = audited(self, self._stage.deployment, first or self.next, last, blobs, known=self._known)
        found = [one async for one in audit]
        self.next = last + 1
        return found

    async def logs(self, addresses: Sequence[Address], first: int, *more: Any) -> list[RawLog]:
        self.asked.append((addresses[0], first))
        return await self._stage.devnet.rpc.logs(addresses, first, *more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage.devnet.rpc, name)


async def test_what_was_settled_in_an_earlier_range_is_known(stage: Stage) -> None:
    await stage.beat()
    ranges, one = Ranges(stage), infer(0, 1, await stage.now())
    first = await stage.single(one)
    assert await ranges.go_on() == []
    await stage.devnet.mine()
    assert await ranges.go_on() == []
    await stage.single(one)
    await stage.single(sign(one, 0))
    found = await ranges.go_on()
    assert [one.kind for one in found] == ["duplicate-settlement", "tuple-signed-twice"]
    assert f"in block {first.block}, log" in found[0].said
    assert [one.kind for one in await stage.audit()] == [one.kind for one in found]
    assert await ranges.go_on(first=found[0].at.block) == found  # a range that is read again
    assert await ranges.go_on(first=found[0].at.block + 9) == []  # one that does not follow stands alone


async def test_what_was_read_of_registries_is_not_read_again(stage: Stage) -> None:
    ranges = Ranges(stage)
    for _ in range(2):
        await stage.beat()
        await stage.single(infer(0, len(ranges.asked), await stage.now()))
        begin = ranges.next
        ranges.asked.clear()
        assert await ranges.go_on() == []
    assert {first for _, first in ranges.asked} == {begin}
    await stage.act("disableTEE", tee(0))
    await stage.devnet.time_travel(by=400)
    await stage.single(infer(0, 99, await stage.now()))
    assert [one.kind for one in await ranges.go_on()] == ["signer-disabled"]


async def test_a_range_that_broke_off_leaves_nothing_that_accuses(stage: Stage) -> None:
    await stage.beat()
    batches = [[infer(n % 2, n, await stage.now())] for n in range(12)]
    for batch in batches:
        await stage.batch(batch)

    class Once:
        """Sources that are forbidden at the tenth blob, the first time."""

        left = 10

        async def fetch(self, name: str, fits: Callable[[bytes], bool]) -> Served:
            self.left -= 1
            if self.left == 0:
                raise FetchRefused("not now")
            data = (stage.folder / name).read_bytes()
            return Served(data, 1, "")

    ranges, blobs = Ranges(stage), Once()
    with pytest.raises(FetchRefused):
        await ranges.go_on(blobs)
    assert await ranges.go_on(blobs) == []
    await stage.batch(batches[0])
    assert [one.kind for one in await ranges.go_on(blobs)] == ["duplicate-settlement"]


async def test_a_reorganisation_between_two_ranges_leaves_nothing_behind(stage: Stage) -> None:
    await stage.beat()
    before = await stage.devnet.rpc.block("latest")
    ranges, one = Ranges(stage), infer(0, 1, await stage.now())
    await stage.single(one)
    await stage.act("disableTEE", tee(1))
    assert await ranges.go_on() == []
    head = await stage.devnet.rpc.block("latest")
    await stage.devnet.reorg(head.number - before.number)
    stage.settler.forget()
    stage.owner.forget()
    while (await stage.devnet.rpc.block("latest")).number < head.number:
        await stage.devnet.mine()
    await stage.devnet.time_travel(by=400)
    await stage.single(one)
    await stage.single(infer(1, 2, await stage.now()))
    assert await ranges.go_on() == []


def test_of_what_was_settled_the_latest_is_known() -> None:
    seen = Seen(most=4)

    def place(block: int) -> At:
        return At(BlockNumber(block), Hash32(bytes(32)), 0, Hash32(bytes(32)))

    for block in range(1, 11):
        assert not seen.first(b"%d" % block, place(block), b"mark").elsewhere(place(block))
        assert seen.first(b"%d" % max(1, block - 3), place(11), b"") == First(max(1, block - 3), 0, b"mark")
    assert seen.first(b"1", place(12)).block == 12
    seen.forget(9)
    assert [seen.first(b"%d" % block, place(20)).block for block in (8, 9, 10)] == [8, 20, 20]
    seen.forget()
    assert seen.first(b"8", place(21)).block == 21
    seen.close()


async def test_a_registry_read_from_too_late_is_said(stage: Stage) -> None:
    await stage.single(infer(0, 1, await stage.now()))
    start = (await stage.devnet.rpc.block("latest")).number
    with pytest.raises(ConfigError, match="begin at an earlier block") as caught:
        await stage.audit(registry_start=start)
    assert "\n" not in str(caught.value)


async def another_registry(stage: Stage, *enclaves: int) -> Registry:
    """That keeps these enclaves."""
    address, receipt = await stage.owner.create(double("OpenGradientSettlement").bytecode)
    for which in enclaves:
        for name, args in (
            ("approvePCR", (measurement(which), 0, "v1")),
            ("register", (public(which), measurement(which), 0)),
        ):
            await stage.owner.transact(Call(address, encode_call(ABI, name, args), Wei(0)))
    return Registry(address, receipt.block)


async def test_settlements_are_held_against_the_registry_that_was_asked(stage: Stage) -> None:
    """The old one knows the enclaves 0 and 1, the new one 1 and 2."""
    await stage.single(infer(0, 1, await stage.now()))
    await stage.single(infer(2, 2, await stage.now()))
    other = await another_registry(stage, 1, 2)
    await stage.devnet.time_travel(by=400)
    await stage.act("setRegistry", other.address)
    await stage.devnet.time_travel(by=400)
    at = await stage.now()
    await stage.single(infer(2, 3, at))
    await stage.batch([infer(0, 4, at), infer(1, 5, at)])
    found = await stage.audit(others=(other,))
    assert [(one.kind, one.facts["tee"]) for one in found] == [
        ("signer-unknown", "0x" + tee(2).hex()),
        ("signer-unknown", "0x" + tee(0).hex()),
    ]
    turned = replace(stage.deployment, registry=other.address, registry_start=other.start)
    last = (await stage.devnet.rpc.block("latest")).number
    async with BlobSources(folder=stage.folder) as blobs:
        again = await settlement_findings(
            stage.devnet.rpc, replace(turned, others=stage.deployment.registries), 0, last, blobs
        )
    assert again == found


async def test_what_was_signed_under_the_registry_before_is_held_against_that(stage: Stage) -> None:
    """An inference waits for its batch while the registry is exchanged: neither its enclave nor its settler is to blame."""
    await stage.beat()
    waiting = [infer(0, 1, await stage.now()), infer(1, 2, await stage.now())]
    await stage.devnet.time_travel(by=1000)
    other = await another_registry(stage, 1)
    await stage.act("setRegistry", other.address)
    await stage.devnet.time_travel(by=600)
    exchanged = await stage.batch(waiting)
    assert await stage.audit(others=(other,)) == []
    # nor where the one before is not known any more
    turned = {"registry": other.address, "registry_start": 0}
    assert await stage.audit(first=exchanged.block, **turned) == []
    await stage.act("disableTEE", tee(1))
    assert await stage.audit(others=(other,)) == []
    late = infer(1, 3, await stage.now())
    await stage.single(late)
    assert await stage.audit(others=(other,)) == []  # the new registry has not disabled it


async def test_a_registry_that_is_not_named_is_said_with_the_block_where_it_matters(stage: Stage) -> None:
    await stage.single(infer(0, 1, await stage.now(), signer=1))
    last = (await stage.devnet.rpc.block("latest")).number
    other = await another_registry(stage, 1)
    await stage.act("setRegistry", other.address)
    await stage.devnet.mine()
    audit = partial(settlement_findings, stage.devnet.rpc)
    before = await stage.audit()
    assert [one.kind for one in before] == ["bad-signature"]  # nothing was settled under the new one yet
    settled = await stage.single(infer(1, 2, await stage.now()))
    with pytest.raises(UnnamedRegistry, match=f"registry={other.address}, block={settled.block}") as caught:
        await stage.audit()
    assert caught.value.block == settled.block
    assert await audit(stage.deployment, 0, settled.block - 1) == await audit(stage.deployment, 0, last)
    with pytest.raises(UnnamedRegistry, match=f"registry={stage.deployment.registry}"):
        await stage.audit(registry=other.address, registry_start=other.start)


async def test_a_verifier_that_contradicts_itself_is_no_ones_fault(stage: Stage) -> None:
    await stage.act("setRegistry", Address("0x" + "88" * 20))
    await stage.act("setRegistry", stage.deployment.registry)
    await stage.single(infer(0, 1, await stage.now()))
    last = (await stage.devnet.rpc.block("latest")).number

    def without_the_last(logs: list[RawLog]) -> list[RawLog]:
        return logs[:-1] if len(logs) == 2 and logs[0].topics[0] == logs[1].topics[0] else logs

    with pytest.raises(EndpointError, match="contradicts itself"):
        await settlement_findings(Skewed(stage, logs=without_the_last), stage.deployment, 0, last)


@pytest.mark.parametrize(
    "text", ["", "0x12 5 current", f"0x{'12' * 20} x current", f"0x{'12' * 20} 5", f"0x{'12' * 20} 5 newest"]
)
def test_a_registry_that_is_written_wrongly_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Registry.parse(text)
    assert Registry.parse(f"0x{'AB' * 20} 5 grace") == Registry(Address("0x" + "ab" * 20), 5, "grace")


async def test_addresses_are_the_same_in_any_case(stage: Stage) -> None:
    await stage.single(infer(0, 1, await stage.now()))
    shouted = Address("0x" + stage.deployment.settlement[2:].upper())
    assert await stage.audit(settlement=shouted, registry=shouted) == []


async def test_an_endpoint_that_answers_short_ranges_only(tmp_path: Path) -> None:
    async with staged(tmp_path, Options(log_range=3)) as stage:
        await stage.beat()
        await stage.batch([infer(0, 1, await stage.now())], size=9)
        await stage.devnet.mine(10)
        assert [one.kind for one in await stage.audit()] == ["batch-size-mismatch"]


async def test_another_form_of_the_registry_is_no_clean_bill(stage: Stage) -> None:
    await stage.single(infer(0, 1, await stage.now()))
    with pytest.raises((ConfigError, EndpointError, MalformedLog)):
        await stage.audit(form="precompile")


class Skewed:
    """The stage's endpoint with some answers bent: ``bend`` has a function for a method's name."""

    def __init__(self, stage: Stage, **bend: Callable[[Any], Any]) -> None:
        self._rpc = stage.devnet.rpc
        self._bend = bend

    def __getattr__(self, name: str) -> Any:
        async def ask(*args: Any) -> Any:
            answer = await getattr(self._rpc, name)(*args)
            return self._bend[name](answer) if name in self._bend else answer

        return ask


def other_hash(blocks: list[Block]) -> list[Block]:
    return [replace(block, hash=Hash32(b"\1" * 32)) for block in blocks]


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        ({"transaction": lambda _: None}, "does not know a transaction"),
        ({"blocks": other_hash}, "none of the chain's"),
        ({"call": lambda answer: answer.replace(public(0)[-20:], bytes(20))}, "not the enclave's"),
        ({"call": lambda answer: answer if len(answer) <= 32 else answer[:-1]}, "nonsense in answer to getTEE"),
        ({"call": lambda _: b"\1"}, "nonsense in answer to SETTLEMENT_CONTRACT"),
        ({"logs": lambda logs: [log._replace(data=log.data[:-1]) for log in logs]}, "data ends early"),
    ],
)
async def test_an_endpoint_that_contradicts_itself_accuses_nobody(stage: Stage, bend, said: str) -> None:
    await stage.beat()
    await stage.single(infer(0, 1, await stage.now()))
    last = (await stage.devnet.rpc.block("latest")).number
    with pytest.raises((EndpointError, MalformedLog), match=said) as caught:
        await settlement_findings(Skewed(stage, **bend), stage.deployment, 0, last)
    assert "\n" not in str(caught.value)


async def test_a_chain_that_moves_meanwhile_is_read_again_by_who_asks(stage: Stage) -> None:
    await stage.single(infer(0, 1, await stage.now()))
    seen: list[Block] = []

    def moved(block: Block) -> Block:
        seen.append(block)
        return block if len(seen) == 1 else other_hash([block])[0]

    last = (await stage.devnet.rpc.block("latest")).number
    with pytest.raises(EndpointError, match="ask again"):
        await settlement_findings(Skewed(stage, block=moved), stage.deployment, 0, last)


async def test_an_endpoint_without_the_last_block_is_no_clean_bill(stage: Stage) -> None:
    with pytest.raises(UnknownBlock):
        await settlement_findings(stage.devnet.rpc, stage.deployment, 0, 10_000)


async def test_the_rebuilt_status_is_what_the_registry_itself_says(stage: Stage) -> None:
    """At every block of a life of some sixty acts, whatever came of them."""
    random = Random(7)
    for _ in range(60):
        which = random.randrange(2)
        act = random.choice(
            ["beat", "beat", "beat", "disableTEE", "enableTEE", "enableTEE", "revoke", "approve", "wait"]
        )
        try:
            if act == "beat":
                await stage.act("heartbeat", tee(which), await stage.now())
            elif act == "revoke":
                await stage.act("revokePCR", measurement(which), 0)
            elif act == "approve":
                await stage.act("approvePCR", measurement(which), 0, "v1")
            elif act == "wait":
                await stage.devnet.time_travel(by=random.randrange(1, 2500))
            else:
                await stage.act(act, tee(which))
        except ActorFailed:
            continue  # the contract said no, as it should
    rpc, head = stage.devnet.rpc, await stage.devnet.rpc.block("latest")
    logs = RegistryLogs(stage.deployment.registry, form_named("current"))
    blocks = await rpc.blocks(range(head.number + 1))
    raw = await rpc.logs([stage.deployment.registry], 0, head.number, [logs.topics])
    changes = [(Moment(blocks[log.block].time, log.block, log.log_index), logs.decode(log)) for log in raw]
    kept = {tee(n): Enclave(public(n), measurement(n)) for n in (0, 1)}
    timeline = Timeline([(moment, change) for moment, change in changes if change], kept, 1800)
    said = set()
    for block in blocks[stage.deployment.registry_start :]:
        for which in (0, 1):
            data = encode_call(ABI, "isTEEActive", [tee(which)])
            active = decode_result(ABI, "isTEEActive", await rpc.call(stage.deployment.registry, data, block.number))
            status = timeline.status_at(tee(which), block.time)
            assert (status is Status.OK) == active, (block.number, status)
            said.add(status)
    assert said == set(Status) - {Status.UNKNOWN}
