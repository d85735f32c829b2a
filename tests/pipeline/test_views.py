"""One endpoint's view of the chain speaks against a case, or hides how far it is: what most have counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from challenger.domain import Action, State, UnixTime, Wei, Window
from challenger.errors import EndpointError, WrongContract
from challenger.pipeline import views
from challenger.protocols.base import Prospect, Terms
from tests.pipeline.caps import ME, PROVIDERS, Caps, Toy, empty_database

#: What a single endpoint can say so that nothing is filed: fields of ``Seen``.
VETOES: list[dict[str, Any]] = [
    {"refused": "the job is final already"},
    {"closes": 1},
    {"bond": 10**9},
    {"reward": -1},
    {"pins": False},
    {"away": True},
]


@dataclass
class Seen:
    """The chain as one endpoint has it; ``away``: it answers nothing that makes sense."""

    refused: str = ""
    closes: int = 2**40
    bond: int = 50
    reward: int = 10_000
    pins: bool = True
    away: bool = False
    unsealed: bool = False


@dataclass
class Shown(Toy):
    """The toy protocol as three endpoints show it; the first is read from."""

    ends: list[Seen] = field(default_factory=lambda: [Seen(), Seen(), Seen()])
    at: int = 0

    def views(self) -> list[Any]:
        return [self._view(n) for n in range(1, len(self.ends))]

    @contextmanager
    def _view(self, n: int) -> Iterator[None]:
        self.at, before = n, self.at
        yield
        self.at = before

    @property
    def seen(self) -> Seen:
        if self.ends[self.at].away:
            raise EndpointError("nonsense")
        return self.ends[self.at]

    async def pinned(self) -> bool:
        return self.seen.pins

    async def window(self, commitment: Any) -> Window:
        return Window(0, self.seen.closes, frozen=True)

    async def hydrate(self, commitment: Any) -> Any:
        return replace(await super().hydrate(commitment), window=await self.window(commitment))

    async def eligibility(self, accusation: Any, lead: int) -> str:
        return self.seen.refused

    async def prospect(self, commitment: Any) -> Prospect:
        return replace(await super().prospect(commitment), bond=Wei(self.seen.bond), reward=Wei(self.seen.reward))

    async def refusal(self, row: Any, head: Any) -> str:
        await self.window(row.commitment)  # which it holds against the others'
        return ""

    async def open_dispute(self, accusation: Any) -> Any:
        unsealed = self.seen.unsealed
        intent = await super().open_dispute(accusation)
        return replace(intent, action=Action.SEAL, deadline=UnixTime(1)) if unsealed else intent


class Case(Caps):
    def toy_of(self, funds: int) -> Shown:
        return Shown(funds)

    async def state(self) -> State:
        async with self.store.read() as view:
            return State((await view.work.items(list(State), limit=10))[0].work.state)

    def actions(self) -> list[Action]:
        return [row.intent.action for row in self._run(self._rows())]


@pytest.fixture
def case() -> Iterator[Case]:
    empty_database()
    made = Case()
    made.start(tight="exposure")
    yield made
    made.teardown()


@pytest.mark.parametrize("veto", VETOES, ids=str)
def test_what_one_endpoint_has_against_a_case_keeps_it_from_nothing(case: Case, veto: dict[str, Any]) -> None:
    case.toy.ends[0] = Seen(**veto)
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.look()
    assert case.actions() == [Action.SEAL]
    case.all_mined()  # and looks again
    assert case.actions() == [Action.SEAL, Action.CHALLENGE]
    case.look()
    assert [row.state for row in case._waiting()] == ["intent"], "what is wished is not given up"
    case.all_mined()
    assert case._run(case.state()) is State.FILED


@pytest.mark.parametrize("veto", VETOES[:-1], ids=str)
@pytest.mark.parametrize("who", [(0, 1), (1, 2), (0, 1, 2)])
def test_what_most_have_against_it_does(case: Case, veto: dict[str, Any], who: tuple[int, ...]) -> None:
    for n in who:
        case.toy.ends[n] = Seen(**veto)
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.look()
    # those who are asked in vain first are the two who are honest, or the one: then nobody else is asked
    assert case.actions() == ([Action.SEAL] if 0 not in who else [])


def test_of_two_that_differ_neither_keeps_it_back(case: Case) -> None:
    case.toy.ends[:] = [Seen(refused="no"), Seen()]
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.look()
    assert case.actions() == [Action.SEAL]


def test_a_window_that_one_endpoint_shows_as_closed_ends_no_case_that_waits_for_something_else(case: Case) -> None:
    case.toy.ends[:] = [Seen(closes=1), Seen(refused="not now"), Seen(refused="not now")]
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.look()
    assert case._run(case.state()) is State.CONFIRMED
    case.toy.ends[1:] = [Seen(), Seen()]
    case.time()
    case.look()
    assert case.actions() == [Action.SEAL]


def test_a_seal_that_one_endpoint_does_not_show_is_followed_by_its_challenge(case: Case) -> None:
    case.toy.ends[0] = Seen(unsealed=True)
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.look()
    assert case._waiting()[0].intent.deadline > 1, "nor does one endpoint's deadline count"
    case.all_mined()
    assert case.actions() == [Action.SEAL, Action.CHALLENGE]


@pytest.mark.parametrize(
    ("ends", "state"),
    [
        ([Seen(closes=1), Seen(), Seen()], State.CONFIRMED),
        ([Seen(away=True), Seen(), Seen()], State.CONFIRMED),
        ([Seen(closes=1), Seen()], State.CONFIRMED),
        ([Seen(closes=1), Seen(closes=1), Seen()], State.EXPIRED),
        ([Seen(away=True), Seen(closes=1), Seen(closes=1)], State.EXPIRED),
    ],
)
def test_a_window_that_is_over_in_the_record_is_over_for_good_when_most_have_it_so(
    case: Case, ends: list[Seen], state: State
) -> None:
    """It may have been made longer in a block that the index has not read."""
    case.closes = case.blocks[-1].time + 20
    case.found(PROVIDERS[0], fraud=True, count=1)
    case.time()
    case.time()
    case.toy.ends[:] = [replace(end, refused="not now") for end in ends]
    case.look()
    assert case._run(case.state()) is state


# the contract at the start


@dataclass
class Market:
    """The contract as the host that is looked at shows it."""

    chain: Hosts
    pins: dict[str, bytes] = field(default_factory=dict)
    terms: Any = None

    async def check(self) -> None:
        shown = self.chain.shown[self.chain.at]
        if isinstance(shown, Exception):
            raise shown
        code, bond, fixed = shown
        self.pins = {ME: code}
        self.terms = Terms(Wei(bond), Wei(1), Wei(1), 2, 1, "", str(bond), fixed=fixed)


@dataclass
class Hosts:
    """What each shows: code, bond, and whether no block changes that; or what its look raises. The first is read from."""

    shown: list[Any]
    at: int = 0

    def views(self) -> list[Any]:
        return [self._view(n) for n in range(1, len(self.shown))]

    @contextmanager
    def _view(self, n: int) -> Iterator[None]:
        self.at, before = n, self.at
        yield
        self.at = before


SO, TWICE, OTHER = (b"c", 50, True), (b"c", 100, True), (b"x", 50, True)
REFUSES, SILENT = WrongContract("its code is another"), EndpointError("nobody answers")


async def start(*shown: Any) -> Any:
    chain = Hosts(list(shown))
    return await views.checked(chain, lambda: Market(chain))


@pytest.mark.parametrize("liar", [TWICE, OTHER, REFUSES, SILENT], ids=["bond", "code", "refuses", "silent"])
@pytest.mark.parametrize("place", range(3))
async def test_of_three_hosts_one_decides_nothing_at_the_start(liar: Any, place: int) -> None:
    shown: list[Any] = [SO, SO]
    shown.insert(place, liar)
    made = await start(*shown)
    assert (made.pins, made.terms.bond) == ({ME: b"c"}, 50)


@pytest.mark.parametrize("shown", [(SO, TWICE), (SO, OTHER), (SO, REFUSES), (REFUSES, SO), (SO, TWICE, OTHER)])
async def test_where_no_more_than_half_agree_it_is_the_endpoints_trouble_and_passes(shown: Any) -> None:
    with pytest.raises(EndpointError, match="one contract"):
        await start(*shown)


async def test_terms_that_any_block_may_change_are_of_one_contract() -> None:
    assert (await start((b"c", 50, False), (b"c", 51, False), (b"c", 52, False))).terms.bond == 50


@pytest.mark.parametrize("shown", [(SO, SILENT), (SILENT, SO), (SO,)])
async def test_who_is_silent_has_no_word(shown: Any) -> None:
    assert (await start(*shown)).terms.bond == 50


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ((REFUSES,), WrongContract),
        ((REFUSES, REFUSES), WrongContract),
        ((REFUSES, SILENT), EndpointError),
        ((SILENT, SILENT, REFUSES), EndpointError),
        ((SILENT, SILENT), EndpointError),
    ],
)
async def test_the_settings_are_at_fault_only_where_all_say_so(shown: Any, error: type[Exception]) -> None:
    """A mistake in the settings ends the service for good; a silent endpoint may yet show the contract."""
    with pytest.raises(error):
        await start(*shown)
