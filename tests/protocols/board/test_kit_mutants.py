"""What a careless author of an adapter gets wrong, and the test of the kit that says so.

Each mutant is the board's adapter with one mistake; the board's own passes every test (``test_board_here``).
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from board_protocol import Board
from board_protocol.adapter import BoardAdapter
from board_stage import board_stage

from challenger.domain import (
    Action,
    ChainId,
    Committed,
    DisputeClosed,
    DisputeOutcome,
    Intent,
    JobClosed,
    UnixTime,
    Wei,
)
from challenger.errors import ChallengerError
from challenger.plugins.kit import AdapterSuite
from challenger.protocols.base import NO_DEADLINE

OPENING = "test_a_dispute_is_opened_step_by_step_and_after_any_restart"
ENDING = "test_a_dispute_is_taken_to_its_end"
READERS = "test_the_same_logs_say_the_same_whoever_reads_them"
BLOCKS = "test_state_is_read_as_of_one_block_that_its_hash_names"
SPOILT = "test_what_the_contract_cannot_have_written_is_left_out"
RIGHT = "test_an_answer_that_is_right_cannot_be_disputed"
CLOSING = "test_a_window_closes"
PINS = "test_the_code_is_pinned_and_the_terms_are_read"
CASE = "test_a_commitment_is_one_event_and_a_case_is_whole"
KEYLESS = "test_without_a_key_it_reads_and_opens_nothing"
REFUSED = "test_another_chain_and_an_empty_address_are_refused"

MUTANTS = []


def mutant(test: str, **given):
    """The kit's ``test`` is the one that must fail for it."""

    def keep(kind):
        MUTANTS.append(pytest.param(kind, test, given, id=kind.__name__))
        return kind

    return keep


# what the chain says


@mutant(BLOCKS)
class ReadsTheWindowAtTheHead(BoardAdapter):
    async def shown(self, reader, log):
        event = await super().shown(reader, log)
        if not isinstance(event, Committed):
            return event
        seconds = await self._ask("window", at=await reader.block("latest"), reader=reader)
        return replace(event, closes=UnixTime(event.committed_at + seconds))


@mutant(READERS)
class ShowsWhatItsOwnEndpointShows(BoardAdapter):
    async def shown(self, reader, log):
        return await super().shown(self._chain, log)


@mutant(READERS)
class AsksItsOwnEndpointForTheWindow(BoardAdapter):
    async def window_at(self, reader, commitment, block):
        return await super().window_at(self._chain, commitment, block)


@mutant(BLOCKS)
class HydratesFromWhateverIsLatest(BoardAdapter):
    async def _ask(self, view, *args, at, reader=None):
        return await super()._ask(view, *args, at=at if reader else "latest", reader=reader)


@mutant(SPOILT)
class PassesOverSpoiltLogs(BoardAdapter):
    async def events(self, logs, left_out):
        return await super().events(logs, lambda _: None)


@mutant(SPOILT)
class StumblesOverSpoiltLogs(BoardAdapter):
    async def events(self, logs, left_out):
        return [event for log in logs if (event := await self.shown(self._chain, log)) is not None]


@mutant(SPOILT)
class BelievesAnyEmitter(BoardAdapter):
    async def shown(self, reader, log):
        return await super().shown(reader, log._replace(address=self._place.contract))


@mutant(CASE)
class LeavesTheModelOut(BoardAdapter):
    async def shown(self, reader, log):
        event = await super().shown(reader, log)
        return None if type(event).__name__ == "ModelRegistered" else event


# the contract


@mutant(PINS)
class PinsNothing(BoardAdapter):
    async def pinned(self):
        return True


@mutant(REFUSED)
class WorksOnAnyChain(BoardAdapter):
    async def check(self):
        self._place = replace(self._place, chain_id=ChainId(await self._chain.chain_id()))
        await super().check()


# may it be disputed?


class OffByOne(BoardAdapter):
    off = 0

    async def shown(self, reader, log):
        event = await super().shown(reader, log)
        return replace(event, closes=UnixTime(event.closes + self.off)) if isinstance(event, Committed) else event

    async def window_at(self, reader, commitment, block):
        window = await super().window_at(reader, commitment, block)
        return replace(window, closes=UnixTime(window.closes + self.off))


@mutant(CLOSING)
class TakesTheLastSecondForOpen(OffByOne):
    off = 1


@mutant(CLOSING)
class ClosesASecondEarly(OffByOne):
    off = -1


@mutant(CLOSING)
class IgnoresTheLead(BoardAdapter):
    async def eligibility(self, accusation, lead):
        return await super().eligibility(accusation, 0)


