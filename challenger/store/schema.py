"""Every table, once, for SQLite and PostgreSQL. ``docs/store.md`` says what each is for.

Times are UTC seconds, wei are exact (``Uint256``), hashes are 32 raw bytes, addresses are lower-case ``0x`` text.
``events`` is what the chain said; ``models`` … ``demands`` are folds over it and may be rebuilt at any time;
``work`` and what follows are our own decisions, and the journal is the record of both.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    types,
)
from sqlalchemy.types import TypeEngine

#: The revision in ``migrations/versions`` that this schema is; a test holds the two together.
HEAD = "0009"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Uint256(types.TypeDecorator[int]):
    """An integer of up to 78 digits, never a float: decimal text on SQLite, ``NUMERIC(78)`` on PostgreSQL.

    SQLite compares the text, not the number: add up and order in Python.
    """

    impl = String(78)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(78, 0))
        return dialect.type_descriptor(String(78))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return Decimal(value) if dialect.name == "postgresql" else str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(value)


#: Amounts in wei and on-chain counters share one exact representation.
WeiType = Uint256


def _hash(name: str, *args: Any, **kwargs: Any) -> Column[bytes]:
    return Column(name, LargeBinary(32), *args, **kwargs)


def _integer(name: str, *args: Any, **kwargs: Any) -> Column[int]:
    return Column(name, BigInteger, *args, **kwargs)


#: SQLite makes a key of type INTEGER, and of no other, the row's own number: no second tree to write.
_KEY = BigInteger().with_variant(Integer, "sqlite")


def _serial() -> Column[int]:
    """A key the database counts up."""
    return Column("id", _KEY, primary_key=True, autoincrement=True)


def _number(name: str) -> Column[int]:
    """A key that we count."""
    return Column(name, _KEY, primary_key=True, autoincrement=False)


def _optional_hash(name: str) -> Column[bytes]:
    return _hash(name, nullable=True)


def _optional_integer(name: str) -> Column[int]:
    return _integer(name, nullable=True)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text, nullable=nullable)


def _word(name: str, *args: Any, nullable: bool = False) -> Column[str]:
    return Column(name, String(40), *args, nullable=nullable)


def _address(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, String(42), nullable=nullable)


# --- what the chain said ------------------------------------------------------------------------------------------

blocks = Table(
    "blocks",
    metadata,
    _number("number"),
    _hash("hash", nullable=False),
    _hash("parent", nullable=False),
    _integer("time", nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", String(40), primary_key=True),
    _integer("block", nullable=False),
    _hash("hash", nullable=False),
    _integer("version", nullable=False),
)

events = Table(
    "events",
    metadata,
    Column("block", BigInteger, primary_key=True, autoincrement=False),
    Column("log_index", BigInteger, primary_key=True, autoincrement=False),
    _word("kind"),
    _hash("subject", nullable=False),
    _hash("block_hash", nullable=False),
    _hash("tx_hash", nullable=False),
    _text("payload"),
    Column("data", LargeBinary, nullable=False),
    Index(None, "subject"),
)


# --- folds over the events ----------------------------------------------------------------------------------------


def _appeared() -> tuple[Column[Any], ...]:
    """Where the first event of the aggregate stands; its bulk data lies there, once."""
    return (_integer("block", nullable=False), _integer("log_index", nullable=False))


models = Table(
    "models",
    metadata,
    _hash("model", primary_key=True),
    *_appeared(),
    _address("registrar"),
    _hash("file_digest", nullable=False),
    _hash("artefact_root", nullable=False),
    _hash("program_root", nullable=False),
    _integer("spec_version", nullable=False),
    _word("mode"),
    _integer("boundaries", nullable=False),
    _integer("artefact_tiles", nullable=False),
    _text("uri"),
    _hash("known_output_root", nullable=False),
    Column("disabled", Boolean(create_constraint=False), nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    _hash("task", primary_key=True),
    *_appeared(),
    _hash("model", nullable=False),
    _address("requester"),
    _hash("input_root", nullable=False),
    _text("input_uri"),
    _integer("input_length", nullable=False),
    _hash("entropy", nullable=False),
    Column("fee", Uint256, nullable=False),
    _integer("deadline", nullable=False),
    _address("provider", nullable=True),
    _optional_hash("seed"),
    _optional_integer("taken_block"),
    _word("closed", nullable=True),
    Index(None, "block"),
    Index(None, "provider", "block"),
)

commitments = Table(
    "commitments",
    metadata,
    _hash("commitment", primary_key=True),
    *_appeared(),
    _hash("tx_hash", nullable=False),
    _hash("task", nullable=False),
    _hash("model", nullable=False),
    _address("provider"),
    _hash("output_root", nullable=False),
    _hash("state_root", nullable=False),
    _text("output_uri"),
    _integer("output_length", nullable=False),
    _integer("committed_at", nullable=False),
    _integer("closes", nullable=False),
    _word("status"),
    _optional_integer("closed_block"),
    Index(None, "block"),
    Index(None, "closes"),
    Index(None, "closed_block"),
    Index(None, "committed_at"),
    Index(None, "provider", "block"),
    Index(None, "model", "block"),
)
# what few commitments come to
RARE_STATUS = commitments.c.status.in_([literal_column("'fraud'"), literal_column("'void'")])
Index(
    "ix_commitments_status",
    commitments.c.status,
    commitments.c.block,
    sqlite_where=RARE_STATUS,
    postgresql_where=RARE_STATUS,
)

disputes = Table(
    "disputes",
    metadata,
    Column("dispute", Uint256, primary_key=True),
    *_appeared(),
    _hash("tx_hash", nullable=False),
    _hash("commitment", nullable=False, index=True),
    Column("challenger", String(42), nullable=False, index=True),
    _hash("output_root", nullable=False),
    _hash("state_root", nullable=False),
    _hash("evidence", nullable=False),
    Column("bond", Uint256, nullable=False),
    _integer("ruling_by", nullable=False),
    _word("outcome"),
    Column("paid", Uint256, nullable=False),
    Column("burnt", Uint256, nullable=False),
    _optional_integer("closed_block"),
)

demands = Table(
    "demands",
    metadata,
    Column("demand", Uint256, primary_key=True),
    *_appeared(),
    _hash("tx_hash", nullable=False),
    _hash("commitment", nullable=False, index=True),
    Column("demander", String(42), nullable=False, index=True),
    _word("part"),
    _integer("part_index", nullable=False),
    Column("bond", Uint256, nullable=False),
    _integer("answer_by", nullable=False),
    _word("outcome"),
    Column("paid", Uint256, nullable=False),
    Column("burnt", Uint256, nullable=False),
    _optional_integer("closed_block"),
    _optional_integer("closed_log"),
)


# --- our decisions ------------------------------------------------------------------------------------------------

work = Table(
    "work",
    metadata,
    _hash("commitment", primary_key=True),
    _word("state"),
    # the state held before a reorg took the commitment away
    _word("before", nullable=True),
    # the chain facts the decisions rest on: when one of them changes, an unspent row starts anew
    _integer("seen_block", nullable=False),
    _integer("seen_opens", nullable=False),
    _integer("seen_closes", nullable=False),
    _optional_integer("epoch"),
    _optional_integer("p_millionths"),
    _optional_integer("draw_block"),
    _optional_hash("draw_hash"),
    _optional_hash("drawn"),
    Column("selected", Boolean(create_constraint=False), nullable=True),
    _text("inputs", nullable=True),
    _optional_integer("verdict"),
    _optional_integer("confirmation"),
    _text("detail"),
    _integer("attempts", nullable=False),
    _integer("next_try", nullable=False),
    _integer("updated", nullable=False),
    _integer("version", nullable=False),
    # next_try is far away where nothing is to be done: what waits for its window to pass costs no look
    Index(None, "state", "next_try"),
)
Index(
    "ix_work_draw_block",
    work.c.draw_block,
    sqlite_where=work.c.draw_block.is_not(None),
    postgresql_where=work.c.draw_block.is_not(None),
)
Index(
    "ix_work_confirmation",
    work.c.confirmation,
    sqlite_where=work.c.confirmation.is_not(None),
    postgresql_where=work.c.confirmation.is_not(None),
)

# which moves of ``work`` rest on a block: a reorg that takes the block away takes the move back
chain_moves = Table(
    "chain_moves",
    metadata,
    _serial(),
    _hash("commitment", nullable=False),
    _integer("block", nullable=False, index=True),
    _word("before"),
)

verdicts = Table(
    "verdicts",
    metadata,
    _serial(),
    _hash("commitment", nullable=False, index=True),
    _word("kind"),
    _text("detail"),
    _word("backend"),
    Column("fresh", Boolean(create_constraint=False), nullable=False),
    _optional_hash("output_root"),
    _optional_hash("state_root"),
    _text("environment"),
    _integer("microseconds", nullable=False),
    _integer("time", nullable=False),
    Index(None, "kind", "id"),
    Index(None, "time"),
)

epochs = Table(
    "epochs",
    metadata,
    _number("number"),
    _integer("opens_block", nullable=False),
    _integer("closes_block", nullable=False),
    _integer("delay", nullable=False),
    _hash("secret", nullable=False),
    _hash("policy_digest", nullable=False),
    _text("policy"),
    _hash("commitment", nullable=False),
    _optional_hash("anchor_tx"),
    _optional_integer("anchor_block"),
    _optional_integer("revealed_at"),
    _optional_hash("reveal_tx"),
)

transactions = Table(
    "transactions",
    metadata,
    _serial(),
    _word("protocol"),
    Column("subject", String(160), nullable=False),
    _word("action"),
    _word("state"),
    _address("account"),
    _integer("deadline", nullable=False),
    _address("to"),
    Column("data", LargeBinary, nullable=False),
    Column("value", Uint256, nullable=False),
    Column("nonce", BigInteger, nullable=True),
    _optional_hash("hash"),
    _optional_integer("block"),
    _optional_hash("block_hash"),
    Column("gas_used", BigInteger, nullable=True),
    _text("error"),
    _integer("created", nullable=False),
    _integer("updated", nullable=False),
    _integer("version", nullable=False),
    UniqueConstraint("protocol", "subject", "action"),
    Index(None, "state"),
    Index(None, "subject"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("transaction", ForeignKey("transactions.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _integer("nonce", nullable=False),
    _integer("gas", nullable=False),
    Column("max_fee", Uint256, nullable=False),
    Column("tip", Uint256, nullable=False),
    _hash("hash", nullable=False, unique=True),
    Column("raw", LargeBinary, nullable=False),
    _integer("signed_at", nullable=False),
    _optional_integer("sent_at"),
)

fences = Table(
    "fences",
    metadata,
    Column("name", String(80), primary_key=True),
    _integer("token", nullable=False),
    Column("holder", String(80), nullable=False),
    _integer("updated", nullable=False),
    Column("expires", BigInteger, nullable=False, server_default="0"),
)

pauses = Table(
    "pauses",
    metadata,
    _serial(),
    _word("reason"),
    Column("subject", String(160), nullable=False),
    _text("detail"),
    _integer("opened_at", nullable=False),
    _optional_integer("resumed_at"),
    Column("resumed_by", String(80), nullable=True),
    _text("note"),
)

approvals = Table(
    "approvals",
    metadata,
    Column("subject", String(160), primary_key=True),
    Column("action", String(40), primary_key=True),
    Column("approved", Boolean(create_constraint=False), nullable=False),
    Column("person", String(80), nullable=False),
    _text("note"),
    _integer("time", nullable=False),
)

settings = Table(
    "settings",
    metadata,
    Column("key", String(80), primary_key=True),
    _text("value"),
)

latencies = Table(
    "latencies",
    metadata,
    _serial(),
    _word("action"),
    _integer("microseconds", nullable=False),
    _integer("time", nullable=False),
    Index(None, "action"),
)

selftests = Table(
    "selftests",
    metadata,
    _serial(),
    _integer("time", nullable=False),
    _hash("model", nullable=False),
    _hash("source", nullable=False),
    _word("change"),
    _hash("output_root", nullable=False),
    _hash("state_root", nullable=False),
    _word("outcome"),
    _text("detail"),
    _integer("microseconds", nullable=False),
    _optional_integer("ended"),
)

# verdicts on past commitments: no decision rests on them, and a commitment need not be in the index
audits = Table(
    "audits",
    metadata,
    _serial(),
    _hash("commitment", nullable=False, index=True),
    _word("source"),
    _integer("block", nullable=False),
    _hash("block_hash", nullable=False),
    _address("provider"),
    _hash("committed_output", nullable=False),
    _hash("committed_state", nullable=False),
    _word("kind"),
    _text("detail"),
    _word("backend"),
    _optional_hash("output_root"),
    _optional_hash("state_root"),
    _word("confirmed"),
    _text("environment"),
    _integer("microseconds", nullable=False),
    _integer("time", nullable=False),
)

# what protocols without disputes were found to do: nothing is filed over any of it
findings = Table(
    "findings",
    metadata,
    _serial(),
    _integer("chain", nullable=False),
    _word("protocol"),
    _word("kind"),
    _hash("subject", nullable=False, index=True),
    Column("hop", String(80), nullable=False),
    Column("party", String(160), nullable=False),
    _word("ground"),
    _text("said"),
    _integer("block", nullable=False),
    _hash("block_hash", nullable=False),
    _integer("log_index", nullable=False),
    _hash("tx_hash", nullable=False),
    _text("facts"),
    _integer("time", nullable=False),
    UniqueConstraint("chain", "protocol", "kind", "subject", "block_hash", "log_index"),
)

# --- the record ---------------------------------------------------------------------------------------------------

journal = Table(
    "journal",
    metadata,
    _number("seq"),
    _hash("prev", nullable=False),
    _hash("hash", nullable=False),
    _integer("time", nullable=False),
    _word("kind"),
    Column("subject", String(160), nullable=False),
    _text("payload"),
    Index(None, "subject"),
    Index(None, "time"),
)
#: Journal kinds of which there are some for most commitments: the newest are never far.
BULK_KINDS = ("observed", "skipped", "finalised", "chain-job-closed")
NOT_BULK = journal.c.kind.not_in([literal_column(f"'{kind}'") for kind in BULK_KINDS])
Index("ix_journal_kind", journal.c.kind, journal.c.seq, sqlite_where=NOT_BULK, postgresql_where=NOT_BULK)

journal_heads = Table(
    "journal_heads",
    metadata,
    _number("seq"),
    _hash("hash", nullable=False),
    Column("signer", String(80), nullable=False),
    Column("signature", LargeBinary, nullable=False),
    _integer("published_at", nullable=False),
)
