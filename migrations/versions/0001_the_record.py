"""The record: chain, decisions, transactions, journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _key() -> sa.types.TypeEngine[int]:
    """A single integer key: SQLite makes INTEGER the row's own number."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _exact() -> sa.types.TypeEngine[str]:
    """Up to 78 digits: text on SQLite, numeric on PostgreSQL."""
    return sa.String(78).with_variant(sa.Numeric(78, 0), "postgresql")


def upgrade() -> None:
    op.create_table(
        "blocks",
        sa.Column("number", _key(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("parent", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_blocks")),
    )
    op.create_table(
        "chain_moves",
        sa.Column("id", _key(), autoincrement=True, nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_moves")),
    )
    op.create_index(op.f("ix_chain_moves_block"), "chain_moves", ["block"], unique=False)
    op.create_table(
        "commitments",
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("task", sa.LargeBinary(32), nullable=False),
        sa.Column("model", sa.LargeBinary(32), nullable=False),
        sa.Column("provider", sa.String(length=42), nullable=False),
        sa.Column("output_root", sa.LargeBinary(32), nullable=False),
        sa.Column("state_root", sa.LargeBinary(32), nullable=False),
        sa.Column("output_uri", sa.Text(), nullable=False),
        sa.Column("output_length", sa.BigInteger(), nullable=False),
        sa.Column("committed_at", sa.BigInteger(), nullable=False),
        sa.Column("closes", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("closed_block", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("commitment", name=op.f("pk_commitments")),
    )
    op.create_index(op.f("ix_commitments_block"), "commitments", ["block"], unique=False)
    op.create_index(op.f("ix_commitments_provider"), "commitments", ["provider"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_cursors")),
    )
    op.create_table(
        "demands",
        sa.Column("demand", _exact(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("demander", sa.String(length=42), nullable=False),
        sa.Column("part", sa.String(length=40), nullable=False),
        sa.Column("part_index", sa.BigInteger(), nullable=False),
        sa.Column("bond", _exact(), nullable=False),
        sa.Column("answer_by", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("paid", _exact(), nullable=False),
        sa.Column("burnt", _exact(), nullable=False),
        sa.Column("closed_block", sa.BigInteger(), nullable=True),
        sa.Column("closed_log", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("demand", name=op.f("pk_demands")),
    )
    op.create_index(op.f("ix_demands_commitment"), "demands", ["commitment"], unique=False)
    op.create_table(
        "disputes",
        sa.Column("dispute", _exact(), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("challenger", sa.String(length=42), nullable=False),
        sa.Column("output_root", sa.LargeBinary(32), nullable=False),
        sa.Column("state_root", sa.LargeBinary(32), nullable=False),
        sa.Column("evidence", sa.LargeBinary(32), nullable=False),
        sa.Column("bond", _exact(), nullable=False),
        sa.Column("ruling_by", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.Column("paid", _exact(), nullable=False),
        sa.Column("burnt", _exact(), nullable=False),
        sa.Column("closed_block", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("dispute", name=op.f("pk_disputes")),
    )
    op.create_index(op.f("ix_disputes_commitment"), "disputes", ["commitment"], unique=False)
    op.create_table(
        "epochs",
        sa.Column("number", _key(), autoincrement=False, nullable=False),
        sa.Column("opens_block", sa.BigInteger(), nullable=False),
        sa.Column("closes_block", sa.BigInteger(), nullable=False),
        sa.Column("delay", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.LargeBinary(32), nullable=False),
        sa.Column("policy_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("anchor_tx", sa.LargeBinary(32), nullable=True),
        sa.Column("anchor_block", sa.BigInteger(), nullable=True),
        sa.Column("revealed_at", sa.BigInteger(), nullable=True),
        sa.Column("reveal_tx", sa.LargeBinary(32), nullable=True),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_epochs")),
    )
    op.create_table(
        "events",
        sa.Column("block", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("log_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.LargeBinary(32), nullable=False),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("tx_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("block", "log_index", name=op.f("pk_events")),
    )
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)
    op.create_table(
        "fences",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=80), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_fences")),
    )
    op.create_table(
        "journal",
        sa.Column("seq", _key(), autoincrement=False, nullable=False),
        sa.Column("prev", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_journal")),
    )
    op.create_table(
        "journal_heads",
        sa.Column("seq", _key(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signer", sa.String(length=80), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_journal_heads")),
    )
    op.create_table(
        "latencies",
        sa.Column("id", _key(), autoincrement=True, nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_latencies")),
    )
    op.create_index(op.f("ix_latencies_action"), "latencies", ["action"], unique=False)
    op.create_table(
        "models",
        sa.Column("model", sa.LargeBinary(32), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("registrar", sa.String(length=42), nullable=False),
        sa.Column("file_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("artefact_root", sa.LargeBinary(32), nullable=False),
        sa.Column("program_root", sa.LargeBinary(32), nullable=False),
        sa.Column("spec_version", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.String(length=40), nullable=False),
        sa.Column("boundaries", sa.BigInteger(), nullable=False),
        sa.Column("artefact_tiles", sa.BigInteger(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("known_output_root", sa.LargeBinary(32), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_models")),
    )
    op.create_table(
        "pauses",
        sa.Column("id", _key(), autoincrement=True, nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.Column("resumed_by", sa.String(length=80), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_settings")),
    )
    op.create_table(
        "tasks",
        sa.Column("task", sa.LargeBinary(32), nullable=False),
        sa.Column("block", sa.BigInteger(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.LargeBinary(32), nullable=False),
        sa.Column("requester", sa.String(length=42), nullable=False),
        sa.Column("input_root", sa.LargeBinary(32), nullable=False),
        sa.Column("input_uri", sa.Text(), nullable=False),
        sa.Column("input_length", sa.BigInteger(), nullable=False),
        sa.Column("entropy", sa.LargeBinary(32), nullable=False),
        sa.Column("fee", _exact(), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=42), nullable=True),
        sa.Column("seed", sa.LargeBinary(32), nullable=True),
        sa.Column("taken_block", sa.BigInteger(), nullable=True),
        sa.Column("closed", sa.String(length=40), nullable=True),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_tasks")),
    )
    op.create_table(
        "transactions",
        sa.Column("id", _key(), autoincrement=True, nullable=False),
        sa.Column("protocol", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=160), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("account", sa.String(length=42), nullable=False),
        sa.Column("deadline", sa.BigInteger(), nullable=False),
        sa.Column("to", sa.String(length=42), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("value", _exact(), nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=True),
        sa.Column("hash", sa.LargeBinary(32), nullable=True),
        sa.Column("block", sa.BigInteger(), nullable=True),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=True),
        sa.Column("gas_used", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactions")),
        sa.UniqueConstraint("protocol", "subject", "action", name=op.f("uq_transactions_protocol_subject_action")),
    )
    op.create_index(op.f("ix_transactions_state"), "transactions", ["state"], unique=False)
    op.create_index(op.f("ix_transactions_subject"), "transactions", ["subject"], unique=False)
    op.create_table(
        "verdicts",
        sa.Column("id", _key(), autoincrement=True, nullable=False),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("backend", sa.String(length=40), nullable=False),
        sa.Column("fresh", sa.Boolean(), nullable=False),
        sa.Column("output_root", sa.LargeBinary(32), nullable=True),
        sa.Column("state_root", sa.LargeBinary(32), nullable=True),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("microseconds", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verdicts")),
    )
    op.create_index(op.f("ix_verdicts_commitment"), "verdicts", ["commitment"], unique=False)
    op.create_table(
        "work",
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("before", sa.String(length=40), nullable=True),
        sa.Column("seen_block", sa.BigInteger(), nullable=False),
        sa.Column("seen_opens", sa.BigInteger(), nullable=False),
        sa.Column("seen_closes", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("p_millionths", sa.BigInteger(), nullable=True),
        sa.Column("draw_block", sa.BigInteger(), nullable=True),
        sa.Column("draw_hash", sa.LargeBinary(32), nullable=True),
        sa.Column("drawn", sa.LargeBinary(32), nullable=True),
        sa.Column("selected", sa.Boolean(), nullable=True),
        sa.Column("inputs", sa.Text(), nullable=True),
        sa.Column("verdict", sa.BigInteger(), nullable=True),
        sa.Column("confirmation", sa.BigInteger(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("next_try", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("commitment", name=op.f("pk_work")),
    )
    op.create_table(
        "attempts",
        sa.Column("transaction", _key(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("nonce", sa.BigInteger(), nullable=False),
        sa.Column("gas", sa.BigInteger(), nullable=False),
        sa.Column("max_fee", _exact(), nullable=False),
        sa.Column("tip", _exact(), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["transaction"], ["transactions.id"], name=op.f("fk_attempts_transaction_transactions")
        ),
        sa.PrimaryKeyConstraint("transaction", "number", name=op.f("pk_attempts")),
        sa.UniqueConstraint("hash", name=op.f("uq_attempts_hash")),
    )
    op.create_index(
        "ix_work_draw_block",
        "work",
        ["draw_block"],
        unique=False,
        sqlite_where=sa.text("draw_block IS NOT NULL"),
        postgresql_where=sa.text("draw_block IS NOT NULL"),
    )
    op.create_index(op.f("ix_work_state"), "work", ["state"], unique=False)


def downgrade() -> None:
    op.drop_table("attempts")
    op.drop_table("work")
    op.drop_table("verdicts")
    op.drop_table("transactions")
    op.drop_table("tasks")
    op.drop_table("settings")
    op.drop_table("pauses")
    op.drop_table("models")
    op.drop_table("latencies")
    op.drop_table("journal_heads")
    op.drop_table("journal")
    op.drop_table("fences")
    op.drop_table("events")
    op.drop_table("epochs")
    op.drop_table("disputes")
    op.drop_table("demands")
    op.drop_table("cursors")
    op.drop_table("commitments")
    op.drop_table("chain_moves")
    op.drop_table("blocks")
