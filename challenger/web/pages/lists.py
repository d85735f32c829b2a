"""Pages that list: a filter, a table, and the way to the next page. One table says what each shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, get_args, get_type_hints

from aiohttp import web
from yarl import URL

from challenger.store import listed
from challenger.store.listing import Listed
from challenger.web.api.lists import PAGING, link, page_of
from challenger.web.kinds import of_filter
from challenger.web.pages.words import ether, facts, short, utc
from challenger.web.table import values_of
from challenger.wording import numbered


class Cell(NamedTuple):
    """``kind`` chooses how it is shown: text, id, address, time, number, state. ``href`` where it leads."""

    value: Any
    kind: str = "text"
    href: str = ""


@dataclass(frozen=True, slots=True)
class ListPage:
    """``fields``: the filter's members that the form offers; ``columns`` make the cells of a row, ``{money}`` in the
    name of one is what the protocol's bonds are in."""

    path: str
    title: str
    about: str
    what: Listed[Any, Any]
    fields: tuple[str, ...]
    columns: tuple[tuple[str, Callable[[Any], Cell]], ...]


def commitment_cell(value: bytes) -> Cell:
    return Cell(value, "id", f"/commitments/0x{value.hex()}")


def provider_cell(value: str | None) -> Cell:
    return Cell(value or "", "address", f"/providers/{value}" if value else "")


def model_cell(value: bytes) -> Cell:
    return Cell(value, "id", f"/models/0x{value.hex()}")


def subject_cell(value: str) -> Cell:
    """A journal's subject: of a commitment a link to it."""
    head = value.partition("/")[0]
    whole = len(head) == 66 and head.startswith("0x")
    return Cell(value, "id", f"/commitments/{head}" if whole else "")


def verdict_cell(row: listed.CommitmentListed) -> Cell:
    if row.verdict is None:
        return Cell("")
    confirmed = row.verdict.value == "FRAUD" and row.confirmation is not None and row.confirmation.value == "FRAUD"
    return Cell(row.verdict.value + (" confirmed" if confirmed else ""), "state")


