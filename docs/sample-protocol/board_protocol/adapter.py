"""The board as one account sees it: its logs in the watcher's words, and a dispute from its opening to its end.

Whatever is decided is read from the chain at one block, by its hash; nothing is remembered but what ``check`` found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from board_protocol.logs import MEANINGFUL, OUTCOMES, STATUSES, meaning
from challenger.chain.answers import RawLog
from challenger.chain.codec import EventDecoder, decode_result, decode_revert, encode_call
from challenger.chain.follower import LeftOut, Malformed
from challenger.chain.hashing import keccak
from challenger.domain import (
    Action,
    Address,
    Block,
    Call,
    Capability,
    ChainEvent,
    CommitmentId,
    DisputeId,
    DisputeOutcome,
    Hash32,
    Intent,
    JobStatus,
    Millionths,
    UnixTime,
    Wei,
    Window,
)
from challenger.errors import ConfigError, EndpointError, FilingRefused, MalformedLog, WrongChain, WrongContract
from challenger.plugins.registry import Place, Reader
from challenger.protocols.absent import NoAid, NoDemands
from challenger.protocols.anchored import Anchored
from challenger.protocols.base import (
    NO_DEADLINE,
    Accusation,
    DisputeStanding,
    Prospect,
    Standing,
    Terms,
    code_hashes,
    subject,
)

CONTRACT = json.loads(files(__package__).joinpath("contract.json").read_text(encoding="utf-8"))
ABI = CONTRACT["abi"]
RUNTIME = keccak(bytes.fromhex(CONTRACT["deployedBytecode"][2:]))
NOBODY = "0x" + "00" * 20
#: How far the one judge is trusted to be right and in time. Nobody has measured it: where you know better, say so here.
TRUST = Millionths(950_000)


class BoardAdapter(NoDemands, NoAid, Anchored):
    name = "board"
    capability = Capability.OPEN

    def __init__(self, place: Place) -> None:
        self._place, self._chain = place, place.chain
        self._account, self._anchor = place.account, place.anchor
        self._decoder = EventDecoder([entry for entry in ABI if entry.get("name") in MEANINGFUL])
        self.emitters = (place.contract,)
        self.topics = self._decoder.topics
        self.pins: dict[Address, Hash32] = {}
        self._terms: Terms | None = None

    # the contract itself

    async def check(self) -> None:
        """Chain, code, parameters; pins the code."""
        served = await self._chain.chain_id()
        if served != self._place.chain_id:
            raise WrongChain("point the watcher at the right endpoint", wanted=self._place.chain_id, served=served)
        head = await self._chain.block("latest")
        code = await self._chain.code(self._place.contract, head.hash)
        if keccak(code) != RUNTIME:
            raise WrongContract("its code is not the Board's", address=self._place.contract)
        anchor = await self.anchor_checked(self._chain, head)
        bond = Wei(await self._ask("BOND", at=head))
        collateral = await self._ask("COLLATERAL", at=head)
        window, judge = await self._ask("window", at=head), await self._ask("judge", at=head)
        won = Wei(collateral // 2)
        text = json.dumps({"bond": bond, "collateral": collateral, "judge": judge, "window": window}, sort_keys=True)
        said = f"window {window} s, which its owner may change; {judge} judges"
        self._terms = Terms(bond, won, Wei(collateral - won), 1, 0, said, text)
        self.pins = await code_hashes(self._chain, [self._place.contract, *anchor], head.hash)

    async def pinned(self) -> bool:
        head = await self._chain.block("latest")
        return bool(self.pins) and self.pins == await code_hashes(self._chain, self.pins, head.hash)

    @property
    def terms(self) -> Terms:
        if self._terms is None:
            raise ConfigError("board: used before its contract was checked")
        return self._terms

    # what the logs say

    async def events(self, logs: Sequence[RawLog], left_out: LeftOut) -> list[ChainEvent]:
        told = []
        for log in logs:
            try:
                event = await self.shown(self._chain, log)
            except MalformedLog as error:
                left_out(Malformed(log, error))
            else:
                told += [event] if event is not None else []
        return told

    async def shown(self, reader: Reader, log: RawLog) -> ChainEvent | None:
        """An answer's log does not say until when it may be disputed: that is asked, as of the log's own block."""
        found = self._decoder.decode(log) if log.address == self._place.contract else None
        if found is None:
            return None
        window = 0
        if found.name == "Answered":
            window = await self._ask("window", at=log.block_hash, reader=reader)
        try:
            return meaning(found.name, log.at, found.args, window)
        except (ValueError, IndexError) as error:
            raise MalformedLog(str(error), event=found.name, block=log.block, log=log.log_index) from None

    # a commitment

    async def hydrate(self, commitment: CommitmentId) -> Standing:
        return await self._standing(commitment, await self._chain.block("latest"))

    async def window(self, commitment: CommitmentId) -> Window:
        return (await self.hydrate(commitment)).window

    async def window_at(self, reader: Reader, commitment: CommitmentId, block: Hash32) -> Window:
        given = await self._ask("answers", commitment, at=block, reader=reader)
        seconds = await self._ask("window", at=block, reader=reader)
        if given["provider"] == NOBODY:
            raise EndpointError(f"there is no answer {commitment.hex()} on the board")
        return Window(given["since"], UnixTime(given["since"] + seconds), frozen=False)

    async def eligibility(self, accusation: Accusation, lead: int) -> str:
        """The contract's own conditions, in its order; then whether the bond can be paid."""
        now = await self._standing(accusation.commitment, await self._chain.block("latest"))
        if now.status is not JobStatus.COMMITTED:
            return f"the answer is {now.status} already"
        if now.open_disputes:
            return "somebody disputes the answer already, and one at a time may"
        if now.block.time + lead >= now.window.closes:
            return f"{now.window.closes - now.block.time} s are left, and a dispute takes {lead}"
        if (accusation.output_root, accusation.state_root) == (now.output_root, now.state_root):
            return "the roots are the answer's own: there is nothing to dispute"
        balance = await self._chain.balance(self._own(), now.block.hash)
        if balance < self.terms.bond:
            return f"the account holds {balance} wei, the bond is {self.terms.bond}"
        return ""

    async def prospect(self, commitment: CommitmentId) -> Prospect:  # noqa: ARG002  the same for every answer
        return Prospect(self.terms.bond, self.terms.reward, TRUST)

    # a dispute

    async def open_dispute(self, accusation: Accusation) -> Intent | None:
        """One transaction. It is named again whenever we are asked: its key keeps it from being sent twice."""
        self._own()
        closes = (await self.window(accusation.commitment)).closes
        roots = (accusation.output_root, accusation.state_root, accusation.evidence)
        call = self._call("dispute", accusation.commitment, *roots, value=self.terms.bond)
        return Intent(self.name, subject(accusation.commitment), Action.CHALLENGE, call, closes)

    async def status(self, dispute: DisputeId) -> DisputeStanding:
        head = await self._chain.block("latest")
        found = await self._ask("disputes", dispute, at=head)
        if found["challenger"] == NOBODY:
            raise EndpointError(f"there is no dispute {dispute} on the board")
        outcome, ruled = _enum(OUTCOMES, found["outcome"]), found["ruling"] != 0
        return DisputeStanding(head, dispute, found["answer"], outcome, ruled, UnixTime(found["rulingBy"]))

    async def advance(self, dispute: DisputeId) -> Intent | None:
        """Closes it once the judge has spoken or his time is over."""
        now = await self.status(dispute)
        if now.outcome is not DisputeOutcome.OPEN or not (now.ruled or now.block.time >= now.ruling_by):
            return None
        about = subject(now.commitment, "dispute", dispute)
        return Intent(self.name, about, Action.SETTLE, self._call("close", dispute), NO_DEADLINE)

    async def collect(self, occasion: str) -> Intent | None:
        head = await self._chain.block("latest")
        if not await self._ask("balanceOf", self._own(), at=head):
            return None
        return Intent(self.name, occasion, Action.WITHDRAW, self._call("withdraw"), NO_DEADLINE)

    # small things

    async def _standing(self, commitment: CommitmentId, at: Block) -> Standing:
        given = await self._ask("answers", commitment, at=at)
        window = await self.window_at(self._chain, commitment, at.hash)
        status = _enum(STATUSES, given["status"])
        roots = (given["outputRoot"], given["stateRoot"])
        return Standing(at, commitment, status, given["provider"], *roots, window, int(given["dispute"] != 0))

    async def _ask(self, view: str, *args: Any, at: Block | Hash32, reader: Reader | None = None) -> Any:
        """A view of the contract in the state after one block, which its hash names."""
        block = at.hash if isinstance(at, Block) else at
        answer = await (reader or self._chain).call(self._place.contract, encode_call(ABI, view, args), block)
        return decode_result(ABI, view, answer)

    def _call(self, name: str, *args: Any, value: int = 0) -> Call:
        return Call(self._place.contract, encode_call(ABI, name, args), Wei(value))

    def _own(self) -> Address:
        if self._account is None:
            raise FilingRefused("there is no account: a watcher without a key opens nothing")
        return self._account


def explain(data: bytes) -> str:
    return decode_revert(data, ABI)


def _enum(names: Sequence[Any], value: int) -> Any:
    """An endpoint may serve anything."""
    if value >= len(names) or names[value] is None:
        raise EndpointError(f"the board has no enum value {value} there")
    return names[value]
