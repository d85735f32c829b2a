"""One thing: its row with what the record holds about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from challenger.audit.records import base_rate, track_records
from challenger.domain import Address, AuditId, ChainEvent, CommitmentId
from challenger.shapes import shape
from challenger.store import listed
from challenger.store.listing import Listed
from challenger.store.rows import TransactionRow, VerdictRow
from challenger.store.subjects import subject_of
from challenger.store.unit import View
from challenger.web import answers
from challenger.web.keys import STORE
from challenger.web.kinds import ADDRESS_KIND, BIG, HASH_KIND, NUMBER, Kind, Parameter
from challenger.web.problems import not_found
from challenger.web.respond import answer
from challenger.web.table import Route

#: Events of the chain and rows that an answer holds at most.
_MOST = 200


async def commitment(view: View, identity: CommitmentId) -> answers.CommitmentAnswer | None:
    """Everything about one commitment that the chain shows now."""
    query = listed.COMMITMENTS.query.where(listed.COMMITMENTS.query.selected_columns[0] == identity)
    found = (await view.connection.execute(query)).one_or_none()
    if found is None:
        return None
    row: listed.CommitmentListed = listed.COMMITMENTS.make(*found)
    disputes = await view.chain.disputes(commitment=identity, limit=_MOST)
    demands = await view.chain.demands(commitment=identity, limit=_MOST)
    events = await view.chain.history("commitment", identity)
    for name, ids in (("dispute", [d.dispute for d in disputes]), ("demand", [d.demand for d in demands])):
        for one in ids:
            events += await view.chain.history(name, one)
    return answers.CommitmentAnswer(
        row,
        await view.chain.task(row.commitment.task),
        await view.verdicts.of(identity),
        await view.audits.of(AuditId(identity)),
        disputes,
        demands,
        await _sent(view, identity),
        _moves(events),
        await view.journal.about(subject_of(identity), _MOST),
    )


async def dispute(view: View, identity: int) -> answers.DisputeAnswer | None:
    row = await view.chain.dispute(identity)  # type: ignore[arg-type]
    if row is None:
        return None
    ours = row.challenger in await view.hindsight.accounts()
    moves = _moves(await view.chain.history("dispute", identity))
    return answers.DisputeAnswer(row, ours, moves, await _sent(view, row.commitment))


async def demand(view: View, identity: int) -> answers.DemandAnswer | None:
    row = await view.chain.demand(identity)  # type: ignore[arg-type]
    if row is None:
        return None
    ours = row.demander in await view.hindsight.accounts()
    moves = _moves(await view.chain.history("demand", identity))
    return answers.DemandAnswer(row, ours, moves, await _sent(view, row.commitment))


async def task(view: View, identity: Any) -> answers.TaskAnswer | None:
    row = await view.chain.task(identity)
    if row is None:
        return None
    there = await listed.commitment_of(view.connection, row)
    return answers.TaskAnswer(row, there, _moves(await view.chain.history("task", identity)))


async def model(view: View, identity: Any) -> answers.ModelAnswer | None:
    row = await view.chain.model(identity)
    return None if row is None else answers.ModelAnswer(row, _moves(await view.chain.history("model", identity)))


async def provider(view: View, identity: Address) -> answers.ProviderAnswer | None:
    """Its answers counted, and its track record with the bound (``audit.records``)."""
    rows = await _some(view, listed.PROVIDERS, listed.PROVIDERS.keys[0] == identity)
    head = await view.chain.head()
    if not rows or head is None:
        return None
    base = base_rate(await view.epochs.all())
    records = track_records(await view.records.tallies(base, head.time, identity), base)
    told = [
        answers.RecordAnswer(
            r.provider,
            r.model,
            r.answers,
            r.sampled,
            dict(r.fates),
            r.closed,
            r.looked,
            r.bad,
            r.most,
            r.rate,
            r.sentence(),
        )
        for r in records
    ]
    return answers.ProviderAnswer(rows[0], told)


async def verdict(view: View, identity: int) -> VerdictRow | None:
    return await view.verdicts.get(identity)


async def transaction(view: View, identity: int) -> TransactionRow | None:
    rows = await _some(view, listed.TRANSACTIONS, listed.TRANSACTIONS.keys[0] == identity)
    return rows[0] if rows else None


async def epoch(view: View, identity: int) -> listed.EpochListed | None:
    rows = await _some(view, listed.EPOCHS, listed.EPOCHS.keys[0] == identity)
    return rows[0] if rows else None


async def _some(view: View, what: Listed[Any, Any], where: Any) -> list[Any]:
    rows = [what.make(*row) for row in await view.connection.execute(what.query.where(where))]
    return await what.attach(view.connection, rows) if rows and what.attach is not None else rows


async def _sent(view: View, about: CommitmentId) -> list[TransactionRow]:
    wanted = listed.TransactionFilter(commitment=about)
    return (await view.listing.page(listed.TRANSACTIONS, wanted, limit=_MOST, oldest_first=True)).rows


def _moves(events: Iterable[ChainEvent]) -> list[answers.Move]:
    rows = sorted(events, key=lambda event: (event.at.block, event.at.log_index))
    return [answers.move(event) for event in rows[:_MOST]]


Look = Callable[[View, Any], Awaitable[Any]]


def _route(path: str, name: str, kind: Kind, about: str, look: Look, cls: type[Any]) -> Route:
    form = shape(cls)

    async def handler(request: web.Request, values: Mapping[str, Any]) -> web.StreamResponse:
        async with request.app[STORE].read() as view:
            found = await look(view, values[name])
        if found is None:
            raise not_found(name, request.match_info[name])
        return answer(request, form.encode(found))

    asked = Parameter(name, kind, f"which {name}", place="path")
    schema = {"$ref": f"#/components/schemas/{form.name}"}
    return Route("GET", path, f"get_{name}", about, handler, schema, (asked,), shapes=(form,), problems=(404,))


ROUTES = (
    _route(
        "/commitments/{commitment}",
        "commitment",
        HASH_KIND,
        "A commitment with its task, verdicts, audits, disputes, demands, our transactions, its events and journal.",
        commitment,
        answers.CommitmentAnswer,
    ),
    _route(
        "/disputes/{dispute}",
        "dispute",
        BIG,
        "A dispute with each move on chain and our transactions.",
        dispute,
        answers.DisputeAnswer,
    ),
    _route(
        "/demands/{demand}",
        "demand",
        BIG,
        "A demand with each move on chain and our transactions.",
        demand,
        answers.DemandAnswer,
    ),
    _route("/tasks/{task}", "task", HASH_KIND, "A task, and the answer to it.", task, answers.TaskAnswer),
    _route("/models/{model}", "model", HASH_KIND, "A model.", model, answers.ModelAnswer),
    _route(
        "/providers/{provider}",
        "provider",
        ADDRESS_KIND,
        "A provider's track record, with a bound on what nobody looked at.",
        provider,
        answers.ProviderAnswer,
    ),
    _route("/verdicts/{verdict}", "verdict", NUMBER, "What one replay said.", verdict, VerdictRow),
    _route(
        "/transactions/{transaction}",
        "transaction",
        NUMBER,
        "One of our transactions with its signed versions.",
        transaction,
        TransactionRow,
    ),
    _route("/epochs/{epoch}", "epoch", NUMBER, "A sampling epoch.", epoch, listed.EpochListed),
)