LISTS = (
    ListPage(
        "/commitments",
        "Commitments",
        "Answers of providers as the chain has them, where each stands with the watcher, and what replays said.",
        listed.COMMITMENTS,
        ("state", "verdict", "confirmation", "status", "selected", "provider", "model", "epoch", "since", "until"),
        (
            ("Commitment", lambda row: commitment_cell(row.commitment.commitment)),
            ("Committed", lambda row: Cell(utc(row.commitment.committed_at), "time")),
            ("Provider", lambda row: provider_cell(row.commitment.provider)),
            ("Model", lambda row: model_cell(row.commitment.model)),
            ("State", lambda row: Cell(row.work.state, "state")),
            ("Verdict", verdict_cell),
            ("On chain", lambda row: Cell(row.commitment.status, "state")),
            ("Window closes", lambda row: Cell(utc(row.commitment.closes), "time")),
        ),
    ),
    ListPage(
        "/disputes",
        "Disputes",
        "Challenges on the chain, ours and others'.",
        listed.DISPUTES,
        ("outcome", "challenger", "commitment", "from_block", "to_block"),
        (
            ("Dispute", lambda row: Cell(short(numbered(row.dispute)), "number", f"/disputes/{row.dispute}")),
            ("Commitment", lambda row: commitment_cell(row.commitment)),
            ("Challenger", lambda row: Cell(row.challenger, "address")),
            ("Outcome", lambda row: Cell(row.outcome, "state")),
            ("Bond, {money}", lambda row: Cell(ether(row.bond), "number")),
            ("Paid, {money}", lambda row: Cell(ether(row.paid), "number")),
            ("Burnt, {money}", lambda row: Cell(ether(row.burnt), "number")),
            ("Ruling by", lambda row: Cell(utc(row.ruling_by), "time")),
            ("Block", lambda row: Cell(row.block, "number")),
        ),
    ),
    ListPage(
        "/demands",
        "Demands",
        "Demands for data that was withheld, ours and others'.",
        listed.DEMANDS,
        ("outcome", "demander", "commitment", "from_block", "to_block"),
        (
            ("Demand", lambda row: Cell(row.demand, "number", f"/demands/{row.demand}")),
            ("Commitment", lambda row: commitment_cell(row.commitment)),
            ("Demander", lambda row: Cell(row.demander, "address")),
            ("Part", lambda row: Cell(row.part)),
            ("Outcome", lambda row: Cell(row.outcome, "state")),
            ("Bond, {money}", lambda row: Cell(ether(row.bond), "number")),
            ("Paid, {money}", lambda row: Cell(ether(row.paid), "number")),
            ("Answer by", lambda row: Cell(utc(row.answer_by), "time")),
            ("Block", lambda row: Cell(row.block, "number")),
        ),
    ),
    ListPage(
        "/models",
        "Models",
        "Models as they are registered on the chain.",
        listed.MODELS,
        ("disabled", "registrar", "from_block", "to_block"),
        (
            ("Model", lambda row: model_cell(row.model)),
            ("Registrar", lambda row: Cell(row.registrar, "address")),
            ("Mode", lambda row: Cell(row.mode)),
            ("Spec", lambda row: Cell(row.spec_version, "number")),
            ("Disabled", lambda row: Cell("disabled" if row.disabled else "", "state")),
            ("Address of its files", lambda row: Cell(row.uri)),
            ("Block", lambda row: Cell(row.block, "number")),
        ),
    ),
    ListPage(
        "/sampling",
        "Sampling",
        "Epochs: what was promised before each, and its secret once it is revealed. An epoch's page says what was drawn.",
        listed.EPOCHS,
        ("revealed", "anchored", "block"),
        (
            ("Epoch", lambda row: Cell(row.number, "number", f"/sampling/{row.number}")),
            ("Blocks", lambda row: Cell(f"{row.opens_block} to {row.closes_block - 1}")),
            ("Promise", lambda row: Cell(row.commitment, "id")),
            ("Anchored in block", lambda row: Cell("" if row.anchor_block is None else row.anchor_block, "number")),
            ("Revealed", lambda row: Cell(utc(row.revealed_at) or "not yet", "time")),
            ("Policy", lambda row: Cell(facts(row.policy))),
        ),
    ),
    ListPage(
        "/operations/transactions",
        "Transactions",
        "What the watcher meant to send, and what became of it.",
        listed.TRANSACTIONS,
        ("state", "action", "commitment", "account", "since", "until"),
        (
            ("Number", lambda row: Cell(row.id, "number")),
            ("Action", lambda row: Cell(row.intent.action.value)),
            ("About", lambda row: subject_cell(row.intent.subject)),
            ("State", lambda row: Cell(row.state.value, "state")),
            ("Value, ether", lambda row: Cell(ether(row.intent.call.value), "number")),
            ("Nonce", lambda row: Cell("" if row.nonce is None else row.nonce, "number")),
            ("Tries", lambda row: Cell(len(row.attempts), "number")),
            ("Hash", lambda row: Cell(row.hash, "id") if row.hash else Cell("")),
            ("Block", lambda row: Cell("" if row.block is None else row.block, "number")),
            ("Changed", lambda row: Cell(utc(row.updated), "time")),
            ("Trouble", lambda row: Cell(row.error)),
        ),
    ),
    ListPage(
        "/operations/alerts",
        "Alerts",
        "Alerts as they were journalled; docs/operators.md says what each means and what to do.",
        listed.ALERTS,
        ("name", "severity", "about", "since", "until"),
        (
            ("Entry", lambda row: Cell(row.seq, "number")),
            ("Time", lambda row: Cell(utc(row.time), "time")),
            ("Alert", lambda row: Cell(row.name)),
            ("Severity", lambda row: Cell(row.severity, "state")),
            ("About", lambda row: subject_cell(row.about)),
            ("Facts", lambda row: Cell(facts(row.fields))),
        ),
    ),
    ListPage(
        "/operations/selftests",
        "Self-tests",
        "Frauds that the watcher planted in its own queue. One that was missed is an alert.",
        listed.SELFTESTS,
        ("outcome", "model", "since", "until"),
        (
            ("Number", lambda row: Cell(row.id, "number")),
            ("Time", lambda row: Cell(utc(row.time), "time")),
            ("Model", lambda row: model_cell(row.model)),
            ("Made of", lambda row: commitment_cell(row.source)),
            ("Change", lambda row: Cell(row.change)),
            ("Outcome", lambda row: Cell(getattr(row.outcome, "value", row.outcome), "state")),
            ("Why", lambda row: Cell(row.detail)),
        ),
    ),
    ListPage(
        "/journal",
        "Journal",
        "Every decision in the order in which it was written, each bound to the one before by its hash.",
        listed.JOURNAL,
        ("kind", "subject", "since", "until"),
        (
            ("Entry", lambda row: Cell(row.seq, "number")),
            ("Time", lambda row: Cell(utc(row.time), "time")),
            ("Kind", lambda row: Cell(row.kind)),
            ("About", lambda row: subject_cell(row.subject)),
            ("Facts", lambda row: Cell(facts(row.payload))),
            ("Hash", lambda row: Cell(row.hash, "id")),
        ),
    ),
)


class Choice(NamedTuple):
    """A field of a filter's form. ``options``: the words that it may hold, none for free text."""

    name: str
    label: str
    options: tuple[str, ...]
    value: str


def choices(page: ListPage, request: web.Request) -> list[Choice]:
    hints = get_type_hints(page.what.filter)
    found = []
    for name in page.fields:
        inner = next(part for part in get_args(hints[name]) if part is not type(None))
        options: tuple[str, ...] = ()
        if isinstance(inner, type) and issubclass(inner, Enum):
            options = tuple(str(one.value) for one in inner)
        elif inner is bool:
            options = ("true", "false")
        found.append(Choice(name, name.replace("_", " "), options, request.query.get(name, "")))
    return found


def tidy(request: web.Request) -> web.StreamResponse | None:
    """A form sends its empty fields too: the address without them, where there are any."""
    kept = [(name, value.strip()) for name, value in request.query.items() if value.strip()]
    if len(kept) == len(request.query):
        return None
    return web.Response(status=303, headers={"Location": str(URL.build(path=request.path, query=kept))})


def _page(page: ListPage) -> Any:
    parameters = (*of_filter(page.what.filter), *PAGING)

    async def handler(request: web.Request) -> Any:
        moved = tidy(request)
        if moved is not None:
            return moved
        found = await page_of(request, page.what, values_of(parameters, request))
        return "list.html", {
            "page": page,
            "choices": choices(page, request),
            "filtered": any(name not in ("limit", "cursor", "order") for name in request.query),
            "order": request.query.get("order", "newest"),
            "columns": [name for name, _ in page.columns],
            "rows": [[make(row) for _, make in page.columns] for row in found.rows],
            "next": link(request, found.next),
            "prev": link(request, found.prev),
        }

    return page.path, handler


PAGES = tuple(_page(page) for page in LISTS)