@mutant(RIGHT)
class DisputesWhatIsRight(BoardAdapter):
    async def eligibility(self, accusation, lead):
        why = await super().eligibility(accusation, lead)
        return "" if "roots" in why else why


@mutant(RIGHT)
class CountsOnMoneyThatIsNotThere(BoardAdapter):
    async def eligibility(self, accusation, lead):
        why = await super().eligibility(accusation, lead)
        return "" if "holds" in why else why


@mutant(ENDING, for_us=True)
class DisputesWhatIsDecided(BoardAdapter):
    async def eligibility(self, accusation, lead):
        why = await super().eligibility(accusation, lead)
        return "" if "already" in why else why


# opening


@mutant(OPENING)
class NamesTheWrongSubject(BoardAdapter):
    async def open_dispute(self, accusation):
        intent = await super().open_dispute(accusation)
        return replace(intent, subject=f"answer {accusation.commitment.hex()}")


@mutant(OPENING)
class RemembersInsteadOfReading(BoardAdapter):
    sent = False

    async def open_dispute(self, accusation):
        if self.sent:
            return None
        self.sent = True
        return await super().open_dispute(accusation)


@mutant(OPENING)
class OpensOnceABlock(BoardAdapter):
    async def open_dispute(self, accusation):
        intent = await super().open_dispute(accusation)
        return replace(intent, subject=f"{intent.subject}/{(await self._chain.block('latest')).number}")


@mutant(OPENING)
class OpensTwice(BoardAdapter):
    async def open_dispute(self, accusation):
        intent = await super().open_dispute(accusation)
        opened = (await self.hydrate(accusation.commitment)).open_disputes
        return replace(intent, subject=f"{intent.subject}/again") if opened else intent


@mutant(OPENING)
class HasAllTheTimeInTheWorld(BoardAdapter):
    async def open_dispute(self, accusation):
        return replace(await super().open_dispute(accusation), deadline=NO_DEADLINE)


@mutant(OPENING)
class ForgetsTheBond(BoardAdapter):
    async def open_dispute(self, accusation):
        intent = await super().open_dispute(accusation)
        return replace(intent, call=replace(intent.call, value=Wei(0)))


@mutant(KEYLESS)
class OpensWithoutAKey(BoardAdapter):
    def _own(self):
        return self._account or self._place.contract


# the end


@mutant(OPENING)
class AdvancesBeforeTheJudgeHasSpoken(BoardAdapter):
    async def advance(self, dispute):
        about = f"0x{(await self.status(dispute)).commitment.hex()}/dispute/{dispute}"
        return Intent(self.name, about, Action.SETTLE, self._call("close", dispute), NO_DEADLINE)


@mutant(ENDING, for_us=True)
class RemembersTheStatus(BoardAdapter):
    async def status(self, dispute):
        self.kept = getattr(self, "kept", None) or await super().status(dispute)
        return self.kept


@mutant(ENDING, for_us=False)
class SaysWonWhenLost(BoardAdapter):
    async def shown(self, reader, log):
        event = await super().shown(reader, log)
        return replace(event, outcome=DisputeOutcome.CHALLENGER) if isinstance(event, DisputeClosed) else event


@mutant(ENDING, for_us=True)
class KeepsTheEndToItself(BoardAdapter):
    async def shown(self, reader, log):
        event = await super().shown(reader, log)
        return None if isinstance(event, JobClosed) else event


@mutant(ENDING, for_us=True)
class CollectsForEver(BoardAdapter):
    async def collect(self, occasion):
        return Intent(self.name, occasion, Action.WITHDRAW, self._call("withdraw"), NO_DEADLINE)


class Careless(Board):
    def __init__(self, kind):
        self.kind = kind

    def adapter(self, place):
        return self.kind(place)


@pytest.mark.parametrize(("kind", "test", "given"), MUTANTS)
async def test_the_kit_catches_it(kind, test, given):
    async with board_stage() as stage:
        stage.plugin = Careless(kind)
        with pytest.raises((AssertionError, pytest.fail.Exception, ChallengerError)):
            await getattr(AdapterSuite(), test)(stage, **given)


@pytest.mark.parametrize("test", sorted({param.values[1] for param in MUTANTS}))
async def test_and_finds_nothing_where_nothing_is(test):
    """Lest a broken stage be what fails above."""
    async with board_stage() as stage:
        await getattr(AdapterSuite(), test)(stage, **({"for_us": True} if test == ENDING else {}))
