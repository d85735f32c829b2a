"""The one writer that owns an account's nonces: from an intent in the store to a transaction that is final.

``step()`` drives every open row one step and may be called at any time, by a process that has just started as by one
that has run for weeks: everything it knows is in the rows and on the chain. The order of writes is what makes it safe:

- an intent is a row before anything is signed;
- the signed bytes, their hash and nonce are in the row before they are sent, and stay there for ever;
- an answer that did not come means *uncertain*: the row is followed by its hashes until the chain shows what happened.

So one intent has at most one nonce at a time, all its signed versions share it, and the chain mines one of them. Only
when *another* transaction with that nonce is found in a block, deep enough, is the intent given a new one.

Its own rows (``OWN_PROTOCOL``) each give up one nonce with an empty transaction: the nonce of a transaction that came
too late for its deadline, or one that nobody uses, or somebody else, and that keeps ours waiting.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

from challenger.chain import fees, inclusion, words
from challenger.chain.answers import Receipt
from challenger.chain.fees import Fees
from challenger.chain.hashing import keccak
from challenger.chain.outbox import Attempt, Node, Outbox, Row, Signed
from challenger.chain.signers import SignerLied, TransactionSigner
from challenger.chain.step import (
    NEVER,
    OWN_PROTOCOL,
    TRANSFER_GAS,
    UNMINED,
    Moved,
    Report,
    SenderPolicy,
    View,
    cost,
    outbid,
    replacement,
)
from challenger.domain import Action, Address, Call, Intent, TxState, UnixTime, Wei, is_audit, is_planted
from challenger.errors import ConfigError, EndpointError, Expected, GivenUp, RateLimited, Reverted, RpcError

_ONE = 1_000_000
#: What nodes answer when this very transaction, or one with its nonce, is with them or on chain already.
_TAKEN = re.compile(
    r"already known|known transaction|already imported|already exists|nonce (?:is )?too low", re.IGNORECASE
)

#: … and when its fees are too low for them.
_CHEAP = re.compile(r"underpriced|fee too low|less than (?:the )?block base fee|below minimum", re.IGNORECASE)


def _passed(_name: str) -> None:
    """No crash point."""


class Sender:
    """``signer`` None: dry run, which builds and simulates, journals and never signs.

    ``explain`` puts revert data into words. ``crossing`` is told the name of every persisted transition just after it
    (intent, signed, broadcast, sent, mined, unmined, closed, reopened, requeued); tests die there.
    """

    def __init__(
        self,
        chain: Node,
        outbox: Outbox,
        account: Address,
        policy: SenderPolicy,
        *,
        signer: TransactionSigner | None,
        explain: Callable[[bytes], str] = bytes.hex,
        crossing: Callable[[str], None] = _passed,
    ) -> None:
        if signer is not None and signer.address != account:
            raise ConfigError(
                "sender: the signer's address is not the account's", account=account, signer=signer.address
            )
        self._chain = chain
        self._outbox = outbox
        self._account = account
        self._policy = policy
        self._signer = signer
        self._explain = explain
        self._crossing = crossing
        self._turn = asyncio.Lock()
        #: the count with what waited when spending was held back, and since when that is
        self._strangers: tuple[int, UnixTime] | None = None

    async def submit(self, intent: Intent, now: UnixTime, *, again: bool = False) -> Row:
        """The row of this intent, made if there is none. An intent that was abandoned, reverted or replaced stays so,
        unless ``again``: then it starts anew, with this call and deadline."""
        row = await self._outbox.propose(intent, self._account, now, again=again)
        self._crossing("intent")
        return row

    async def step(self, *, held: bool = False) -> Report:
        """Drives every open row one step. ``EndpointError`` or ``RpcError`` when not even the head can be read; what
        goes wrong with one row is in the report, and the next step tries again.

        ``held``: nothing new may be spent, and that may last for as long as strangers' transactions wait. What is signed
        goes on, and they are outbid once they have had their time."""
        async with self._turn:
            view = await self._look(held=held)
            waiting = [row for row in view.rows if row.state is TxState.INTENT]
            flying = sorted((row for row in view.rows if row.state is not TxState.INTENT), key=_nonce)
            for row in flying:
                await self._guarded(view, row, self._follow)
            if self._signer is not None:
                await self._mind_gaps(view, flying, held=held)
            for row in sorted(waiting, key=_by_urgency):
                if not held or row.intent.protocol == OWN_PROTOCOL:
                    await self._guarded(view, row, self._launch)
            return Report(view.head, tuple(view.moved), tuple(view.troubles))

    async def _look(self, *, held: bool) -> View:
        head = await self._chain.block("latest")
        rows = await self._outbox.unfinished(self._account)
        taken = await self._chain.nonce(self._account, "latest")
        pending, claimed, base_fee = taken, taken, Wei(0)
        if rows or held or taken < (await self._outbox.next_nonce(self._account) or 0):
            # something is to be decided by it: no longer one endpoint's word
            base_fee = await self._chain.base_fee()
            mined = await self._chain.count(self._account, "latest")
            waiting = await self._chain.count(self._account, "pending")
            taken, pending = mined.agreed, max(mined.agreed, waiting.agreed)
            claimed = max(mined.most, waiting.most)
        costs = {row.id: max(cost(row, a) for a in row.attempts) for row in rows if row.state in UNMINED}
        states = {row.id: row.state for row in rows}
        return View(head, base_fee, taken, pending, claimed, rows, states, costs)

    async def _guarded(self, view: View, row: Row, act: Callable[[View, Row], Awaitable[None]]) -> None:
        if is_planted(row.intent):
            view.trouble(row, "planted", f"{row.intent.subject} is a planted item of the self-test: never signed")
            return
        if is_audit(row.intent):
            view.trouble(row, "audit", f"{row.intent.subject} is what an audit found: never signed")
            return
        try:
            await act(view, row)
        except GivenUp as error:
            self._moved(view, row, TxState.ABANDONED, error.detail, "closed")
        except Expected as error:
            view.trouble(row, "endpoint", error)

    # rows that are signed

    async def _follow(self, view: View, row: Row) -> None:
        receipt = await self._receipt(row)
        if receipt is not None:
            await self._mined(view, row, receipt)
        elif row.state is TxState.MINED:
            await self._outbox.unmined(row.id, view.head.time)
            self._moved(view, row, TxState.SENT, "its block is no longer in the chain", "unmined")
            if self._signer is not None:
                await self._again(view, row)
        elif view.taken > _nonce(row):
            await self._overtaken(view, row)
        elif self._signer is not None:
            await self._push(view, row)

    async def _again(self, view: View, row: Row) -> None:
        """A reorg took it out: the same bytes again, they are as good as ever."""
        if not await self._pointless(view, row):
            await self._broadcast(view, row, next(a for a in row.attempts if a.hash == row.hash))

    async def _receipt(self, row: Row) -> Receipt | None:
        """Of any version ever signed. Under an earlier nonce only success counts: that a former try reverted is why
        there is another."""
        for attempt in reversed(row.attempts):
            receipt = await self._chain.receipt(attempt.hash)
            if receipt is not None and (attempt.nonce == row.nonce or receipt.succeeded):
                return receipt
        return None

    async def _mined(self, view: View, row: Row, receipt: Receipt) -> None:
        if row.state is not TxState.MINED or (row.hash, row.block_hash) != (receipt.tx_hash, receipt.block_hash):
            block = await self._chain.block(receipt.block)
            await self._outbox.mined(
                row.id,
                receipt.tx_hash,
                receipt.block,
                receipt.block_hash,
                receipt.gas_used,
                view.head.time,
                mined_at=block.time,
            )
            self._moved(view, row, TxState.MINED, f"block {receipt.block}", "mined")
        if not self._deep(view, receipt.block):
            return
        if not await inclusion.is_canonical(self._chain, receipt):
            view.trouble(row, "endpoint", f"the receipt's block {receipt.block} is not the chain's: asked again")
        elif not receipt.succeeded:
            gas = next(attempt.gas for attempt in row.attempts if attempt.hash == receipt.tx_hash)
            why = await inclusion.why_reverted(self._chain, self._account, row.intent.call, gas, receipt, self._reason)
            await self._close(view, row, TxState.REVERTED, why)
        else:
            await self._close(view, row, TxState.FINAL, "")

    async def _overtaken(self, view: View, row: Row) -> None:
        """Its nonce is used, and by none of its hashes as far as this endpoint says."""
        nonce = _nonce(row)
        consumer = await inclusion.find_consumer(self._chain, self._account, nonce, view.head)
        if consumer is None or any(attempt.hash == consumer.hash for attempt in row.attempts):
            return  # ours after all: its receipt will come
        if not self._deep(view, consumer.block):
            return
        what = f"nonce {nonce} went to 0x{consumer.hash.hex()} in block {consumer.block}"
        if row.intent.protocol == OWN_PROTOCOL or consumer.empty:
            await self._close(view, row, TxState.REPLACED, what)
            return
        view.trouble(row, "foreign", f"{what}, which this sender did not sign: is the key in use elsewhere?")
        await self._outbox.requeued(row.id, what, view.head.time)
        self._moved(view, row, TxState.INTENT, what, "requeued")

    async def _push(self, view: View, row: Row) -> None:
        """Not mined: given up when too late, sent again when the node does not know it, replaced when stuck."""
        last, nonce = row.attempts[-1], _nonce(row)
        if row.intent.deadline <= view.head.time:
            await self._give_up(view, nonce)
            return
        offer = replacement(view, row, nonce, self._policy.fees)
        unsent = last.sent_at is None
        if not unsent and offer is None and await self._chain.transaction(last.hash) is not None:
            return  # the node has it, and it may wait a while yet
        if await self._pointless(view, row):
            return
        if unsent:
            refused = await self._broadcast(view, row, last)
            if not _CHEAP.search(refused):
                return  # it is on its way; or no fee would help
        if offer is not None:
            await self._broadcast(view, row, await self._sign(view, row, nonce, last.gas, offer))
        elif not unsent:
            await self._broadcast(view, row, last)

    async def _pointless(self, view: View, row: Row) -> bool:
        """Whether it would revert now, as most endpoints say, so that it is not sent again. Theirs may be a stale state: the
        nonce is given up only when it has been waiting for twice the time after which it would have been replaced."""
        last, nonce, call = row.attempts[-1], _nonce(row), row.intent.call
        if row.intent.protocol == OWN_PROTOCOL or nonce != view.taken:
            return False  # what is in front of it may change what it does
        try:
            await self._chain.simulate(call.to, call.data, sender=self._account, value=call.value)
        except Reverted as error:
            view.trouble(row, "reverts", f"not sent again, it would revert: {self._reason(error)}")
            waited = view.head.time - (last.sent_at or last.signed_at)
            if waited >= 2 * fees.waits(self._policy.fees, view.slack(nonce)):
                await self._give_up(view, nonce)
            return True
        return False

    # nonces to be given up

    async def _give_up(self, view: View, nonce: int) -> None:
        call = Call(self._account, b"", Wei(0))
        intent = Intent(OWN_PROTOCOL, f"{self._account}/{nonce}", Action.CANCEL, call, NEVER)
        if not view.cancelling(nonce):
            await self._outbox.propose(intent, self._account, view.head.time, again=True)
            self._crossing("intent")

    async def _mind_gaps(self, view: View, flying: Sequence[Row], *, held: bool) -> None:
        """The next nonces of the chain that belong to no open row, though higher ones were signed; while ``held`` also those
        that strangers had waiting when that began."""
        until, since = await self._outbox.next_nonce(self._account) or 0, NEVER
        if not held:
            self._strangers = None
        elif self._strangers is None:
            self._strangers = (await self._chain.count(self._account, "pending")).agreed, view.head.time
        if self._strangers is not None:
            until, since = max(until, self._strangers[0]), self._strangers[1]
        ours = {row.nonce for row in flying}
        gaps = (nonce for nonce in range(view.taken, until) if nonce not in ours)
        for nonce in islice(gaps, self._policy.in_flight):
            await self._mind_gap(view, nonce, flying, since)

    async def _mind_gap(self, view: View, nonce: int, flying: Sequence[Row], since: UnixTime) -> None:
        """Reopened when it is that of a transaction of ours that was final and has left the chain, given up when nobody's
        and some wait behind it. What somebody else has waiting there, or an endpoint says so of, has the time that a stuck
        transaction has; then it is outbid."""
        behind = [row for row in flying if row.state in UNMINED and _nonce(row) > nonce]
        since = min([since, *(attempt.signed_at for row in behind for attempt in row.attempts)])
        waited = view.head.time - since >= fees.waits(self._policy.fees, view.slack(nonce))
        if nonce < view.pending and not waited:
            return
        settled = await self._outbox.settled(self._account, nonce)
        if settled is not None:
            if settled.block is not None and settled.block > view.head.number:
                return  # an endpoint that lags: it has not got the block yet
            view.trouble(settled, "reorg", f"a final transaction has left the chain: {settled.intent.subject}")
            view.states[settled.id] = settled.state
            row = await self._outbox.reopened(settled.id, view.head.time)
            self._moved(view, row, TxState.SENT, "what counted as final has left the chain", "reopened")
            await self._guarded(view, row, self._again)
        elif waited:
            holds = "by a transaction that this sender did not sign" if nonce < view.pending else "by nothing"
            view.trouble(None, "gap", f"nonce {nonce} is used {holds} and keeps {len(behind)} waiting")
            await self._give_up(view, nonce)

    # rows that are not signed

    async def _launch(self, view: View, row: Row) -> None:
        intent, now = row.intent, view.head.time
        if row.attempts and (receipt := await self._receipt(row)) is not None:
            await self._mined(view, row, receipt)
        elif intent.protocol == OWN_PROTOCOL:
            if self._signer is not None:
                await self._launch_own(view, row)
        elif intent.deadline <= now:
            await self._close(view, row, TxState.ABANDONED, "its deadline passed before it was signed")
        elif self._signer is None or len(view.costs) < self._policy.in_flight:
            await self._launch_call(view, row)

    async def _launch_own(self, view: View, row: Row) -> None:
        nonce = int(row.intent.subject.rpartition("/")[2])
        if view.taken > nonce:
            await self._close(view, row, TxState.ABANDONED, f"nonce {nonce} is used by now")
            return
        offer = outbid(view, nonce, self._policy.fees)
        # at the cap it may be the very transaction that was signed at a former try
        again = [one for one in row.attempts if (one.nonce, one.max_fee, one.tip) == (nonce, offer.max_fee, offer.tip)]
        signed = again[-1] if again else await self._sign(view, row, nonce, TRANSFER_GAS, offer)
        await self._broadcast(view, row, signed)

    async def _launch_call(self, view: View, row: Row) -> None:
        intent = row.intent
        call = intent.call
        offer = fees.offer(self._policy.fees, view.base_fee, intent.deadline - view.head.time)
        free = await self._chain.balance(self._account) - sum(view.costs.values())
        try:
            if free >= call.value:  # else the simulation would say no more than that
                await self._chain.simulate(call.to, call.data, sender=self._account, value=call.value)
                estimates = await self._chain.estimates(call.to, call.data, sender=self._account, value=call.value)
        except Reverted as error:
            await self._close(view, row, TxState.ABANDONED, f"would revert: {self._reason(error)}")
            return
        if free < call.value:
            view.trouble(row, "funds", f"{free} wei free, {call.value} to be sent beside gas")
            return
        within = [gas for gas in estimates if gas <= self._policy.gas_limit]
        if 2 * len(within) < len(estimates):
            what = f"needs {words.lower(estimates)} gas, above the limit set for it"
            await self._close(view, row, TxState.ABANDONED, what)
            return
        estimate = words.upper(within)  # with more than it takes nothing is lost, with less it runs out
        # one that failed on chain although its simulation went well may have run out of gas: more room at each new try
        tries = 1 + len({attempt.nonce for attempt in row.attempts})
        gas = min(estimate * (_ONE + tries * self._policy.gas_margin) // _ONE, self._policy.gas_limit)
        cost = call.value + gas * offer.max_fee
        if self._signer is None:
            detail = f"dry run: simulated well, at most {gas} gas and {cost} wei; not signed"
            await self._close(view, row, TxState.ABANDONED, detail)
        elif free < cost:
            view.trouble(row, "funds", f"{free} wei free, {cost} needed at most")
        else:
            nonce = await self._next_nonce(view, row)
            await self._broadcast(view, row, await self._sign(view, row, nonce, gas, offer))

    async def _next_nonce(self, view: View, row: Row) -> int:
        """The higher of what the chain with its mempool and what the store say; where absurdly many unknown ones wait, the
        first of theirs, which ours outbids: behind them it would wait beyond its deadline. What one endpoint alone counts
        is told, and moves nothing, at the first start as at any other time."""
        stored = await self._outbox.next_nonce(self._account)
        taken, pending = view.taken, view.pending
        if view.claimed > (pending if stored is None else stored):
            detail = (
                f"the chain counts {taken} transactions and {view.claimed} with those waiting, the store {stored or 0}"
            )
            detail += "" if pending >= view.claimed else f", and most endpoints no more than {pending}"
            view.trouble(row, "foreign", f"{detail}: is the key in use elsewhere, or the store an old copy?")
        free = max(taken, stored or 0)
        return free if pending - free > self._policy.in_flight else max(pending, free)

    # what every row goes through

    async def _sign(self, view: View, row: Row, nonce: int, gas: int, offer: Fees) -> Attempt:
        assert self._signer is not None, "a dry run reaches no signature"
        call = row.intent.call
        fields: dict[str, Any] = {
            "chainId": self._policy.chain,
            "nonce": nonce,
            "to": call.to,
            "value": call.value,
            "data": call.data,
            "gas": gas,
            "maxFeePerGas": offer.max_fee,
            "maxPriorityFeePerGas": offer.tip,
        }
        signed = await self._signer.sign_transaction(fields)
        if keccak(signed.raw) != signed.hash:
            raise SignerLied("the hash is not that of the bytes", row=row.id)
        made = Signed(nonce, gas, offer.max_fee, offer.tip, signed.hash, signed.raw, view.head.time)
        attempt = await self._outbox.signed(row.id, made)
        view.costs[row.id] = max(view.costs.get(row.id, 0), cost(row, attempt))
        state = TxState.SIGNED if view.states[row.id] is TxState.INTENT else view.states[row.id]
        self._moved(view, row, state, f"nonce {nonce}, at most {offer.max_fee} wei per gas", "signed")
        return attempt

    async def _broadcast(self, view: View, row: Row, attempt: Attempt) -> str:
        """Hands the attempt to the node; the refusal, empty when it was taken or may have been."""
        refused = await self._send(view, row, attempt)
        if refused:
            return refused
        self._crossing("broadcast")
        if attempt.sent_at is None:
            await self._outbox.sent(row.id, attempt.number, view.head.time)
            self._moved(view, row, TxState.SENT, f"0x{attempt.hash.hex()}", "sent")
        return ""

    async def _send(self, view: View, row: Row | None, attempt: Attempt) -> str:
        try:
            await self._chain.send_raw(attempt.raw)
        except (EndpointError, RateLimited) as error:
            view.trouble(row, "endpoint", f"uncertain whether it was taken: {error}")
        except RpcError as error:
            if not _TAKEN.search(error.detail):
                view.trouble(row, "refused", error)
                return error.detail
        return ""

    async def _close(self, view: View, row: Row, state: TxState, detail: str) -> None:
        await self._outbox.closed(row.id, state, detail, view.head.time)
        self._moved(view, row, state, detail, "closed")

    def _moved(self, view: View, row: Row, state: TxState, detail: str, name: str) -> None:
        view.moved.append(Moved(row.id, row.intent, view.states[row.id], state, detail))
        view.states[row.id] = state
        self._crossing(name)

    def _deep(self, view: View, block: int) -> bool:
        return view.head.number - block + 1 >= self._policy.confirmations

    def _reason(self, error: Reverted) -> str:
        return self._explain(error.data) if error.data else error.detail


def _nonce(row: Row) -> int:
    assert row.nonce is not None, "a signed row has its nonce"
    return row.nonce


def _by_urgency(row: Row) -> tuple[bool, int, int]:
    return row.intent.protocol != OWN_PROTOCOL, row.intent.deadline, row.id
