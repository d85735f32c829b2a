"""The status of enclaves, rebuilt from events: against a replay that is as naive as the registry itself."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from challenger.chain.answers import RawLog
from challenger.chain.codec import encode_args
from challenger.chain.hashing import keccak
from challenger.domain import Address, BlockNumber, Hash32
from challenger.errors import ConfigError, EndpointError, MalformedLog
from challenger.protocols.opengradient.settlement.enclaves import Moment, Status, Timeline
from challenger.protocols.opengradient.settlement.registry import (
    FORMS,
    Approved,
    Beat,
    Change,
    Enclave,
    Registered,
    RegistryLogs,
    Revoked,
    Switched,
    event_abi,
    form_named,
    read_enclave,
    views,
)

TEES = [bytes([n]) * 32 for n in (1, 2, 3)]
MEASURES = [bytes([n]) * 32 for n in (0xA, 0xB)]
KEPT = {TEES[0]: Enclave(b"key", MEASURES[0]), TEES[1]: Enclave(b"key", MEASURES[1])}
OWNER = Address("0x" + "11" * 20)
REGISTRY = Address("0x" + "22" * 20)
LIMIT = 50

TEE = st.sampled_from(TEES)
MEASURE = st.sampled_from(MEASURES)
CHANGE = st.one_of(
    st.builds(Registered, TEE, st.just(OWNER), st.sampled_from([0, 1])),
    st.builds(Switched, TEE, on=st.booleans()),
    st.builds(Beat, TEE, st.just(0)),
    st.builds(Approved, MEASURE, st.sampled_from([0, 1]), st.none() | st.integers(0, 300)),
    st.builds(Revoked, MEASURE, st.integers(0, 40)),
)


@st.composite
def histories(draw) -> list[tuple[Moment, Change]]:
    """Blocks of one to three logs, a second or many apart, sometimes within the same second."""
    time, history = 0, []
    for block in range(1, draw(st.integers(1, 13))):
        time += draw(st.integers(0, 30))
        history += [(Moment(time, block, log), draw(CHANGE)) for log in range(draw(st.integers(1, 3)))]
    return history


def naive(history: Sequence[tuple[Moment, Change]], tee: bytes, time: int, place: tuple[int, int] | None) -> Status:
    """The registry, run from its first event on."""
    if all(not (isinstance(change, Registered) and change.tee == tee) for _, change in history):
        return Status.UNKNOWN
    enclave: dict[str, int] = {}
    pcrs: dict[tuple[bytes, int | None], list[int | None]] = {}  # → [active, ends]
    for moment, change in history:
        if moment.time > time or (place and moment.time == time and (moment.block, moment.log) >= place):
            continue
        if isinstance(change, Approved):
            pcrs[change.measurement, change.kind] = [1, change.until]
        elif isinstance(change, Revoked):
            active = [key for key in pcrs if key[0] == change.measurement and pcrs[key][0]]
            if len(active) == 1:
                pcrs[active[0]] = [1, moment.time + change.grace] if change.grace else [0, None]
        elif change.tee != tee:
            continue
        elif isinstance(change, Registered):
            enclave = {"kind": change.kind, "on": 1, "beat": moment.time}
        elif enclave and isinstance(change, Switched):
            enclave["on"] = int(change.on)
        elif enclave:
            enclave["beat"] = moment.time
    if not enclave:
        return Status.UNREGISTERED
    if tee in KEPT:
        active, ends = pcrs.get((KEPT[tee].measurement, enclave["kind"]), [1, None])
        if not active or (ends is not None and time >= ends):
            return Status.REVOKED
    if not enclave["on"]:
        return Status.DISABLED
    return Status.SILENT if time - enclave["beat"] > LIMIT else Status.OK


@given(histories(), st.randoms(), st.data())
def test_the_timeline_is_a_naive_replay(history, random, data) -> None:
    timeline = Timeline(random.sample(history, len(history)), KEPT, LIMIT)
    places = [None, *((moment.block, moment.log) for moment, _ in history)]
    for _ in range(20):
        tee, time, place = data.draw(TEE), data.draw(st.integers(0, 400)), data.draw(st.sampled_from(places))
        assert timeline.status_at(tee, time, place) is naive(history, tee, time, place)


@given(histories(), TEE, st.integers(0, 400), st.integers(0, 100))
def test_ever_ok_is_to_look_at_every_moment(history, tee, first, length) -> None:
    timeline = Timeline(history, KEPT, LIMIT)
    looks = [(time, None) for time in range(first, first + length + 1)]
    looks += [(m.time, (m.block, m.log + d)) for m, _ in history for d in (0, 1) if first <= m.time <= first + length]
    found = any(naive(history, tee, time, place) is Status.OK for time, place in looks)
    assert timeline.ever_ok(tee, first, first + length) is found


@given(histories(), histories(), TEE, st.integers(0, 400))
def test_a_reorganisation_leaves_nothing_behind(history, other, tee, time) -> None:
    Timeline(history, KEPT, LIMIT).status_at(tee, time)
    assert Timeline(other, KEPT, LIMIT).status_at(tee, time) is naive(other, tee, time, None)


def at(time: int, change: Change) -> tuple[Moment, Change]:
    return Moment(time, time, 0), change


def test_a_life() -> None:
    tee, measure = TEES[0], MEASURES[0]
    life = Timeline(
        [
            at(0, Approved(measure, 0, None)),
            at(10, Registered(tee, OWNER, 0)),
            at(40, Beat(tee, 39)),
            at(200, Beat(tee, 199)),
            at(210, Switched(tee, on=False)),
            at(220, Switched(tee, on=True)),
            at(230, Revoked(measure, 0)),
            at(240, Approved(measure, 0, None)),
        ],
        KEPT,
        LIMIT,
    )
    told = {9: "unregistered", 10: "ok", 90: "ok", 91: "silent", 200: "ok", 210: "disabled", 230: "revoked", 240: "ok"}
    assert {time: str(life.status_at(tee, time)) for time in told} == told
    assert life.status_at(TEES[2], 100) is Status.UNKNOWN
    assert life.registered == {tee}
    assert life.status_at(tee, 210, (210, 0)) is Status.OK
    assert not life.ever_ok(tee, 91, 199)
    assert life.ever_ok(tee, 91, 200)


def test_beats_that_tell_nothing_take_no_room() -> None:
    tee = TEES[0]
    tracemalloc.start()
    life = Timeline([at(10, Registered(tee, OWNER, 0))], KEPT, LIMIT)
    life.take(at(time, Beat(tee, 0)) for time in range(11, 20_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 600_000
    told = {19_999 + LIMIT: "ok", 20_000 + LIMIT: "silent", 2_500: "ok"}
    assert {time: str(life.status_at(tee, time)) for time in told} == told


def test_what_was_revoked_for_one_kind_of_several_is_held_against_none() -> None:
    life = [at(0, Approved(MEASURES[0], kind, None)) for kind in (0, 1)]
    life += [at(1, Registered(TEES[0], OWNER, 0)), at(2, Revoked(MEASURES[0], 0))]
    assert Timeline(life, KEPT, LIMIT).status_at(TEES[0], 3) is Status.OK


def test_a_grace_period_ends_at_its_second() -> None:
    life = [
        at(0, Approved(MEASURES[0], None, None)),
        at(1, Registered(TEES[0], OWNER, 0)),
        at(2, Revoked(MEASURES[0], 10)),
    ]
    timeline = Timeline(life, KEPT, None)
    assert [str(timeline.status_at(TEES[0], time)) for time in (11, 12)] == ["ok", "revoked"]


def test_the_first_second_begins_before_what_happened_in_it() -> None:
    life = [at(1, Registered(TEES[0], OWNER, 0)), at(5, Switched(TEES[0], on=False))]
    timeline = Timeline(life, KEPT, None)
    assert timeline.ever_ok(TEES[0], 5, 9)
    assert not timeline.ever_ok(TEES[0], 6, 9)


def test_where_no_heartbeats_are_asked_for_nobody_is_silent() -> None:
    assert Timeline([at(0, Registered(TEES[0], OWNER, 0))], KEPT, None).status_at(TEES[0], 10**9) is Status.OK


def log(text: str, args: Sequence[object], registry: Address = REGISTRY) -> RawLog:
    """``text`` as in the forms; ``args`` in its order."""
    abi = event_abi(text)
    parts = list(zip(abi["inputs"], args, strict=True))
    indexed = [encode_args([part], [value]) for part, value in parts if part["indexed"]]
    plain = [(part, value) for part, value in parts if not part["indexed"]]
    name = abi["name"] + "(" + ",".join(part["type"] for part in abi["inputs"]) + ")"
    data = encode_args([part for part, _ in plain], [value for _, value in plain])
    topics = (keccak(name.encode()), *indexed)
    return RawLog(registry, topics, data, BlockNumber(1), Hash32(bytes(32)), 0, Hash32(bytes(32)))


ARGS = {
    "teeId": TEES[0],
    "owner": OWNER,
    "teeType": 1,
    "timestamp": 77,
    "pcrHash": MEASURES[0],
    "version": "v1",
    "gracePeriod": 5,
    "paymentAddress": OWNER,
    "endpoint": "https://tee.example",
    "registeredAt": 9,
    "activatedAt": 9,
    "deactivatedAt": 9,
    "approvedAt": 9,
    "expiresAt": 90,
    "revokedAt": 95,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_event_of_every_form_is_read(form) -> None:
    logs = RegistryLogs(REGISTRY, form)
    kind = 1 if form.by_kind else None
    wanted = {
        Registered(TEES[0], OWNER, 1),
        Switched(TEES[0], on=True),
        Switched(TEES[0], on=False),
        Approved(MEASURES[0], kind, None if form.beats else 90),
        Revoked(MEASURES[0], 5 if form.name == "grace" else 0),
    } | ({Beat(TEES[0], 77)} if form.beats else set())
    told = [log(text, [ARGS[part["name"]] for part in event_abi(text)["inputs"]]) for text in form.events]
    assert {logs.decode(one) for one in told} == wanted
    assert {one.topics[0] for one in told} == set(logs.topics)
    for one in told:
        assert logs.decode(one._replace(address=OWNER)) is None
        with pytest.raises(MalformedLog):
            logs.decode(one._replace(topics=one.topics[:1]))


def test_an_unknown_form_is_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"no such form.*current grace precompile"):
        form_named("newest")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_the_registry_keeps_of_an_enclave(form) -> None:
    kept = [OWNER, OWNER, "https://tee.example", b"key", b"cert", MEASURES[0], 1, True, 5, 6]
    outputs = views(form)[0]["outputs"]
    assert read_enclave(form, TEES[0], encode_args(outputs, [[TEES[0], *kept] if form.id_first else kept])) == (
        b"key",
        MEASURES[0],
    )
    with pytest.raises(EndpointError):
        read_enclave(form, TEES[0], b"\1")
    if form.id_first:
        with pytest.raises(EndpointError, match="another enclave"):
            read_enclave(form, TEES[1], encode_args(outputs, [[TEES[0], *kept]]))
